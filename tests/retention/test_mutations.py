"""The properties are strong enough: each deliberate breakage of the rule, and each flawed rule of old, is caught.

A breakage is a change of the rule's own source; a property has to find an example against it.
"""

import sys
import types
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

import retention.rule.plan
from retention import Place, Plan, Policy, Tier
from tests.retention.properties import PROPERTIES, Planner, search

EXAMPLES = 1500
SOURCE = Path(retention.rule.plan.__file__).read_text()
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Breakage:
    """A change of the source, and the promises of which each has to notice it."""

    old: str
    new: str
    caught_by: tuple[str, ...]
    occurs: int = 1


BREAKAGES = {
    "the walk goes from the oldest": Breakage(
        "self._ordered = ordered",
        "self._ordered = ordered[::-1]",
        ("never_more_than_the_cap_and_always_the_newest",),
    ),
    "slots ignore the phase": Breakage(
        "_EPOCH + policy.phase % policy.tiers[-1].every",
        "_EPOCH",
        ("equals_the_written_rule", "two_marks_are_never_in_one_slot"),
    ),
    "slots begin as if the finest tier were all": Breakage(
        "policy.phase % policy.tiers[-1].every",
        "policy.phase % policy.tiers[0].every",
        ("equals_the_written_rule",),
    ),
    "slots slide with the backups (greedy spacing)": Breakage(
        "time - (time - self._origin) % every",
        "time - every",
        ("pruning_earlier_changes_nothing",),
    ),
    "the first moment of a slot belongs to the slot before": Breakage(
        "bisect_left(self._ordered",
        '__import__("bisect").bisect_right(self._ordered',
        ("reasons_are_true",),
    ),
    "the first moment of a coarse slot belongs to the slot before": Breakage(
        "or rep < edge:",
        "or rep <= edge:",
        ("equals_the_written_rule",),
    ),
    "nothing is kept in transit": Breakage("transit < quota.transit", "False", ("the_steady_state_is_6_4_5",)),
    "one too many is kept in transit": Breakage(
        "transit < quota.transit",
        "transit <= quota.transit",
        ("tiers_never_exceed_their_places_and_never_run_backwards", "the_steady_state_is_6_4_5"),
    ),
    "anything is taken in transit": Breakage(
        " and rep < self._slot_start(ordered[left + 1], self._tiers[number - 1].every)",
        "",
        ("equals_the_written_rule",),
    ),
    "what is in transit fills places for marks": Breakage(
        "                transit += 1\n",
        "                transit += 1\n                marks += 1\n",
        ("equals_the_written_rule",),
    ),
    "places in transit are not freed for the next tier": Breakage(
        "        marks = transit = 0\n",
        "        marks = 0\n        transit = sum(place is Place.TRANSIT for _, _, place, _ in self.kept)\n",
        ("the_steady_state_of_four_tiers_is_full",),
    ),
    "a tier takes one mark too many": Breakage(
        "marks < quota.marks:",
        "marks <= quota.marks:",
        ("tiers_never_exceed_their_places_and_never_run_backwards",),
    ),
    "a coarse mark is not a fine one": Breakage(
        "or rep < edge:",
        "or rep < edge and (number + 1 == len(self._tiers)\n"
        "                or rep >= self._slot_start(ordered[left + 1], self._tiers[number + 1].every)):",
        ("pruning_earlier_changes_nothing", "the_steady_state_is_6_4_5"),
    ),
    "a tier never ends": Breakage(
        "while left and marks < quota.marks:",
        "while left:",
        ("never_more_than_the_cap_and_always_the_newest",),
    ),
    "the next tier does not know the slot that the walk has reached": Breakage(
        "self._slot_start(ordered[left], every) if left < len(ordered) else None",
        "None",
        ("equals_the_written_rule",),
    ),
    "the oldest is not kept": Breakage(
        "self.delete[-1] == self._ordered[0] and not self._full",
        "False",
        ("the_oldest_stays_until_the_last_tier_is_full",),
    ),
    "the oldest is kept forever": Breakage(
        " and not self._full",
        "",
        ("the_oldest_stays_until_the_last_tier_is_full",),
    ),
    "a slot is entered once and never left": Breakage(
        "edge, winner = self._slot_start(rep, every), rep",
        "edge, winner = _BEGINNING, rep",
        ("equals_the_written_rule", "the_steady_state_is_6_4_5"),
    ),
    "coarse slots are closed by fine ones": Breakage(
        "edge, winner = self._slot_start(rep, every), rep",
        "edge, winner = self._slot_start(rep, self._finest), rep",
        ("equals_the_written_rule", "the_steady_state_is_6_4_5"),
    ),
    "the newest of a slot gives way to the older": Breakage(
        "        if begin < left:\n",
        "        if begin < left:\n"
        "            if self.kept[-1][0] == rep:\n"
        "                self.kept[-1] = (self._ordered[begin], *self.kept[-1][1:])\n"
        "                self._ordered[begin] = rep\n",
        ("never_more_than_the_cap_and_always_the_newest",),
    ),
    "a backup named twice is kept and deleted": Breakage(
        "        given = list(dict(zip(given, repeat(None), strict=False)))\n",
        "        pass\n",
        ("order_and_repetition_do_not_matter",),
    ),
    "reasons slip by one": Breakage(
        "            last.count += count", "            last.count += count + 1", ("reasons_are_true",)
    ),
    "a reason names the first backup of the tier before": Breakage(
        "takewhile(lambda time: self._slot_start(time, every) == edge, older)", "older", ("reasons_are_true",)
    ),
    "what is older than the tiers is forgotten": Breakage(
        "        self.delete += times\n",
        "        self.delete += times[1:]\n",
        ("every_backup_is_decided_once_with_a_reason",),
    ),
}


