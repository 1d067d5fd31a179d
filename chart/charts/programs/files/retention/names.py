# Without comments: they are in the project's file of this name.
import enum
import re
from dataclasses import dataclass
from datetime import datetime, timedelta
_DATABASE = r"[a-z0-9](?:[a-z0-9._-]{0,61}[a-z0-9])?"
_STAMP = r"[0-9]{8}-[0-9]{6}"
_DATABASE_PATTERN = re.compile(_DATABASE)
_ARCHIVE_PATTERN = re.compile(rf"(?P<database>{_DATABASE})-{_STAMP}\.dump")
_STAMP_PATTERN = re.compile(_STAMP)
class Kind(enum.Enum):
 ARCHIVE = ".dump"
 BAD = ".dump.bad"
 SHA256 = ".dump.sha256"
 METADATA = ".json"
 GLOBALS = ".globals.sql"
 PIN = ".dump.pin"
 DRILL = ".drill.json"
 STAGED = ".dump.staged"
 STAGED_SHA256 = ".dump.staged.sha256"
 STAGED_RESULT = ".dump.staged.result"
 STAGED_GLOBALS = ".globals.sql.staged"
 TOMBSTONE = ".dump.deleting"
 PARTIAL = ".partial"
 TEMPORARY = ".tmp"
 __hash__ = object.__hash__
SIDECARS = (Kind.SHA256, Kind.METADATA, Kind.GLOBALS, Kind.PIN, Kind.DRILL)
STAGED_SIDECARS = (Kind.STAGED_SHA256, Kind.STAGED_RESULT, Kind.STAGED_GLOBALS)
OWNERS = {
 **dict.fromkeys(SIDECARS, (Kind.ARCHIVE, Kind.BAD, Kind.STAGED)),
 **dict.fromkeys(STAGED_SIDECARS, (Kind.STAGED,)),
}
_VISIBLE = {kind.value: kind for kind in (Kind.ARCHIVE, Kind.BAD, *SIDECARS)}
_HIDDEN = {kind.value: kind for kind in (Kind.STAGED, Kind.TOMBSTONE, *STAGED_SIDECARS)}
_HIDDEN_KINDS = frozenset(_HIDDEN.values())
LOCK = ".lock"
PIN_LOCK = ".pins.lock"
DELETIONS = "deletions.jsonl"
LAST_ERROR = "last-error.log"
STATUS = "status.json"
STATUS_LOCK = ".status.lock"
RESERVE = ".reserve"
OWN_FILES = frozenset({LOCK, PIN_LOCK, DELETIONS, LAST_ERROR})
OWN_ROOT_FILES = frozenset(
 {STATUS, STATUS_LOCK, RESERVE, *(f".{name}{Kind.TEMPORARY.value}" for name in (STATUS, RESERVE))}
)
@dataclass(frozen=True, slots=True)
class Name:
 base: str
 time: datetime
 kind: Kind
class Grammar:
 __slots__ = ("_pattern", "_prefix", "base_length", "database")
 def __init__(self, database):
  self.database = database
  self._prefix = f"{database}-"
  self.base_length = len(f"{database}-YYYYMMDD-HHMMSS")
  self._pattern = re.compile(rf"(\.?)({re.escape(database)}-({_STAMP}))(\.[a-z0-9.]+)")
 def parse(self, name):
  parts = self.parts(name)
  time = None if parts is None else parse_stamp(parts[1])
  return None if parts is None or time is None else Name(parts[0], time, parts[2])
 def parts(self, name):
  kind = _VISIBLE.get(name[self.base_length :])
  if kind is not None and name.startswith(self._prefix):
   return name[: self.base_length], name[len(self._prefix) : self.base_length], kind
  match = self._pattern.fullmatch(name)
  if match is None:
   return None
  dot, base, stamp, suffix = match.groups()
  kind = _hidden_kind(suffix) if dot else _VISIBLE.get(suffix)
  return None if kind is None else (base, stamp, kind)
 def objection(self, name):
  match = self._pattern.fullmatch(name)
  if match is None:
   return f"not a file name of database {self.database}"
  if parse_stamp(match.group(3)) is None:
   return f"{match.group(3)} is not a date and time"
  return f"{match.group(1)}<base>{match.group(4)} is not a name in use"
def _hidden_kind(suffix):
 for kind in (Kind.PARTIAL, Kind.TEMPORARY):
  if suffix.endswith(kind.value) and suffix != kind.value:
   return kind
 return _HIDDEN.get(suffix)
def is_database(name):
 return _DATABASE_PATTERN.fullmatch(name) is not None
def database_of_archive(name):
 match = _ARCHIVE_PATTERN.fullmatch(name)
 return None if match is None else match.group("database")
def parse_stamp(stamp):
 if _STAMP_PATTERN.fullmatch(stamp) is None or not (stamp[:4] >= "1970" and stamp[9:11] <= "23"):
  return None
 try:
  return datetime.fromisoformat(f"{stamp}+00:00")
 except ValueError:
  return None
def stamp_of(time):
 return f"{time:%Y%m%d-%H%M%S}" if time.year >= 1000 else f"{time.year:04}{time:%m%d-%H%M%S}"
def base_of(database, time):
 return f"{database}-{stamp_of(time)}"
def next_second(base):
 database, stamp = base[: -len("-YYYYMMDD-HHMMSS")], base[-len("YYYYMMDD-HHMMSS") :]
 time = parse_stamp(stamp)
 if time is None:
  raise ValueError(f"{base!r} is not a base")
 return base_of(database, time + timedelta(seconds=1))
def file_name(base, kind):
 return f".{base}{kind.value}" if kind in _HIDDEN_KINDS else f"{base}{kind.value}"
def temporary_name(name):
 return f".{name}{Kind.TEMPORARY.value}"
