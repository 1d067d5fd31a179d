# Without comments: they are in the project's file of this name.
import hashlib
import os
from collections.abc import Iterator
from types import TracebackType
from typing import Self
from offsite.age import Recipient, encrypted, encrypted_size
from retention.errors import RetentionError
from retention.volume.folder import Folder, close_quietly, volume_error
_PIECE = 1024 * 1024
class DamagedError(RetentionError):
 pass
class Source:
 def __init__(self, size, recipients):
  self.size = encrypted_size(size, len(recipients)) if recipients else size
  self.content = hashlib.sha256()
  self.stored = hashlib.sha256()
  self.stored_md5 = hashlib.md5(usedforsecurity=False)
  self._recipients = recipients
 def _fill(self, view):
  raise NotImplementedError
 def _readinto(self, view):
  count = self._fill(view)
  self.content.update(view[:count])
  return count
 def pieces(self):
  pieces = encrypted(self._readinto, self._recipients) if self._recipients else self._plain()
  for piece in pieces:
   self.stored.update(piece)
   self.stored_md5.update(piece)
   yield piece
 def _plain(self):
  memory = memoryview(bytearray(_PIECE))
  while count := self._readinto(memory):
   yield memory[:count]
class Small(Source):
 def __init__(self, content, recipients):
  super().__init__(len(content), recipients)
  self._left = content
 def _fill(self, view):
  taken, self._left = self._left[: len(view)], self._left[len(view) :]
  view[: len(taken)] = taken
  return len(taken)
class Archive(Source):
 def __init__(self, folder, name, size, sha256, recipients):
  super().__init__(size, recipients)
  self._path = folder.path_of(name)
  self._expected = size, sha256
  self._place = 0
  self._fd = folder.open_file(name)
  os.posix_fadvise(self._fd, 0, 0, os.POSIX_FADV_SEQUENTIAL)
 def __enter__(self):
  return self
 def __exit__(self, *_):
  close_quietly(self._fd)
 def _fill(self, view):
  try:
   count = os.readv(self._fd, [view])
   os.posix_fadvise(self._fd, self._place, count, os.POSIX_FADV_DONTNEED)
  except OSError as error:
   raise volume_error(error, self._path) from None
  self._place += count
  if not count:
   self._compare()
  return count
 def _compare(self):
  size, sha256 = self._expected
  if self._place != size or self.content.hexdigest() != sha256:
   raise DamagedError(
    f"{self._path} is not what was published: {self._place} bytes with sha256 "
    f"{self.content.hexdigest()[:12]}…, published as {size} bytes with {sha256[:12]}…",
    "check the storage; `kubectl cnpg-backup verify` marks it bad; it was not copied",
   )
