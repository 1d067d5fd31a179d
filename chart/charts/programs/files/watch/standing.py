# Without comments: they are in the project's file of this name.
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta, tzinfo
from retention.message import FAILED, OK, WARNING
from retention.text import format_age
from watch.memory import AHEAD, UNKNOWN, Configured, Drilled, Memory, Record
from watch.objects import BACKUP, RUNNING, CronJob, Run
from watch.outside import Outside
from watch.past import Past
from watch.schedule import Schedule, ScheduleError
LATE = "late"
@dataclass(frozen=True, slots=True)
class Database:
 name: str
 cronjob: str
 cluster: str
 cluster_namespace: str
 dbname: str
 suspended: bool
 state: str
 why: str
 record: Record | None
 drilled: Drilled | None
 next_run: datetime | None
 stale_after: timedelta | None
 drill_stale: datetime | None = None
 past: Past = field(default_factory=Past)
 outside: Outside | None = None
 outside_stale_after: timedelta | None = None
@dataclass(frozen=True, slots=True)
class Work:
 cronjob: str
 component: str
 result: str
 active: int
@dataclass(frozen=True, slots=True)
class Standing:
 databases: tuple[Database, ...]
 work: tuple[Work, ...]
 volume: Mapping[str, float] = field(default_factory=dict)
 claim: str = ""
def judge(
 cronjobs,
 runs,
 memory,
 configured,
 *,
 now,
 stale_after,
 zones,
 drill_stale_after = None,
 outside_stale_after = None,
):
 by_name = {cronjob.name: cronjob for cronjob in cronjobs}
 databases = []
 for cronjob, its in configured.items():
  made = by_name.get(cronjob)
  unseen = _unseen(made, runs)
  next_due = None if made is None or made.suspended else next_run(made, now, zones)
  for name in {*its.databases, *memory.found(cronjob, its)}:
   settings = its.databases.get(name) or its.entries.get(its.entry_of(name) or name) or {}
   databases.append(
    _database(
     name,
     made,
     cronjob,
     settings,
     memory.records.get(name),
     memory.drills.get(name),
     memory.past.get(name, Past()),
     now,
     stale_after.get(cronjob),
     next_due,
     drill_stale_after,
     found=name not in its.databases,
     unseen=unseen,
    )
   )
 work = [_work(cronjob, runs) for cronjob in cronjobs]
 backups = [cronjob for cronjob in cronjobs if cronjob.component == BACKUP and cronjob.name in configured]
 claim = next((cronjob.claim for cronjob in backups), "")
 if outside_stale_after is not None:
  databases = [
   replace(one, outside=memory.outside.get(one.name), outside_stale_after=outside_stale_after)
   for one in databases
  ]
 return Standing(tuple(sorted(databases, key=lambda one: one.name)), tuple(work), memory.volume, claim)
def _database(
 name,
 cronjob,
 cronjob_name,
 settings,
 record,
 drilled,
 past,
 now,
 stale_after,
 next_due,
 drill_stale_after,
 *,
 found,
 unseen,
):
 suspended = cronjob is not None and cronjob.suspended
 state, why = _state(record, now, None if suspended else stale_after)
 if state in (OK, WARNING) and record is not None and unseen is not None and unseen > record.judged[0]:
  state, why = UNKNOWN, f"its run of {unseen:%Y-%m-%d %H:%M}Z is gone, and nobody has seen how it ended"
 if state in (OK, WARNING) and cronjob is None:
  state, why = UNKNOWN, f"CronJob {cronjob_name} does not exist"
 if state in (OK, WARNING) and drilled is not None and drilled.result == FAILED:
  state, why = FAILED, "its last drill failed"
 drill_stale = _drill_stale(record, drilled, now, drill_stale_after)
 if state == OK and drill_stale is not None:
  state, why = WARNING, f"no drill has restored it for {format_age(now - drill_stale)}"
 return Database(
  name,
  cronjob_name,
  settings.get("cluster", ""),
  settings.get("namespace", ""),
  "" if found else settings.get("dbname", ""),
  suspended,
  state,
  why,
  record,
  drilled,
  next_due,
  stale_after,
  drill_stale,
  past,
 )
def _drill_stale(
 record, drilled, now, stale_after
):
 proved = None if drilled is None else drilled.proved
 if proved is None and record is not None and "oldest" in record.numbers:
  proved = moment_of(record.numbers["oldest"])
 return proved if proved is not None and stale_after is not None and now - proved > stale_after else None
def moment_of(seconds):
 try:
  return datetime.fromtimestamp(seconds, UTC)
 except (OverflowError, ValueError, OSError):
  return None
def _unseen(cronjob, runs):
 if cronjob is None or cronjob.last_schedule is None:
  return None
 there = (run.started for run in runs if run.cronjob == cronjob.name)
 if any(started is None or started >= cronjob.last_schedule for started in there):
  return None
 return cronjob.last_schedule
def _state(record, now, stale_after):
 if record is None:
  return UNKNOWN, "no run of it has been seen"
 state, why = record.result, record.why
 if state not in (OK, WARNING, UNKNOWN) or record.looked is None:
  return state, why
 newest = record.newest
 if newest is None:
  return (LATE, "it has no backup") if state != UNKNOWN else (state, why)
 if stale_after is not None and now - newest > stale_after:
  return LATE, f"its newest backup is {format_age(now - newest)} old"
 for at, when in ((now, "now"), (record.looked[0], "the end of its last run")):
  if state == OK and newest > at + AHEAD:
   after = f"{format_age(newest - at)} after {when}"
   return WARNING, f"its newest backup is dated {after}; check the clocks of the nodes"
 return state, why
def next_run(cronjob, now, zones):
 zone = UTC if cronjob.time_zone in ("Etc/UTC", "UTC") else zones.get(cronjob.time_zone)
 if zone is None:
  return None
 try:
  return Schedule.parse(cronjob.schedule).after(now, zone)
 except ScheduleError:
  return None
def _work(cronjob, runs):
 own = [run for run in runs if run.cronjob == cronjob.name]
 ended = [run for run in own if run.state != RUNNING]
 return Work(cronjob.name, cronjob.component, ended[-1].state if ended else "", len(own) - len(ended))
def worst_first(databases):
 order = (FAILED, LATE, "refused", UNKNOWN, WARNING, OK)
 return sorted(databases, key=lambda one: (order.index(one.state), one.name))
