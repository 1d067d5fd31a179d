# Without comments: they are in the project's file of this name.
import argparse
from retention.cli.common import (
 ARCHIVE_OR_DIRECTORY,
 Commands,
 add_command,
 add_format,
 add_lock_timeout,
 archive_or_directory,
 print_json,
 visit_databases,
)
from retention.errors import ExitCode
from retention.text import shown
from retention.volume import verify
from retention.volume.directory import Directory
def add(commands):
 command = add_command(
  commands,
  "verify",
  _verify,
  "Re-read archives in full and compare checksums; damaged ones are renamed to .bad and ignored.",
 )
 command.add_argument("path", metavar="PATH", help=ARCHIVE_OR_DIRECTORY)
 add_format(command, "text", "json", "names")
 add_lock_timeout(command)
def _verify(options):
 path, only = archive_or_directory(options.path)
 def done(checked):
  if options.format == "text":
   why = f": {checked.reason}" if checked.reason else ""
   print(shown(f"{checked.name}: {checked.result}{why}"), flush=True)
 def work(directory):
  return directory.database, verify.verify(directory, only, done=done)
 visit = visit_databases(options, work, path)
 wrong = [checked.name for _, checks in visit.results for checked in checks if checked.result in ("bad", "unread")]
 if options.format == "json":
  documents = [
   {"database": database, "archives": [checked.to_dict() for checked in checks]}
   for database, checks in visit.results
  ]
  print_json(visit.shaped(documents))
 elif options.format == "names":
  for name in wrong:
   print(name)
 else:
  count = sum(len(checks) for _, checks in visit.results)
  print(f"{count} archives read, {len(wrong)} bad or unreadable")
 return ExitCode.FAILED if wrong else visit.code
