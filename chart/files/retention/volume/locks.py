"""The lock of a directory on the volume: flock on a file whose content names the holder."""

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
    """Whether a stop was requested; checked at each point where stopping leaves nothing half done."""

    __slots__ = ("requested",)

    def __init__(self) -> None:
        self.requested = False

    def request(self, *_: object) -> None:
        """Request a stop; can be used as a signal handler."""
        self.requested = True

    def check(self) -> None:
        """Raise StoppedError once a stop was requested."""
        if self.requested:
            raise StoppedError("stopped by SIGTERM", "the next run continues from here")


@contextlib.contextmanager
def locked(folder: Folder, name: str, *, seconds: float, holder: str, stop: Stop | None = None) -> Iterator[None]:
    """Hold the lock `name` of a folder.

    Args:
        folder: The directory.
        name: The lock file's name in it.
        seconds: How long to try; 0 tries once.
        holder: How the lock names us, for the messages of others.
        stop: Ends the waiting early.

    Raises:
        LockedError: When another process held it all the time; names that holder.
        VolumeError: When the lock file cannot be made, as on a read-only volume.
        StoppedError: When a stop was requested.
    """
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


def _try(folder: Folder, name: str) -> int | None:
    """Return the descriptor that holds the lock, or None when another process holds it."""
    fd = folder.open_lock(name)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # The file may have been removed by hand: a lock on a file without a name keeps no other process out.
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


def _write_holder(fd: int, holder: str) -> None:
    # Only for messages: a full volume must not prevent a prune.
    with contextlib.suppress(OSError):
        os.ftruncate(fd, 0)
        os.pwrite(fd, f"{holder} since {datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}\n".encode(), 0)


def _holder(folder: Folder, name: str) -> str:
    with contextlib.suppress(VolumeError):
        words = (folder.read(name) or b"").decode(errors="replace").split()
        text = "".join(char for char in " ".join(words) if char.isprintable())
        if text:
            return text[:200]
    return "an unknown process"
