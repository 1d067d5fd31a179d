"""The status of a release: its databases, its volume, and what is wrong."""

from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from kubectl_cnpg_backup.model import offsite, outlook, traces
from kubectl_cnpg_backup.model.objects import parse_time
from kubectl_cnpg_backup.model.offsite import Outside
from kubectl_cnpg_backup.model.outlook import Outlook
from kubectl_cnpg_backup.model.release import BACKUP, DRILL, OFFSITE, OFFSITE_DRILL, CronJob, Release, Run, entry_of
from kubectl_cnpg_backup.model.schedule import Assessment, assess
from retention.rule import sizing
from retention.text import format_size

FULL_SOON = timedelta(days=7)
"""A volume that will be full within this time is a problem."""


@dataclass(frozen=True, slots=True)
class Problem:
    """Something wrong: with what, what it is, and what to do."""

    subject: str
    problem: str
    remedy: str


@dataclass(frozen=True, slots=True)
class Database:
    """The status of one database.

    Attributes:
        name: Its name.
        cronjob: The CronJob that backs it up; None where that is unknown.
        state: ok, warning, refused, failed, late, or unknown.
        last_success: When a run last backed it up, UTC.
        newest: When its newest backup began, UTC: data written since would be lost now.
        next_run: When it is due next, UTC; None while it is suspended.
        backups: How many there are; None without a look at the volume.
        bytes: Their size.
        last_drill: The result of the newest drill; None where there was none, or without a look at the volume.
        why: The most important thing to know.
        restore: How a restore would go today; None where that is unknown.
        outside: What is known of its copies outside the cluster; None where none are made, or nothing is known.
    """

    name: str
    cronjob: CronJob | None
    state: str
    last_success: datetime | None
    newest: datetime | None
    next_run: datetime | None
    backups: int | None
    bytes: int | None
    last_drill: Mapping[str, Any] | None
    why: str
    restore: Outlook | None = None
    outside: Outside | None = None


@dataclass(frozen=True, slots=True)
class Volume:
    """The volume.

    Attributes:
        bytes: Its size.
        used: What is used now.
        full: The most that a run needs once all tiers are full, if archives stay as large as now.
        days_until_full: When it is too small for that, if archives keep growing as before; None for never.
    """

    bytes: int
    used: int
    full: int
    days_until_full: float | None


@dataclass(frozen=True, slots=True)
class VolumeReport:
    """What an inspector pod found on the volume: `retention status`, `retention list`, and the volume's size."""

    status: Sequence[Mapping[str, Any]]
    listing: Sequence[Mapping[str, Any]]
    total: int | None
    used: int | None


@dataclass(frozen=True, slots=True)
class Status:
    """The status of a release."""

    release: Release
    databases: tuple[Database, ...]
    runs: tuple[Run, ...]
    volume: Volume | None
    problems: tuple[Problem, ...]


def describe(
    release: Release,
    configured: Mapping[str, Sequence[str]],
    runs: Sequence[Run],
    report: VolumeReport | None,
    now: datetime,
    superusers: Mapping[str, bool | None] | None = None,
    entries: Container[str] = (),
) -> Status:
    """Return the status of a release.

    Args:
        release: The release.
        configured: The databases of each CronJob, by its name; empty where this user may not read them.
        runs: Its Jobs, newest first.
        report: What an inspector pod found on the volume; None when none looked.
        now: The moment, UTC.
        superusers: Whether a restore of each of `configured` finds the superuser's Secret; None for unknown.
        entries: What of `configured` means all databases of a cluster.
    """
    problems = [Problem(subject, one.problem, one.remedy) for subject, one in traces.strangers(release, runs)]
    runs = [run for run in runs if not run.foreign]
    superusers = superusers or {}
    ahead = outlook.known(runs, superusers, entries)
    backing = {name: cronjob for cronjob in release.of(BACKUP) for name in configured.get(cronjob.name, ())}
    own_runs = [run for run in runs if run.component == BACKUP]
    assessments = {cronjob.name: assess(cronjob, own_runs, now) for cronjob in release.of(BACKUP)}
    names = {*backing, *(verdict.database for run in own_runs for verdict in run.verdicts)}
    on_volume = {str(entry["database"]): entry for entry in report.status} if report else {}
    databases = []
    outside = offsite.copies_outside(runs) if release.of(OFFSITE) else {}
    # An entry that means all databases of a cluster is none itself, unless they could not be listed.
    with_databases = {name.partition(".")[0] for name in (*names, *on_volume) if "." in name}
    names = {name for name in names if name in on_volume or name not in entries or name not in with_databases}
    for name in sorted({*names, *on_volume}):
        own = name if name in backing else entry_of(name, entries)
        cronjob = backing.get(own) or _only(release.of(BACKUP))
        known = own in backing or not configured
        assessment = assessments[cronjob.name] if cronjob is not None and known else None
        database = _database(name, assessment, own_runs, on_volume.get(name), now)
        recorded = outlook.from_entry(name, on_volume.get(name, {}).get("restore"))
        if recorded is not None:
            ahead[name] = outlook.with_superuser(recorded, superusers.get(own))
        copied = outside.get(name)
        databases.append(replace(database, restore=ahead.get(name), outside=copied))
        problems += _problems_of(database, known=known)
        for copier in release.of(OFFSITE):
            if copied is None:
                continue
            if (wrong := offsite.problem_of(copied, copier, cronjob, database.newest, runs, now)) is not None:
                problems.append(Problem(name, wrong.problem, wrong.remedy))
        seconds = int(on_volume.get(name, {}).get("ahead_seconds") or 0)
        latest = now + timedelta(seconds=seconds) if seconds else database.newest
        if (error := traces.ahead(latest, now)) is not None:
            problems.append(Problem(name, error.problem, error.remedy))
    problems += [problem for one in assessments.values() for problem in _problems_of_cronjob(one)]
    problems += [
        Problem(f"cronjob/{copier.name}", error.problem, error.remedy)
        for copier, error in offsite.unrecorded(release, runs, now)
    ]
    for cronjob in release.of(DRILL):
        problems += problems_of_drill(assess(cronjob, runs, now), recorded=report is not None)
    for cronjob in release.of(OFFSITE_DRILL):
        problems += problems_of_drill(assess(cronjob, runs, now))
    volume = _volume(report)
    if volume is not None and (problem := _too_small(volume)):
        remedy = "raise persistence.size, or keep fewer backups (retention.keep or retention.tiers)"
        problems.append(Problem(f"claim {release.claim}", problem, remedy))
    return Status(release, tuple(databases), tuple(runs), volume, tuple(problems))


