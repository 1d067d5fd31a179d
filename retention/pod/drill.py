"""Records the results of a drill: a sidecar for each archive, and a pin for the newest proved one.

drill.sh leaves a result for each request, as `key=value` lines: docs/architecture.md. An archive is *proved* when it
was restored into a server of its own and all checks passed. The newest proved archive of a database stays pinned until
a newer one is proved: otherwise, when a weekly drill fails, the last proved archive would be pruned long ago.
"""

import contextlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from retention import message
from retention.errors import ConfigError, ExitCode, RetentionError
from retention.keyvalue import KeyValues
from retention.names import Kind, file_name
from retention.pod import config, handover, outlook, status
from retention.pod.choose import FAILURE_SUFFIX
from retention.pod.handover import GONE, NUMBERS, PROVED, RESULT_SUFFIX
from retention.rule.backup import Backup
from retention.text import table
from retention.volume import pins, verify
from retention.volume.directory import Directory
from retention.volume.folder import Folder
from retention.volume.sidecars import read_document

DRILL_SCHEMA = 1
_PIN_REASON = "the newest backup that a drill has proved"
_NOTHING = "there was no backup to drill"
_LOCK_SECONDS = 10


@dataclass(slots=True)
class Drilled:
    """One archive after its drill.

    Attributes:
        base: The archive's base.
        state: `proved`, `failed`, `damaged`, `gone` (pruned before its turn), `not-reached`, or `unproved`
            (the drill lacked something: nothing is known about the archive).
        result: What drill.sh reported.
        problem: Why it is not proved.
    """

    base: str
    state: str
    result: KeyValues
    problem: RetentionError | None = None

    @property
    def name(self) -> str:
        """The archive's file name."""
        return file_name(self.base, Kind.ARCHIVE)

    @property
    def failed(self) -> bool:
        """Whether someone has to look into it."""
        return self.problem is not None and self.state != GONE

    def document(self) -> dict[str, Any]:
        """Return the content of the drill's sidecar."""
        return {
            "schema": DRILL_SCHEMA,
            "archive": self.name,
            "result": self.state,
            "started": _moment(self.result.number("started")),
            "finished": _moment(self.result.number("finished")),
            **{key: self.result.number(key) for key in NUMBERS},
            "amcheck": self.result.text("amcheck") == "yes",
            "server_version": self.result.text("server_version") or None,
            "problem": None if self.problem is None else self.problem.problem,
            "remedy": None if self.problem is None else self.problem.remedy,
            "warnings": list(self.result.warnings),
        }


@dataclass(slots=True)
class DrillOutcome:
    """How the drill of a database ended.

    Attributes:
        database: Its name.
        drilled: Its archives, newest first.
        pinned: The archive that stays pinned, empty when none was ever proved.
        warnings: What to know about it, though it worked.
        problem: Why it was not drilled, or why that could not be recorded.
        restore: The outlook for a restore, as the last run has recorded it: a drill has no access to the server.
    """

    database: str
    drilled: list[Drilled]
    pinned: str = ""
    warnings: list[str] = field(default_factory=list)
    problem: RetentionError | None = None
    restore: Any = None

    @property
    def failed(self) -> bool:
        """Whether the drill of one of its archives failed, or could not be recorded."""
        return self.problem is not None or any(one.failed for one in self.drilled)

    @property
    def result(self) -> str:
        """One word: failed, proved, or none."""
        return message.FAILED if self.failed else PROVED if self.drilled else message.NONE

    def status(self, now: datetime) -> dict[str, Any]:
        """Return what `status.json` says about the drill."""
        failed = [one for one in self.drilled if one.failed]
        problem = failed[0].problem if failed else self.problem
        return {
            "result": self.result,
            "at": now.isoformat(timespec="seconds"),
            "archives": [{"name": one.name, "result": one.state} for one in self.drilled],
            "proved": self.pinned or None,
            "problem": problem.problem if problem else None,
            "remedy": problem.remedy if problem else None,
        }


def _moment(seconds: int | None) -> str | None:
    return None if seconds is None else datetime.fromtimestamp(min(seconds, 2**36), UTC).isoformat()


