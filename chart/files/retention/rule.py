"""The retention rule: which backups a policy keeps.

A pure function of the backups' times and the policy. It knows no clock and no history, so that pruning rarely, often,
twice, or half (after a crash) ends in the same set: `plan(A | B) == plan(plan(A) | B)`.

The rule, in the words of `docs/retention.md`:

* `slot = floor((time - phase) / every)`. In a slot of the first tier only the newest backup is a candidate, a *rep*. A
  rep is a *mark* of a tier when it is the newest rep of its slot of that tier's width.
* The walk goes from the newest rep to the oldest. A tier takes the marks of its own width until its places for marks
  are full; the next tier begins with the next older rep. Until then it takes, besides, the newest reps that are marks
  of the tier before but not of its own, as many as it has places in transit.
* When the walk ends and the last tier has free places, the oldest backup of all is kept too.
"""

import enum
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice, repeat
from operator import attrgetter, eq
from typing import Final

from retention.errors import TimeInputError
from retention.names import stamp_of
from retention.policy import Policy, format_duration

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_BEGINNING: Final = datetime.min.replace(tzinfo=UTC)
_ZERO: Final = timedelta(0)


class Place(enum.Enum):
    """In what capacity a backup is kept."""

    MARK = "mark"
    TRANSIT = "transit"
    OLDEST = "oldest"


class Rule(enum.Enum):
    """Why a backup goes."""

    SAME_SLOT = "a newer backup in the same slot of the first tier"
    NOT_A_MARK = "not the newest of its slot in the tier that it has come to"
    TIERS_FULL = "all tiers are full with newer backups"


@dataclass(frozen=True, slots=True)
class Kept:
    """A backup that stays.

    Attributes:
        time: When the backup began.
        tier: The tier's name, or `oldest`.
        place: In what capacity.
        reason: One short sentence for people.
    """

    time: datetime
    tier: str
    place: Place
    reason: str


@dataclass(frozen=True, slots=True)
class Deleted:
    """A backup that goes: by which rule, and one short sentence for people."""

    time: datetime
    rule: Rule
    reason: str


@dataclass(slots=True)
class _Cause:
    """Why `count` deleted backups in a row go."""

    rule: Rule
    tier: int
    winner: datetime
    count: int


@dataclass(frozen=True, slots=True)
class Plan:
    """What a policy keeps of a set of backups.

    Attributes:
        policy: The policy.
        keep: What stays, newest first.
        delete: The times of what goes, newest first; `explain` says why.
    """

    policy: Policy
    keep: tuple[Kept, ...]
    delete: tuple[datetime, ...]
    _causes: tuple[_Cause, ...]

    @property
    def kept(self) -> frozenset[datetime]:
        """The times of what stays."""
        return frozenset(kept.time for kept in self.keep)

    def explain(self) -> Iterator[Deleted]:
        """Yield what goes, newest first, each with its reason."""
        times = iter(self.delete)
        for cause in self._causes:
            reason = self._reason(cause)
            for time in islice(times, cause.count):
                yield Deleted(time, cause.rule, reason)

    def _reason(self, cause: _Cause) -> str:
        tier = self.policy.tiers[cause.tier]
        width, winner = format_duration(tier.every), stamp_of(cause.winner)
        match cause.rule:
            case Rule.SAME_SLOT:
                return f"a newer backup is in the same {width} slot: {winner}"
            case Rule.NOT_A_MARK:
                return f"{tier.name} keeps the newest of each {width} slot, here {winner}"
            case Rule.TIERS_FULL:
                return f"all tiers are full; the oldest that {tier.name} keeps is {winner}"


def plan(times: Iterable[datetime], policy: Policy) -> Plan:
    """Decide which backups stay.

    Args:
        times: When the backups began, in any order; aware datetimes in UTC. A time that occurs twice counts once.
        policy: The retention policy.

    Returns:
        The plan. Every time is in it exactly once, and the newest is always kept.

    Raises:
        TimeInputError: When a time is naive, or in another zone than UTC.
    """
    ordered = _newest_first(times)
    walk = _Walk(policy)
    for index, time in enumerate(ordered):
        if not walk.visit(time):
            walk.drop_rest(ordered[index + 1 :])
            break
    else:
        walk.keep_oldest(ordered)
    return Plan(policy, tuple(walk.keep), tuple(walk.delete), tuple(walk.causes))


