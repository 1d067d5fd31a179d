"""What to copy, and what to delete at the destination: the retention rule, over the names of both sides.

Nothing is ever deleted there because it is missing here. What is missing here, and was not deleted by prune, is a loss.
"""

from collections.abc import Iterable, Set
from dataclasses import dataclass
from datetime import datetime

from offsite.rule import names
from offsite.rule.copies import Copies, Copy
from retention.names import Kind, file_name
from retention.rule.backup import Backup, dated_after
from retention.rule.decide import Candidate, Decision, decide
from retention.rule.plan import slot_of
from retention.rule.policy import Limits, Policy

MOST_SKEW_SECONDS = 300
"""By how much the clocks of this node and of the store may differ."""

_SHRINK = 2
"""An archive with less than one part in this many of the largest one's bytes or tables has shrunk."""


@dataclass(frozen=True, slots=True)
class Obstacle:
    """Why nothing is deleted at the destination for a database, and what to do about it."""

    reason: str
    remedy: str


def to_upload(
    database: str, local: Iterable[Backup], copies: Copies, policy: Policy, *, now: datetime, newest: bool
) -> list[Backup]:
    """Return the backups to copy, newest first: what the policy keeps of both sides together, and the copies lack.

    The rule always keeps the newest backup. Unless each newest one is wanted, a backup therefore counts only where the
    first tier has no copy of its slot yet. Then the newest copy is less than one `every` of that tier older than the
    newest backup, and what the destination keeps has the slots that it would have if everything were copied.

    Args:
        database: Whose backups they are.
        local: The published backups on the volume; those dated after now are left out.
        copies: What is at the destination.
        policy: The policy of the destination.
        now: The moment, UTC.
        newest: Whether the newest backup is copied although there is a copy of its slot.
    """
    past = [backup for backup in local if backup.time <= now]
    here = {backup.base: backup for backup in (past if newest else _of_free_slots(past, copies, policy, now))}
    there = {copy.base for copy in copies.complete}
    together = [*_candidates(copies.complete), *(_candidate(here[base]) for base in here if base not in there)]
    kept = {keep.base for keep in decide(database, together, (), policy, now=now).keep}
    wanted = [backup for base, backup in here.items() if base in kept and base not in there]
    return sorted(wanted, key=lambda backup: backup.time, reverse=True)


def _of_free_slots(local: list[Backup], copies: Copies, policy: Policy, now: datetime) -> list[Backup]:
    """Return the newest backup of each slot of the first tier that has no copy, and those whose copies are damaged."""
    parsed = (names.parse(copies.database, finding.name) for finding in copies.damaged)
    damaged = {one.base for one in parsed if one is not None}
    again = [backup for backup in local if backup.base in damaged]
    # A clock that was ahead has made copies of slots that are still to come.
    past = [copy.time for copy in copies.complete if copy.time <= now]
    taken = {slot_of(time, policy) for time in (*past, *(backup.time for backup in again))}
    newest = {slot_of(backup.time, policy): backup for backup in sorted(local, key=lambda backup: backup.time)}
    return [*again, *(backup for slot, backup in newest.items() if slot not in taken)]


def to_delete(copies: Copies, policy: Policy, *, now: datetime, own: Set[str], limits: Limits) -> Decision:
    """Return what the policy decides about the copies.

    Args:
        copies: What is at the destination, with what this run has copied.
        policy: The policy of the destination.
        now: The moment, UTC.
        own: Bases of the backups that this run has copied.
        limits: The safety limits around the policy.
    """
    return decide(copies.database, _candidates(copies.complete), (), policy, now=now, own=frozenset(own), limits=limits)


def lost(local: Set[str], copies: Copies, deleted: Set[str], *, since: datetime | None = None) -> list[Copy]:
    """Return the copies whose backup is gone from the volume although prune has not deleted it, newest first.

    Args:
        local: The bases of all archives on the volume, in whatever state.
        copies: What is at the destination.
        deleted: The names of the archives that prune has deleted from the volume.
        since: Losses of backups up to this moment are known and accepted.
    """
    return [
        copy
        for copy in copies.complete
        if copy.base not in local
        and file_name(copy.base, Kind.ARCHIVE) not in deleted
        and (since is None or copy.time > since)
    ]


def obstacle(copies: Copies, losses: Iterable[Copy], *, now: datetime, skew: float | None) -> Obstacle | None:
    """Return why nothing may be deleted at the destination for this database now; None if all is well.

    Args:
        copies: What is at the destination, with what this run has copied.
        losses: What `lost` has found.
        now: The moment, UTC.
        skew: By how many seconds the clocks of the store and of this node differ; None if that is not known.
    """
    gone = list(losses)
    if gone:
        many = f"{len(gone)} backups" if len(gone) > 1 else "1 backup"
        return Obstacle(
            f"the volume has lost {many} that had been copied, the newest {gone[0].base}",
            "bring back what you need with `kubectl cnpg-backup offsite fetch`; if the loss is meant, set "
            "offsite.acceptLossUntil to today",
        )
    if skew is not None and (difference := clock_difference(skew)) is not None:
        return Obstacle(f"this node's clock is {difference}", "set the clocks right")
    if future := dated_after(_as_backups(copies.complete), now):
        return Obstacle(future, "check the clocks of the nodes")
    return _shrunk(copies)


def clock_difference(skew: float) -> str | None:
    """Return how this node's clock differs from the store's, by `skew` seconds, in words; None if it is near enough."""
    if abs(skew) <= MOST_SKEW_SECONDS:
        return None
    return f"{round(abs(skew))} s {'ahead of' if skew > 0 else 'behind'} the store's"


def _shrunk(copies: Copies) -> Obstacle | None:
    """Return that the newest copy is far smaller than others: it may be the dump of an emptied database."""
    if not copies.complete:
        return None
    newest, others = copies.complete[0], copies.complete[1:]
    for unit, values, own in (
        ("bytes", [copy.bytes for copy in others], newest.bytes),
        ("tables", [copy.marker.tables for copy in others], newest.marker.tables),
    ):
        most = max((value for value in values if value is not None), default=0)
        if own is not None and _SHRINK * own < most:
            return Obstacle(
                f"the newest copy, {newest.base}, has {own} {unit}, an older one {most}",
                "look whether data was lost; if the database is meant to be smaller, set offsite.allowShrunk: true",
            )
    return None


def _candidates(copies: Iterable[Copy]) -> list[Candidate]:
    return [Candidate(file_name(copy.base, Kind.ARCHIVE), copy.base, copy.time, None, copy.bytes) for copy in copies]


def _candidate(backup: Backup) -> Candidate:
    return Candidate(backup.name, backup.base, backup.time, None, backup.bytes)


def _as_backups(copies: Iterable[Copy]) -> list[Backup]:
    return [Backup(copy.base, copy.time, copy.bytes, copy.marker.archive.sha256, None, "", None) for copy in copies]
