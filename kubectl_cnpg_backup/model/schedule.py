"""When a CronJob is due, and its state: assessed once, for `status` and `doctor`."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError

from kubectl_cnpg_backup.errors import PluginError
from kubectl_cnpg_backup.model import suspension
from kubectl_cnpg_backup.model.objects import dig, parse_time
from kubectl_cnpg_backup.model.release import DRILL, OFFSITE, OFFSITE_DRILL, CronJob, Run
from retention.text import format_age
from watch.schedule import MACROS

EARLY = timedelta(minutes=15)
"""How much earlier than its due time a backup may begin; the retention rule of the chart allows the same."""

MARGIN = timedelta(minutes=5)
"""How long after its due time a Job may start: its controller needs seconds, and this machine's clock may be off."""


def _simulate(expression: str, zone: str, moment: datetime, *, reverse: bool) -> CronSim:
    try:
        local = moment.astimezone(ZoneInfo(zone))
        # To Kubernetes a question mark is an asterisk.
        return CronSim(MACROS.get(expression.strip(), expression).replace("?", "*"), local, reverse=reverse)
    except (CronSimError, ZoneInfoNotFoundError, ValueError) as error:
        raise PluginError(f"schedule {expression!r} in {zone}: {error}", "correct schedule and timeZone") from None


def next_run(expression: str, zone: str, now: datetime) -> datetime | None:
    """Return when a schedule is next due after `now`, UTC; None when it never is.

    Raises:
        PluginError: When the expression or the zone is not valid.
    """
    moment = next(_simulate(expression, zone, now, reverse=False), None)
    return None if moment is None else moment.astimezone(UTC)


def due_before(expression: str, zone: str, now: datetime, count: int) -> datetime | None:
    """Return when a schedule was due for the `count`-th last time before `now`, UTC; None when it never was.

    Raises:
        PluginError: When the expression or the zone is not valid.
    """
    moment = None
    simulation = _simulate(expression, zone, now, reverse=True)
    for _ in range(count):
        moment = next(simulation, None)
    return None if moment is None else moment.astimezone(UTC)


def is_late(newest: datetime | None, expression: str, zone: str, now: datetime) -> bool:
    """Tell whether a backup is overdue: neither the last but one due time nor a later one has a backup.

    The run that was due last may still be in progress, so its backup is not missing yet.
    """
    due = due_before(expression, zone, now, 2)
    if due is None:
        return False
    return newest is None or newest < due - EARLY


def again_by(cronjob: CronJob) -> str:
    """Return the command of the plugin that runs a CronJob now."""
    own = {DRILL: "drill", OFFSITE: "offsite run", OFFSITE_DRILL: "offsite drill"}
    return own.get(cronjob.component, "run")


@dataclass(frozen=True, slots=True)
class Assessment:
    """The state of a CronJob.

    Attributes:
        cronjob: The CronJob.
        now: The moment, UTC.
        last: Its last run that has ended; None where no such run is left.
        next_run: When it is due next, UTC; None while it is suspended, or when it never is.
        missed: When it was last due, if no Job started then, UTC; None when it has missed nothing.
        settled: Whether it existed when its last but one run was due, so that a backup can be overdue.
        invalid: What is wrong with its schedule, None when it is valid.
    """

    cronjob: CronJob
    now: datetime
    last: Run | None
    next_run: datetime | None
    missed: datetime | None
    settled: bool
    invalid: PluginError | None

    def suspension(self) -> PluginError | None:
        """Return that its schedule is suspended, None when it is not."""
        if not self.cronjob.suspended:
            return None
        last, found = self.cronjob.last_schedule, suspension.explained(self.cronjob.source)
        return PluginError(
            f"{found.problem}; its last run was {format_age(self.now - last)} ago"
            if last
            else f"{found.problem}, and it has never run",
            f"unless this is meant: {found.remedy}",
        )

    def missing(self) -> PluginError | None:
        """Return that its last run did not start, None when it did."""
        if self.missed is None:
            return None
        again = again_by(self.cronjob)
        job = f"{self.cronjob.name}-{int(self.missed.timestamp()) // 60}"
        return PluginError(
            f"it was due {format_age(self.now - self.missed)} ago and did not start",
            f"see `kubectl describe cronjob {self.cronjob.name}`; if there is a Job {job} that its controller did not "
            f"make, it has taken the run's name: delete it. Then: kubectl cnpg-backup {again}",
        )

    def failure(self) -> PluginError | None:
        """Return why its last run failed, None when it did not."""
        run = self.last
        if run is None or run.state != "failed":
            return None
        why = run.reason if run.killed else ""
        why = why or next((verdict.why for verdict in run.verdicts if verdict.result in ("failed", "refused")), "")
        why = why or _failed_drill(run) or run.reason or run.message or "its pod left no message"
        return PluginError(
            f"its last run, job/{run.job}, failed: {why}",
            f"see `kubectl cnpg-backup logs {run.job}`, or `kubectl describe job {run.job}` if its pod is gone",
        )

    def unrecorded(self) -> PluginError | None:
        """Return that its last run succeeded by no sign, though no failed Job is left to tell why; None when it did.

        A Job can be deleted, and its failure with it. The CronJob still has the times of its last start and success.
        """
        started, success = self.cronjob.last_schedule, self.cronjob.last_success
        if self.last is not None or started is None or (success is not None and success >= started):
            return None
        job = dig(self.cronjob.source, "spec", "jobTemplate", "spec")
        if self.now - started <= timedelta(seconds=int(job.get("activeDeadlineSeconds") or 0)):
            return None
        return PluginError(
            f"its run of {format_age(self.now - started)} ago left no success and no Job",
            "see `kubectl get events`; raise failedJobsHistoryLimit or ttlSecondsAfterFinished to keep Jobs that fail",
        )

    def is_late(self, newest: datetime | None) -> bool:
        """Tell whether a backup is overdue, the newest one being of this moment."""
        cronjob = self.cronjob
        if self.invalid is not None or cronjob.suspended or not self.settled:
            return False
        return is_late(newest, cronjob.schedule, cronjob.time_zone, self.now)


