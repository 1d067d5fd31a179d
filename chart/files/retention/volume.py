"""What lies in a database's directory: a reading that changes nothing and follows no link.

A backup *is* a `<base>.dump` with `<base>.dump.sha256` and `<base>.json` that agree with each other and with its size.
All that is ours has a state; all else is *ignored*: reported with a reason, never touched.
"""

import json
import os
import re
import stat
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import NamedTuple

from retention.disk import Folder
from retention.errors import VolumeError
from retention.names import (
    OWN_FILES,
    OWN_ROOT_FILES,
    SIDECARS,
    STAGED_SIDECARS,
    Grammar,
    Kind,
    file_name,
    is_database,
    parse_stamp,
)

METADATA_SCHEMA = 1
"""The version of `<base>.json`; a higher one is read too, as long as it has the same fields."""

_SHA256 = re.compile(r"[0-9a-f]{64}")
# The lines of a metadata file that a scan needs, as `publish` writes them. To find them takes a fifth of the time that
# it takes to read the whole document; one of another layout is read as JSON.
_AS_PUBLISHED = re.compile(
    rb'\n  "bytes": ([0-9]{1,18}),\n  "sha256": "([0-9a-f]{64})",\n  "tables": ([0-9]{1,18}|null),'
    rb'\n  "database_bytes": (?:[0-9]+|null),\n  "format": "[a-z]*",\n  "compression": "([a-z0-9:]*)",\n'
)
# Which files a base has is a sum of bits, which costs less to note for each file than a set does.
_BITS = {kind: 1 << index for index, kind in enumerate(Kind)}
_VISIBLE_BITS = {kind.value: _BITS[kind] for kind in (Kind.ARCHIVE, Kind.BAD, *SIDECARS)}
_ARCHIVE = _BITS[Kind.ARCHIVE]
_NEEDED = _BITS[Kind.SHA256] | _BITS[Kind.METADATA]
_PUBLISHED = sum(_BITS[kind] for kind in (Kind.ARCHIVE, *SIDECARS))
_NAMED = _BITS[Kind.PARTIAL] | _BITS[Kind.TEMPORARY]


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


def scan(folder: Folder, database: str) -> Scan:
    """Return all that lies in a database's directory.

    Raises:
        VolumeError: When the directory, or a sidecar in it, cannot be read.
    """
    reading = _Reading(folder, database)
    reading.take()
    return reading.sorted()


class _Reading:
    """A reading of a database's directory: first all names, then what each base amounts to.

    Hundreds of thousands of files pass through here: what is usual (a published archive, its sidecars) is recognised by
    a slice and a look-up, everything else in full.
    """

    def __init__(self, folder: Folder, database: str) -> None:
        self._folder = folder
        self._grammar = Grammar(database)
        self._result = Scan(database)
        # For each base its moment, the kinds of its files as bits, and the size of its archive.
        self._times: dict[str, datetime] = {}
        self._kinds: dict[str, int] = {}
        self._sizes: dict[str, int] = {}
        # Names of ours that are no files. Their sidecars are left alone: whoever put it here meant something by it.
        self._blocked: set[str] = set()

    def take(self) -> None:
        """Note all directory entries: files of ours, and what is to be ignored."""
        kinds, sizes, end = self._kinds, self._sizes, self._grammar.base_length
        for entry in self._folder.entries():
            name = entry.name
            base, bit = name[:end], _VISIBLE_BITS.get(name[end:], 0)
            if not bit or base not in kinds:
                found = self._recognise(entry)
                if found is None:
                    continue
                base, bit = found
            try:
                regular = entry.is_file(follow_symlinks=False)
                if bit == _ARCHIVE and regular:
                    sizes[base] = entry.stat(follow_symlinks=False).st_size
            except FileNotFoundError:
                continue
            except OSError:
                regular = False
            if not regular:
                self._blocked.add(name)
                self._ignore(entry)
            elif bit & _NAMED:
                (self._result.partial if bit == _BITS[Kind.PARTIAL] else self._result.leftovers).append(name)
            else:
                kinds[base] |= bit

    def _recognise(self, entry: "os.DirEntry[str]") -> tuple[str, int] | None:
        """Return base and kind (as a bit) of a name; one that is not ours is put among the ignored."""
        parts = self._grammar.parts(entry.name)
        time = None if parts is None else parse_stamp(parts[1])
        if parts is None or time is None:
            if entry.name not in OWN_FILES:
                self._ignore(entry)
            return None
        base, _, kind = parts
        self._times[base] = time
        self._kinds.setdefault(base, 0)
        return base, _BITS[kind]

    def _ignore(self, entry: "os.DirEntry[str]") -> None:
        try:
            mode = entry.stat(follow_symlinks=False).st_mode
        except FileNotFoundError:
            self._blocked.discard(entry.name)
            return
        except OSError as error:
            reason = f"cannot be looked at: {error.strerror}"
        else:
            reason = self._grammar.objection(entry.name) if stat.S_ISREG(mode) else f"{_type_of(mode)}, not a file"
        self._result.ignored.append(Finding(shown(entry.name), reason))

    def sorted(self) -> Scan:
        """Return everything that was taken, each base looked into."""
        result = self._result
        # All bases have one database and so one length: their order is that of their moments.
        for base in sorted(self._kinds, reverse=True):
            kinds = self._kinds[base]
            if kinds & _ARCHIVE:
                self._sort_archive(base, kinds)
            if not kinds & _ARCHIVE or kinds & ~_PUBLISHED:
                self._sort_others(base, kinds)
        result.staged.reverse()
        for names in (result.partial, result.leftovers):
            names.sort()
        result.ignored.sort(key=lambda finding: finding.name)
        return result

    def _sort_others(self, base: str, kinds: int) -> None:
        """Sort what is no published archive, and the sidecars that have no owner."""
        result = self._result
        for kind, bases in ((Kind.BAD, result.bad), (Kind.STAGED, result.staged), (Kind.TOMBSTONE, result.tombstones)):
            if kinds & _BITS[kind]:
                bases.append(base)
        owned = ((SIDECARS, (Kind.ARCHIVE, Kind.BAD, Kind.STAGED)), (STAGED_SIDECARS, (Kind.STAGED,)))
        for sidecars, owners in owned:
            if not any(kinds & _BITS[kind] or file_name(base, kind) in self._blocked for kind in owners):
                result.leftovers += [file_name(base, kind) for kind in sidecars if kinds & _BITS[kind]]

    def _sort_archive(self, base: str, kinds: int) -> None:
        for kind in () if kinds & _NEEDED == _NEEDED else (Kind.SHA256, Kind.METADATA):
            if not kinds & _BITS[kind]:
                reason = f"incomplete: {file_name(base, kind)} is missing"
                self._result.incomplete.append(Finding(file_name(base, Kind.ARCHIVE), reason))
                return
        pin = self._pin(base, kinds) if self._blocked or kinds & _BITS[Kind.PIN] else None
        try:
            backup = _read_backup(self._folder, base, self._times[base], self._sizes[base], pin)
        except _DamagedError as error:
            self._result.damaged.append(Finding(file_name(base, Kind.ARCHIVE), f"damaged: {error}"))
            return
        self._result.backups.append(backup)

    def _pin(self, base: str, kinds: int) -> Pin | None:
        name = file_name(base, Kind.PIN)
        if kinds & _BITS[Kind.PIN]:
            return read_pin(self._folder, name)
        return Pin(f"{name} is not a file; it holds until it is removed", None) if name in self._blocked else None


