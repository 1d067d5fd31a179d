# Without comments: they are in the project's file of this name.
import argparse
import dataclasses
import json
import os
import random
import signal
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from retention.cli.common import (
 Commands,
 Log,
 add_command,
 add_directories,
 add_drill_limits,
 add_format,
 add_termination_log,
 duration,
 holder_of,
 now_of,
 write_error_message,
 write_termination_message,
)
from retention.errors import ExitCode, RetentionError, UsageError, VolumeError
from retention.pod import choose, config, drill, finish, handover, outlook, report, status
from retention.pod.report import ALLOW_FLAG
from retention.text import format_age, format_size, later, shown
from retention.volume import locks
from retention.volume.directory import Directory
from retention.volume.folder import Folder
from retention.volume.scan import scan_root
def add(commands):
 _add_finish(commands)
 _add_choose(commands)
 _add_hand_over(commands)
 _add_drill(commands)
def _add_root(command):
 command.add_argument("path", type=Path, metavar="ROOT", help="root of the volume")
def _add_finish(commands):
 command = add_command(
  commands, "finish", _finish, "Check and publish the new dumps, prune, report: the second half of a backup run."
 )
 _add_root(command)
 command.add_argument(
  "--config", type=Path, required=True, metavar="DIR", help="directory with <database>.conf and policy.json"
 )
 command.add_argument(
  "--results",
  type=Path,
  required=True,
  metavar="DIR",
  help="directory with <database>.result, as dump.sh wrote it",
 )
 add_termination_log(command)
 command.add_argument(ALLOW_FLAG, action="store_true", help="allow a large prune of every database")
 add_format(command, "text", "json")
def _finish(options):
 stop = locks.Stop()
 signal.signal(signal.SIGTERM, stop.request)
 now, log = now_of(options), Log(silent=options.format == "json")
 settings = finish.Settings(
  root=options.path,
  config=options.config,
  results=options.results,
  now=now,
  holder=holder_of(options),
  allow_large_prune=options.allow_large_prune,
 )
 try:
  run = finish.run(settings, stop, log)
 except RetentionError as error:
  write_error_message(options, error)
  raise
 code = ExitCode.STOPPED if run.stopped else report.exit_code(run.outcomes)
 for warning in run.warnings:
  log(f"warning: {warning}")
 if options.format == "json":
  documents = [status.entry(outcome, None, now) for outcome in run.outcomes]
  document: dict[str, Any] = {"databases": documents, "warnings": run.warnings, "exit_code": code}
  if run.sizing is not None:
   document["volume"] = dataclasses.asdict(run.sizing)
  log.write(json.dumps(document, indent=2))
 else:
  _print_report(log, run, now)
 write_termination_message(options, report.termination_message(run.outcomes, run.warnings, now, run.sizing))
 if log.lost:
  code = code or ExitCode.FAILED
 return code
def _print_report(log, run, now):
 log.write(report.finish_table(run.outcomes, now))
 if run.sizing is not None:
  log(run.sizing.line())
 for outcome in run.outcomes:
  for error in (*outcome.problems, *([outcome.refusal] if outcome.refusal else [])):
   if error.remedy:
    log(f"{outcome.database}: remedy: {error.remedy}")
  for warning in outcome.warnings:
   log(f"{outcome.database}: warning: {warning}")
