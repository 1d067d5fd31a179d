# Without comments: they are in the project's file of this name.
import contextlib
import errno
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from retention.errors import LockedError, RetentionError, VolumeError
from retention.names import DELETIONS, OWNERS, SIDECARS, Grammar, Kind, file_name
from retention.rule.backup import Pin, Scan
from retention.rule.decide import Decision, Delete, spare
from retention.volume import pins
from retention.volume.directory import Directory
from retention.volume.folder import Folder
_SHARED_TEMPORARIES = tuple(f"{kind.value}{Kind.TEMPORARY.value}" for kind in (Kind.PIN, Kind.DRILL))
_GRACE = timedelta(days=1)
@dataclass(frozen=True, slots=True)
class Pruned:
 decision: Decision
 problems: list[RetentionError]
def carry_out(
 directory, decision, *, now, done = lambda _: None
):
 if not decision.delete:
  return Pruned(decision, [])
 folder = directory.folder
 gone: list[Delete] = []
 pinned: dict[str, Pin] = {}
 try:
  with _pins_locked(directory):
   for delete in reversed(decision.delete):
    pin = pins.current(folder, delete.base)
    if pin is not None and pin.holds(now):
     pinned[delete.base] = pin
     continue
    folder.rename(delete.name, file_name(delete.base, Kind.TOMBSTONE))
    gone.append(delete)
 finally:
  try:
   problems = _finish_deletions(folder, gone, now) if gone else []
  finally:
   for delete in reversed(gone):
    done(delete)
 return Pruned(spare(decision, pinned), problems)
@contextlib.contextmanager
def _pins_locked(directory):
 with contextlib.ExitStack() as stack:
  try:
   stack.enter_context(pins.locked(directory))
  except LockedError as error:
   raise VolumeError(error.problem, error.remedy) from None
  except VolumeError as error:
   if error.errno not in (errno.ENOSPC, errno.EDQUOT):
    raise
  yield
def _finish_deletions(folder, gone, now):
 folder.sync()
 lines = "".join(
  _log_line(now, delete.name, delete.rule, delete.reason, event="deleted") for delete in gone
 ).encode()
 problem = _log(folder, lines)
 for delete in gone:
  _bury(folder, delete.base, with_sidecars=True)
 folder.sync()
 if problem is not None:
  problem = _log(folder, lines)
 return [] if problem is None else [problem]
def clean(directory, scan, *, now):
 folder = directory.folder
 orphans = _orphans(folder, scan, now)
 shared = [name for name in orphans if name.endswith(_SHARED_TEMPORARIES)]
 removed = [name for name in orphans if name not in shared and folder.remove(name)]
 with contextlib.suppress(LockedError):
  if shared:
   with pins.locked(directory, 0):
    removed += [name for name in shared if folder.remove(name)]
 for base in scan.tombstones:
  line = _log_line(
   now, file_name(base, Kind.ARCHIVE), "interrupted", "completes an earlier run", event="completed"
  )
  _log(folder, line.encode())
  _bury(folder, base, with_sidecars=False)
  removed.append(file_name(base, Kind.TOMBSTONE))
 if removed:
  folder.sync()
 return removed
def _orphans(folder, scan, now):
 if not scan.leftovers:
  return []
 grammar, listed = Grammar(scan.database), folder.names()
 orphans = []
 for name in scan.leftovers:
  parsed = grammar.parse(name)
  owners = () if parsed is None else OWNERS.get(parsed.kind, ())
  archives = [file_name(parsed.base, kind) for kind in owners] if parsed is not None else []
  if any(archive in listed or folder.exists(archive) for archive in archives):
   continue
  proved = parsed is None or parsed.kind not in SIDECARS or parsed.base in scan.tombstones
  if proved or _is_old(folder, name, now):
   orphans.append(name)
 return orphans
def _is_old(folder, name, now):
 try:
  found = folder.stat(name)
 except VolumeError:
  return False
 return found is not None and abs(now.timestamp() - found.st_ctime) >= _GRACE.total_seconds()
def _bury(folder, base, *, with_sidecars):
 if with_sidecars:
  for kind in SIDECARS:
   folder.remove(file_name(base, kind))
 folder.remove(file_name(base, Kind.TOMBSTONE))
def _log(folder, lines):
 try:
  folder.append(DELETIONS, lines)
 except VolumeError as error:
  return error
 return None
def _log_line(now, name, rule, reason, *, event):
 at = now.astimezone(UTC).isoformat(timespec="seconds")
 entry = {"time": at, "event": event, "name": name, "rule": rule, "reason": reason}
 return json.dumps(entry, ensure_ascii=False) + "\n"
