"""Policies in words: what they keep of schedules that are late, miss runs, or change."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retention import Policy, plan
from retention.errors import PolicyError
from retention.rule.policy import WORDS
from tests.retention.world import retention_here

DAY = timedelta(days=1)
BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
KEEPS = st.dictionaries(st.sampled_from(list(WORDS)), st.integers(0, 9)).filter(lambda keep: any(keep.values()))


@settings(deadline=None)
@given(KEEPS)
def test_all_words_together_are_a_policy_that_keeps_as_many_as_they_name(keep: dict[str, int]) -> None:
    policy = Policy.from_words(keep)
    assert policy.most == sum(keep.values())
    assert all(quota.transit == 0 for quota in policy.quotas())
    assert Policy.from_json(policy.to_json()) == policy


def test_the_most_of_every_word_is_a_policy() -> None:
    assert Policy.from_words(dict.fromkeys(WORDS, 1000)).most == 6000


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 1439), st.integers(0, 660), st.integers(0, 99), st.integers(0, 40))
def test_a_daily_schedule_that_is_hours_late_and_misses_runs_keeps_seven_days(
    minute: int, late: int, seed: int, missing: int
) -> None:
    """Seven days that have a backup; the chart puts the edges of slots half a day from the schedule's minute."""
    chance = random.Random(seed)
    policy = Policy.from_words({"daily": 7, "weekly": 4}, timedelta(minutes=minute + 720 - 15))
    due = [BEGIN + day * DAY + timedelta(minutes=minute) for day in range(60)]
    made = [one + timedelta(minutes=chance.randint(0, late)) for one in due if chance.randrange(100) >= missing]
    disk: list[datetime] = []
    for time in made:
        disk = [one.time for one in plan([*disk, time], policy).keep]
    assert disk[:7] == made[::-1][:7]
    assert len(disk) >= 7 + 4


@settings(deadline=None)
@given(KEEPS, KEEPS, st.sets(st.integers(0, 5000), max_size=60))
def test_changing_to_words_prunes_nothing_that_they_want(
    one: dict[str, int], other: dict[str, int], at: set[int]
) -> None:
    """What the new words keep of all that the old ones left is what stays, and the newest does in any case."""
    times = [BEGIN + hour * timedelta(hours=1) for hour in at]
    left = plan(times, Policy.from_words(one)).kept
    new = Policy.from_words(other)
    assert plan(times, new).kept & left <= plan(left, new).kept
    assert not times or max(times) in plan(left, new).kept


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('{"keep": {}}', "keep names nothing"),
        ('{"keep": {"daily": 0}}', "keep names nothing"),
        ('{"keep": {"daly": 7}}', "unknown key"),
        ('{"keep": {"daily": true}}', "daily is true"),
        ('{"keep": {"daily": 1001}}', "daily is 1001"),
        ('{"keep": 7}', "keep is 7"),
        ('{"keep": {"daily": 7}, "tiers": []}', "both given"),
    ],
)
def test_wrong_words_are_one_line(text: str, problem: str) -> None:
    with pytest.raises(PolicyError, match=problem) as caught:
        Policy.from_json(text, "policy.json")
    assert "\n" not in str(caught.value)
    assert caught.value.remedy


def test_the_command_line_knows_words_and_the_words_of_schedules() -> None:
    ran = retention_here("simulate", "--keep", "daily=7,weekly=4", "--every", "@daily", "--days", "60")
    assert ran.code == 0
    assert "Daily: 7 kept" in ran.out
    assert retention_here("plan", "--keep", "daily", "-").code == 2
