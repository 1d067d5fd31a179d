# Comments are left out here; they are in retention/rule/sizing.py of the project.
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from retention.rule.backup import Backup
from retention.rule.policy import Limits, Policy
from retention.text import format_size


@dataclass(frozen=True, slots=True)
class Sizing:

    capacity: int
    used: int
    full: int

    def line(self) -> str:
        sizes = format_size(self.capacity), format_size(self.used), format_size(self.full)
        return "volume: {}, {} used; about {} once all tiers are full".format(*sizes)

    def warning(self) -> str:
        if self.full <= self.capacity:
            return ""
        return (
            f"the volume will be too small: once all tiers are full a run needs about {format_size(self.full)}, "
            f"it has {format_size(self.capacity)}; enlarge the claim, keep fewer backups, or set maxBytes"
        )


def of_database(newest: int, policy: Policy, limits: Limits) -> int:
    kept = policy.most * newest
    if limits.max_bytes is not None:
        kept = min(kept, max(limits.max_bytes, limits.min_backups * newest))
    return kept + newest


@dataclass(frozen=True, slots=True)
class Holding:

    backups: Sequence[Backup]
    policy: Policy
    limits: Limits


def assess(capacity: int, used: int, holdings: Iterable[Holding], now: datetime) -> Sizing:
    full = used
    for holding in holdings:
        newest = next((backup for backup in holding.backups if backup.time <= now), None)
        if newest is not None:
            full -= sum(backup.bytes for backup in holding.backups)
            full += of_database(newest.bytes, holding.policy, holding.limits)
    return Sizing(capacity, used, max(full, used))
