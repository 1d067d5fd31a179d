"""What a policy would keep, day by day: a schedule, outages and late starts, pruned after each backup.

The simulation runs the very rule that prunes; nothing here decides anything.
"""

import random
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from retention.policy import Policy, format_duration
from retention.report import table
from retention.rule import Kept, plan

_DAY = timedelta(days=1)
_ZERO = timedelta(0)


@dataclass(frozen=True, slots=True)
class Outage:
    """A time without backups: when it begins, counted from the start of the simulation, and how long it lasts."""

    begin: timedelta
    length: timedelta


@dataclass(frozen=True, slots=True)
class Scenario:
    """What is simulated.

    Attributes:
        policy: The policy.
        start: When the first backup is due, UTC.
        every: The schedule's interval.
        length: How long the simulation lasts.
        jitter: The most that a start is late; each is late by a random part of it.
        outages: When no backup is made.
        seed: Chooses the late starts; the same seed gives the same ones.
    """

    policy: Policy
    start: datetime
    every: timedelta
    length: timedelta
    jitter: timedelta = _ZERO
    outages: tuple[Outage, ...] = ()
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Day:
    """What is on disk at the end of a day.

    Attributes:
        day: Counted from 1.
        kept: How many backups each tier keeps, and `oldest`.
        total: How many there are.
        reach: The age of the oldest, counted from the newest.
        deleted: How many backups were deleted in that day.
    """

    day: int
    kept: dict[str, int]
    total: int
    reach: timedelta
    deleted: int


@dataclass(frozen=True, slots=True)
class Steady:
    """What never changes once the tiers are full for the first time.

    Attributes:
        since: How long after the start that was.
        kept: For each tier, the least and the most that it kept.
        gaps: For each tier, the largest gap between one of its backups and the next newer one.
        reach: The least and the largest age of the oldest backup, counted from the newest.
        most_deleted: The most backups that one run deleted.
    """

    since: timedelta
    kept: dict[str, tuple[int, int]]
    gaps: dict[str, timedelta]
    reach: tuple[timedelta, timedelta]
    most_deleted: int


@dataclass(frozen=True, slots=True)
class Simulation:
    """How a scenario went: its days, what held in the steady state (None when the tiers were never full), the end."""

    scenario: Scenario
    days: tuple[Day, ...]
    steady: Steady | None
    most_kept: int
    most_deleted: int
    end: tuple[Kept, ...]


@dataclass(frozen=True, slots=True)
class _Step:
    time: datetime
    keep: tuple[Kept, ...]
    deleted: int


def simulate(scenario: Scenario) -> Simulation:
    """Run a scenario through the rule."""
    steps = list(_steps(scenario))
    full = next((index for index, step in enumerate(steps) if _is_full(step, scenario.policy)), None)
    return Simulation(
        scenario,
        tuple(_days(scenario, steps)),
        None if full is None else _steady(scenario, steps[full:]),
        max((len(step.keep) for step in steps), default=0),
        max((step.deleted for step in steps), default=0),
        steps[-1].keep if steps else (),
    )


