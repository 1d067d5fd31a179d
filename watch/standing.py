"""How a release's backups are: each database, by what was learned from its runs, its schedule and the clock."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta, tzinfo

from retention.message import FAILED, OK, WARNING
from retention.text import format_age
from watch.memory import AHEAD, UNKNOWN, Configured, Drilled, Memory, Record
from watch.objects import BACKUP, RUNNING, CronJob, Run
from watch.outside import Outside
from watch.past import Past
from watch.schedule import Schedule, ScheduleError

LATE = "late"


@dataclass(frozen=True, slots=True)
class Database:
    """One configured database.

    Attributes:
        name: Its name.
        cronjob: The CronJob that backs it up.
        cluster: Its cluster.
        cluster_namespace: The cluster's namespace.
        dbname: Its name in PostgreSQL; empty where only the volume knows it.
        suspended: Whether the schedule of that CronJob is off.
        state: ok, warning, refused, failed, late, or unknown.
        why: The most important thing to know.
        record: What was learned of it; None for nothing.
        drilled: What was learned of its drills; None for nothing.
        next_run: When it is due next, UTC; None while it is suspended, or if it never is.
        stale_after: From which age its newest backup is too old; None if that cannot be said.
        drill_stale: Since when no drill has restored it, UTC, if that is too long; None if it is not.
        past: Its earlier runs.
        outside: What was learned of its copies outside; None for nothing.
        outside_stale_after: From which age the newest of them is too old; None where none are made.
    """

    name: str
    cronjob: str
    cluster: str
    cluster_namespace: str
    dbname: str
    suspended: bool
    state: str
    why: str
    record: Record | None
    drilled: Drilled | None
    next_run: datetime | None
    stale_after: timedelta | None
    drill_stale: datetime | None = None
    past: Past = field(default_factory=Past)
    outside: Outside | None = None
    outside_stale_after: timedelta | None = None


@dataclass(frozen=True, slots=True)
class Work:
    """A CronJob's Jobs.

    Attributes:
        cronjob: The CronJob's name.
        component: Its component.
        result: The state of the last Job that has ended: succeeded or failed; empty if none is there.
        active: How many run.
    """

    cronjob: str
    component: str
    result: str
    active: int


@dataclass(frozen=True, slots=True)
class Standing:
    """How a release's backups are.

    Attributes:
        databases: The configured ones and no others, by name.
        work: By CronJob.
        volume: Of the claim, what the last run said about it; see `retention.message.Message.volume`.
        claim: The claim.
    """

    databases: tuple[Database, ...]
    work: tuple[Work, ...]
    volume: Mapping[str, float] = field(default_factory=dict)
    claim: str = ""


def judge(
    cronjobs: Sequence[CronJob],
    runs: Sequence[Run],
    memory: Memory,
    configured: Mapping[str, Configured],
    *,
    now: datetime,
    stale_after: Mapping[str, timedelta],
    zones: Mapping[str, tzinfo],
    drill_stale_after: timedelta | None = None,
    outside_stale_after: timedelta | None = None,
) -> Standing:
    """Return how a release's backups are.

    Args:
        cronjobs: Its CronJobs.
        runs: Their Jobs, in the order in which they ended.
        memory: What was learned from them and those before.
        configured: What each CronJob is configured to back up, by its name; also if the CronJob is gone.
        now: The moment, UTC.
        stale_after: By CronJob, from which age a newest backup is too old.
        zones: Time zones by name; a schedule in any other zone has no next run.
        drill_stale_after: From which age the last drill that restored a database is too old; None without drills.
        outside_stale_after: From which age a newest copy outside is too old; None where none are made.
    """
    by_name = {cronjob.name: cronjob for cronjob in cronjobs}
    databases = []
    for cronjob, its in configured.items():
        made = by_name.get(cronjob)
        unseen = _unseen(made, runs)
        next_due = None if made is None or made.suspended else next_run(made, now, zones)
        for name in {*its.databases, *memory.found(cronjob, its)}:
            settings = its.databases.get(name) or its.entries.get(its.entry_of(name) or name) or {}
            databases.append(
                _database(
                    name,
                    made,
                    cronjob,
                    settings,
                    memory.records.get(name),
                    memory.drills.get(name),
                    memory.past.get(name, Past()),
                    now,
                    stale_after.get(cronjob),
                    next_due,
                    drill_stale_after,
                    found=name not in its.databases,
                    unseen=unseen,
                )
            )
    work = [_work(cronjob, runs) for cronjob in cronjobs]
    backups = [cronjob for cronjob in cronjobs if cronjob.component == BACKUP and cronjob.name in configured]
    claim = next((cronjob.claim for cronjob in backups), "")
    if outside_stale_after is not None:
        databases = [
            replace(one, outside=memory.outside.get(one.name), outside_stale_after=outside_stale_after)
            for one in databases
        ]
    return Standing(tuple(sorted(databases, key=lambda one: one.name)), tuple(work), memory.volume, claim)


def _database(
    name: str,
    cronjob: CronJob | None,
    cronjob_name: str,
    settings: Mapping[str, str],
    record: Record | None,
    drilled: Drilled | None,
    past: Past,
    now: datetime,
    stale_after: timedelta | None,
    next_due: datetime | None,
    drill_stale_after: timedelta | None,
    *,
    found: bool,
    unseen: datetime | None,
) -> Database:
    suspended = cronjob is not None and cronjob.suspended
    state, why = _state(record, now, None if suspended else stale_after)
    if state in (OK, WARNING) and record is not None and unseen is not None and unseen > record.judged[0]:
        state, why = UNKNOWN, f"its run of {unseen:%Y-%m-%d %H:%M}Z is gone, and nobody has seen how it ended"
    if state in (OK, WARNING) and cronjob is None:
        state, why = UNKNOWN, f"CronJob {cronjob_name} does not exist"
    if state in (OK, WARNING) and drilled is not None and drilled.result == FAILED:
        state, why = FAILED, "its last drill failed"
    drill_stale = _drill_stale(record, drilled, now, drill_stale_after)
    if state == OK and drill_stale is not None:
        state, why = WARNING, f"no drill has restored it for {format_age(now - drill_stale)}"
    return Database(
        name,
        cronjob_name,
        settings.get("cluster", ""),
        settings.get("namespace", ""),
        # The name of a directory does not say the database's name; only its metadata does.
        "" if found else settings.get("dbname", ""),
        suspended,
        state,
        why,
        record,
        drilled,
        next_due,
        stale_after,
        drill_stale,
        past,
    )


def _drill_stale(
    record: Record | None, drilled: Drilled | None, now: datetime, stale_after: timedelta | None
) -> datetime | None:
    """Return since when no drill has restored a database, if that is too long, as CnpgBackupDrillStale does."""
    proved = None if drilled is None else drilled.proved
    if proved is None and record is not None and "oldest" in record.numbers:
        # It has never been restored: it could have been as soon as there was a backup of it.
        proved = moment_of(record.numbers["oldest"])
    return proved if proved is not None and stale_after is not None and now - proved > stale_after else None


def moment_of(seconds: float) -> datetime | None:
    """Return the moment of a number of seconds since 1970, UTC; None if there is no such moment."""
    try:
        return datetime.fromtimestamp(seconds, UTC)
    except (OverflowError, ValueError, OSError):
        return None


def _unseen(cronjob: CronJob | None, runs: Sequence[Run]) -> datetime | None:
    """Return when a CronJob last started a Job on schedule, if that is gone."""
    if cronjob is None or cronjob.last_schedule is None:
        return None
    there = (run.started for run in runs if run.cronjob == cronjob.name)
    if any(started is None or started >= cronjob.last_schedule for started in there):
        return None
    return cronjob.last_schedule


def _state(record: Record | None, now: datetime, stale_after: timedelta | None) -> tuple[str, str]:
    if record is None:
        return UNKNOWN, "no run of it has been seen"
    state, why = record.result, record.why
    if state not in (OK, WARNING, UNKNOWN) or record.looked is None:
        return state, why
    newest = record.newest
    if newest is None:
        return (LATE, "it has no backup") if state != UNKNOWN else (state, why)
    if stale_after is not None and now - newest > stale_after:
        return LATE, f"its newest backup is {format_age(now - newest)} old"
    for at, when in ((now, "now"), (record.looked[0], "the end of its last run")):
        # Dated by a clock that is ahead, it would not look old for longer than it may.
        if state == OK and newest > at + AHEAD:
            after = f"{format_age(newest - at)} after {when}"
            return WARNING, f"its newest backup is dated {after}; check the clocks of the nodes"
    return state, why


def next_run(cronjob: CronJob, now: datetime, zones: Mapping[str, tzinfo]) -> datetime | None:
    """Return when a CronJob is due next, UTC; None if that cannot be said."""
    zone = UTC if cronjob.time_zone in ("Etc/UTC", "UTC") else zones.get(cronjob.time_zone)
    if zone is None:
        return None
    try:
        return Schedule.parse(cronjob.schedule).after(now, zone)
    except ScheduleError:
        return None


def _work(cronjob: CronJob, runs: Sequence[Run]) -> Work:
    own = [run for run in runs if run.cronjob == cronjob.name]
    ended = [run for run in own if run.state != RUNNING]
    return Work(cronjob.name, cronjob.component, ended[-1].state if ended else "", len(own) - len(ended))


def worst_first(databases: Sequence[Database]) -> list[Database]:
    """Return databases, those that need someone's attention first."""
    order = (FAILED, LATE, "refused", UNKNOWN, WARNING, OK)
    return sorted(databases, key=lambda one: (order.index(one.state), one.name))
