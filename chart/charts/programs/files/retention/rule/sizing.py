# Without comments: they are in the project's file of this name.
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from retention.rule.backup import Backup
from retention.rule.policy import Limits, Policy
from retention.text import format_size
_LITTLE_HISTORY = timedelta(days=1)
@dataclass(frozen=True, slots=True)
class Sizing:
 capacity: int
 used: int
 full: int
 growth: float | None = None
 def line(self):
  sizes = format_size(self.capacity), format_size(self.used), format_size(self.full)
  return "volume: {}, {} used; about {} once all tiers are full".format(*sizes)
 def warning(self):
  if self.full <= self.capacity:
   return ""
  return (
   f"the volume will be too small: once all tiers are full a run needs about {format_size(self.full)}, "
   f"it has {format_size(self.capacity)}; enlarge the claim, keep fewer backups, or set maxBytes"
  )
def of_database(newest, policy, limits):
 kept = policy.most * newest
 if limits.max_bytes is not None:
  kept = min(kept, max(limits.max_bytes, limits.min_backups * newest))
 return kept + newest
def growth(sizes, full):
 if len(sizes) < 2:
  return None
 (newest_age, newest), (oldest_age, oldest) = sizes[0], sizes[-1]
 if oldest_age - newest_age < _LITTLE_HISTORY.total_seconds():
  return None
 places = max(len(sizes), full / max(1, newest))
 return places * (newest - oldest) / (oldest_age - newest_age)
@dataclass(frozen=True, slots=True)
class Holding:
 bytes: int
 full: int
 growth: float | None = None
 @classmethod
 def of(cls, backups, policy, limits, now):
  sizes = [((now - backup.time).total_seconds(), backup.bytes) for backup in backups if backup.time <= now]
  if not sizes:
   return None
  full = of_database(sizes[0][1], policy, limits)
  return cls(sum(backup.bytes for backup in backups), full, growth(sizes, full))
def assess(capacity, used, holdings):
 every = list(holdings)
 full = used + sum(holding.full - holding.bytes for holding in every)
 known = [holding.growth for holding in every if holding.growth is not None]
 return Sizing(capacity, used, max(full, used), sum(known) if known else None)
