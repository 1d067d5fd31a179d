# Without comments: they are in the project's file of this name.
import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TypeVar
from offsite.age import probe
from offsite.remote.errors import RemoteError, TakenError, UnknownError
from offsite.remote.rclone import Rclone
from offsite.rule import names
from offsite.rule.copies import Entry
from offsite.rule.parts import parts_for
from offsite.rule.plan import clock_difference
from offsite.settings import Settings
from offsite.steps.clock import wall
from offsite.steps.owner import owner_of
from retention.errors import RetentionError
from retention.text import shown
OK, WARNING, WRONG = "ok", "warning", "wrong"
_T = TypeVar("_T")
_LOCK_FOR = "1m"
_CONTENT = b"a test whether copies can be made here; it may be deleted\n"
@dataclass(frozen=True, slots=True)
class Tried:
 what: str
 result: str
 found: str
class Examination:
 def __init__(self, settings, remote):
  self._settings = settings
  self._remote = remote
  if settings.destination.lock:
   lock = {**settings.destination.lock, "object_lock_retain_until_date": _LOCK_FOR}
   self._remote = Rclone(replace(settings.destination, lock=lock))
 def run(self, wait_seconds):
  try:
   yield from self._steps(wait_seconds)
  except _ProblemError as error:
   yield Tried(error.what, WRONG, str(error))
 def _steps(self, wait_seconds):
  if self._settings.recipients:
   _try("encryption", probe)
   keys = len(self._settings.recipients)
   yield Tried("encryption", OK, f"for {keys} keys" if keys > 1 else "for 1 key; two are better than one")
  version = _try("rclone", lambda: self._remote.wait(wait_seconds))
  yield Tried("rclone", OK, f"version {version.removeprefix('v')}")
  folder, place = self._settings.cluster_id, f"{self._settings.destination.path}/{self._settings.cluster_id}"
  entries = _try("list", lambda: self._remote.list(folder))
  yield Tried("list", OK, f"{place}: {len(entries)} objects")
  yield self._owner(place)
  yield from self._object(entries)
 def _owner(self, place):
  owner = _try("owner", lambda: owner_of(self._remote, self._settings.cluster_id))
  if owner is None:
   return Tried("owner", OK, f"no release copies to {place} yet")
  if owner != self._settings.owner:
   raise _ProblemError(
    "owner",
    f"{place} belongs to another release ({shown(owner or 'unknown')[:100]})",
    "set offsite.clusterId to a name of its own",
   )
  return Tried("owner", OK, "this release")
 def _object(self, entries):
  folder = self._settings.cluster_id
  path, parts = f"{folder}/{names.probe_name(secrets.token_hex(4))}", parts_for(len(_CONTENT))
  def write(*, once = False):
   self._remote.upload(path, [_CONTENT], len(_CONTENT), parts, once=once, locked=True)
  _try("write", write)
  lock = self._settings.destination.lock
  yield Tried("write", OK, f"with object lock ({lock['object_lock_mode']})" if lock else "an object was written")
  content = _try("read", lambda: self._remote.read(path, len(_CONTENT)))
  if content != _CONTENT:
   raise _ProblemError("read", f"{path} is not what was written", "check the store")
  yield Tried("read", OK, "it is what was written")
  yield self._clock(path)
  yield _once(write)
  yield self._delete(path, [f"{folder}/{entry.path}" for entry in entries if names.is_probe(entry.path)])
 def _clock(self, path):
  found = _try("clock", lambda: self._remote.look(path))
  if found is None or found.written is None:
   return Tried("clock", OK, "the store does not say when an object was written")
  difference = clock_difference((wall() - found.written).total_seconds())
  if difference is not None:
   remedy = "set the clocks right: until then no copy is deleted"
   return Tried("clock", WARNING, f"this node's is {difference}; {remedy}")
  return Tried("clock", OK, "like the store's")
 def _delete(self, path, older):
  try:
   for one in (path, *older):
    self._remote.delete(one)
  except RemoteError as error:
   result = WRONG if self._settings.prune else WARNING
   found = f"{path} stays: {error.problem}"
   why = "offsite.prune needs this right" if self._settings.prune else "what killed runs leave stays, too"
   return Tried("delete", result, f"{found}; {why}")
  hidden = "; the store keeps its version until the lock ends" if self._settings.destination.lock else ""
  return Tried("delete", OK, f"it was deleted{hidden}")
class _ProblemError(RetentionError):
 def __init__(self, what, problem, remedy):
  super().__init__(problem, remedy)
  self.what = what
def _try(what, work):
 try:
  return work()
 except RetentionError as error:
  raise _ProblemError(what, error.problem, error.remedy) from None
def _once(write):
 try:
  write(once=True)
 except TakenError:
  return Tried("write once", OK, "the store refuses a name that is taken")
 except UnknownError:
  return Tried("write once", OK, "the store cannot refuse a name that is taken; names are random")
 except RemoteError as error:
  return Tried("write once", WARNING, str(error))
 return Tried("write once", OK, "the store does not refuse a name that is taken; names are random")
