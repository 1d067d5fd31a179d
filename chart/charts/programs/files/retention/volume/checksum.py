# Without comments: they are in the project's file of this name.
import hashlib
import os
import re
from collections.abc import Callable
from retention.volume.folder import Folder, close_quietly, volume_error
_CHUNK = 4 * 1024 * 1024
_SHA256 = re.compile(r"[0-9a-f]{64}")
def digest(
 folder, name, check, each = None
):
 fd = folder.open_file(name)
 try:
  os.fsync(fd)
  os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
  os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_SEQUENTIAL)
  total, sha256, buffer = 0, hashlib.sha256(), memoryview(bytearray(_CHUNK))
  while count := os.readv(fd, [buffer]):
   sha256.update(buffer[:count])
   if each is not None:
    each(buffer[:count])
   os.posix_fadvise(fd, total, count, os.POSIX_FADV_DONTNEED)
   total += count
   check()
  return sha256.hexdigest(), total
 except OSError as error:
  raise volume_error(error, folder.path_of(name)) from None
 finally:
  close_quietly(fd)
def is_sha256(text):
 return _SHA256.fullmatch(text) is not None
def parse_sha256(content):
 words = content.split(maxsplit=1)
 text = words[0].decode(errors="replace") if words else ""
 return text if is_sha256(text) else None
def sha256_line(sha256, archive):
 return f"{sha256}  {archive}\n".encode()
