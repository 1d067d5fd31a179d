"""Whether the volume is large enough for what the policies keep once all their tiers are full.

Future archives of a database are assumed to be as large as its newest one. A run stages the new archives of all its
databases before it prunes, so that each of them needs one place more than its policy keeps. Everything else on the
volume is assumed to stay as it is.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from retention.rule.backup import Backup
from retention.rule.policy import Limits, Policy
from retention.text import format_size

_LITTLE_HISTORY = timedelta(days=1)
"""Sizes over a shorter time say nothing about growth."""


@dataclass(frozen=True, slots=True)
class Sizing:
    """How full the volume is and will be.

    Attributes:
        capacity: The most bytes that the backups' user can use on it.
        used: Bytes that are used now.
        full: Bytes that will be used at most, during a run with all tiers full.
        growth: By how many bytes a second that grows; None if it is not known.
    """

    capacity: int
    used: int
    full: int
    growth: float | None = None

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


def growth(sizes: Sequence[tuple[float, int]], full: int) -> float | None:
    """Return by how many bytes a second the archives of a database grow; None if their history is too short for that.

    Once the tiers are full, the number of backups no longer changes. So it is the difference in size between the newest
    and the oldest archive, divided by the time between them, for all archives that full tiers hold.

    Args:
        sizes: Age in seconds and bytes of each archive, newest first.
        full: The bytes that the database takes once its tiers are full.
    """
    if len(sizes) < 2:
        return None
    (newest_age, newest), (oldest_age, oldest) = sizes[0], sizes[-1]
    if oldest_age - newest_age < _LITTLE_HISTORY.total_seconds():
        return None
    places = max(len(sizes), full / max(1, newest))
    return places * (newest - oldest) / (oldest_age - newest_age)


@dataclass(frozen=True, slots=True)
class Holding:
    """What one database takes up on the volume.

    Attributes:
        bytes: What its archives take now.
        full: What they will take at most, during a run with all tiers full.
        growth: By how many bytes a second that grows; None if it is not known.
    """

    bytes: int
    full: int
    growth: float | None = None

    @classmethod
    def of(cls, backups: Sequence[Backup], policy: Policy, limits: Limits, now: datetime) -> "Holding | None":
        """Return what the backups of a database take up; None while there is none.

        Args:
            backups: Its backups, newest first.
            policy: The retention policy.
            limits: The safety limits around the policy.
            now: The moment of the run, UTC.
        """
        sizes = [((now - backup.time).total_seconds(), backup.bytes) for backup in backups if backup.time <= now]
        if not sizes:
            return None
        full = of_database(sizes[0][1], policy, limits)
        return cls(sum(backup.bytes for backup in backups), full, growth(sizes, full))


def assess(capacity: int, used: int, holdings: Iterable[Holding]) -> Sizing:
    """Return how full the volume is at the end of a run, and will be.

    Args:
        capacity: The most bytes that the backups' user can use on the volume.
        used: Bytes that are used now.
        holdings: The databases of which it is known; all else on the volume counts as it is now.
    """
    every = list(holdings)
    full = used + sum(holding.full - holding.bytes for holding in every)
    known = [holding.growth for holding in every if holding.growth is not None]
    return Sizing(capacity, used, max(full, used), sum(known) if known else None)
