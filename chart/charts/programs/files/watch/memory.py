# Without comments: they are in the project's file of this name.
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from retention.message import DRILLS, FAILED, OK, PROVED, WORST_FIRST, Line
from retention.names import is_database
from watch import outside, past
from watch.objects import BACKUP, DRILL, OFFSITE, RUNNING, SUCCEEDED, Run
from watch.outside import Outside
from watch.past import Past
UNKNOWN = past.UNKNOWN
RESULTS = (*reversed(WORST_FIRST), UNKNOWN)
_MOST_WHY = 300
_SCHEMA = 1
_LARGEST = 10**24
MOST_BYTES = 900_000
AHEAD = timedelta(minutes=5)
Key = tuple[datetime, str, bool]
@dataclass(frozen=True, slots=True)
class Configured:
 databases: Mapping[str, Mapping[str, str]]
 entries: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
 config: str = ""
 def entry_of(self, database):
  entry, dot, _ = database.partition(".")
  return entry if dot and entry in self.entries and is_database(database) else ""
@dataclass(frozen=True, slots=True)
class Record:
 judged: Key
 result: str
 why: str
 looked: Key | None = None
 newest: datetime | None = None
 numbers: Mapping[str, float] = field(default_factory=dict)
 success: datetime | None = None
 seen: datetime | None = None
@dataclass(frozen=True, slots=True)
class Drilled:
 judged: Key
 result: str
 proved: datetime | None = None
 restore_seconds: int | None = None
@dataclass(frozen=True, slots=True)
class Memory:
 records: Mapping[str, Record] = field(default_factory=dict)
 complete: Mapping[str, datetime] = field(default_factory=dict)
 runs: Mapping[str, bool] = field(default_factory=dict)
 sized: Key | None = None
 volume: Mapping[str, float] = field(default_factory=dict)
 drills: Mapping[str, Drilled] = field(default_factory=dict)
 past: Mapping[str, Past] = field(default_factory=dict)
 outside: Mapping[str, Outside] = field(default_factory=dict)
 def found(self, cronjob, configured):
  since = self.complete.get(cronjob)
  current = [
   name
   for name, record in self.records.items()
   if (configured.entry_of(name) or name in configured.entries)
   and (since is None or (record.seen is not None and record.seen >= since))
  ]
  with_databases = {configured.entry_of(name) for name in current}
  unlisted = [name for name in configured.entries if name not in current and name not in with_databases]
  return sorted([*current, *unlisted])
def learn(
 memory,
 runs,
 configured,
 drilled = None,
 *,
 now = None,
):
 drilled = drilled or {}
 there = list(runs)
 for run in there:
  informed = run.message is not None or run.drills is not None
  known = memory.runs.get(run.uid)
  if run.state == RUNNING or run.finished is None or not (known is None or (informed and not known)):
   continue
  ended = run.finished if now is None else min(run.finished, now + AHEAD)
  key = (ended, run.uid, informed)
  if run.component == BACKUP and run.cronjob in configured:
   memory = _learn_one(memory, run, key, configured[run.cronjob])
  elif run.component == DRILL and run.cronjob in drilled:
   memory = _learn_drill(memory, run, key, drilled[run.cronjob])
  elif run.component == OFFSITE:
   learned = memory.outside if run.message is None else outside.learn(memory.outside, key[0], run.message)
   memory = replace(memory, outside=learned, runs={**memory.runs, run.uid: informed})
 return _forget(memory, {run.uid for run in there}, configured)
