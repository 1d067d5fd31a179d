"""The retention rule: which backups a policy keeps.

A pure function of the backups' times and the policy. It knows no clock and no history, so that pruning rarely, often,
twice, or half (after a crash) ends in the same set: `plan(A | B) == plan(plan(A) | B)`.

The rule, in the words of `docs/retention.md`:

* `slot = floor((time - phase) / every)`. In a slot of the first tier only the newest backup is a candidate, a *rep*. A
  rep is a *mark* of a tier when it is the newest rep of its slot of that tier's width.
* The walk goes from the newest rep to the oldest. A tier takes the marks of its own width until its places for marks
  are full; the next tier begins with the next older rep. Until then it also takes the newest reps that are marks of the
  tier before but not of its own, as many as it has places in transit.
* When the walk ends and the last tier has free places, the oldest backup of all is kept too.
"""

import enum
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from itertools import islice, repeat, takewhile
from operator import attrgetter, eq
from typing import Final

from retention.errors import TimeInputError
from retention.names import stamp_of
from retention.rule.policy import Policy, Quota
from retention.text import format_duration

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_BEGINNING: Final = datetime.min.replace(tzinfo=UTC)
_ZERO: Final = timedelta(0)
_SECOND: Final = timedelta(seconds=1)


class Place(enum.Enum):
    """The kind of place in its tier that a backup has."""

    MARK = "mark"
    TRANSIT = "transit"
    OLDEST = "oldest"


class Rule(enum.Enum):
    """Why a backup is deleted."""

    SAME_SLOT = "a newer backup in the same slot of the first tier"
    NOT_A_MARK = "not the newest of its slot in the tier that it has come to"
    TIERS_FULL = "all tiers are full with newer backups"


@dataclass(frozen=True, slots=True)
class Kept:
    """A backup that is kept.

    Attributes:
        time: When the backup began.
        tier: The tier's name, or `oldest`.
        place: The kind of place that it has there.
        reason: One short sentence for people.
    """

    time: datetime
    tier: str
    place: Place
    reason: str


@dataclass(frozen=True, slots=True)
class Deleted:
    """A backup that is deleted: by which rule, and one short sentence for people."""

    time: datetime
    rule: Rule
    reason: str


@dataclass(slots=True)
class _Cause:
    """Why `count` backups in a row are deleted."""

    rule: Rule
    tier: int
    winner: datetime
    count: int


_Kept = tuple[datetime, int, Place, int]
"""A kept backup: its time, the number of its tier, its kind of place, and its number among those of the tier."""