def mutant(breakage: Breakage) -> Planner:
    """Return the rule with one change in its source."""
    found = SOURCE.count(breakage.old)
    assert found == breakage.occurs, f"the rule has {breakage.old!r} {found} times: adapt this list"
    module = types.ModuleType("mutant_rule")
    sys.modules[module.__name__] = module
    exec(compile(SOURCE.replace(breakage.old, breakage.new), "mutant_rule", "exec"), module.__dict__)  # noqa: S102
    planner: Planner = module.plan
    return planner


CASES = [(name, promise) for name, breakage in BREAKAGES.items() for promise in breakage.caught_by]


@pytest.mark.parametrize(("name", "promise"), CASES, ids=[f"{name} - {promise}" for name, promise in CASES])
def test_breakage_is_caught(name: str, promise: str) -> None:
    with pytest.raises((AssertionError, IndexError, ValueError)):
        search(PROPERTIES[promise], mutant(BREAKAGES[name]), EXAMPLES, shrink=False)


def _planned(times: Iterable[datetime], policy: Policy, choose: object) -> Plan:
    """Return a plan that keeps what `choose` chooses, for rules that know nothing but a set."""
    assert callable(choose)
    everything = sorted(set(times), reverse=True)
    chosen = choose(everything, policy) if everything else set()
    kept = tuple((time, 0, Place.MARK, 1) for time in everything if time in chosen)
    return Plan(policy, tuple(time for time in everything if time not in chosen), kept, ())


def newest_per_age_range(times: list[datetime], policy: Policy) -> set[datetime]:
    """The newest `keep` of each age range: nothing ever grows old enough for the next range."""
    chosen, begin = set(), timedelta(0)
    for tier in policy.tiers:
        until = tier.until or timedelta(days=36500)
        chosen |= set([time for time in times if begin <= times[0] - time < until][: tier.keep])
        begin = until
    return chosen


def greedy_spacing(times: list[datetime], policy: Policy) -> set[datetime]:
    """The next one that is at least a width older than the last: the chain depends on where it began."""
    chosen, last = {times[0]}, times[0]
    for tier in policy.tiers:
        for _ in range(tier.keep):
            last = next((time for time in times if last - time >= tier.every), last)
            chosen.add(last)
    return chosen


def sliding_grid(times: list[datetime], policy: Policy) -> set[datetime]:
    """Slots measured from the newest backup, the oldest of each: buckets move under the backups."""
    chosen, edge = set(), times[0]
    for tier in policy.tiers:
        for _ in range(tier.keep):
            bucket = [time for time in times if edge - tier.every < time <= edge]
            chosen |= set(bucket[-1:])
            edge -= tier.every
    return chosen


