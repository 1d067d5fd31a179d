"""Copies of databases on a schedule: what each is for, and how its last run ended."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from kubectl_cnpg_backup.errors import PluginError, UsageError
from kubectl_cnpg_backup.model.objects import dig
from kubectl_cnpg_backup.model.release import COPY, CronJob, Release, Run
from kubectl_cnpg_backup.model.schedule import assess
from kubectl_cnpg_backup.model.words import meant

_INFIX = "-copy-"
_FAILED, _REMEDY = "FAILED: ", "remedy: "
OK, FAILED, RUNNING, NEVER, SUSPENDED, MISSED = "ok", "failed", "running", "never", "suspended", "missed"
BAD = (FAILED, MISSED)


@dataclass(frozen=True, slots=True)
class Copy:
    """A copy.

    Attributes:
        name: Its name in values.
        cronjob: Its CronJob.
        database: The database that is copied.
        cluster: The cluster that gets the copy, as `namespace/name`; empty for that of the database.
        into: Its name in PostgreSQL; empty for that of the database.
        backup: Which backup is copied.
        sql: The ConfigMap with the SQL files; empty where there are none.
        state: ok, failed, running, never, suspended or missed.
        why: What is wrong, one line.
        remedy: What to do about it.
        last: When its last run that has ended began, UTC.
        next_run: When it is due next, UTC.
        job: Its last Job.
    """

    name: str
    cronjob: CronJob
    database: str
    cluster: str
    into: str
    backup: str
    sql: str
    state: str
    why: str
    remedy: str
    last: datetime | None
    next_run: datetime | None
    job: str

    def document(self) -> dict[str, Any]:
        """Return it for programs."""
        return {
            "name": self.name,
            "cronjob": self.cronjob.name,
            "database": self.database,
            "cluster": self.cluster or None,
            "into": self.into or None,
            "backup": self.backup,
            "sql_config_map": self.sql or None,
            "schedule": self.cronjob.schedule,
            "state": self.state,
            "why": self.why,
            "remedy": self.remedy,
            "last": None if self.last is None else self.last.isoformat(),
            "next": None if self.next_run is None else self.next_run.isoformat(),
            "job": self.job or None,
        }


def copies(release: Release, runs: Iterable[Run], now: datetime) -> list[Copy]:
    """Return the copies of a release, sorted by name.

    Args:
        release: The release.
        runs: Its Jobs, newest first.
        now: The moment, UTC.
    """
    every = list(runs)
    return sorted((_copy(cronjob, every, now) for cronjob in release.of(COPY)), key=lambda one: one.name)


def named(found: Iterable[Copy], name: str) -> Copy:
    """Return the copy of a name, or of a CronJob's name.

    Raises:
        UsageError: When there is none.
    """
    every = list(found)
    for one in every:
        if name in (one.name, one.cronjob.name):
            return one
    names = [one.name for one in every]
    raise UsageError(
        f"the release has no copy {name!r}",
        f"{meant(name, names)}available: {', '.join(names)}"
        if names
        else "add it to `copies` in the values, and upgrade",
    )


def problem_of(one: Copy) -> PluginError | None:
    """Return what is wrong with a copy, None when nothing is."""
    return PluginError(one.why, one.remedy) if one.state in BAD else None


def _copy(cronjob: CronJob, runs: list[Run], now: datetime) -> Copy:
    variables = {
        str(one.get("name")): str(one.get("value") or "")
        for kind in ("initContainers", "containers")
        for container in cronjob.pod_spec.get(kind) or ()
        for one in container.get("env") or ()
    }
    maps = [dig(one, "configMap").get("name") for one in cronjob.pod_spec.get("volumes") or () if one["name"] == "sql"]
    found = assess(cronjob, runs, now)
    running = any(run.state == "running" for run in runs if run.cronjob == cronjob.name)
    state, why, remedy = OK, "", ""
    if found.invalid is not None:
        state, why, remedy = FAILED, found.invalid.problem, found.invalid.remedy
    elif found.last is not None and found.last.state == "failed":
        state = FAILED
        why, remedy = _failure(found.last)
    elif (missing := found.missing() or found.unrecorded()) is not None:
        state, why = MISSED, missing.problem
        again = f"kubectl cnpg-backup copies {_name(cronjob)} --run"
        remedy = f"see `kubectl describe cronjob {cronjob.name}`, and make it: {again}"
    elif found.last is None:
        state = NEVER
    if running:
        state = RUNNING
    elif cronjob.suspended and state not in BAD:
        state = SUSPENDED
    last = found.last
    return Copy(
        _name(cronjob),
        cronjob,
        variables.get("RESTORE_DATABASE", ""),
        variables.get("RESTORE_CLUSTER", ""),
        variables.get("RESTORE_INTO", ""),
        variables.get("RESTORE_BACKUP", ""),
        str(next(iter(maps), "") or ""),
        state,
        why,
        remedy,
        None if last is None else last.started,
        found.next_run,
        "" if last is None else last.job,
    )


def _name(cronjob: CronJob) -> str:
    return cronjob.name.rpartition(_INFIX)[2]


def _failure(run: Run) -> tuple[str, str]:
    """Return why a copy failed and what to do, by its termination message."""
    log = f"kubectl cnpg-backup logs {run.job}"
    if run.killed:
        return (
            run.reason or "its pod was killed",
            f"see `{log}`, or `kubectl describe job {run.job}` if its pod is gone",
        )
    lines = [line.partition(": ")[2] for line in run.message.splitlines()]
    why = next((line.removeprefix(_FAILED) for line in lines if line.startswith(_FAILED)), "")
    remedy = next((line.removeprefix(_REMEDY) for line in lines if line.startswith(_REMEDY)), "")
    return why or " ".join(run.message.split()) or run.reason, remedy or f"see `{log}`"
