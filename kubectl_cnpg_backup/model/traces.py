"""What shows that a run was faked or kept from starting: pure functions of what the API server and the volume know."""

from collections.abc import Iterable, Sequence
from datetime import datetime

from kubectl_cnpg_backup.errors import PluginError
from kubectl_cnpg_backup.model.release import Release, Run
from retention.rule.backup import SKEW
from retention.text import format_age


def ahead(newest: datetime | None, now: datetime) -> PluginError | None:
    """Return that the newest backup is dated in the future, None where it is not: its age shows nothing then."""
    if newest is None or newest <= now + SKEW:
        return None
    return PluginError(
        f"its newest backup is dated {newest:%Y-%m-%d %H:%M}Z, which is in the future",
        "compare the clocks of the nodes and of this machine; if they are right, a run was faked: see "
        "`kubectl cnpg-backup list`, and back up: kubectl cnpg-backup run",
    )


def without_backup(database: str, runs: Iterable[Run], cronjob: str, newest: datetime | None) -> Run | None:
    """Return the last run of a database's CronJob if it succeeded and the newest backup is older than it.

    Args:
        database: The database.
        runs: The runs of backups, newest first.
        cronjob: Name of the CronJob that backs it up.
        newest: When its newest backup began, UTC; None where there is none.
    """
    for run in runs:
        mine = run.cronjob == cronjob and (run.databases is None or database in run.databases)
        if mine and run.state != "running":
            late = newest is None or (run.started is not None and newest < run.started - SKEW)
            return run if run.state == "succeeded" and late else None
    return None


def strangers(release: Release, runs: Sequence[Run]) -> list[tuple[str, PluginError]]:
    """Return the objects that only look like the release's own, each with what it is and what to do."""
    remedy = "find out who made it, and delete it; the plugin and its status do not count it"
    found = [
        (
            f"cronjob/{name}",
            PluginError(
                f"it has the labels of release {release.name} and does not mount claim {release.claim}", remedy
            ),
        )
        for name in release.strangers
    ]
    return found + [
        (f"job/{run.job}", PluginError(f"it has the labels of a run of {release.name}, but {run.foreign}", remedy))
        for run in runs
        if run.foreign
    ]


def explain(run: Run, now: datetime) -> str:
    """Return in words that a run succeeded without a backup."""
    when = "" if run.finished is None else f" {format_age(now - run.finished)} ago"
    return f"job/{run.job} ended{when} as a success and left no backup"
