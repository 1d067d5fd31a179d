"""How a release stands: what `status` says. Values in, a document and what is wrong out."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from kubectl_cnpg_backup import schedule, tables
from kubectl_cnpg_backup.errors import PluginError
from kubectl_cnpg_backup.release import BACKUP, CronJob, Release, Run, parse_time
from kubectl_cnpg_backup.tables import Column, Table

FULL_SOON = timedelta(days=7)
"""A volume that is full within that time is something wrong."""
_LITTLE_HISTORY = timedelta(days=1)
"""Sizes over less than that say nothing about growth."""


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that is wrong: with what, what, and what to do."""

    subject: str
    problem: str
    remedy: str


@dataclass(frozen=True, slots=True)
class Database:
    """How one database stands.

    Attributes:
        name: Its name.
        cronjob: The CronJob that backs it up; None where that is not known.
        state: ok, warning, refused, failed, late, or unknown.
        last_success: When a run last backed it up, UTC.
        newest: When its newest backup began, UTC: what was written since would be lost now.
        next_run: When it is due next, UTC; None while it is suspended.
        backups: How many there are; None where nobody looked.
        bytes: What they take.
        last_drill: The result of the newest drill; None where there was none, or nobody looked.
        why: The first thing that one has to know.
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


@dataclass(frozen=True, slots=True)
class Volume:
    """The volume.

    Attributes:
        bytes: What the backups can ever have.
        used: What is used now.
        full: What a run needs at most once all tiers are full, the archives being as large as now.
        days_until_full: When even that has no room, if the archives go on growing as they did; None for never.
    """

    bytes: int
    used: int
    full: int
    days_until_full: float | None


@dataclass(frozen=True, slots=True)
class Seen:
    """What an inspector pod has seen: `retention status`, `retention list` and the volume's room."""

    status: Sequence[Mapping[str, Any]]
    listing: Sequence[Mapping[str, Any]]
    total: int | None
    used: int | None


@dataclass(frozen=True, slots=True)
class Standing:
    """How a release stands."""

    release: Release
    databases: tuple[Database, ...]
    runs: tuple[Run, ...]
    volume: Volume | None
    problems: tuple[Problem, ...]


def judge(
    release: Release,
    configured: Mapping[str, Sequence[str]],
    runs: Sequence[Run],
    seen: Seen | None,
    now: datetime,
) -> Standing:
    """Say how a release stands.

    Args:
        release: The release.
        configured: The databases of each CronJob, by its name; empty where they may not be read.
        runs: Its Jobs, newest first.
        seen: What an inspector has seen; None when nobody looked.
        now: The moment, UTC.
    """
    problems: list[Problem] = []
    backing = {name: cronjob for cronjob in release.of(BACKUP) for name in configured.get(cronjob.name, ())}
    own_runs = [run for run in runs if run.component == BACKUP]
    names = {*backing, *(verdict.database for run in own_runs for verdict in run.verdicts)}
    on_volume = {str(entry["database"]): entry for entry in seen.status} if seen else {}
    databases = []
    for name in sorted({*names, *on_volume}):
        cronjob = backing.get(name) or _only(release.of(BACKUP))
        known = name in backing or not configured
        database = _database(name, cronjob if known else None, own_runs, on_volume.get(name), now)
        databases.append(database)
        problems += _problems_of(database, known=known)
    problems += [problem for cronjob in release.of(BACKUP) for problem in _problems_of_cronjob(cronjob, own_runs, now)]
    volume = _volume(seen)
    if volume is not None and (told := _too_small(volume)):
        remedy = "let the claim grow (persistence.size), or keep less (retention.tiers)"
        problems.append(Problem(f"claim {release.claim}", told, remedy))
    return Standing(release, tuple(databases), tuple(runs), volume, tuple(problems))


def _only(cronjobs: Sequence[CronJob]) -> CronJob | None:
    return cronjobs[0] if len(cronjobs) == 1 else None


def _database(
    name: str,
    cronjob: CronJob | None,
    runs: Sequence[Run],
    on_volume: Mapping[str, Any] | None,
    now: datetime,
) -> Database:
    state, why, newest, last_success = "unknown", "no run is known", None, None
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
    next_run = None
    if cronjob is not None:
        next_run, late = _due(cronjob, newest, now)
        if late and state in ("ok", "warning", "unknown") and not cronjob.suspended:
            state = "late"
            why = "no backup at all" if newest is None else "the last run that was due has left no backup"
    backups = None if on_volume is None else int(on_volume.get("backups") or 0)
    size = None if on_volume is None else int(on_volume.get("bytes") or 0)
    return Database(name, cronjob, state, last_success, newest, next_run, backups, size, drill, why)


