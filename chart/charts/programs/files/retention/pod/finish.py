# Without comments: they are in the project's file of this name.
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from retention.errors import ConfigError, LockedError, RetentionError, VolumeError, unexpected
from retention.keyvalue import KeyValues
from retention.names import STATUS, Grammar, Kind, file_name
from retention.pod import config, outlook, status
from retention.pod.report import REFUSAL_REMEDY, Measured, RunOutcome
from retention.rule import decide, sizing
from retention.rule.backup import Backup, Scan, dated_after
from retention.rule.policy import Policy
from retention.text import format_size
from retention.volume import locks, publish, reserve
from retention.volume.directory import Directory
from retention.volume.folder import Folder
from retention.volume.prune import carry_out, clean
from retention.volume.scan import scan_root
from retention.volume.sidecars import read_document
_SHRINK = 2
@dataclass(frozen=True, slots=True)
class Settings:
 root: Path
 config: Path
 results: Path
 now: datetime
 holder: str
 allow_large_prune: bool
@dataclass(slots=True)
class Run:
 outcomes: list[RunOutcome]
 warnings: list[str]
 stopped: bool
 sizing: sizing.Sizing | None
def run(settings, stop, log):
 names = config.databases_in(settings.config)
 with Folder.open(settings.root) as root:
  warnings = _first_run(root)
  outcomes = {name: RunOutcome(name) for name in names}
  started = time.monotonic()
  waiting: list[str] = []
  for patient, databases in ((False, names), (True, waiting)):
   for database in list(databases):
    work = _Work(settings, root, outcomes[database], stop, log)
    if not work.attempt(started, patient=patient):
     waiting.append(database)
    reserve.keep(root)
  ended = [outcomes[name] for name in names]
  listed = frozenset(config.entries_in(settings.config))
  space = _space(root, warnings)
  written = status.write_run(root, ended, now=settings.now, holder=settings.holder, space=space, entries=listed)
  too_small = "" if written.sizing is None else written.sizing.warning()
  warnings += filter(None, (written.warning, too_small))
 return Run(ended, warnings, stop.requested, written.sizing)
