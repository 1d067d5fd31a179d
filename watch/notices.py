"""What somebody is notified of, and when: that a problem begins, gets worse, is still there, or is over.

Each target has its own state, so that one that cannot be reached delays no other. What is sent is always how things are
now: there is no queue, so nothing grows while a target is down, and nothing old arrives later.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from retention.text import shown
from watch.problems import RANK, Problem, moment

BEGUN, RECOVERED, REMINDER, TEST = "problem", "recovery", "reminder", "test"


@dataclass(frozen=True, slots=True)
class Told:
    """What a target knows of a problem.

    Attributes:
        alert: Which problem it is.
        since: When it was first seen, UTC.
        sent: When the target was last notified of it, UTC; None for never.
    """

    alert: str
    since: datetime
    sent: datetime | None = None

    @property
    def rank(self) -> int:
        """How bad it is: the lower, the worse."""
        return RANK[self.alert]


State = Mapping[str, Told]
"""What a target knows, by subject."""


@dataclass(frozen=True, slots=True)
class Place:
    """Which release it is, and where to look.

    Attributes:
        namespace: Its namespace.
        release: Its name.
        cluster: What people call the Kubernetes cluster; empty for nothing.
        url: Where the page is; empty for nowhere.
        runbooks: Where the runbooks are; empty for the folder of the project.
    """

    namespace: str
    release: str
    cluster: str = ""
    url: str = ""
    runbooks: str = ""

    def text(self) -> str:
        """Return it in words."""
        where = f", cluster {self.cluster}" if self.cluster else ""
        return f"release {self.release} in namespace {self.namespace}{where}"

    def short(self) -> str:
        """Return it for a title."""
        where = f"{self.cluster}: " if self.cluster else ""
        return f"{where}{self.namespace}/{self.release}"

    def runbook(self, alert: str) -> str:
        """Return where the runbook of an alert is."""
        return f"{(self.runbooks or 'docs/runbooks').rstrip('/')}/{alert}.md"

    def command(self) -> str:
        """Return the command that shows more."""
        return f"kubectl cnpg-backup status -n {self.namespace} --release {self.release}"


@dataclass(frozen=True, slots=True)
class Notice:
    """What a target is notified of.

    Attributes:
        event: problem, recovery, reminder or test; the first of these that it holds anything of.
        begun: Problems that are new or have got worse, with the moment at which each was first seen.
        recovered: Subjects whose problem is over, with what the target knows of it.
        reminded: Problems that the target knows and that are still there.
        summary: One sentence about all databases.
        subjects: All that can have a problem.
    """

    event: str
    begun: Sequence[tuple[Problem, datetime]] = ()
    recovered: Sequence[tuple[str, Told]] = ()
    reminded: Sequence[tuple[Problem, datetime]] = ()
    summary: str = ""
    subjects: frozenset[str] = frozenset()

    @property
    def worst(self) -> Problem | None:
        """The worst problem that it names."""
        return next((problem for problem, _ in (*self.begun, *self.reminded)), None)


def due(
    state: State,
    problems: Sequence[Problem],
    now: datetime,
    remind_after: timedelta,
    *,
    subjects: frozenset[str] | None,
    summary: str,
) -> tuple[Notice | None, State, State]:
    """Return what to send, what the target knows if that is not sent or does not arrive, and if it arrives.

    Args:
        state: What the target knows.
        problems: What is wrong now, the worst first.
        now: The moment, UTC.
        remind_after: How long after a notice of a problem another one is sent.
        subjects: All that can have a problem; None where that is not known: then no problem is over.
        summary: One sentence about all databases.
    """
    seen = dict(state)
    begun, known = [], []
    for problem in problems:
        before = state.get(problem.subject)
        told = Told(problem.alert, now) if before is None else before
        if before is not None and before.sent is None:
            told = replace(told, alert=problem.alert)
        seen[problem.subject] = told
        if told.sent is not None and problem.rank >= told.rank:
            known.append((problem, told.since))
        elif now - told.since >= problem.after:
            begun.append((problem, told.since))
    current = {problem.subject for problem in problems}
    over = [name for name in state if name not in current] if subjects is not None else []
    # What nobody was notified of is over without a word.
    recovered = [(name, state[name]) for name in sorted(over) if state[name].sent is not None]
    for name in over:
        if state[name].sent is None:
            del seen[name]
    sent = (state[problem.subject].sent for problem, _ in known)
    # All at once, so that many problems do not become many messages over the day.
    reminded = known if any(at is not None and now - at >= remind_after for at in sent) else []
    if not (begun or recovered or reminded):
        return None, seen, seen
    event = BEGUN if begun else RECOVERED if recovered else REMINDER
    notice = Notice(event, begun, recovered, reminded, summary, subjects or frozenset())
    after = {name: told for name, told in seen.items() if name not in over}
    for problem, since in (*begun, *reminded):
        after[problem.subject] = Told(problem.alert, since, now)
    return notice, seen, after


def title(notice: Notice, place: Place) -> str:
    """Return one line that says the most important thing."""
    many = len(notice.begun) + len(notice.reminded)
    worst = notice.worst
    if notice.event == TEST:
        text = "test message: notifications arrive"
    elif worst is None:
        names = [name for name, _ in notice.recovered]
        text = f"the problem of {names[0]} is over" if len(names) == 1 else f"{len(names)} problems are over"
    elif many == 1:
        text = f"{'still: ' if notice.event == REMINDER else ''}{worst.subject} {worst.what}"
    else:
        text = f"{many} problems{' are still there' if notice.event == REMINDER else ''}; the worst: {worst.subject}"
    line = shown(f"Backups of {place.short()}: {text}")
    return line if len(line) <= 200 else f"{line[:199]}…"


def text(notice: Notice, place: Place, most: int) -> str:
    """Return the whole message, of at most so many characters: it can be understood without knowing anything else.

    Args:
        notice: What it says.
        place: Which release it is.
        most: How long it may be.
    """
    head = f"This is about the database backups (cnpg-backup) of {place.text()}."
    foot = [line for line in (notice.summary and f"{notice.summary}.", f"To see more: {place.command()}") if line]
    foot += [f"Page: {place.url}"] if place.url else []
    blocks = []
    if notice.event == TEST:
        blocks.append("Somebody asked for this test message. Nothing is wrong, and nothing needs to be done.")
    blocks += [_block("PROBLEM", *one, place) for one in notice.begun]
    blocks += [_block(f"STILL A PROBLEM since {moment(one[1])}", *one, place) for one in notice.reminded]
    blocks += [f"OVER: {_over(name, notice)}" for name, _ in notice.recovered]
    room = most - len(head) - sum(map(len, foot)) - len(foot) - 60
    kept: list[str] = []
    for number, block in enumerate(blocks):
        if len(block) + 2 > room:
            # The first one says at least its beginning.
            kept += [f"{block[: max(room, 40)]}…"] if not kept else []
            left = len(blocks) - max(number, 1)
            kept += [f"… and {left} more."] if left else []
            break
        kept.append(block)
        room -= len(block) + 2
    return "\n\n".join([head, *kept, "\n".join(map(shown, foot))])[:most]


def _over(name: str, notice: Notice) -> str:
    gone = name not in notice.subjects
    return shown(f"{name} is not backed up by this release any more." if gone else f"{name} has no problem any more.")


def _block(label: str, problem: Problem, since: datetime, place: Place) -> str:
    what = problem.what if len(problem.what) <= 400 else f"{problem.what[:399]}…"
    lines = [f"{label}: {problem.subject} {what}", *(f"  {fact}" for fact in problem.facts)]
    lines += [] if label != "PROBLEM" else [f"  Seen since: {moment(since)}."]
    whose = "" if place.runbooks else " of the cnpg-backup project"
    lines.append(f"  What to do: {place.runbook(problem.alert)}{whose}")
    return "\n".join(map(shown, lines))


def to_json(states: Mapping[str, State], fleeting: frozenset[str] = frozenset()) -> dict[str, Any]:
    """Return what targets know, for the memory.

    Args:
        states: By target.
        fleeting: Targets that are notified all the time: when they were is not worth a write.
    """
    return {
        target: {
            name: [
                told.alert,
                told.since.isoformat(),
                None if told.sent is None or target in fleeting else told.sent.isoformat(),
            ]
            for name, told in sorted(state.items())
        }
        for target, state in sorted(states.items())
    }


def from_json(found: Any) -> dict[str, State]:
    """Return what targets know, as the memory has it; nothing where it cannot be understood."""
    try:
        return {
            str(target): {
                str(name): Told(alert, _moment(since), None if sent is None else _moment(sent))
                for name, (alert, since, sent) in state.items()
                if alert in RANK
            }
            for target, state in found.items()
        }
    except (ValueError, TypeError, AttributeError, OverflowError):
        return {}


def _moment(text: str) -> datetime:
    at = datetime.fromisoformat(text)
    if at.tzinfo is None:
        raise ValueError(text)
    return at.astimezone(UTC)
