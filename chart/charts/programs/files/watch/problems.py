# Without comments: they are in the project's file of this name.
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from retention.message import FAILED, OK, REFUSED, WARNING
from retention.text import format_age, format_size
from watch.memory import UNKNOWN
from watch.standing import Database, Standing
CRITICAL, SERIOUS, INFO = "critical", "warning", "info"
VOLUME, WATCHER = "the volume", "the watcher"
DRILLS_OF = "drills of "
SEVERITY = {
 "CnpgBackupStatusDown": SERIOUS,
 "CnpgBackupBadArchive": CRITICAL,
 "CnpgBackupNone": CRITICAL,
 "CnpgBackupStale": CRITICAL,
 "CnpgBackupFailing": SERIOUS,
 "CnpgBackupPruneRefused": SERIOUS,
 "CnpgBackupVolumeFull": SERIOUS,
 "CnpgBackupDrillFailed": SERIOUS,
 "CnpgBackupDrillStale": SERIOUS,
 "CnpgBackupOffsiteStale": SERIOUS,
 "CnpgBackupSuspended": INFO,
}
RANK = {alert: number for number, alert in enumerate(SEVERITY)}
_DAY, _HOUR = timedelta(days=1), timedelta(hours=1)
_UNREADABLE = timedelta(minutes=15)
_WEEK_SECONDS = 7 * 86400
@dataclass(frozen=True, slots=True)
class Problem:
 subject: str
 alert: str
 what: str
 facts: tuple[str, ...] = ()
 after: timedelta = timedelta(0)
 remedy: str = ""
 @property
 def severity(self):
  return SEVERITY[self.alert]
 @property
 def rank(self):
  return RANK[self.alert]
def problems_of(standing, *, out_of_date, read, now):
 found = []
 if out_of_date is not None:
  found.append(Problem(WATCHER, "CnpgBackupStatusDown", f"knows nothing new: {out_of_date}", after=_UNREADABLE))
 if read is not None:
  found += [problem for one in standing.databases if (problem := problem_of(one, now)) is not None]
  volume = _of_volume(standing)
  found += [volume] if volume is not None else []
 return sorted(found, key=lambda one: (one.rank, one.subject))
def apart(standing, problems, now):
 named = {one.name for one in standing.databases}
 found = [problem for problem in problems if problem.subject not in named]
 for one in standing.databases if len(found) < len(problems) else ():
  facts = _facts(one, now)
  backups, drills = _of_backups(one, now, facts), _of_drills(one, now, facts)
  found += [backups] if backups is not None else []
  found += [replace(drills, subject=f"{DRILLS_OF}{one.name}")] if drills is not None else []
 return sorted(found, key=lambda one: (one.rank, one.subject))
def certain(problems):
 return [one for one in problems if not (one.after and one.severity == CRITICAL)]
def problem_of(one, now):
 facts = _facts(one, now)
 backups, drills = _of_backups(one, now, facts), _of_drills(one, now, facts)
 if backups is None or drills is None:
  return backups or drills
 unsure = backups.alert == "CnpgBackupNone" and backups.after and drills.alert == "CnpgBackupDrillFailed"
 return drills if unsure or drills.rank < backups.rank else backups
def _of_backups(one, now, facts):
 record = one.record
 numbers = record.numbers if record is not None else {}
 last = record.result if record is not None else UNKNOWN
 because = f"; the last run failed: {one.why}" if last == FAILED and record is not None and record.why else ""
 if bad := int(numbers.get("bad", 0)):
  text = "1 archive on the volume is" if bad == 1 else f"{bad} archives on the volume are"
  return Problem(one.name, "CnpgBackupBadArchive", f"{text} bad or damaged", facts)
 if one.suspended:
  what = "is not backed up: its schedule is suspended"
  return Problem(one.name, "CnpgBackupSuspended", what, facts, after=_DAY)
 if record is not None and record.looked is not None and record.newest is None:
  return Problem(one.name, "CnpgBackupNone", f"has no backup{because}", facts)
 if record is not None and record.newest is not None and one.stale_after is not None:
  age = now - record.newest
  if age > one.stale_after:
   what = f"has no new backup: the newest is {format_age(age)} old{because}"
   return Problem(one.name, "CnpgBackupStale", what, facts)
 if last == FAILED:
  return Problem(one.name, "CnpgBackupFailing", f"was not backed up: {one.why}", facts)
 if last == REFUSED:
  what = f"has a new backup, but old ones are not deleted: {one.why}"
  return Problem(one.name, "CnpgBackupPruneRefused", what, facts)
 failed_drill = one.drilled is not None and one.drilled.result == FAILED
 if one.state not in (OK, WARNING) and not (one.state == FAILED and failed_drill):
  lasting = one.stale_after or _DAY
  return Problem(one.name, "CnpgBackupNone", f"may have no backup: {one.why}", facts, after=lasting)
 if (stale := _copies(one, now)) is not None:
  return Problem(one.name, "CnpgBackupOffsiteStale", stale, facts, after=_HOUR)
 return None
