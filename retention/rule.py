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
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
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
        for rule, reason, times in self.grouped():
            for time in times:
                yield Deleted(time, rule, reason)

    def grouped(self) -> Iterator[tuple[Rule, str, Sequence[datetime]]]:
        """Yield what goes, newest first: backups in a row that go by the same rule, for the same reason."""
        begin = 0
        for cause in self._causes:
            end = begin + cause.count
            if cause.count:
                yield cause.rule, self._reason(cause), self.delete[begin:end]
            begin = end

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
    ordered = _oldest_first(times)
    walk = _Walk(policy)
    left = len(ordered)
    while left:
        left -= 1
        edge = walk.visit(ordered[left])
        if edge is None:
            walk.drop(ordered[:left], Rule.TIERS_FULL)
            break
        if left and ordered[left - 1] >= edge:
            begin = bisect_left(ordered, edge, 0, left)
            walk.drop(ordered[begin:left], Rule.SAME_SLOT)
            left = begin
    else:
        walk.keep_oldest(ordered)
    return Plan(policy, tuple(walk.keep), tuple(walk.delete), tuple(walk.causes))


class _Walk:
    """One pass from the newest rep to the oldest."""

    __slots__ = (
        "_edges",
        "_marks",
        "_quotas",
        "_tier",
        "_tiers",
        "_transit",
        "_widths",
        "_winners",
        "causes",
        "delete",
        "keep",
        "phase",
    )

    def __init__(self, policy: Policy) -> None:
        self._tiers = policy.tiers
        self._quotas = policy.quotas()
        self._widths = [format_duration(tier.every) for tier in policy.tiers]
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

    def visit(self, rep: datetime) -> datetime | None:
        """Decide about the next older rep; return where its slot of the first tier begins, or None: all are full."""
        level = self._enter_slots(rep)
        if level >= self._tier:
            self._take_mark(rep)
        elif level == self._tier - 1 and self._transit < self._quotas[self._tier].transit:
            self._take_transit(rep)
        else:
            self.delete.append(rep)
            self._note(Rule.NOT_A_MARK, self._tier, self._winners[self._tier], 1)
        return None if self._tier == len(self._tiers) else self._edges[0]

    def drop(self, times: list[datetime], rule: Rule) -> None:
        """Let backups go, given oldest first, that are the next older ones."""
        if not times:
            return
        times.reverse()
        self.delete += times
        if rule is Rule.SAME_SLOT:
            self._note(rule, 0, self._winners[0], len(times))
        else:
            self._note(rule, len(self._tiers) - 1, self.keep[-1].time, len(times))

    def keep_oldest(self, ordered: list[datetime]) -> None:
        """Keep the oldest backup of all, as the walk ended before the last tier was full."""
        if not self.delete or self.delete[-1] != ordered[0]:
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
        reason = f"{tier.name} {self._marks} of {marks}: newest of its {self._widths[self._tier]} slot"
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

    def _note(self, rule: Rule, tier: int, winner: datetime, count: int) -> None:
        """Put the last deletions down to a rule; what goes in a row for one reason is noted once."""
        last = self.causes[-1] if self.causes else None
        if last is not None and last.winner is winner and last.rule is rule and last.tier == tier:
            last.count += count
        else:
            self.causes.append(_Cause(rule, tier, winner, count))


def _slot_start(time: datetime, every: timedelta, phase: timedelta) -> datetime:
    """Return the first moment of the slot that a time falls in."""
    try:
        return time - (time - _EPOCH - phase) % every
    except OverflowError:
        # The slot began before the first moment that a datetime can tell.
        return _BEGINNING


def _oldest_first(times: Iterable[datetime]) -> list[datetime]:
    given = list(times)
    if set(map(attrgetter("tzinfo"), given)) - {UTC}:
        for time in given:
            if time.utcoffset() is None:
                raise TimeInputError(f"{time.isoformat()} has no time zone", "give aware datetimes in UTC")
            if time.utcoffset() != _ZERO:
                raise TimeInputError(f"{time.isoformat()} is not in UTC", "give aware datetimes in UTC")
    given.sort()
    if any(map(eq, given, islice(given, 1, None))):
        given = list(dict(zip(given, repeat(None), strict=False)))
    return given
