"""A volume like an NFS export whose server runs no lock service: everything works, but `flock` fails with ENOLCK.

Started by the provisioner inside the node, as a script of its own: lockless.py FOLDER MOUNT. It ends when MOUNT is
unmounted.
"""

import errno
import os
import sys
from collections.abc import Iterable
from pathlib import Path

import mfusepy as fuse  # type: ignore[import-untyped]


class Lockless(fuse.Operations):  # type: ignore[misc]
    """What lies in a folder, without locks. Paths come from the kernel and begin with a slash."""

    use_ns = True

    def __init__(self, folder: Path) -> None:
        self._folder = folder.resolve()

    def _at(self, path: str) -> Path:
        return Path(f"{self._folder}{path}")

    def _give(self, path: str) -> None:
        """Give what was made to who made it: this process is root."""
        uid, gid, _ = fuse.fuse_get_context()
        os.chown(self._at(path), uid, gid, follow_symlinks=False)

    def getattr(self, path: str, _handle: int | None = None) -> dict[str, int]:
        found = self._at(path).lstat()
        names = {name: getattr(found, name) for name in ("st_mode", "st_nlink", "st_uid", "st_gid", "st_size")}
        return names | {f"st_{kind}time": getattr(found, f"st_{kind}time_ns") for kind in "amc"}

    def readdir(self, path: str, _handle: int) -> Iterable[str]:
        return [".", "..", *(one.name for one in self._at(path).iterdir())]

    def statfs(self, _path: str) -> dict[str, int]:
        found = os.statvfs(self._folder)
        names = ("f_bsize", "f_frsize", "f_blocks", "f_bfree", "f_bavail", "f_namemax")
        return {name: getattr(found, name) for name in names}

    def mkdir(self, path: str, mode: int) -> int:
        self._at(path).mkdir(mode)
        self._give(path)
        return 0

    def create(self, path: str, mode: int, _info: object = None) -> int:
        handle = os.open(self._at(path), os.O_RDWR | os.O_CREAT, mode)
        self._give(path)
        return handle

    def open(self, path: str, flags: int) -> int:
        # The kernel says at which offset to append.
        return os.open(self._at(path), flags & ~os.O_APPEND)

    def read(self, _path: str, size: int, offset: int, handle: int) -> bytes:
        return os.pread(handle, size, offset)

    def write(self, _path: str, data: bytes, offset: int, handle: int) -> int:
        return os.pwrite(handle, data, offset)

    def truncate(self, path: str, length: int, _handle: int | None = None) -> int:
        os.truncate(self._at(path), length)
        return 0

    def release(self, _path: str, handle: int) -> int:
        os.close(handle)
        return 0

    def fsync(self, _path: str, _only_data: int, handle: int) -> int:
        os.fsync(handle)
        return 0

    def rename(self, old: str, new: str, _flags: int = 0) -> int:
        self._at(old).rename(self._at(new))
        return 0

    def unlink(self, path: str) -> int:
        self._at(path).unlink()
        return 0

    def rmdir(self, path: str) -> int:
        self._at(path).rmdir()
        return 0

    def chmod(self, path: str, mode: int) -> int:
        self._at(path).chmod(mode)
        return 0

    def chown(self, path: str, uid: int, gid: int) -> int:
        os.chown(self._at(path), uid, gid, follow_symlinks=False)
        return 0

    def flock(self, _path: str, _handle: int, _operation: int) -> int:
        raise fuse.FuseOSError(errno.ENOLCK)


if __name__ == "__main__":
    fuse.FUSE(Lockless(Path(sys.argv[1])), sys.argv[2], foreground=True, allow_other=True, default_permissions=True)