class _DamagedError(Exception):
    pass


def _read_backup(folder: Folder, base: str, time: datetime, size: int, pin: Pin | None) -> Backup:
    metadata_name, sha256_name = f"{base}.json", f"{base}.dump.sha256"
    expected, sha256, tables, compression = _facts(folder.read(metadata_name, regular=True) or b"", metadata_name)
    if size != expected:
        raise _DamagedError(f"it has {size} bytes, {metadata_name} says {expected}")
    sums = folder.read(sha256_name, regular=True) or b""
    if sums[:65].split() != [sha256.encode()] and parse_sha256(sums) != sha256:
        raise _DamagedError(f"{sha256_name} and {metadata_name} do not agree")
    return Backup(base, time, size, sha256, tables, compression, pin)


def _facts(content: bytes, name: str) -> tuple[int, str, int | None, str]:
    """Return bytes, sha256, tables and compression from an archive's metadata."""
    found = _AS_PUBLISHED.search(content) if content[:4] == b"{\n  " and content[-3:] == b"\n}\n" else None
    if found is not None:
        size, sha256, tables, compression = found.groups()
        return int(size), sha256.decode(), None if tables == b"null" else int(tables), compression.decode()
    try:
        document = json.loads(content)
    except (ValueError, RecursionError):
        raise _DamagedError(f"{name} is not JSON") from None
    if type(document) is not dict:
        raise _DamagedError(f"{name} is not a JSON object")
    facts = {key: document.get(key) for key in ("bytes", "sha256", "tables", "compression")}
    if type(facts["bytes"]) is not int or type(facts["sha256"]) is not str or not is_sha256(facts["sha256"]):
        raise _DamagedError(f"{name} does not say bytes and sha256")
    return (
        facts["bytes"],
        facts["sha256"],
        facts["tables"] if type(facts["tables"]) is int else None,
        facts["compression"] if type(facts["compression"]) is str else "",
    )


def read_pin(folder: Folder, name: str) -> Pin:
    """Return a pin; one that cannot be understood holds for ever, since losing a backup is worse than keeping one."""
    try:
        content = folder.read(name)
    except VolumeError as error:
        return Pin(f"{error.problem}; it holds until it is removed", None)
    return parse_pin(content or b"")


def parse_pin(content: bytes) -> Pin:
    """Return the pin that a file's content says."""
    text = content.decode(errors="replace").strip()
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        # A plain line of text is a reason, as a shell writes it.
        return Pin(shown(text), None)
    if type(document) is not dict:
        return Pin(shown(text), None)
    reason, expires = document.get("reason"), document.get("expires")
    told = shown(reason) if type(reason) is str else ""
    by, replaced = document.get("by"), document.get("replaced")
    by, replaced = by if type(by) is str else "", replaced if type(replaced) is str else ""
    if expires is None:
        return Pin(told, None, by, replaced)
    moment = parse_moment(expires) if type(expires) is str else None
    if moment is None:
        return Pin(f"{told} (its expiry cannot be read; it holds until it is removed)".strip(), None)
    return Pin(told, moment, by, replaced)


def parse_moment(text: str) -> datetime | None:
    """Return the UTC moment of an ISO 8601 date and time with a zone (or without: then UTC), None when it is none."""
    try:
        moment = datetime.fromisoformat(text)
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def is_sha256(text: str) -> bool:
    """Tell whether a text is a sha256 in lower-case hexadecimal."""
    return _SHA256.fullmatch(text) is not None


def parse_sha256(content: bytes) -> str | None:
    """Return the sum in a file that `sha256sum -c` reads, or None when there is none in it."""
    words = content.split(maxsplit=1)
    text = words[0].decode(errors="replace") if words else ""
    return text if is_sha256(text) else None


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
