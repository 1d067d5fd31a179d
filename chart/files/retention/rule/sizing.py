"""Whether the volume is large enough for what the policies keep once all their tiers are full.

The last archive of each database stands for those to come. A run stages the new archives of all its databases before it
prunes, so that each of them needs one place more than its policy keeps. What else lies on the volume, such as the
databases of other runs, stays as it is.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from retention.rule.backup import Backup
from retention.rule.policy import Limits, Policy
from retention.text import format_size


@dataclass(frozen=True, slots=True)
class Sizing:
    """How the volume stands.

    Attributes:
        capacity: Bytes that the backups' user can ever have on it.
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
        """Return what a person has to know before it is too late; empty when the volume is large enough."""
        if self.full <= self.capacity:
            return ""
        return (
            f"the volume will be too small: once all tiers are full a run needs about {format_size(self.full)}, "
            f"it has {format_size(self.capacity)}; let the claim grow, keep less, or set maxBytes"
        )


def of_database(newest: int, policy: Policy, limits: Limits) -> int:
    """Return the bytes that one database needs at most, if all its archives are as large as the newest.

    Args:
        newest: Size of the newest archive, in bytes.
        policy: What is kept.
        limits: What stands around the policy; its budget never takes the newest few.
    """
    kept = policy.most * newest
    if limits.max_bytes is not None:
        kept = min(kept, max(limits.max_bytes, limits.min_backups * newest))
    return kept + newest


@dataclass(frozen=True, slots=True)
class Holding:
    """What lies on the volume of one database, and by what it is kept.

    Attributes:
        backups: Its backups, newest first.
        policy: The retention policy.
        limits: What stands around the policy.
    """

    backups: Sequence[Backup]
    policy: Policy
    limits: Limits


def assess(capacity: int, used: int, holdings: Iterable[Holding], now: datetime) -> Sizing:
    """Return how the volume stands at the end of a run.

    Args:
        capacity: Bytes that the backups' user can ever have on the volume.
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
