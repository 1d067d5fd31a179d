# Without comments: they are in the project's file of this name.
import json
import re
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, Final
from offsite.rule.names import CONTENT, Part
from retention.errors import RetentionError
from retention.text import parse_moment
SCHEMA: Final = 1
ETAG, READBACK = "etag", "readback"
RESTORED: Final = "restored"
AGE, NONE = "age", "none"
_SHA256 = re.compile(r"[0-9a-f]{64}")
class MarkerError(RetentionError):
 pass
@dataclass(frozen=True, slots=True)
class Stored:
 name: str
 bytes: int
 sha256: str
 stored_bytes: int
 stored_sha256: str
@dataclass(frozen=True, slots=True, kw_only=True)
class Marker:
 database: str
 base: str
 attempt: str
 uploaded: datetime
 chart_version: str
 encryption: str
 recipients: tuple[str, ...]
 part_bytes: int
 tables: int | None
 verified: str
 objects: dict[str, Stored]
 @property
 def archive(self):
  return self.objects[Part.ARCHIVE.value]
def format_marker(marker):
 document: dict[str, Any] = {"schema": SCHEMA, **asdict(marker)}
 document["uploaded"] = marker.uploaded.isoformat(timespec="seconds")
 return (json.dumps(document, indent=2, ensure_ascii=False) + "\n").encode()
def parse_marker(content, name):
 try:
  document = json.loads(content)
  marker = _marker(document)
 except (ValueError, RecursionError, KeyError, TypeError, AttributeError):
  raise MarkerError(
   f"{name} cannot be understood", "the copy does not count; delete the object if nobody knows what it is"
  ) from None
 return marker
def _marker(document):
 objects = {
  part.value: _stored(document["objects"][part.value]) for part in CONTENT if part.value in document["objects"]
 }
 uploaded = parse_moment(_text(document["uploaded"]))
 tables = document["tables"]
 if uploaded is None or Part.ARCHIVE.value not in objects or Part.METADATA.value not in objects:
  raise ValueError
 return Marker(
  database=_text(document["database"]),
  base=_text(document["base"]),
  attempt=_text(document["attempt"]),
  uploaded=uploaded.astimezone(UTC),
  chart_version=_text(document["chart_version"]),
  encryption=_one_of(document["encryption"], AGE, NONE),
  recipients=tuple(map(_text, document["recipients"])),
  part_bytes=_number(document["part_bytes"]),
  tables=None if tables is None else _number(tables),
  verified=_one_of(document["verified"], ETAG, READBACK),
  objects=objects,
 )
def _stored(document):
 name = _text(document["name"])
 if "/" in name:
  raise ValueError
 return Stored(
  name,
  _number(document["bytes"]),
  _sum(document["sha256"]),
  _number(document["stored_bytes"]),
  _sum(document["stored_sha256"]),
 )
def _text(value):
 if type(value) is not str or not value.isprintable():
  raise ValueError
 return value
def _one_of(value, *known):
 if value not in known:
  raise ValueError
 return _text(value)
def _number(value):
 if type(value) is not int or value < 0:
  raise ValueError
 return value
def _sum(value):
 if _SHA256.fullmatch(_text(value)) is None:
  raise ValueError
 return _text(value)
