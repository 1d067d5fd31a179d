# Without comments: they are in the project's file of this name.
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from retention.message import DRILLS
from watch.memory import RESULTS
from watch.outside import VERIFIED
from watch.standing import Database, Standing
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_PREFIX = "cnpg_backup_"
_JOB_RESULTS = ("succeeded", "failed")
@dataclass(frozen=True, slots=True)
class _Metric:
 name: str
 help: str
 value: Callable[[Database], float | None]
def _number(name):
 return lambda database: None if database.record is None else database.record.numbers.get(name)
def _seconds(moment):
 return None if moment is None else moment.timestamp()
_OF_DATABASES = (
 _Metric(
  "newest_timestamp_seconds",
  "When the newest verified backup began.",
  lambda one: None if one.record is None else _seconds(one.record.newest),
 ),
 _Metric("oldest_timestamp_seconds", "When the oldest backup began.", _number("oldest")),
 _Metric("newest_size_bytes", "Size of the newest archive.", _number("bytes")),
 _Metric("newest_tables", "Tables in the newest archive.", _number("tables")),
 _Metric("backups", "Backups that are kept.", _number("kept")),
 _Metric("size_bytes", "Size of all backups.", _number("total")),
 _Metric("pinned", "Backups that are pinned.", _number("pinned")),
 _Metric(
  "last_run_timestamp_seconds",
  "When the last run ended that spoke of it.",
  lambda one: None if one.record is None else _seconds(one.record.judged[0]),
 ),
 _Metric(
  "last_success_timestamp_seconds",
  "When a run last ended well for it.",
  lambda one: None if one.record is None else _seconds(one.record.success),
 ),
 _Metric("dump_duration_seconds", "How long the dump of the newest archive took.", _number("dump")),
 _Metric("verify_duration_seconds", "How long the verification of the newest archive took.", _number("verify")),
 _Metric("bad_archives", "Archives on the volume that are bad or damaged.", _number("bad")),
 _Metric("prune_refused", "Whether the last run refused to prune.", _number("refused")),
 _Metric(
  "drill_timestamp_seconds",
  "When its last drill ended.",
  lambda one: None if one.drilled is None else _seconds(one.drilled.judged[0]),
 ),
 _Metric(
  "drill_proved_timestamp_seconds",
  "When the last drill ended that restored it.",
  lambda one: None if one.drilled is None else _seconds(one.drilled.proved),
 ),
 _Metric(
  "restore_duration_seconds",
  "How long that restore took.",
  lambda one: None if one.drilled is None else one.drilled.restore_seconds,
 ),
 _Metric(
  "offsite_newest_timestamp_seconds",
  "When the backup began that the newest copy outside is of.",
  lambda one: None if one.outside is None else _seconds(one.outside.newest),
 ),
 _Metric(
  "offsite_restored_timestamp_seconds",
  "When a drill last restored a copy outside.",
  lambda one: None if one.outside is None else _seconds(one.outside.restored),
 ),
 _Metric("next_run_timestamp_seconds", "When it is due next.", lambda one: _seconds(one.next_run)),
 _Metric(
  "stale_after_seconds",
  "From which age the newest backup is too old.",
  lambda one: None if one.stale_after is None else one.stale_after.total_seconds(),
 ),
)
_OF_VOLUME = (
 ("volume_capacity_bytes", "What the backups can use of the volume.", "capacity"),
 ("volume_used_bytes", "What is used of the volume.", "used"),
 ("volume_needed_bytes", "What a run needs once all tiers are full.", "full"),
 ("volume_growth_bytes_per_second", "By how much that grows.", "growth"),
)
Sample = tuple[Mapping[str, str], float]
def render(standing, *, namespace, release, version, read):
 common = {"namespace": namespace, "release": release}
 lines = _family("build_info", "The version of the chart.", [({**common, "version": version}, 1)])
 if read is None:
  return "\n".join(lines) + "\n"
 lines += _family(
  "status_read_timestamp_seconds", "When the API server was last read.", [(common, read.timestamp())]
 )
 lines += _databases(standing, common)
 lines += _cronjobs(standing, common)
 of_volume = {**common, "claim": standing.claim}
 for name, text, key in _OF_VOLUME:
  lines += _family(name, text, [(of_volume, standing.volume[key])] if key in standing.volume else [])
 return "\n".join(lines) + "\n"
def notifications(sent, *, namespace, release):
 if not sent:
  return ""
 name = f"{_PREFIX}notifications_total"
 lines = [f"# HELP {name} Notifications since the watcher began.", f"# TYPE {name} counter"]
 for (target, outcome), count in sorted(sent.items()):
  labels = {"namespace": namespace, "release": release, "target": target, "outcome": outcome}
  lines.append(f"{name}{{{_labels(labels)}}} {count}")
 return "\n".join(lines) + "\n"
def _databases(standing, common):
 labelled = [(database, {**common, "database": database.name}) for database in standing.databases]
 info = [
  (
   {
    **labels,
    "cluster": database.cluster,
    "cluster_namespace": database.cluster_namespace,
    "dbname": database.dbname,
    "cronjob": database.cronjob,
    "suspended": "true" if database.suspended else "false",
   },
   1.0,
  )
  for database, labels in labelled
 ]
 lines = _family("database_info", "1 for each configured database.", info)
 results = [
  ({**labels, "result": result}, float(result == _result(database)))
  for database, labels in labelled
  for result in RESULTS
 ]
 lines += _family("last_run_result", "How the last run ended for it.", results)
 drills = [
  ({**labels, "result": result}, float(result == database.drilled.result))
  for database, labels in labelled
  if database.drilled is not None
  for result in (*reversed(DRILLS),)
 ]
 lines += _family("drill_result", "How its last drill ended.", drills)
 verified = [
  ({**labels, "verified": how}, float(how == database.outside.verified))
  for database, labels in labelled
  if database.outside is not None and database.outside.verified
  for how in VERIFIED
 ]
 lines += _family("offsite_verified", "How that copy is known to be whole.", verified)
 for metric in _OF_DATABASES:
  found = [(labels, metric.value(database)) for database, labels in labelled]
  lines += _family(metric.name, metric.help, [(labels, value) for labels, value in found if value is not None])
 return lines
def _result(database):
 return RESULTS[-1] if database.record is None else database.record.result
def _cronjobs(standing, common):
 labelled = [(work, {**common, "cronjob": work.cronjob, "component": work.component}) for work in standing.work]
 results = [
  ({**labels, "result": result}, float(result == work.result))
  for work, labels in labelled
  if work.result
  for result in _JOB_RESULTS
 ]
 lines = _family("cronjob_last_job_result", "How the last Job that is still there ended.", results)
 active = [(labels, float(work.active)) for work, labels in labelled]
 return lines + _family("cronjob_active", "How many Jobs run.", active)
def _family(name, text, samples):
 lines = [f"{_PREFIX}{name}{{{_labels(labels)}}} {_value(value)}" for labels, value in samples]
 return [f"# HELP {_PREFIX}{name} {text}", f"# TYPE {_PREFIX}{name} gauge", *lines] if lines else []
def _labels(labels):
 return ",".join(f'{name}="{_escaped(value)}"' for name, value in labels.items())
def _escaped(text):
 return text.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")
def _value(value):
 return str(int(value)) if value == int(value) else repr(float(value))
