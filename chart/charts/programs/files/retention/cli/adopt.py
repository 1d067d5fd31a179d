# Without comments: they are in the project's file of this name.
import argparse
from dataclasses import dataclass
from pathlib import Path
from retention.cli.common import (
 ARCHIVE_OR_DIRECTORY,
 Commands,
 add_command,
 add_format,
 add_lock_timeout,
 archive_or_directory,
 now_of,
 print_json,
 visit_databases,
)
from retention.cli.rules import UNCONFIGURED, Rules, add_rules, sparing_rules_of
from retention.errors import ExitCode, UsageError
from retention.pod import adopt
from retention.pod.report import ALLOW_VALUE
from retention.rule.decide import Decision
from retention.text import shown
from retention.volume.directory import Directory
def add(commands):
 command = add_command(
  commands, "adopt", _adopt, "Import existing dumps as backups after pg_restore has read each one in full."
 )
 command.add_argument("path", metavar="PATH", help=ARCHIVE_OR_DIRECTORY)
 command.add_argument("--results", type=Path, metavar="DIR", help="directory of the results that adopt.sh wrote")
 command.add_argument(
  "--dry-run",
  action="store_true",
  help="only show which archives would be adopted and what the next prune would then delete",
 )
 add_rules(command)
 add_format(command, "text", "json", "names")
 add_lock_timeout(command)
@dataclass(frozen=True, slots=True)
class _Adopted:
 database: str
 adoptions: list[adopt.Adoption]
 decision: Decision
 rules: Rules
 def counted(self):
  return [adoption.name for adoption in self.adoptions if adoption.result != adopt.REFUSED]
 def to_dict(self):
  return {
   "database": self.database,
   "archives": [adoption.to_dict() for adoption in self.adoptions],
   "next_prune": {
    "delete": [gone.name for gone in self.decision.delete],
    "refusal": self.rules.refusal(self.decision) or None,
    "told": self.next_prune(),
   },
  }
 def next_prune(self):
  deleted, count, kept = self.decision.delete, len(self.decision.delete), len(self.decision.keep)
  if self.rules is UNCONFIGURED:
   return f"{kept} backups; it is not configured here, so no run prunes them"
  if self.rules.refusal(self.decision):
   return (
    f"the next prune would delete {count} of {count + kept} backups, and refuses to do that at once: set "
    f"{ALLOW_VALUE}: true for one run, or pin the backups to keep"
   )
  return f"the next prune keeps {kept} backups and deletes {count}" + (
   f", {deleted[-1].name} to {deleted[0].name}: pin those to keep" if count else ""
  )
def _adopt(options):
 if options.results is None and not options.dry_run:
  raise UsageError(
   "--results is missing", "run adopt.sh first and give the directory of its results, or give --dry-run"
  )
 rules, now = sparing_rules_of(options), now_of(options)
 path, only = archive_or_directory(options.path)
 def done(adoption):
  if options.format == "text":
   why = f": {adoption.reason}; {adoption.remedy}" if adoption.reason else ""
   print(shown(f"{adoption.name}: {adoption.result}{why}"), flush=True)
 def work(directory):
  chosen, adoptions = rules(directory.database), adopt.examine(directory, only)
  if options.dry_run:
   for adoption in adoptions:
    done(adoption)
  else:
   adoptions = adopt.adopt(directory, adoptions, options.results, options.config, now=now, done=done)
  decision = adopt.next_prune(directory, adoptions, chosen.policy, chosen.limits, now=now)
  return _Adopted(directory.database, adoptions, decision, chosen)
 visit = visit_databases(options, work, path)
 if options.format == "json":
  print_json(visit.shaped([adopted.to_dict() for adopted in visit.results]))
 elif options.format == "names":
  for adopted in visit.results:
   for name in adopted.counted():
    print(name)
 else:
  for adopted in visit.results:
   if adopted.counted():
    print(f"{adopted.database}: {adopted.next_prune()}")
  if not any(adopted.adoptions for adopted in visit.results):
   print("nothing to adopt: every archive has its sidecars")
 refused = any(len(adopted.counted()) < len(adopted.adoptions) for adopted in visit.results)
 return ExitCode.FAILED if refused else visit.code
