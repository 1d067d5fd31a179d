# Without comments: they are in the project's file of this name.
import hashlib
import json
import os
from collections.abc import Callable, Iterator
from typing import Any
from offsite.age import Identity, decrypted
from offsite.remote.rclone import Rclone
from offsite.rule.copies import Copy
from offsite.rule.marker import AGE, Stored
from offsite.rule.names import Part
from retention.errors import RetentionError, UsageError
from retention.volume.folder import Folder, close_quietly, volume_error
_MOST_METADATA = 64 * 1024
_AGAIN = "the copy is damaged: fetch another backup (`kubectl cnpg-backup offsite list`)"
class NotWhatWasSentError(RetentionError):
 pass
class Content:
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
 def stored(self, part):
  return self._copy.marker.objects[part.value]
 def small(self, part, most):
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
 def metadata(self):
  content, stored = self.small(Part.METADATA, _MOST_METADATA) or b"", self.stored(Part.ARCHIVE)
  try:
   document: dict[str, Any] = json.loads(content)
   agrees = (document["bytes"], document["sha256"]) == (stored.bytes, stored.sha256)
  except (ValueError, RecursionError, KeyError, TypeError):
   agrees = False
  if not agrees:
   raise NotWhatWasSentError(f"the metadata of {self._copy.base} are not those of the archive", _AGAIN)
  return document
 def write_archive(self, folder, name):
  path, fd = folder.path_of(name), folder.create(name)
  try:
   def write(piece):
    view = piece
    try:
     while view:
      view = view[os.write(fd, view) :]
    except OSError as error:
     raise volume_error(error, path) from None
   self._stream(self.stored(Part.ARCHIVE), write)
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
