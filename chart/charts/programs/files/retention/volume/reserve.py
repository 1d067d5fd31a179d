# Without comments: they are in the project's file of this name.
import contextlib
import errno
import os
import stat
from retention.errors import VolumeError
from retention.names import RESERVE
from retention.volume.folder import Folder
_BYTES = 256 * 1024
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)
def keep(root):
 with contextlib.suppress(VolumeError):
  status = root.stat(RESERVE)
  if status is None or not stat.S_ISREG(status.st_mode) or status.st_size != _BYTES:
   root.write(RESERVE, os.urandom(_BYTES))
   root.sync()
def release(root, error):
 if error.errno not in _NO_ROOM:
  return False
 with contextlib.suppress(VolumeError):
  if root.remove(RESERVE):
   root.sync()
   return True
 return False