def _only(cronjobs: Sequence[CronJob]) -> CronJob | None:
    return cronjobs[0] if len(cronjobs) == 1 else None


def _database(
    name: str,
    assessment: Assessment | None,
    runs: Sequence[Run],
    on_volume: Mapping[str, Any] | None,
    now: datetime,
) -> Database:
    state, why, newest, last_success = "unknown", "no run of it is known", None, None
    for run in runs:
        for verdict in run.verdicts:
            if verdict.database != name:
                continue
            if state == "unknown":
                state, why, newest = verdict.result, verdict.why, verdict.newest
            if last_success is None and verdict.result in ("ok", "warning", "refused"):
                last_success = run.finished
    drill = None
    if on_volume is not None:
        state, why, newest, last_success = _by_volume(on_volume, now, why)
        drill = on_volume.get("drill")
    if assessment is not None and state in ("ok", "warning", "unknown"):
        empty = traces.without_backup(name, runs, assessment.cronjob.name, newest)
        if empty is not None and (on_volume is not None or state != "unknown"):
            state, why = "late", traces.explain(empty, now)
        elif assessment.is_late(newest):
            state = "late"
            why = "it has no backup" if newest is None else "the last run that was due left no backup"
    backups = None if on_volume is None else int(on_volume.get("backups") or 0)
    size = None if on_volume is None else int(on_volume.get("bytes") or 0)
    cronjob, next_run = (None, None) if assessment is None else (assessment.cronjob, assessment.next_run)
    return Database(name, cronjob, state, last_success, newest, next_run, backups, size, drill, why)


def _by_volume(entry: Mapping[str, Any], now: datetime, why: str) -> tuple[str, str, datetime | None, datetime | None]:
    seconds = entry.get("newest_age_seconds")
    newest = None if seconds is None else now - timedelta(seconds=seconds)
    if entry.get("bad"):
        why = f"bad archives: {', '.join(entry['bad'])}"
    else:
        reasons = [
            *(str(problem.get("problem")) for problem in entry.get("problems") or ()),
            *([str(entry["refused"])] if entry.get("refused") else []),
            *map(str, entry.get("warnings") or ()),
        ]
        why = reasons[0] if reasons else _drill_failure(entry.get("drill"))
    return str(entry.get("result") or "unknown"), why, newest, parse_time(entry.get("last_success"))


def _drill_failure(drill: object) -> str:
    """Return why a drill failed, as one sentence; empty when it did not."""
    if not isinstance(drill, Mapping) or drill.get("result") != "failed":
        return ""
    return f"its last drill failed: {drill.get('problem') or 'see its log'}"


_STATES = {
    "failed": "see `kubectl cnpg-backup logs`",
    "refused": "see `kubectl cnpg-backup plan`; if it is right, set allowLargePrune: true to let one run prune",
    "late": "see `kubectl cnpg-backup doctor`, and `kubectl describe` of the CronJob",
}


def _problems_of(database: Database, *, known: bool) -> list[Problem]:
    problems = []
    drill = database.last_drill
    undrilled = _drill_failure(drill)
    if database.state in _STATES and known and not (undrilled and database.why == undrilled):
        problems.append(Problem(database.name, f"{database.state}: {database.why}", _STATES[database.state]))
    if drill is not None and undrilled:
        remedy = drill.get("remedy") or "see `kubectl cnpg-backup list` for the backup that was drilled"
        problems.append(Problem(database.name, undrilled, str(remedy)))
    return problems


