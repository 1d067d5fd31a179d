# Without comments: they are in the project's file of this name.
from collections.abc import Iterable, Set
from dataclasses import dataclass
from datetime import datetime
from offsite.rule import names
from offsite.rule.copies import Copies, Copy
from retention.names import Kind, file_name
from retention.rule.backup import Backup, dated_after
from retention.rule.decide import Candidate, Decision, decide
from retention.rule.plan import slot_of
from retention.rule.policy import Limits, Policy
MOST_SKEW_SECONDS = 300
_SHRINK = 2
@dataclass(frozen=True, slots=True)
class Obstacle:
 reason: str
 remedy: str
def to_upload(
 database, local, copies, policy, *, now, newest
):
 past = [backup for backup in local if backup.time <= now]
 here = {backup.base: backup for backup in (past if newest else _of_free_slots(past, copies, policy, now))}
 there = {copy.base for copy in copies.complete}
 together = [*_candidates(copies.complete), *(_candidate(here[base]) for base in here if base not in there)]
 kept = {keep.base for keep in decide(database, together, (), policy, now=now).keep}
 wanted = [backup for base, backup in here.items() if base in kept and base not in there]
 return sorted(wanted, key=lambda backup: backup.time, reverse=True)
def _of_free_slots(local, copies, policy, now):
 parsed = (names.parse(copies.database, finding.name) for finding in copies.damaged)
 damaged = {one.base for one in parsed if one is not None}
 again = [backup for backup in local if backup.base in damaged]
 past = [copy.time for copy in copies.complete if copy.time <= now]
 taken = {slot_of(time, policy) for time in (*past, *(backup.time for backup in again))}
 newest = {slot_of(backup.time, policy): backup for backup in sorted(local, key=lambda backup: backup.time)}
 return [*again, *(backup for slot, backup in newest.items() if slot not in taken)]
def to_delete(copies, policy, *, now, own, limits):
 return decide(copies.database, _candidates(copies.complete), (), policy, now=now, own=frozenset(own), limits=limits)
def lost(local, copies, deleted, *, since = None):
 return [
  copy
  for copy in copies.complete
  if copy.base not in local
  and file_name(copy.base, Kind.ARCHIVE) not in deleted
  and (since is None or copy.time > since)
 ]
def obstacle(copies, losses, *, now, skew):
 gone = list(losses)
 if gone:
  many = f"{len(gone)} backups" if len(gone) > 1 else "1 backup"
  return Obstacle(
   f"the volume has lost {many} that had been copied, the newest {gone[0].base}",
   "bring back what you need with `kubectl cnpg-backup offsite fetch`; if the loss is meant, set "
   "offsite.acceptLossUntil to today",
  )
 if skew is not None and (difference := clock_difference(skew)) is not None:
  return Obstacle(f"this node's clock is {difference}", "set the clocks right")
 if future := dated_after(_as_backups(copies.complete), now):
  return Obstacle(future, "check the clocks of the nodes")
 return _shrunk(copies)
def clock_difference(skew):
 if abs(skew) <= MOST_SKEW_SECONDS:
  return None
 return f"{round(abs(skew))} s {'ahead of' if skew > 0 else 'behind'} the store's"
def _shrunk(copies):
 if not copies.complete:
  return None
 newest, others = copies.complete[0], copies.complete[1:]
 for unit, values, own in (
  ("bytes", [copy.bytes for copy in others], newest.bytes),
  ("tables", [copy.marker.tables for copy in others], newest.marker.tables),
 ):
  most = max((value for value in values if value is not None), default=0)
  if own is not None and _SHRINK * own < most:
   return Obstacle(
    f"the newest copy, {newest.base}, has {own} {unit}, an older one {most}",
    "look whether data was lost; if the database is meant to be smaller, set offsite.allowShrunk: true",
   )
 return None
def _candidates(copies):
 return [Candidate(file_name(copy.base, Kind.ARCHIVE), copy.base, copy.time, None, copy.bytes) for copy in copies]
def _candidate(backup):
 return Candidate(backup.name, backup.base, backup.time, None, backup.bytes)
def _as_backups(copies):
 return [Backup(copy.base, copy.time, copy.bytes, copy.marker.archive.sha256, None, "", None) for copy in copies]
