"""When a backup will be deleted, if runs go on as until now: the rule itself, applied to the runs to come."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from retention.names import base_of
from retention.rule.backup import Backup
from retention.rule.decide import Candidate, Delete, decide
from retention.rule.policy import Limits, Policy
from retention.text import later

_RUNS = 10_000
"""How many runs to come are looked at: more than two years of one every two hours."""


@dataclass(frozen=True, slots=True)
class Lifetime:
    """When a backup goes.

    Attributes:
        deleted: When the prune of a run will delete it, UTC; None where none of the runs that were looked at does.
        reason: Why it goes then, or why it stays.
        until: The last run that was looked at, UTC; None where its end does not depend on runs.
    """

    deleted: datetime | None
    reason: str
    until: datetime | None


def lifetime(
    database: str, backups: Iterable[Backup], base: str, policy: Policy, limits: Limits, *, now: datetime
) -> Lifetime:
    """Return when a backup will be deleted, if a run makes a backup whenever the first tier has a place for one.

    Args:
        database: Whose backups they are.
        backups: All of them.
        base: The base of the backup.
        policy: The retention policy.
        limits: The safety limits. A prune that they refuse is taken as allowed.
        now: The moment, UTC.
    """
    present: list[Candidate | Backup] = list(backups)
    pin = next(one.pin for one in present if one.base == base)
    if pin is not None and pin.expires is None:
        return Lifetime(None, "its pin has no end", None)
    every = policy.tiers[0].every
    newest = max((one for one in present if one.time <= now), key=lambda one: one.time, default=None)
    moment = now if newest is None else max(later(newest.time, every), now)
    moment, size = moment.replace(microsecond=0), None if newest is None else newest.bytes
    for _ in range(_RUNS):
        made = base_of(database, moment)
        present.append(Candidate(f"{made}.dump", made, moment, None, size))
        decision = decide(database, present, (), policy, now=moment, own=frozenset({made}), limits=limits)
        gone: Delete | None = next((one for one in decision.delete if one.base == base), None)
        if gone is not None:
            return Lifetime(moment, gone.reason, moment)
        kept = {one.base for one in decision.keep}
        present = [one for one in present if one.base in kept]
        moment = later(moment, every)
    return Lifetime(None, "the policy keeps it at least until then", moment)
