# Without comments: they are in the project's file of this name.
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from retention.errors import RetentionError, VolumeError
from retention.names import Kind, file_name
from retention.rule.backup import Backup
from retention.volume import publish
from retention.volume.checksum import digest
from retention.volume.directory import Directory
@dataclass(frozen=True, slots=True)
class Checked:
 name: str
 result: str
 reason: str
 def to_dict(self):
  return {"name": self.name, "result": self.result, "reason": self.reason}
def verify(directory, only, *, done):
 found = directory.scan()
 uncounted = [*found.damaged, *found.incomplete]
 names = {backup.name for backup in found.backups} | {finding.name for finding in uncounted}
 for name in sorted((only or frozenset()) - names):
  reason = next((f.reason for f in found.not_counted() if f.name == name), "there is no such archive")
  raise RetentionError(f"{directory.folder.path_of(name)}: {reason}", "see `list` for the backups")
 checks = []
 for finding in uncounted:
  if only is None or finding.name in only:
   unread = bool(finding.remedy) or finding in found.incomplete
   reason = f"{finding.reason}; {finding.remedy}" if finding.remedy else finding.reason
   checks.append(_report(Checked(finding.name, "unread" if unread else "bad", reason), done))
 for backup in _chosen(found.backups, only):
  checks.append(_report(_check(directory, backup), done))
 return checks
def _chosen(backups, only):
 return [backup for backup in backups if only is None or backup.name in only]
def _report(checked, done):
 done(checked)
 return checked
def _check(directory, backup):
 folder = directory.folder
 try:
  sha256, size = digest(folder, backup.name, lambda: None)
 except VolumeError as error:
  if not folder.exists(backup.name) and not folder.lists(backup.name):
   return Checked(backup.name, "gone", "pruned meanwhile")
  return Checked(backup.name, "unread", str(error))
 if sha256 == backup.sha256:
  return Checked(backup.name, "good", "")
 found = f"{size} bytes with sha256 {sha256[:12]}…, published as {backup.bytes} bytes with {backup.sha256[:12]}…"
 try:
  with directory.locked():
   return _take_out_of_use(directory, backup, found)
 except RetentionError as error:
  return Checked(backup.name, "bad", f"{found}; it could not be renamed: {error}")
def _take_out_of_use(directory, backup, found):
 now = directory.scan()
 same = next((other for other in now.backups if other.base == backup.base), None)
 if same is not None and (same.bytes, same.sha256) == (backup.bytes, backup.sha256):
  name = publish.mark_bad(directory.folder, backup.base, Kind.ARCHIVE)
  return Checked(backup.name, "bad", f"{found}; it is now {name} and no longer counts")
 if same is not None:
  return Checked(backup.name, "unread", "another archive got its name while it was read; verify it again")
 if finding := next((finding for finding in now.not_counted() if finding.name == backup.name), None):
  return Checked(backup.name, "bad", f"{found}; it does not count: {finding.reason}")
 if backup.base in now.bad:
  bad = file_name(backup.base, Kind.BAD)
  return Checked(backup.name, "bad", f"{found}; another process has renamed it to {bad}, and it no longer counts")
 return Checked(backup.name, "gone", f"{found}; pruned meanwhile")
