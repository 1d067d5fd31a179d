"""What lies in a database's directory: a reading that changes nothing and follows no link.

A backup *is* a `<base>.dump` with `<base>.dump.sha256` and `<base>.json` that agree with each other and with its size.
All that is ours has a state; all else is *ignored*: reported with a reason, never touched.
"""

import json
import stat
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from retention.disk import Folder
from retention.errors import VolumeError
from retention.names import (
    OWN_FILES,
    OWN_ROOT_FILES,
    SIDECARS,
    STAGED_SIDECARS,
    Grammar,
    Kind,
    Name,
    file_name,
    is_database,
)

METADATA_SCHEMA = 1
"""The version of `<base>.json`; a higher one is read too, as long as it has the same fields."""

_SHA256_LENGTH = 64
_HEX = frozenset("0123456789abcdef")


@dataclass(frozen=True, slots=True)
class Pin:
    """Why and for how long a person keeps a backup besides the tiers.

    Attributes:
        reason: The person's words, or why the pin cannot be read (it holds all the same).
        expires: When it stops to hold; None for never.
    """

    reason: str
    expires: datetime | None

    def holds(self, now: datetime) -> bool:
        """Tell whether the pin still keeps its backup."""
        return self.expires is None or now < self.expires


@dataclass(frozen=True, slots=True)
class Backup:
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
        return file_name(self.base, Kind.ARCHIVE)


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


@dataclass(frozen=True, slots=True)
class _File:
    name: str
    size: int


def scan(folder: Folder, database: str) -> Scan:
    """Return all that lies in a database's directory.

    Raises:
        VolumeError: When the directory, or a sidecar in it, cannot be read.
    """
    result = Scan(database)
    files: dict[str, dict[Kind, _File]] = defaultdict(dict)
    times: dict[str, datetime] = {}
    blocked: set[str] = set()
    for name, entry, size in _classified(folder, Grammar(database), result, blocked):
        times[name.base] = name.time
        if name.kind is Kind.PARTIAL:
            result.partial.append(entry)
        elif name.kind is Kind.TEMPORARY:
            result.leftovers.append(entry)
        else:
            files[name.base][name.kind] = _File(entry, size)
    for base in sorted(files, key=lambda base: times[base], reverse=True):
        _sort_base(folder, result, base, times[base], files[base], blocked)
    result.staged.reverse()
    for names in (result.partial, result.leftovers):
        names.sort()
    result.ignored.sort(key=lambda finding: finding.name)
    return result


def _classified(folder: Folder, grammar: Grammar, result: Scan, blocked: set[str]) -> Iterator[tuple[Name, str, int]]:
    """Yield the regular files that are ours; put everything else among the ignored."""
    for entry in folder.entries():
        if entry.name in OWN_FILES:
            continue
        name = grammar.parse(entry.name)
        try:
            status = entry.stat(follow_symlinks=False)
        except FileNotFoundError:
            continue
        except OSError as error:
            result.ignored.append(Finding(shown(entry.name), f"cannot be looked at: {error.strerror}"))
            status = None
        if status is None or not stat.S_ISREG(status.st_mode):
            if status is not None:
                result.ignored.append(Finding(shown(entry.name), f"{_type_of(status.st_mode)}, not a file"))
            if name is not None:
                # Its sidecars are left alone as well: whoever put it here meant something by it.
                blocked.add(entry.name)
        elif name is None:
            result.ignored.append(Finding(shown(entry.name), grammar.objection(entry.name)))
        else:
            yield name, entry.name, status.st_size


def _sort_base(
    folder: Folder, result: Scan, base: str, time: datetime, files: dict[Kind, _File], blocked: set[str]
) -> None:
    if Kind.ARCHIVE in files:
        _sort_archive(folder, result, base, time, files, blocked)
    if Kind.BAD in files:
        result.bad.append(base)
    if Kind.STAGED in files:
        result.staged.append(base)
    if Kind.TOMBSTONE in files:
        result.tombstones.append(base)
    owners = (Kind.ARCHIVE, Kind.BAD, Kind.STAGED)
    owned = any(kind in files or file_name(base, kind) in blocked for kind in owners)
    staged = Kind.STAGED in files or file_name(base, Kind.STAGED) in blocked
    for kinds, has_owner in ((SIDECARS, owned), (STAGED_SIDECARS, staged)):
        if not has_owner:
            result.leftovers += [files[kind].name for kind in kinds if kind in files]


def _sort_archive(
    folder: Folder, result: Scan, base: str, time: datetime, files: dict[Kind, _File], blocked: set[str]
) -> None:
    archive = files[Kind.ARCHIVE]
    for kind in (Kind.SHA256, Kind.METADATA):
        if kind not in files:
            reason = f"incomplete: {file_name(base, kind)} is missing"
            result.incomplete.append(Finding(archive.name, reason))
            return
    try:
        backup = _read_backup(folder, base, time, archive)
    except _DamagedError as error:
        result.damaged.append(Finding(archive.name, f"damaged: {error}"))
        return
    pin_name = file_name(base, Kind.PIN)
    if Kind.PIN in files:
        backup = _with_pin(backup, read_pin(folder, pin_name))
    elif pin_name in blocked:
        backup = _with_pin(backup, Pin(f"{pin_name} is not a file; it holds until it is removed", None))
    result.backups.append(backup)


