# Without comments: they are in the project's file of this name.
import contextlib
import os
import stat
from dataclasses import dataclass
from datetime import datetime
from retention.errors import VolumeError
from retention.names import (
 OWN_FILES,
 OWN_ROOT_FILES,
 OWNERS,
 SIDECARS,
 Grammar,
 Kind,
 file_name,
 is_database,
 parse_stamp,
)
from retention.rule.backup import Finding, Pin, Scan
from retention.text import shown
from retention.volume.folder import Folder
from retention.volume.sidecars import UNSEEN_REMEDY, DamagedError, VanishedError, read_backup, read_pin
_BITS = {kind: 1 << index for index, kind in enumerate(Kind)}
_VISIBLE_BITS = {kind.value: _BITS[kind] for kind in (Kind.ARCHIVE, Kind.BAD, *SIDECARS)}
_ARCHIVE = _BITS[Kind.ARCHIVE]
_NEEDED = _BITS[Kind.SHA256] | _BITS[Kind.METADATA]
_PUBLISHED = sum(_BITS[kind] for kind in (Kind.ARCHIVE, *SIDECARS))
_ARCHIVES = sum(_BITS[kind] for kind in (Kind.ARCHIVE, Kind.BAD, Kind.STAGED, Kind.TOMBSTONE))
_NAMED = _BITS[Kind.PARTIAL] | _BITS[Kind.TEMPORARY]
def scan(folder, database):
 reading = _Reading(folder, database)
 reading.take()
 return reading.sorted()
class _Reading:
 def __init__(self, folder, database):
  self._folder = folder
  self._grammar = Grammar(database)
  self._result = Scan(database)
  self._times: dict[str, datetime] = {}
  self._kinds: dict[str, int] = {}
  self._sizes: dict[str, int] = {}
  self._blocked: set[str] = set()
  self._unseen: dict[str, str] = {}
 def take(self):
  kinds, sizes, end = self._kinds, self._sizes, self._grammar.base_length
  doubtful: list[tuple[str, str, int]] = []
  for entry in self._folder.entries():
   name = entry.name
   base, bit = name[:end], _VISIBLE_BITS.get(name[end:], 0)
   if not bit or base not in kinds:
    found = self._recognise(entry)
    if found is None:
     continue
    base, bit = found
   try:
    regular = entry.is_file(follow_symlinks=False)
    if bit == _ARCHIVE and regular:
     sizes[base] = entry.stat(follow_symlinks=False).st_size
   except OSError:
    regular = False
   if not regular:
    doubtful.append((name, base, bit))
   elif bit & _NAMED:
    (self._result.partial if bit == _BITS[Kind.PARTIAL] else self._result.leftovers).append(name)
   else:
    kinds[base] |= bit
  if doubtful:
   self._look_again(doubtful)
 def _look_again(self, doubtful):
  listed: set[str] | None = None
  for name, base, bit in doubtful:
   try:
    status = self._folder.stat(name)
    reason = "its name is in the directory, but there seems to be no such file"
   except VolumeError as error:
    status, reason = None, error.reason
   if status is not None and stat.S_ISREG(status.st_mode):
    if bit & _NAMED:
     (self._result.partial if bit == _BITS[Kind.PARTIAL] else self._result.leftovers).append(name)
     continue
    self._kinds[base] |= bit
    if bit == _ARCHIVE:
     self._sizes[base] = status.st_size
    continue
   self._blocked.add(name)
   if status is not None:
    self._result.ignored.append(Finding(shown(name), f"{_type_of(status.st_mode)}, not a file"))
    continue
   listed = self._folder.names() if listed is None else listed
   if name in listed:
    self._unseen[name] = reason
    self._note_unseen(name, bit, reason)
   elif bit == _BITS[Kind.PIN]:
    self._blocked.discard(name)
 def _note_unseen(self, name, bit, reason):
  reason = f"cannot be looked at: {reason}"
  if bit & _ARCHIVES:
   self._result.damaged.append(Finding(name, f"damaged: it {reason}", UNSEEN_REMEDY))
  elif not bit & _PUBLISHED:
   self._result.ignored.append(Finding(name, reason))
 def _recognise(self, entry):
  parts = self._grammar.parts(entry.name)
  time = None if parts is None else parse_stamp(parts[1])
  if parts is None or time is None:
   if entry.name not in OWN_FILES:
    self._ignore(entry.name)
   return None
  base, _, kind = parts
  self._times[base] = time
  self._kinds.setdefault(base, 0)
  return base, _BITS[kind]
 def _ignore(self, name):
  try:
   status = self._folder.stat(name)
  except VolumeError as error:
   reason = f"cannot be examined: {error.reason}"
  else:
   if status is None:
    return
   mode = status.st_mode
   reason = self._grammar.objection(name) if stat.S_ISREG(mode) else f"{_type_of(mode)}, not a file"
  self._result.ignored.append(Finding(shown(name), reason))
 def sorted(self):
  result = self._result
  for base in sorted(self._kinds, reverse=True):
   kinds = self._kinds[base]
   if kinds & _ARCHIVE:
    self._sort_archive(base, kinds)
   elif kinds & _BITS[Kind.PIN] and file_name(base, Kind.ARCHIVE) in self._unseen:
    result.pinned.add(file_name(base, Kind.ARCHIVE))
   if not kinds & _ARCHIVE or kinds & ~_PUBLISHED:
    self._sort_others(base, kinds)
  result.staged.reverse()
  for names in (result.partial, result.leftovers):
   names.sort()
  for findings in (result.damaged, result.ignored):
   findings.sort(key=lambda finding: finding.name)
  return result
 def _sort_others(self, base, kinds):
  result = self._result
  for kind, bases in ((Kind.BAD, result.bad), (Kind.STAGED, result.staged), (Kind.TOMBSTONE, result.tombstones)):
   if kinds & _BITS[kind]:
    bases.append(base)
  for sidecar, owners in OWNERS.items():
   if kinds & _BITS[sidecar] and not any(
    kinds & _BITS[kind] or file_name(base, kind) in self._blocked for kind in owners
   ):
    result.leftovers.append(file_name(base, sidecar))
 def _sort_archive(self, base, kinds):
  before = len(self._result.backups)
  self._count_archive(base, kinds)
  if kinds & _BITS[Kind.PIN] and len(self._result.backups) == before:
   self._result.pinned.add(file_name(base, Kind.ARCHIVE))
 def _count_archive(self, base, kinds):
  for kind in () if kinds & _NEEDED == _NEEDED else (Kind.SHA256, Kind.METADATA):
   name = file_name(base, kind)
   if name in self._unseen:
    self._damaged(base, f"{name} cannot be looked at: {self._unseen[name]}", UNSEEN_REMEDY)
    return
   if not kinds & _BITS[kind]:
    reason = f"incomplete: {name} is missing"
    self._result.incomplete.append(Finding(file_name(base, Kind.ARCHIVE), reason))
    return
  pin = self._pin(base, kinds) if self._blocked or kinds & _BITS[Kind.PIN] else None
  try:
   try:
    backup = read_backup(self._folder, base, self._times[base], self._sizes[base], pin)
   except VanishedError:
    if not self._folder.lists(file_name(base, Kind.ARCHIVE)):
     return
    backup = read_backup(self._folder, base, self._times[base], self._sizes[base], pin)
  except DamagedError as error:
   self._damaged(base, str(error), error.remedy)
  except VanishedError as error:
   if self._folder.lists(str(error)):
    self._damaged(base, f"{error} cannot be read, though its name is in the directory", UNSEEN_REMEDY)
   else:
    self._result.incomplete.append(
     Finding(file_name(base, Kind.ARCHIVE), f"incomplete: {error} is missing")
    )
  else:
   self._result.backups.append(backup)
 def _damaged(self, base, reason, remedy):
  self._result.damaged.append(Finding(file_name(base, Kind.ARCHIVE), f"damaged: {reason}", remedy))
 def _pin(self, base, kinds):
  name = file_name(base, Kind.PIN)
  if kinds & _BITS[Kind.PIN]:
   return read_pin(self._folder, name)
  return Pin(f"{name} is not a file; it holds until it is removed", None) if name in self._blocked else None
