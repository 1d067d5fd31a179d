"""What a run tells people and machines: tables, `status.json`, the pod's termination message."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from retention.errors import ExitCode, RetentionError
from retention.rule.backup import Backup
from retention.rule.decide import Delete
from retention.rule.policy import Limits, Policy
from retention.text import parse_moment, table

ALLOW_FLAG = "--allow-large-prune"


ALLOW_VALUE = "allowLargePrune"


REFUSAL_REMEDY = (
    "nothing was deleted; see what would go with `plan`. A changed policy is the usual cause: if this is meant, "
    f"prune with {ALLOW_FLAG}, or set {ALLOW_VALUE}: true for this database until it is done"
)


TERMINATION_BYTES = 4096
"""Kubernetes keeps no more of a container's last words."""


STATUS_SCHEMA = 1


FORGET_AFTER = timedelta(days=7)
"""How long `status.json` tells of a database that no run names and that has nothing on the volume."""


OK, WARNING, REFUSED, FAILED = "ok", "warning", "refused", "failed"


@dataclass(slots=True)
class RunOutcome:
    """How a run of `finish` ended for one database.

    Attributes:
        database: Its name.
        cluster: Its cluster, empty when its configuration cannot be read.
        namespace: The cluster's namespace, likewise.
        published: Archive names that this run has published, oldest first.
        recovered: Those among them that an earlier run had staged.
        deleted: What this run has deleted, newest first.
        backups: What is there at the end, newest first; None when nobody could look.
        bad: Names of archives on the volume that are bad or damaged.
        problems: Why it failed.
        refusal: Why nothing was deleted although the policy says so.
        warnings: What somebody should know, though it worked.
        notes: What happened, in order, for the table's last column.
        seconds: How long it took.
        kept_by: Its policy, and what stands around that; None when nobody could read them.
    """

    database: str
    cluster: str = ""
    namespace: str = ""
    published: list[str] = field(default_factory=list)
    recovered: list[str] = field(default_factory=list)
    deleted: list[Delete] = field(default_factory=list)
    backups: list[Backup] | None = None
    bad: list[str] = field(default_factory=list)
    problems: list[RetentionError] = field(default_factory=list)
    refusal: RetentionError | None = None
    warnings: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    seconds: float = 0.0
    kept_by: tuple[Policy, Limits] | None = None

    @property
    def result(self) -> str:
        """One word: failed, refused, warning or ok."""
        if self.problems:
            return FAILED
        if self.refusal is not None:
            return REFUSED
        return WARNING if self.warnings else OK

    def newest(self, now: datetime) -> Backup | None:
        """Return the newest backup that is not dated after now."""
        return next((backup for backup in self.backups or () if backup.time <= now), None)

    def why(self) -> str:
        """Return the table's last column: the first thing a person has to know."""
        if self.problems:
            return self.problems[0].problem
        if self.refusal is not None:
            return self.refusal.problem
        return (self.warnings or self.notes or ["nothing new"])[0]


def exit_code(outcomes: Iterable[RunOutcome]) -> ExitCode:
    """Return a run's exit code: a failure beats a refusal."""
    results = {outcome.result for outcome in outcomes}
    if FAILED in results:
        return ExitCode.FAILED
    return ExitCode.REFUSED if REFUSED in results else ExitCode.DONE


def finish_table(outcomes: Sequence[RunOutcome], now: datetime) -> str:
    """Return the table that ends a run's log: one line a database."""
    rows = []
    for outcome in outcomes:
        newest = outcome.newest(now)
        rows.append(
            (
                outcome.database,
                outcome.result,
                f"{newest.time:%Y-%m-%d %H:%M:%S}Z" if newest else "none",
                "?" if outcome.backups is None else str(len(outcome.backups)),
                str(len(outcome.deleted)),
                f"{outcome.seconds:.1f}",
                outcome.why(),
            )
        )
    return table(("DATABASE", "RESULT", "NEWEST", "KEPT", "DELETED", "SECONDS", "WHY"), rows)


def termination_message(outcomes: Sequence[RunOutcome], warnings: Sequence[str], now: datetime) -> bytes:
    """Return the pod's last words, worst first, cut to what Kubernetes keeps."""
    order = {FAILED: 0, REFUSED: 1, WARNING: 2, OK: 3}
    ranked = sorted(outcomes, key=lambda outcome: order[outcome.result])
    failed = sum(outcome.result == FAILED for outcome in outcomes)
    lines = [f"{failed} of {len(outcomes)} databases failed" if failed else f"{len(outcomes)} databases done"]
    lines += warnings
    for outcome in ranked:
        newest = outcome.newest(now)
        told = f"newest {newest.time:%Y-%m-%d %H:%M}Z" if newest else "no backup"
        lines.append(f"{outcome.database} {outcome.result} ({told}): {outcome.why()}")
    return cut("\n".join(lines).encode(errors="replace"))


