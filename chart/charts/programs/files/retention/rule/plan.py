# Without comments: they are in the project's file of this name.
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
 MARK = "mark"
 TRANSIT = "transit"
 OLDEST = "oldest"
class Rule(enum.Enum):
 SAME_SLOT = "a newer backup in the same slot of the first tier"
 NOT_A_MARK = "not the newest of its slot in the tier that it has come to"
 TIERS_FULL = "all tiers are full with newer backups"
@dataclass(frozen=True, slots=True)
class Kept:
 time: datetime
 tier: str
 place: Place
 reason: str
@dataclass(frozen=True, slots=True)
class Deleted:
 time: datetime
 rule: Rule
 reason: str
@dataclass(slots=True)
class _Cause:
 rule: Rule
 tier: int
 winner: datetime
 count: int
_Kept = tuple[datetime, int, Place, int]
@dataclass(frozen=True)
class Plan:
 policy: Policy
 delete: tuple[datetime, ...]
 _kept: tuple[_Kept, ...]
 _causes: tuple[_Cause, ...]
 @cached_property
 def keep(self):
  quotas = self.policy.quotas()
  return tuple(self._explained(one, quotas[one[1]]) for one in self._kept)
 @property
 def kept(self):
  return frozenset(time for time, *_ in self._kept)
 def explain(self):
  for rule, reason, times in self.grouped():
   for time in times:
    yield Deleted(time, rule, reason)
 def grouped(self):
  begin = 0
  for cause in self._causes:
   end = begin + cause.count
   if cause.count:
    yield cause.rule, self._reason(cause), self.delete[begin:end]
   begin = end
 def _explained(self, kept, quota):
  time, number, place, count = kept
  tier = self.policy.tiers[number]
  match place:
   case Place.MARK:
    slot = f"newest of its {format_duration(tier.every)} slot"
    reason = f"{tier.name} {count} of {quota.marks}: {slot if tier.every > _SECOND else 'among the newest'}"
   case Place.TRANSIT:
    finer = self.policy.tiers[number - 1].name
    reason = f"{tier.name}, in transit {count} of {quota.transit}: has just left {finer}"
   case Place.OLDEST:
    reason = f"the oldest of all stays while {tier.name} has free places"
  return Kept(time, place.value if place is Place.OLDEST else tier.name, place, reason)
 def _reason(self, cause):
  tier = self.policy.tiers[cause.tier]
  width, winner = format_duration(tier.every), stamp_of(cause.winner)
  match cause.rule:
   case Rule.SAME_SLOT:
    return f"a newer backup is in the same {width} slot: {winner}"
   case Rule.NOT_A_MARK:
    return f"{tier.name} keeps the newest of each {width} slot, here {winner}"
   case Rule.TIERS_FULL:
    return f"all tiers are full; the oldest that {tier.name} keeps is {winner}"
def plan(times, policy):
 walk = _Walk(_oldest_first(times), policy)
 for number, quota in enumerate(policy.quotas()):
  walk.fill(number, quota)
 walk.end()
 return Plan(policy, tuple(walk.delete), tuple(walk.kept), tuple(walk.causes))
def slot_of(time, policy):
 return _Walk([], policy)._slot_start(time, policy.tiers[0].every)
class _Walk:
 __slots__ = ("_finest", "_full", "_left", "_ordered", "_origin", "_tiers", "causes", "delete", "kept")
 def __init__(self, ordered, policy):
  self._tiers = policy.tiers
  self._origin = _EPOCH + policy.phase % policy.tiers[-1].every
  self._finest = policy.tiers[0].every
  self._ordered = ordered
  self._left = len(ordered)
  self._full = False
  self.kept: list[_Kept] = []
  self.delete: list[datetime] = []
  self.causes: list[_Cause] = []
 def fill(self, number, quota):
  ordered, left, every = self._ordered, self._left, self._tiers[number].every
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
 def end(self):
  last = len(self._tiers) - 1
  if self._left:
   self._drop(0, self._left, Rule.TIERS_FULL, last, self.kept[-1][0])
  elif self.delete and self.delete[-1] == self._ordered[0] and not self._full:
   self.causes[-1].count -= 1
   self.kept.append((self.delete.pop(), last, Place.OLDEST, 1))
 def _drop_slot(self, rep, left):
  begin = bisect_left(self._ordered, self._slot_start(rep, self._finest), 0, left)
  if begin < left:
   self._drop(begin, left, Rule.SAME_SLOT, 0, rep)
  return begin
 def _drop(self, begin, end, rule, tier, winner):
  times = self._ordered[begin:end]
  times.reverse()
  self.delete += times
  self._note(rule, tier, winner, len(times))
 def _newest_of_slot(self, edge, every):
  older = (time for time, *_ in reversed(self.kept))
  return max(takewhile(lambda time: self._slot_start(time, every) == edge, older))
 def _slot_start(self, time, every):
  try:
   return time - (time - self._origin) % every
  except OverflowError:
   return _BEGINNING
 def _note(self, rule, tier, winner, count):
  last = self.causes[-1] if self.causes else None
  if last is not None and last.winner is winner and last.rule is rule and last.tier == tier:
   last.count += count
  else:
   self.causes.append(_Cause(rule, tier, winner, count))
def _oldest_first(times):
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
