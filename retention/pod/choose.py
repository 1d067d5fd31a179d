"""Chooses archives to restore, pins them for that time, and writes down what is known about them.

A request is a file of `key=value` lines, `<base>.request`, which restore.sh and drill.sh read: docs/architecture.md.
"""

import contextlib
import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from retention.errors import ConfigError, LockedError, RetentionError, UsageError, VolumeError
from retention.keyvalue import format_lines
from retention.names import Grammar, Kind, base_of, file_name
from retention.rule.backup import Backup, Finding, Scan, dated_after
from retention.text import later, parse_moment, shown
from retention.volume import pins, verify
from retention.volume.directory import Directory
from retention.volume.folder import Folder
from retention.volume.sidecars import read_document

NEWEST, PINNED, PROVED = "newest", "pinned", "proved"
_BEFORE = "newest before "

WORDS = f"{NEWEST}, '{_BEFORE}2026-01-01T00:00Z', {PINNED}, {PROVED}, or an archive's name"
"""What --backup accepts, for messages."""

REQUEST_SUFFIX, FAILURE_SUFFIX = ".request", ".unchosen"
"""How the files end that `choose` leaves: the request for an archive, and why a database has none."""

SLOT_SUFFIX = ".slot"
"""Ends the file that names the database of a slot: all databases of a cluster share a few containers, the slots."""

LOCK_SECONDS = 10
"""How long a restore waits for the lock of a database, to rename an archive that it found damaged."""

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


def select(found: Scan, wanted: str, *, now: datetime, is_proved: Callable[[Backup], bool] = lambda _: False) -> Backup:
    """Return the published backup that --backup names.

    Args:
        found: The scan of the database's directory.
        wanted: `newest`, `newest before TIME`, `pinned` (the newest pinned one), `proved` (the newest that a drill has
            restored), or an archive's name.
        now: The moment, UTC; a backup that is dated after it is never the newest.
        is_proved: Whether a drill has restored a backup.

    Raises:
        UsageError: When the words cannot be understood.
        RetentionError: When there is no such backup, or a newer one that the words mean is not sound.
    """
    words, moment = " ".join(wanted.split()), later(now, timedelta(microseconds=1))
    if words == NEWEST:
        candidates = [backup for backup in found.backups if backup.time <= now]
    elif words == PINNED:
        candidates = [backup for backup in found.backups if backup.pin is not None and backup.pin.holds(now)]
    elif words == PROVED:
        # Newer archives that are not sound do not matter: this one was restored.
        return _newest_proved(found, is_proved, now=now)
    elif words.startswith(_BEFORE):
        given = parse_moment(words.removeprefix(_BEFORE))
        if given is None:
            raise UsageError(f"{wanted!r}: not a date and time such as 2026-01-01T00:00Z", f"give {WORDS}")
        moment = given
        candidates = [backup for backup in found.backups if backup.time < moment]
    else:
        return _named(found, wanted.strip())
    unsound = newer_unsound(found, candidates[:1], before=moment)
    if words == PINNED:
        unsound = [finding for finding in unsound if finding.name in found.pinned]
    if unsound:
        name = candidates[0].name if candidates else ""
        raise RetentionError(
            f"{found.database}: {unsound[0].name} {'is newer and ' if name else ''}does not count: {unsound[0].reason}",
            f"nothing else was chosen in its place: to restore the newest sound one, give its name, --backup {name}"
            if name
            else unsound[0].remedy,
        )
    if not candidates and words == NEWEST and (there := dated_later(found, now=now)):
        raise AllDatedLaterError(f"{found.database}: {there}", DATED_LATER_REMEDY)
    if not candidates:
        raise RetentionError(f"{found.database}: no backup matches {words!r}", _what_is_there(found))
    return candidates[0]


def _newest_proved(found: Scan, is_proved: Callable[[Backup], bool], *, now: datetime) -> Backup:
    for backup in found.backups:
        if backup.time <= now and is_proved(backup):
            return backup
    raise RetentionError(
        f"{found.database}: no drill has proved any of its {len(found.backups)} backups",
        f"run one, and see what it reports: kubectl cnpg-backup drill {found.database}; or restore the newest backup",
    )


def newer_unsound(found: Scan, chosen: Sequence[Backup], *, before: datetime) -> list[Finding]:
    """Return the archives that are damaged, incomplete or cannot be looked at, newer than the chosen one.

    Args:
        found: The scan of the database's directory.
        chosen: The chosen backup, or nothing.
        before: The moment, UTC, before which they were made.
    """
    grammar, newer = Grammar(found.database), []
    for finding in (*found.damaged, *found.incomplete):
        parsed = grammar.parse(finding.name)
        if parsed is None or parsed.kind is not Kind.ARCHIVE or parsed.time >= before:
            continue
        if not chosen or parsed.time > chosen[0].time:
            newer.append(finding)
    return sorted(newer, key=lambda finding: finding.name, reverse=True)