class _Work:
 def __init__(
  self, settings, root, outcome, stop, log
 ):
  self._settings = settings
  self._root = root
  self._outcome = outcome
  self._stop = stop
  self._log = log
  self._database = outcome.database
  self._judged: set[str] = set()
  self._marked_bad: set[str] = set()
  self._unjudged: set[str] = set()
  self._own: set[str] = set()
  self._may_prune = True
 def attempt(self, started, *, patient):
  begun = time.monotonic()
  try:
   settings = config.read_database(self._settings.config, self._database)
   self._outcome.cluster, self._outcome.namespace = settings.cluster, settings.namespace
   left = max(0.0, started + settings.lock_timeout - begun) if patient else 0.0
   self._under_lock(settings, left)
  except LockedError as error:
   if not patient:
    return False
   self._fail(error)
  except RetentionError as error:
   self._fail(error)
  except Exception as error:
   self._fail(unexpected(error))
  self._outcome.seconds += time.monotonic() - begun
  return True
 def _under_lock(self, settings, seconds):
  self._stop.check()
  if self._root.stat(self._database) is None:
   self._compare_with_result([], self._result())
   return
  with self._root.child(self._database) as folder:
   directory = Directory(folder, self._database, self._settings.holder, seconds)
   with directory.locked(self._stop):
    try:
     self._finish(directory, settings)
    finally:
     self._take_stock(directory)
 def _finish(self, directory, settings):
  found = directory.scan()
  for name in clean(directory, found, now=self._settings.now):
   self._log(f"{self._database}: removed {name}, left over from an interrupted run")
  result = self._result()
  backups = list(found.backups)
  for base in found.staged:
   self._stop.check()
   try:
    self._judge(directory, base, result, backups, settings)
   except VolumeError as error:
    self._unjudged.add(base)
    self._fail(
     RetentionError(
      f"{file_name(base, Kind.STAGED)} stays as it is until it can be judged and published: "
      f"{error.problem}",
      error.remedy,
     )
    )
  found = directory.scan()
  self._compare_with_result(found.backups, result)
  self._stop.check()
  self._prune(directory, settings, found)
 def _result(self):
  try:
   result = config.read_result(self._settings.results / f"{self._database}.result")
  except ConfigError as error:
   self._fail(error)
   return None
  if result is None:
   self._fail(
    RetentionError(
     "the dump container reported nothing",
     "see its log (container dump): it was killed, or never reached this database",
    )
   )
   return None
  self._outcome.restore = outlook.from_result(result, self._settings.now)
  return result
 def _judge(
  self,
  directory,
  base,
  result,
  backups,
  settings,
 ):
  try:
   judged = publish.judge(directory, base, self._stop.check, result)
  except publish.BadArchiveError as error:
   name = publish.mark_bad(directory.folder, base, Kind.STAGED)
   self._judged.add(base)
   self._marked_bad.add(name)
   self._fail(
    RetentionError(
     f"archive {file_name(base, Kind.ARCHIVE)} is bad and does not count: {error}",
     f"it is kept as {name}; check the storage, then remove it",
    )
   )
   return
  recovered = result is None or result.text("base") != base
  warnings = [*judged.result.warnings, *self._shrinkage(judged, backups, settings)]
  published = self._publish(directory.folder, judged, recovered, warnings)
  self._note_published(judged, published, recovered, warnings)
  self._judged.add(base)
  self._own.add(published)
 def _publish(self, folder, judged, recovered, warnings):
  now = self._settings.now
  try:
   return publish.publish(folder, judged, now=now, recovered=recovered, warnings=warnings)
  except VolumeError as error:
   if not reserve.release(self._root, error):
    raise
   return publish.publish(folder, judged, now=now, recovered=recovered, warnings=warnings)
 def _note_published(self, judged, published, recovered, warnings):
  name = file_name(published, Kind.ARCHIVE)
  self._outcome.published.append(name)
  tables = judged.result.number("tables")
  note = f"published {name} ({format_size(judged.bytes)}, {'?' if tables is None else tables} tables)"
  if published != judged.base:
   note += f", staged as {judged.base}, whose name was taken"
  if recovered:
   self._outcome.recovered.append(name)
   note = note.replace("published", "recovered from an earlier run and published", 1)
  self._outcome.notes.append(note)
  self._outcome.warnings += warnings
  self._log(f"{self._database}: {note}")
 def _shrinkage(self, judged, backups, settings):
  previous = max(
   (backup for backup in backups if backup.time <= self._settings.now),
   key=lambda backup: backup.time,
   default=None,
  )
  warnings = []
  if previous is not None:
   warnings = _fallen(judged, previous)
  parsed = Grammar(self._database).parse(file_name(judged.base, Kind.ARCHIVE))
  if parsed is not None:
   tables, compression = judged.result.number("tables"), judged.result.text("compression")
   backups.append(Backup(judged.base, parsed.time, judged.bytes, judged.sha256, tables, compression, None))
  if warnings and settings.fail_on_shrink:
   self._may_prune = False
   self._fail(
    RetentionError(
     f"{warnings[0]}; it is published, and nothing is pruned in this run",
     "check whether data was lost, and pin the last good backup; if it is meant, set onShrink: warn",
    )
   )
  return warnings
 def _compare_with_result(self, backups, result):
  if result is None:
   return
  state, base = result.text("state"), result.text("base")
  if state == "vanished":
   self._outcome.warnings.append(result.text("error"))
  elif state in ("failed", "not-reached"):
   for warning in result.warnings:
    self._outcome.warnings.append(warning)
   self._fail(RetentionError(result.text("error") or f"the dump is {state}", result.text("remedy")))
  elif state != "staged":
   self._fail(
    RetentionError(
     f"its result has the unknown state {state!r}", "run the dump and finish of one version of the chart"
    )
   )
  elif base not in self._judged | self._unjudged:
   if any(backup.sha256 == result.text("sha256") for backup in backups):
    self._outcome.notes.append(f"another run has published {file_name(base, Kind.ARCHIVE)}")
   else:
    self._fail(
     RetentionError(
      f"archive {file_name(base, Kind.ARCHIVE)} was staged, and is neither staged nor published now",
      "find out what else removes files on the volume",
     )
    )
 def _prune(self, directory, settings, found):
  policy: Policy = config.read_policy(self._settings.config, self._database)
  self._outcome.kept_by = policy, settings.limits
  decision = decide.decide_scan(
   found, policy, now=self._settings.now, own=frozenset(self._own), limits=settings.limits
  )
  if decision.over_budget:
   self._outcome.warnings.append(decision.over_budget)
  if decision.refusal and not (settings.allow_large_prune or self._settings.allow_large_prune):
   self._outcome.refusal = RetentionError(decision.refusal, REFUSAL_REMEDY)
   self._log(f"{self._database}: refused: {decision.refusal}")
   return
  if not (self._own and self._may_prune):
   return
  pruned = carry_out(directory, decision, now=self._settings.now, done=self._note_deleted)
  self._outcome.warnings += [problem.problem for problem in pruned.problems]
 def _note_deleted(self, gone):
  self._outcome.deleted.append(gone)
  self._log(f"{self._database}: deleted {gone.name}: {gone.reason}")
 def _take_stock(self, directory):
  found = directory.scan()
  self._outcome.backups = found.backups
  self._outcome.measured = _measured(directory.folder, self._outcome.newest(self._settings.now))
  for base in found.bad:
   name = file_name(base, Kind.BAD)
   self._outcome.bad.append(name)
   if name not in self._marked_bad:
    self._fail(
     RetentionError(
      f"there is a bad archive on the volume: {name}", "find out why it is bad, then remove it"
     )
    )
  for finding in found.damaged:
   self._outcome.bad.append(finding.name)
   fate = "does not count" if finding.remedy else "no longer counts"
   self._fail(
    RetentionError(
     f"{finding.name} {fate}: {finding.reason}",
     finding.remedy or "restore it from a copy of the volume, or remove it together with its sidecars",
    )
   )
  for finding in (*found.incomplete, *found.ignored):
   self._log(f"{self._database}: ignored {finding.name}: {finding.reason}")
  self._outcome.warnings += [f"{finding.name} is {finding.reason}" for finding in found.incomplete]
  if future := dated_after(found.backups, self._settings.now):
   self._outcome.warnings.append(f"{future}: exempt from pruning until then; check the clocks of the nodes")
 def _fail(self, error):
  self._outcome.problems.append(error)
  self._log(f"{self._database}: failed: {error.problem}")
