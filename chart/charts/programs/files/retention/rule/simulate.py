# Without comments: they are in the project's file of this name.
import math
import random
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from retention.rule.plan import Kept, plan
from retention.rule.policy import Policy
from retention.text import format_duration, format_size, table
_DAY = timedelta(days=1)
_MONTH = timedelta(days=30)
_SECOND = timedelta(seconds=1)
_ZERO = timedelta(0)
_LINE = 60
@dataclass(frozen=True, slots=True)
class Outage:
 begin: timedelta
 length: timedelta
@dataclass(frozen=True, slots=True)
class Scenario:
 policy: Policy
 start: datetime
 every: timedelta
 length: timedelta
 jitter: timedelta = _ZERO
 outages: tuple[Outage, ...] = ()
 fail_percent: int = 0
 manual: int = 0
 size: int = 0
 growth_percent: float = 0.0
 seed: int = 0
 def size_at(self, time):
  grown: float = (1 + self.growth_percent / 100) ** ((time - self.start) / _MONTH)
  return round(self.size * grown)
@dataclass(frozen=True, slots=True)
class Day:
 day: int
 end: datetime
 keep: tuple[Kept, ...]
 kept: dict[str, int]
 gaps: dict[str, timedelta]
 reach: timedelta
 made: int
 deleted: int
 bytes: int
 @property
 def total(self):
  return len(self.keep)
@dataclass(frozen=True, slots=True)
class Steady:
 since: timedelta
 kept: dict[str, tuple[int, int]]
 gaps: dict[str, timedelta]
 reach: tuple[timedelta, timedelta]
 most_deleted: int
@dataclass(frozen=True, slots=True)
class Simulation:
 scenario: Scenario
 days: tuple[Day, ...]
 steady: Steady | None
 most_kept: int
 most_deleted: int
 most_bytes: int
 end: tuple[Kept, ...]
@dataclass(frozen=True, slots=True)
class _Step:
 time: datetime
 keep: tuple[Kept, ...]
 deleted: int
def simulate(scenario):
 steps = list(_steps(scenario))
 full = next((index for index, step in enumerate(steps) if _is_full(step, scenario.policy)), None)
 return Simulation(
  scenario,
  tuple(_days(scenario, steps)),
  None if full is None else _steady(scenario, steps[full:]),
  max((len(step.keep) for step in steps), default=0),
  max((step.deleted for step in steps), default=0),
  max((_bytes(scenario, step.keep) for step in steps), default=0) if scenario.size else 0,
  steps[-1].keep if steps else (),
 )
