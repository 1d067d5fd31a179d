"""From when on a backup is too old: thresholds that the chart works out from any schedule."""

from __future__ import annotations

import json
import random
import tempfile
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from cronsim import CronSim
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from offsite.settings import read_policy, read_settings
from retention.rule.policy import Policy
from tests.chart.common import OFFSITE
from tests.chart.test_offsite import config_of
from tests.lab import chart
from tests.offsite.test_tiers import Site
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


# The age of a copy outside.


def outside(values: Mapping[str, Any]) -> tuple[timedelta, Policy, bool]:
    """From which age a copy is too old, the policy that decides what is copied, and whether each newest backup is."""
    text = '{{ include "cnpg-backup.offsiteThresholds" . }}'
    probe = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "probe"}, "data": {"all": text}}
    manifests = chart.render(chart.merge(OFFSITE, {**values, "extraObjects": [probe]}))
    (found,) = (one for one in manifests if one["metadata"]["name"] == "probe")
    stale = timedelta(seconds=json.loads(found["data"]["all"])["staleAfter"])
    with tempfile.TemporaryDirectory() as folder:
        config = config_of(manifests, Path(folder))
        return stale, read_policy(config, "app"), read_settings(config, "s").newest


def test_a_copy_of_each_day_may_be_a_day_older_than_a_copy_of_each_backup() -> None:
    daily, policy, newest = outside({})
    assert (policy.tiers[0].every, newest) == (DAY, False)
    each, _, newest = outside({"offsite": {"copy": "newest"}})
    assert newest
    assert daily - each == DAY
    # 2.5 times two hours and an hour, and twice what a run may be late.
    assert each == timedelta(hours=7.5, seconds=2 * DEADLINE)


TIERS = [
    {},
    {"keep": {"last": 3}},
    {"keep": {"weekly": 4, "daily": 2}},
    {"keep": {"hourly": 0, "weekly": 4}},
    {"keep": {"monthly": 3}},
    {"tiers": [{"name": "Half", "every": "12h", "keep": 4}]},
    {
        "tiers": [
            {"name": "Days", "every": "50h", "keep": 4, "until": "200h"},
            {"name": "M", "every": "100h", "keep": 5},
        ]
    },
]


def copies_are_never_too_old(
    schedule: str, copying: str, tiers: Mapping[str, object], phase: int, chance: random.Random
) -> None:
    """Runs that are late as far as they may be, of which no two in a row fail, raise no alert about copies."""
    limits = []
    for copy in ("tiers", "newest"):
        its = {"copy": copy, "schedule": copying, "retention": {"phase": phase, **tiers}}
        stale, policy, newest = outside({"schedule": schedule, "offsite": its})
        limits.append(stale - (timedelta() if newest else policy.tiers[0].every))
        site = Site(Policy.default(), policy, newest, prune=True)
        events = []
        for kind, expression in (("back up", schedule), ("copy", copying)):
            simulated, failed = CronSim(expression, START), False
            for _ in range(250):
                due = next(simulated)
                failed = not failed and chance.random() < 0.3
                if not failed:
                    events.append((due + chance.choice([0, 0, DEADLINE]) * timedelta(seconds=1), kind))
        end = min(max(time for time, kind in events if kind == wanted) for wanted in ("back up", "copy"))
        for time, kind in sorted(event for event in events if event[0] <= end):
            if kind == "back up":
                site.back_up(time)
                continue
            if site.there:
                age = time - max(site.there)
                assert age <= stale, f"{schedule}, {its}: a copy {age} old is an alert from {stale}"
            site.copy(time, None)
        assert site.uploads, its
    assert limits[0] == limits[1], "the chart takes another slot than the program"


copied = st.tuples(
    st.sampled_from(["0 */2 * * *", "0 3 * * *", "30 1,9 * * *", "0 3 * * 1-5"]),
    st.sampled_from(["45 * * * *", "20 4 * * *", "0 1,13 * * *", "15 */6 * * *"]),
    st.sampled_from(TIERS),
    st.integers(-90_000, 90_000),
    st.randoms(use_true_random=False),
)


@settings(max_examples=3, deadline=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
@given(copied)
def test_one_failed_run_of_backups_and_of_copies_is_no_alert_about_copies(drawn: Any) -> None:
    copies_are_never_too_old(*drawn)


@pytest.mark.long
@settings(max_examples=60, deadline=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
@given(copied)
def test_one_failed_run_is_no_alert_about_copies_whatever_the_tiers(drawn: Any) -> None:
    copies_are_never_too_old(*drawn)
