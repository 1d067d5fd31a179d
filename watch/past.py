"""What is remembered of earlier runs of a database: its last runs, and the worst of each day of a year.

Both are texts, since hundreds of databases share one ConfigMap of 1 MiB. A letter stands for how a run ended for the
database: O ok, W warning, R refused, F failed, U unknown.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

from retention.message import FAILED, OK, REFUSED, WARNING

UNKNOWN = "unknown"
MOST_RUNS = 48
MOST_DAYS = 365

_RESULTS = {"F": FAILED, "R": REFUSED, "U": UNKNOWN, "W": WARNING, "O": OK}
"""The worst first."""
_LETTERS = {result: letter for letter, result in _RESULTS.items()}
_RANK = {result: number for number, result in enumerate(_RESULTS.values())}
_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"
_RUN = re.compile(r"([0-9a-z]{1,6})([FRUWO])")
_RUNS = re.compile(rf"(?:{_RUN.pattern}){{0,{MOST_RUNS}}}")
_SPAN = re.compile(r"([FRUWO.])([0-9]{0,3})")
_DAYS = re.compile(rf"([0-9]{{4}}-[0-9]{{2}}-[0-9]{{2}}) ((?:{_SPAN.pattern}){{1,{MOST_DAYS}}})")
_MINUTE = timedelta(minutes=1)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

Ended = tuple[int, str]
"""When a run ended, in minutes since 1970, and how it ended for the database."""


@dataclass(frozen=True, slots=True)
class Past:
    """Earlier runs of a database.

    Attributes:
        runs: The last ones, oldest first: each as the minutes since the one before it (of the first since 1970) to the
            base 36, and its letter.
        days: The last day with a run, a blank, and the worst of each day up to it, oldest first: a letter or `.` for no
            run, and how many days in a row, if there are several.
    """

    runs: str = ""
    days: str = ""

    def ended(self) -> list[Ended]:
        """Return the last runs, oldest first."""
        found, at = [], 0
        for since, letter in _RUN.findall(self.runs):
            at += int(since, 36)
            found.append((at, _RESULTS[letter]))
        return found

    def by_day(self) -> tuple[date, list[str]] | None:
        """Return the last day with a run, and the worst result of each day up to it; empty for none. None: no day."""
        if not self.days:
            return None
        last, _, spans = self.days.partition(" ")
        results = [_RESULTS.get(letter, "") for letter, count in _SPAN.findall(spans) for _ in range(int(count or 1))]
        return date.fromisoformat(last), results


def read(runs: object, days: object) -> Past:
    """Return what was remembered; nothing where it cannot be understood."""
    past = Past(str(runs), str(days))
    try:
        found = past.by_day() if _DAYS.fullmatch(past.days) else None
    except ValueError:
        found = None
    if found is None or len(found[1]) > MOST_DAYS:
        past = Past(past.runs)
    return past if _RUNS.fullmatch(past.runs) else Past("", past.days)


def add(past: Past, at: datetime, result: str, *, again: bool) -> Past:
    """Return the past with a run.

    Args:
        past: What was known before.
        at: When it ended, UTC.
        result: How it ended for the database.
        again: Whether the run was added before, when less was known of it.
    """
    minute = (at - _EPOCH) // _MINUTE
    runs = dict[int, str]()
    for moment, known in past.ended():
        runs[moment] = _worst((known, runs.get(moment, OK)))
    runs[minute] = result if again or minute not in runs else _worst((result, runs[minute]))
    kept = sorted(runs.items())[-MOST_RUNS:]
    # A day that is whole in the runs is what they say; else what was known of it counts, too.
    day = _day(minute)
    of_day = [known for moment, known in kept if _day(moment) == day]
    whole = len(runs) < MOST_RUNS or _day(kept[0][0]) < day
    return Past(_runs_text(kept), _with_day(past, day, of_day or [result], whole=whole))


def _with_day(past: Past, day: date, results: list[str], *, whole: bool) -> str:
    last, days = past.by_day() or (day, [""])
    if day > last:
        days += [""] * min((day - last).days, MOST_DAYS)
        last = day
    at = len(days) - 1 - (last - day).days
    if at < 0 and len(days) - at <= MOST_DAYS:
        days = [""] * -at + days
        at = 0
    if at < 0:
        return past.days
    days[at] = _worst(results if whole or not days[at] else [*results, days[at]])
    return _days_text(last, days[-MOST_DAYS:])


def _worst(results: Iterable[str]) -> str:
    return min(results, key=_RANK.__getitem__)


def _day(minute: int) -> date:
    return (_EPOCH + minute * _MINUTE).date()


def _runs_text(runs: list[Ended]) -> str:
    parts, before = [], 0
    for minute, result in runs:
        parts.append(_base_36(minute - before) + _LETTERS[result])
        before = minute
    return "".join(parts)


def _days_text(last: date, days: list[str]) -> str:
    parts: list[str] = []
    at = 0
    while at < len(days):
        count = 1
        while at + count < len(days) and days[at + count] == days[at]:
            count += 1
        parts.append(f"{_LETTERS.get(days[at], '.')}{count if count > 1 else ''}")
        at += count
    return f"{last.isoformat()} {''.join(parts)}"


def _base_36(number: int) -> str:
    digits = _DIGITS[number % 36]
    while number := number // 36:
        digits = _DIGITS[number % 36] + digits
    return digits
