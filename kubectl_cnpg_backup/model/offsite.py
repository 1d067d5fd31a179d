"""Copies outside the cluster: what their runs have said, and Jobs made from the release's templates."""

from collections.abc import Iterable, Sequence
from copy import deepcopy
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from kubectl_cnpg_backup.errors import PluginError
from kubectl_cnpg_backup.model.jobs import with_environment
from kubectl_cnpg_backup.model.release import COMPONENT_LABEL, OFFSITE, CronJob, Release, Run
from kubectl_cnpg_backup.model.schedule import EARLY, assess, due_before
from retention import message as termination
from retention.text import format_age
from watch.outside import proof_of

LIST, CHECK, VERIFY = "list", "check", "verify"
LOOKS = {action: f"{OFFSITE}-{action}" for action in (LIST, CHECK, VERIFY)}
"""What a Job does that looks at the copies, and its component: it is none of the runs that copy."""
_COPY = "copy"
_LONGEST_SLOT = 10 * 366 * 86400
"""Seconds: more than any tier has."""
_ROOT = "/backups"
_IDENTITY = "identity"


@dataclass(frozen=True, slots=True)
class Outside:
    """What is known of the copies of a database.

    Attributes:
        result: How the last run that copies ended for it: ok, warning, refused or failed.
        why: The most important thing to know.
        job: The Job of that run.
        newest: When the backup began that the newest copy is of, UTC; None for no copy, or not known.
        verified: How that copy is known to be whole: `etag`, `readback` or `restored`; empty for no copy, or not known.
        copies: How many there are; None if no run could say.
        restored: When a drill last restored one of them, UTC; None for never, or not known.
        slot: By how much less than that the newest copy may be behind the newest backup, since one backup of each slot
            is copied; zero where each newest one is, or where that is not known.
    """

    result: str
    why: str
    job: str
    newest: datetime | None
    verified: str
    copies: int | None
    restored: datetime | None = None
    slot: timedelta = timedelta(0)

    def document(self, now: datetime) -> dict[str, Any]:
        """Return it for programs."""
        newest = self.newest
        return {
            "result": self.result,
            "why": self.why,
            "newest": None if newest is None else newest.isoformat(timespec="seconds"),
            "age_seconds": None if newest is None else int((now - newest).total_seconds()),
            "verified": self.verified or None,
            "copies": self.copies,
            "restored": None if self.restored is None else self.restored.isoformat(timespec="seconds"),
        }


def runs_that_copy(runs: Iterable[Run]) -> list[Run]:
    """Return the runs that copy, in the order given."""
    return [run for run in runs if run.component == OFFSITE]


def copies_outside(runs: Iterable[Run]) -> dict[str, Outside]:
    """Return what runs have said about the copies of each database; the newest run is the first."""
    found: dict[str, Outside] = {}
    for run in runs_that_copy(runs):
        for line in termination.read(run.message).lines:
            counted = line.numbers.get("kept")
            before = found.get(line.database)
            if before is not None and (before.copies is not None or counted is None):
                continue
            verified, restored = proof_of(line)
            first = (line.result, line.why, run.job) if before is None else (before.result, before.why, before.job)
            copies = None if counted is None else int(counted)
            # A message may say anything, and a moment less that much has to be one still.
            slot = timedelta(seconds=max(0, min(line.numbers.get("slot", 0), _LONGEST_SLOT)))
            found[line.database] = Outside(*first, line.newest, verified, copies, restored, slot)
    return found


def problem_of(
    outside: Outside,
    cronjob: CronJob,
    backing: CronJob | None,
    newest: datetime | None,
    runs: Sequence[Run],
    now: datetime,
) -> PluginError | None:
    """Return what is wrong with the copies of a database, None for nothing.

    Args:
        outside: What is known of them.
        cronjob: The CronJob that copies.
        backing: The CronJob that backs the database up; None if that is not known.
        newest: When its newest backup began, UTC; None where there is none, or where that is not known.
        runs: The release's Jobs, newest first.
        now: The moment, UTC.
    """
    remedy = f"see `kubectl cnpg-backup logs {outside.job}`; to try the store: kubectl cnpg-backup offsite check"
    if outside.result in ("failed", "refused"):
        return PluginError(f"its copy outside the cluster {outside.result}: {outside.why}", remedy)
    if outside.copies is None or newest is None or backing is None or cronjob.suspended:
        return None
    if outside.newest is not None and outside.newest >= newest:
        return None
    found = assess(cronjob, runs_that_copy(runs), now)
    due = due_before(cronjob.schedule, cronjob.time_zone, now, 2) if found.invalid is None and found.settled else None
    # What had been backed up by then, that run or the one after it has copied.
    expected = None if due is None else due_before(backing.schedule, backing.time_zone, due, 2)
    if expected is None or (outside.newest is not None and outside.newest >= expected - EARLY - outside.slot):
        return None
    age = "it has no copy" if outside.newest is None else f"its newest copy is {format_age(now - outside.newest)} old"
    return PluginError(f"outside the cluster {age}, its newest backup {format_age(now - newest)}", remedy)


def unrecorded(release: Release, runs: Sequence[Run], now: datetime) -> list[tuple[CronJob, PluginError]]:
    """Return what is wrong with the CronJob that copies, beyond what its runs say about databases."""
    found = []
    for cronjob in release.of(OFFSITE):
        state = assess(cronjob, runs_that_copy(runs), now)
        spoken = state.last is not None and bool(state.last.verdicts)
        error = (None if spoken else state.failure()) or state.suspension() or state.missing()
        if error is not None:
            found.append((cronjob, error))
    return found


def looking(job: dict[str, Any], action: str, *more: str) -> dict[str, Any]:
    """Return a Job that looks at the copies, from one that would copy.

    Args:
        job: A Job of the template.
        action: What it does: one of `LOOKS`.
        more: Further arguments.
    """
    changed = deepcopy(job)
    # Its pod keeps the label by which the NetworkPolicy lets it reach the store.
    changed["metadata"]["labels"][COMPONENT_LABEL] = LOOKS[action]
    (container,) = changed["spec"]["template"]["spec"]["containers"]
    rest = [word for word in container["args"] if word not in (_COPY, _ROOT)]
    container["args"] = [action, *more, *rest]
    return changed


def fetching(job: dict[str, Any], database: str, backup: str, secret: str) -> dict[str, Any]:
    """Return a Job that brings a copy to the volume.

    Args:
        job: A Job of the template.
        database: Whose copy.
        backup: `newest`, `newest before TIME`, or an archive's name.
        secret: The Secret with the key; empty for the one that the values name.
    """
    changed = with_environment(job, {"FETCH_DATABASE": database, "FETCH_BACKUP": backup})
    for source in _identities(changed) if secret else ():
        source["name"] = secret
    return changed


def identity_secret(job: dict[str, Any]) -> str:
    """Return the Secret from which a Job reads the key; empty if the copies are not encrypted."""
    return next((str(source["name"]) for source in _identities(job)), "")


def _identities(job: dict[str, Any]) -> list[dict[str, Any]]:
    volumes = [one for one in job["spec"]["template"]["spec"]["volumes"] if one["name"] == _IDENTITY]
    return [source["secret"] for volume in volumes for source in volume["projected"]["sources"]]
