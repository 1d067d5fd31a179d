# Without comments: they are in the project's file of this name.
import enum
import re
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from retention.names import Grammar, Kind, is_database, parse_stamp, stamp_of
OWNER: Final = "owner.json"
ENCRYPTED: Final = ".age"
_PROBE = re.compile(r"probe-[0-9a-f]{8}")
_CLUSTER_ID = re.compile(r"[a-z0-9](?:[a-z0-9._-]{0,126}[a-z0-9])?")
_ATTEMPT = r"[0-9a-f]{8}"
_REST = re.compile(rf"\.({_ATTEMPT})\.(.+)")
_EVIDENCE = re.compile(r"(check|damaged|restored)-([0-9]{8}-[0-9]{6})\.json")
class Part(enum.Enum):
 ARCHIVE = "dump"
 GLOBALS = "globals.sql"
 METADATA = "json"
 MARKER = "offsite.json"
 CHECK = "check"
 DAMAGED = "damaged"
 RESTORED = "restored"
 __hash__ = object.__hash__
CONTENT: Final = (Part.ARCHIVE, Part.GLOBALS, Part.METADATA)
@dataclass(frozen=True, slots=True)
class RemoteName:
 base: str
 time: datetime
 attempt: str
 part: Part
 seen: datetime | None = None
def is_cluster_id(text):
 return _CLUSTER_ID.fullmatch(text) is not None and ".." not in text
def parse(database, name):
 grammar = Grammar(database)
 base = name[: grammar.base_length]
 owner = grammar.parse(f"{base}{Kind.ARCHIVE.value}")
 rest = _REST.fullmatch(name[grammar.base_length :])
 if owner is None or owner.base != base or rest is None:
  return None
 attempt, suffix = rest.groups()
 if evidence := _EVIDENCE.fullmatch(suffix):
  moment = parse_stamp(evidence.group(2))
  return None if moment is None else RemoteName(base, owner.time, attempt, Part(evidence.group(1)), moment)
 for part in CONTENT:
  if suffix in (part.value, part.value + ENCRYPTED):
   return RemoteName(base, owner.time, attempt, part)
 return RemoteName(base, owner.time, attempt, Part.MARKER) if suffix == Part.MARKER.value else None
def object_name(base, attempt, part, *, encrypted = False):
 return f"{base}.{attempt}.{part.value}{ENCRYPTED if encrypted else ''}"
def check_name(base, attempt, checked):
 return _evidence_name(base, attempt, Part.CHECK, checked)
def damaged_name(base, attempt, found):
 return _evidence_name(base, attempt, Part.DAMAGED, found)
def restored_name(base, attempt, restored):
 return _evidence_name(base, attempt, Part.RESTORED, restored)
def _evidence_name(base, attempt, part, seen):
 return f"{base}.{attempt}.{part.value}-{stamp_of(seen)}.json"
def probe_name(word):
 return f"probe-{word}"
def is_probe(path):
 return _PROBE.fullmatch(path) is not None
def database_of(path):
 database, slash, name = path.partition("/")
 return (database, name) if slash and "/" not in name and is_database(database) else None