@dataclass(frozen=True, slots=True)
class Root:
 databases: tuple[str, ...]
 ignored: tuple[Finding, ...]
def scan_root(folder):
 databases, ignored = [], []
 for entry in folder.entries():
  if entry.name in OWN_ROOT_FILES or entry.name == "lost+found":
   continue
  mode = _mode(folder, entry)
  if (mode is None or stat.S_ISDIR(mode)) and is_database(entry.name):
   databases.append(entry.name)
  else:
   link = mode is not None and stat.S_ISLNK(mode)
   reason = "a link, never followed" if link else "not a database's directory"
   ignored.append(Finding(shown(entry.name), reason))
 return Root(tuple(sorted(databases)), tuple(sorted(ignored, key=lambda finding: finding.name)))
def is_database_folder(folder, name):
 if not is_database(name):
  return False
 grammar = Grammar(name)
 root_like = False
 for entry in folder.entries():
  if entry.name in OWN_FILES or grammar.parse(entry.name) is not None:
   return True
  if entry.name in OWN_ROOT_FILES:
   root_like = True
  elif is_database(entry.name) or entry.name == "lost+found":
   mode = _mode(folder, entry)
   root_like |= mode is not None and stat.S_ISDIR(mode)
 return not root_like
def _mode(folder, entry):
 try:
  return entry.stat(follow_symlinks=False).st_mode
 except OSError:
  with contextlib.suppress(VolumeError):
   status = folder.stat(entry.name)
   return None if status is None else status.st_mode
 return None
def _type_of(mode):
 if stat.S_ISLNK(mode):
  return "a link, never followed"
 if stat.S_ISDIR(mode):
  return "a directory"
 return "a special file"
