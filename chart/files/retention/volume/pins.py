"""Pins: they protect a backup from pruning, for a time or forever."""

import json
from datetime import datetime

from retention.errors import RetentionError
from retention.names import Grammar, Kind, file_name
from retention.volume.directory import Directory
from retention.volume.folder import Folder

PIN_SCHEMA = 1


def pin(directory: Directory, name: str, *, reason: str, expires: datetime | None, now: datetime) -> None:
    """Protect a backup from pruning; an existing pin is replaced.

    Args:
        directory: The database's directory.
        name: The archive's file name.
        reason: Why, as the user says it.
        expires: When the pin expires, UTC; None for never.
        now: The moment, UTC.

    Raises:
        RetentionError: When the backup does not exist, or the volume refuses.
    """
    with directory.locked():
        base = next((backup.base for backup in directory.scan().backups if backup.name == name), None)
        if base is None:
            raise RetentionError(f"{directory.folder.path_of(name)}: not a backup", "see `list` for the backups")
        write(directory.folder, base, reason=reason, expires=expires, now=now)


def write(
    folder: Folder,
    base: str,
    *,
    reason: str,
    expires: datetime | None,
    now: datetime,
    by: str = "",
    replaced: str = "",
) -> None:
    """Write a pin, or replace the existing one; the caller holds the lock, or knows that nothing is lost without it.

    Raises:
        VolumeError: When the volume refuses.
    """
    document = {
        "schema": PIN_SCHEMA,
        "reason": reason,
        "pinned": now.isoformat(timespec="seconds"),
        "expires": None if expires is None else expires.isoformat(timespec="seconds"),
        **({"by": by} if by else {}),
        **({"replaced": replaced} if replaced else {}),
    }
    folder.write(file_name(base, Kind.PIN), (json.dumps(document, ensure_ascii=False) + "\n").encode(errors="replace"))
    folder.sync()


def unpin(directory: Directory, name: str) -> bool:
    """Remove a pin; return False when the backup was not pinned.

    Raises:
        RetentionError: When the name is not an archive's, or the volume refuses.
    """
    folder = directory.folder
    parsed = Grammar(directory.database).parse(name)
    if parsed is None or parsed.kind is not Kind.ARCHIVE:
        raise RetentionError(f"{folder.path_of(name)}: not an archive's name", "see `list` for the backups")
    with directory.locked():
        removed = folder.remove(file_name(parsed.base, Kind.PIN))
        folder.sync()
        return removed