def _by_volume(entry: Mapping[str, Any], now: datetime, why: str) -> tuple[str, str, datetime | None, datetime | None]:
    seconds = entry.get("newest_age_seconds")
    newest = None if seconds is None else now - timedelta(seconds=seconds)
    if entry.get("bad"):
        why = f"bad archives: {', '.join(entry['bad'])}"
    else:
        told = [
            *(str(problem.get("problem")) for problem in entry.get("problems") or ()),
            *([str(entry["refused"])] if entry.get("refused") else []),
            *map(str, entry.get("warnings") or ()),
        ]
        why = told[0] if told else _drill_failure(entry.get("drill"))
    return str(entry.get("result") or "unknown"), why, newest, parse_time(entry.get("last_success"))


def _drill_failure(drill: object) -> str:
    """Return why a drill failed, as one sentence; nothing when none has."""
    if not isinstance(drill, Mapping) or drill.get("result") != "failed":
        return ""
    return f"its last drill failed: {drill.get('problem') or 'see its log'}"


def _due(cronjob: CronJob, newest: datetime | None, now: datetime) -> tuple[datetime | None, bool]:
    try:
        late = schedule.is_late(newest, cronjob.schedule, cronjob.time_zone, now)
        following = None if cronjob.suspended else schedule.next_run(cronjob.schedule, cronjob.time_zone, now)
    except PluginError:
        return None, False
    return following, late and _old_enough(cronjob, now)


def _old_enough(cronjob: CronJob, now: datetime) -> bool:
    """Tell whether a CronJob was there when its last but one run was due."""
    made = parse_time((cronjob.source.get("metadata") or {}).get("creationTimestamp"))
    due = schedule.due_before(cronjob.schedule, cronjob.time_zone, now, 2)
    return made is None or due is None or made < due


_STATES = {
    "failed": "see `kubectl cnpg-backup logs`",
    "refused": "see `kubectl cnpg-backup plan`; allowLargePrune says yes for one run",
    "late": "see `kubectl cnpg-backup doctor`, and the CronJob's events",
}


def _problems_of(database: Database, *, known: bool) -> list[Problem]:
    problems = []
    drill = database.last_drill
    undrilled = _drill_failure(drill)
    if database.state in _STATES and known and not (undrilled and database.why == undrilled):
        problems.append(Problem(database.name, f"{database.state}: {database.why}", _STATES[database.state]))
    if drill is not None and undrilled:
        remedy = drill.get("remedy") or "see `kubectl cnpg-backup list` for which backup"
        problems.append(Problem(database.name, undrilled, str(remedy)))
    return problems


def _problems_of_cronjob(cronjob: CronJob, runs: Iterable[Run], now: datetime) -> list[Problem]:
    last = next((run for run in runs if run.cronjob == cronjob.name and run.state != "running"), None)
    subject = f"cronjob/{cronjob.name}"
    problems = []
    if last is not None and last.state == "failed" and not last.verdicts:
        reason = last.reason or "its pod said nothing"
        problems.append(
            Problem(
                subject, f"its last run, job/{last.job}, failed: {reason}", f"see `kubectl describe job {last.job}`"
            )
        )
    if cronjob.suspended:
        problems.append(
            Problem(
                subject,
                f"its schedule is suspended; its last run was {tables.since(cronjob.last_schedule, now)} ago"
                if cronjob.last_schedule
                else "its schedule is suspended, and it has never run",
                "set suspend: false (of the release, or of its databases) and upgrade, unless this is meant",
            )
        )
    return problems


def _too_small(volume: Volume) -> str:
    if volume.full > volume.bytes:
        sizes = tables.size(volume.full), tables.size(volume.bytes)
        return "the volume is too small: once all tiers are full a run needs about {}, it has {}".format(*sizes)
    if volume.days_until_full is not None and volume.days_until_full < FULL_SOON.days:
        return f"the volume is full in {volume.days_until_full:.0f} days at the present growth"
    return ""


def _volume(seen: Seen | None) -> Volume | None:
    if seen is None or seen.total is None or seen.used is None:
        return None
    full = seen.used
    for entry in seen.listing:
        full += int(entry["full_bytes"]) - sum(int(backup["bytes"]) for backup in entry["backups"])
    full = max(full, seen.used)
    return Volume(seen.total, seen.used, full, days_until_full(seen.listing, seen.total - full))


