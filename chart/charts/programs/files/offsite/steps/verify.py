# Without comments: they are in the project's file of this name.
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from offsite.remote.errors import CarrierError, RemoteError
from offsite.remote.rclone import Rclone
from offsite.rule import names
from offsite.rule.copies import Copies, Copy
from offsite.steps.check import ChangedError, disown, read_back
from retention.errors import StoppedError
SOUND, DAMAGED, UNREAD = "sound", "damaged", "unread"
@dataclass(frozen=True, slots=True)
class Checked:
 database: str
 name: str
 result: str
 reason: str = ""
def verify(
 remote,
 place,
 copies,
 copy,
 *,
 clock,
 check,
):
 found = []
 if copy is not None:
  found.append(_one(remote, place, copies.database, copy, clock, check))
 there = {one.base for one in copies.complete}
 for finding in copies.damaged:
  parsed = names.parse(copies.database, finding.name)
  if parsed is None or parsed.base not in there:
   found.append(Checked(copies.database, finding.name, DAMAGED, f"it does not count: {finding.reason}"))
 return found
def _one(
 remote,
 place,
 database,
 copy,
 clock,
 check,
):
 try:
  read_back(remote, place, copy, now=clock(), check=check)
 except (CarrierError, StoppedError):
  raise
 except ChangedError as error:
  return Checked(database, copy.base, DAMAGED, f"{error.problem}; {_disown(remote, place, copy, clock())}")
 except RemoteError as error:
  return Checked(database, copy.base, UNREAD, str(error))
 return Checked(database, copy.base, SOUND)
def _disown(remote, place, copy, now):
 try:
  disown(remote, place, copy, now=now)
 except RemoteError as error:
  return f"{copy.names[0]} still counts, so delete that object: {error.problem}"
 return "it no longer counts; the next run copies the backup again if the volume has it"