def starts(scenario):
 chance = random.Random(scenario.seed)
 made = []
 due = _ZERO
 while due < scenario.length:
  late = timedelta(seconds=chance.randint(0, scenario.jitter // _SECOND))
  failed = chance.randrange(100) < scenario.fail_percent
  if not failed and not _is_out(scenario, due):
   made.append(scenario.start + due + late)
  due += scenario.every
 for day in range(scenario.manual and -(-scenario.length // _DAY)):
  for _ in range(scenario.manual):
   when = day * _DAY + timedelta(minutes=chance.randrange(24 * 60))
   if when < scenario.length and not _is_out(scenario, when):
    made.append(scenario.start + when)
 return sorted(set(made))
def _is_out(scenario, when):
 return any(outage.begin <= when < outage.begin + outage.length for outage in scenario.outages)
def _steps(scenario):
 on_disk: list[datetime] = []
 for time in starts(scenario):
  decided = plan([*on_disk, time], scenario.policy)
  on_disk = [kept.time for kept in decided.keep]
  yield _Step(time, decided.keep, len(decided.delete))
def _is_full(step, policy):
 counts = _counts(step.keep)
 return all(counts[tier.name] == tier.keep for tier in policy.tiers)
def _counts(keep):
 return Counter(kept.tier for kept in keep)
def _days(scenario, steps):
 keep: tuple[Kept, ...] = ()
 index = 0
 for day in range(1, -(-scenario.length // _DAY) + 1):
  end = scenario.start + day * _DAY
  begin, deleted = index, 0
  while index < len(steps) and steps[index].time < end:
   keep = steps[index].keep
   deleted += steps[index].deleted
   index += 1
  reach = keep[0].time - keep[-1].time if keep else _ZERO
  counts = dict(_counts(keep))
  yield Day(day, end, keep, counts, _gaps(keep), reach, index - begin, deleted, _bytes(scenario, keep))
def _gaps(keep):
 gaps: dict[str, timedelta] = {}
 for newer, older in pairwise(keep):
  gaps[older.tier] = max(gaps.get(older.tier, _ZERO), newer.time - older.time)
 return gaps
def _bytes(scenario, keep):
 return sum(scenario.size_at(kept.time) for kept in keep) if scenario.size else 0
def _steady(scenario, steps):
 names = [tier.name for tier in scenario.policy.tiers]
 counts = [_counts(step.keep) for step in steps]
 gaps = dict.fromkeys(names, _ZERO)
 for step in steps:
  for tier, gap in _gaps(step.keep).items():
   if tier in gaps:
    gaps[tier] = max(gaps[tier], gap)
 reaches = [step.keep[0].time - step.keep[-1].time for step in steps]
 return Steady(
  steps[0].time - scenario.start,
  {name: (min(count[name] for count in counts), max(count[name] for count in counts)) for name in names},
  gaps,
  (min(reaches), max(reaches)),
  max(step.deleted for step in steps),
 )
def place(age, unit, longest):
 return math.log1p(max(age, _ZERO) / unit) / math.log1p(max(longest, unit) / unit)
def longest_age(simulation):
 return max((day.end - day.keep[-1].time for day in simulation.days if day.keep), default=_DAY)
def to_dict(simulation):
 steady = simulation.steady
 return {
  "start": simulation.scenario.start.isoformat(),
  "every": _seconds(simulation.scenario.every),
  "length": _seconds(simulation.scenario.length),
  "most_kept": simulation.most_kept,
  "most_deleted": simulation.most_deleted,
  "most_bytes": simulation.most_bytes,
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
   {
    "day": day.day,
    "kept": day.kept,
    "gaps": {name: _seconds(gap) for name, gap in day.gaps.items()},
    "total": day.total,
    "reach": _seconds(day.reach),
    "made": day.made,
    "deleted": day.deleted,
    "bytes": day.bytes,
    "ages": [_seconds(day.end - kept.time) for kept in day.keep],
   }
   for day in simulation.days
  ],
  "end": [{"time": kept.time.isoformat(), "tier": kept.tier, "reason": kept.reason} for kept in simulation.end],
 }
def to_text(simulation):
 scenario = simulation.scenario
 names = [tier.name for tier in scenario.policy.tiers]
 longest = longest_age(simulation)
 sized = bool(scenario.size)
 rows = [
  (
   str(day.day),
   *(str(day.kept.get(name, 0)) for name in names),
   str(day.total),
   str(day.deleted),
   format_span(day.reach),
   *([format_size(day.bytes)] if sized else []),
   format_span(max(day.gaps.values(), default=_ZERO)),
   _timeline(scenario, day, longest),
  )
  for day in simulation.days
 ]
 header = ("DAY", *names, "TOTAL", "DELETED", "REACH", *(["SIZE"] if sized else []), "LARGEST GAP", "AGES")
 letters = ", ".join(f"{_letter(index)} {name}" for index, name in enumerate(names))
 parts = [table(header, rows), f"ages from 0 to {format_span(longest)}, logarithmic: {letters}, o oldest", ""]
 parts += summary(simulation)
 return "\n".join(parts)
def summary(simulation):
 names = [tier.name for tier in simulation.scenario.policy.tiers]
 steady, lines = simulation.steady, []
 if steady is None:
  lines.append("the tiers were never full: simulate more days, or look for a tier that the schedule cannot fill")
 else:
  lines.append(f"full after {format_span(steady.since)}; from then on:")
  for name in names:
   low, high = steady.kept[name]
   count = str(low) if low == high else f"{low} to {high}"
   lines.append(f"  {name}: {count} kept, largest gap {format_span(steady.gaps[name])}")
  lines.append(f"  reach: {format_span(steady.reach[0])} to {format_span(steady.reach[1])}")
  lines.append(f"  deleted by one run: at most {steady.most_deleted}")
 most = f"at most {simulation.most_kept} backups at any time"
 lines.append(f"{most}, {format_size(simulation.most_bytes)}" if simulation.most_bytes else most)
 return lines
def _timeline(scenario, day, longest):
 letters = {tier.name: _letter(index) for index, tier in enumerate(scenario.policy.tiers)}
 line = ["·"] * _LINE
 for kept in reversed(day.keep):
  at = place(day.end - kept.time, scenario.policy.tiers[0].every, longest)
  line[min(_LINE - 1, int(at * _LINE))] = letters.get(kept.tier, "o")
 return "".join(line)
def _letter(index):
 return "123456789abcdefghijklmnpqrstuvwxyz"[min(index, 33)]
def _seconds(duration):
 return duration // _SECOND
def format_span(duration):
 if duration % timedelta(hours=1) == _ZERO:
  return format_duration(duration) if duration else "0h"
 minutes = -(-duration // timedelta(minutes=1))
 hours, minutes = divmod(minutes, 60)
 return f"{hours}h{minutes:02}m" if hours else f"{minutes}m"