def _problems_of_cronjob(assessment: Assessment) -> list[Problem]:
    last = assessment.last
    # What a run reports about a database is a problem of that database.
    failure = None if last is None or last.verdicts else assessment.failure()
    errors = [error for error in (failure, assessment.suspension(), assessment.missing()) if error is not None]
    return [Problem(f"cronjob/{assessment.cronjob.name}", error.problem, error.remedy) for error in errors]


def problems_of_drill(assessment: Assessment, *, recorded: bool = False) -> list[Problem]:
    """Return what is wrong with the last drill that ended.

    Args:
        assessment: The state of the CronJob of drills.
        recorded: Whether the results on the volume are shown; a drill that ended by itself has its failure there.
    """
    last = assessment.last
    error = assessment.unrecorded() or assessment.missing()
    if last is not None and (last.killed or not recorded):
        error = assessment.failure() or error
    return [] if error is None else [Problem(f"cronjob/{assessment.cronjob.name}", error.problem, error.remedy)]


def _too_small(volume: Volume) -> str:
    if volume.full > volume.bytes:
        needed, size = format_size(volume.full), format_size(volume.bytes)
        return f"the volume is too small: once all tiers are full a run needs about {needed}, it has {size}"
    if volume.days_until_full is not None and volume.days_until_full < FULL_SOON.days:
        return f"the volume will be full in {volume.days_until_full:.0f} days at the current growth"
    return ""


def _volume(report: VolumeReport | None) -> Volume | None:
    if report is None or report.total is None or report.used is None:
        return None
    full = report.used
    for entry in report.listing:
        full += int(entry["full_bytes"]) - sum(int(backup["bytes"]) for backup in entry["backups"])
    full = max(full, report.used)
    return Volume(report.total, report.used, full, days_until_full(report.listing, report.total - full))


def days_until_full(listing: Iterable[Mapping[str, Any]], room: int) -> float | None:
    """Return in how many days the growth of the archives will use up some room; None for never.

    Args:
        listing: What `retention list` says.
        room: Bytes that are left once all tiers are full; when none are left, the answer is 0 days.
    """
    per_second = 0.0
    for entry in listing:
        backups = [backup for backup in entry["backups"] if int(backup["age_seconds"]) >= 0]
        sizes = [(float(backup["age_seconds"]), int(backup["bytes"])) for backup in backups]
        per_second += sizing.growth(sizes, int(entry["full_bytes"])) or 0.0
    if room <= 0:
        return 0.0
    return None if per_second <= 0 else room / per_second / timedelta(days=1).total_seconds()


def document(status: Status, now: datetime) -> dict[str, Any]:
    """Return the status of a release, for programs."""
    release = status.release
    return {
        "namespace": release.namespace,
        "release": release.name,
        "chart": release.version,
        "time": now.isoformat(timespec="seconds"),
        "ok": not status.problems,
        "problems": [{"subject": one.subject, "problem": one.problem, "remedy": one.remedy} for one in status.problems],
        "databases": [database_document(database, now) for database in status.databases],
        "cronjobs": [_cronjob_document(cronjob, status.runs, now) for cronjob in release.cronjobs],
        "volume": None
        if status.volume is None
        else {
            "claim": release.claim,
            "bytes": status.volume.bytes,
            "used_bytes": status.volume.used,
            "full_bytes": status.volume.full,
            "days_until_full": None
            if status.volume.days_until_full is None
            else round(status.volume.days_until_full, 1),
        },
    }


def _moment(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat(timespec="seconds")


def database_document(database: Database, now: datetime) -> dict[str, Any]:
    """Return the status of a database, for programs."""
    return {
        "database": database.name,
        "cronjob": None if database.cronjob is None else database.cronjob.name,
        "state": database.state,
        "last_success": _moment(database.last_success),
        "newest": _moment(database.newest),
        "rpo_seconds": None if database.newest is None else int((now - database.newest).total_seconds()),
        "next_run": _moment(database.next_run),
        "backups": database.backups,
        "bytes": database.bytes,
        "last_drill": database.last_drill,
        "why": database.why,
        "restore": None if database.restore is None else database.restore.document(),
        "offsite": None if database.outside is None else database.outside.document(now),
    }


def _cronjob_document(cronjob: CronJob, runs: Sequence[Run], now: datetime) -> dict[str, Any]:
    last = next((run for run in runs if run.cronjob == cronjob.name), None)
    return {
        "name": cronjob.name,
        "component": cronjob.component,
        "schedule": cronjob.schedule,
        "time_zone": cronjob.time_zone,
        "suspended": cronjob.suspended,
        "next_run": _moment(assess(cronjob, runs, now).next_run),
        "last_job": None if last is None else run_document(last),
    }


def run_document(run: Run) -> dict[str, Any]:
    """Return a run, for programs."""
    return {
        "job": run.job,
        "cronjob": run.cronjob or None,
        "state": run.state,
        "started": _moment(run.started),
        "finished": _moment(run.finished),
        "exit_code": run.exit_code,
        "reason": run.reason or None,
        "message": run.message or None,
    }
