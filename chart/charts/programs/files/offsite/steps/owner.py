# Without comments: they are in the project's file of this name.
import contextlib
import json
from datetime import datetime
from offsite.remote.errors import MissingError, TakenError, UnknownError
from offsite.remote.rclone import Rclone
from offsite.rule import names
from offsite.rule.parts import parts_for
from retention.errors import ExitCode, RetentionError
from retention.text import shown
_MOST = 64 * 1024
class OtherOwnerError(RetentionError):
 exit_code = ExitCode.REFUSED
def claim(remote, cluster_id, owner, *, now):
 path = f"{cluster_id}/{names.OWNER}"
 found = owner_of(remote, cluster_id)
 if found is None:
  document = {"schema": 1, "owner": owner, "since": now.isoformat(timespec="seconds")}
  content = (json.dumps(document, indent=2) + "\n").encode()
  parts = parts_for(len(content))
  try:
   remote.upload(path, [content], len(content), parts, once=True)
  except TakenError:
   pass
  except UnknownError:
   remote.upload(path, [content], len(content), parts)
  found = owner_of(remote, cluster_id)
 if found != owner:
  place = f"{remote.destination.path}/{cluster_id}"
  raise OtherOwnerError(
   f"{place} belongs to another release ({shown(found or 'unknown')[:100]}, not {shown(owner)[:100]})",
   "set offsite.clusterId to a name of its own; if that release is gone for good, delete "
   f"{place}/{names.OWNER}",
  )
def owner_of(remote, cluster_id):
 try:
  content = remote.read(f"{cluster_id}/{names.OWNER}", _MOST)
 except MissingError:
  return None
 with contextlib.suppress(ValueError, RecursionError):
  document = json.loads(content)
  if isinstance(document, dict) and isinstance(document.get("owner"), str):
   return str(document["owner"])
 return ""
