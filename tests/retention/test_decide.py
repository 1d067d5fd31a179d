"""The guards around the rule: pins, the future, the run's own backup, the newest, large prunes."""

import random
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retention import Policy, plan
from retention.errors import PolicyError
from retention.names import base_of
from retention.rule.backup import Pin
from retention.rule.decide import Candidate, Decision, decide
from retention.rule.policy import Limits
from tests.retention.properties import BASE, Property, search, with_sets
from tests.retention.world import DAY, HOUR, T0

LATER = BASE + timedelta(days=365_00)
CHOICES = st.lists(st.booleans(), min_size=200, max_size=200)


def candidates(times: Any, pin: Pin | None = None) -> list[Candidate]:
    return [Candidate(f"{base_of('app', time)}.dump", base_of("app", time), time, pin) for time in sorted(times)]


GUARDS: dict[str, Property] = {}


def guard(strategy: st.SearchStrategy[Any]) -> Callable[[Callable[[Any], None]], Callable[[Any], None]]:
    """Register a promise of what stands around the rule, to be searched for a counterexample."""

    def register(check: Callable[[Any], None]) -> Callable[[Any], None]:
        GUARDS[check.__name__] = Property(check.__name__, strategy, lambda _, drawn: check(drawn))
        return check

    return register


def decided(
    found: list[Candidate], policy: Policy, now: datetime = LATER, own: frozenset[str] = frozenset()
) -> Decision:
    decision = decide("app", found, [], policy, now=now, own=own)
    everything = sorted([kept.name for kept in decision.keep] + [gone.name for gone in decision.delete])
    assert everything == sorted(candidate.name for candidate in found), "a backup is decided twice, or not at all"
    return decision


@guard(with_sets(CHOICES))
def pins_add_and_never_disturb(drawn: tuple[Policy, frozenset[datetime], list[bool]]) -> None:
    policy, times, choices = drawn
    pinned = {time for time, choice in zip(sorted(times), choices, strict=False) if choice}
    decision = decided(candidates(times - pinned) + candidates(pinned, Pin("", None)), policy)
    assert {kept.time for kept in decision.keep} == plan(times - pinned, policy).kept | pinned
    assert {kept.time for kept in decision.keep if kept.tier == "pinned"} == pinned


@guard(with_sets(st.integers(0, 200)))
def future_backups_never_cost_a_good_one(drawn: tuple[Policy, frozenset[datetime], int]) -> None:
    policy, times, index = drawn
    now = sorted(times)[index % len(times)] if times else BASE
    right = {time for time in times if time <= now}
    decision = decided(candidates(times), policy, now)
    assert {kept.time for kept in decision.keep} == plan(right, policy).kept | (times - right)
    assert {kept.time for kept in decision.keep if kept.tier == "future"} == times - right


@guard(with_sets(CHOICES))
def own_backups_and_the_newest_are_never_deleted(drawn: tuple[Policy, frozenset[datetime], list[bool]]) -> None:
    policy, times, choices = drawn
    own = {time for time, choice in zip(sorted(times), choices, strict=False) if choice}
    decision = decided(candidates(times), policy, own=frozenset(base_of("app", time) for time in own))
    gone = {one.time for one in decision.delete}
    assert not gone & own
    assert not times or max(times) not in gone
    assert gone == set(plan(times, policy).delete) - own
    for kept in decision.keep:
        assert (kept.tier == "newest") == (kept.time not in plan(times, policy).kept)


def test_clock_set_back_never_costs_the_backup_just_made() -> None:
    """The clock went back four hours: the new backup is older than another of its slot, and stays."""
    times = [T0 + 2 * index * HOUR for index in range(100)]
    made = times[-1] - 4 * HOUR - timedelta(minutes=10)
    found = candidates([*times, made])
    without = decided(found, Policy.default())
    assert made in {one.time for one in without.delete}, "this test would show nothing"
    decision = decided(found, Policy.default(), own=frozenset({base_of("app", made)}))
    assert next(kept for kept in decision.keep if kept.time == made).tier == "newest"


def test_expired_pin_counts_as_none_and_is_told() -> None:
    times = [T0 + 2 * index * HOUR for index in range(40)]
    pin = Pin("audit", T0 + DAY)
    found = [replace(candidate, pin=pin) for candidate in candidates(times)]
    decision = decided(found, Policy.default(), now=T0 + 10 * DAY)
    assert {one.time for one in decision.delete} == set(plan(times, Policy.default()).delete)
    assert "its pin expired 2026-01-02" in decision.delete[0].reason
    assert {kept.tier for kept in decided(found, Policy.default(), now=T0 + DAY / 2).keep} <= {"pinned", "future"}


def test_guard_refuses_only_more_than_three_and_more_than_half() -> None:
    one = Policy(Policy.default().tiers[2:])
    for count in range(1, 40):
        decision = decided(candidates([T0 + index * HOUR for index in range(count)]), one)
        deletions = len(decision.delete)
        assert bool(decision.refusal) == (deletions > 3 and deletions > count / 2), (count, deletions)