def record(
    root: Folder, results: Path, databases: Iterable[str], *, now: datetime, holder: str, log: Callable[[str], None]
) -> list[DrillOutcome]:
    """Record the results of a drill, database by database.

    Args:
        root: The volume.
        results: The directory of the requests and of drill.sh's results.
        databases: Those that were to be drilled.
        now: The moment, UTC.
        holder: How locks name us.
        log: Called with each event as it happens.

    Raises:
        ConfigError: When the results cannot be read.
    """
    requests = handover.gather(results, log)
    outcomes = []
    for database in databases:
        outcome = outcome_of(results, database, requests)
        # The drill of one database never fails for another.
        try:
            with open_database(root, database) as folder:
                if folder is not None:
                    _record(Directory(folder, database, holder, _LOCK_SECONDS), outcome, now=now, log=log)
        except RetentionError as error:
            outcome.problem = outcome.problem or error
        if outcome.problem is not None:
            log(f"{database}: failed: {outcome.problem}")
        outcomes.append(outcome)
    _add_outlooks(root, outcomes)
    return outcomes


def outcome_of(results: Path, database: str, requests: Mapping[str, str]) -> DrillOutcome:
    """Return how the drill of a database ended, by what its containers have left.

    Args:
        results: The directory of the requests and of drill.sh's results.
        database: Its name.
        requests: The requested bases, each with its database: `handover.requested`.
    """
    bases = sorted((base for base, owner in requests.items() if owner == database), reverse=True)
    outcome = DrillOutcome(database, [_drilled(results, base) for base in bases])
    outcome.problem = _failure(results, database)
    return outcome


def _add_outlooks(root: Folder, outcomes: Iterable[DrillOutcome]) -> None:
    """Add what the last run has found out; a report must not fail the drill that it reports."""
    try:
        entries = status.parse(status.read(root) or b"") or {}
    except RetentionError:
        return
    for outcome in outcomes:
        entry = entries.get(outcome.database)
        outcome.restore = entry.get("restore") if isinstance(entry, dict) else None


@contextlib.contextmanager
def open_database(root: Folder, database: str) -> Iterator[Folder | None]:
    """Open the directory of a database, or yield None when it has none.

    Raises:
        VolumeError: When it cannot be opened.
    """
    if root.stat(database) is None and not root.lists(database):
        yield None
        return
    with root.child(database) as folder:
        yield folder


def _failure(results: Path, database: str) -> RetentionError | None:
    """Return why `choose` could not choose an archive of a database, or None."""
    try:
        found = config.read_result(results / f"{database}{FAILURE_SUFFIX}")
    except ConfigError as error:
        return RetentionError(error.problem, error.remedy)
    return None if found is None else RetentionError(found.text("error"), found.text("remedy"))


def _drilled(results: Path, base: str) -> Drilled:
    path = results / f"{base}{RESULT_SUFFIX}"
    nothing = KeyValues(str(path), {}, {})
    try:
        result = config.read_result(path)
    except ConfigError as error:
        # Cut off, for example: that is the end of this drill alone.
        return Drilled(base, "failed", nothing, RetentionError(error.problem, error.remedy))
    if result is None:
        problem = RetentionError(
            "the container that drilled it reported nothing", "see how it ended: it may have run out of memory"
        )
        return Drilled(base, "failed", nothing, problem)
    state = result.text("state")
    if state == PROVED:
        return Drilled(base, state, result)
    problem = RetentionError(result.text("error") or f"it is {state or 'without a state'}", result.text("remedy"))
    return Drilled(base, state or "failed", result, problem)


def _record(directory: Directory, outcome: DrillOutcome, *, now: datetime, log: Callable[[str], None]) -> None:
    for one in outcome.drilled:
        try:
            if one.state == "damaged":
                _verify_again(directory, one)
            if not _write_sidecar(directory, one) and one.state == PROVED:
                outcome.warnings.append(f"{one.name} was proved, but is gone by now: nothing is recorded about it")
        except RetentionError as error:
            # A proof that is not on the volume is none: it would be neither shown nor kept.
            outcome.problem = RetentionError(f"{one.name}: its drill is not recorded: {error.problem}", error.remedy)
        log(f"{outcome.database}: {one.name} {one.state}{f': {one.problem}' if one.problem else ''}")
    try:
        outcome.pinned = _pin_newest(directory, now=now)
    except RetentionError as error:
        outcome.problem = RetentionError(f"the newest proved backup could not be pinned: {error.problem}", error.remedy)
    for warning in outcome.warnings:
        log(f"{outcome.database}: warning: {warning}")