def _add_choose(commands):
 command = add_command(
  commands,
  "choose",
  _choose,
  "Select the archive to restore, or the archives to drill (first step of either pod).",
 )
 _add_root(command)
 which = command.add_mutually_exclusive_group(required=True)
 which.add_argument("--database", metavar="NAME", help="database to restore")
 command.add_argument(
  "--per-entry", type=int, default=0, metavar="N", help="for a drill: how many databases of an <entry>.all in DIR"
 )
 which.add_argument(
  "--drill",
  type=Path,
  metavar="DIR",
  help="for a drill: select the newest archive and one other at random for each <database>.conf in DIR",
 )
 command.add_argument(
  "--backup", default=choose.NEWEST, help=f"archive to restore: {choose.WORDS} (default: {choose.NEWEST})"
 )
 command.add_argument("--requests", type=Path, required=True, metavar="DIR", help="directory for <base>.request")
 command.add_argument(
  "--look", action="store_true", help="only report which archive it is: do not pin it, do not check it"
 )
 add_termination_log(command, "file for the pod's termination message, written on an error")
 command.add_argument(
  "--pin-for",
  type=duration,
  default=timedelta(days=1),
  metavar="1d",
  help="pin the archive for this long while it is restored (default: 1d)",
 )
def _choose(options):
 try:
  return _choose_archive(options) if options.drill is None else _choose_sample(options)
 except RetentionError as error:
  write_error_message(options, error)
  raise
def _choose_archive(options):
 now, database = now_of(options), options.database
 with Folder.open(options.path) as root:
  databases = scan_root(root).databases
  if database not in databases:
   raise UsageError(
    f"database {shown(database)!r} has no directory on the volume",
    f"available: {', '.join(databases)}"
    if databases
    else "the volume has no databases: check that this is the right claim",
   )
  with root.child(database) as folder:
   directory = Directory(folder, database, holder_of(options), choose.LOCK_SECONDS)
   found = directory.scan()
   listed = folder.names()
   backup = choose.select(
    found, options.backup, now=now, is_proved=lambda one: drill.is_proved(folder, one, listed)
   )
   age = f"{format_age(now - backup.time)} old" if backup.time <= now else "dated after now"
   print(f"{database}: selected {backup.name}, {age}, {format_size(backup.bytes)}", flush=True)
   if bad := choose.newer_bad(found, backup, now=now):
    print(f"{database}: warning: newer, but bad and no backup any more: {', '.join(bad)}", flush=True)
   if options.backup.strip() == choose.NEWEST and (skipped := choose.dated_later(found, now=now)):
    print(f"{database}: warning: {skipped}; {choose.DATED_LATER_REMEDY}", flush=True)
   if not options.look:
    latest = max(now, found.backups[0].time)
    warning = choose.protect(directory, backup, now=now, expires=later(latest, options.pin_for))
    if warning:
     print(shown(f"{database}: warning: {warning}"), flush=True)
    choose.check(directory, backup)
   choose.write(options.requests, [choose.request(directory, backup)])
 if not options.look:
  print(f"{database}: {backup.name} read in full, its sha256 is correct", flush=True)
 return ExitCode.DONE
def _choose_sample(options):
 now, chance = now_of(options), random.SystemRandom()
 with Folder.open(options.path) as root:
  listed = config.databases_in(options.drill)
  for database in [*listed, *_choose_from_entries(options, root)]:
   try:
    with drill.open_database(root, database) as folder:
     text = "there is no backup yet"
     if folder is not None:
      directory = Directory(folder, database, holder_of(options), choose.LOCK_SECONDS)
      text = _choose_for_drill(options, directory, now, chance)
    choose.note_failure(options.requests, database, None)
   except (VolumeError, choose.AllDatedLaterError) as error:
    choose.note_failure(options.requests, database, error)
    text = f"nothing can be selected: {error}"
   print(shown(f"{database}: {text}"), flush=True)
 return ExitCode.DONE
