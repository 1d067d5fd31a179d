# Without comments: they are in the project's file of this name.
import argparse
from datetime import UTC, datetime, timedelta
from retention.cli.common import Commands, add_command, add_format, duration, moment, print_json, size
from retention.cli.rules import add_policy, policy_of
from retention.errors import ExitCode, UsageError
from retention.rule import simulate
from retention.rule.policy import WORDS
from retention.text import format_duration
_START = datetime(2026, 1, 1, tzinfo=UTC)
_MOST_BACKUPS = 100_000
_MACROS = {
 "@hourly": WORDS["hourly"],
 "@daily": WORDS["daily"],
 "@midnight": WORDS["daily"],
 "@weekly": WORDS["weekly"],
}
def add(commands):
 command = add_command(
  commands, "simulate", _simulate, "Simulate a schedule and show what a policy would keep over time."
 )
 add_policy(command)
 command.add_argument(
  "--every",
  type=_interval,
  metavar="2h",
  help=f"interval of the schedule, or one of {', '.join(_MACROS)} (default: that of the first tier)",
 )
 command.add_argument("--days", type=int, default=30, metavar="N", help="days to simulate (default: 30)")
 command.add_argument(
  "--start",
  type=moment,
  default=_START,
  metavar="TIME",
  help="time of the first backup (default: 2026-01-01T00:00:00Z)",
 )
 command.add_argument(
  "--jitter",
  type=duration,
  default=timedelta(0),
  metavar="10m",
  help="start each backup up to this much late, at random",
 )
 command.add_argument(
  "--fail-percent", type=int, default=0, metavar="N", help="percentage of runs that fail, at random"
 )
 command.add_argument(
  "--manual", type=int, default=0, metavar="N", help="additional backups per day, at random times"
 )
 command.add_argument(
  "--size", type=size, default=0, metavar="SIZE", help="size of the first archive, such as 200Mi"
 )
 command.add_argument(
  "--growth-percent", type=float, default=0.0, metavar="N", help="growth of the archives in 30 days, in percent"
 )
 command.add_argument("--seed", type=int, default=0, metavar="N", help="seed for what is random (default: 0)")
 command.add_argument(
  "--outage",
  type=_outage,
  action="append",
  default=[],
  metavar="10d+24h",
  help="make no backups for 24 hours, beginning 10 days after the start; can be repeated",
 )
 add_format(command, "text", "json", "svg", "html")
def _interval(text):
 return _MACROS.get(text) or duration(text)
def _outage(text):
 begin, plus, length = text.partition("+")
 if not plus:
  raise argparse.ArgumentTypeError(f"{text!r} is not a start and a length, such as 10d+24h")
 return simulate.Outage(duration(begin), duration(length))
def _simulate(options):
 policy = policy_of(options)
 widths = [tier.every for tier in policy.tiers if tier.every > WORDS["last"]]
 every: timedelta = options.every or next(iter(widths), timedelta(hours=2))
 if options.days < 1:
  raise UsageError(f"--days {options.days} is too few", "give 1 or more")
 if options.days > _MOST_BACKUPS * (every / timedelta(days=1)):
  raise UsageError(
   f"--days {options.days} with a backup every {format_duration(every)} is more than {_MOST_BACKUPS} backups",
   "simulate fewer days",
  )
 for flag, value, most in (
  ("--fail-percent", options.fail_percent, 100),
  ("--manual", options.manual, 1000),
  ("--growth-percent", options.growth_percent, 1000),
 ):
  if not 0 <= value <= most:
   raise UsageError(f"{flag} {value} is out of range", f"give 0 to {most}")
 scenario = simulate.Scenario(
  policy=policy,
  start=options.start,
  every=every,
  length=timedelta(days=options.days),
  jitter=options.jitter,
  outages=tuple(options.outage),
  fail_percent=options.fail_percent,
  manual=options.manual,
  size=options.size,
  growth_percent=options.growth_percent,
  seed=options.seed,
 )
 simulation = simulate.simulate(scenario)
 if options.format == "json":
  print_json(simulate.to_dict(simulation))
 elif options.format in ("svg", "html"):
  from retention.rule import picture
  print(picture.to_svg(simulation) if options.format == "svg" else picture.to_html(simulation))
 else:
  print(simulate.to_text(simulation))
 return ExitCode.DONE
