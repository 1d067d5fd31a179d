# Without comments: they are in the project's file of this name.
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import BinaryIO
from retention.errors import RetentionError
from retention.text import shown
from retention.volume.folder import Folder
_MAGIC = b"PGDMP"
_CUSTOM = 1
_OLDEST, _NEWEST = (1, 12), (1, 16)
_BEGUN = 2
_ROWS, _LARGE_OBJECTS = 1, 3
_LITTLE = 64 * 1024
_TABLE, _TABLE_DATA = "TABLE", "TABLE DATA"
_OBJECTS = ("BLOBS", "LARGE OBJECTS")
@dataclass(slots=True)
class Table:
 schema: str
 name: str
 number: int | None = None
 bytes: int = 0
@dataclass(slots=True)
class Contents:
 dbname: str
 server_version: str
 client_version: str
 tables: list[Table] = field(default_factory=list)
 large_objects: int = 0
class _FormatError(Exception):
 pass
@dataclass(slots=True)
class _Entry:
 number: int
 tag: str
 kind: str
 schema: str
 begin: int | None
def read_contents(folder, name):
 with os.fdopen(folder.open_file(name), "rb") as file:
  try:
   return _Reader(file, os.fstat(file.fileno()).st_size).contents()
  except _FormatError as error:
   raise RetentionError(
    f"{folder.path_of(name)}: its table of contents cannot be read: {error}",
    "read the archive in full: verify",
   ) from None
class _Reader:
 def __init__(self, file, size):
  self._file = file
  self._size = size
  self._version = (0, 0)
  self._integer = self._offset = 4
 def contents(self):
  found = self._head()
  entries = [self._entry() for _ in range(self._count())]
  sizes = self._sizes(entries)
  tables: dict[tuple[str, str], Table] = {}
  for entry in entries:
   if entry.kind in (_TABLE, _TABLE_DATA):
    table = tables.setdefault((entry.schema, entry.tag), Table(entry.schema, entry.tag))
    if entry.kind == _TABLE_DATA:
     table.number = entry.number
     table.bytes += sizes.get(entry.number, 0)
   elif entry.kind in _OBJECTS:
    found.large_objects += sizes.get(entry.number, 0)
  found.tables = sorted(tables.values(), key=lambda one: (-one.bytes, one.schema, one.name))
  return found
 def _head(self):
  if self._bytes(5) != _MAGIC:
   raise _FormatError("it is not an archive of pg_dump")
  self._version = (self._byte(), self._byte())
  self._byte()
  if not _OLDEST <= self._version <= _NEWEST:
   raise _FormatError(f"its format {self._version[0]}.{self._version[1]} is not known here")
  self._integer, self._offset = self._byte(), self._byte()
  if not (1 <= self._integer <= 8 and 1 <= self._offset <= 8):
   raise _FormatError("its head makes no sense")
  if self._byte() != _CUSTOM:
   raise _FormatError("it is not of the custom format")
  if self._version >= (1, 15):
   self._byte()
  else:
   self._number()
  for _ in range(7):
   self._number()
  dbname, server, client = self._text(), self._text(), self._text()
  return Contents(shown(dbname), shown(server), shown(client))
 def _count(self):
  count = self._number()
  if not 0 <= count <= self._size:
   raise _FormatError(f"it says that it has {count} entries")
  return count
 def _entry(self):
  number = self._number()
  self._number()
  self._skip()
  self._skip()
  tag, kind = self._text(), self._text()
  self._number()
  for _ in range(3):
   self._skip()
  schema = self._text()
  self._skip()
  if self._version >= (1, 14):
   self._skip()
  if self._version >= (1, 16):
   self._number()
  self._skip()
  self._skip()
  while self._skip():
   pass
  state = self._byte()
  place = int.from_bytes(self._bytes(self._offset), "little")
  return _Entry(number, tag, kind, schema, place if state == _BEGUN else None)
 def _sizes(self, entries):
  places = sorted((entry.begin, entry.number) for entry in entries if entry.begin is not None)
  if not places:
   return dict(self._blocks())
  if places[-1][0] > self._size:
   raise _FormatError(f"it ends after {self._size} bytes, before the rows that begin at {places[-1][0]}")
  ends = [*(begin for begin, _ in places[1:]), self._size]
  return {number: end - begin for (begin, number), end in zip(places, ends, strict=True)}
 def _blocks(self):
  while (begin := self._file.tell()) < self._size:
   kind, number = self._byte(), self._number()
   if kind == _ROWS:
    self._chunks()
   elif kind == _LARGE_OBJECTS:
    while self._number():
     self._chunks()
   else:
    raise _FormatError(f"a block at {begin} is of kind {kind}")
   yield number, self._file.tell() - begin
 def _chunks(self):
  while length := self._number():
   self._pass_over(length)
 def _bytes(self, count):
  found = self._file.read(count)
  if len(found) < count:
   raise _FormatError(f"it ends after {self._size} bytes")
  return found
 def _byte(self):
  return self._bytes(1)[0]
 def _number(self):
  sign = self._byte()
  value = int.from_bytes(self._bytes(self._integer), "little")
  return -value if sign else value
 def _text(self):
  length = self._number()
  if length > _LITTLE:
   raise _FormatError(f"a name has {length} bytes")
  return self._bytes(length).decode(errors="replace") if length > 0 else ""
 def _skip(self):
  length = self._number()
  if length > 0:
   self._pass_over(length)
  return length >= 0
 def _pass_over(self, length):
  if length < 0 or length > self._size - self._file.tell():
   raise _FormatError(f"it ends after {self._size} bytes")
  if length <= _LITTLE:
   self._bytes(length)
  else:
   self._file.seek(length, os.SEEK_CUR)
