# Without comments: they are in the project's file of this name.
import contextlib
import errno
import fcntl
import json
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from offsite.age import probe
from offsite.remote.errors import CarrierError, MissingError, RemoteError
from offsite.remote.rclone import Rclone
from offsite.rule import names, plan
from offsite.rule.copies import Copies, Copy, Entry, sort_out
from offsite.rule.marker import Marker, MarkerError, parse_marker
from offsite.rule.names import Part
from offsite.settings import Settings, read_policy
from offsite.steps.check import ChangedError, disown, read_back
from offsite.steps.clock import Clock, wall
from offsite.steps.listing import MARKER_BYTES
from offsite.steps.owner import claim
from offsite.steps.source import DamagedError
from offsite.steps.upload import Upload
from retention.errors import ExitCode, LockedError, RetentionError, VolumeError, unexpected
from retention.names import DELETIONS, Kind
from retention.rule.backup import Backup, Scan
from retention.rule.policy import Policy
from retention.text import format_size
from retention.volume.folder import Folder, close_quietly
from retention.volume.scan import scan, scan_root
_LOG_BYTES = 64 * 1024 * 1024
_GRACE = timedelta(days=1)
@dataclass(slots=True)
class Outcome:
 database: str
 copied: list[str] = field(default_factory=list)
 deleted: list[tuple[str, str]] = field(default_factory=list)
 checked: list[str] = field(default_factory=list)
 removed: list[str] = field(default_factory=list)
 copies: Copies | None = None
 problems: list[RetentionError] = field(default_factory=list)
 warnings: list[str] = field(default_factory=list)
 refused: RetentionError | None = None
 slot: timedelta | None = None
 @property
 def newest(self):
  return self.copies.complete[0] if self.copies and self.copies.complete else None
def exit_code(outcomes):
 if any(outcome.problems for outcome in outcomes):
  return ExitCode.FAILED
 return ExitCode.REFUSED if any(outcome.refused for outcome in outcomes) else ExitCode.DONE
@contextlib.contextmanager
def alone(root):
 fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
 try:
  try:
   fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
  except OSError as error:
   if error.errno in (errno.EWOULDBLOCK, errno.EAGAIN):
    raise LockedError(
     f"{root}: another run copies at this moment", "wait for it; this one does nothing"
    ) from None
   yield False
   return
  yield True
 finally:
  close_quietly(fd)
class Run:
 def __init__(
  self,
  settings,
  remote,
  root,
  config,
  clock,
  log,
 ):
  self._settings = settings
  self._remote = remote
  self._root = root
  self._config = config
  self._clock = clock
  self._log = log
  self._alone = False
  self._listed: dict[str, list[Entry]] = {}
  self.warnings: list[str] = []
 def run(self, wait_seconds):
  if self._settings.recipients:
   probe()
  self._remote.wait(wait_seconds)
  with alone(self._root) as self._alone:
   self._list()
   claim(self._remote, self._settings.cluster_id, self._settings.owner, now=self._clock())
   with Folder.open(self._root) as root:
    here = scan_root(root).databases
    outcomes = [Outcome(name) for name in sorted({*here, *self._listed})]
    for outcome in outcomes:
     self._attempt(root, outcome, present=outcome.database in here)
  return outcomes
 def _list(self):
  for entry in self._remote.list(self._settings.cluster_id):
   place = names.database_of(entry.path)
   if place is not None:
    database, name = place
    self._listed.setdefault(database, []).append(entry._replace(path=name))
 def _attempt(self, root, outcome, *, present):
  work = _Work(self._settings, self._remote, self._config, self._clock, self._log, outcome, alone=self._alone)
  try:
   self._clock.check()
   work.run(root if present else None, self._listed.get(outcome.database, []))
  except RetentionError as error:
   work.fail(error)
  except Exception as error:
   work.fail(unexpected(error))
