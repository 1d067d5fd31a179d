# Without comments: they are in the project's file of this name.
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple
from offsite.rule import names
from offsite.rule.marker import READBACK, RESTORED, Marker
from offsite.rule.names import Part, RemoteName
from retention.rule.backup import Finding
_SAVE = (
 "another copy is made if the volume has the backup; otherwise save what `age --decrypt` still reads of it, "
 "and then delete its objects"
)
class Entry(NamedTuple):
 path: str
 size: int
 written: datetime | None
@dataclass(frozen=True, slots=True)
class Copy:
 base: str
 time: datetime
 marker: Marker
 checked: datetime | None
 names: tuple[str, ...]
 restored: datetime | None = None
 @property
 def bytes(self):
  return self.marker.archive.bytes
 @property
 def verified(self):
  if self.restored is not None:
   return RESTORED
  return self.marker.verified if self.checked is None else READBACK
@dataclass(slots=True)
class Copies:
 database: str
 complete: list[Copy] = field(default_factory=list)
 spare: list[Copy] = field(default_factory=list)
 damaged: list[Finding] = field(default_factory=list)
 leftover: list[Entry] = field(default_factory=list)
 ignored: list[str] = field(default_factory=list)
 @property
 def last_restored(self):
  return max((copy.restored for copy in self.complete if copy.restored is not None), default=None)
 @property
 def newest_restored(self):
  return next((copy for copy in self.complete if copy.restored is not None), None)
def sort_out(database, entries, markers):
 found, attempts = Copies(database), _attempts(database, entries)
 for entry in attempts.pop(("", ""), {}).values():
  found.ignored.append(entry.path)
 best: dict[str, Copy] = {}
 harmed: list[tuple[str, str, datetime, dict[str, Entry]]] = []
 for (base, attempt), objects in sorted(attempts.items()):
  name = names.object_name(base, attempt, Part.MARKER)
  if name not in objects:
   found.leftover += objects.values()
   continue
  marker = markers.get(name, "it was not read")
  reason = marker if isinstance(marker, str) else _contradiction(database, base, attempt, marker, objects)
  if reason or isinstance(marker, str):
   found.damaged.append(Finding(name, reason, "it does not count: another copy is made if the volume has it"))
   continue
  parsed = [names.parse(database, one) for one in objects]
  if seen := max((one.seen for one in parsed if one and one.seen and one.part is Part.DAMAGED), default=None):
   harmed.append((base, name, seen, objects))
   continue
  moment = next(one.time for one in parsed if one is not None)
  restored = max((one.seen for one in parsed if one and one.seen and one.part is Part.RESTORED), default=None)
  last = max((one.seen for one in parsed if one and one.seen), default=None)
  if marker.verified == READBACK:
   last = max(last or marker.uploaded, marker.uploaded)
  own = (name, *sorted(objects.keys() - {name}))
  copy = Copy(base, moment, marker, last, own, restored)
  other = best.get(base)
  if other is not None and other.marker.uploaded > marker.uploaded:
   copy, other = other, copy
  if other is not None:
   found.spare.append(other)
  best[base] = copy
 for base, name, seen, objects in harmed:
  if base in best:
   found.leftover += [objects[name], *(entry for one, entry in objects.items() if one != name)]
  else:
   reason = f"it was read on {seen:%Y-%m-%d %H:%M} UTC, twice, and was not what was sent"
   found.damaged.append(Finding(name, reason, _SAVE))
 found.complete = sorted(best.values(), key=lambda copy: copy.time, reverse=True)
 return found
def _attempts(database, entries):
 attempts: dict[tuple[str, str], dict[str, Entry]] = {}
 for entry in entries:
  parsed: RemoteName | None = names.parse(database, entry.path)
  key = ("", "") if parsed is None else (parsed.base, parsed.attempt)
  attempts.setdefault(key, {})[entry.path] = entry
 return attempts
def _contradiction(database, base, attempt, marker, objects):
 if (marker.database, marker.base, marker.attempt) != (database, base, attempt):
  return "its marker is about another backup"
 for part, stored in marker.objects.items():
  parsed = names.parse(database, stored.name)
  if parsed is None or (parsed.base, parsed.attempt, parsed.part.value) != (base, attempt, part):
   return f"its marker names {stored.name}, which belongs to something else"
  entry = objects.get(stored.name)
  if entry is None:
   return f"{stored.name} is missing"
  if entry.size != stored.stored_bytes:
   return f"{stored.name} has {entry.size} bytes instead of {stored.stored_bytes}"
 return ""
