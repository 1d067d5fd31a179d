# Without comments: they are in the project's file of this name.
import contextlib
import errno
import fcntl
import os
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from retention.errors import LockedError, StoppedError, VolumeError
from retention.volume.folder import Folder, close_quietly, volume_error
_POLL_SECONDS = 0.2
class Stop:
 __slots__ = ("requested",)
 def __init__(self):
  self.requested = False
 def request(self, *_):
  self.requested = True
 def check(self):
  if self.requested:
   raise StoppedError("stopped by SIGTERM", "the next run continues from here")
@contextlib.contextmanager
def locked(folder, name, *, seconds, holder, stop = None):
 deadline = time.monotonic() + seconds
 while (fd := _try(folder, name)) is None:
  if stop is not None:
   stop.check()
  if time.monotonic() >= deadline:
   raise LockedError(
    f"{folder.path_of(name)}: locked for {round(seconds)}s by {_holder(folder, name)}",
    "wait until that run has ended; its lock ends with its process",
   )
  time.sleep(_POLL_SECONDS)
 try:
  _write_holder(fd, holder)
  yield
 finally:
  close_quietly(fd)
def _try(folder, name):
 fd = folder.open_lock(name)
 try:
  fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
  status = folder.stat(name)
  if status is not None and os.path.samestat(status, os.fstat(fd)):
   return fd
 except OSError as error:
  close_quietly(fd)
  if error.errno in (errno.EWOULDBLOCK, errno.EACCES, errno.EINTR):
   return None
  raise volume_error(error, folder.path_of(name)) from None
 except BaseException:
  close_quietly(fd)
  raise
 close_quietly(fd)
 return None
def _write_holder(fd, holder):
 with contextlib.suppress(OSError):
  os.ftruncate(fd, 0)
  os.pwrite(fd, f"{holder} since {datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}\n".encode(), 0)
def _holder(folder, name):
 with contextlib.suppress(VolumeError):
  words = (folder.read(name) or b"").decode(errors="replace").split()
  text = "".join(char for char in " ".join(words) if char.isprintable())
  if text:
   return text[:200]
 return "an unknown process"