def starts(scenario: Scenario) -> Iterator[datetime]:
    """Yield when the backups of a scenario begin."""
    chance = random.Random(scenario.seed)  # noqa: S311 - late starts, not secrets
    due = _ZERO
    while due < scenario.length:
        late = timedelta(seconds=chance.randint(0, scenario.jitter // timedelta(seconds=1)))
        if not any(outage.begin <= due < outage.begin + outage.length for outage in scenario.outages):
            yield scenario.start + due + late
        due += scenario.every


def _steps(scenario: Scenario) -> Iterator[_Step]:
    on_disk: list[datetime] = []
    for time in starts(scenario):
        decided = plan([*on_disk, time], scenario.policy)
        on_disk = [kept.time for kept in decided.keep]
        yield _Step(time, decided.keep, len(decided.delete))


def _is_full(step: _Step, policy: Policy) -> bool:
    counts = _counts(step.keep)
    return all(counts[tier.name] == tier.keep for tier in policy.tiers)


def _counts(keep: Iterable[Kept]) -> Counter[str]:
    return Counter(kept.tier for kept in keep)


def _days(scenario: Scenario, steps: list[_Step]) -> Iterator[Day]:
    keep: tuple[Kept, ...] = ()
    index = 0
    for day in range(1, -(-scenario.length // _DAY) + 1):
        deleted = 0
        while index < len(steps) and steps[index].time < scenario.start + day * _DAY:
            keep = steps[index].keep
            deleted += steps[index].deleted
            index += 1
        reach = keep[0].time - keep[-1].time if keep else _ZERO
        yield Day(day, dict(_counts(keep)), len(keep), reach, deleted)


def _steady(scenario: Scenario, steps: list[_Step]) -> Steady:
    names = [tier.name for tier in scenario.policy.tiers]
    counts = [_counts(step.keep) for step in steps]
    gaps = dict.fromkeys(names, _ZERO)
    for step in steps:
        for newer, older in zip(step.keep, step.keep[1:], strict=False):
            if older.tier in gaps:
                gaps[older.tier] = max(gaps[older.tier], newer.time - older.time)
    reaches = [step.keep[0].time - step.keep[-1].time for step in steps]
    return Steady(
        steps[0].time - scenario.start,
        {name: (min(count[name] for count in counts), max(count[name] for count in counts)) for name in names},
        gaps,
        (min(reaches), max(reaches)),
        max(step.deleted for step in steps),
    )


def to_dict(simulation: Simulation) -> dict[str, object]:
    """Return a simulation as the machine interface shows it; durations in seconds."""
    steady = simulation.steady
    return {
        "start": simulation.scenario.start.isoformat(),
        "every": _seconds(simulation.scenario.every),
        "length": _seconds(simulation.scenario.length),
        "most_kept": simulation.most_kept,
        "most_deleted": simulation.most_deleted,
        "steady": None
        if steady is None
        else {
            "since": _seconds(steady.since),
            "kept": {name: {"least": low, "most": high} for name, (low, high) in steady.kept.items()},
            "gaps": {name: _seconds(gap) for name, gap in steady.gaps.items()},
            "reach": {"least": _seconds(steady.reach[0]), "most": _seconds(steady.reach[1])},
            "most_deleted": steady.most_deleted,
        },
        "days": [
            {"day": day.day, "kept": day.kept, "total": day.total, "reach": _seconds(day.reach), "deleted": day.deleted}
            for day in simulation.days
        ],
        "end": [{"time": kept.time.isoformat(), "tier": kept.tier, "reason": kept.reason} for kept in simulation.end],
    }


def to_text(simulation: Simulation) -> str:
    """Return a simulation for people."""
    names = [tier.name for tier in simulation.scenario.policy.tiers]
    rows = [
        (
            str(day.day),
            *(str(day.kept.get(name, 0)) for name in names),
            str(day.total),
            str(day.deleted),
            _told(day.reach),
        )
        for day in simulation.days
    ]
    parts = [table(("DAY", *names, "TOTAL", "DELETED", "REACH"), rows), ""]
    steady = simulation.steady
    if steady is None:
        parts.append("the tiers were never full: simulate more days, or look for a tier that the schedule cannot fill")
    else:
        parts.append(f"full after {_told(steady.since)}; from then on:")
        for name in names:
            low, high = steady.kept[name]
            count = str(low) if low == high else f"{low} to {high}"
            parts.append(f"  {name}: {count} kept, largest gap {_told(steady.gaps[name])}")
        parts.append(f"  reach: {_told(steady.reach[0])} to {_told(steady.reach[1])}")
        parts.append(f"  deleted by one run: at most {steady.most_deleted}")
    parts.append(f"at most {simulation.most_kept} backups at any time")
    return "\n".join(parts)


def _seconds(duration: timedelta) -> int:
    return duration // timedelta(seconds=1)


def _told(duration: timedelta) -> str:
    if duration % timedelta(hours=1) == _ZERO:
        return format_duration(duration) if duration else "0h"
    hours, rest = divmod(duration, timedelta(hours=1))
    minutes = -(-rest // timedelta(minutes=1))
    return f"{hours}h{minutes:02}m"
