"""A copy is read back in full, and compared with what was sent."""

import hashlib
import json
from collections.abc import Callable, Mapping
from datetime import datetime

from offsite.remote.errors import RemoteError
from offsite.remote.rclone import Rclone
from offsite.rule import names
from offsite.rule.copies import Copy
from offsite.rule.marker import Stored
from offsite.rule.parts import parts_for

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


def read_back(remote: Rclone, place: str, copy: Copy, *, now: datetime, check: Callable[[], None]) -> str:
    """Read a copy back, write next to it that it is sound, and return the name of that object.

    What differs is read once more: a copy that was only changed on its way here is not lost for it.

    Args:
        remote: The destination.
        place: The folder of the copy's database.
        copy: The copy.
        now: The moment to write down, UTC.
        check: Called again and again; may raise to end it.

    Raises:
        ChangedError: When it is not what was sent.
        RemoteError: When it cannot be read, or the result not be written.
    """
    for stored in copy.marker.objects.values():
        path = f"{place}/{stored.name}"
        try:
            compare(remote, path, stored, check)
        except ChangedError:
            compare(remote, path, stored, check)
    return _judge(remote, place, names.check_name(copy.base, copy.marker.attempt, now), "sound", copy)


def disown(remote: Rclone, place: str, copy: Copy, *, now: datetime) -> str:
    """Write next to a damaged copy that it does not count, and return the name of that object.

    Nothing of it is deleted: if the volume no longer has the backup, what can still be read of it is all that is left.

    Raises:
        RemoteError: When the destination refuses.
    """
    return _judge(remote, place, names.damaged_name(copy.base, copy.marker.attempt, now), "damaged", copy)


def _judge(remote: Rclone, place: str, name: str, result: str, copy: Copy) -> str:
    note(remote, f"{place}/{name}", {"schema": 1, "result": result, "objects": len(copy.marker.objects)})
    return name


def note(remote: Rclone, path: str, document: Mapping[str, object]) -> None:
    """Write next to a copy what was found out about it.

    Raises:
        RemoteError: When the destination refuses.
    """
    content = (json.dumps(document) + "\n").encode()
    remote.upload(path, [content], len(content), parts_for(len(content)))
