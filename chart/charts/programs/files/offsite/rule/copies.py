# Without comments: they are in the project's file of this name.
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple
from offsite.rule import names
from offsite.rule.marker import READBACK, Marker
from offsite.rule.names import Part, RemoteName
from retention.rule.backup import Finding
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
 @property
 def bytes(self):
  return self.marker.archive.bytes
 @property
 def verified(self):
  return self.marker.verified if self.checked is None else READBACK
@dataclass(slots=True)
class Copies:
 database: str
 complete: list[Copy] = field(default_factory=list)
 spare: list[Copy] = field(default_factory=list)
 damaged: list[Finding] = field(default_factory=list)
 leftover: list[Entry] = field(default_factory=list)
 ignored: list[str] = field(default_factory=list)
def sort_out(database, entries, markers):
 found, attempts = Copies(database), _attempts(database, entries)
 for entry in attempts.pop(("", ""), {}).values():
  found.ignored.append(entry.path)
 best: dict[str, Copy] = {}
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
  moment = next(one.time for one in parsed if one is not None)
  checks = [one.checked for one in parsed if one is not None and one.checked is not None]
  last = max(checks, default=None)
  if marker.verified == READBACK:
   last = max(last or marker.uploaded, marker.uploaded)
  own = (name, *sorted(objects.keys() - {name}))
  copy = Copy(base, moment, marker, last, own)
  other = best.get(base)
  if other is not None and other.marker.uploaded > marker.uploaded:
   copy, other = other, copy
  if other is not None:
   found.spare.append(other)
  best[base] = copy
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
