# Without comments: they are in the project's file of this name.
import argparse
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from retention.cli.common import (
 DIRECTORY,
 Commands,
 Visit,
 add_command,
 add_format,
 add_lock_timeout,
 now_of,
 print_error,
 print_json,
 visit_databases,
)
from retention.cli.rules import RulesOf, add_rules, rules_of, sparing_rules_of
from retention.errors import ExitCode, RetentionError, UsageError
from retention.names import Grammar, Kind, database_of_archive
from retention.pod import config
from retention.pod.report import ALLOW_FLAG, REFUSAL_REMEDY
from retention.rule import decide, diff
from retention.rule.backup import Finding, Pin
from retention.rule.decide import Candidate, Decision
from retention.rule.policy import Policy
from retention.text import format_age, format_size, shown, table
from retention.volume.directory import Directory
from retention.volume.prune import carry_out, clean
def add(commands):
 command = add_command(commands, "plan", _plan, "Show what prune would keep and delete; changes nothing.")
 command.add_argument(
  "path", metavar="PATH|-", help=f"{DIRECTORY}; - reads archive names from standard input, one per line"
 )
 add_rules(command)
 add_format(command, "text", "json", "names")
 command = add_command(
  commands, "diff", _diff, "Show what another policy would delete, keep or move today; changes nothing."
 )
 command.add_argument("path", metavar="PATH", help=DIRECTORY)
 command.add_argument("--to", type=Path, required=True, metavar="NEW.json", help="policy to compare with")
 add_rules(command)
 add_format(command, "text", "json", "names")
 command = add_command(commands, "prune", _prune, "Delete the backups that the policy does not keep.")
 command.add_argument("path", metavar="PATH", help=DIRECTORY)
 command.add_argument("--dry-run", action="store_true", help="only show what would be deleted")
 command.add_argument(
  ALLOW_FLAG,
  action="store_true",
  help=f"allow a large prune: above {decide.FREE_DELETIONS} backups and above --large-prune-percent of them",
 )
 add_rules(command)
 add_format(command, "text", "json", "names")
 add_lock_timeout(command)
def _plan(options):
 now = now_of(options)
 if options.path == "-":
  decision = _decide_names(sys.stdin, rules_of(options), now)
  visit = Visit([decision], is_root=False, code=ExitCode.DONE)
 else:
  rules = sparing_rules_of(options)
  visit = visit_databases(options, lambda directory: rules(directory.database).decide(directory.scan(), now))
 if options.format == "json":
  print_json(visit.shaped([decision.to_dict() for decision in visit.results]))
 elif options.format == "names":
  _print_names(visit.results)
 else:
  for decision in visit.results:
   _print_decision(decision, now)
   _print_refusal(decision.refusal)
 return visit.code
def _decide_names(lines, rules, now):
 names, ignored, pinned = _sorted_names(lines)
 databases = sorted(set(names.values()))
 if len(databases) > 1:
  raise UsageError(
   f"standard input names archives of several databases: {', '.join(databases[:5])}",
   "plan one database at a time",
  )
 database = databases[0] if databases else ""
 candidates = []
 for name in names:
  parsed = Grammar(database).parse(name)
  if parsed is None:
   ignored.append(Finding(name, Grammar(database).objection(name)))
  else:
   pin = Pin("", None) if parsed.base in pinned else None
   candidates.append(Candidate(name, parsed.base, parsed.time, pin))
 chosen = rules(database)
 return decide.decide(database, candidates, ignored, chosen.policy, now=now, limits=chosen.limits)
def _sorted_names(lines):
 names: dict[str, str] = {}
 ignored: list[Finding] = []
 pinned: set[str] = set()
 for line in lines:
  name = line.rstrip("\r\n")
  if not name:
   continue
  database = database_of_archive(name)
  if database is not None and name in names:
   ignored.append(Finding(name, "listed twice"))
  elif database is not None:
   names[name] = database
  elif name.endswith(Kind.PIN.value):
   pinned.add(name.removesuffix(Kind.PIN.value))
  else:
   ignored.append(Finding(shown(name), "not an archive name (<database>-YYYYMMDD-HHMMSS.dump)"))
 return names, ignored, pinned
