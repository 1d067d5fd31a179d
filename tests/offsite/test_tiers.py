"""What is copied: one backup of each slot of the first tier, or each newest one; over months of runs and outages."""

from __future__ import annotations

import functools
import random
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from offsite.rule import names, plan
from offsite.rule.copies import Copies, Copy
from retention.names import base_of
from retention.rule.backup import Backup, Finding, Pin
from retention.rule.plan import plan as rule
from retention.rule.plan import slot_of
from retention.rule.policy import Limits, Policy, Tier
from tests.offsite.test_rule import marker_of
from tests.offsite.world import NOW, REMOTE_POLICY
from tests.retention.world import DAY, HOUR

MINUTE = timedelta(minutes=1)
NO_LIMITS = Limits(large_percent=99)


@functools.cache
def backup(time: datetime) -> Backup:
    return Backup(base_of("app", time), time, 1000, "a" * 64, 3, "", None)


@functools.cache
def copy_of(time: datetime) -> Copy:
    base = base_of("app", time)
    return Copy(base, time, marker_of(base), None, ())


def copies_of(times: Iterable[datetime], damaged: Iterable[datetime] = ()) -> Copies:
    """What is at the destination, newest first."""
    found = [copy_of(time) for time in times]
    found.sort(key=lambda copy: copy.time, reverse=True)
    broken = [names.object_name(base_of("app", time), "0a1b2c3d", names.Part.MARKER) for time in damaged]
    return Copies("app", found, damaged=[Finding(name, "it is short") for name in broken])


def due(
    local: Iterable[datetime], there: Iterable[datetime] = (), *, now: datetime = NOW, newest: bool = False, **more: Any
) -> list[datetime]:
    policy, damaged = more.get("policy", REMOTE_POLICY), more.get("damaged", ())
    here = [backup(time) for time in local]
    wanted = plan.to_upload("app", here, copies_of(there, damaged), policy, now=now, newest=newest)
    return [one.time for one in wanted]


# One day. The slots of the policy begin at 23:45.

MIDNIGHT = NOW


def test_of_twelve_backups_a_day_a_daily_tier_copies_the_first_one() -> None:
    there: list[datetime] = [MIDNIGHT - 24 * HOUR]
    copied = []
    for hour in range(24):
        local = [MIDNIGHT + two * HOUR for two in range(-40, hour + 1, 2)]
        new = due(local, there, now=MIDNIGHT + hour * HOUR + 45 * MINUTE)
        copied += [(hour, time) for time in new if time >= MIDNIGHT]
        there += new
    assert copied == [(0, MIDNIGHT)]


def test_each_newest_backup_is_copied_where_that_is_wanted() -> None:
    there: list[datetime] = []
    for hour in range(0, 24, 2):
        local = [MIDNIGHT + two * HOUR for two in range(0, hour + 1, 2)]
        new = due(local, there, now=MIDNIGHT + hour * HOUR + 45 * MINUTE, newest=True)
        assert new == [MIDNIGHT + hour * HOUR]
        there += new


def test_the_first_copy_is_made_at_once_whatever_the_hour() -> None:
    assert due([MIDNIGHT + 11 * HOUR], now=MIDNIGHT + 12 * HOUR) == [MIDNIGHT + 11 * HOUR]


def test_the_first_run_on_an_old_volume_copies_one_backup_of_each_slot_that_a_tier_keeps() -> None:
    local = [MIDNIGHT - number * 2 * HOUR for number in range(12 * 60)]
    wanted = due(local)
    assert wanted == sorted(wanted, reverse=True)
    assert wanted[0] == MIDNIGHT
    assert set(wanted) == set(rule(local, REMOTE_POLICY).kept)


def test_a_day_that_was_missed_is_copied_later_from_what_the_volume_has_of_it() -> None:
    two_days_ago = [MIDNIGHT - 48 * HOUR + two * HOUR for two in range(0, 24, 2)]
    there = [MIDNIGHT - 72 * HOUR]
    assert due([*two_days_ago, MIDNIGHT], there, now=MIDNIGHT + HOUR) == [MIDNIGHT, two_days_ago[-1]]


