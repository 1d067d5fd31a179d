# Without comments: they are in the project's file of this name.
import argparse
from retention.cli.common import (
 DIRECTORY,
 Commands,
 add_command,
 add_format,
 add_lock_timeout,
 now_of,
 print_json,
 visit_databases,
)
from retention.text import format_size, shown
from retention.volume import unfinished
from retention.volume.directory import Directory
def add(commands):
 command = add_command(
  commands,
  "clean",
  _clean,
  "Remove the partial and staged files of dumps that began over a day ago and were never published.",
 )
 command.add_argument("path", metavar="PATH", help=DIRECTORY)
 command.add_argument("--dry-run", action="store_true", help="only show what would be removed")
 add_format(command, "text", "json", "names")
 add_lock_timeout(command)
def _clean(options):
 now = now_of(options)
 def work(directory):
  if options.dry_run:
   return directory.database, unfinished.find(directory.folder, directory.scan(), now)
  return directory.database, unfinished.remove(directory, now)
 visit = visit_databases(options, work)
 if options.format == "json":
  documents = [
   {
    "database": database,
    "dry_run": options.dry_run,
    "files": [{"name": one.name, "bytes": one.bytes} for one in files],
   }
   for database, files in visit.results
  ]
  print_json(visit.shaped(documents))
  return visit.code
 for database, files in visit.results:
  for one in files:
   print(shown(one.name))
  if options.format == "text":
   size = format_size(sum(one.bytes or 0 for one in files))
   print(f"{database}: {len(files)} files {'to remove' if options.dry_run else 'removed'}, {size}")
 return visit.code
