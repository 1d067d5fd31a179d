# Without comments: they are in the project's file of this name.
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from offsite.age import Recipient
from offsite.remote.errors import RemoteError
from offsite.remote.rclone import Object, Rclone
from offsite.rule import names
from offsite.rule.marker import AGE, ETAG, NONE, READBACK, Marker, Stored, format_marker
from offsite.rule.names import Part
from offsite.rule.parts import Parts, parts_for
from offsite.settings import Settings
from offsite.steps.check import compare
from offsite.steps.clock import wall
from offsite.steps.source import Archive, Small, Source
from retention.errors import VolumeError
from retention.names import Kind, file_name
from retention.rule.backup import Backup
from retention.volume.folder import Folder
_MOST_GLOBALS = 256 * 1024 * 1024
@dataclass(frozen=True, slots=True)
class Uploaded:
 marker: Marker
 skew: float | None
class Upload:
 def __init__(
  self, settings, remote, folder, database, check
 ):
  self._settings = settings
  self._remote = remote
  self._folder = folder
  self._place = f"{settings.cluster_id}/{database}"
  self._database = database
  self._check = check
  self._attempt = secrets.token_hex(4)
 def run(self, backup, clock):
  recipients = self._settings.recipients
  objects: dict[str, Stored] = {}
  metadata = self._small(backup, Kind.METADATA)
  if metadata is None:
   raise VolumeError(f"{self._folder.path_of(backup.base)}.json: pruned while it was to be copied")
  roles = self._small(backup, Kind.GLOBALS)
  with Archive(self._folder, backup.name, backup.bytes, backup.sha256, recipients) as archive:
   parts = parts_for(archive.size, self._settings.most_parts)
   objects[Part.ARCHIVE.value] = self._send(backup, Part.ARCHIVE, archive, backup.bytes, parts)
  for part, content in ((Part.GLOBALS, roles), (Part.METADATA, metadata)):
   if content is not None:
    source = Small(content, recipients)
    small = parts_for(source.size, self._settings.most_parts)
    objects[part.value] = self._send(backup, part, source, len(content), small)
  marker = self._marker(backup, objects, parts, clock())
  written = self._send_marker(marker)
  return Uploaded(marker, None if written is None else (wall() - written).total_seconds())
 def _small(self, backup, kind):
  return self._folder.read_listed(file_name(backup.base, kind), _MOST_GLOBALS)
 def _send(self, backup, part, source, size, parts):
  recipients: tuple[Recipient, ...] = self._settings.recipients
  name = names.object_name(backup.base, self._attempt, part, encrypted=bool(recipients))
  path = f"{self._place}/{name}"
  self._remote.upload(path, source.pieces(), source.size, parts, locked=True, check=self._check)
  found = self._look(path, source.size)
  stored = Stored(name, size, source.content.hexdigest(), source.size, source.stored.hexdigest())
  if self._settings.reads_back:
   compare(self._remote, path, stored, self._check)
  elif found.md5 and found.md5.lower() != source.stored_md5.hexdigest():
   raise RemoteError(
    f"{path} has the MD5 {found.md5[:12]}…, and {source.stored_md5.hexdigest()[:12]}… was sent",
    "the next run copies it again; if this happens each time, set offsite.verify: readback",
   )
  return stored
 def _look(self, path, size):
  found = self._remote.look(path)
  if found is None or found.size != size:
   what = "it is not there" if found is None else f"it has {found.size} bytes"
   raise RemoteError(
    f"{path} was written with {size} bytes, and {what}", "the next run copies it again; check the store"
   )
  return found
 def _send_marker(self, marker):
  content = format_marker(marker)
  path = f"{self._place}/{names.object_name(marker.base, marker.attempt, Part.MARKER)}"
  parts = parts_for(len(content))
  self._remote.upload(path, [content], len(content), parts, locked=True, check=self._check)
  if self._remote.read(path, len(content)) != content:
   raise RemoteError(f"{path} is not what was written", "the copy does not count; check the store")
  found = self._remote.look(path)
  return None if found is None else found.written
 def _marker(self, backup, objects, parts, now):
  return Marker(
   database=self._database,
   base=backup.base,
   attempt=self._attempt,
   uploaded=now.replace(microsecond=0),
   chart_version=self._settings.chart_version,
   encryption=AGE if self._settings.recipients else NONE,
   recipients=tuple(map(str, self._settings.recipients)),
   part_bytes=parts.size,
   tables=backup.tables,
   verified=READBACK if self._settings.reads_back else ETAG,
   objects=objects,
  )
 def remove(self, backup):
  encrypted = bool(self._settings.recipients)
  for part in (Part.MARKER, *names.CONTENT):
   name = names.object_name(backup.base, self._attempt, part, encrypted=encrypted and part is not Part.MARKER)
   try:
    self._remote.delete(f"{self._place}/{name}")
   except RemoteError:
    return
