# Without comments: they are in the project's file of this name.
import argparse
import functools
import os
import signal
import sys
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from offsite.age import Identity, parse_identities, probe
from offsite.remote.rclone import Rclone
from offsite.rule import names
from offsite.rule.copies import Copies, Entry, sort_out
from offsite.rule.marker import Marker, MarkerError, parse_marker
from offsite.rule.names import Part
from offsite.settings import Settings, read_settings
from offsite.steps.clock import Clock
from offsite.steps.fetch import NEWEST, Fetch, select
from offsite.steps.run import Outcome, Run, exit_code
from retention.cli.common import (
 Log,
 Parser,
 add_command,
 add_format,
 add_lock_timeout,
 add_termination_log,
 holder_of,
 now_of,
 print_json,
 write_error_message,
 write_termination_message,
)
from retention.errors import ExitCode, RetentionError, UsageError, unexpected
from retention.message import MOST_BYTES, fitting
from retention.names import is_database
from retention.pod.config import read_text
from retention.text import format_age, format_size, shown, table
from retention.volume import locks
from retention.volume.directory import Directory
from retention.volume.folder import Folder
_MARKER_BYTES = 64 * 1024
def main(arguments = None):
 for stream in (sys.stdout, sys.stderr):
  if hasattr(stream, "reconfigure"):
   stream.reconfigure(errors="backslashreplace")
 options = argparse.Namespace(termination_log=None)
 try:
  options = _parser().parse_args(arguments)
  return int(options.run(options))
 except RetentionError as error:
  return _failed(options, error)
 except KeyboardInterrupt:
  return _failed(options, RetentionError("stopped by Ctrl-C"), ExitCode.INTERRUPTED)
 except Exception as error:
  return _failed(options, unexpected(error))
def _failed(options, error, code = None):
 print(f"offsite: {shown(str(error))}", file=sys.stderr, flush=True)
 if getattr(options, "termination_log", None) is not None:
  write_error_message(options, error)
 return error.exit_code if code is None else code
@functools.cache
def _parser():
 parser = Parser(
  prog="python3 -m offsite",
  description="Keep encrypted copies of the backups outside the cluster, and bring them back.",
  allow_abbrev=False,
 )
 commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
 command = add_command(commands, "copy", _copy, "Copy what the policy keeps, check copies, delete what it deletes.")
 command.add_argument("path", type=Path, metavar="ROOT", help="root of the volume, which is only read")
 _add_common(command)
 command = add_command(commands, "list", _list, "List the copies of each database.")
 _add_common(command)
 add_format(command, "text", "json")
 command = add_command(commands, "fetch", _fetch, "Bring a copy to the volume, decrypt it, and publish it there.")
 command.add_argument("path", type=Path, metavar="ROOT", help="root of the volume")
 command.add_argument("--database", required=True, metavar="NAME", help="whose copy")
 command.add_argument("--backup", default=NEWEST, help="`newest`, `newest before TIME`, or an archive's name")
 command.add_argument("--identity", type=Path, metavar="FILE", help="file with the secret key, from age-keygen")
 add_lock_timeout(command)
 _add_common(command)
 add_command(commands, "probe", _probe, "Say whether this image can encrypt.")
 return parser
def _add_common(command):
 command.add_argument("--config", type=Path, required=True, metavar="DIR", help="directory with offsite.conf")
 command.add_argument(
  "--socket", default="/run/offsite/rc.sock", metavar="FILE", help="socket of `rclone rcd` (default: %(default)s)"
 )
 command.add_argument(
  "--wait", type=int, default=60, metavar="N", help="seconds to wait for rclone (default: %(default)s)"
 )
 add_termination_log(command)
def _probe(_):
 probe()
 print("this image can encrypt")
 return ExitCode.DONE
def _copy(options):
 stop = _stop()
 settings, log = read_settings(options.config, options.socket), Log(silent=False)
 clock = Clock(now_of(options), settings.seconds, stop)
 run = Run(settings, Rclone(settings.destination), options.path, options.config, clock, log)
 outcomes = run.run(options.wait)
 code = ExitCode.STOPPED if stop.requested else exit_code(outcomes)
 log.write(_table(outcomes, clock))
 for outcome in outcomes:
  for warning in outcome.warnings:
   log(f"{outcome.database}: warning: {warning}")
 write_termination_message(options, _message(outcomes, clock))
 return code
def _stop():
 stop = locks.Stop()
 signal.signal(signal.SIGTERM, stop.request)
 return stop
def _table(outcomes, clock):
 rows = []
 for outcome in outcomes:
  newest = outcome.newest
  rows.append(
   (
    outcome.database,
    _result(outcome),
    f"{newest.time:%Y-%m-%d %H:%M:%S}Z" if newest else "none",
    format_age(clock() - newest.time) if newest else "-",
    newest.marker.verified if newest else "-",
    "?" if outcome.copies is None else str(len(outcome.copies.complete)),
    str(len(outcome.copied)),
    str(len(outcome.deleted)),
    _why(outcome),
   )
  )
 return table(("DATABASE", "RESULT", "NEWEST", "AGE", "VERIFIED", "COPIES", "NEW", "DELETED", "WHY"), rows)
