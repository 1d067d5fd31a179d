# Without comments: they are in the project's file of this name.
import json
from datetime import datetime, timedelta
from typing import Any
from retention.text import format_age
from watch.standing import Database, Standing, worst_first
def document(
 standing, *, namespace, release, read, now, period
):
 return json.dumps(
  {
   "namespace": namespace,
   "release": release,
   "read": _text(read),
   "out_of_date": out_of_date(read, now, period),
   "databases": [] if read is None else [_database(one) for one in worst_first(standing.databases)],
   "volume": dict(standing.volume) if read is not None and standing.volume else None,
  },
  indent=2,
 )
def out_of_date(read, now, period):
 if read is None:
  return "the API server has not been read yet: nothing is known"
 if now - read <= 2 * period:
  return None
 return f"the API server was last read {format_age(now - read)} ago: what has happened since is not known"
def _database(one):
 record, drilled = one.record, one.drilled
 return {
  "database": one.name,
  "state": one.state,
  "why": one.why,
  "cronjob": one.cronjob,
  "cluster": f"{one.cluster_namespace}/{one.cluster}",
  "suspended": one.suspended,
  "newest": None if record is None else _text(record.newest),
  "last_success": None if record is None else _text(record.success),
  "last_run": None if record is None else _text(record.judged[0]),
  "next_run": _text(one.next_run),
  "stale_after_seconds": None if one.stale_after is None else one.stale_after / timedelta(seconds=1),
  "numbers": {} if record is None else dict(record.numbers),
  "drill": None
  if drilled is None
  else {
   "at": _text(drilled.judged[0]),
   "result": drilled.result,
   "proved": _text(drilled.proved),
   "restore_seconds": drilled.restore_seconds,
  },
  "outside": None
  if one.outside is None
  else {
   "at": _text(one.outside.judged),
   "result": one.outside.result,
   "why": one.outside.why,
   "newest": _text(one.outside.newest),
   "verified": one.outside.verified or None,
   "restored": _text(one.outside.restored),
  },
 }
def _text(moment):
 return None if moment is None else moment.isoformat()