def _learn_one(memory, run, key, configured):
 found = memory.found(run.cronjob, configured)
 scope = {*configured.databases, *(name for name in found if name not in configured.entries)}
 if run.databases is not None:
  scope &= run.databases
 lines = {line.database: line for line in (run.message.lines if run.message else ())}
 names = {name for name in lines if _ours(name, configured)}
 left = sorted(scope - names)
 records, results = dict(memory.records), {name: lines[name].result for name in names}
 for name in names:
  records[name] = _by_line(records.get(name), key, lines[name])
 same = not configured.config or run.config == configured.config
 unnamed = run.message.unnamed() if run.message and same else None
 if unnamed == (0, OK):
  left = [name for name in left if name in configured.databases]
 certain = unnamed is not None and unnamed[0] == len(left)
 for name in left:
  if certain and unnamed is not None:
   results[name] = unnamed[1]
   records[name] = _by_conclusion(records.get(name), key, unnamed[1], run)
  else:
   results[name] = FAILED if run.message is None and run.state != SUCCEEDED else UNKNOWN
   records[name] = _by_job(records.get(name), key, run)
 complete = dict(memory.complete)
 if (certain or unnamed == (0, OK)) and run.databases is None:
  complete[run.cronjob] = max(key[0], complete.get(run.cronjob, key[0]))
 sized, volume = memory.sized, memory.volume
 if run.message is not None and run.message.volume and (sized is None or sized <= key):
  sized, volume = key, run.message.volume
 runs = {**memory.runs, run.uid: run.message is not None}
 again = run.uid in memory.runs
 before = {name: memory.past.get(name, Past()) for name in results}
 added = {name: past.add(before[name], key[0], result, again=again) for name, result in results.items()}
 return replace(
  memory,
  records=records,
  complete=complete,
  runs=runs,
  sized=sized,
  volume=volume,
  past={**memory.past, **added},
 )
def _learn_drill(memory, run, key, names):
 drills = dict(memory.drills)
 if run.drills is not None:
  for one in run.drills.drills:
   proved = (key[0], one.restore_seconds) if one.result == PROVED else None
   drills[one.database] = _drill(drills.get(one.database), key, one.result, proved)
 else:
  result = UNKNOWN if run.state == SUCCEEDED else FAILED
  for name in names if run.databases is None else names & run.databases:
   drills[name] = _drill(drills.get(name), key, result, None)
 return replace(memory, drills=drills, runs={**memory.runs, run.uid: run.drills is not None})
def _drill(before, key, result, proved):
 last = Drilled(key, result) if before is None else before
 if last.judged <= key:
  last = replace(last, judged=key, result=result)
 if proved is not None and (last.proved is None or last.proved <= proved[0]):
  last = replace(last, proved=proved[0], restore_seconds=proved[1])
 return last
def _ours(name, configured):
 return name in configured.databases or name in configured.entries or bool(configured.entry_of(name))
def _by_line(before, key, line):
 record = _judged(before, key, line.result, line.why)
 looked = "kept" in line.numbers or line.newest is not None or line.result != FAILED
 if looked and (record.looked is None or record.looked <= key):
  record = replace(record, looked=key, newest=line.newest, numbers=_complete(line))
 return _seen(record, key, success=line.result != FAILED)
def _complete(line):
 numbers = {name: value for name, value in line.numbers.items() if name != "newest"}
 if "kept" in numbers or line.result != FAILED:
  numbers = {"bad": 0, "refused": int(line.result == "refused"), **numbers}
 return {"pinned": 0, **numbers} if "kept" in numbers else numbers
def _by_conclusion(before, key, result, run):
 record = _judged(before, key, result, "its line had no room in the termination message")
 if result == OK and run.started is not None and (record.looked is None or record.looked <= key):
  record = replace(record, looked=key, newest=run.started, numbers={"bad": 0, "refused": 0})
 return _seen(record, key, success=result != FAILED)
def _by_job(before, key, run):
 if run.message is not None:
  return _judged(before, key, UNKNOWN, f"job/{run.job} does not say how it ended for it")
 if run.state == SUCCEEDED:
  record = _judged(before, key, UNKNOWN, f"job/{run.job} succeeded, and its pod is gone with what it had to say")
  return _seen(record, key, success=True)
 return _judged(before, key, FAILED, run.reason or f"job/{run.job} failed and left no message")
def _judged(before, key, result, why):
 why = why[:_MOST_WHY]
 if before is None:
  return Record(key, result, why)
 return before if before.judged > key else replace(before, judged=key, result=result, why=why)
def _seen(record, key, *, success):
 at = key[0]
 ended_well = max(at, record.success or at) if success else record.success
 return replace(record, success=ended_well, seen=max(at, record.seen or at))