def _result(outcome):
 if outcome.problems:
  return "failed"
 return "refused" if outcome.refused else "warning" if outcome.warnings else "ok"
def _why(outcome):
 if outcome.problems:
  return outcome.problems[0].problem
 if outcome.refused:
  return outcome.refused.problem
 return (outcome.warnings or ["nothing new" if not outcome.copied else "copied"])[0]
def _message(outcomes, clock):
 order = {"failed": 0, "refused": 1, "warning": 2, "ok": 3}
 failed = sum(bool(outcome.problems) for outcome in outcomes)
 lines = [f"{failed} of {len(outcomes)} databases failed" if failed else f"{len(outcomes)} databases copied"]
 for outcome in sorted(outcomes, key=lambda one: order[_result(one)]):
  newest = outcome.newest
  age = f"newest copy {format_age(clock() - newest.time)} old" if newest else "no copy"
  lines.append(f"{outcome.database} {_result(outcome)} ({age}): {_why(outcome)}")
 return "\n".join(fitting([*map(shown, lines)], MOST_BYTES)).encode(errors="replace")
def _list(options):
 settings = read_settings(options.config, options.socket)
 remote = Rclone(settings.destination)
 remote.wait(options.wait)
 now, found = now_of(options), [read_copies(remote, settings, one) for one in _databases(remote, settings)]
 if options.format == "json":
  print_json([_document(copies) for copies in found])
  return ExitCode.DONE
 rows = [
  (
   copies.database,
   copy.base,
   format_age(now - copy.time),
   format_size(copy.bytes),
   copy.marker.encryption,
   copy.marker.verified,
   "never" if copy.checked is None else f"{copy.checked:%Y-%m-%d %H:%M}Z",
  )
  for copies in found
  for copy in copies.complete
 ]
 print(table(("DATABASE", "BACKUP", "AGE", "SIZE", "ENCRYPTION", "VERIFIED", "READ BACK"), rows))
 for copies in found:
  for finding in copies.damaged:
   print(shown(f"{copies.database}: {finding.name} does not count: {finding.reason}"))
 return ExitCode.DONE
def _document(copies):
 return {
  "database": copies.database,
  "copies": [
   {
    "base": copy.base,
    "time": copy.time.isoformat(),
    "bytes": copy.bytes,
    "sha256": copy.marker.archive.sha256,
    "uploaded": copy.marker.uploaded.isoformat(),
    "verified": copy.marker.verified,
    "checked": None if copy.checked is None else copy.checked.isoformat(),
    "recipients": list(copy.marker.recipients),
    "objects": list(copy.names),
   }
   for copy in copies.complete
  ],
  "damaged": [{"name": finding.name, "reason": finding.reason} for finding in copies.damaged],
 }
def _databases(remote, settings):
 places = (names.database_of(entry.path) for entry in remote.list(settings.cluster_id))
 return sorted({place[0] for place in places if place is not None})
def read_copies(remote, settings, database):
 place = f"{settings.cluster_id}/{database}"
 entries: list[Entry] = remote.list(place)
 markers: dict[str, Marker | str] = {}
 for entry in entries:
  parsed = names.parse(database, entry.path)
  if parsed is not None and parsed.part is Part.MARKER:
   try:
    markers[entry.path] = parse_marker(remote.read(f"{place}/{entry.path}", _MARKER_BYTES), entry.path)
   except MarkerError as error:
    markers[entry.path] = error.problem
 return sort_out(database, entries, markers)
def _fetch(options):
 stop = _stop()
 settings, database = read_settings(options.config, options.socket), options.database
 if not is_database(database):
  raise UsageError(f"{database!r} is not the name of a database", "see: kubectl cnpg-backup offsite list")
 identities: tuple[Identity, ...] = () if options.identity is None else parse_identities(read_text(options.identity))
 remote, now = Rclone(settings.destination), now_of(options)
 remote.wait(options.wait)
 copies = read_copies(remote, settings, database)
 copy = select(copies, options.backup, now=now)
 print(f"{database}: fetching {copy.base}, {format_age(now - copy.time)} old, {format_size(copy.bytes)}", flush=True)
 os.umask(0o077)
 timeout: timedelta = options.lock_timeout
 with Folder.open(options.path) as root:
  root.make_child(database)
  with root.child(database) as folder:
   directory = Directory(folder, database, holder_of(options), timeout.total_seconds())
   fetch = Fetch(remote, f"{settings.cluster_id}/{database}", copy, identities, stop.check)
   done = fetch.run(directory, now=now)
 print(f"{database}: {done.name} {'was there already' if done.was_there else 'is published'}", flush=True)
 return ExitCode.DONE
