"""The termination message of a run, written and read: Kubernetes passes it on, and it is all that is known outside.

Form 2, which also readers of the first form understand, since they skip lines that they do not know:

    1 of 3 databases failed
    form=2 failed=1 refused=0 warning=0 unchanged=0 ok=2 capacity=… used=… full=… growth=…
    <warnings about the volume>
    kutt failed (newest 2026-11-22 12:00Z): no Secret [newest=1795348800 bytes=… …]
    authelia ok (newest 2026-11-22 14:00Z): published … [newest=1795356002 bytes=… …]
    and 1 more: ok
    <anything else>

The databases follow in the order of the counts: failed, refused, warning, ok without a new backup (`unchanged`), ok. So
what is not named for want of room is known all the same where only one kind is left.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from retention.text import shown

MOST_BYTES = 4096
"""Kubernetes keeps no more of a container's termination message."""

OK, WARNING, REFUSED, FAILED = "ok", "warning", "refused", "failed"
WORST_FIRST = (FAILED, REFUSED, WARNING, OK)

_WARNING_LENGTH = 200
_LEAST_WHY = 40
"""Rather than to cut a reason below this many characters, leave out the numbers."""

_HEADER = re.compile(r"form=2(?: [a-z]+=\S+)*")
_LINE = re.compile(r"(?P<database>\S+) (?P<result>ok|warning|refused|failed) \((?P<newest>[^)]*)\): ?(?P<why>.*)")
_NEWEST = re.compile(r"newest (\d{4}-\d{2}-\d{2} \d{2}:\d{2})Z")
_NUMBERS = re.compile(r"(?P<why>.*?) ?\[(?P<numbers>(?:[a-z]+=[0-9.+-]+(?: [a-z]+=[0-9.+-]+)*)?)\]")
_NUMBER = re.compile(r"-?[0-9]{1,24}(\.[0-9]{1,9})?")


@dataclass(frozen=True, slots=True)
class Line:
    """How a run ended for one database.

    Attributes:
        database: Its name.
        result: ok, warning, refused or failed.
        newest: When its newest backup began, UTC; None for none, or not known.
        why: The most important thing to know.
        numbers: What else is known, by name: docs/architecture.md. What is not known is missing.
        unchanged: Whether it is ok though its newest backup is not one that this run has made; not read back.
    """

    database: str
    result: str
    newest: datetime | None
    why: str
    numbers: Mapping[str, float] = field(default_factory=dict)
    unchanged: bool = False

    @property
    def rank(self) -> int:
        """Where it goes: the lower, the earlier."""
        return 2 * WORST_FIRST.index(self.result) - self.unchanged

    def text(self, most: int | None = None, *, numbers: bool = True) -> str:
        """Return the line.

        Args:
            most: How many characters of the reason there may be; None for all.
            numbers: Whether to add the numbers.
        """
        age = f"newest {self.newest:%Y-%m-%d %H:%M}Z" if self.newest else "no backup"
        why = shown(self.why)
        if most is not None and len(why) > most:
            why = f"{why[: most - 1]}…" if most else ""
        pairs = " ".join(f"{key}={_written(value)}" for key, value in self.numbers.items()) if numbers else ""
        # A reason that ends like numbers must not be read as such.
        if pairs or _NUMBERS.fullmatch(why):
            why = f"{why} [{pairs}]".lstrip()
        return f"{shown(self.database)} {self.result} ({age}): {why}"


@dataclass(frozen=True, slots=True)
class Message:
    """A termination message, read.

    Attributes:
        lines: What it says about each database that it names.
        counts: How many databases ended with each result, and how many are `unchanged`; None in the first form.
        volume: `capacity`, `used` and `full` in bytes, `growth` in bytes a second; what is not known is missing.
    """

    lines: tuple[Line, ...]
    counts: Mapping[str, int] | None = None
    volume: Mapping[str, float] = field(default_factory=dict)

    def unnamed(self) -> tuple[int, str] | None:
        """Return how many databases it does not name and the result of all of them; None where that is not certain.

        If that result is ok, each of them has a backup that the run has made.
        """
        if self.counts is None:
            return None
        named = Counter(line.result for line in self.lines)
        left = {result: self.counts[result] - named[result] for result in WORST_FIRST}
        if any(count < 0 for count in left.values()):
            return None
        kinds = [result for result, count in left.items() if count]
        if not kinds:
            return 0, OK
        (kind, *others) = kinds
        worse_come_first = all(not named[result] for result in WORST_FIRST[WORST_FIRST.index(kind) + 1 :])
        if others or not worse_come_first or (kind == OK and named[OK] < self.counts["unchanged"]):
            return None
        return left[kind], kind


