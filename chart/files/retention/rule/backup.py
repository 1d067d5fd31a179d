"""Values: what a backup, a pin and a directory of them are. Nothing here reads a disk."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

from retention.names import Kind, file_name


@dataclass(frozen=True, slots=True)
class Pin:
    """Why and for how long a person keeps a backup besides the tiers.

    Attributes:
        reason: The person's words, or why the pin cannot be read (it holds all the same).
        expires: When it stops to hold; None for never.
        by: What has made it, empty for a person; a drill takes only its own pins away.
        replaced: The pin that it stands in place of, as its file held it; empty for none.
    """

    reason: str
    expires: datetime | None
    by: str = ""
    replaced: str = ""

    def holds(self, now: datetime) -> bool:
        """Tell whether the pin still keeps its backup."""
        return self.expires is None or now < self.expires


class Backup(NamedTuple):
    """A published backup.

    Attributes:
        base: `<database>-YYYYMMDD-HHMMSS`.
        time: When the dump began, UTC, by its name.
        bytes: The archive's size.
        sha256: What the archive's content has to sum to.
        tables: How many tables are in it; None where the metadata does not say.
        compression: As given to pg_dump; empty where the metadata does not say.
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
    """A name that does not count, and why."""

    name: str
    reason: str


@dataclass(slots=True)
class Scan:
    """All that lies in a database's directory.

    Attributes:
        database: Whose directory it is.
        backups: What was published and is whole, newest first.
        damaged: Archives that were published and have another size than their metadata say, or sidecars in discord.
        incomplete: Archives without their sidecars: they count for nothing and are left alone.
        bad: Bases of archives that were judged bad.
        staged: Bases of archives that nobody has judged yet, oldest first.
        partial: Names of dumps that were cut off, or are under way.
        tombstones: Bases of archives whose deletion was cut off.
        leftovers: Names of sidecars without an archive, and of half-written small files.
        ignored: What is not ours.
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

    def not_counted(self) -> list[Finding]:
        """Return every name that no plan counts, each with its reason, sorted."""
        found = [*self.damaged, *self.incomplete, *self.ignored]
        found += [Finding(file_name(base, Kind.BAD), "judged bad: look into it, then remove it") for base in self.bad]
        found += [Finding(file_name(base, Kind.STAGED), "staged: the next finish judges it") for base in self.staged]
        found += [Finding(name, "partial: the next dump removes it") for name in self.partial]
        found += [
            Finding(file_name(base, Kind.TOMBSTONE), "deletion was cut off: the next finish completes it")
            for base in self.tombstones
        ]
        found += [Finding(name, "left over: the next finish removes it") for name in self.leftovers]
        return sorted(found, key=lambda finding: finding.name)