@dataclass(frozen=True)
class Plan:
    """What a policy keeps of a set of backups.

    Attributes:
        policy: The policy.
        delete: The times of the deleted backups, newest first; `explain` adds the reasons.
    """

    policy: Policy
    delete: tuple[datetime, ...]
    _kept: tuple[_Kept, ...]
    _causes: tuple[_Cause, ...]

    @cached_property
    def keep(self) -> tuple[Kept, ...]:
        """The kept backups, newest first."""
        quotas = self.policy.quotas()
        return tuple(self._explained(one, quotas[one[1]]) for one in self._kept)

    @property
    def kept(self) -> frozenset[datetime]:
        """The times of the kept backups."""
        return frozenset(time for time, *_ in self._kept)

    def explain(self) -> Iterator[Deleted]:
        """Yield the deleted backups, newest first, each with its reason."""
        for rule, reason, times in self.grouped():
            for time in times:
                yield Deleted(time, rule, reason)

    def grouped(self) -> Iterator[tuple[Rule, str, Sequence[datetime]]]:
        """Yield the deleted backups, newest first, grouped where backups in a row have the same rule and reason."""
        begin = 0
        for cause in self._causes:
            end = begin + cause.count
            if cause.count:
                yield cause.rule, self._reason(cause), self.delete[begin:end]
            begin = end

    def _explained(self, kept: _Kept, quota: Quota) -> Kept:
        time, number, place, count = kept
        tier = self.policy.tiers[number]
        match place:
            case Place.MARK:
                slot = f"newest of its {format_duration(tier.every)} slot"
                # A slot of a second holds one backup.
                reason = f"{tier.name} {count} of {quota.marks}: {slot if tier.every > _SECOND else 'among the newest'}"
            case Place.TRANSIT:
                finer = self.policy.tiers[number - 1].name
                reason = f"{tier.name}, in transit {count} of {quota.transit}: has just left {finer}"
            case Place.OLDEST:
                reason = f"the oldest of all stays while {tier.name} has free places"
        return Kept(time, place.value if place is Place.OLDEST else tier.name, place, reason)

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
        TimeInputError: When a time is naive, or not in UTC.
    """
    walk = _Walk(_oldest_first(times), policy)
    for number, quota in enumerate(policy.quotas()):
        walk.fill(number, quota)
    walk.end()
    return Plan(policy, tuple(walk.delete), tuple(walk.kept), tuple(walk.causes))


def slot_of(time: datetime, policy: Policy) -> datetime:
    """Return the first moment, UTC, of the slot of the first tier that a backup's time falls in.

    Whether a plan keeps something of a slot depends on which slots have backups, never on which backups they have.
    """
    return _Walk([], policy)._slot_start(time, policy.tiers[0].every)


class _Walk:
    """One pass from the newest rep to the oldest."""

    __slots__ = ("_finest", "_full", "_left", "_ordered", "_origin", "_tiers", "causes", "delete", "kept")

    def __init__(self, ordered: list[datetime], policy: Policy) -> None:
        self._tiers = policy.tiers
        # Widths nest, so that a slot begins here for every one of them.
        self._origin = _EPOCH + policy.phase % policy.tiers[-1].every
        self._finest = policy.tiers[0].every
        # Oldest first; the first `_left` of these are not decided about yet.
        self._ordered = ordered
        self._left = len(ordered)
        self._full = False
        self.kept: list[_Kept] = []
        self.delete: list[datetime] = []
        self.causes: list[_Cause] = []

    def fill(self, number: int, quota: Quota) -> None:
        """Walk on until all places for marks of a tier are taken, or no backup is left."""
        ordered, left, every = self._ordered, self._left, self._tiers[number].every
        # A rep is a mark when it is older than the slot that the next newer one is in.
        edge = self._slot_start(ordered[left], every) if left < len(ordered) else None
        winner = None
        marks = transit = 0
        while left and marks < quota.marks:
            left -= 1
            rep = ordered[left]
            if edge is None or rep < edge:
                marks += 1
                self.kept.append((rep, number, Place.MARK, marks))
                edge, winner = self._slot_start(rep, every), rep
            elif transit < quota.transit and rep < self._slot_start(ordered[left + 1], self._tiers[number - 1].every):
                transit += 1
                self.kept.append((rep, number, Place.TRANSIT, transit))
            else:
                winner = winner or self._newest_of_slot(edge, every)
                self.delete.append(rep)
                self._note(Rule.NOT_A_MARK, number, winner, 1)
            if left and rep - ordered[left - 1] < self._finest:
                left = self._drop_slot(rep, left)
        self._left = left
        self._full = marks == quota.marks

    def end(self) -> None:
        """Delete what is older than full tiers; keep the oldest of all if the last tier has free places."""
        last = len(self._tiers) - 1
        if self._left:
            self._drop(0, self._left, Rule.TIERS_FULL, last, self.kept[-1][0])
        elif self.delete and self.delete[-1] == self._ordered[0] and not self._full:
            self.causes[-1].count -= 1
            self.kept.append((self.delete.pop(), last, Place.OLDEST, 1))

    def _drop_slot(self, rep: datetime, left: int) -> int:
        """Delete what is in the same slot of the first tier as a rep; return how many are left then."""
        begin = bisect_left(self._ordered, self._slot_start(rep, self._finest), 0, left)
        if begin < left:
            self._drop(begin, left, Rule.SAME_SLOT, 0, rep)
        return begin

    def _drop(self, begin: int, end: int, rule: Rule, tier: int, winner: datetime) -> None:
        times = self._ordered[begin:end]
        times.reverse()
        self.delete += times
        self._note(rule, tier, winner, len(times))

    def _newest_of_slot(self, edge: datetime, every: timedelta) -> datetime:
        """Return the newest rep of a slot that an earlier tier has reached; it is kept, being a mark of each tier."""
        older = (time for time, *_ in reversed(self.kept))
        return max(takewhile(lambda time: self._slot_start(time, every) == edge, older))

    def _slot_start(self, time: datetime, every: timedelta) -> datetime:
        """Return the first moment of the slot that a time falls in."""
        try:
            return time - (time - self._origin) % every
        except OverflowError:
            # The slot began before the first moment that a datetime can express.
            return _BEGINNING

    def _note(self, rule: Rule, tier: int, winner: datetime, count: int) -> None:
        """Note the rule of the last deletions; a row of them with one reason is noted once."""
        last = self.causes[-1] if self.causes else None
        if last is not None and last.winner is winner and last.rule is rule and last.tier == tier:
            last.count += count
        else:
            self.causes.append(_Cause(rule, tier, winner, count))


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