def _write_sidecar(directory: Directory, one: Drilled) -> bool:
    """Record a drill next to its archive; return False when that is not there any more."""
    folder = directory.folder
    content = json.dumps(one.document(), indent=2, ensure_ascii=False) + "\n"
    # Otherwise a run would take the file that is being written for one that a dead process has left.
    with pins.locked(directory):
        # Only next to an archive: the next run removes a sidecar without one.
        if not (folder.exists(one.name) or folder.exists(file_name(one.base, Kind.BAD))):
            return False
        folder.write(file_name(one.base, Kind.DRILL), content.encode(errors="replace"))
        folder.sync()
    return True


def _verify_again(directory: Directory, one: Drilled) -> None:
    """Read an archive again that drill.sh found damaged; if it is, it is renamed and no longer counts."""
    for checked in verify.verify(directory, frozenset({one.name}), done=lambda _: None):
        if checked.result == "good":
            one.problem = RetentionError(
                "its sha256 was wrong in the drill and is right now",
                "check the storage below the volume: it returns different data for the same file",
            )
        else:
            one.problem = RetentionError(checked.reason, "check the storage, then remove the archive")


def _pin_newest(directory: Directory, *, now: datetime) -> str:
    """Pin the newest backup that a drill has proved, and take such a pin from all others; return its name."""
    backups = directory.scan().backups
    listed = directory.folder.names()
    newest = next((backup for backup in backups if is_proved(directory.folder, backup, listed)), None)
    if newest is None:
        return ""
    # The lock of the directory is not needed: a dump may hold it for a long time.
    others = [backup.base for backup in backups if backup is not newest and backup.pin is not None]
    pins.hand_on(directory, newest.base, reason=_PIN_REASON, others=others, now=now)
    return newest.name


def is_proved(folder: Folder, backup: Backup, listed: Set[str]) -> bool:
    """Return whether a backup was proved; raise VolumeError when its drill cannot be read: that is no answer."""
    name = file_name(backup.base, Kind.DRILL)
    if name not in listed:
        return False
    folder.read_listed(name)
    drilled = read_document(folder, name)
    return drilled is not None and drilled.get("result") == PROVED


def write_status(root: Folder, outcomes: list[DrillOutcome], *, now: datetime, holder: str) -> str:
    """Put the drills into status.json; return a warning, or nothing."""
    drills = {outcome.database: outcome.status(now) for outcome in outcomes}
    return status.write_drills(root, drills, now=now, holder=holder)


def exit_code(outcomes: Iterable[DrillOutcome]) -> ExitCode:
    """Return a drill's exit code."""
    return ExitCode.FAILED if any(outcome.failed for outcome in outcomes) else ExitCode.DONE


def termination_message(outcomes: list[DrillOutcome]) -> bytes:
    """Return the pod's termination message, worst database first."""
    drills = []
    for outcome in outcomes:
        archives = "; ".join(
            f"{one.name} {one.state}{f': {one.problem.problem}' if one.problem else ''}" for one in outcome.drilled
        )
        why = "" if outcome.problem is None else str(outcome.problem)
        ahead = outlook.sentence(outcome.restore, remedies=False)
        found = "; ".join(filter(None, (why, archives))) or _NOTHING
        proved = next((one for one in outcome.drilled if one.state == PROVED and not outcome.failed), None)
        took = None if proved is None else proved.result.number("restore_seconds")
        text = f"{found}{f'; {ahead}' if ahead else ''}"
        drills.append(message.Drill(outcome.database, outcome.result, text, took))
    return message.write_drills(drills)


def drill_table(outcomes: Iterable[DrillOutcome]) -> str:
    """Return the table that ends a drill's log: one line an archive."""
    rows = []
    for outcome in outcomes:
        for one in outcome.drilled:
            number = one.result.number
            rows.append(
                (
                    outcome.database,
                    one.state,
                    one.name,
                    *(
                        "?" if number(key) is None else str(number(key))
                        for key in ("tables", "rows", "restore_seconds")
                    ),
                    "" if one.problem is None else one.problem.problem,
                )
            )
        if outcome.problem is not None:
            rows.append((outcome.database, "failed", "-", "-", "-", "-", outcome.problem.problem))
        elif not outcome.drilled:
            rows.append((outcome.database, "none", "-", "-", "-", "-", _NOTHING))
    return table(("DATABASE", "RESULT", "ARCHIVE", "TABLES", "ROWS", "SECONDS", "WHY"), rows)
