"""An object is read back in full, and compared with what was sent."""

import hashlib
from collections.abc import Callable

from offsite.remote.errors import RemoteError
from offsite.remote.rclone import Rclone
from offsite.rule.marker import Stored

_PIECE = 1024 * 1024


class ChangedError(RemoteError):
    """The destination has something else than what was sent."""


def compare(remote: Rclone, path: str, stored: Stored, check: Callable[[], None]) -> None:
    """Return if an object is what was sent.

    Raises:
        ChangedError: When it is not.
        MissingError: When it is not there.
        RemoteError: When it cannot be read.
    """
    found, memory, total = hashlib.sha256(), memoryview(bytearray(_PIECE)), 0
    with remote.reading(path) as (readinto, _):
        while count := readinto(memory):
            check()
            found.update(memory[:count])
            total += count
    if total != stored.stored_bytes or found.hexdigest() != stored.stored_sha256:
        raise ChangedError(
            f"{path} reads back as {total} bytes with sha256 {found.hexdigest()[:12]}…, sent were "
            f"{stored.stored_bytes} bytes with {stored.stored_sha256[:12]}…",
            "it no longer counts; the next run copies the backup again if the volume has it; check the store",
        )
