# Without comments: they are in the project's file of this name.
import hashlib
from collections.abc import Callable
from offsite.remote.errors import RemoteError
from offsite.remote.rclone import Rclone
from offsite.rule.marker import Stored
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