class _Work:
 def __init__(
  self,
  settings,
  remote,
  config,
  clock,
  log,
  outcome,
  *,
  alone,
 ):
  self._settings = settings
  self._remote = remote
  self._config = config
  self._clock = clock
  self._log = log
  self._outcome = outcome
  self._alone = alone
  self._database = outcome.database
  self._place = f"{settings.cluster_id}/{outcome.database}"
  self._entries: dict[str, Entry] = {}
  self._markers: dict[str, Marker | str] = {}
  self._told: set[str] = set()
  self._skew: float | None = None
 def fail(self, error):
  self._outcome.problems.append(error)
  self._log(f"{self._database}: {error}")
 def run(self, root, entries):
  self._entries = {entry.path: entry for entry in entries}
  self._read_markers()
  copies = self._sort()
  if root is None:
   self._note_losses(copies, frozenset(), frozenset())
   self._check_due(copies)
   self._note_damaged()
   return
  with root.child(self._database) as folder:
   found = scan(folder, self._database)
   policy = read_policy(self._config, self._database)
   self._outcome.slot = None if self._settings.newest else policy.tiers[0].every
   self._clean(copies)
   self._copy(folder, found.backups, policy)
   copies = self._sort()
   losses = self._note_losses(copies, _bases(found), _deleted(folder))
  self._check_due(copies)
  self._note_damaged()
  self._prune(self._sort(), losses)
 def _copy(self, folder, backups, policy):
  left = {backup.base: backup for backup in backups}
  while due := plan.to_upload(
   self._database, left.values(), self._sort(), policy, now=self._clock(), newest=self._settings.newest
  ):
   for backup in due:
    del left[backup.base]
    self._clock.check()
    try:
     self._upload(folder, backup)
    except (DamagedError, VolumeError) as error:
     if not folder.exists(backup.name) and not folder.lists(backup.name):
      self._log(f"{self._database}: {backup.name} was pruned before it could be copied")
      continue
     self.fail(error)
 def _read_markers(self):
  for name in [*self._entries]:
   parsed = names.parse(self._database, name)
   if parsed is not None and parsed.part is Part.MARKER and name not in self._markers:
    self._clock.check()
    try:
     self._markers[name] = parse_marker(self._remote.read(f"{self._place}/{name}", MARKER_BYTES), name)
    except MarkerError as error:
     self._markers[name] = error.problem
    except MissingError:
     del self._entries[name]
 def _sort(self):
  copies = sort_out(self._database, self._entries.values(), self._markers)
  self._outcome.copies = copies
  return copies
 def _upload(self, folder, backup):
  upload = Upload(self._settings, self._remote, folder, self._database, self._clock.check)
  started = time.monotonic()
  try:
   done = upload.run(backup, self._clock)
  except CarrierError:
   raise
  except RetentionError:
   upload.remove(backup)
   raise
  marker = done.marker
  self._skew = done.skew if done.skew is not None else self._skew
  for stored in marker.objects.values():
   self._entries[stored.name] = Entry(stored.name, stored.stored_bytes, None)
  name = names.object_name(backup.base, marker.attempt, Part.MARKER)
  self._entries[name] = Entry(name, 0, None)
  self._markers[name] = marker
  self._outcome.copied.append(backup.base)
  seconds = max(time.monotonic() - started, 0.001)
  size = format_size(marker.archive.stored_bytes)
  self._log(f"{self._database}: copied {backup.name} ({size}, {seconds:.0f} s, verified by {marker.verified})")
 def _clean(self, copies):
  now = wall()
  for entry in copies.leftover:
   old = entry.written is not None and now - entry.written > _GRACE
   if self._alone or old:
    self._remove(entry.path)
  older_than = "0s" if self._alone else "24h"
  try:
   self._remote.abort_pending(f"{self._place}/{self._database}-", older_than)
  except CarrierError:
   raise
  except RemoteError as error:
   self._outcome.warnings.append(error.problem)
 def _remove(self, name):
  try:
   self._remote.delete(f"{self._place}/{name}")
  except CarrierError:
   raise
  except RemoteError as error:
   self._outcome.warnings.append(f"{name} is left over and cannot be removed: {error.problem}")
   return
  del self._entries[name]
  self._outcome.removed.append(name)
  self._log(f"{self._database}: removed {name}, left over from an interrupted run")
 def _note_losses(self, copies, local, deleted):
  losses = plan.lost(local, copies, deleted, since=self._settings.accept_loss_until)
  if losses and (found := plan.obstacle(copies, losses, now=self._clock(), skew=None)):
   self._outcome.warnings.append(f"{found.reason}; {found.remedy}")
  return losses
 def _note_damaged(self):
  copies = self._sort()
  there = {copy.base for copy in copies.complete}
  for finding in copies.damaged:
   if finding.name in self._told:
    continue
   parsed = names.parse(self._database, finding.name)
   error = RetentionError(f"{finding.name} does not count: {finding.reason}", finding.remedy)
   if parsed is not None and parsed.base in there:
    self._outcome.warnings.append(error.problem)
   else:
    self.fail(error)
 def _check_due(self, copies):
  every = self._settings.readback_every
  newest = copies.complete[0] if copies.complete else None
  if every is None or newest is None:
   return
  last = max((copy.checked for copy in copies.complete if copy.checked is not None), default=None)
  if last is not None and self._clock() - last < every:
   return
  try:
   name = read_back(self._remote, self._place, newest, now=self._clock(), check=self._clock.check)
  except ChangedError as error:
   self.fail(error)
   self._disown(newest)
   return
  self._entries[name] = Entry(name, 0, None)
  self._outcome.checked.append(newest.base)
  self._sort()
  self._log(f"{self._database}: read {newest.base} back in full, it is what was sent")
 def _disown(self, copy):
  try:
   name = disown(self._remote, self._place, copy, now=self._clock())
  except RemoteError as error:
   self.fail(RetentionError(f"{copy.names[0]} still counts: {error.problem}", "delete that object"))
   return
  self._log(f"{self._database}: {copy.base} no longer counts")
  self._entries[name] = Entry(name, 0, None)
  self._told.add(copy.names[0])
  self._sort()
 def _prune(self, copies, losses):
  if not self._settings.prune or self._outcome.problems:
   return
  policy = read_policy(self._config, self._database)
  now = self._clock()
  decision = plan.to_delete(
   copies, policy, now=now, own=frozenset(self._outcome.copied), limits=self._settings.limits
  )
  if not decision.delete:
   return
  found = plan.obstacle(copies, losses, now=now, skew=self._skew)
  shrunk = self._settings.allow_shrunk and found is not None and found.remedy.endswith("allowShrunk: true")
  if found is not None and not shrunk:
   self._outcome.warnings.append(f"nothing is deleted at the destination: {found.reason}; {found.remedy}")
   return
  if decision.refusal and not self._settings.allow_large_prune:
   remedy = "if it is meant, set offsite.allowLargePrune: true until the next copy"
   self._outcome.refused = RetentionError(decision.refusal, remedy)
   self._log(f"{self._database}: refused: {decision.refusal}")
   return
  if not self._outcome.copied:
   return
  reasons = {gone.base: gone.reason for gone in decision.delete}
  proved = copies.newest_restored
  for copy in (*reversed(copies.complete), *copies.spare):
   if copy.base in reasons and copy is not proved:
    self._clock.check()
    self._delete(copy, reasons[copy.base])
  self._sort()
 def _delete(self, copy, reason):
  for name in copy.names:
   self._remote.delete(f"{self._place}/{name}")
   self._entries.pop(name, None)
  self._outcome.deleted.append((copy.base, reason))
  self._log(f"{self._database}: deleted the copy of {copy.base}: {reason}")
def _bases(found):
 suffix = Kind.ARCHIVE.value
 uncounted = {finding.name.removesuffix(suffix) for finding in (*found.damaged, *found.incomplete)}
 return frozenset({*(backup.base for backup in found.backups), *found.bad, *found.staged, *uncounted})
def _deleted(folder):
 deleted = set()
 for line in (folder.read(DELETIONS, _LOG_BYTES) or b"").splitlines():
  with contextlib.suppress(ValueError, RecursionError):
   entry = json.loads(line)
   if isinstance(entry, dict) and isinstance(entry.get("name"), str):
    deleted.add(entry["name"])
 return frozenset(deleted)
