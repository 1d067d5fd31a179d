# Without comments: they are in the project's file of this name.
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from retention import message
from retention.errors import ExitCode, RetentionError
from retention.pod import outlook
from retention.rule.backup import Backup
from retention.rule.decide import Delete
from retention.rule.policy import Limits, Policy
from retention.rule.sizing import Holding, Sizing
from retention.text import table
ALLOW_FLAG = "--allow-large-prune"
ALLOW_VALUE = "allowLargePrune"
REFUSAL_REMEDY = (
 "nothing was deleted; run `plan` to see what would be deleted. A changed policy is the usual cause: if you want "
 f"this, prune with {ALLOW_FLAG}, or set {ALLOW_VALUE}: true for this database until it is done"
)
OK, WARNING, REFUSED, FAILED = message.OK, message.WARNING, message.REFUSED, message.FAILED
@dataclass(frozen=True, slots=True)
class Measured:
 database_bytes: float | None = None
 dump_seconds: float | None = None
 verify_seconds: float | None = None
@dataclass(slots=True)
class RunOutcome:
 database: str
 cluster: str = ""
 namespace: str = ""
 published: list[str] = field(default_factory=list)
 recovered: list[str] = field(default_factory=list)
 deleted: list[Delete] = field(default_factory=list)
 backups: list[Backup] | None = None
 bad: list[str] = field(default_factory=list)
 problems: list[RetentionError] = field(default_factory=list)
 refusal: RetentionError | None = None
 warnings: list[str] = field(default_factory=list)
 notes: list[str] = field(default_factory=list)
 seconds: float = 0.0
 kept_by: tuple[Policy, Limits] | None = None
 restore: dict[str, Any] | None = None
 measured: Measured = Measured()
 @property
 def result(self):
  if self.problems:
   return FAILED
  if self.refusal is not None:
   return REFUSED
  return WARNING if self.warnings else OK
 def newest(self, now):
  return next((backup for backup in self.backups or () if backup.time <= now), None)
 def holding(self, now):
  if self.backups is None or self.kept_by is None:
   return None
  return Holding.of(self.backups, *self.kept_by, now)
 def pinned(self, now):
  return sum(backup.pin is not None and backup.pin.holds(now) for backup in self.backups or ())
 def why(self):
  if self.problems:
   return self.problems[0].problem
  if self.refusal is not None:
   return self.refusal.problem
  return (self.warnings or self.notes or ["nothing new"])[0]
def exit_code(outcomes):
 results = {outcome.result for outcome in outcomes}
 if FAILED in results:
  return ExitCode.FAILED
 return ExitCode.REFUSED if REFUSED in results else ExitCode.DONE
def finish_table(outcomes, now):
 rows = []
 for outcome in outcomes:
  newest = outcome.newest(now)
  rows.append(
   (
    outcome.database,
    outcome.result,
    f"{newest.time:%Y-%m-%d %H:%M:%S}Z" if newest else "none",
    "?" if outcome.backups is None else str(len(outcome.backups)),
    str(len(outcome.deleted)),
    f"{outcome.seconds:.1f}",
    outcome.why(),
   )
  )
 return table(("DATABASE", "RESULT", "NEWEST", "KEPT", "DELETED", "SECONDS", "WHY"), rows)
def termination_message(
 outcomes, warnings, now, sized = None
):
 order = {FAILED: 0, REFUSED: 1, WARNING: 2, OK: 3}
 ranked = sorted(outcomes, key=lambda outcome: order[outcome.result])
 return message.write(
  [_line(outcome, now) for outcome in ranked],
  warnings=warnings,
  volume=None if sized is None else _known(sized.capacity, sized.used, sized.full, sized.growth),
  more=filter(None, (_outlook(outcome) for outcome in ranked)),
 )
def _known(capacity, used, full, growth):
 return {"capacity": capacity, "used": used, "full": full, **({} if growth is None else {"growth": growth})}
def _outlook(outcome):
 text = outlook.sentence(outcome.restore, remedies=False)
 return text and f"{outcome.database}: {text}"
def _line(outcome, now):
 newest, measured, result = outcome.newest(now), outcome.measured, outcome.result
 found: dict[str, float | None] = {}
 if newest is not None:
  found = {
   "newest": int(newest.time.timestamp()),
   "oldest": int(min(backup.time for backup in outcome.backups or ()).timestamp()),
   "bytes": newest.bytes,
   "tables": newest.tables,
  }
 if outcome.backups is not None:
  found["kept"] = len(outcome.backups)
  found["total"] = sum(backup.bytes for backup in outcome.backups)
  found["pinned"] = outcome.pinned(now) or None
  found["bad"] = len(outcome.bad) or None
  found["refused"] = 1 if outcome.refusal is not None else None
 found |= {"dump": measured.dump_seconds, "verify": measured.verify_seconds}
 numbers = {key: value for key, value in found.items() if value is not None}
 fresh = newest is not None and newest.name in {*outcome.published} - {*outcome.recovered}
 unchanged = result == OK and not fresh
 return message.Line(outcome.database, result, newest and newest.time, outcome.why(), numbers, unchanged)
