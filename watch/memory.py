"""What the watcher has learned from runs: kept over its restarts, since pods and Jobs go before their news is old.

Every run is learned from at most twice: without its termination message, and with it. So whatever is still there after
a restart changes nothing.
"""

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
"""A ConfigMap has at most 1 MiB, and those who are notified need some of it, too."""
AHEAD = timedelta(minutes=5)
"""By how much two clocks may differ, as for the runs themselves."""

Key = tuple[datetime, str, bool]
"""When a run ended, its uid, and whether its termination message is known: the greater one holds."""


@dataclass(frozen=True, slots=True)
class Configured:
    """What a CronJob is configured to back up.

    Attributes:
        databases: Its databases, each with its settings.
        entries: Its entries that mean all databases of a cluster, each with its settings.
        config: The ConfigMap that this is in; empty where it is not known.
    """

    databases: Mapping[str, Mapping[str, str]]
    entries: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    config: str = ""

    def entry_of(self, database: str) -> str:
        """Return the entry that a database found by a run belongs to; empty for none."""
        entry, dot, _ = database.partition(".")
        return entry if dot and entry in self.entries and is_database(database) else ""


@dataclass(frozen=True, slots=True)
class Record:
    """What is known of a database.

    Attributes:
        judged: The run that `result` and `why` are of.
        result: ok, warning, refused, failed, or unknown.
        why: The most important thing to know.
        looked: The run that the next two are of; None while none has said how many backups there are.
        newest: When the newest backup began, UTC; None for none.
        numbers: See docs/architecture.md; what is not known is missing.
        success: When a run last ended well for it, UTC.
        seen: When a run last spoke of it, UTC.
    """

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
    """What is known of the drills of a database.

    Attributes:
        judged: The drill that `result` is of.
        result: failed, none, or proved; `unknown` if that drill did not fail, and nothing else is known.
        proved: When the last drill ended that restored it, UTC; None for never, or not known.
        restore_seconds: How long that restore took; None if it is not known.
    """

    judged: Key
    result: str
    proved: datetime | None = None
    restore_seconds: int | None = None


@dataclass(frozen=True, slots=True)
class Memory:
    """What has been learned.

    Attributes:
        records: By database: a release has each name once, whichever of its CronJobs backs it up.
        complete: When the last run of a CronJob ended of which all databases are known, UTC.
        runs: The uids of the runs that were learned from, and whether their termination messages were known.
        sized: The run that the next one is of; None for none.
        drills: By database.
        outside: Of the copies outside the cluster, by database.
        volume: What a run said about the volume last; see `retention.message.Message.volume`.
        past: Earlier runs, by database.
    """

    records: Mapping[str, Record] = field(default_factory=dict)
    complete: Mapping[str, datetime] = field(default_factory=dict)
    runs: Mapping[str, bool] = field(default_factory=dict)
    sized: Key | None = None
    volume: Mapping[str, float] = field(default_factory=dict)
    drills: Mapping[str, Drilled] = field(default_factory=dict)
    past: Mapping[str, Past] = field(default_factory=dict)
    outside: Mapping[str, Outside] = field(default_factory=dict)

    def found(self, cronjob: str, configured: Configured) -> list[str]:
        """Return the databases that runs have found for entries of a CronJob, and entries that could not be listed."""
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
    memory: Memory,
    runs: Iterable[Run],
    configured: Mapping[str, Configured],
    drilled: Mapping[str, frozenset[str]] | None = None,
    *,
    now: datetime | None = None,
) -> Memory:
    """Return what is known after some runs.

    Args:
        memory: What was known before.
        runs: The Jobs that there are, in the order in which they ended.
        configured: What each CronJob is configured to back up, by its name.
        drilled: The databases and entries that each CronJob of drills restores, by its name.
        now: The moment, UTC: a run that by its own clock ends later ended now, else it would hide those that follow.
    """
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
            # Without a message it was no run, or one of which the metrics of Jobs say that it failed.
            learned = memory.outside if run.message is None else outside.learn(memory.outside, key[0], run.message)
            memory = replace(memory, outside=learned, runs={**memory.runs, run.uid: informed})
    return _forget(memory, {run.uid for run in there}, configured)


def _learn_one(memory: Memory, run: Run, key: Key, configured: Configured) -> Memory:
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
    # A run that began before an upgrade may have had other databases: which it does not name cannot be concluded.
    same = not configured.config or run.config == configured.config
    unnamed = run.message.unnamed() if run.message and same else None
    if unnamed == (0, OK):
        # Every database of the run is named: what is found in none of its lines is not one of them any more.
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


def _learn_drill(memory: Memory, run: Run, key: Key, names: frozenset[str]) -> Memory:
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


def _drill(before: Drilled | None, key: Key, result: str, proved: tuple[datetime, int | None] | None) -> Drilled:
    last = Drilled(key, result) if before is None else before
    if last.judged <= key:
        last = replace(last, judged=key, result=result)
    if proved is not None and (last.proved is None or last.proved <= proved[0]):
        last = replace(last, proved=proved[0], restore_seconds=proved[1])
    return last


