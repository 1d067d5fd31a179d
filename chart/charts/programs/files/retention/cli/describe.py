# Without comments: they are in the project's file of this name.
import argparse
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from retention.cli.common import Commands, add_command, add_format, now_of, open_archives, print_json
from retention.cli.listing import backup_document, fates
from retention.cli.rules import UNCONFIGURED, Rules, add_rules, sparing_rules_of
from retention.errors import ExitCode, RetentionError
from retention.names import OWN_FILES, Grammar, Kind, file_name
from retention.rule.backup import Backup, Scan
from retention.rule.lifetime import Lifetime, lifetime
from retention.text import format_duration, format_size, shown, table
from retention.volume.contents import Contents, read_contents
from retention.volume.directory import Directory
from retention.volume.sidecars import read_document, read_evidence
def add(commands):
 command = add_command(
  commands, "describe", _describe, "Show all that is known about one backup, and when it will be deleted."
 )
 _add_archive(command)
 add_rules(command)
 add_format(command, "text", "json")
 command = add_command(
  commands, "tables", _tables, "List the tables of an archive with their sizes in it; needs no PostgreSQL."
 )
 _add_archive(command)
 add_format(command, "text", "json")
def _add_archive(command):
 command.add_argument(
  "archives", nargs=1, type=Path, metavar="ARCHIVE", help="path of an archive, <database>-YYYYMMDD-HHMMSS.dump"
 )
def _describe(options):
 rules, now = sparing_rules_of(options), now_of(options)
 for directory, name in open_archives(options):
  document = _document(directory, name, rules(directory.database), now)
  if options.format == "json":
   print_json(document)
  else:
   _print(document)
 return ExitCode.DONE
def _document(directory, name, chosen, now):
 found = directory.scan()
 backup = _find(directory, found, name)
 decision = chosen.decide(found, now)
 end = None
 if chosen is not UNCONFIGURED:
  end = lifetime(found.database, found.backups, backup.base, chosen.policy, chosen.limits, now=now)
 evidence = read_evidence(directory.folder, backup)
 return {
  "database": found.database,
  "backup": backup_document(backup, fates(decision)[backup.name], evidence, now),
  "metadata": read_document(directory.folder, file_name(backup.base, Kind.METADATA)),
  "files": _files(directory, backup.base),
  "deletion": None if end is None else _end_document(end, chosen),
  "prune_refused": chosen.refusal(decision) or None,
 }
def _find(directory, found, name):
 backup = next((one for one in found.backups if one.name == name), None)
 if backup is not None:
  return backup
 path = directory.folder.path_of(name)
 why = next((one for one in found.not_counted() if one.name in (name, f"{name}.bad")), None)
 if why is not None:
  raise RetentionError(f"{path} does not count as a backup: {why.reason}", why.remedy or "see `list`")
 newest = ", ".join(one.name for one in found.backups[:3])
 raise RetentionError(f"{path}: there is no such backup", f"the newest are {newest}" if newest else "see `list`")
def _files(directory, base):
 grammar, files = Grammar(directory.database), []
 for name in sorted(directory.folder.names() - OWN_FILES):
  parsed = grammar.parse(name)
  status = None if parsed is None or parsed.base != base else directory.folder.stat(name)
  if status is not None:
   files.append({"name": name, "bytes": status.st_size})
 return files
def _end_document(end, chosen):
 return {
  "expected": None if end.deleted is None else end.deleted.isoformat(),
  "reason": end.reason,
  "not_before": None if end.until is None else end.until.isoformat(),
  "assumes_run_every_seconds": chosen.policy.tiers[0].every // timedelta(seconds=1),
 }
def _print(document):
 backup, end = document["backup"], document["deletion"]
 print(f"{document['database']}: {backup['name']}, {format_size(backup['bytes'])}")
 print(f"tier: {backup['tier'] or '-'}: {shown(str(backup['reason']))}")
 if end is not None:
  every = format_duration(timedelta(seconds=end["assumes_run_every_seconds"]))
  when = end["expected"] or (f"not before {end['not_before']}" if end["not_before"] else "never")
  print(f"deleted: {when}, with a run every {every}: {end['reason']}")
 for file in document["files"]:
  print(f"{shown(str(file['name']))}: {format_size(int(file['bytes']))}")
def _tables(options):
 for directory, name in open_archives(options):
  contents = read_contents(directory.folder, name)
  if options.format == "json":
   print_json({"database": directory.database, "name": name, **_contents_document(contents)})
  else:
   rows = [(format_size(one.bytes), f"{one.schema}.{one.name}") for one in contents.tables]
   print(table(("SIZE", "TABLE"), rows) if rows else "the archive has no tables")
 return ExitCode.DONE
def _contents_document(contents):
 return {
  "dbname": contents.dbname,
  "server_version": contents.server_version,
  "client_version": contents.client_version,
  "large_objects_bytes": contents.large_objects,
  "tables": [
   {"schema": one.schema, "name": one.name, "bytes": one.bytes, "entry": one.number} for one in contents.tables
  ],
 }
