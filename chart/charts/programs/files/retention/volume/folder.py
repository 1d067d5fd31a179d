# Without comments: they are in the project's file of this name.
import contextlib
import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Self
from retention.errors import VolumeError
from retention.names import temporary_name
SMALL_FILE = 64 * 1024
_READING = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_FIRST_READ = 4096
_LOCKS = "use storage that supports flock; NFS takes version 4, or a running lock service on node and server"
_REMEDIES = {
 errno.EROFS: "mount the volume read-write; if it became read-only by itself, its storage has a fault",
 errno.ENOSPC: "free space on the volume, or enlarge its claim",
 errno.EDQUOT: "raise the quota or free space",
 errno.EACCES: "make the user that runs this the owner of the files (fsGroup of the pod)",
 errno.EPERM: "make the user that runs this the owner of the files, and check that they are not immutable",
 errno.EIO: "the storage reports a fault: check the volume first",
 errno.ESTALE: "the storage has lost the file's handle: run this again; if it persists, mount the volume again",
 errno.ETIMEDOUT: "the storage does not answer: check its server, then run this again",
 errno.EFBIG: "raise the limit of the size of files (ulimit -f), or use a file system that allows larger ones",
 errno.EMFILE: "raise the limit of open files (ulimit -n)",
 errno.ENFILE: "the node has too many open files: look for what keeps them open there",
 errno.ENOMEM: "raise the memory limit of the container",
 **dict.fromkeys((errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP), _LOCKS),
 errno.ELOOP: "links are not followed here: put a real file or directory in its place",
 errno.ENOTDIR: "give a directory",
 errno.EISDIR: "a directory is in the place of a file: move it away",
 errno.ENOENT: "check the path",
 errno.ENAMETOOLONG: "check the path",
}
def volume_error(error, path):
 number = error.errno or 0
 return VolumeError(f"{path}: {os.strerror(number) if number else error}", _REMEDIES.get(number, ""), number)
@contextlib.contextmanager
def _volume_errors(path):
 try:
  yield
 except OSError as error:
  raise volume_error(error, path) from None
