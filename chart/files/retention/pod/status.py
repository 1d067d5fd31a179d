"""Reads and changes `status.json`, which all runs and drills of a volume share: docs/architecture.md."""

from collections.abc import Callable

from retention.errors import RetentionError
from retention.names import STATUS, STATUS_LOCK
from retention.volume import locks
from retention.volume.folder import Folder

_LOCK_SECONDS = 30


_MOST_BYTES = 16 * 1024 * 1024


def read(root: Folder) -> bytes | None:
    """Return the file's content, or None when there is none.

    Raises:
        VolumeError: When it cannot be read.
    """
    return root.read(STATUS, _MOST_BYTES)


def update(root: Folder, change: Callable[[bytes | None], tuple[bytes, str]], *, holder: str) -> str:
    """Change the file under its lock.

    Args:
        root: The volume.
        change: Gives the new content for the earlier one, and a warning or nothing.
        holder: How the lock names us.

    Returns:
        A warning, or nothing: a report must not fail what it reports.
    """
    try:
        with locks.locked(root, STATUS_LOCK, seconds=_LOCK_SECONDS, holder=holder):
            content, warning = change(read(root))
            root.write(STATUS, content)
            root.sync()
    except RetentionError as error:
        return f"status.json was not written: {error}"
    return warning