def cut(content: bytes) -> bytes:
    """Return a termination message cut to what Kubernetes keeps."""
    if len(content) <= TERMINATION_BYTES:
        return content
    ellipsis = "…".encode()
    return content[: TERMINATION_BYTES - len(ellipsis)].decode(errors="ignore").encode() + ellipsis


def status_entry(outcome: RunOutcome, previous: object, now: datetime) -> dict[str, Any]:
    """Return what `status.json` says about a database after a run."""
    newest = outcome.newest(now)
    at = now.isoformat(timespec="seconds")
    earlier = previous if isinstance(previous, dict) else {}
    # Where nobody could look, what was refused before is refused still.
    refused = earlier.get("refused") if outcome.backups is None and outcome.refusal is None else outcome.refusal
    return {
        "database": outcome.database,
        "cluster": outcome.cluster,
        "namespace": outcome.namespace,
        "result": outcome.result,
        "last_run": at,
        "last_success": at if outcome.result in (OK, WARNING, REFUSED) else earlier.get("last_success"),
        "newest": None
        if newest is None
        else {"name": newest.name, "time": newest.time.isoformat(), "bytes": newest.bytes, "tables": newest.tables},
        "kept": None if outcome.backups is None else len(outcome.backups),
        "bytes": None if outcome.backups is None else sum(backup.bytes for backup in outcome.backups),
        "pinned": None if outcome.backups is None else sum(_pinned(backup, now) for backup in outcome.backups),
        "published": outcome.published,
        "recovered": outcome.recovered,
        "deleted": [{"name": gone.name, "reason": gone.reason} for gone in outcome.deleted],
        "bad": outcome.bad,
        "refused": None if refused is None else str(refused),
        "problems": [{"problem": error.problem, "remedy": error.remedy} for error in outcome.problems],
        "warnings": outcome.warnings,
        "seconds": round(outcome.seconds, 1),
        # Of a drill, which writes here too.
        "drill": previous.get("drill") if isinstance(previous, dict) else None,
    }


def _pinned(backup: Backup, now: datetime) -> bool:
    return backup.pin is not None and backup.pin.holds(now)


def merge_status(
    content: bytes | None, outcomes: Sequence[RunOutcome], present: Iterable[str], now: datetime
) -> tuple[bytes, str]:
    """Return `status.json` after a run, and a warning (or nothing) about what was there before.

    Several CronJobs share the file: each replaces the entries of its own databases. The entry of a database that is
    neither in this run nor on the volume goes a week after its last run: until then it may be one of another CronJob
    that has failed from its first run on.
    """
    databases, warning = _earlier(content)
    ours = {outcome.database for outcome in outcomes}
    staying = ours.union(present)
    merged = {name: entry for name, entry in databases.items() if name in staying or _ran_lately(entry, now)}
    for outcome in outcomes:
        merged[outcome.database] = status_entry(outcome, databases.get(outcome.database), now)
    return _status_document(merged, now), warning


def _ran_lately(entry: object, now: datetime) -> bool:
    last_run = entry.get("last_run") if isinstance(entry, dict) else None
    moment = parse_moment(last_run) if isinstance(last_run, str) else None
    return moment is not None and abs(now - moment) < FORGET_AFTER


def merge_drills(content: bytes | None, drills: Mapping[str, Any], now: datetime) -> bytes:
    """Return `status.json` after a drill: of each drilled database the entry with its drill, all else as it was."""
    databases, _ = _earlier(content)
    merged = dict(databases)
    for database, drill in drills.items():
        entry = databases.get(database)
        merged[database] = {**(entry if isinstance(entry, dict) else {"database": database}), "drill": drill}
    return _status_document(merged, now)


def _status_document(databases: Mapping[str, Any], now: datetime) -> bytes:
    document = {
        "schema": STATUS_SCHEMA,
        "updated": now.isoformat(timespec="seconds"),
        "databases": dict(sorted(databases.items())),
    }
    return (json.dumps(document, indent=2, ensure_ascii=False) + "\n").encode(errors="replace")


def _earlier(content: bytes | None) -> tuple[Mapping[str, Any], str]:
    if content is None:
        return {}, ""
    databases = read_status(content)
    if databases is None:
        return {}, "status.json could not be understood and was written anew"
    return databases, ""


def read_status(content: bytes) -> dict[str, Any] | None:
    """Return the databases that `status.json` tells of, or None when it cannot be understood."""
    try:
        databases = json.loads(content)["databases"]
    except (ValueError, RecursionError, KeyError, TypeError):
        return None
    return databases if isinstance(databases, dict) else None