class Folder:
 __slots__ = ("_fd", "path")
 def __init__(self, fd, path):
  self._fd = fd
  self.path = path
 @classmethod
 def open(cls, path):
  with _volume_errors(str(path)):
   try:
    return cls(os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC), str(path))
   except ValueError as error:
    raise VolumeError(f"{path!r}: {error}", "check the path") from None
 def child(self, name):
  path = self.path_of(name)
  with _volume_errors(path):
   flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
   return Folder(os.open(name, flags, dir_fd=self._fd), path)
 def __enter__(self):
  return self
 def __exit__(self, *_):
  close_quietly(self._fd)
 def path_of(self, name):
  return f"{self.path.rstrip('/')}/{name}"
 def space(self):
  with _volume_errors(self.path):
   found = os.fstatvfs(self._fd)
  used = (found.f_blocks - found.f_bfree) * found.f_frsize
  return used + found.f_bavail * found.f_frsize, used
 def entries(self):
  with _volume_errors(self.path), os.scandir(self._fd) as entries:
   yield from entries
 def stat(self, name):
  with _volume_errors(self.path_of(name)):
   try:
    return os.stat(name, dir_fd=self._fd, follow_symlinks=False)
   except FileNotFoundError:
    return None
 def names(self):
  return {entry.name for entry in self.entries()}
 def lists(self, name):
  return any(entry.name == name for entry in self.entries())
 def exists(self, name):
  return self.stat(name) is not None
 def open_file(self, name):
  with _volume_errors(self.path_of(name)):
   fd = os.open(name, _READING, dir_fd=self._fd)
   with _closed_on_error(fd):
    if not stat.S_ISREG(os.fstat(fd).st_mode):
     raise self._irregular(name)
  return fd
 def read(
  self, name, most = SMALL_FILE, *, regular = False, end = None
 ):
  try:
   fd = os.open(name, _READING, dir_fd=self._fd)
  except FileNotFoundError:
   return None
  except OSError as error:
   raise volume_error(error, self.path_of(name)) from None
  try:
   if not regular and not stat.S_ISREG(os.fstat(fd).st_mode):
    raise self._irregular(name)
   content = os.read(fd, _FIRST_READ)
   while end is None or not content.endswith(end):
    chunk = os.read(fd, max(_FIRST_READ, most + 1 - len(content)))
    content += chunk
    if not chunk or len(content) > most:
     break
  except OSError as error:
   raise volume_error(error, self.path_of(name)) from None
  finally:
   close_quietly(fd)
  if len(content) > most:
   raise VolumeError(
    f"{self.path_of(name)}: larger than {most} bytes", "this program writes no such file: move it away"
   )
  return content
 def read_listed(self, name, most = SMALL_FILE):
  content = self.read(name, most)
  if content is None and self.lists(name):
   content = self.read(name, most)
   if content is None:
    raise self._missing(name)
  return content
 def _missing(self, name):
  return VolumeError(
   f"{self.path_of(name)}: its name is in the directory, but there seems to be no such file",
   "check the storage: run this again once it is sound",
   errno.ENOENT,
  )
 def _irregular(self, name):
  return VolumeError(f"{self.path_of(name)}: not a regular file", "move it away")
 def write(self, name, content):
  temporary = temporary_name(name)
  with _volume_errors(self.path_of(temporary)), contextlib.suppress(FileNotFoundError):
   os.unlink(temporary, dir_fd=self._fd)
  with _volume_errors(self.path_of(name)):
   flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
   fd = os.open(temporary, flags, 0o600, dir_fd=self._fd)
   try:
    _write_all(fd, content)
    os.fsync(fd)
   finally:
    os.close(fd)
   os.rename(temporary, name, src_dir_fd=self._fd, dst_dir_fd=self._fd)
 def create(self, name):
  with _volume_errors(self.path_of(name)):
   with contextlib.suppress(FileNotFoundError):
    os.unlink(name, dir_fd=self._fd)
   return os.open(
    name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=self._fd
   )
 def make_child(self, name):
  with _volume_errors(self.path_of(name)):
   with contextlib.suppress(FileExistsError):
    os.mkdir(name, 0o700, dir_fd=self._fd)
   os.fsync(self._fd)
 def append(self, name, content):
  with _volume_errors(self.path_of(name)):
   flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
   fd = os.open(name, flags, 0o600, dir_fd=self._fd)
   try:
    size = self._own(fd, name).st_size
    cut_off = size > 0 and os.pread(fd, 1, size - 1) != b"\n"
    _write_all(fd, b"\n" + content if cut_off else content)
    os.fsync(fd)
   finally:
    os.close(fd)
 def open_lock(self, name):
  with _volume_errors(self.path_of(name)):
   flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
   fd = os.open(name, flags, 0o600, dir_fd=self._fd)
   with _closed_on_error(fd):
    self._own(fd, name)
  return fd
 def _own(self, fd, name):
  status = os.fstat(fd)
  if not stat.S_ISREG(status.st_mode):
   raise self._irregular(name)
  if status.st_nlink > 1:
   raise VolumeError(
    f"{self.path_of(name)}: has a second name (a hard link), and would be changed under both", "remove it"
   )
  return status
 def rename(self, old, new):
  if self.exists(new):
   raise VolumeError(
    f"{self.path_of(new)}: already exists", "nothing was renamed: move one of the two files away"
   )
  with _volume_errors(self.path_of(old)):
   os.rename(old, new, src_dir_fd=self._fd, dst_dir_fd=self._fd)
 def remove(self, name):
  with _volume_errors(self.path_of(name)):
   try:
    os.unlink(name, dir_fd=self._fd)
   except FileNotFoundError:
    return False
   return True
 def remove_listed(self, name):
  if self.remove(name):
   return True
  if not self.lists(name):
   return False
  if not self.remove(name):
   raise self._missing(name)
  return True
 def sync(self):
  with _volume_errors(self.path):
   os.fsync(self._fd)
def close_quietly(fd):
 with contextlib.suppress(OSError):
  os.close(fd)
@contextlib.contextmanager
def _closed_on_error(fd):
 try:
  yield
 except BaseException:
  close_quietly(fd)
  raise
def _write_all(fd, content):
 view = memoryview(content)
 while view:
  view = view[os.write(fd, view) :]
