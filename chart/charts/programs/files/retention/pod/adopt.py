# Without comments: they are in the project's file of this name.
import json
import os
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from retention.errors import RetentionError
from retention.keyvalue import KeyValues
from retention.names import Grammar, Kind, file_name, parse_stamp
from retention.pod import config
from retention.rule import decide
from retention.rule.backup import Finding
from retention.rule.decide import Candidate, Decision
from retention.rule.policy import Limits, Policy
from retention.volume.checksum import digest, parse_sha256, sha256_line
from retention.volume.directory import Directory
from retention.volume.folder import Folder
from retention.volume.metadata import Metadata, Verification, format_metadata
from retention.volume.sidecars import read_pin
ADOPTED, ADOPTABLE, REFUSED = "adopted", "adoptable", "refused"
_REAL_FILE = "put a real file in its place"
_STAMP = len("YYYYMMDD-HHMMSS")
_COMPRESSION = re.compile(r"[a-z0-9:]*")
@dataclass(frozen=True, slots=True)
class Adoption:
 name: str
 bytes: int | None
 result: str
 reason: str = ""
 remedy: str = ""
 def to_dict(self):
  return {
   "name": self.name,
   "bytes": self.bytes,
   "result": self.result,
   "reason": self.reason,
   "remedy": self.remedy,
  }
def examine(directory, only):
 folder, database = directory.folder, directory.database
 found = directory.scan()
 names = {finding.name for finding in found.incomplete}
 strangers = [finding for finding in found.ignored if finding.name.endswith(Kind.ARCHIVE.value)]
 unseen = [finding for finding in found.damaged if finding.remedy]
 for name in sorted((only or frozenset()) - names - {finding.name for finding in (*strangers, *unseen)}):
  counts = any(backup.name == name for backup in found.backups)
  reason = next((f.reason for f in found.not_counted() if f.name == name), "there is no such archive")
  raise RetentionError(
   f"{folder.path_of(name)}: {'it is a backup already' if counts else reason}", "see `list` for the backups"
  )
 chosen = sorted((name for name in names if only is None or name in only), reverse=True)
 adoptions = [Adoption(name, _size(folder, name), ADOPTABLE) for name in chosen]
 remedy = f"if it belongs to {database}, rename it to {database}-YYYYMMDD-HHMMSS.dump, by the UTC start of its dump"
 adoptions += [
  Adoption(one.name, None, REFUSED, one.reason, _REAL_FILE if _ours(one.name, database) else remedy)
  for one in sorted(strangers, key=lambda one: one.name)
  if only is None or one.name in only
 ]
 adoptions += [
  Adoption(one.name, None, REFUSED, one.reason, one.remedy) for one in unseen if only is None or one.name in only
 ]
 return adoptions
def _ours(name, database):
 return Grammar(database).parse(name) is not None
def _size(folder, name):
 status = folder.stat(name)
 return None if status is None else status.st_size
def adopt(
 directory,
 adoptions,
 results,
 configuration,
 *,
 now,
 done,
):
 ended = []
 for adoption in adoptions:
  if adoption.result == ADOPTABLE:
   try:
    settings = _settings(configuration, directory.database)
    result = _read_in_full(results, adoption, directory.database, settings)
    _write_sidecars(directory, adoption.name, result, settings, now)
    adoption = Adoption(adoption.name, adoption.bytes, ADOPTED)
   except RetentionError as error:
    adoption = Adoption(adoption.name, adoption.bytes, REFUSED, error.problem, error.remedy)
  done(adoption)
  ended.append(adoption)
 return ended
def _read_in_full(
 results, adoption, database, settings
):
 base = adoption.name.removesuffix(Kind.ARCHIVE.value)
 result = config.read_result(results / f"{base}.adopt")
 if result is None or result.text("database") != database or result.text("base") != base:
  raise RetentionError(
   "pg_restore has not read it",
   "run `sh /opt/cnpg-backup/scripts/adopt.sh` in the container inspect first, and this command again",
  )
 if result.text("state") != "whole":
  raise RetentionError(result.text("error") or "it cannot be read", result.text("remedy"))
 if result.number("tables") == 0 and not (settings is not None and settings.may_be_empty):
  raise RetentionError("it holds no table", f"{config.EMPTY_REMEDY} and adopt it again")
 return result
