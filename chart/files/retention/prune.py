"""From the rule to the disk: what guards stand around a plan, and how backups leave a volume.

Around the rule, never changing it: backups that are pinned or dated after now are set aside first; the newest backup
and the one made by this run are never deleted; only published backups are planned.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

from retention.disk import Folder
from retention.errors import RetentionError, VolumeError
from retention.names import DELETIONS, SIDECARS, Kind, file_name, stamp_of
from retention.policy import Policy
from retention.rule import plan
from retention.volume import Backup, Finding, Pin, Scan

FREE_DELETIONS = 3
"""A prune of this many backups is never refused: one new backup can push out that many."""

ALLOW_FLAG = "--allow-large-prune"
ALLOW_VALUE = "allowLargePrune"


@dataclass(frozen=True, slots=True)
class Candidate:
    """A published backup as the decision sees it: its name, its moment, its pin."""

    name: str
    base: str
    time: datetime
    pin: Pin | None


@dataclass(frozen=True, slots=True)
class Keep:
    """A backup that stays: the tier's name, or newest, oldest, pinned, future; and one sentence why."""

    name: str
    base: str
    time: datetime
    tier: str
    reason: str


@dataclass(frozen=True, slots=True)
class Delete:
    """A backup that goes: a short word for the rule, and one sentence why."""

    name: str
    base: str
    time: datetime
    rule: str
    reason: str


@dataclass(frozen=True, slots=True)
class Decision:
    """What happens to the backups of one database.

    Attributes:
        database: Whose backups they are.
        keep: What stays, newest first.
        delete: What goes, newest first.
        ignored: What does not count, and why.
        refusal: Why this must not be carried out without a person's yes; empty when it may.
    """

    database: str
    keep: tuple[Keep, ...]
    delete: tuple[Delete, ...]
    ignored: tuple[Finding, ...]
    refusal: str

    def to_dict(self) -> dict[str, object]:
        """Return the decision as the machine interface shows it."""
        return {
            "database": self.database,
            "keep": [{"name": kept.name, "tier": kept.tier, "reason": kept.reason} for kept in self.keep],
            "delete": [{"name": gone.name, "reason": gone.reason} for gone in self.delete],
            "ignored": [{"name": finding.name, "reason": finding.reason} for finding in self.ignored],
        }


def candidates_of(backups: Iterable[Backup]) -> list[Candidate]:
    """Return published backups as the decision sees them."""
    return [Candidate(backup.name, backup.base, backup.time, backup.pin) for backup in backups]


def decide_scan(scan: Scan, policy: Policy, *, now: datetime, own: frozenset[str] = frozenset()) -> Decision:
    """Decide about the backups in a database's directory; see `decide`."""
    return decide(scan.database, candidates_of(scan.backups), scan.not_counted(), policy, now=now, own=own)


def decide(
    database: str,
    candidates: list[Candidate],
    ignored: Iterable[Finding],
    policy: Policy,
    *,
    now: datetime,
    own: frozenset[str] = frozenset(),
) -> Decision:
    """Decide which backups of a database stay.

    Args:
        database: Whose backups they are.
        candidates: All published ones, in any order.
        ignored: What does not count; passed through.
        policy: The retention policy.
        now: Backups dated later are set aside.
        own: Bases of backups that the calling run has made.
    """
    keep: list[Keep] = []
    planned: dict[datetime, Candidate] = {}
    for candidate in candidates:
        aside = _set_aside(candidate, now)
        if aside is None:
            planned[candidate.time] = candidate
        else:
            keep.append(aside)
    result = plan(planned, policy)
    for kept in result.keep:
        candidate = planned[kept.time]
        keep.append(Keep(candidate.name, candidate.base, kept.time, kept.tier, _with_pin(kept.reason, candidate)))
    protected = {max(planned)} if planned else set()
    protected |= {time for time, candidate in planned.items() if candidate.base in own}
    delete: list[Delete] = []
    for gone in result.explain():
        candidate = planned[gone.time]
        if gone.time in protected:
            reason = "made by this run, and never deleted by it"
            keep.append(Keep(candidate.name, candidate.base, gone.time, "newest", reason))
        else:
            rule = gone.rule.name.lower().replace("_", "-")
            delete.append(Delete(candidate.name, candidate.base, gone.time, rule, _with_pin(gone.reason, candidate)))
    keep.sort(key=lambda kept: kept.time, reverse=True)
    return Decision(database, tuple(keep), tuple(delete), tuple(ignored), _refusal(database, len(delete), len(planned)))


