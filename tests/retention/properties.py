"""What has to hold for every policy and every set of backups, as checks that take the rule as an argument.

The tests run them against the rule; the mutation check runs them against broken rules and expects each to be caught.
"""

import random
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

from hypothesis import HealthCheck, Phase, Verbosity, given, settings
from hypothesis import strategies as st

from retention import Deleted, Plan, Policy, Rule, Tier
from retention.names import stamp_of
from tests.retention.literal_rule import literal_plan, slot

Planner = Callable[[Iterable[datetime], Policy], Plan]
Times = frozenset[datetime]

BASE = datetime(2026, 1, 1, tzinfo=UTC)
SECOND = timedelta(seconds=1)


@dataclass(frozen=True, slots=True)
class Property:
    """A promise: what it is called, what it is checked on, and the check."""

    name: str
    strategy: st.SearchStrategy[Any]
    check: Callable[[Planner, Any], None]


PROPERTIES: dict[str, Property] = {}


def promise(strategy: st.SearchStrategy[Any]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Make a property of a function of the rule and the drawn values."""

    def register(check: Callable[..., None]) -> Callable[..., None]:
        name = check.__name__
        PROPERTIES[name] = Property(name, strategy, lambda plan, drawn: check(plan, *drawn))
        return check

    return register


def search(chosen: Property, plan: Planner, examples: int, *, shrink: bool = True) -> None:
    """Look for an example that breaks a promise; raises what the check raises."""
    phases = [Phase.explicit, Phase.reuse, Phase.generate, Phase.target, *([Phase.shrink] if shrink else [])]

    @settings(
        max_examples=examples,
        deadline=None,
        phases=phases,
        verbosity=Verbosity.normal if shrink else Verbosity.quiet,
        report_multiple_bugs=False,
        suppress_health_check=[HealthCheck.too_slow],
        **({} if shrink else {"database": None}),  # type: ignore[arg-type]
    )
    @given(chosen.strategy)
    def body(drawn: Any) -> None:
        chosen.check(plan, drawn)

    body()


@st.composite
def policies(draw: st.DrawFn) -> Policy:
    """Any nested policy: up to five tiers, any phase, transit or none, equal widths too."""
    unit = draw(st.sampled_from([1, 7, 900, 3600])) * SECOND
    count = draw(st.integers(1, 5))
    phase = draw(st.integers(-100_000, 100_000)) * SECOND
    every, until, tiers = draw(st.integers(1, 4)) * unit, timedelta(0), []
    for index in range(count):
        every *= draw(st.integers(1, 4)) if index else 1
        span = draw(st.integers(1, 6))
        until += span * every
        most = span if index == 0 else span + 3
        last = index == count - 1
        keep = draw(st.integers(1, 6 if last else most))
        tiers.append(Tier(f"tier {index}", every, keep, None if last else until))
    return Policy(tuple(tiers), phase)


@st.composite
def sets_for(draw: st.DrawFn, policy: Policy, most: int = 45) -> Times:
    """Any set of backups, dense or sparse against a policy's slots, some on the very edge of one."""
    finest, coarsest = policy.tiers[0].every // SECOND, policy.tiers[-1].every // SECOND
    reach = draw(st.sampled_from([5 * finest, 40 * finest, 3 * coarsest, 12 * coarsest]))
    seconds = st.integers(0, reach)
    edges = st.integers(0, max(1, reach // finest)).map(lambda index: index * finest)
    offsets = draw(st.lists(st.one_of(seconds, edges), max_size=most))
    # An edge is one only against the policy's own phase.
    begin = BASE + (policy.phase - (BASE - datetime(1970, 1, 1, tzinfo=UTC))) % policy.tiers[0].every
    return frozenset(begin + offset * SECOND for offset in offsets)


def with_sets(*extra: st.SearchStrategy[Any], sets: int = 1) -> st.SearchStrategy[Any]:
    """A policy, some sets that fit it, and whatever else a property needs."""

    @st.composite
    def drawn(draw: st.DrawFn) -> tuple[Any, ...]:
        policy = draw(policies())
        return (policy, *(draw(sets_for(policy)) for _ in range(sets)), *(draw(strategy) for strategy in extra))

    return drawn()


def kept(plan: Planner, times: Iterable[datetime], policy: Policy) -> Times:
    return plan(times, policy).kept


@promise(with_sets())
def equals_the_written_rule(plan: Planner, policy: Policy, times: Times) -> None:
    actual = {one.time: (one.tier, one.place.value) for one in plan(times, policy).keep}
    assert actual == literal_plan(times, policy)


@promise(with_sets(sets=2))
def pruning_earlier_changes_nothing(plan: Planner, policy: Policy, one: Times, other: Times) -> None:
    """Path independence."""
    assert kept(plan, one | other, policy) == kept(plan, kept(plan, one, policy) | other, policy)


@promise(with_sets())
def pruning_twice_is_pruning_once(plan: Planner, policy: Policy, times: Times) -> None:
    once = kept(plan, times, policy)
    assert kept(plan, once, policy) == once


@promise(with_sets(st.randoms(use_true_random=False)))
def failed_deletions_change_nothing(plan: Planner, policy: Policy, times: Times, chance: Any) -> None:
    """Outcast: any part of the planned deletions may fail."""
    staying = kept(plan, times, policy)
    remaining = staying | {time for time in sorted(times - staying) if chance.random() < 0.5}
    assert kept(plan, remaining, policy) == staying


@promise(with_sets(st.randoms(use_true_random=False)))
def deleting_others_never_makes_a_kept_one_unwanted(plan: Planner, policy: Policy, times: Times, chance: Any) -> None:
    """Heritage."""
    remaining = frozenset(time for time in sorted(times) if chance.random() < 0.7)
    assert kept(plan, times, policy) & remaining <= kept(plan, remaining, policy)


@promise(with_sets())
def never_more_than_the_cap_and_always_the_newest(plan: Planner, policy: Policy, times: Times) -> None:
    staying = kept(plan, times, policy)
    assert len(staying) <= policy.most
    assert staying <= times
    if times:
        assert max(times) in staying


@promise(with_sets())
def every_backup_is_decided_once_with_a_reason(plan: Planner, policy: Policy, times: Times) -> None:
    decided = plan(times, policy)
    keep, delete = [one.time for one in decided.keep], list(decided.delete)
    assert keep == sorted(keep, reverse=True)
    assert delete == sorted(delete, reverse=True)
    assert sorted(keep + delete) == sorted(times)
    explained = list(decided.explain())
    assert [one.time for one in explained] == delete
    assert all(one.reason for one in explained)
    assert all(one.reason for one in decided.keep)


@promise(with_sets())
def reasons_are_true(plan: Planner, policy: Policy, times: Times) -> None:
    """What a deletion is put down to is so, and the backup that it names stands in the slot that it names."""
    decided = plan(times, policy)
    for gone in decided.explain():
        named = next(time for time in times if stamp_of(time) in gone.reason)
        assert named > gone.time
        if gone.rule.name == Rule.TIERS_FULL.name:
            assert named == decided.keep[-1].time
            continue
        mates = [
            time for time in times if slot(time, policy.tiers[0].every, policy.phase) == slot_of_first(gone, policy)
        ]
        if gone.rule.name == Rule.SAME_SLOT.name:
            assert named == max(mates)
        else:
            assert gone.time == max(mates), f"{gone} is displaced in its slot, not by {gone.rule}"
            assert named in decided.kept
            tier = next(tier for tier in policy.tiers if gone.reason.startswith(f"{tier.name} keeps"))
            assert slot(named, tier.every, policy.phase) == slot(gone.time, tier.every, policy.phase)


def slot_of_first(gone: Deleted, policy: Policy) -> int:
    return slot(gone.time, policy.tiers[0].every, policy.phase)


@promise(with_sets(st.randoms(use_true_random=False)))
def order_and_repetition_do_not_matter(plan: Planner, policy: Policy, times: Times, chance: Any) -> None:
    shuffled = sorted(times) + sorted(times)[::2]
    chance.shuffle(shuffled)
    assert plan(shuffled, policy) == plan(sorted(times), policy)


@promise(with_sets(st.integers(-50, 50)))
def shifting_by_the_coarsest_width_shifts_the_plan(plan: Planner, policy: Policy, times: Times, count: int) -> None:
    shift = count * policy.tiers[-1].every
    shifted = kept(plan, [time + shift for time in times], policy)
    assert shifted == {time + shift for time in kept(plan, times, policy)}


@promise(with_sets(st.randoms(use_true_random=False), st.sampled_from([0.0, 0.1, 0.5, 1.0])))
def online_equals_offline(plan: Planner, policy: Policy, times: Times, chance: Any, often: float) -> None:
    """Pruning now and then, in whatever order the backups arrive, ends where one prune at the end does."""
    arriving, disk = sorted(times), set[datetime]()
    chance.shuffle(arriving)
    for time in arriving:
        disk.add(time)
        if chance.random() < often:
            disk = set(kept(plan, disk, policy))
    assert kept(plan, disk, policy) == kept(plan, times, policy)


@promise(with_sets())
def what_is_once_deleted_is_never_wanted_again(plan: Planner, policy: Policy, times: Times) -> None:
    """Monotone: as backups come in, the plan over all history never asks for one that it has let go."""
    arrived: list[datetime] = []
    gone: set[datetime] = set()
    for time in sorted(times):
        arrived.append(time)
        decided = plan(arrived, policy)
        assert not gone & decided.kept
        gone |= set(decided.delete)


@promise(with_sets(sets=2))
def the_last_backup_before_an_outage_survives(plan: Planner, policy: Policy, before: Times, after: Times) -> None:
    """However long the outage: it is kept until the last tier has filled its places with what came after."""
    if not before or not after:
        return
    width, phase = policy.tiers[-1].every, policy.phase
    last = max(before)
    shift = (last - min(after)) // width * width + 2 * width
    later = frozenset(time + shift for time in after)
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    slots = {(time - epoch - phase) // width for time in later}
    if len(slots) < policy.tiers[-1].keep:
        assert last in kept(plan, before | later, policy)


@promise(with_sets())
def the_oldest_stays_until_the_last_tier_is_full(plan: Planner, policy: Policy, times: Times) -> None:
    decided = plan(times, policy)
    last = policy.tiers[-1]
    filled = sum(one.tier == last.name and one.place.value == "mark" for one in decided.keep)
    if times and filled < last.keep:
        assert min(times) in decided.kept
    assert sum(one.tier == "oldest" for one in decided.keep) <= (filled < last.keep)


@promise(with_sets())
def tiers_never_exceed_their_places_and_never_run_backwards(plan: Planner, policy: Policy, times: Times) -> None:
    decided = plan(times, policy)
    order = {tier.name: index for index, tier in enumerate(policy.tiers)} | {"oldest": len(policy.tiers)}
    indices = [order[one.tier] for one in decided.keep]
    assert indices == sorted(indices), "an older backup is in a finer tier than a newer one"
    for tier, quota in zip(policy.tiers, policy.quotas(), strict=True):
        own = [one for one in decided.keep if one.tier == tier.name]
        assert sum(one.place.value == "mark" for one in own) <= quota.marks
        assert sum(one.place.value == "transit" for one in own) <= quota.transit


@promise(with_sets())
def two_marks_are_never_in_one_slot(plan: Planner, policy: Policy, times: Times) -> None:
    decided = plan(times, policy)
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    for tier in policy.tiers:
        marks = [one.time for one in decided.keep if one.tier == tier.name and one.place.value == "mark"]
        for newer, older in pairwise(marks):
            assert (newer - epoch - policy.phase) // tier.every != (older - epoch - policy.phase) // tier.every


STARTS = st.tuples(st.integers(0, 1439), st.integers(0, 6), st.integers(0, 1000), st.sampled_from([0, 1, 10]))
"""A schedule's minute of the day, its day of the week, a seed for late starts, and how many minutes late they are."""


def _runs(
    plan: Planner, policy: Policy, start: tuple[int, int, int, int], days: int
) -> Iterator[tuple[int, Plan, timedelta]]:
    """Back up every two hours and prune after each; yield the day, the plan and the most that a start is late."""
    minute, weekday, seed, late = start
    chance, jitter, hour = random.Random(seed), timedelta(minutes=late), timedelta(hours=1)
    policy = Policy(policy.tiers, timedelta(minutes=minute) + policy.phase)
    begin = BASE + timedelta(days=weekday, minutes=minute)
    disk: list[datetime] = []
    for run in range(12 * days):
        disk.append(begin + 2 * run * hour + chance.random() * jitter)
        decided = plan(disk, policy)
        disk = [one.time for one in decided.keep]
        yield run // 12, decided, jitter


def _counts(decided: Plan) -> list[int]:
    return [sum(one.tier == tier.name for one in decided.keep) for tier in decided.policy.tiers]


@promise(STARTS)
def the_steady_state_is_6_4_5(plan: Planner, *start: int) -> None:
    """Counted by tier, at every run of a week; gaps and reach as promised, one deletion a run."""
    hour = timedelta(hours=1)
    widths = {"Hourly": 2 * hour, "12-Hourly": 12 * hour, "Daily": 24 * hour}
    for day, decided, jitter in _runs(plan, Policy.default(), start, 15):  # type: ignore[arg-type]
        if day < 8:
            continue
        assert _counts(decided) == [6, 4, 5]
        assert len(decided.delete) == 1
        for newer, older in pairwise(decided.keep):
            assert newer.time - older.time <= widths[older.tier] + jitter
        reach = decided.keep[0].time - decided.keep[-1].time
        assert 144 * hour - jitter <= reach <= 166 * hour + jitter


@promise(STARTS)
def the_steady_state_of_four_tiers_is_full(plan: Planner, *start: int) -> None:
    """Grandfather, father, son and grandson: every place of every tier is taken at every run."""
    hour, day = timedelta(hours=1), timedelta(days=1)
    tiers = (
        Tier("Hourly", 2 * hour, 6, 12 * hour),
        Tier("12-Hourly", 12 * hour, 4, 48 * hour),
        Tier("Daily", day, 7, 8 * day),
        Tier("Weekly", 7 * day, 3),
    )
    widths = {tier.name: tier.every for tier in tiers}
    for number, decided, jitter in _runs(plan, Policy(tiers), start, 44):  # type: ignore[arg-type]
        if number < 37:
            continue
        assert _counts(decided) == [6, 4, 7, 3]
        for newer, older in pairwise(decided.keep):
            assert newer.time - older.time <= widths[older.tier] + jitter
