"""From when on a backup is too old: thresholds that the chart works out from any schedule."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from cronsim import CronSim
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.lab import chart
from tests.watch.test_schedule import START, schedules
from watch.schedule import Schedule

DAY, HOUR = timedelta(days=1), timedelta(hours=1)
DEADLINE = 600
MOST = timedelta(days=400)


def thresholds(expressions: Sequence[str], zone: str = "Etc/UTC", **values: object) -> list[Mapping[str, int]]:
    """What the chart works out for schedules, all in one rendering: Helm takes its time to start."""
    # Helm writes the object as YAML first, which may break a line at a blank, and a text may not be broken.
    texts = (json.dumps(expression.replace(" ", "_")) for expression in expressions)
    its = [f'(dict "root" $ "schedule" (replace "_" " " {text}))' for text in texts]
    calls = [f'{{{{ include "cnpg-backup.thresholds" {one} }}}}' for one in its]
    probe = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "probe"}, "data": {"all": " ".join(calls)}}
    rendered = chart.render({"extraObjects": [probe], "timeZone": zone, **values})
    (found,) = (one for one in rendered if one["metadata"]["name"] == "probe")
    return [json.loads(text) for text in found["data"]["all"].split()]


def longest_gap(expression: str) -> timedelta:
    """The same by looking at forty years, day by day."""
    schedule = Schedule.parse(expression)
    days = [day for number in range(40 * 365) if schedule.on(day := date(2024, 1, 1) + number * DAY)]
    if len(days) < 2:
        return MOST
    first, last = schedule.times[0], schedule.times[-1]
    within = max((later - earlier for earlier, later in pairwise(schedule.times)), default=0)
    between = max(later - earlier for earlier, later in pairwise(days))
    return min(max(timedelta(minutes=within), between + timedelta(minutes=first - last)), MOST)


def gap_of(found: Mapping[str, int]) -> timedelta:
    return timedelta(seconds=found["failingFor"] - DEADLINE - 600)


@pytest.mark.parametrize(
    ("expression", "stale_after", "failing_for"),
    [
        ("0 */2 * * *", 18_600, 8_400),
        ("0 3 * * *", 60 * 3600 + 600, 24 * 3600 + 1200),
        ("0 3 * * 0", 420 * 3600 + 600, 168 * 3600 + 1200),
        ("*/15 * * * *", 2250 + 600, 900 + 1200),
    ],
)
def test_thresholds_of_known_schedules(expression: str, stale_after: int, failing_for: int) -> None:
    (found,) = thresholds([expression])
    assert (found["staleAfter"], found["failingFor"]) == (stale_after, failing_for)


EXACT = [
    "0 */2 * * *",
    "@daily",
    "@weekly",
    "@monthly",
    "@yearly",
    "0 3 * * MON-FRI",
    "0 8-18/5 * * *",
    "15,45 * * * *",
    "59 0,23 * * *",
    "0 0 31 * *",
    "0 0 29,30 * *",
    "0 0 29 2 *",
    "30 22 1 jan ?",
    "0 0 13 * 5",
    "0 0 1-7 * 1,*",
    "0 0 */2 * 1",
    "5/20 4 * * *",
    "0 0 1 2,3 *",
]


def test_gaps_of_common_schedules_are_exact() -> None:
    for expression, found in zip(EXACT, thresholds(EXACT), strict=True):
        assert gap_of(found) == longest_gap(expression), expression


def test_daylight_saving_time_makes_a_gap_an_hour_longer() -> None:
    (here,), (there,) = thresholds(["@daily"]), thresholds(["@daily"], "Europe/Zurich")
    assert gap_of(there) - gap_of(here) == HOUR


def test_an_age_by_value_beats_the_schedule() -> None:
    (found,) = thresholds(["@weekly"], monitoring={"staleAfter": 3600})
    assert found["staleAfter"] == 3600
    assert found["lookback"] > 3 * 7 * 86400


def check(expressions: Sequence[str], zone: str) -> None:
    """Runs that start as late as they may, one of which fails, never raise an alert; two in a row do."""
    late = timedelta(seconds=DEADLINE)
    for expression, found in zip(expressions, thresholds(expressions, zone), strict=True):
        stale, failing = (timedelta(seconds=found[name]) for name in ("staleAfter", "failingFor"))
        assert timedelta() <= gap_of(found) - longest_gap(expression) <= 2 * (14 * DAY + HOUR), expression
        simulated = CronSim(expression, START.astimezone(ZoneInfo(zone)))
        due = [next(simulated).astimezone(UTC) for _ in range(60)]
        _check_runs(expression, due, late, stale, failing)
        assert found["lookback"] > found["staleAfter"]


def _check_runs(
    expression: str, due: Sequence[datetime], late: timedelta, stale: timedelta, failing: timedelta
) -> None:
    for failed, following in pairwise(due):
        if following - failed <= MOST - HOUR:
            assert following + late - failed < failing, f"{expression}: one failed run is an alert"
    for first, second, third in zip(due, due[1:], due[2:], strict=False):
        if max(second - first, third - second) <= MOST - HOUR:
            # The run in the middle fails; the third one starts late.
            assert third + late - first <= stale, f"{expression}: one failed run is an alert"


batches = st.lists(schedules, min_size=10, max_size=10)
zones = st.sampled_from(["Etc/UTC", "Europe/Berlin", "America/New_York"])


@settings(max_examples=3, deadline=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
@given(batches, zones)
def test_one_failed_run_raises_no_alert_whatever_the_schedule(expressions: list[str], zone: str) -> None:
    check(expressions, zone)


@pytest.mark.long
@settings(max_examples=100, deadline=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
@given(batches, zones)
def test_one_failed_run_of_very_many_schedules_raises_no_alert(expressions: list[str], zone: str) -> None:
    check(expressions, zone)
