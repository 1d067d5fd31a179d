"""Chooses archives to restore, pins them for that time, and writes down what is known about them.

A request is a file of `key=value` lines, `<base>.request`, which restore.sh and drill.sh read: docs/architecture.md.
"""

import random
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from retention.errors import ConfigError, LockedError, RetentionError, UsageError, VolumeError
from retention.keyvalue import format_lines
from retention.names import Kind, file_name
from retention.rule.backup import Backup, Scan
from retention.text import later, parse_moment, shown
from retention.volume import pins, verify
from retention.volume.directory import Directory
from retention.volume.folder import volume_error
from retention.volume.sidecars import read_document

NEWEST, PINNED = "newest", "pinned"
_BEFORE = "newest before "

WORDS = f"{NEWEST}, '{_BEFORE}2026-01-01T00:00Z', {PINNED}, or an archive's name"
"""What --backup accepts, for messages."""

LOCK_SECONDS = 10
"""How long a restore waits for the lock of a database before it goes on without it."""

_RESTORE_PER_DUMP = 3
"""A restore takes two to four times as long as the dump did; it also builds the indexes."""


@dataclass(frozen=True, slots=True)
class Request:
    """The request to restore an archive, with the facts from its sidecars.

    Attributes:
        database: Whose archive it is.
        backup: The archive.
        facts: Facts from the metadata, as text; what they lack is missing.
    """

    database: str
    backup: Backup
    facts: Mapping[str, str]

    def text(self) -> str:
        """Return the content of the request's file."""
        values = {
            "database": self.database,
            "base": self.backup.base,
            "bytes": str(self.backup.bytes),
            "sha256": self.backup.sha256,
            **self.facts,
        }
        return format_lines(values)


def select(found: Scan, wanted: str, *, now: datetime) -> Backup:
    """Return the published backup that --backup names.

    Args:
        found: The scan of the database's directory.
        wanted: `newest`, `newest before TIME`, `pinned` (the newest pinned one), or an archive's name.
        now: The moment, UTC; a backup that is dated after it is never the newest.

    Raises:
        UsageError: When the words cannot be understood.
        RetentionError: When there is no such backup.
    """
    words = " ".join(wanted.split())
    if words == NEWEST:
        candidates = [backup for backup in found.backups if backup.time <= now]
    elif words == PINNED:
        candidates = [backup for backup in found.backups if backup.pin is not None and backup.pin.holds(now)]
    elif words.startswith(_BEFORE):
        moment = parse_moment(words.removeprefix(_BEFORE))
        if moment is None:
            raise UsageError(f"{wanted!r}: not a date and time such as 2026-01-01T00:00Z", f"give {WORDS}")
        candidates = [backup for backup in found.backups if backup.time < moment]
    else:
        return _named(found, wanted.strip())
    if not candidates:
        raise RetentionError(f"{found.database}: no backup matches {words!r}", _what_is_there(found))
    return candidates[0]


def _named(found: Scan, name: str) -> Backup:
    name = name if name.endswith(Kind.ARCHIVE.value) else f"{name}{Kind.ARCHIVE.value}"
    for backup in found.backups:
        if backup.name == name:
            return backup
    bad = name.removesuffix(Kind.ARCHIVE.value) in found.bad
    reason = "it was judged bad" if bad else next((f.reason for f in found.not_counted() if f.name == name), "")
    raise RetentionError(
        f"{found.database}: {shown(name)} is not a backup{': ' if reason else ''}{reason}", _what_is_there(found)
    )


def _what_is_there(found: Scan) -> str:
    if not found.backups:
        return "the database has no backups: check that this is the right claim and the right database"
    newest, oldest = found.backups[0].name, found.backups[-1].name
    return f"{len(found.backups)} backups are available, from {oldest} to {newest}; give {WORDS}"


def protect(directory: Directory, backup: Backup, *, now: datetime, length: timedelta) -> str:
    """Pin an archive while it is restored; return a warning, or nothing.

    A pin that holds long enough stays as it is. This waits for no run: a dump may take long, and a restore is urgent. A
    volume that refuses the pin refuses the prune as well.
    """
    reason = f"being restored by {directory.holder}"
    try:
        pins.protect(directory, backup.base, reason=reason, expires=later(now, length), now=now)
    except (VolumeError, LockedError) as error:
        return f"the archive could not be pinned while it is restored: {error}"
    return ""


def check(directory: Directory, backup: Backup) -> None:
    """Read an archive in full and compare it with its sha256.

    Raises:
        RetentionError: When it is damaged (it is then renamed to .bad), or cannot be read.
    """
    (checked,) = verify.verify(directory, frozenset({backup.name}), done=lambda _: None)
    if checked.result == "good":
        if not directory.folder.exists(backup.name) and not directory.folder.lists(backup.name):
            raise RetentionError(f"{backup.name} was deleted while it was read", "choose again")
        return
    older = next((other.name for other in directory.scan().backups if other.time < backup.time), None)
    remedy = f"restore the one before it, {older}" if older else "there is no older backup; see `list` for newer ones"
    raise RetentionError(f"{checked.name} is {checked.result}: {checked.reason}", remedy)


def request(directory: Directory, backup: Backup) -> Request:
    """Return the request for an archive, with facts from its metadata and its last drill."""
    folder = directory.folder
    document = read_document(folder, file_name(backup.base, Kind.METADATA)) or {}
    facts = {
        key: str(document[key])
        for key in ("dbname", "server_version", "client_version", "tables", "rows", "database_bytes")
        if isinstance(document.get(key), (str, int))
    }
    seconds = (read_document(folder, file_name(backup.base, Kind.DRILL)) or {}).get("restore_seconds")
    if not isinstance(seconds, int):
        dumped = document.get("dump_seconds")
        seconds = max(1, dumped * _RESTORE_PER_DUMP) if isinstance(dumped, int) else None
    if seconds is not None:
        facts["expected_seconds"] = str(seconds)
    return Request(directory.database, backup, facts)


def sample(directory: Directory, *, now: datetime, chance: random.Random) -> list[Backup]:
    """Return the backups of a database that a drill restores: the newest, and another one at random."""
    backups = [backup for backup in directory.scan().backups if backup.time <= now]
    return [*backups[:1], *chance.sample(backups[1:], min(1, len(backups) - 1 if backups else 0))]


def write(requests: Path, chosen: Iterable[Request]) -> None:
    """Write request files.

    Raises:
        ConfigError: When the directory cannot be written.
    """
    for one in chosen:
        path = requests / f"{one.backup.base}.request"
        try:
            path.write_text(one.text())
        except OSError as error:
            refusal = volume_error(error, str(path))
            raise ConfigError(refusal.problem, refusal.remedy) from None
