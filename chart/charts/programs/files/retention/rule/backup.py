# Without comments: they are in the project's file of this name.
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final, NamedTuple
from retention.names import Kind, file_name
@dataclass(frozen=True, slots=True)
class Pin:
 reason: str
 expires: datetime | None
 by: str = ""
 replaced: str = ""
 def holds(self, now):
  return self.expires is None or now < self.expires
class Backup(NamedTuple):
 base: str
 time: datetime
 bytes: int
 sha256: str
 tables: int | None
 compression: str
 pin: Pin | None
 @property
 def name(self):
  return f"{self.base}.dump"
@dataclass(frozen=True, slots=True)
class Finding:
 name: str
 reason: str
 remedy: str = ""
@dataclass(slots=True)
class Scan:
 database: str
 backups: list[Backup] = field(default_factory=list)
 damaged: list[Finding] = field(default_factory=list)
 incomplete: list[Finding] = field(default_factory=list)
 bad: list[str] = field(default_factory=list)
 staged: list[str] = field(default_factory=list)
 partial: list[str] = field(default_factory=list)
 tombstones: list[str] = field(default_factory=list)
 leftovers: list[str] = field(default_factory=list)
 ignored: list[Finding] = field(default_factory=list)
 pinned: set[str] = field(default_factory=set)
 def not_counted(self):
  found = [*self.damaged, *self.incomplete, *self.ignored]
  found += [Finding(file_name(base, Kind.BAD), "judged bad: find out why, then remove it") for base in self.bad]
  found += [Finding(file_name(base, Kind.STAGED), "staged: the next finish judges it") for base in self.staged]
  found += [Finding(name, "partial: the next dump removes it") for name in self.partial]
  found += [
   Finding(file_name(base, Kind.TOMBSTONE), "its deletion was interrupted: the next finish completes it")
   for base in self.tombstones
  ]
  found += [Finding(name, _left_over(name)) for name in self.leftovers]
  return sorted(found, key=lambda finding: finding.name)
def _left_over(name):
 if name.startswith("."):
  return "left over: the next finish removes it"
 return "its archive is missing: copy that back within a day, or finish removes this file"
SKEW: Final = timedelta(minutes=5)
def seconds_ahead(backups, now):
 latest = max((backup.time for backup in backups), default=now)
 return (latest - now) // timedelta(seconds=1) if latest > now + SKEW else 0
def dated_after(backups, now):
 future = [backup for backup in backups if backup.time > now]
 if not future:
  return ""
 count = "1 backup is" if len(future) == 1 else f"{len(future)} backups are"
 return f"{count} dated after now ({now:%Y-%m-%d %H:%M}Z), the latest {future[0].name}"