def _fallen(judged, previous):
 tables, warnings = judged.result.number("tables"), []
 if tables is not None and previous.tables is not None and tables * _SHRINK < previous.tables:
  warnings.append(f"tables fell from {previous.tables} in {previous.name} to {tables}")
 same = previous.compression == judged.result.text("compression")
 if same and judged.bytes * _SHRINK < previous.bytes:
  fell = f"{format_size(previous.bytes)} in {previous.name} to {format_size(judged.bytes)}"
  warnings.append(f"the archive fell from {fell}")
 return warnings
def _first_run(root):
 try:
  if root.exists(STATUS):
   return []
  databases = scan_root(root).databases
 except VolumeError as error:
  return [f"whether this is the first run is not known: {error}"]
 for database in databases:
  try:
   with root.child(database) as folder:
    grammar = Grammar(database)
    for entry in folder.entries():
     name = grammar.parse(entry.name)
     if name is not None and name.kind is Kind.ARCHIVE:
      return []
  except VolumeError:
   return []
 return ["empty volume: this is the first run, or a different claim than before"]
def _space(root, warnings):
 try:
  return root.space()
 except VolumeError as error:
  warnings.append(f"the size of the volume is not known: {error}")
  return None
def _measured(folder, newest):
 found = read_document(folder, file_name(newest.base, Kind.METADATA)) if newest is not None else None
 if found is None:
  return Measured()
 verification = found.get("verification")
 seconds = verification.get("seconds") if isinstance(verification, dict) else None
 return Measured(*map(status.number_of, (found.get("database_bytes"), found.get("dump_seconds"), seconds)))
