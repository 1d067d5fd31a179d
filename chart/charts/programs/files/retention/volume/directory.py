# Without comments: they are in the project's file of this name.
from contextlib import AbstractContextManager
from dataclasses import dataclass
from retention.names import LOCK
from retention.rule.backup import Scan
from retention.volume import locks, scan
from retention.volume.folder import Folder
@dataclass(frozen=True, slots=True)
class Directory:
 folder: Folder
 database: str
 holder: str
 lock_seconds: float
 def scan(self):
  return scan.scan(self.folder, self.database)
 def locked(self, stop = None):
  return locks.locked(self.folder, LOCK, seconds=self.lock_seconds, holder=self.holder, stop=stop)
