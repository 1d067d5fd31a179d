# Without comments: they are in the project's file of this name.
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from operator import attrgetter
from retention.names import stamp_of
from retention.rule.backup import Backup, Finding, Pin, Scan
from retention.rule.plan import plan
from retention.rule.policy import DEFAULT_LIMITS, Limits, Policy
from retention.text import format_size
FREE_DELETIONS = 3
BUDGET_RULE = "budget"
_BEGINNING = datetime.min.replace(tzinfo=UTC)
@dataclass(frozen=True, slots=True)
class Candidate:
 name: str
 base: str
 time: datetime
 pin: Pin | None
 bytes: int | None = None
@dataclass(frozen=True, slots=True)
class _Decided:
 backup: Candidate | Backup
 @property
 def name(self):
  return self.backup.name
 @property
 def base(self):
  return self.backup.base
 @property
 def time(self):
  return self.backup.time
 @property
 def bytes(self):
  return self.backup.bytes
@dataclass(frozen=True, slots=True)
class Keep(_Decided):
 tier: str
 reason: str
@dataclass(frozen=True, slots=True)
class Delete(_Decided):
 rule: str
 reason: str
@dataclass(frozen=True, slots=True)
class Decision:
 database: str
 keep: tuple[Keep, ...]
 delete: tuple[Delete, ...]
 ignored: tuple[Finding, ...]
 refusal: str
 over_budget: str
 def to_dict(self):
  return {
   "database": self.database,
   "keep": [{"name": kept.name, "tier": kept.tier, "reason": kept.reason} for kept in self.keep],
   "delete": [{"name": gone.name, "reason": gone.reason} for gone in self.delete],
   "ignored": [{"name": finding.name, "reason": finding.reason} for finding in self.ignored],
  }
def decide_scan(
 scan,
 policy,
 *,
 now,
 own = frozenset(),
 limits = DEFAULT_LIMITS,
):
 return decide(scan.database, scan.backups, scan.not_counted(), policy, now=now, own=own, limits=limits)
def decide(
 database,
 candidates,
 ignored,
 policy,
 *,
 now,
 own = frozenset(),
 limits = DEFAULT_LIMITS,
):
 candidates = list(candidates)
 proved = _proved_moment(candidates, own, now) if any(candidate.pin is not None for candidate in candidates) else now
 exempted: list[Keep] = []
 planned: list[Candidate | Backup] = []
 for candidate in candidates:
  exempt = None if candidate.pin is None and candidate.time <= now else _exempt(candidate, now, proved)
  if exempt is None:
   planned.append(candidate)
  else:
   exempted.append(exempt)
 planned.sort(key=_time_of, reverse=True)
 protected = own.union(candidate.base for candidate in planned[:1])
 keep, delete = _by_rule(planned, policy, protected)
 over = ""
 if limits.max_bytes is not None:
  over = _by_budget(keep, delete, sum(kept.bytes or 0 for kept in exempted), protected, limits, limits.max_bytes)
 refusal = _refusal(database, delete, planned, limits)
 everything = sorted([*keep, *exempted], key=_time_of, reverse=True)
 return Decision(database, tuple(everything), tuple(delete), tuple(ignored), refusal, over)
def spare(decision, pinned):
 if not pinned:
  return decision
 kept = [_pinned(gone.backup, pinned[gone.base]) for gone in decision.delete if gone.base in pinned]
 return replace(
  decision,
  keep=tuple(sorted([*decision.keep, *kept], key=_time_of, reverse=True)),
  delete=tuple(gone for gone in decision.delete if gone.base not in pinned),
 )
def _by_rule(
 planned, policy, protected
):
 result = plan([candidate.time for candidate in planned], policy)
 places = iter(result.keep)
 causes = ((rule.name.lower().replace("_", "-"), reason) for rule, reason, times in result.grouped() for _ in times)
 keep: list[Keep] = []
 delete: list[Delete] = []
 place = next(places, None)
 for candidate in planned:
  if place is not None and place.time == candidate.time:
   keep.append(Keep(candidate, place.tier, _with_pin(place.reason, candidate)))
   place = next(places, None)
   continue
  rule, reason = next(causes)
  if candidate.base in protected:
   keep.append(Keep(candidate, "newest", _with_pin("made by this run, and never deleted by it", candidate)))
  else:
   delete.append(Delete(candidate, rule, _with_pin(reason, candidate)))
 return keep, delete
def _by_budget(
 keep, delete, exempt_bytes, protected, limits, most
):
 total = exempt_bytes + sum(kept.bytes or 0 for kept in keep)
 victims: set[str] = set()
 for kept in reversed(keep[limits.min_backups :]):
  if total <= most:
   break
  if kept.base not in protected:
   victims.add(kept.base)
   total -= kept.bytes or 0
 reason = f"the archives may take {format_size(most)} together, and the oldest goes first"
 delete += [Delete(gone.backup, BUDGET_RULE, reason) for gone in keep if gone.base in victims]
 delete.sort(key=_time_of, reverse=True)
 keep[:] = [kept for kept in keep if kept.base not in victims]
 if total <= most:
  return ""
 return (
  f"the archives take {format_size(total)} and may take {format_size(most)}: the newest {limits.min_backups}, "
  "pinned ones and those dated after now are never deleted to save space"
 )
_time_of = attrgetter("time")
def _proved_moment(candidates, own, now):
 others = (candidate.time for candidate in candidates if candidate.time <= now and candidate.base not in own)
 return max(others, default=_BEGINNING)
def _exempt(candidate, now, proved):
 pin = candidate.pin
 if pin is not None and pin.holds(now):
  return _pinned(candidate, pin)
 if pin is not None and pin.holds(proved):
  kept = _pinned(candidate, pin)
  return replace(kept, reason=f"{kept.reason}, and until another backup is dated after that")
 if candidate.time > now:
  reason = f"dated after now ({stamp_of(now)}): a clock was wrong; exempt from pruning until then"
  return Keep(candidate, "future", reason)
 return None
def _pinned(candidate, pin):
 reason = f"pinned: {pin.reason}" if pin.reason else "pinned"
 if pin.expires is not None:
  reason += f" (until {pin.expires:%Y-%m-%d %H:%M}Z)"
 return Keep(candidate, "pinned", reason)
def _with_pin(reason, candidate):
 if candidate.pin is None or candidate.pin.expires is None:
  return reason
 return f"{reason} (its pin expired {candidate.pin.expires:%Y-%m-%d %H:%M}Z)"
def _refusal(database, delete, planned, limits):
 if len(delete) <= FREE_DELETIONS:
  return ""
 count, total = len(delete), len(planned)
 size, sizes = sum(gone.bytes or 0 for gone in delete), sum(one.bytes or 0 for one in planned)
 large = f"would be deleted at once, more than {FREE_DELETIONS} and more than {limits.large_percent} %"
 if 100 * count > limits.large_percent * total:
  return f"{database}: {count} of {total} backups {large}"
 if 100 * size > limits.large_percent * sizes:
  return f"{database}: {count} backups with {format_size(size)} of {format_size(sizes)} {large} of the bytes"
 return ""
