# Without comments: they are in the project's file of this name.
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from retention.rule.decide import Decision, Delete, Keep
DELETE, KEEP, MOVE = "delete", "keep", "move"
@dataclass(frozen=True, slots=True)
class Change:
 what: str
 name: str
 time: datetime
 bytes: int | None
 before: str | None
 after: str | None
 reason: str
@dataclass(frozen=True, slots=True)
class Difference:
 database: str
 changes: tuple[Change, ...]
 refusal: str
 def of(self, what):
  return [change for change in self.changes if change.what == what]
 def to_dict(self):
  return {
   "database": self.database,
   "changes": [
    {
     "change": change.what,
     "name": change.name,
     "bytes": change.bytes,
     "before": change.before,
     "after": change.after,
     "reason": change.reason,
    }
    for change in self.changes
   ],
   "refused": self.refusal or None,
  }
def compare(before, after):
 kept_before = {kept.name: kept for kept in before.keep}
 kept_after = {kept.name: kept for kept in after.keep}
 changes = [
  *(
   _change(MOVE, kept, kept_before, kept_after, kept.reason)
   for kept in after.keep
   if kept.name in kept_before and kept_before[kept.name].tier != kept.tier
  ),
  *(
   _change(KEEP, kept, kept_before, kept_after, kept.reason)
   for kept in after.keep
   if kept.name not in kept_before
  ),
  *(
   _change(DELETE, gone, kept_before, kept_after, gone.reason)
   for gone in after.delete
   if gone.name in kept_before
  ),
 ]
 changes.sort(key=lambda change: change.time, reverse=True)
 return Difference(after.database, tuple(changes), after.refusal)
def _change(
 what, one, before, after, reason
):
 tiers = [kept[one.name].tier if one.name in kept else None for kept in (before, after)]
 return Change(what, one.name, one.time, one.bytes, tiers[0], tiers[1], reason)