@pytest.mark.parametrize("percent", [1, 30, 50, 99])
def test_guard_counts_backups_and_bytes_against_its_share(percent: int) -> None:
    """Ten old ones of which five go; how large those are decides as well."""
    one = Policy(Policy.default().tiers[2:])
    times = [T0 + index * 12 * HOUR for index in range(10)]
    gone = set(plan(times, one).delete)
    assert len(gone) == 5
    for size in (1, 5, 10, 20, 1000):
        found = [replace(each, bytes=size if each.time in gone else 10) for each in candidates(times)]
        share = 100 * 5 * size / (5 * size + 50)
        decision = decide("app", found, [], one, now=LATER, limits=Limits(large_percent=percent))
        assert bool(decision.refusal) == (percent < 50 or share > percent), (size, decision.refusal)


def test_three_large_ones_may_go_unasked() -> None:
    """One new backup can push out that many, whatever their size."""
    one = Policy(Policy.default().tiers[2:])
    times = [T0 + index * HOUR for index in range(4)]
    found = [replace(each, bytes=1 if each.time == times[-1] else 10**12) for each in candidates(times)]
    decision = decided(found, one)
    assert len(decision.delete) == 2
    assert not decision.refusal


@given(
    with_sets(CHOICES, st.lists(st.integers(1, 50), min_size=200, max_size=200), st.integers(1, 800), st.integers(1, 6))
)
def budget_takes_the_oldest_alone_and_never_below_its_floor(drawn: tuple[Any, ...]) -> None:
    policy, times, choices, sizes, most, floor = drawn
    pinned = {time for time, choice in zip(sorted(times), choices, strict=False) if choice}
    size = dict(zip(sorted(times), sizes, strict=False))
    found = candidates(times - pinned) + candidates(pinned, Pin("", None))
    found = [replace(each, bytes=size[each.time]) for each in found]
    own = frozenset(each.base for each in found[:1])
    limits = Limits(max_bytes=most, min_backups=floor)
    without = decide("app", found, [], policy, now=LATER, own=own)
    decision = decide("app", found, [], policy, now=LATER, own=own, limits=limits)
    taken = {one.time for one in decision.delete if one.rule == "budget"}
    assert {one.time for one in decision.delete} - taken == {one.time for one in without.delete}
    kept = {one.time for one in decision.keep}
    assert kept | taken == {one.time for one in without.keep}
    assert not taken & pinned
    unpinned = {one.time for one in without.keep} - pinned
    assert len(unpinned - taken) >= min(floor, len(unpinned)), "below the floor"
    protected = {one.time for one in found if one.base in own} | ({max(times - pinned)} if times - pinned else set())
    assert not taken & protected
    if taken:
        assert all(time > max(taken) for time in unpinned - taken - protected), "a younger one went before an older"
        total = sum(size[time] for time in kept)
        youngest = size[max(taken)]
        assert total + youngest > most, "one more than needed went"
    over = sum(size[time] for time in kept) > most
    assert bool(decision.over_budget) == over
    if over:
        assert len(unpinned - taken - protected) <= floor, "there was more to take"


def test_no_budget_takes_nothing() -> None:
    found = [replace(each, bytes=10**15) for each in candidates([T0 + 2 * n * HOUR for n in range(40)])]
    assert not [one for one in decided(found, Policy.default()).delete if one.rule == "budget"]


@pytest.mark.parametrize(
    "wrong", [{"large_percent": 0}, {"large_percent": 100}, {"max_bytes": 0}, {"min_backups": 0}], ids=str
)
def test_limits_that_make_no_sense_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(PolicyError):
        Limits(**wrong)


def test_pins_do_not_make_a_large_prune_look_small() -> None:
    """Ten pinned ones are no reason to let eight of ten others go unasked."""
    times = [T0 + index * HOUR for index in range(10)]
    few = Policy(tuple(replace(tier, keep=1) for tier in Policy.default().tiers[2:]))
    pinned = candidates([T0 + DAY + index * HOUR for index in range(30)], Pin("", None))
    assert decided(candidates(times) + pinned, few).refusal


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10_000), st.integers(1, 200))
def test_week_ahead_then_right_days_keeps_what_right_days_alone_would(seed: int, wrong_runs: int) -> None:
    chance, found, right = random.Random(seed), dict[str, Candidate](), list[datetime]()
    for run in range(wrong_runs + 100):
        wrong = run < wrong_runs
        time = T0 + 2 * run * HOUR + timedelta(minutes=chance.randint(0, 9)) + (365 * DAY if wrong else timedelta(0))
        if not wrong:
            right.append(time)
        made = candidates([time])[0]
        found[made.base] = made
        decision = decided(list(found.values()), Policy.default(), now=time, own=frozenset({made.base}))
        assert not decision.refusal
        for gone in decision.delete:
            del found[gone.base]
    assert {one.time for one in found.values() if one.time <= right[-1]} == plan(right, Policy.default()).kept


@pytest.mark.parametrize("name", sorted(GUARDS))
def test_guard(name: str) -> None:
    search(GUARDS[name], plan, 150)


@pytest.mark.long
@pytest.mark.parametrize("name", sorted(GUARDS))
def test_guard_on_ten_thousand_examples(name: str) -> None:
    search(GUARDS[name], plan, 10_000)
