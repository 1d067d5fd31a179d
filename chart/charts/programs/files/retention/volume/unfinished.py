# Without comments: they are in the project's file of this name.
import contextlib
from dataclasses import dataclass
from datetime import datetime, timedelta
from retention.errors import VolumeError
from retention.names import STAGED_SIDECARS, Grammar, Kind, file_name
from retention.rule.backup import Scan
from retention.volume.directory import Directory
from retention.volume.folder import Folder
_AGE = timedelta(days=1)
@dataclass(frozen=True, slots=True)
class Unfinished:
 name: str
 bytes: int | None
def find(folder, scan, now):
 grammar, listed = Grammar(scan.database), folder.names()
 staged = [file_name(base, kind) for base in scan.staged for kind in (Kind.STAGED, *STAGED_SIDECARS)]
 found = []
 for name in (*scan.partial, *staged):
  parsed = grammar.parse(name)
  if parsed is None or now - parsed.time < _AGE or name not in listed:
   continue
  status = None
  with contextlib.suppress(VolumeError):
   status = folder.stat(name)
  found.append(Unfinished(name, None if status is None else status.st_size))
 return found
def remove(directory, now):
 folder = directory.folder
 with directory.locked():
  removed = [one for one in find(folder, directory.scan(), now) if folder.remove_listed(one.name)]
  if removed:
   folder.sync()
 return removed