def write(
    lines: Sequence[Line],
    *,
    warnings: Iterable[str] = (),
    volume: Mapping[str, float] | None = None,
    more: Iterable[str] = (),
    done: str = "done",
) -> bytes:
    """Return the message of a run: never more than Kubernetes keeps, whatever there is to say.

    Everything that is not ok comes first and is shortened rather than left out; then what is ok, with its numbers.

    Args:
        lines: One for each database of the run.
        warnings: What concerns the volume.
        volume: See `Message.volume`.
        more: Lines for people, as far as there is room after all else.
        done: What was done with the databases, for the first sentence of a run that failed for none.
    """
    ranked = sorted(lines, key=lambda line: line.rank)
    counts = Counter(line.result for line in ranked)
    failed, unchanged = counts[FAILED], sum(line.unchanged for line in ranked)
    first = f"{failed} of {len(ranked)} databases failed" if failed else f"{len(ranked)} databases {done}"
    facts: dict[str, float] = {result: counts[result] for result in WORST_FIRST[:-1]}
    facts |= {"unchanged": unchanged, OK: counts[OK], **(volume or {})}
    head = [first, "form=2 " + " ".join(f"{key}={_written(value)}" for key, value in facts.items())]
    for warning in map(shown, warnings):
        head.append(warning if len(warning) <= _WARNING_LENGTH else f"{warning[: _WARNING_LENGTH - 1]}…")
    # Whatever is wrong with the volume, there is room for databases.
    head = fitting(head, MOST_BYTES // 2)
    room = MOST_BYTES - _size(head)
    body = _body(ranked, room)
    return "\n".join(fitting([*head, *body, *map(shown, more)], MOST_BYTES)).encode(errors="replace")


def _body(ranked: Sequence[Line], room: int) -> list[str]:
    """Return the lines of the databases, worst first, within some bytes."""
    wrong = [line for line in ranked if line.result != OK]
    good = [line for line in ranked if line.result == OK]
    for most in (None, 0):
        body = [*(line.text() for line in wrong), *(line.text(most) for line in good)]
        if _size(body) <= room:
            return body
    body = _shortened(wrong, room - _size(_rest(ranked)))
    for line in good if len(body) == len(wrong) else ():
        following = [*body, line.text(0)]
        if _size([*following, *_rest(ranked[len(following) :])]) > room:
            break
        body = following
    return [*body, *_rest(ranked[len(body) :])]


def _shortened(wrong: Sequence[Line], room: int) -> list[str]:
    """Return the lines of what is not ok: with reasons as long as there is room for, or else as many as there is."""
    for numbers, least in ((True, _LEAST_WHY), (False, 0)):

        def lines(most: int, numbers: bool = numbers) -> list[str]:
            return [line.text(most, numbers=numbers) for line in wrong]

        if _size(lines(least)) <= room:
            return lines(_largest(least, MOST_BYTES, lambda most: _size(lines(most)) <= room))
    return fitting([line.text(0, numbers=False) for line in wrong], room)


def _largest(least: int, most: int, fits: Callable[[int], bool]) -> int:
    """Return the largest number that fits; the least does, and if one does not, no larger one does."""
    while least < most:
        middle = (least + most + 1) // 2
        least, most = (middle, most) if fits(middle) else (least, middle - 1)
    return least


def _rest(left: Sequence[Line]) -> list[str]:
    """Return what is said about the databases that are not named, for people."""
    counts = Counter(line.result for line in left)
    return [f"and {counts[result]} more: {result}" for result in WORST_FIRST if counts[result]]


def _size(lines: Iterable[str]) -> int:
    return sum(len(line.encode(errors="replace")) + 1 for line in lines)


def fitting(lines: Sequence[str], room: int) -> list[str]:
    """Return the first of these lines, as many as there is room for."""
    fitting: list[str] = []
    for line in lines:
        # The last one needs no line end.
        room -= len(line.encode(errors="replace")) + bool(fitting)
        if room < 0:
            break
        fitting.append(line)
    return fitting


def _written(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:.3f}".rstrip("0").rstrip(".")


def read(text: str) -> Message:
    """Return what a termination message says, in this form or the first one, without a line that was cut off."""
    lines: list[Line] = []
    facts: dict[str, float] | None = None
    for line in text.splitlines():
        if facts is None and not lines and _HEADER.fullmatch(line):
            facts = _numbers(line.removeprefix("form=2"))
        elif match := _LINE.fullmatch(line):
            lines.append(_read_line(match))
    if facts is None:
        return Message(tuple(lines))
    counts = {key: int(facts.pop(key)) for key in (*WORST_FIRST, "unchanged") if key in facts}
    complete = len(counts) == len(WORST_FIRST) + 1
    return Message(tuple(lines), counts if complete else None, facts)


PROVED, NONE = "proved", "none"
DRILLS = (FAILED, NONE, PROVED)
"""How the drill of a database may end, worst first."""

_DRILL_HEADER = re.compile(r"drills failed=(?P<failed>\d{1,6}) none=(?P<none>\d{1,6}) proved=(?P<proved>\d{1,6})")
_DRILL_LINE = re.compile(
    r"(?P<database>\S+): .*\[drill=(?P<result>failed|none|proved)(?: restore=(?P<restore>\d{1,9}))?\]"
)


@dataclass(frozen=True, slots=True)
class Drill:
    """How a drill ended for one database.

    Attributes:
        database: Its name.
        result: failed, none (there was no backup to restore), or proved.
        text: What was found; empty when it was read back.
        restore_seconds: How long the restore took, of the newest archive that was proved; None if it is not known.
    """

    database: str
    result: str
    text: str = ""
    restore_seconds: int | None = None

    def line(self, most: int | None = None) -> str:
        """Return the line, with at most so many characters of the text."""
        text = shown(self.text)
        if most is not None and len(text) > most:
            text = f"{text[: most - 1]}…" if most else ""
        took = "" if self.restore_seconds is None else f" restore={self.restore_seconds}"
        return f"{shown(self.database)}: {text} [drill={self.result}{took}]"


@dataclass(frozen=True, slots=True)
class DrillMessage:
    """The termination message of a drill, read.

    Attributes:
        drills: What it says about each database that it names.
        counts: How many databases ended with each result; None in messages of older charts.
    """

    drills: tuple[Drill, ...]
    counts: Mapping[str, int] | None = None


def write_drills(drills: Sequence[Drill]) -> bytes:
    """Return the message of a drill: never more than Kubernetes keeps, what failed first."""
    ranked = sorted(drills, key=lambda drill: DRILLS.index(drill.result))
    counts = Counter(drill.result for drill in ranked)
    failed = counts[FAILED]
    first = f"{failed} of {len(ranked)} drills failed" if failed else f"{counts[PROVED]} databases proved"
    head = [first, "drills " + " ".join(f"{result}={counts[result]}" for result in DRILLS)]
    room = MOST_BYTES - _size(head)

    def lines(most: int) -> list[str]:
        return [drill.line(most) for drill in ranked]

    if _size(lines(0)) <= room:
        body = lines(_largest(0, MOST_BYTES, lambda most: _size(lines(most)) <= room))
    else:
        # However many there are, three lines say how many are not named.
        body = fitting(lines(0), room - 3 * len("and 999999 more: proved\n"))
        left = Counter(drill.result for drill in ranked[len(body) :])
        body += [f"and {left[result]} more: {result}" for result in DRILLS if left[result]]
    return "\n".join([*head, *body]).encode(errors="replace")


def read_drills(text: str) -> DrillMessage:
    """Return what the termination message of a drill says, without a line that was cut off."""
    drills, counts = [], None
    for line in text.splitlines():
        if match := _DRILL_LINE.fullmatch(line):
            took = match["restore"]
            drills.append(Drill(match["database"], match["result"], "", int(took) if took else None))
        elif counts is None and not drills and (match := _DRILL_HEADER.fullmatch(line)):
            counts = {result: int(match[result]) for result in DRILLS}
    return DrillMessage(tuple(drills), counts)


def _read_line(match: re.Match[str]) -> Line:
    why, numbers = match["why"], {}
    if found := _NUMBERS.fullmatch(why):
        why, numbers = found["why"], _numbers(found["numbers"])
    newest = _NEWEST.fullmatch(match["newest"])
    moment = _moment(newest[1]) if newest else None
    if moment is not None and "newest" in numbers:
        moment = _exact(numbers["newest"], moment)
    return Line(match["database"], match["result"], moment, why, numbers)


def _moment(text: str) -> datetime | None:
    try:
        return datetime.strptime(text, "%Y-%m-%d %H:%M").replace(tzinfo=UTC)
    except ValueError:
        return None


def _exact(seconds: float, minute: datetime) -> datetime:
    """Return a moment to the second, if it lies within that minute."""
    offset = seconds - minute.timestamp()
    return datetime.fromtimestamp(seconds, UTC) if 0 <= offset < 60 else minute


def _numbers(text: str) -> dict[str, float]:
    found: dict[str, float] = {}
    for pair in text.split():
        key, _, value = pair.partition("=")
        if match := _NUMBER.fullmatch(value):
            found[key] = float(value) if match[1] else int(value)
    return found