def _diff(options):
 rules, now = rules_of(options), now_of(options)
 other = Policy.from_json(config.read_text(options.to), str(options.to))
 def work(directory):
  chosen, found = rules(directory.database), directory.scan()
  after = decide.decide_scan(found, other, now=now, limits=chosen.limits)
  return diff.compare(chosen.decide(found, now), after)
 visit = visit_databases(options, work)
 if options.format == "json":
  print_json(visit.shaped([difference.to_dict() for difference in visit.results]))
 elif options.format == "names":
  for difference in visit.results:
   for change in difference.of(diff.DELETE):
    print(change.name)
 else:
  for difference in visit.results:
   _print_difference(difference, now)
 return visit.code
def _print_difference(difference, now):
 gone, saved, moved = (difference.of(what) for what in (diff.DELETE, diff.KEEP, diff.MOVE))
 size = format_size(sum(change.bytes or 0 for change in gone))
 print(
  f"{difference.database}: deletes {len(gone)} more backups ({size}), keeps {len(saved)} more, "
  f"moves {len(moved)} to another tier"
 )
 rows = [
  (
   change.what,
   format_age(now - change.time),
   _size_or_dash(change.bytes),
   change.before or "-",
   change.after or "-",
   change.name,
   change.reason,
  )
  for change in difference.changes
 ]
 if rows:
  print(table(("CHANGE", "AGE", "SIZE", "BEFORE", "AFTER", "NAME", "WHY"), rows))
 _print_refusal(difference.refusal)
@dataclass(frozen=True, slots=True)
class _Pruned:
 decision: Decision
 refusal: RetentionError | None
 problems: list[RetentionError]
def _prune(options):
 rules, now = rules_of(options), now_of(options)
 def work(directory):
  chosen = rules(directory.database)
  if options.dry_run:
   decision = chosen.decide(directory.scan(), now)
   return _Pruned(decision, _as_error(chosen.refusal(decision)), [])
  with directory.locked():
   found = directory.scan()
   if clean(directory, found, now=now):
    found = directory.scan()
   decision = chosen.decide(found, now)
   refusal = _as_error(chosen.refusal(decision))
   if refusal:
    return _Pruned(decision, refusal, [])
   pruned = carry_out(directory, decision, now=now)
   return _Pruned(pruned.decision, None, pruned.problems)
 visit = visit_databases(options, work)
 code = visit.code
 for pruned in visit.results:
  for problem in pruned.problems:
   print_error(str(problem))
  if pruned.refusal is not None and not code:
   print_error(str(pruned.refusal))
   code = ExitCode.REFUSED
 _print_pruned(options, visit, now)
 return code
def _as_error(refusal):
 return RetentionError(refusal, REFUSAL_REMEDY) if refusal else None
def _print_pruned(options, visit, now):
 if options.format == "json":
  documents = [
   {
    **pruned.decision.to_dict(),
    "dry_run": options.dry_run,
    "refused": None if pruned.refusal is None else str(pruned.refusal),
   }
   for pruned in visit.results
  ]
  print_json(visit.shaped(documents))
 elif options.format == "names":
  _print_names(pruned.decision for pruned in visit.results if options.dry_run or pruned.refusal is None)
 else:
  for pruned in visit.results:
   _print_decision(pruned.decision, now, done=not options.dry_run and pruned.refusal is None)
def _print_names(decisions):
 for decision in decisions:
  sys.stdout.writelines(f"{gone.name}\n" for gone in decision.delete)
def _print_decision(decision, now, *, done = False):
 rows: list[tuple[datetime, str, int | None, str, str, str]] = [
  *((kept.time, "keep", kept.bytes, kept.tier, kept.name, kept.reason) for kept in decision.keep),
  *(
   (gone.time, "deleted" if done else "delete", gone.bytes, "-", gone.name, gone.reason)
   for gone in decision.delete
  ),
 ]
 rows.sort(key=lambda row: row[0], reverse=True)
 print(
  f"{decision.database}: {len(decision.keep)} kept, {len(decision.delete)} {'deleted' if done else 'to delete'}"
 )
 if rows:
  lines = [
   (action, format_age(now - time), _size_or_dash(size), tier, name, why)
   for time, action, size, tier, name, why in rows
  ]
  print(table(("ACTION", "AGE", "SIZE", "TIER", "NAME", "WHY"), lines))
 for finding in decision.ignored:
  print(f"ignored {finding.name}: {finding.reason}")
 if decision.over_budget:
  print(f"over the budget: {decision.over_budget}")
def _print_refusal(refusal):
 if refusal:
  print(f"prune will refuse: {refusal}; to allow it, prune with {ALLOW_FLAG}")
def _size_or_dash(size):
 return "-" if size is None else format_size(size)