class _Walk:
    """One pass from the newest backup to the oldest."""

    __slots__ = (
        "_edges",
        "_marks",
        "_quotas",
        "_tier",
        "_tiers",
        "_transit",
        "_winners",
        "causes",
        "delete",
        "keep",
        "phase",
    )

    def __init__(self, policy: Policy) -> None:
        self._tiers = policy.tiers
        self._quotas = policy.quotas()
        self.phase = policy.phase
        # For each tier: where the slot begins that the walk is in, and the newest rep of that slot.
        self._edges: list[datetime | None] = [None] * len(policy.tiers)
        self._winners: list[datetime] = [_BEGINNING] * len(policy.tiers)
        self._tier = 0
        self._marks = 0
        self._transit = 0
        self.keep: list[Kept] = []
        self.delete: list[datetime] = []
        self.causes: list[_Cause] = []

    def visit(self, time: datetime) -> bool:
        """Decide about the next older backup; return False once all tiers are full."""
        edge = self._edges[0]
        if edge is not None and time >= edge:
            self._drop(time, Rule.SAME_SLOT, 0)
            return True
        level = self._enter_slots(time)
        if level >= self._tier:
            self._take_mark(time)
        elif level == self._tier - 1 and self._transit < self._quotas[self._tier].transit:
            self._take_transit(time)
        else:
            self._drop(time, Rule.NOT_A_MARK, self._tier)
        return self._tier < len(self._tiers)

    def drop_rest(self, times: list[datetime]) -> None:
        """Let all that is older than a full set of tiers go."""
        if times:
            self.delete += times
            self.causes.append(_Cause(Rule.TIERS_FULL, len(self._tiers) - 1, self.keep[-1].time, len(times)))

    def keep_oldest(self, ordered: list[datetime]) -> None:
        """Keep the oldest backup of all, which is called for when the walk ended before the last tier was full."""
        if not self.delete or self.delete[-1] != ordered[-1]:
            return
        self.causes[-1].count -= 1
        last = self._tiers[-1]
        reason = f"the oldest of all stays while {last.name} has free places"
        self.keep.append(Kept(self.delete.pop(), Place.OLDEST.value, Place.OLDEST, reason))

    def _enter_slots(self, time: datetime) -> int:
        """Return the coarsest tier that a rep is a mark of; widths nest, so it is one of all finer tiers too."""
        level = -1
        for index, edge in enumerate(self._edges):
            if edge is not None and time >= edge:
                break
            self._edges[index] = _slot_start(time, self._tiers[index].every, self.phase)
            self._winners[index] = time
            level = index
        return level

    def _take_mark(self, time: datetime) -> None:
        tier, marks = self._tiers[self._tier], self._quotas[self._tier].marks
        self._marks += 1
        reason = f"{tier.name} {self._marks} of {marks}: newest of its {format_duration(tier.every)} slot"
        self.keep.append(Kept(time, tier.name, Place.MARK, reason))
        if self._marks == marks:
            self._tier += 1
            self._marks = self._transit = 0

    def _take_transit(self, time: datetime) -> None:
        tier, finer = self._tiers[self._tier], self._tiers[self._tier - 1]
        self._transit += 1
        places = self._quotas[self._tier].transit
        reason = f"{tier.name}, in transit {self._transit} of {places}: has just left {finer.name}"
        self.keep.append(Kept(time, tier.name, Place.TRANSIT, reason))

    def _drop(self, time: datetime, rule: Rule, tier: int) -> None:
        winner = self._winners[tier]
        self.delete.append(time)
        last = self.causes[-1] if self.causes else None
        if last is not None and last.winner is winner and last.rule is rule and last.tier == tier:
            last.count += 1
        else:
            self.causes.append(_Cause(rule, tier, winner, 1))


def _slot_start(time: datetime, every: timedelta, phase: timedelta) -> datetime:
    """Return the first moment of the slot that a time falls in."""
    try:
        return time - (time - _EPOCH - phase) % every
    except OverflowError:
        # The slot began before the first moment that a datetime can tell.
        return _BEGINNING


def _newest_first(times: Iterable[datetime]) -> list[datetime]:
    given = list(times)
    if set(map(attrgetter("tzinfo"), given)) - {UTC}:
        for time in given:
            if time.utcoffset() is None:
                raise TimeInputError(f"{time.isoformat()} has no time zone", "give aware datetimes in UTC")
            if time.utcoffset() != _ZERO:
                raise TimeInputError(f"{time.isoformat()} is not in UTC", "give aware datetimes in UTC")
    given.sort(reverse=True)
    if any(map(eq, given, islice(given, 1, None))):
        given = list(dict(zip(given, repeat(None), strict=False)))
    return given