class _DamagedError(Exception):
    pass


def _read_backup(folder: Folder, base: str, time: datetime, archive: _File) -> Backup:
    metadata_name, sha256_name = file_name(base, Kind.METADATA), file_name(base, Kind.SHA256)
    metadata = _metadata(folder.read(metadata_name) or b"", metadata_name)
    expected, sha256 = metadata.get("bytes"), metadata.get("sha256")
    if type(expected) is not int or type(sha256) is not str or not is_sha256(sha256):
        raise _DamagedError(f"{metadata_name} does not say bytes and sha256")
    if archive.size != expected:
        raise _DamagedError(f"it has {archive.size} bytes, {metadata_name} says {expected}")
    if parse_sha256(folder.read(sha256_name) or b"") != sha256:
        raise _DamagedError(f"{sha256_name} and {metadata_name} do not agree")
    tables, compression = metadata.get("tables"), metadata.get("compression")
    return Backup(
        base,
        time,
        archive.size,
        sha256,
        tables if type(tables) is int else None,
        compression if type(compression) is str else "",
        None,
    )


def _with_pin(backup: Backup, pin: Pin) -> Backup:
    return Backup(backup.base, backup.time, backup.bytes, backup.sha256, backup.tables, backup.compression, pin)


def _metadata(content: bytes, name: str) -> dict[str, Any]:
    try:
        document = json.loads(content)
    except (ValueError, RecursionError):
        raise _DamagedError(f"{name} is not JSON") from None
    if type(document) is not dict:
        raise _DamagedError(f"{name} is not a JSON object")
    return document


def read_pin(folder: Folder, name: str) -> Pin:
    """Return a pin; one that cannot be understood holds for ever, since losing a backup is worse than keeping one."""
    try:
        content = folder.read(name)
    except VolumeError as error:
        return Pin(f"{error.problem}; it holds until it is removed", None)
    text = (content or b"").decode(errors="replace").strip()
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        # A plain line of text is a reason, as a shell writes it.
        return Pin(shown(text), None)
    if type(document) is not dict:
        return Pin(shown(text), None)
    reason, expires = document.get("reason"), document.get("expires")
    told = shown(reason) if type(reason) is str else ""
    if expires is None:
        return Pin(told, None)
    moment = parse_moment(expires) if type(expires) is str else None
    if moment is None:
        return Pin(f"{told} (its expiry cannot be read; it holds until it is removed)".strip(), None)
    return Pin(told, moment)


def parse_moment(text: str) -> datetime | None:
    """Return the UTC moment of an ISO 8601 date and time with a zone (or without: then UTC), None when it is none."""
    try:
        moment = datetime.fromisoformat(text)
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def is_sha256(text: str) -> bool:
    """Tell whether a text is a sha256 in lower-case hexadecimal."""
    return len(text) == _SHA256_LENGTH and _HEX.issuperset(text)


def parse_sha256(content: bytes) -> str | None:
    """Return the sum in a file that `sha256sum -c` reads, or None when there is none in it."""
    words = content.decode(errors="replace").split(maxsplit=1)
    return words[0] if words and is_sha256(words[0]) else None


def shown(text: str) -> str:
    """Return a text from the volume as one harmless line: what does not print is escaped."""
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)


@dataclass(frozen=True, slots=True)
class Root:
    """What lies at the root of a volume.

    Attributes:
        databases: The names of the directories that are databases', sorted.
        ignored: What is not ours.
    """

    databases: tuple[str, ...]
    ignored: tuple[Finding, ...]


def scan_root(folder: Folder) -> Root:
    """Return the databases on a volume."""
    databases, ignored = [], []
    for entry in folder.entries():
        if entry.name in OWN_ROOT_FILES or entry.name == "lost+found":
            continue
        if entry.is_dir(follow_symlinks=False) and is_database(entry.name):
            databases.append(entry.name)
        else:
            reason = "a link, never followed" if entry.is_symlink() else "not a database's directory"
            ignored.append(Finding(shown(entry.name), reason))
    return Root(tuple(sorted(databases)), tuple(sorted(ignored, key=lambda finding: finding.name)))


def is_database_folder(folder: Folder, name: str) -> bool:
    """Tell whether a directory of this name is a database's, rather than the root of a volume."""
    if not is_database(name):
        return False
    grammar = Grammar(name)
    root_like = False
    for entry in folder.entries():
        if entry.name in OWN_FILES or grammar.parse(entry.name) is not None:
            return True
        directory = entry.is_dir(follow_symlinks=False)
        root_like |= entry.name in OWN_ROOT_FILES or (
            directory and (is_database(entry.name) or entry.name == "lost+found")
        )
    return not root_like


def _type_of(mode: int) -> str:
    if stat.S_ISLNK(mode):
        return "a link, never followed"
    if stat.S_ISDIR(mode):
        return "a directory"
    return "a special file"
