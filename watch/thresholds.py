"""From when on a backup is too old, by the schedule of its CronJob."""

import math
from dataclasses import dataclass
from datetime import timedelta

from watch.schedule import Schedule

_RUNS = 2.5
"""A backup is late once two runs in full have left none: Prometheus' own advice for batch jobs."""
_SLACK = timedelta(minutes=10)
_LEAST_RANGE = timedelta(days=7)
_LONGEST = timedelta(days=400)
"""The gap of a schedule that is due less than twice in forty years; nobody can wait longer to be alarmed."""


@dataclass(frozen=True, slots=True)
class Thresholds:
    """What alerts compare with, in seconds.

    Attributes:
        stale_after: From which age the newest backup is too old.
        failing_for: How long failures may last: longer than one failed run, shorter than two.
        lookback: How long a value stands that is no longer exported: longer than `stale_after`.
    """

    stale_after: int
    failing_for: int
    lookback: int


def of(schedule: str, *, utc: bool, starting_deadline: int) -> Thresholds:
    """Return the thresholds of a schedule.

    Args:
        schedule: The cron expression.
        utc: Whether its zone has no daylight saving time.
        starting_deadline: How many seconds late a run may start.

    Raises:
        ScheduleError: When the expression is not valid.
    """
    gap = Schedule.parse(schedule).longest_gap(utc=utc)
    longest = int((_LONGEST if gap is None else min(gap, _LONGEST)).total_seconds())
    stale = math.ceil(_RUNS * longest) + starting_deadline
    lookback = max(int(_LEAST_RANGE.total_seconds()), 3 * longest + starting_deadline)
    return Thresholds(stale, longest + starting_deadline + int(_SLACK.total_seconds()), lookback)