def _choose_from_entries(options, root):
 entries = config.entries_in(options.drill)
 if not entries:
  return []
 content, present, chosen = status.read(root), scan_root(root).databases, []
 drills = status.last_drills((content and status.parse(content)) or {})
 only = os.environ.get("BACKUP_ONLY", "").split()
 for entry in entries:
  named = [name for name in only if config.entry_of(name) == entry]
  for name in named:
   if name not in present:
    raise UsageError(f"{name}: there is no such database on the volume", "see: kubectl cnpg-backup list")
  if len(named) > options.per_entry:
   raise UsageError(
    f"{entry}: {len(named)} databases are named, and a drill restores {options.per_entry} at most",
    "name fewer of them, or raise drill.perEntry",
   )
  turn = named or choose.longest_undrilled(entry, present, drills, options.per_entry)
  for number, database in enumerate(turn, 1):
   choose.write_slot(options.requests, f"{entry}.slot-{number}", database)
  others = sum(name.startswith(f"{entry}.") for name in present) - len(turn)
  print(f"{entry}: {len(turn)} databases are drilled now, {others} in later drills", flush=True)
  chosen += turn
 return chosen
def _choose_for_drill(
 options, directory, now, chance
):
 found = choose.sample(directory, now=now, chance=chance)
 choose.write(options.requests, [choose.request(directory, backup) for backup in found.backups])
 for finding in found.unsound:
  text = f"{directory.database}: warning: {finding.name} is newer and cannot be drilled: {finding.reason}"
  print(shown(text), flush=True)
 if found.warning:
  print(f"{directory.database}: warning: {found.warning}; check the clocks of the nodes", flush=True)
 return f"selected {', '.join(backup.name for backup in found.backups) or 'nothing'}"
def _add_hand_over(commands):
 command = add_command(
  commands,
  "hand-over",
  _hand_over,
  "Give the container that drills one database its archives, and nothing else of the volume (the drill pod).",
 )
 _add_root(command)
 command.add_argument("--database", required=True, metavar="NAME", help="whose archives are handed over")
 command.add_argument(
  "--slot", default="", metavar="NAME", help="the folder that the container sees, if NAME is an <entry>.all"
 )
 command.add_argument(
  "--open",
  action="store_true",
  help="for `open`: the container sees the folder `open`, and what cannot be handed over is an error",
 )
 add_directories(
  command,
  ("--config", "directory with <database>.conf"),
  ("--results", "directory with <base>.request; the container sees databases/NAME in it"),
  ("--run", "directory in memory; the container sees databases/NAME in it"),
  ("--scratch", "directory for archives and servers; the container sees databases/NAME in it"),
 )
 add_drill_limits(command)
 add_termination_log(command, "file for the pod's termination message, written on an error")
def _hand_over(options):
 try:
  with Folder.open(options.path) as root:
   places = handover.Places(
    config=options.config_directory,
    results=options.results_directory,
    run=options.run_directory,
    scratch=options.scratch_directory,
    scratch_size=options.scratch_size,
    seconds=options.seconds,
   )
   log = Log(silent=False)
   hand_over = handover.hand_over_to_open if options.open else handover.hand_over
   source = handover.Volume(root)
   hand_over(places, source, options.database, slot=options.slot, now=now_of(options), log=log)
 except RetentionError as error:
  write_error_message(options, error)
  raise
 return ExitCode.DONE
def _add_drill(commands):
 command = add_command(commands, "drill", _drill, "Record the results of a drill (last step of the drill pod).")
 _add_root(command)
 command.add_argument("--config", type=Path, required=True, metavar="DIR", help="directory with <database>.conf")
 command.add_argument(
  "--results", type=Path, required=True, metavar="DIR", help="directory with <base>.request and <base>.drill"
 )
 add_termination_log(command)
def _drill(options):
 now, holder, log = now_of(options), holder_of(options), Log(silent=False)
 with Folder.open(options.path) as root:
  databases = [*config.databases_in(options.config), *handover.slots(options.results).values()]
  outcomes = drill.record(root, options.results, databases, now=now, holder=holder, log=log)
  warning = drill.write_status(root, outcomes, now=now, holder=holder)
 if warning:
  log(f"warning: {warning}")
 log.write(drill.drill_table(outcomes))
 for outcome in outcomes:
  if text := outlook.sentence(outcome.restore):
   log(f"{outcome.database}: {text}")
 write_termination_message(options, drill.termination_message(outcomes))
 return drill.exit_code(outcomes)