def test_tiers_as_narrow_as_the_schedule_copy_every_backup() -> None:
    two_hourly = Policy((Tier("Hourly", 2 * HOUR, 12, 24 * HOUR), Tier("Daily", DAY, 7)), timedelta(seconds=-900))
    last = Policy((Tier("Last", timedelta(seconds=1), 5, timedelta(seconds=5)), Tier("Daily", DAY, 7)))
    for policy in (two_hourly, last):
        there: list[datetime] = []
        for two in range(24):
            now = MIDNIGHT + 2 * two * HOUR
            new = due([now - 2 * HOUR, now], there, now=now, policy=policy)
            assert now in new
            there += new
        assert len(there) == 25


def test_what_a_clock_that_was_ahead_has_copied_keeps_no_slot_of_today_from_a_copy() -> None:
    ahead = MIDNIGHT + 12 * HOUR
    assert due([MIDNIGHT], [ahead], now=MIDNIGHT + HOUR) == [MIDNIGHT]


def test_a_pin_changes_nothing() -> None:
    pinned = [backup(time)._replace(pin=Pin("mine", None)) for time in (MIDNIGHT, MIDNIGHT + 2 * HOUR)]
    there = copies_of([MIDNIGHT])
    assert plan.to_upload("app", pinned, there, REMOTE_POLICY, now=MIDNIGHT + 3 * HOUR, newest=False) == []


# What was damaged there.


def test_a_damaged_copy_is_made_again_from_the_same_backup() -> None:
    local = [MIDNIGHT + two * HOUR for two in range(0, 12, 2)]
    assert due(local, damaged=[MIDNIGHT], now=MIDNIGHT + 12 * HOUR) == [MIDNIGHT]
    # Its slot has another copy, an older one.
    assert due(local, [MIDNIGHT], damaged=local[2:3], now=MIDNIGHT + 12 * HOUR) == local[2:3]
    # It is there again; what is left of the damaged one changes nothing.
    assert due(local, [MIDNIGHT], damaged=[MIDNIGHT], now=MIDNIGHT + 12 * HOUR) == []


def test_where_the_volume_no_longer_has_that_backup_the_newest_of_its_slot_is_copied() -> None:
    local = [MIDNIGHT + two * HOUR for two in range(4, 12, 2)]
    assert due(local, damaged=[MIDNIGHT], now=MIDNIGHT + 12 * HOUR) == local[-1:]


# Months.


@dataclass
class Site:
    """A volume, a destination, and what has passed."""

    own: Policy
    policy: Policy
    newest: bool
    prune: bool
    volume: set[datetime] = field(default_factory=set)
    there: set[datetime] = field(default_factory=set)
    uploads: list[datetime] = field(default_factory=list)
    seen: set[datetime] = field(default_factory=set)
    last_seen: datetime | None = None

    def back_up(self, time: datetime) -> None:
        self.volume = set(rule({*self.volume, time}, self.own).kept)

    def copy(self, now: datetime, most: int | None) -> None:
        """A run, which is ended after so many uploads."""
        self.check_age(now)
        local = [backup(time) for time in self.volume]
        wanted = plan.to_upload("app", local, copies_of(self.there), self.policy, now=now, newest=self.newest)
        new = [one.time for one in wanted][:most]
        self.there |= set(new)
        self.uploads += new
        self.seen |= set(new)
        if len(new) < len(wanted):
            return
        self.seen |= self.volume
        self.last_seen = max(self.volume, default=None)
        if self.prune and new:
            own = frozenset(base_of("app", time) for time in new)
            decided = plan.to_delete(copies_of(self.there), self.policy, now=now, own=own, limits=NO_LIMITS)
            self.there = {kept.time for kept in decided.keep}
        self.check()

    def check(self) -> None:
        """What holds after a run that was not ended."""
        kept = {slot_of(time, self.policy) for time in rule(self.there, self.policy).kept}
        assert kept == {slot_of(time, self.policy) for time in rule(self.seen, self.policy).kept}
        if self.volume:
            behind = max(self.volume) - max(self.there)
            assert behind < (timedelta(seconds=1) if self.newest else self.policy.tiers[0].every)

    def check_age(self, now: datetime) -> None:
        """How old the newest copy may be before a run: one slot, and what has passed since the last one."""
        if self.last_seen is not None:
            assert now - max(self.there) < (now - self.last_seen) + self.policy.tiers[0].every


