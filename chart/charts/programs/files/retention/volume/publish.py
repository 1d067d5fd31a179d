# Without comments: they are in the project's file of this name.
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from retention.errors import ConfigError, VolumeError
from retention.keyvalue import KeyValues, parse
from retention.names import STAGED_SIDECARS, Kind, file_name, next_second
from retention.volume.checksum import digest, parse_sha256, sha256_line
from retention.volume.directory import Directory
from retention.volume.folder import Folder
from retention.volume.metadata import Metadata, Verification, format_metadata
_MOST_GLOBALS = 256 * 1024 * 1024
_MOST_SECONDS_TAKEN = 86400
_UNIX_TIME = re.compile(r"[0-9]{1,11}")
@dataclass(frozen=True, slots=True)
class Judged:
 base: str
 bytes: int
 sha256: str
 seconds: float
 result: KeyValues
class BadArchiveError(Exception):
 pass
def judge(directory, base, check, reported = None):
 folder = directory.folder
 sha256 = parse_sha256(_sidecar(folder, base, Kind.STAGED_SHA256))
 if sha256 is None:
  raise BadArchiveError(f"{file_name(base, Kind.STAGED_SHA256)} does not contain a sha256")
 result = _staged_result(folder, base)
 for key, expected in (("database", directory.database), ("base", base), ("state", "staged"), ("sha256", sha256)):
  if result.text(key) != expected:
   raise BadArchiveError(f"its result has {key} {result.text(key)!r} instead of {expected!r}")
 if reported is not None and reported.text("base") == base and reported.text("sha256") != sha256:
  raise BadArchiveError("its sha256 is not the one that the dump container reported")
 started = time.monotonic()
 actual, size = digest(folder, file_name(base, Kind.STAGED), check)
 if size != result.number("bytes"):
  raise BadArchiveError(f"it has {size} bytes on the volume, the dump wrote {result.text('bytes') or 'unknown'}")
 if actual != sha256:
  raise BadArchiveError(f"it reads back as sha256 {actual[:12]}…, the dump wrote {sha256[:12]}…")
 return Judged(base, size, sha256, time.monotonic() - started, result)
def publish(folder, judged, *, now, recovered, warnings):
 base = free_base(folder, judged.base)
 for kind in (Kind.PIN, Kind.DRILL, Kind.GLOBALS):
  folder.remove(file_name(base, kind))
 roles = folder.read_listed(file_name(judged.base, Kind.STAGED_GLOBALS), _MOST_GLOBALS)
 if roles is not None:
  folder.write(file_name(base, Kind.GLOBALS), roles)
 archive = file_name(base, Kind.ARCHIVE)
 metadata = _metadata(judged, base, now, recovered, warnings, roles=roles is not None)
 folder.write(file_name(base, Kind.SHA256), sha256_line(judged.sha256, archive))
 folder.write(file_name(base, Kind.METADATA), format_metadata(metadata))
 folder.sync()
 folder.rename(file_name(judged.base, Kind.STAGED), archive)
 folder.sync()
 drop_staged_sidecars(folder, judged.base)
 return base
def mark_bad(folder, base, kind):
 name = file_name(_free(folder, base, (Kind.BAD, Kind.ARCHIVE) if kind is Kind.STAGED else (Kind.BAD,)), Kind.BAD)
 folder.rename(file_name(base, kind), name)
 folder.sync()
 if kind is Kind.STAGED:
  drop_staged_sidecars(folder, base)
 return name
def drop_staged_sidecars(folder, base):
 for kind in STAGED_SIDECARS:
  folder.remove(file_name(base, kind))
 folder.sync()
def free_base(folder, base):
 return _free(folder, base, (Kind.ARCHIVE, Kind.BAD, Kind.STAGED))
def _free(folder, base, kinds):
 listed, candidate = folder.names(), base
 for _ in range(_MOST_SECONDS_TAKEN):
  names = [file_name(candidate, kind) for kind in kinds if kind is not Kind.STAGED or candidate != base]
  if not any(name in listed or folder.exists(name) for name in names):
   return candidate
  try:
   candidate = next_second(candidate)
  except OverflowError:
   break
 raise VolumeError(
  f"{folder.path_of(base)}: this name and all that may replace it are taken", "check the clocks of the nodes"
 )
def _sidecar(folder, base, kind):
 content = folder.read_listed(file_name(base, kind))
 if content is None:
  raise BadArchiveError(f"{file_name(base, kind)} is missing")
 return content
def _staged_result(folder, base):
 name = file_name(base, Kind.STAGED_RESULT)
 try:
  return parse(_sidecar(folder, base, Kind.STAGED_RESULT).decode(), name)
 except UnicodeDecodeError:
  raise BadArchiveError(f"{name} is not UTF-8") from None
 except ConfigError as error:
  raise BadArchiveError(error.problem) from None
def _metadata(
 judged, base, now, recovered, warnings, *, roles
):
 result = judged.result
 return Metadata(
  database=result.text("database"),
  cluster=result.text("cluster"),
  namespace=result.text("namespace"),
  dbname=result.text("dbname"),
  host=result.text("host"),
  role=result.text("role"),
  server_version=result.text("server_version"),
  client_version=result.text("client_version"),
  chart_version=result.text("chart_version"),
  started=_moment(result.text("started")),
  finished=_moment(result.text("finished")),
  published=now.isoformat(timespec="seconds"),
  bytes=judged.bytes,
  sha256=judged.sha256,
  tables=result.number("tables"),
  database_bytes=result.number("database_bytes"),
  format=result.text("format"),
  compression=result.text("compression"),
  rows=result.number("rows"),
  globals=roles,
  dump_seconds=result.number("dump_seconds"),
  attempts=result.number("attempts"),
  verification=Verification(
   method="whole archive read by pg_restore, sha256 read again from the volume",
   seconds=result.number("verify_seconds"),
   second_reading_seconds=round(judged.seconds, 1),
  ),
  staged_as=judged.base if judged.base != base else None,
  recovered=recovered,
  warnings=tuple(warnings),
 )
def _moment(text):
 if _UNIX_TIME.fullmatch(text) is None:
  return None
 return datetime.fromtimestamp(int(text), UTC).isoformat()