def oldest_of_slot(times: list[datetime], policy: Policy) -> set[datetime]:
    """The first backup of each slot: the last one before an outage is not it."""
    chosen: set[datetime] = {times[0]}
    for tier in policy.tiers:
        slots: dict[int, datetime] = {}
        for time in times:
            slots[(time - EPOCH - policy.phase) // tier.every] = time
        chosen |= set(sorted(slots.values(), reverse=True)[: tier.keep])
    return chosen


def counts_that_overlap(times: list[datetime], policy: Policy) -> set[datetime]:
    """The newest of each of the last `keep` slots for each tier by itself: tiers share their backups, so fewer stay."""
    chosen: set[datetime] = set()
    for tier in policy.tiers:
        slots: dict[int, datetime] = {}
        for time in times:
            slots.setdefault((time - EPOCH - policy.phase) // tier.every, time)
        chosen |= set(list(slots.values())[: tier.keep])
    return chosen


def windows_from_the_newest(times: list[datetime], policy: Policy) -> set[datetime]:
    """Aligned slots, cut off by the age against the newest: one run after an outage deletes nearly all."""
    chosen, begin = set(), timedelta(0)
    for tier in policy.tiers:
        until = tier.until or begin + tier.keep * tier.every
        slots: dict[int, datetime] = {}
        for time in times:
            if begin <= times[0] - time < until:
                slots.setdefault((time - EPOCH - policy.phase) // tier.every, time)
        chosen |= set(slots.values())
        begin = until
    return chosen


FLAWS = {
    newest_per_age_range: ("the_oldest_stays_until_the_last_tier_is_full", "the_steady_state_is_6_4_5"),
    greedy_spacing: ("pruning_earlier_changes_nothing", "deleting_others_never_makes_a_kept_one_unwanted"),
    sliding_grid: (
        "failed_deletions_change_nothing",
        "pruning_twice_is_pruning_once",
        "what_is_once_deleted_is_never_wanted_again",
    ),
    oldest_of_slot: ("the_last_backup_before_an_outage_survives",),
    counts_that_overlap: ("the_steady_state_is_6_4_5",),
    windows_from_the_newest: ("the_last_backup_before_an_outage_survives",),
}
FLAW_CASES = [(flaw, promise) for flaw, promises in FLAWS.items() for promise in promises]


@pytest.mark.parametrize(
    ("flaw", "promise"), FLAW_CASES, ids=[f"{flaw.__name__} - {name}" for flaw, name in FLAW_CASES]
)
def test_flawed_rule_is_caught(flaw: object, promise: str) -> None:
    with pytest.raises(AssertionError):
        search(PROPERTIES[promise], lambda times, policy: _planned(times, policy, flaw), EXAMPLES, shrink=False)


def test_unbroken_rule_passes_where_the_broken_ones_fail() -> None:
    """The loading of mutants itself breaks nothing."""
    for promise in sorted({promise for breakage in BREAKAGES.values() for promise in breakage.caught_by}):
        search(PROPERTIES[promise], mutant(Breakage("def plan(", "def plan(", ())), 5, shrink=False)


def test_every_promise_but_the_redundant_catches_something() -> None:
    """A promise that nothing breaks would be no evidence."""
    used = {promise for breakage in BREAKAGES.values() for promise in breakage.caught_by}
    used |= {promise for promises in FLAWS.values() for promise in promises}
    silent = set(PROPERTIES) - used
    assert silent <= {"online_equals_offline", "shifting_by_the_coarsest_width_shifts_the_plan"}, silent


def test_online_and_shifted_plans_catch_what_depends_on_history_or_on_the_calendar() -> None:
    with pytest.raises(AssertionError):
        search(PROPERTIES["online_equals_offline"], lambda t, p: _planned(t, p, greedy_spacing), EXAMPLES, shrink=False)
    calendar = replace(Policy.default(), tiers=(Tier("Daily", timedelta(days=1), 3),))

    def first_of_month(times: Iterable[datetime], _: Policy) -> Plan:
        months = {(time.year, time.month, time.day // 10): time for time in sorted(times)}
        return _planned(times, calendar, lambda *_: set(months.values()))

    with pytest.raises(AssertionError):
        search(PROPERTIES["shifting_by_the_coarsest_width_shifts_the_plan"], first_of_month, EXAMPLES, shrink=False)
