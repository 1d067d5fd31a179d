"""`simulate`: what a policy keeps over time, under a schedule with failures and outages."""

import argparse
from datetime import UTC, datetime, timedelta

from retention.cli.common import Commands, add_command, add_format, duration, moment, print_json, size
from retention.cli.rules import add_policy, policy_of
from retention.errors import ExitCode, UsageError
from retention.rule import simulate
from retention.text import format_duration

_START = datetime(2026, 1, 1, tzinfo=UTC)


_MOST_BACKUPS = 100_000


def add(commands: Commands) -> None:
    """Add the command of this module."""
    command = add_command(commands, "simulate", _simulate, "Show what a policy would keep over a time.")
    add_policy(command)
    command.add_argument("--every", type=duration, help="the schedule's interval (default: the first tier's)")
    command.add_argument("--days", type=int, default=30, help="how long (default: 30)")
    command.add_argument("--start", type=moment, default=_START, help="when the first backup is due")
    command.add_argument("--jitter", type=duration, default=timedelta(0), help="the most that a start is late")
    command.add_argument("--fail-percent", type=int, default=0, metavar="N", help="how many of a hundred runs fail")
    command.add_argument("--manual", type=int, default=0, metavar="N", help="backups made by hand each day, besides")
    command.add_argument("--size", type=size, default=0, metavar="SIZE", help="of the first archive, as 200Mi")
    command.add_argument(
        "--growth-percent", type=float, default=0.0, metavar="N", help="by how much archives grow in 30 days"
    )
    command.add_argument("--seed", type=int, default=0, help="chooses what is random")
    command.add_argument(
        "--outage",
        type=_outage,
        action="append",
        default=[],
        metavar="10d+24h",
        help="no backups from 10 days after the start, for 24 hours; may be repeated",
    )
    add_format(command, "text", "json", "svg", "html")


def _outage(text: str) -> simulate.Outage:
    begin, plus, length = text.partition("+")
    if not plus:
        raise argparse.ArgumentTypeError(f"{text!r} is not begin+length such as 10d+24h")
    return simulate.Outage(duration(begin), duration(length))


def _simulate(options: argparse.Namespace) -> int:
    policy = policy_of(options)
    every: timedelta = options.every or policy.tiers[0].every
    if options.days < 1:
        raise UsageError(f"--days {options.days} is less than a day", "give 1 or more")
    if options.days > _MOST_BACKUPS * (every / timedelta(days=1)):
        raise UsageError(
            f"--days {options.days} at every {format_duration(every)} are more than {_MOST_BACKUPS} backups",
            "simulate fewer days",
        )
    for flag, value, most in (
        ("--fail-percent", options.fail_percent, 100),
        ("--manual", options.manual, 1000),
        ("--growth-percent", options.growth_percent, 1000),
    ):
        if not 0 <= value <= most:
            raise UsageError(f"{flag} {value}", f"give 0 to {most}")
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
        # Only here: no other command draws.
        from retention.rule import picture

        print(picture.to_svg(simulation) if options.format == "svg" else picture.to_html(simulation))
    else:
        print(simulate.to_text(simulation))
    return ExitCode.DONE
