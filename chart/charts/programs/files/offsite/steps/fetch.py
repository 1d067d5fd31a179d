# Without comments: they are in the project's file of this name.
import contextlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from offsite.age import Identity
from offsite.remote.rclone import Rclone
from offsite.rule.copies import Copies, Copy
from offsite.rule.names import Part
from offsite.steps.content import Content
from retention.errors import ExitCode, RetentionError, UsageError, VolumeError
from retention.names import Kind, file_name, parse_stamp, stamp_of
from retention.rule.backup import SKEW
from retention.text import later, parse_moment
from retention.volume import pins
from retention.volume.checksum import sha256_line
from retention.volume.directory import Directory
NEWEST = "newest"
_BEFORE = "newest before "
_MOST_SMALL = 256 * 1024 * 1024
_PINNED_FOR: Final = timedelta(days=7)
def select(copies, wish, *, now):
 wish = wish.strip()
 candidates = [copy for copy in copies.complete if copy.time <= now + SKEW]
 if wish.startswith(_BEFORE):
  text = wish.removeprefix(_BEFORE).strip()
  moment = parse_stamp(text) or parse_moment(text)
  if moment is None:
   raise UsageError(f"{text!r} is not a date and time", "write one such as 2026-01-31T04:00:00Z")
  candidates = [copy for copy in candidates if copy.time < moment]
 elif wish != NEWEST:
  base = wish.removesuffix(Kind.ARCHIVE.value)
  candidates = [copy for copy in copies.complete if copy.base == base]
 if candidates:
  return candidates[0]
 some = ", ".join(copy.base for copy in copies.complete[:3])
 raise UsageError(
  f"{copies.database}: there is no copy {wish!r}",
  f"the newest copies are {some}" if some else "no copy of this database is complete",
 )
@dataclass(frozen=True, slots=True)
class Fetched:
 name: str
 was_there: bool
class Fetch:
 def __init__(
  self, remote, place, copy, identities, check
 ):
  self._from = f"{remote.destination.path}/{place}"
  self._copy = copy
  self._content = Content(remote, place, copy, identities, check)
 def run(self, directory, *, now):
  folder, base = directory.folder, self._copy.base
  archive = file_name(base, Kind.ARCHIVE)
  partial = f".{archive}{Kind.PARTIAL.value}"
  with directory.locked():
   if there := self._compare_with_volume(directory):
    return there
   metadata = self._metadata(now)
   roles = self._content.small(Part.GLOBALS, _MOST_SMALL)
   try:
    self._content.write_archive(folder, partial)
    for kind in (Kind.PIN, Kind.DRILL, Kind.GLOBALS):
     folder.remove(file_name(base, kind))
    if roles is not None:
     folder.write(file_name(base, Kind.GLOBALS), roles)
    sha256 = self._content.stored(Part.ARCHIVE).sha256
    folder.write(file_name(base, Kind.SHA256), sha256_line(sha256, archive))
    folder.write(file_name(base, Kind.METADATA), metadata)
    folder.sync()
    folder.rename(partial, archive)
    folder.sync()
   except BaseException:
    with contextlib.suppress(VolumeError):
     folder.remove(partial)
    raise
   expires = later(max(now, self._copy.time), _PINNED_FOR)
   pins.protect(directory, base, reason="fetched from the copies outside", expires=expires, now=now)
  return Fetched(archive, was_there=False)
 def _compare_with_volume(self, directory):
  base, found = self._copy.base, directory.scan()
  archive, sha256 = file_name(base, Kind.ARCHIVE), self._content.stored(Part.ARCHIVE).sha256
  if any(backup.base == base and backup.sha256 == sha256 for backup in found.backups):
   return Fetched(archive, was_there=True)
  taken = [archive, file_name(base, Kind.BAD), file_name(base, Kind.STAGED)]
  listed = directory.folder.names()
  if name := next((name for name in taken if name in listed), None):
   error = RetentionError(
    f"{directory.folder.path_of(name)} is there, and is not the backup that was copied",
    "move it away, then fetch again",
   )
   error.exit_code = ExitCode.REFUSED
   raise error
  return None
 def _metadata(self, now):
  document = self._content.metadata()
  document["fetched"] = {
   "at": now.isoformat(timespec="seconds"),
   "from": self._from,
   "uploaded": stamp_of(self._copy.marker.uploaded),
  }
  return (json.dumps(document, indent=2, ensure_ascii=False) + "\n").encode(errors="replace")