@st.composite
def policies(draw: st.DrawFn) -> Policy:
    """Tiers as people choose them for a destination, with any phase."""
    every = draw(st.sampled_from([2 * HOUR, 6 * HOUR, 12 * HOUR, DAY, DAY, 7 * DAY]))
    phase = timedelta(minutes=draw(st.integers(-3000, 3000)))
    until, tiers = timedelta(0), []
    for number in range(draw(st.integers(1, 3))):
        every *= draw(st.sampled_from([2, 4, 7])) if number else 1
        span = draw(st.integers(1, 8))
        until += span * every
        keep = draw(st.integers(1, span if number == 0 else span + 2))
        tiers.append(Tier(f"Tier {number}", every, keep, until))
    last = tiers[-1]
    return Policy((*tiers[:-1], Tier(last.name, last.every, last.keep)), phase)


def events(chance: random.Random, days: int) -> Iterator[tuple[datetime, str, int | None]]:
    """Backups and copies, each late or missing now and then, and for days on end."""
    found: list[tuple[datetime, str, int | None]] = []
    for kind, gaps in (("back up", (30, 60, 120, 120, 300, 720, 1440)), ("copy", (60, 60, 120, 720, 1440))):
        gap, minute, out = chance.choice(gaps), chance.randrange(60), 0
        # A run each half an hour for months would take a test minutes.
        for _ in range(min(days * 1440 // gap, 500)):
            minute += gap
            out = chance.randrange(1, 9 * 1440) if chance.random() < 0.01 else max(0, out - gap)
            if out or chance.random() < 0.05:
                continue
            time = NOW + (minute + chance.choice((0, 0, 0, 1, 9))) * MINUTE
            killed = chance.randrange(4) if kind == "copy" and chance.random() < 0.05 else None
            found.append((time, kind, killed))
    yield from sorted(found, key=lambda event: (event[0], event[1]))


def live(site: Site, chance: random.Random, days: int) -> None:
    for time, kind, killed in events(chance, days):
        if kind == "back up":
            site.back_up(time)
        else:
            site.copy(time, killed)


sites = st.tuples(
    st.sampled_from([Policy.default(), Policy.from_words({"daily": 2}), Policy.from_words({"last": 3, "daily": 14})]),
    policies(),
    st.booleans(),
    st.randoms(use_true_random=False),
    st.integers(3, 120),
)


def months(own: Policy, policy: Policy, prune: bool, chance: random.Random, days: int) -> None:
    """The promises of `copy: tiers` and of `copy: newest`."""
    for newest in (False, True):
        site = Site(own, policy, newest, prune)
        live(site, chance, days)
        times = Counter(site.uploads)
        assert max(times.values(), default=0) <= 1, "a backup was copied twice"
        if not newest:
            slots = Counter(slot_of(time, policy) for time in times)
            assert max(slots.values(), default=0) <= 1, "two backups of a slot were copied"


@settings(max_examples=8, deadline=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
@given(sites)
def test_months_of_outages_leave_one_copy_of_each_slot_and_all_slots_that_the_policy_keeps(drawn: Any) -> None:
    months(*drawn)


@pytest.mark.long
@settings(max_examples=400, deadline=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
@given(sites)
def test_very_many_months_of_outages_leave_one_copy_of_each_slot(drawn: Any) -> None:
    months(*drawn)
