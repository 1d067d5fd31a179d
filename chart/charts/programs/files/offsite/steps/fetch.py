# Without comments: they are in the project's file of this name.
import contextlib
import hashlib
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from offsite.age import Identity, decrypted
from offsite.remote.rclone import Rclone
from offsite.rule.copies import Copies, Copy
from offsite.rule.marker import AGE, Stored
from offsite.rule.names import Part
from retention.errors import ExitCode, RetentionError, UsageError, VolumeError
from retention.names import Kind, file_name, parse_stamp, stamp_of
from retention.rule.backup import SKEW
from retention.text import later, parse_moment
from retention.volume import pins
from retention.volume.checksum import sha256_line
from retention.volume.directory import Directory
from retention.volume.folder import Folder, close_quietly, volume_error
NEWEST = "newest"
_BEFORE = "newest before "
_MOST_SMALL = 256 * 1024 * 1024
_MOST_METADATA = 64 * 1024
_PINNED_FOR: Final = timedelta(days=7)
_AGAIN = "the copy is damaged: fetch another backup (`kubectl cnpg-backup offsite list`)"
class NotWhatWasSentError(RetentionError):
 pass
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
  self._remote = remote
  self._place = place
  self._copy = copy
  self._identities = identities
  self._check = check
  if copy.marker.encryption == AGE and not identities:
   raise UsageError(
    f"{copy.base} is encrypted, and there is no identity",
    "give the Secret that holds it: --identity-secret",
   )
 def run(self, directory, *, now):
  folder, base = directory.folder, self._copy.base
  archive = file_name(base, Kind.ARCHIVE)
  partial = f".{archive}{Kind.PARTIAL.value}"
  with directory.locked():
   if there := self._compare_with_volume(directory):
    return there
   metadata = self._metadata(now)
   roles = self._small(Part.GLOBALS, _MOST_SMALL)
   try:
    self._write(folder, partial)
    for kind in (Kind.PIN, Kind.DRILL, Kind.GLOBALS):
     folder.remove(file_name(base, kind))
    if roles is not None:
     folder.write(file_name(base, Kind.GLOBALS), roles)
    folder.write(file_name(base, Kind.SHA256), sha256_line(self._stored(Part.ARCHIVE).sha256, archive))
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
  archive, sha256 = file_name(base, Kind.ARCHIVE), self._stored(Part.ARCHIVE).sha256
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
 def _stored(self, part):
  return self._copy.marker.objects[part.value]
 def _small(self, part, most):
  stored = self._copy.marker.objects.get(part.value)
  if stored is None:
   return None
  if stored.bytes > most:
   raise NotWhatWasSentError(
    f"{stored.name} has {stored.bytes} bytes, and at most {most} are expected", _AGAIN
   )
  content = bytearray()
  self._stream(stored, content.extend)
  return bytes(content)
 def _metadata(self, now):
  content, stored = self._small(Part.METADATA, _MOST_METADATA) or b"", self._stored(Part.ARCHIVE)
  try:
   document = json.loads(content)
   agrees = (document["bytes"], document["sha256"]) == (stored.bytes, stored.sha256)
  except (ValueError, RecursionError, KeyError, TypeError):
   agrees = False
  if not agrees:
   raise NotWhatWasSentError(f"the metadata of {self._copy.base} are not those of the archive", _AGAIN)
  marker = self._copy.marker
  document["fetched"] = {
   "at": now.isoformat(timespec="seconds"),
   "from": f"{self._remote.destination.path}/{self._place}",
   "uploaded": stamp_of(marker.uploaded),
  }
  return (json.dumps(document, indent=2, ensure_ascii=False) + "\n").encode(errors="replace")
 def _write(self, folder, name):
  path, fd = folder.path_of(name), folder.create(name)
  try:
   def write(piece):
    view = piece
    try:
     while view:
      view = view[os.write(fd, view) :]
    except OSError as error:
     raise volume_error(error, path) from None
   self._stream(self._stored(Part.ARCHIVE), write)
   try:
    os.fsync(fd)
   except OSError as error:
    raise volume_error(error, path) from None
  finally:
   close_quietly(fd)
 def _stream(self, stored, use):
  outside, inside, count = hashlib.sha256(), hashlib.sha256(), 0
  path = f"{self._place}/{stored.name}"
  with self._remote.reading(path) as (readinto, size):
   if size != stored.stored_bytes:
    raise NotWhatWasSentError(f"{path} has {size} bytes instead of {stored.stored_bytes}", _AGAIN)
   def read(view):
    got = readinto(view)
    outside.update(view[:got])
    return got
   pieces = decrypted(read, self._identities) if self._copy.marker.encryption == AGE else _pieces(read)
   for piece in pieces:
    self._check()
    inside.update(piece)
    count += len(piece)
    use(piece)
  if count != stored.bytes or (inside.hexdigest(), outside.hexdigest()) != (stored.sha256, stored.stored_sha256):
   raise NotWhatWasSentError(f"{path} is not what was copied: its sha256 differs from the marker's", _AGAIN)
def _pieces(read):
 memory = memoryview(bytearray(1 << 20))
 while count := read(memory):
  yield memory[:count]