def newer_bad(found: Scan, chosen: Backup, *, now: datetime) -> list[str]:
    """Return the names of archives that were judged bad, newer than the chosen one."""
    return [
        file_name(base, Kind.BAD) for base in found.bad if base > chosen.base and base <= base_of(found.database, now)
    ]


def dated_later(found: Scan, *, now: datetime) -> str:
    """Return that backups are dated after now, none of which is ever the newest; or nothing."""
    text = dated_after(found.backups, now)
    return f"{text}: not taken for the newest" if text else ""


DATED_LATER_REMEDY = "check the clocks of the nodes; to restore one of them, give its name"


class AllDatedLaterError(RetentionError):
    """There are backups, and all of them are dated after now."""


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


def protect(directory: Directory, backup: Backup, *, now: datetime, expires: datetime) -> str:
    """Pin an archive while it is restored; return a warning, or nothing.

    A pin that holds long enough stays as it is. This waits for no run: a dump may take long, and a restore is urgent. A
    volume that refuses the pin refuses the prune as well.
    """
    reason = f"being restored by {directory.holder}"
    try:
        pins.protect(directory, backup.base, reason=reason, expires=expires, now=now)
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
    facts = facts_of(document)
    seconds = (read_document(folder, file_name(backup.base, Kind.DRILL)) or {}).get("restore_seconds")
    if not isinstance(seconds, int):
        dumped = document.get("dump_seconds")
        seconds = max(1, dumped * _RESTORE_PER_DUMP) if isinstance(dumped, int) else None
    if seconds is not None:
        facts["expected_seconds"] = str(seconds)
    return Request(directory.database, backup, facts)


def facts_of(document: Mapping[str, object]) -> dict[str, str]:
    """Return what a request says of an archive by its metadata, as text; what these lack is missing."""
    names = ("dbname", "server_version", "client_version", "tables", "rows", "database_bytes")
    return {key: str(document[key]) for key in names if isinstance(document.get(key), (str, int))}


@dataclass(frozen=True, slots=True)
class Sample:
    """The backups of a database that a drill restores, the newer archives that it cannot restore, and a warning."""

    backups: list[Backup]
    unsound: list[Finding]
    warning: str


def sample(directory: Directory, *, now: datetime, chance: random.Random) -> Sample:
    """Return the backups of a database that a drill restores: the newest, and another one at random.

    Raises:
        AllDatedLaterError: When there is none but those that are dated after now.
        VolumeError: When the directory cannot be read.
    """
    found = directory.scan()
    backups = [backup for backup in found.backups if backup.time <= now]
    chosen = [*backups[:1], *chance.sample(backups[1:], min(1, len(backups) - 1 if backups else 0))]
    unsound = newer_unsound(found, backups[:1], before=later(now, timedelta(microseconds=1)))
    warning = dated_later(found, now=now)
    if warning and not chosen:
        raise AllDatedLaterError(warning, "check the clocks of the nodes")
    return Sample(chosen, unsound, warning)


def longest_undrilled(entry: str, present: Iterable[str], drills: Mapping[str, datetime], most: int) -> list[str]:
    """Return which databases of an entry are drilled next: those that never were, then those drilled longest ago.

    Args:
        entry: It means all databases of a cluster.
        present: The databases on the volume.
        drills: When each was last drilled, UTC.
        most: How many a drill restores.
    """
    never = datetime.min.replace(tzinfo=UTC)
    own = (name for name in present if name.startswith(f"{entry}."))
    return sorted(own, key=lambda name: (drills.get(name, never), name))[:most]


def write_slot(requests: Path, slot: str, database: str) -> None:
    """Note which database the containers of a slot drill.

    Raises:
        ConfigError: When the directory cannot be written.
    """
    _write(requests, f"{slot}{SLOT_SUFFIX}", format_lines({"database": database}))


def write(requests: Path, chosen: Iterable[Request]) -> None:
    """Write request files, each in one step.

    Raises:
        ConfigError: When the directory cannot be written.
    """
    for one in chosen:
        _write(requests, f"{one.backup.base}{REQUEST_SUFFIX}", one.text())


def note_failure(requests: Path, database: str, error: RetentionError | None) -> None:
    """Leave the reason why no archive of a database can be chosen for a drill, or remove that of an earlier attempt.

    Raises:
        ConfigError: When the directory cannot be written.
    """
    name = f"{database}{FAILURE_SUFFIX}"
    if error is not None:
        _write(requests, name, format_lines({"database": database, "error": error.problem, "remedy": error.remedy}))
        return
    with _in(requests) as folder:
        folder.remove(name)


def _write(requests: Path, name: str, text: str) -> None:
    with _in(requests) as folder:
        folder.write(name, text.encode())


@contextlib.contextmanager
def _in(requests: Path) -> Iterator[Folder]:
    try:
        with Folder.open(requests) as folder:
            yield folder
    except VolumeError as error:
        raise ConfigError(error.problem, error.remedy) from None
