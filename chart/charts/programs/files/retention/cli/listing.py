# Without comments: they are in the project's file of this name.
import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from retention.cli.common import DIRECTORY, Commands, add_command, add_format, now_of, print_json, visit_databases
from retention.cli.rules import UNCONFIGURED, Rules, add_rules, sparing_rules_of
from retention.rule import sizing
from retention.rule.backup import Backup, Pin, Scan
from retention.rule.decide import Decision
from retention.text import format_age, format_size, table
from retention.volume.directory import Directory
from retention.volume.sidecars import Evidence, read_evidence
def add(commands):
 command = add_command(
  commands, "list", _list, "List all backups with age, size, tier and the reason why each is kept or deleted."
 )
 command.add_argument("path", metavar="PATH", help=DIRECTORY)
 add_rules(command)
 add_format(command, "text", "json", "names")
@dataclass(frozen=True, slots=True)
class _Listed:
 found: Scan
 rules: Rules
 decision: Decision
 evidence: Sequence[Evidence]
def _list(options):
 rules, now = sparing_rules_of(options), now_of(options)
 def work(directory):
  chosen, found = rules(directory.database), directory.scan()
  evidence = (
   [read_evidence(directory.folder, backup) for backup in found.backups] if options.format == "json" else []
  )
  return _Listed(found, chosen, chosen.decide(found, now), evidence)
 visit = visit_databases(options, work)
 if options.format == "json":
  print_json(visit.shaped([_document(listed, now) for listed in visit.results]))
 elif options.format == "names":
  for listed in visit.results:
   for backup in listed.found.backups:
    print(backup.name)
 else:
  for listed in visit.results:
   _print_list(listed.found, listed.decision, now)
 return visit.code
def _document(listed, now):
 found, ends = listed.found, fates(listed.decision)
 return {
  "database": found.database,
  "full_bytes": _full_bytes(listed.rules, found, now),
  "backups": [
   backup_document(backup, ends[backup.name], evidence, now)
   for backup, evidence in zip(found.backups, listed.evidence, strict=True)
  ],
  "ignored": [{"name": finding.name, "reason": finding.reason} for finding in found.not_counted()],
 }
def backup_document(backup, fate, evidence, now):
 tier, reason = fate
 return {
  "name": backup.name,
  "time": backup.time.isoformat(),
  "age_seconds": (now - backup.time) // timedelta(seconds=1),
  "bytes": backup.bytes,
  "tables": backup.tables,
  "sha256": backup.sha256,
  "tier": None if tier == "-" else tier,
  "reason": reason,
  "verified": evidence.verified,
  "drill": evidence.drill,
  "pin": None if backup.pin is None else _pin_document(backup.pin, now),
 }
def _pin_document(pin, now):
 return {
  "reason": pin.reason,
  "expires": None if pin.expires is None else pin.expires.isoformat(),
  "holds": pin.holds(now),
 }
def _full_bytes(rules, found, now):
 newest = next((backup for backup in found.backups if backup.time <= now), None)
 if newest is None or rules is UNCONFIGURED:
  return sum(backup.bytes for backup in found.backups)
 return sizing.of_database(newest.bytes, rules.policy, rules.limits)
def _print_list(found, decision, now):
 ends = fates(decision)
 total = format_size(sum(backup.bytes for backup in found.backups))
 print(f"{found.database}: {len(found.backups)} backups, {total}")
 rows = []
 for backup in found.backups:
  tier, reason = ends[backup.name]
  rows.append((format_age(now - backup.time), format_size(backup.bytes), tier, backup.name, reason))
 if rows:
  print(table(("AGE", "SIZE", "TIER", "NAME", "WHY"), rows))
 for finding in found.not_counted():
  print(f"ignored {finding.name}: {finding.reason}")
def fates(decision):
 fates = {kept.name: (kept.tier, kept.reason) for kept in decision.keep}
 fates |= {gone.name: ("-", f"next prune deletes it: {gone.reason}") for gone in decision.delete}
 return fates
