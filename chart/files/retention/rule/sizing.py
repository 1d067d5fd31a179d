"""Whether the volume is large enough for what the policies keep once all their tiers are full.

Future archives of a database are assumed to be as large as its newest one. A run stages the new archives of all its
databases before it prunes, so that each of them needs one place more than its policy keeps. Everything else on the
volume, such as the databases of other runs, is assumed to stay as it is.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from retention.rule.backup import Backup
from retention.rule.policy import Limits, Policy
from retention.text import format_size


@dataclass(frozen=True, slots=True)
class Sizing:
    """How full the volume is and will be.

    Attributes:
        capacity: The most bytes that the backups' user can use on it.
        used: Bytes that are used now.
        full: Bytes that will be used at most, during a run with all tiers full.
    """

    capacity: int
    used: int
    full: int

    def line(self) -> str:
        """Return the line for a run's report."""
        sizes = format_size(self.capacity), format_size(self.used), format_size(self.full)
        return "volume: {}, {} used; about {} once all tiers are full".format(*sizes)

    def warning(self) -> str:
        """Return a warning that the volume will be too small; empty when it is large enough."""
        if self.full <= self.capacity:
            return ""
        return (
            f"the volume will be too small: once all tiers are full a run needs about {format_size(self.full)}, "
            f"it has {format_size(self.capacity)}; enlarge the claim, keep fewer backups, or set maxBytes"
        )


def of_database(newest: int, policy: Policy, limits: Limits) -> int:
    """Return the bytes that one database needs at most, if all its archives are as large as the newest.

    Args:
        newest: Size of the newest archive, in bytes.
        policy: What is kept.
        limits: The safety limits; their budget never deletes the newest few.
    """
    kept = policy.most * newest
    if limits.max_bytes is not None:
        kept = min(kept, max(limits.max_bytes, limits.min_backups * newest))
    return kept + newest


@dataclass(frozen=True, slots=True)
class Holding:
    """The backups of one database, and the policy that keeps them.

    Attributes:
        backups: Its backups, newest first.
        policy: The retention policy.
        limits: The safety limits around the policy.
    """

    backups: Sequence[Backup]
    policy: Policy
    limits: Limits


def assess(capacity: int, used: int, holdings: Iterable[Holding], now: datetime) -> Sizing:
    """Return how full the volume is at the end of a run, and will be.

    Args:
        capacity: The most bytes that the backups' user can use on the volume.
        used: Bytes that are used now.
        holdings: The databases whose policy and archives are known; all else on the volume counts as it is now.
        now: The moment of the run, UTC.
    """
    full = used
    for holding in holdings:
        newest = next((backup for backup in holding.backups if backup.time <= now), None)
        if newest is not None:
            full -= sum(backup.bytes for backup in holding.backups)
            full += of_database(newest.bytes, holding.policy, holding.limits)
    return Sizing(capacity, used, max(full, used))