def _failed_drill(run: Run) -> str:
    """Return what the message of a drill says about the first database whose drill failed; nothing for other runs."""
    failed = (line.partition(" [drill=failed") for line in run.message.splitlines())
    return next((line for line, found, _ in failed if found), "")


def assess(cronjob: CronJob, runs: Iterable[Run], now: datetime) -> Assessment:
    """Return the state of a CronJob.

    Args:
        cronjob: The CronJob.
        runs: The release's Jobs, newest first.
        now: The moment, UTC.
    """
    own = [run for run in runs if run.cronjob == cronjob.name]
    last = next((run for run in own if run.state != "running"), None)
    try:
        following = next_run(cronjob.schedule, cronjob.time_zone, now)
        due = due_before(cronjob.schedule, cronjob.time_zone, now, 2)
    except PluginError as error:
        return Assessment(cronjob, now, last, None, None, False, error)
    made = parse_time(dig(cronjob.source, "metadata").get("creationTimestamp"))
    return Assessment(
        cronjob,
        now,
        last,
        None if cronjob.suspended else following,
        _missed(cronjob, own, now),
        made is None or due is None or made < due,
        None,
    )


def _missed(cronjob: CronJob, own: Iterable[Run], now: datetime) -> datetime | None:
    """Return when a CronJob was last due, if it could have started a Job then and did not."""
    due = due_before(cronjob.schedule, cronjob.time_zone, now - MARGIN, 1)
    if due is None or cronjob.suspended or (cronjob.last_schedule is not None and cronjob.last_schedule >= due):
        return None
    changed = _changed(cronjob)
    if changed is None or changed > due:
        return None
    # A run that is still at work keeps the next one from starting (concurrencyPolicy: Forbid). After it, the controller
    # makes up for what was due within the starting deadline.
    deadline = dig(cronjob.source, "spec").get("startingDeadlineSeconds")
    too_late = now if deadline is None else due + timedelta(seconds=int(deadline))
    busy = [run for run in own if run.started is not None and run.started <= due + MARGIN]
    until = min(too_late, now - MARGIN)
    if any(run.state == "running" or (run.finished is not None and run.finished > until) for run in busy):
        return None
    return due


def _changed(cronjob: CronJob) -> datetime | None:
    """Return when the spec of a CronJob, its schedule among it, was last changed; an annotation changes no spec."""
    metadata = dig(cronjob.source, "metadata")
    changes = [
        parse_time(entry.get("time"))
        for entry in metadata.get("managedFields") or ()
        if not entry.get("subresource") and "f:spec" in dig(entry, "fieldsV1")
    ]
    known = [moment for moment in (*changes, parse_time(metadata.get("creationTimestamp"))) if moment is not None]
    return max(known, default=None)
