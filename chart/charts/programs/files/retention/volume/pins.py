# Without comments: they are in the project's file of this name.
import json
from contextlib import AbstractContextManager
from datetime import datetime
from retention.errors import RetentionError
from retention.names import PIN_LOCK, Grammar, Kind, file_name
from retention.rule.backup import Pin
from retention.volume import locks
from retention.volume.directory import Directory
from retention.volume.folder import Folder
from retention.volume.sidecars import parse_pin, read_pin
PIN_SCHEMA = 1
BY_DRILL, BY_RESTORE = "drill", "restore"
LOCK_SECONDS = 60
def locked(directory, seconds = None):
 wait = LOCK_SECONDS if seconds is None else seconds
 return locks.locked(directory.folder, PIN_LOCK, seconds=wait, holder=directory.holder)
def current(folder, base):
 name = file_name(base, Kind.PIN)
 return read_pin(folder, name) if folder.exists(name) else None
def pin(directory, name, *, reason, expires, now):
 with directory.locked():
  base = next((backup.base for backup in directory.scan().backups if backup.name == name), None)
  if base is None:
   raise RetentionError(f"{directory.folder.path_of(name)}: not a backup", "see `list` for the backups")
  with locked(directory):
   there, _ = _look(directory.folder, base)
   content = _format(reason, expires, now)
   if expires is not None and there is not None and _stays(there, expires):
    content = _around(there, content, now)
   _write(directory.folder, base, content)
def protect(directory, base, *, reason, expires, now):
 folder = directory.folder
 with locked(directory):
  _require(folder, base)
  there, content = _look(folder, base)
  replaced = ""
  if there is not None and there.by == BY_DRILL:
   kept = parse_pin(there.replaced.encode(errors="replace")) if there.replaced else None
   if kept is None or not kept.holds(expires):
    _write(folder, base, _around(there, _format(reason, expires, now, by=BY_RESTORE), now))
   return
  if there is not None and there.holds(expires):
   return
  if there is not None and there.holds(now):
   replaced = there.replaced if there.by == BY_RESTORE else content.decode(errors="replace")
  _write(folder, base, _format(reason, expires, now, by=BY_RESTORE, replaced=replaced))
def hand_on(directory, base, *, reason, others, now):
 folder = directory.folder
 with locked(directory):
  _require(folder, base)
  there, content = _look(folder, base)
  if there is None or there.expires is not None:
   replaced = content.decode(errors="replace")
   _write(folder, base, _format(reason, None, now, by=BY_DRILL, replaced=replaced))
  for other in others:
   found, _ = _look(folder, other)
   if found is None or found.by != BY_DRILL:
    continue
   if found.replaced:
    folder.write(file_name(other, Kind.PIN), found.replaced.encode(errors="replace"))
   else:
    folder.remove(file_name(other, Kind.PIN))
  folder.sync()
def unpin(directory, name):
 folder = directory.folder
 parsed = Grammar(directory.database).parse(name)
 if parsed is None or parsed.kind is not Kind.ARCHIVE:
  raise RetentionError(f"{folder.path_of(name)}: not an archive's name", "see `list` for the backups")
 with directory.locked(), locked(directory):
  removed = folder.remove_listed(file_name(parsed.base, Kind.PIN))
  folder.sync()
  return removed
def _require(folder, base):
 name = file_name(base, Kind.ARCHIVE)
 if not folder.exists(name) and not folder.lists(name):
  raise RetentionError(f"{folder.path_of(name)}: it was deleted meanwhile", "see `list` for the backups")
def _look(folder, base):
 content = folder.read_listed(file_name(base, Kind.PIN))
 return (None, b"") if content is None else (parse_pin(content), content)
def _stays(there, expires):
 return there.by == BY_DRILL or (there.by == BY_RESTORE and there.holds(expires))
def _around(there, content, now):
 return _format(there.reason, there.expires, now, by=there.by, replaced=content.decode(errors="replace"))
def _format(reason, expires, now, *, by = "", replaced = ""):
 document = {
  "schema": PIN_SCHEMA,
  "reason": reason,
  "pinned": now.isoformat(timespec="seconds"),
  "expires": None if expires is None else expires.isoformat(timespec="seconds"),
  **({"by": by} if by else {}),
  **({"replaced": replaced} if replaced else {}),
 }
 return (json.dumps(document, ensure_ascii=False) + "\n").encode(errors="replace")
def _write(folder, base, content):
 folder.write(file_name(base, Kind.PIN), content)
 folder.sync()
