"""Room on the volume for the small files of a backup.

A dump may leave no room at all. Without its sidecars it cannot be published, and only what is published makes the
retention rule delete anything: the volume would stay full. So a file at its root keeps some room, and goes when that
room is needed.
"""

import contextlib
import errno
import os
import stat

from retention.errors import VolumeError
from retention.names import RESERVE
from retention.volume.folder import Folder

_BYTES = 256 * 1024
"""Enough for the sidecars of some backups, roles included."""

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)


def keep(root: Folder) -> None:
    """Make the file unless it is there; a volume without room for it has none until the next run."""
    with contextlib.suppress(VolumeError):
        status = root.stat(RESERVE)
        if status is None or not stat.S_ISREG(status.st_mode) or status.st_size != _BYTES:
            # Random, since some file systems need no room for zeros.
            root.write(RESERVE, os.urandom(_BYTES))
            root.sync()


def release(root: Folder, error: VolumeError) -> bool:
    """Give the room back after an error; return whether there may be more room than before it."""
    if error.errno not in _NO_ROOM:
        return False
    with contextlib.suppress(VolumeError):
        if root.remove(RESERVE):
            root.sync()
            return True
    return False