def _forget(memory, there, configured):
 current = {name for cronjob, its in configured.items() for name in (*its.databases, *memory.found(cronjob, its))}
 return Memory(
  {name: record for name, record in memory.records.items() if name in current},
  {cronjob: at for cronjob, at in memory.complete.items() if cronjob in configured},
  {uid: informed for uid, informed in memory.runs.items() if uid in there},
  memory.sized,
  memory.volume,
  {name: drilled for name, drilled in memory.drills.items() if name in current},
  {name: its for name, its in memory.past.items() if name in current},
  {name: one for name, one in memory.outside.items() if name in current},
 )
def to_json(memory, most = MOST_BYTES):
 days = {name: Past(its.runs) for name, its in memory.past.items()}
 for kept in (memory.past, days, {}):
  text = _to_json(memory, kept)
  if len(text.encode()) <= most:
   break
 return text
def _to_json(memory, kept):
 records = [
  {
   "database": name,
   "judged": _key(record.judged),
   "result": record.result,
   "why": record.why,
   "looked": None if record.looked is None else _key(record.looked),
   "newest": _text(record.newest),
   "numbers": dict(sorted(record.numbers.items())),
   "success": _text(record.success),
   "seen": _text(record.seen),
  }
  for name, record in sorted(memory.records.items())
 ]
 drills = {
  name: [_key(drilled.judged), drilled.result, _text(drilled.proved), drilled.restore_seconds]
  for name, drilled in sorted(memory.drills.items())
 }
 document = {
  "schema": _SCHEMA,
  "complete": {cronjob: _text(at) for cronjob, at in sorted(memory.complete.items())},
  "runs": dict(sorted(memory.runs.items())),
  "sized": None if memory.sized is None else _key(memory.sized),
  "volume": dict(sorted(memory.volume.items())),
  "records": records,
  "drills": drills,
  "past": {name: [its.runs, its.days] for name, its in sorted(kept.items())},
  "outside": {name: outside.to_list(one) for name, one in sorted(memory.outside.items())},
 }
 return json.dumps(document, ensure_ascii=False, allow_nan=False)
def from_json(text):
 try:
  document = json.loads(text)
  if document["schema"] != _SCHEMA:
   return Memory()
  records = {str(one["database"]): _record(one) for one in document["records"]}
  complete = {str(cronjob): _moment(at) for cronjob, at in document["complete"].items()}
  runs = {str(uid): bool(informed) for uid, informed in document["runs"].items()}
  sized = None if document["sized"] is None else _read_key(document["sized"])
  volume = _read_numbers(document["volume"])
  drills = {str(name): _read_drill(one) for name, one in document["drills"].items()}
  copies = {str(name): outside.from_list(one) for name, one in document.get("outside", {}).items()}
 except (ValueError, TypeError, KeyError, AttributeError, RecursionError, OverflowError):
  return Memory()
 return Memory(records, complete, runs, sized, volume, drills, _read_past(document.get("past")), copies)
def _read_past(found):
 if not isinstance(found, dict):
  return {}
 return {str(name): past.read(*its) for name, its in found.items() if isinstance(its, list) and len(its) == 2}
def _read_drill(one):
 judged, result, proved, took = one
 if result not in (*DRILLS, UNKNOWN) or not (took is None or type(took) is int):
  raise ValueError(one)
 return Drilled(_read_key(judged), result, None if proved is None else _moment(proved), took)
def _record(one):
 if one["result"] not in RESULTS:
  raise ValueError(one["result"])
 return Record(
  _read_key(one["judged"]),
  str(one["result"]),
  str(one["why"]),
  None if one["looked"] is None else _read_key(one["looked"]),
  None if one["newest"] is None else _moment(one["newest"]),
  _read_numbers(one["numbers"]),
  None if one["success"] is None else _moment(one["success"]),
  None if one["seen"] is None else _moment(one["seen"]),
 )
def _read_numbers(found):
 if any(isinstance(value, bool) or not isinstance(value, int | float) for value in found.values()):
  raise TypeError("numbers")
 if not all(-_LARGEST < value < _LARGEST for value in found.values()):
  raise ValueError("numbers")
 return {str(name): value for name, value in found.items()}
def _key(key):
 return [_text(key[0]), key[1], key[2]]
def _read_key(found):
 at, uid, informed = found
 return _moment(at), str(uid), bool(informed)
def _text(moment):
 return None if moment is None else moment.isoformat()
def _moment(text):
 return datetime.fromisoformat(text).astimezone(UTC)
