# Without comments: they are in the project's file of this name.
import argparse
import json
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Generic, NoReturn, TypeAlias, TypeVar
from retention.errors import ExitCode, RetentionError, UsageError
from retention.message import MOST_BYTES
from retention.names import Kind, is_database
from retention.text import parse_duration, parse_moment, parse_size, shown
from retention.volume.directory import Directory
from retention.volume.folder import Folder
from retention.volume.scan import is_database_folder, scan_root
EPILOG = """\
exit codes: 0 done, 1 a database failed or an archive is bad, 2 usage or configuration error,
3 refused by a safety rule (nothing deleted), 143 stopped by SIGTERM"""
DIRECTORY = "directory of one database, or root of the volume for all databases"
ARCHIVE_OR_DIRECTORY = f"archive, {DIRECTORY}"
_T = TypeVar("_T")
class Parser(argparse.ArgumentParser):
 def error(self, message):
  raise UsageError(message, f"see {self.prog} --help")
Commands: TypeAlias = "argparse._SubParsersAction[Any]"
def add_command(
 commands, name, run, text
):
 command: argparse.ArgumentParser = commands.add_parser(
  name, help=text, description=text, epilog=EPILOG, allow_abbrev=False
 )
 command.set_defaults(command=name, run=run)
 command.add_argument(
  "--now", type=moment, metavar="TIME", help="decide as of this time, such as 2026-01-01T00:00:00Z (default: now)"
 )
 return command
def add_format(command, *formats):
 command.add_argument("--format", choices=formats, default="text", help="output format (default: text)")
def add_lock_timeout(command):
 command.add_argument(
  "--lock-timeout",
  type=duration,
  metavar="60s",
  default=timedelta(seconds=60),
  help="wait this long for the lock of a database (default: 60s)",
 )
def add_termination_log(command, text = "file for the pod's termination message"):
 command.add_argument("--termination-log", type=Path, metavar="FILE", help=text)
def add_directories(command, *directories):
 for option, text in directories:
  target = f"{option[2:]}_directory"
  command.add_argument(option, dest=target, type=Path, required=True, metavar="DIR", help=text)
def add_drill_limits(command, *, scratch = True):
 if scratch:
  command.add_argument(
   "--scratch-size", required=True, metavar="10Gi", help="how much the scratch directory may hold"
  )
 command.add_argument(
  "--seconds", type=int, required=True, metavar="N", help="how long all restores of the drill may take together"
 )
def moment(text):
 found = parse_moment(text)
 if found is None:
  raise argparse.ArgumentTypeError(f"{text!r} is not a date and time such as 2026-01-01T00:00:00Z")
 return found
def duration(text):
 try:
  return parse_duration(text)
 except RetentionError as error:
  raise argparse.ArgumentTypeError(str(error)) from None
def size(text):
 try:
  return parse_size(text)
 except RetentionError as error:
  raise argparse.ArgumentTypeError(str(error)) from None
def now_of(options):
 now: datetime | None = options.now
 return datetime.now(UTC) if now is None else now
def holder_of(options):
 pod = os.environ.get("BACKUP_POD", "")
 return f"{shown(pod) or os.uname().nodename} ({options.command}, pid {os.getpid()})"
@dataclass(slots=True)
class Visit(Generic[_T]):
 results: list[_T]
 is_root: bool
 code: ExitCode
 def shaped(self, documents):
  return documents if self.is_root else documents[0]
def visit_databases(
 options, work, path = None
):
 real = real_path(options.path if path is None else path)
 with Folder.open(real) as folder:
  if is_database_folder(folder, real.name):
   return Visit([work(_directory(folder, real.name, options))], is_root=False, code=ExitCode.DONE)
  root = scan_root(folder)
  for finding in root.ignored:
   print_error(f"ignored {folder.path_of(finding.name)}: {finding.reason}")
  visit: Visit[_T] = Visit([], is_root=True, code=ExitCode.DONE)
  for database in root.databases:
   try:
    with folder.child(database) as child:
     visit.results.append(work(_directory(child, database, options)))
   except RetentionError as error:
    print_error(f"{database}: {error}")
    visit.code = ExitCode.FAILED
  return visit
def real_path(path):
 try:
  return Path(os.path.realpath(path))
 except (OSError, ValueError) as error:
  raise UsageError(f"{str(path)!r}: {error}", "check the path") from None
def archive_or_directory(given):
 path = Path(given)
 if not path.name.endswith(Kind.ARCHIVE.value) or path.is_dir():
  return real_path(given), None
 return _place_of(path), frozenset({path.name})
def open_archives(options):
 for path in options.archives:
  place = _place_of(path)
  with Folder.open(place) as folder:
   yield _directory(folder, place.name, options), path.name
def _directory(folder, database, options):
 timeout: timedelta = getattr(options, "lock_timeout", timedelta(0))
 return Directory(folder, database, holder_of(options), timeout.total_seconds())
def _place_of(archive):
 place = real_path(archive.parent)
 if not is_database(place.name):
  raise UsageError(
   f"{archive}: {place} is not the directory of a database",
   "give the path of an archive in its database's directory",
  )
 return place
def print_json(document):
 print(printable(json.dumps(document, indent=2, ensure_ascii=False)))
def printable(text):
 lines = text.split("\n")
 return text if all(map(str.isprintable, lines)) else "\n".join(map(_printable_line, lines))
def _printable_line(line):
 return "".join(char if char.isprintable() else json.dumps(char)[1:-1] for char in line)
def print_error(text):
 try:
  print(f"retention: {shown(text)}", file=sys.stderr, flush=True)
 except OSError:
  silence_output()
def silence_output():
 null = os.open(os.devnull, os.O_WRONLY)
 os.dup2(null, sys.stdout.fileno())
 os.close(null)
class Log:
 def __init__(self, *, silent):
  self._silent = silent
  self.lost = False
 def __call__(self, text):
  if self._silent or self.lost:
   return
  self.write(shown(text))
 def write(self, text):
  try:
   print(text, flush=True)
  except OSError:
   self.lost = True
   silence_output()
def write_termination_message(options, content):
 path: Path | None = options.termination_log
 if path is None:
  return
 try:
  fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NONBLOCK | os.O_CLOEXEC, 0o600)
  try:
   os.write(fd, content[:MOST_BYTES])
  finally:
   os.close(fd)
 except OSError as error:
  print_error(f"{path}: the termination message was not written: {error.strerror}")
def write_error_message(options, error):
 write_termination_message(options, shown(str(error)).encode(errors="replace"))
