"""Whether the volume is large enough for what the policies keep once all their tiers are full.

The last archive of each database stands for those to come. A run stages the new archives of all its databases before it
prunes, so that each of them needs one place more than its policy keeps. What else lies on the volume, such as the
databases of other runs, stays as it is.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from retention.policy import Limits, Policy, format_size
from retention.report import Outcome


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


def assess(capacity: int, used: int, outcomes: Iterable[Outcome], now: datetime) -> Sizing:
    """Return how the volume stands at the end of a run.

    Args:
        capacity: Bytes that the backups' user can ever have on the volume.
        used: Bytes that are used now.
        outcomes: What the run has seen; a database whose policy or archives are not known counts as it is now.
        now: The moment of the run, UTC.
    """
    full = used
    for outcome in outcomes:
        newest = outcome.newest(now)
        if newest is not None and outcome.kept_by is not None:
            full -= sum(backup.bytes for backup in outcome.backups or ())
            full += of_database(newest.bytes, *outcome.kept_by)
    return Sizing(capacity, used, max(full, used))