def _set_aside(candidate: Candidate, now: datetime) -> Keep | None:
    if candidate.pin is not None and candidate.pin.holds(now):
        reason = f"pinned: {candidate.pin.reason}" if candidate.pin.reason else "pinned"
        if candidate.pin.expires is not None:
            reason += f" (until {candidate.pin.expires:%Y-%m-%d %H:%M}Z)"
        return Keep(candidate.name, candidate.base, candidate.time, "pinned", reason)
    if candidate.time > now:
        reason = f"dated after now ({stamp_of(now)}): a clock was wrong; set aside and kept until then"
        return Keep(candidate.name, candidate.base, candidate.time, "future", reason)
    return None


def _with_pin(reason: str, candidate: Candidate) -> str:
    if candidate.pin is None or candidate.pin.expires is None:
        return reason
    return f"{reason} (its pin expired {candidate.pin.expires:%Y-%m-%d %H:%M}Z)"


def _refusal(database: str, deletions: int, planned: int) -> str:
    if deletions <= FREE_DELETIONS or 2 * deletions <= planned:
        return ""
    return f"{database}: {deletions} of {planned} backups would be deleted at once, more than {FREE_DELETIONS} and half"


REFUSAL_REMEDY = (
    "nothing was deleted; see what would go with `plan`. A changed policy is the usual cause: if this is meant, "
    f"prune with {ALLOW_FLAG}, or set {ALLOW_VALUE}: true for this database until it is done"
)


def carry_out(folder: Folder, decision: Decision, *, now: datetime) -> list[RetentionError]:
    """Delete what a decision deletes; the caller holds the lock, and has decided under it.

    Each backup vanishes in one rename. Only when that lasts do its sidecars go, then the archive itself: a cut at any
    point leaves no archive without its sidecars, and nothing that the next `clean` does not find.

    Returns:
        What went wrong beside the deletions themselves: the log could not be written.

    Raises:
        VolumeError: When the volume refuses; what is deleted by then is in the log.
    """
    gone: list[Delete] = []
    try:
        for delete in reversed(decision.delete):
            folder.rename(delete.name, file_name(delete.base, Kind.TOMBSTONE))
            gone.append(delete)
    finally:
        problems = _finish_deletions(folder, gone, now) if gone else []
    return problems


def _finish_deletions(folder: Folder, gone: list[Delete], now: datetime) -> list[RetentionError]:
    folder.sync()
    lines = "".join(
        _log_line(now, delete.name, delete.rule, delete.reason, event="deleted") for delete in gone
    ).encode()
    problem = _log(folder, lines)
    for delete in gone:
        _bury(folder, delete.base, with_sidecars=True)
    folder.sync()
    if problem is not None:
        # A full volume has room now.
        problem = _log(folder, lines)
    return [] if problem is None else [problem]


def clean(folder: Folder, scan: Scan, *, now: datetime) -> list[str]:
    """Complete what an earlier run had begun to delete, and remove our own leftovers; the caller holds the lock.

    Returns:
        The names of what was removed.

    Raises:
        VolumeError: When the volume refuses.
    """
    removed = []
    for name in scan.leftovers:
        if folder.remove(name):
            removed.append(name)
    for base in scan.tombstones:
        line = _log_line(
            now, file_name(base, Kind.ARCHIVE), "interrupted", "completes an earlier run", event="completed"
        )
        _log(folder, line.encode())
        # Whether its sidecars are still its own was settled by the scan: those that are went with the leftovers.
        _bury(folder, base, with_sidecars=False)
        removed.append(file_name(base, Kind.TOMBSTONE))
    if removed:
        folder.sync()
    return removed


def _bury(folder: Folder, base: str, *, with_sidecars: bool) -> None:
    if with_sidecars:
        for kind in SIDECARS:
            folder.remove(file_name(base, kind))
    folder.remove(file_name(base, Kind.TOMBSTONE))


def _log(folder: Folder, lines: bytes) -> RetentionError | None:
    try:
        folder.append(DELETIONS, lines)
    except VolumeError as error:
        return error
    return None


def _log_line(now: datetime, name: str, rule: str, reason: str, *, event: str) -> str:
    at = now.astimezone(UTC).isoformat(timespec="seconds")
    entry = {"time": at, "event": event, "name": name, "rule": rule, "reason": reason}
    return json.dumps(entry, ensure_ascii=False) + "\n"
