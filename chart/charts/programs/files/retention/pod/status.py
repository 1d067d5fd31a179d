# Without comments: they are in the project's file of this name.
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from retention.errors import RetentionError
from retention.names import STATUS, STATUS_LOCK
from retention.pod.report import OK, REFUSED, WARNING, RunOutcome
from retention.rule import sizing
from retention.text import parse_moment
from retention.volume import locks
from retention.volume.folder import Folder
from retention.volume.scan import scan_root
_Entries = Mapping[str, Any]
_Merge = Callable[[_Entries], _Entries]
_SCHEMA = 1
_LOCK_SECONDS = 30
_MOST_BYTES = 16 * 1024 * 1024
_LARGEST = 10**18
_FORGET_AFTER = timedelta(days=7)
def read(root):
 return root.read(STATUS, _MOST_BYTES)
def parse(content):
 try:
  databases = json.loads(content)["databases"]
 except (ValueError, RecursionError, KeyError, TypeError):
  return None
 return databases if isinstance(databases, dict) else None
@dataclass(frozen=True, slots=True)
class Written:
 warning: str
 sizing: sizing.Sizing | None
def write_run(
 root,
 outcomes,
 *,
 now,
 holder,
 space,
 entries = frozenset(),
):
 ours = list(outcomes)
 merged = merge_run({}, ours, (), now)
 def merge(earlier):
  nonlocal merged
  others = {name: one for name, one in earlier.items() if name not in entries}
  merged = merge_run(others, ours, scan_root(root).databases, now)
  return merged
 def sized():
  return None if space is None else sizing.assess(*space, holdings(merged, now))
 warning = _update(root, merge, now, holder, sized)
 return Written(warning, sized())
def holdings(entries, now):
 found = []
 for one in entries.values():
  if not _ran_lately(one, now):
   continue
  size, full = number_of(one.get("bytes")), number_of(one.get("full_bytes"))
  if size is not None and full is not None:
   found.append(sizing.Holding(int(size), int(full), number_of(one.get("growth_bytes_per_second"))))
 return found
def number_of(found):
 if isinstance(found, bool) or not isinstance(found, int | float) or not -_LARGEST < found < _LARGEST:
  return None
 return found
def write_drills(root, drills, *, now, holder):
 return _update(root, lambda earlier: merge_drills(earlier, drills), now, holder)
def _update(
 root,
 merge,
 now,
 holder,
 sized = None,
):
 try:
  with locks.locked(root, STATUS_LOCK, seconds=_LOCK_SECONDS, holder=holder):
   content = read(root)
   earlier = {} if content is None else parse(content)
   merged = merge(earlier or {})
   volume = _volume(content) if sized is None else _volume_entry(sized())
   root.write(STATUS, _format(merged, volume, now))
   root.sync()
 except RetentionError as error:
  return f"status.json was not written: {error}"
 return "status.json could not be understood and was written from scratch" if earlier is None else ""
def _volume(content):
 try:
  return json.loads(content or b"{}").get("volume")
 except (ValueError, RecursionError, AttributeError):
  return None
def _volume_entry(sized):
 if sized is None:
  return None
 return {
  "bytes": sized.capacity,
  "used_bytes": sized.used,
  "full_bytes": sized.full,
  "growth_bytes_per_second": None if sized.growth is None else round(sized.growth, 3),
 }
def _format(databases, volume, now):
 document = {
  "schema": _SCHEMA,
  "updated": now.isoformat(timespec="seconds"),
  "volume": volume,
  "databases": dict(sorted(databases.items())),
 }
 return (json.dumps(document, indent=2, ensure_ascii=False) + "\n").encode(errors="replace")
def merge_run(earlier, outcomes, present, now):
 ours = {outcome.database: entry(outcome, earlier.get(outcome.database), now) for outcome in outcomes}
 staying = {*ours, *present}
 others = {name: one for name, one in earlier.items() if name in staying or _ran_lately(one, now)}
 return {**others, **ours}
def last_drills(entries):
 found = {}
 for name, one in entries.items():
  drill = one.get("drill") if isinstance(one, dict) else None
  at = drill.get("at") if isinstance(drill, dict) else None
  moment = parse_moment(at) if isinstance(at, str) else None
  if moment is not None:
   found[name] = moment
 return found
def _ran_lately(earlier, now):
 last_run = earlier.get("last_run") if isinstance(earlier, dict) else None
 moment = parse_moment(last_run) if isinstance(last_run, str) else None
 return moment is not None and abs(now - moment) < _FORGET_AFTER
def merge_drills(earlier, drills):
 merged = dict(earlier)
 for database, drill in drills.items():
  before = earlier.get(database)
  merged[database] = {**(before if isinstance(before, dict) else {"database": database}), "drill": drill}
 return merged
def entry(outcome, previous, now):
 newest, holding, measured = outcome.newest(now), outcome.holding(now), outcome.measured
 growth = None if holding is None else holding.growth
 at = now.isoformat(timespec="seconds")
 earlier = previous if isinstance(previous, dict) else {}
 refused = earlier.get("refused") if outcome.backups is None and outcome.refusal is None else outcome.refusal
 return {
  "database": outcome.database,
  "cluster": outcome.cluster,
  "namespace": outcome.namespace,
  "result": outcome.result,
  "last_run": at,
  "last_success": at if outcome.result in (OK, WARNING, REFUSED) else earlier.get("last_success"),
  "newest": None
  if newest is None
  else {
   "name": newest.name,
   "time": newest.time.isoformat(),
   "bytes": newest.bytes,
   "tables": newest.tables,
   "database_bytes": measured.database_bytes,
   "dump_seconds": measured.dump_seconds,
   "verify_seconds": measured.verify_seconds,
  },
  "oldest": None if newest is None else min(backup.time for backup in outcome.backups or ()).isoformat(),
  "kept": None if outcome.backups is None else len(outcome.backups),
  "bytes": None if outcome.backups is None else sum(backup.bytes for backup in outcome.backups),
  "full_bytes": None if holding is None else holding.full,
  "growth_bytes_per_second": None if growth is None else round(growth, 3),
  "pinned": None if outcome.backups is None else outcome.pinned(now),
  "published": outcome.published,
  "recovered": outcome.recovered,
  "deleted": [{"name": gone.name, "reason": gone.reason} for gone in outcome.deleted],
  "bad": outcome.bad,
  "refused": None if refused is None else str(refused),
  "problems": [{"problem": error.problem, "remedy": error.remedy} for error in outcome.problems],
  "warnings": outcome.warnings,
  "seconds": round(outcome.seconds, 1),
  "restore": outcome.restore or earlier.get("restore"),
  "drill": earlier.get("drill"),
 }
