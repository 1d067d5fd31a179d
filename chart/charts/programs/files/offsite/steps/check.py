# Without comments: they are in the project's file of this name.
import hashlib
import json
from collections.abc import Callable, Mapping
from datetime import datetime
from offsite.remote.errors import RemoteError
from offsite.remote.rclone import Rclone
from offsite.rule import names
from offsite.rule.copies import Copy
from offsite.rule.marker import Stored
from offsite.rule.parts import parts_for
_PIECE = 1024 * 1024
class ChangedError(RemoteError):
 pass
def compare(remote, path, stored, check):
 found, memory, total = hashlib.sha256(), memoryview(bytearray(_PIECE)), 0
 with remote.reading(path) as (readinto, _):
  while count := readinto(memory):
   check()
   found.update(memory[:count])
   total += count
 if total != stored.stored_bytes or found.hexdigest() != stored.stored_sha256:
  raise ChangedError(
   f"{path} reads back as {total} bytes with sha256 {found.hexdigest()[:12]}…, sent were "
   f"{stored.stored_bytes} bytes with {stored.stored_sha256[:12]}…",
   "it no longer counts; the next run copies the backup again if the volume has it; check the store",
  )
def read_back(remote, place, copy, *, now, check):
 for stored in copy.marker.objects.values():
  path = f"{place}/{stored.name}"
  try:
   compare(remote, path, stored, check)
  except ChangedError:
   compare(remote, path, stored, check)
 return _judge(remote, place, names.check_name(copy.base, copy.marker.attempt, now), "sound", copy)
def disown(remote, place, copy, *, now):
 return _judge(remote, place, names.damaged_name(copy.base, copy.marker.attempt, now), "damaged", copy)
def _judge(remote, place, name, result, copy):
 note(remote, f"{place}/{name}", {"schema": 1, "result": result, "objects": len(copy.marker.objects)})
 return name
def note(remote, path, document):
 content = (json.dumps(document) + "\n").encode()
 remote.upload(path, [content], len(content), parts_for(len(content)))