def _ours(name: str, configured: Configured) -> bool:
    return name in configured.databases or name in configured.entries or bool(configured.entry_of(name))


def _by_line(before: Record | None, key: Key, line: Line) -> Record:
    """Return what is known of a database that the message names."""
    record = _judged(before, key, line.result, line.why)
    # A folder that could not be read says nothing about its backups.
    looked = "kept" in line.numbers or line.newest is not None or line.result != FAILED
    if looked and (record.looked is None or record.looked <= key):
        record = replace(record, looked=key, newest=line.newest, numbers=_complete(line))
    return _seen(record, key, success=line.result != FAILED)


def _complete(line: Line) -> dict[str, float]:
    numbers = {name: value for name, value in line.numbers.items() if name != "newest"}
    if "kept" in numbers or line.result != FAILED:
        # What is 0 is not written.
        numbers = {"bad": 0, "refused": int(line.result == "refused"), **numbers}
    return {"pinned": 0, **numbers} if "kept" in numbers else numbers


def _by_conclusion(before: Record | None, key: Key, result: str, run: Run) -> Record:
    """Return what is known of a database whose result is certain, though the message had no room for its name."""
    record = _judged(before, key, result, "its line had no room in the termination message")
    if result == OK and run.started is not None and (record.looked is None or record.looked <= key):
        # Its newest backup is of this run: at least as new as the Job.
        record = replace(record, looked=key, newest=run.started, numbers={"bad": 0, "refused": 0})
    return _seen(record, key, success=result != FAILED)


def _by_job(before: Record | None, key: Key, run: Run) -> Record:
    """Return what is known of a database of which only the end of the Job is known, or not even that."""
    if run.message is not None:
        return _judged(before, key, UNKNOWN, f"job/{run.job} does not say how it ended for it")
    if run.state == SUCCEEDED:
        record = _judged(before, key, UNKNOWN, f"job/{run.job} succeeded, and its pod is gone with what it had to say")
        return _seen(record, key, success=True)
    return _judged(before, key, FAILED, run.reason or f"job/{run.job} failed and left no message")


def _judged(before: Record | None, key: Key, result: str, why: str) -> Record:
    why = why[:_MOST_WHY]
    if before is None:
        return Record(key, result, why)
    return before if before.judged > key else replace(before, judged=key, result=result, why=why)


def _seen(record: Record, key: Key, *, success: bool) -> Record:
    at = key[0]
    ended_well = max(at, record.success or at) if success else record.success
    return replace(record, success=ended_well, seen=max(at, record.seen or at))


def _forget(memory: Memory, there: set[str], configured: Mapping[str, Configured]) -> Memory:
    """Return the memory without what is not configured any more, and without Jobs that are gone."""
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


def to_json(memory: Memory, most: int = MOST_BYTES) -> str:
    """Return the memory as text; the same memory always gives the same text.

    Args:
        memory: The memory.
        most: How many bytes it may have; if there are more, what is known of days is left out, then of earlier runs.
    """
    days = {name: Past(its.runs) for name, its in memory.past.items()}
    for kept in (memory.past, days, {}):
        text = _to_json(memory, kept)
        if len(text.encode()) <= most:
            break
    return text


def _to_json(memory: Memory, kept: Mapping[str, Past]) -> str:
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


def from_json(text: str) -> Memory:
    """Return the memory that a text holds; what of it cannot be understood is as if it had never been learned."""
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
        # The memory of an older watcher has none.
        copies = {str(name): outside.from_list(one) for name, one in document.get("outside", {}).items()}
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, OverflowError):
        return Memory()
    return Memory(records, complete, runs, sized, volume, drills, _read_past(document.get("past")), copies)


def _read_past(found: Any) -> dict[str, Past]:
    """Return what is known of earlier runs; older charts did not remember them, and nothing is judged by them."""
    if not isinstance(found, dict):
        return {}
    return {str(name): past.read(*its) for name, its in found.items() if isinstance(its, list) and len(its) == 2}


def _read_drill(one: Any) -> Drilled:
    judged, result, proved, took = one
    if result not in (*DRILLS, UNKNOWN) or not (took is None or type(took) is int):
        raise ValueError(one)
    return Drilled(_read_key(judged), result, None if proved is None else _moment(proved), took)


def _record(one: Any) -> Record:
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


def _read_numbers(found: Any) -> dict[str, float]:
    if any(isinstance(value, bool) or not isinstance(value, int | float) for value in found.values()):
        raise TypeError("numbers")
    if not all(-_LARGEST < value < _LARGEST for value in found.values()):
        raise ValueError("numbers")
    return {str(name): value for name, value in found.items()}


def _key(key: Key) -> list[Any]:
    return [_text(key[0]), key[1], key[2]]


def _read_key(found: Any) -> Key:
    at, uid, informed = found
    return _moment(at), str(uid), bool(informed)


def _text(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat()


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)