def _settings(configuration, database):
 if configuration is None or not config.concerned_by(configuration)(database):
  return None
 return config.read_database(configuration, database)
def _write_sidecars(
 directory, name, result, settings, now
):
 folder = directory.folder
 before = _identity(folder, name)
 sha256, size = digest(folder, name, lambda: None)
 if sha256 != result.text("sha256") or size != result.number("bytes"):
  raise RetentionError(
   f"pg_restore has read {result.text('bytes')} bytes with sha256 {result.text('sha256')[:12]}…, now it has "
   f"{size} bytes with sha256 {sha256[:12]}…",
   "find out what writes to it, or check the storage; then adopt it again",
  )
 with directory.locked():
  if _identity(folder, name) != before:
   raise RetentionError("it was changed while it was read", "stop what writes to it, then adopt it again")
  base = name.removesuffix(Kind.ARCHIVE.value)
  sums, metadata = file_name(base, Kind.SHA256), file_name(base, Kind.METADATA)
  listed = folder.names()
  has_sums, has_metadata = sums in listed, metadata in listed
  if has_sums and has_metadata:
   raise RetentionError("another program has given it sidecars meanwhile", "see `list` for its state")
  if has_sums and parse_sha256(folder.read(sums) or b"") != sha256:
   raise RetentionError(
    f"{sums} says another sha256", "find out which of the two is right, and move the other away"
   )
  if has_metadata and not _fits(folder.read(metadata) or b"", sha256, size):
   raise RetentionError(
    f"{metadata} says another size or sha256", f"move {metadata} away, then adopt it again"
   )
  if not has_sums:
   folder.write(sums, sha256_line(sha256, name))
   folder.sync()
  if not has_metadata:
   folder.write(metadata, format_metadata(_metadata(directory.database, base, result, settings, now)))
  folder.sync()
def _identity(folder, name):
 status: os.stat_result | None = folder.stat(name)
 return None if status is None else (status.st_ino, status.st_size, status.st_mtime_ns)
def _fits(content, sha256, size):
 try:
  document = json.loads(content)
 except (ValueError, RecursionError):
  return False
 return isinstance(document, dict) and document.get("sha256") == sha256 and document.get("bytes") == size
def _metadata(
 database, base, result, settings, now
):
 started = parse_stamp(base[-_STAMP:])
 compression = result.text("compression")
 return Metadata(
  database=database,
  cluster=None if settings is None else settings.cluster,
  namespace=None if settings is None else settings.namespace,
  dbname=result.text("dbname"),
  server_version=result.text("server_version"),
  client_version=result.text("client_version"),
  started=None if started is None else started.isoformat(),
  published=now.isoformat(timespec="seconds"),
  bytes=result.number("bytes"),
  sha256=result.text("sha256"),
  tables=result.number("tables"),
  format="custom",
  compression=compression if _COMPRESSION.fullmatch(compression) else "",
  rows=result.number("rows"),
  globals=False,
  verification=Verification(
   method="adopted: whole archive read by pg_restore, sha256 taken then and read again from the volume",
   seconds=result.number("verify_seconds"),
  ),
  recovered=False,
  adopted=True,
 )
def next_prune(
 directory, adoptions, policy, limits, *, now
):
 folder, found = directory.folder, directory.scan()
 grammar, candidates = Grammar(found.database), []
 there = {backup.name for backup in found.backups}
 for adoption in adoptions:
  parsed = grammar.parse(adoption.name)
  if adoption.result != REFUSED and adoption.name not in there and parsed is not None:
   pin_name = file_name(parsed.base, Kind.PIN)
   pin = read_pin(folder, pin_name) if folder.exists(pin_name) else None
   candidates.append(Candidate(adoption.name, parsed.base, parsed.time, pin, adoption.bytes))
 ignored: list[Finding] = []
 return decide.decide(found.database, [*found.backups, *candidates], ignored, policy, now=now, limits=limits)