def _of_drills(one, now, facts):
 if one.drilled is not None and one.drilled.result == FAILED:
  return Problem(one.name, "CnpgBackupDrillFailed", "could not be restored by its last drill", facts)
 if one.drill_stale is None:
  return None
 age = format_age(now - one.drill_stale)
 never = one.drilled is None or one.drilled.proved is None
 what = "has never been restored by a drill" if never else f"was last restored by a drill {age} ago"
 more = f"No drill that restored it is known, and its oldest backup is {age} old." if never else ""
 return Problem(
  one.name, "CnpgBackupDrillStale", f"{what}: it is not known whether its backups restore",
  (*facts, *([more] if more else [])), after=_HOUR,
 )
def _copies(one, now):
 outside, limit = one.outside, one.outside_stale_after
 if outside is None or limit is None or outside.looked is None:
  return None
 because = f"; its last copy failed: {outside.why}" if outside.result == FAILED else ""
 if outside.newest is not None:
  age = now - outside.newest
  return f"has no new copy outside: the newest is {format_age(age)} old{because}" if age > limit else None
 oldest = (one.record.numbers if one.record is not None else {}).get("oldest")
 if oldest is None or now.timestamp() - oldest <= limit.total_seconds():
  return None
 return f"has no copy outside{because}"
def _facts(one, now):
 facts = []
 record = one.record
 if one.cluster:
  name = f", database {one.dbname}" if one.dbname and one.dbname != one.name else ""
  facts.append(f"Cluster: {one.cluster_namespace}/{one.cluster}{name}.")
 if record is not None and record.newest is not None:
  age = format_age(max(now - record.newest, timedelta(0)))
  limit = f"; more than {format_age(one.stale_after)} is too old" if one.stale_after is not None else ""
  facts.append(f"Newest good backup: {moment(record.newest)}, {age} old{limit}.")
 elif record is not None and record.looked is not None:
  facts.append("Newest good backup: none.")
 else:
  facts.append("Newest good backup: not known.")
 if one.next_run is not None:
  facts.append(f"Next run: {moment(one.next_run)}.")
 return tuple(facts)
def _of_volume(standing):
 volume = standing.volume
 needed, capacity, growth = volume.get("full"), volume.get("capacity"), volume.get("growth", 0)
 if needed is None or capacity is None:
  return None
 facts = (f"Claim {standing.claim}: {format_size(int(capacity))}; all backups need {format_size(int(needed))}.",)
 if needed > capacity:
  return Problem(VOLUME, "CnpgBackupVolumeFull", "is too small for all backups that are kept", facts)
 if growth > 0 and (capacity - needed) / growth < _WEEK_SECONDS:
  return Problem(VOLUME, "CnpgBackupVolumeFull", "will be full within a week", facts)
 return None
def moment(at):
 return f"{at:%Y-%m-%d %H:%M}Z"
def summary(standing, problems):
 named = {one.name for one in standing.databases}
 wrong = sum(problem.subject in named for problem in certain(problems))
 count = len(standing.databases)
 noun = "database" if count == 1 else "databases"
 if not wrong:
  return f"{count} {noun}, no problem"
 return f"{wrong} of {count} {noun} {'has' if wrong == 1 else 'have'} a problem"
