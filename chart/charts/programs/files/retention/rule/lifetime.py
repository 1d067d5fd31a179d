# Without comments: they are in the project's file of this name.
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from retention.names import base_of
from retention.rule.backup import Backup
from retention.rule.decide import Candidate, Delete, decide
from retention.rule.policy import Limits, Policy
from retention.text import later
_RUNS = 10_000
@dataclass(frozen=True, slots=True)
class Lifetime:
 deleted: datetime | None
 reason: str
 until: datetime | None
def lifetime(
 database, backups, base, policy, limits, *, now
):
 present: list[Candidate | Backup] = list(backups)
 pin = next(one.pin for one in present if one.base == base)
 if pin is not None and pin.expires is None:
  return Lifetime(None, "its pin has no end", None)
 every = policy.tiers[0].every
 newest = max((one for one in present if one.time <= now), key=lambda one: one.time, default=None)
 moment = now if newest is None else max(later(newest.time, every), now)
 moment, size = moment.replace(microsecond=0), None if newest is None else newest.bytes
 for _ in range(_RUNS):
  made = base_of(database, moment)
  present.append(Candidate(f"{made}.dump", made, moment, None, size))
  decision = decide(database, present, (), policy, now=moment, own=frozenset({made}), limits=limits)
  gone: Delete | None = next((one for one in decision.delete if one.base == base), None)
  if gone is not None:
   return Lifetime(moment, gone.reason, moment)
  kept = {one.base for one in decision.keep}
  present = [one for one in present if one.base in kept]
  moment = later(moment, every)
 return Lifetime(None, "the policy keeps it at least until then", moment)
