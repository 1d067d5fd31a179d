# Without comments: they are in the project's file of this name.
import argparse
import functools
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TypeAlias
from retention.cli.common import size
from retention.errors import PolicyError, UsageError
from retention.pod import config
from retention.rule import decide
from retention.rule.backup import Scan
from retention.rule.decide import Decision
from retention.rule.policy import WORDS, Limits, Policy, Tier
@dataclass(frozen=True, slots=True)
class Rules:
 policy: Policy
 limits: Limits
 allow: bool
 def decide(self, found, now):
  return decide.decide_scan(found, self.policy, now=now, limits=self.limits)
 def refusal(self, decision):
  return "" if self.allow else decision.refusal
RulesOf: TypeAlias = Callable[[str], Rules]
UNCONFIGURED = Rules(Policy((Tier("unpruned", timedelta(seconds=1), 1_000_000),)), Limits(), allow=False)
def add_policy(command):
 command.add_argument(
  "--policy",
  type=Path,
  metavar="FILE.json",
  help="retention policy (default: 6 every 2h, 4 every 12h, 5 every 24h)",
 )
 command.add_argument(
  "--keep",
  type=words,
  metavar="WORD=N,…",
  help=f"retention policy in words, such as daily=7,weekly=4,monthly=6; known are {', '.join(WORDS)}",
 )
def words(text):
 keep: dict[str, int] = {}
 for part in text.split(","):
  word, _, number = part.partition("=")
  if not number.isdecimal() or not number.isascii() or word in keep:
   raise argparse.ArgumentTypeError(f"{part!r} is not a word with its number, each word once, such as daily=7")
  keep[word] = int(number[:9])
 try:
  return Policy.from_words(keep)
 except PolicyError as error:
  raise argparse.ArgumentTypeError(str(error)) from None
def add_rules(command):
 add_policy(command)
 command.add_argument(
  "--config",
  type=Path,
  metavar="DIR",
  help="directory with <database>.conf and policy.json: use the policy and limits of each database from there",
 )
 command.add_argument(
  "--max-bytes", type=size, metavar="SIZE", help="limit for all archives of a database together, such as 4Gi"
 )
 command.add_argument(
  "--min-backups", type=int, metavar="N", help="keep at least N backups, whatever --max-bytes says (default: 3)"
 )
 command.add_argument(
  "--large-prune-percent",
  type=int,
  metavar="N",
  help="largest share of the backups that one prune may delete, in percent (default: 50)",
 )
def policy_of(options):
 if options.keep is not None:
  if options.policy is not None:
   raise UsageError("--policy and --keep both set the policy", "leave out one of them")
  policy: Policy = options.keep
  return policy
 if options.policy is None:
  return Policy.default()
 return Policy.from_json(config.read_text(options.policy), str(options.policy))
def rules_of(options):
 flags = {
  "max_bytes": options.max_bytes,
  "min_backups": options.min_backups,
  "large_percent": options.large_prune_percent,
 }
 given = {name: value for name, value in flags.items() if value is not None}
 allow = bool(getattr(options, "allow_large_prune", False))
 directory: Path | None = options.config
 if directory is None:
  rules = Rules(policy_of(options), Limits(**given), allow)
  return lambda _: rules
 if options.policy is not None or options.keep is not None or given:
  raise UsageError("--config already sets policy and limits", "leave out --policy, --keep and the limits")
 def configured(database):
  settings = config.read_database(directory, database)
  return Rules(config.read_policy(directory, database), settings.limits, allow or settings.allow_large_prune)
 return configured
def sparing_rules_of(options):
 rules = rules_of(options)
 directory: Path | None = options.config
 if directory is None:
  return rules
 concerned = functools.cache(lambda: config.concerned_by(directory))
 return lambda database: rules(database) if concerned()(database) else UNCONFIGURED
