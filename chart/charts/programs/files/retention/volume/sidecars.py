# Without comments: they are in the project's file of this name.
import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from retention.errors import VolumeError
from retention.names import Kind, file_name
from retention.rule.backup import Backup, Pin
from retention.text import parse_moment, shown
from retention.volume.checksum import parse_sha256
from retention.volume.folder import Folder
from retention.volume.metadata import MetadataError, read_facts
UNSEEN_REMEDY = "check the storage and who owns the file: the archive may be sound, so do not remove it"
class DamagedError(Exception):
 def __init__(self, text, remedy = ""):
  super().__init__(text)
  self.remedy = remedy
class VanishedError(Exception):
 pass
def read_backup(folder, base, time, size, pin):
 metadata_name, sha256_name = f"{base}.json", f"{base}.dump.sha256"
 try:
  expected, sha256, tables, compression = read_facts(_read(folder, metadata_name, b"\n}\n"))
 except MetadataError as error:
  raise DamagedError(f"{metadata_name} {error}") from None
 if size != expected:
  raise DamagedError(f"it has {size} bytes, {metadata_name} says {expected}")
 sums = _read(folder, sha256_name, b"\n")
 if sums[:65].split() != [sha256.encode()] and parse_sha256(sums) != sha256:
  raise DamagedError(f"{sha256_name} and {metadata_name} do not agree")
 return Backup(base, time, size, sha256, tables, compression, pin)
def _read(folder, name, end):
 try:
  content = folder.read(name, regular=True, end=end)
 except VolumeError as error:
  raise DamagedError(f"{name} cannot be read: {error.reason}", error.remedy or UNSEEN_REMEDY) from None
 if content is None:
  raise VanishedError(name)
 return content
@dataclass(frozen=True, slots=True)
class Evidence:
 verified: str | None
 drill: dict[str, Any] | None
def read_evidence(folder, backup):
 metadata = read_document(folder, file_name(backup.base, Kind.METADATA)) or {}
 published = metadata.get("published")
 drill = read_document(folder, file_name(backup.base, Kind.DRILL))
 return Evidence(published if isinstance(published, str) else None, drill)
def read_document(folder, name):
 try:
  document = json.loads(folder.read(name) or b"null")
 except (VolumeError, ValueError, RecursionError):
  return None
 return document if isinstance(document, dict) else None
def read_pin(folder, name):
 try:
  content = folder.read(name)
 except VolumeError as error:
  return Pin(f"{error.problem}; it holds until it is removed", None)
 return parse_pin(content or b"")
def parse_pin(content):
 text = content.decode(errors="replace").strip()
 try:
  document = json.loads(text)
 except (ValueError, RecursionError):
  return Pin(shown(text), None)
 if type(document) is not dict:
  return Pin(shown(text), None)
 reason, by, replaced = (
  text if type(text) is str else "" for text in map(document.get, ("reason", "by", "replaced"))
 )
 reason, expires = shown(reason), document.get("expires")
 if expires is None:
  return Pin(reason, None, by, replaced)
 moment = parse_moment(expires) if type(expires) is str else None
 if moment is None:
  return Pin(f"{reason} (its expiry cannot be read; it holds until it is removed)".strip(), None)
 return Pin(reason, moment, by, replaced)