def days_until_full(listing: Iterable[Mapping[str, Any]], room: int) -> float | None:
    """Return in how many days the archives' own growth has used up some room; None for never.

    The number of backups stays what it is once the tiers are full. So for each database it is the difference of its
    newest and its oldest archive, over the time between them, for all that full tiers hold. Less than a day of history
    says nothing.

    Args:
        listing: What `retention list` says.
        room: Bytes that are left once all tiers are full; where there are none, that is never good news: 0.
    """
    per_day = 0.0
    for entry in listing:
        backups = [backup for backup in entry["backups"] if int(backup["age_seconds"]) >= 0]
        if len(backups) < 2:
            continue
        newest, oldest = backups[0], backups[-1]
        days = (int(oldest["age_seconds"]) - int(newest["age_seconds"])) / 86400
        if days * 86400 < _LITTLE_HISTORY.total_seconds():
            continue
        places = max(len(backups), int(entry["full_bytes"]) / max(1, int(newest["bytes"])))
        per_day += places * (int(newest["bytes"]) - int(oldest["bytes"])) / days
    if room <= 0:
        return 0.0
    return None if per_day <= 0 else room / per_day


def document(standing: Standing, now: datetime) -> dict[str, Any]:
    """Return how a release stands, for machines."""
    release = standing.release
    return {
        "namespace": release.namespace,
        "release": release.name,
        "chart": release.version,
        "time": now.isoformat(timespec="seconds"),
        "ok": not standing.problems,
        "problems": [
            {"subject": one.subject, "problem": one.problem, "remedy": one.remedy} for one in standing.problems
        ],
        "databases": [_database_document(database, now) for database in standing.databases],
        "cronjobs": [_cronjob_document(cronjob, standing.runs, now) for cronjob in release.cronjobs],
        "volume": None
        if standing.volume is None
        else {
            "claim": release.claim,
            "bytes": standing.volume.bytes,
            "used_bytes": standing.volume.used,
            "full_bytes": standing.volume.full,
            "days_until_full": None
            if standing.volume.days_until_full is None
            else round(standing.volume.days_until_full, 1),
        },
    }


def _moment(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat(timespec="seconds")


def _database_document(database: Database, now: datetime) -> dict[str, Any]:
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
    }


def _cronjob_document(cronjob: CronJob, runs: Iterable[Run], now: datetime) -> dict[str, Any]:
    last = next((run for run in runs if run.cronjob == cronjob.name), None)
    following = None
    if not cronjob.suspended:
        try:
            following = schedule.next_run(cronjob.schedule, cronjob.time_zone, now)
        except PluginError:
            following = None
    return {
        "name": cronjob.name,
        "component": cronjob.component,
        "schedule": cronjob.schedule,
        "time_zone": cronjob.time_zone,
        "suspended": cronjob.suspended,
        "next_run": _moment(following),
        "last_job": None if last is None else run_document(last),
    }


def run_document(run: Run) -> dict[str, Any]:
    """Return a run, for machines."""
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


_COLUMNS = (
    Column("DATABASE"),
    Column("STATE"),
    Column("LAST SUCCESS", importance=4, right=True),
    Column("RPO NOW", right=True),
    Column("NEXT RUN", importance=6, right=True),
    Column("BACKUPS", importance=2, right=True),
    Column("SIZE", importance=3, right=True),
    Column("LAST DRILL", importance=5),
    Column("WHY", importance=1, wraps=True),
)


def table(standing: Standing, now: datetime) -> Table:
    """Return the databases of a release, one a line."""
    return tables.make(
        _COLUMNS,
        (
            (
                database.name,
                database.state,
                f"{tables.since(database.last_success, now)} ago" if database.last_success else "-",
                tables.since(database.newest, now),
                tables.since(database.next_run, now) if database.next_run else "-",
                "-" if database.backups is None else str(database.backups),
                tables.size(database.bytes),
                tables.drilled(database.last_drill, now),
                database.why,
            )
            for database in standing.databases
        ),
    )


def volume_line(standing: Standing) -> str:
    """Return what one has to know of the volume."""
    volume = standing.volume
    if volume is None:
        return ""
    when = "and no more"
    if volume.days_until_full is not None:
        when = f"too much in {volume.days_until_full:.0f} days"
    free, total = tables.size(volume.bytes - volume.used), tables.size(volume.bytes)
    return (
        f"claim {standing.release.claim}: {free} of {total} free; "
        f"once all tiers are full about {tables.size(volume.full)} are used, {when} at the present growth"
    )
