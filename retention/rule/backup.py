"""Values: a backup, its pin, and the scan of a directory. Nothing here reads a disk."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final, NamedTuple

from retention.names import Kind, file_name


@dataclass(frozen=True, slots=True)
class Pin:
    """Why and for how long a backup is protected from pruning.

    Attributes:
        reason: As the user gave it, or why the pin cannot be read (it holds all the same).
        expires: When it expires; None for never.
        by: `drill` for the pin of a drill, empty for a user's; a drill removes only its own pins.
        replaced: The content of the pin's file before a drill replaced it; empty for none.
    """

    reason: str
    expires: datetime | None
    by: str = ""
    replaced: str = ""

    def holds(self, now: datetime) -> bool:
        """Return whether the pin still protects its backup."""
        return self.expires is None or now < self.expires


class Backup(NamedTuple):
    """A published backup.

    Attributes:
        base: `<database>-YYYYMMDD-HHMMSS`.
        time: When the dump began, UTC, by its name.
        bytes: The archive's size.
        sha256: The expected sha256 of the archive's content.
        tables: How many tables are in it; None if the metadata lacks that.
        compression: As given to pg_dump; empty if the metadata lacks that.
        pin: The pin, also one that has expired.
    """

    base: str
    time: datetime
    bytes: int
    sha256: str
    tables: int | None
    compression: str
    pin: Pin | None

    @property
    def name(self) -> str:
        """The archive's file name."""
        return f"{self.base}.dump"


@dataclass(frozen=True, slots=True)
class Finding:
    """A name that does not count, why, and what to do about it where the reason alone does not say."""

    name: str
    reason: str
    remedy: str = ""


@dataclass(slots=True)
class Scan:
    """Everything in a database's directory.

    Attributes:
        database: Whose directory it is.
        backups: The published archives that agree with their sidecars, newest first.
        damaged: Archives whose size differs from their metadata, whose sidecars contradict each other, or that cannot
            be looked at or read: what is wrong with one of them is never a reason to delete anything.
        incomplete: Archives without their sidecars: they do not count and are left alone.
        bad: Bases of archives that were judged bad.
        staged: Bases of archives that are not judged yet, oldest first.
        partial: Names of dumps that were interrupted, or are under way.
        tombstones: Bases of archives whose deletion was interrupted.
        leftovers: Names of sidecars without an archive, and of half-written small files.
        ignored: All other names.
        pinned: The names of damaged and incomplete archives that have a pin.
    """

    database: str
    backups: list[Backup] = field(default_factory=list)
    damaged: list[Finding] = field(default_factory=list)
    incomplete: list[Finding] = field(default_factory=list)
    bad: list[str] = field(default_factory=list)
    staged: list[str] = field(default_factory=list)
    partial: list[str] = field(default_factory=list)
    tombstones: list[str] = field(default_factory=list)
    leftovers: list[str] = field(default_factory=list)
    ignored: list[Finding] = field(default_factory=list)
    pinned: set[str] = field(default_factory=set)

    def not_counted(self) -> list[Finding]:
        """Return every name that does not count as a backup, each with its reason, sorted."""
        found = [*self.damaged, *self.incomplete, *self.ignored]
        found += [Finding(file_name(base, Kind.BAD), "judged bad: find out why, then remove it") for base in self.bad]
        found += [Finding(file_name(base, Kind.STAGED), "staged: the next finish judges it") for base in self.staged]
        found += [Finding(name, "partial: the next dump removes it") for name in self.partial]
        found += [
            Finding(file_name(base, Kind.TOMBSTONE), "its deletion was interrupted: the next finish completes it")
            for base in self.tombstones
        ]
        found += [Finding(name, _left_over(name)) for name in self.leftovers]
        return sorted(found, key=lambda finding: finding.name)


def _left_over(name: str) -> str:
    if name.startswith("."):
        return "left over: the next finish removes it"
    return "its archive is missing: copy that back within a day, or finish removes this file"


SKEW: Final = timedelta(minutes=5)
"""How far the clocks of two nodes may differ."""


def seconds_ahead(backups: Iterable[Backup], now: datetime) -> int:
    """Return by how many seconds the latest backup is dated after a moment; 0 if by no more than clocks differ."""
    latest = max((backup.time for backup in backups), default=now)
    return (latest - now) // timedelta(seconds=1) if latest > now + SKEW else 0


def dated_after(backups: Iterable[Backup], now: datetime) -> str:
    """Return that backups are dated after a moment, for a sentence to begin with; or nothing.

    Args:
        backups: All backups of a database, newest first.
        now: The moment, UTC.
    """
    future = [backup for backup in backups if backup.time > now]
    if not future:
        return ""
    count = "1 backup is" if len(future) == 1 else f"{len(future)} backups are"
    return f"{count} dated after now ({now:%Y-%m-%d %H:%M}Z), the latest {future[0].name}"
