"""Names, parts, markers and plans, without a destination: the judgement alone."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from offsite.rule import names, plan
from offsite.rule.copies import Copies, Entry, sort_out
from offsite.rule.marker import Marker, MarkerError, Stored, format_marker, parse_marker
from offsite.rule.names import Part
from offsite.rule.parts import MIB, parts_for
from retention.errors import ConfigError
from retention.names import base_of
from retention.rule.backup import Backup
from retention.rule.plan import plan as rule
from retention.rule.plan import slot_of
from retention.rule.policy import Limits
from tests.offsite.world import NOW, REMOTE_POLICY
from tests.retention.world import DAY, HOUR

GIB = 1024 * MIB


def marker_of(base: str, attempt: str = "0a1b2c3d", *, size: int = 1000, **changes: Any) -> Marker:
    objects = {
        part.value: Stored(names.object_name(base, attempt, part, encrypted=True), size, "a" * 64, size + 300, "b" * 64)
        for part in names.CONTENT
    }
    facts: dict[str, Any] = {
        "database": base[: -len("-20260101-000000")],
        "base": base,
        "attempt": attempt,
        "uploaded": NOW,
        "chart_version": "0.1.0",
        "encryption": "age",
        "recipients": ("age1x",),
        "part_bytes": 8 * MIB,
        "tables": 3,
        "verified": "etag",
        "objects": objects,
        **changes,
    }
    return Marker(**facts)


def copy_of(base: str, attempt: str = "0a1b2c3d", **changes: Any) -> tuple[list[Entry], dict[str, Marker | str]]:
    """The objects of a complete copy, and its marker."""
    marker = marker_of(base, attempt, **changes)
    name = names.object_name(base, attempt, Part.MARKER)
    entries = [Entry(stored.name, stored.stored_bytes, NOW) for stored in marker.objects.values()]
    return [*entries, Entry(name, 500, NOW)], {name: marker}


def copies_of(bases: set[str]) -> Copies:
    entries: list[Entry] = []
    markers: dict[str, Marker | str] = {}
    for base in bases:
        more, known = copy_of(base)
        entries += more
        markers |= known
    return sort_out("app", entries, markers)


# Names.


@pytest.mark.parametrize("part", [*names.CONTENT, Part.MARKER])
@pytest.mark.parametrize("database", ["app", "app-prod", "a.b", "x" * 63])
def test_every_name_that_we_write_is_read_back(database: str, part: Part) -> None:
    base = base_of(database, NOW)
    for encrypted in (False, True) if part in names.CONTENT else (False,):
        parsed = names.parse(database, names.object_name(base, "0a1b2c3d", part, encrypted=encrypted))
        assert parsed is not None
        assert (parsed.base, parsed.time, parsed.attempt, parsed.part) == (base, NOW, "0a1b2c3d", part)
    for name, kind in (
        (names.check_name, Part.CHECK),
        (names.damaged_name, Part.DAMAGED),
        (names.restored_name, Part.RESTORED),
    ):
        evidence = names.parse(database, name(base, "0a1b2c3d", NOW))
        assert evidence is not None
        assert (evidence.part, evidence.seen) == (kind, NOW)
        assert len(name(base, "0a1b2c3d", NOW)) <= 255


def test_a_copy_is_called_restored_only_by_what_a_drill_has_written_next_to_it() -> None:
    base = base_of("app", NOW)
    entries, markers = copy_of(base)
    checked, restored = NOW + DAY, NOW + 2 * DAY

    def found(*more: str) -> Copies:
        return sort_out("app", [*entries, *(Entry(name, 10, NOW) for name in more)], markers)

    attempt = next(marker.attempt for marker in markers.values() if not isinstance(marker, str))
    check = names.check_name(base, attempt, checked)
    assert (found().complete[0].verified, found().last_restored) == ("etag", None)
    assert found(check).complete[0].verified == "readback"
    (copy,) = found(check, names.restored_name(base, attempt, restored)).complete
    assert (copy.verified, copy.restored, copy.checked) == ("restored", restored, restored)
    other = names.restored_name(base, "ffffffff", restored)
    assert found(other).complete[0].verified == "etag", "what was written about another attempt counts for this one"
    assert names.restored_name(base, attempt, restored) in copy.names, "prune would leave it behind"


def test_a_damaged_copy_never_counts_and_its_marker_goes_first_once_there_is_another() -> None:
    base, first, second = base_of("app", NOW), "0a1b2c3d", "1a1b2c3d"
    evidence = names.damaged_name(base, first, NOW + DAY)
    entries, markers = copy_of(base, first)
    entries.append(Entry(evidence, 10, NOW))
    alone = sort_out("app", entries, markers)
    assert (alone.complete, alone.spare, alone.leftover) == ([], [], [])
    assert "it was read on 2026-" in alone.damaged[0].reason
    # Made before or after it, the other one is the one that counts.
    for uploaded in (NOW - DAY, NOW + DAY):
        more, other = copy_of(base, second, uploaded=uploaded)
        both = sort_out("app", [*entries, *more], markers | other)
        assert [copy.marker.attempt for copy in both.complete] == [second]
        assert (both.damaged, both.spare) == ([], [])
        assert both.leftover[0].path == names.object_name(base, first, Part.MARKER)
        assert {entry.path for entry in both.leftover} == {entry.path for entry in entries}


@pytest.mark.parametrize(
    "name",
    [
        "", "owner.json", "app-20260131-000000.dump", "app-20260131-000000.dump.age", "app-20260131-000000.0a1b2c3d",
        "app-20260131-000000.0A1B2C3D.dump.age", "app-20260131-000000.0a1b2c3d.dump.age.age",
        "app-20260131-000000.0a1b2c3d.dump.bad", "app-20261331-000000.0a1b2c3d.dump.age",
        "other-20260131-000000.0a1b2c3d.dump.age", "app-x-20260131-000000.0a1b2c3d.dump.age",
        "app-20260131-000000.0a1b2c3d.check-20261399-000000.json", "app-20260131-000000.0a1b2c3d.offsite.json.age",
        " app-20260131-000000.0a1b2c3d.dump.age", "app-20260131-000000.0a1b2c3d.dump.age\n",
    ],
)  # fmt: skip
def test_names_of_others_are_never_ours(name: str) -> None:
    assert names.parse("app", name) is None
    found = sort_out("app", [Entry(name, 10, NOW)], {})
    assert (found.ignored, found.leftover, found.complete) == ([name], [], [])


@pytest.mark.parametrize("path", ["app", "app/x/y", "/x", "A/x", "../x", "lost found/x", "app//x"])
def test_objects_outside_a_databases_folder_are_nobodys(path: str) -> None:
    assert names.database_of(path) is None


@pytest.mark.parametrize("text", ["", "..", "a/b", "A", "-a", "a..b", "a b", "ü", "a" * 200])
def test_a_cluster_id_cannot_lead_elsewhere(text: str) -> None:
    assert not names.is_cluster_id(text)
    assert names.is_cluster_id("default-cnpg-backup.2")


# Parts.


@pytest.mark.parametrize("most", [10_000, 1000, 100, 2, 1])
def test_any_archive_fits_into_the_parts_that_a_store_takes(most: int) -> None:
    chance = random.Random(most)
    sizes = [0, 1, 8 * MIB, 8 * MIB + 1, 100 * GIB, 1024 * GIB, 5 * 1024 * GIB]
    sizes += [chance.randrange(1 << chance.randrange(1, 43)) for _ in range(2000)]
    for size in sizes:
        try:
            parts = parts_for(size, most)
        except ConfigError:
            assert size > most * 4 * GIB
            continue
        assert -(-size // parts.size) <= most
        assert 8 * MIB <= parts.size <= 5 * GIB
        assert parts.size % MIB == 0
        assert parts.at_once == 1 or parts.at_once * parts.size <= 32 * MIB


def test_a_hundred_gigabytes_need_little_memory() -> None:
    parts = parts_for(100 * GIB)
    assert parts.size * parts.at_once <= 32 * MIB


# Markers.


def test_a_marker_is_read_as_it_was_written() -> None:
    marker = marker_of(base_of("app", NOW))
    assert parse_marker(format_marker(marker), "x") == marker
    assert parse_marker(format_marker(replace(marker, tables=None, recipients=())), "x").tables is None


CHANGES: list[Callable[[dict[str, Any]], object]] = [
    lambda one: one.pop("database"),
    lambda one: one.update(base=3),
    lambda one: one.update(uploaded="yesterday"),
    lambda one: one.update(encryption="rot13"),
    lambda one: one.update(verified="believed"),
    lambda one: one.update(tables="3"),
    lambda one: one.update(tables=True),
    lambda one: one.update(objects=[]),
    lambda one: one.update(recipients=[1]),
    lambda one: one["objects"].pop("dump"),
    lambda one: one["objects"].pop("json"),
    lambda one: one["objects"]["dump"].update(name="../../other/owner.json"),
    lambda one: one["objects"]["dump"].update(name="a\nb"),
    lambda one: one["objects"]["dump"].update(bytes=-1),
    lambda one: one["objects"]["dump"].update(stored_bytes=1.5),
    lambda one: one["objects"]["dump"].update(sha256="b" * 63),
    lambda one: one["objects"]["dump"].update(stored_sha256="B" * 64),
]


@pytest.mark.parametrize("change", CHANGES)
def test_a_marker_that_says_something_else_is_refused(change: Callable[[dict[str, Any]], object]) -> None:
    document = json.loads(format_marker(marker_of(base_of("app", NOW))))
    change(document)
    with pytest.raises(MarkerError, match="cannot be understood"):
        parse_marker(json.dumps(document).encode(), "x.offsite.json")


@pytest.mark.parametrize("content", [b"", b"null", b"[]", b"3", b"{}", b"\xff", b"[" * 100_000, b'{"schema": 1'])
def test_what_is_no_marker_is_refused(content: bytes) -> None:
    with pytest.raises(MarkerError):
        parse_marker(content, "x")


# What counts.


def test_a_copy_counts_only_if_all_its_objects_are_there_in_full() -> None:
    base = base_of("app", NOW)
    entries, markers = copy_of(base)
    assert [copy.base for copy in sort_out("app", entries, markers).complete] == [base]
    for place, entry in enumerate(entries[:3]):
        without = entries[:place] + entries[place + 1 :]
        for changed in (without, [*without, entry._replace(size=entry.size - 1)], [*without, entry._replace(size=0)]):
            found = sort_out("app", changed, markers)
            assert not found.complete
            assert len(found.damaged) == 1
            assert entry.path in found.damaged[0].reason
    no_marker = sort_out("app", entries[:3], {})
    assert not no_marker.complete
    assert {entry.path for entry in no_marker.leftover} == {entry.path for entry in entries[:3]}


@pytest.mark.parametrize("field", ["database", "base", "attempt"])
def test_a_marker_of_another_backup_makes_nothing_count(field: str) -> None:
    base, other = base_of("app", NOW), base_of("app", NOW - DAY)
    values = {"database": "zoo", "base": other, "attempt": "ffffffff"}
    entries, markers = copy_of(base)
    (name,) = markers
    changed: dict[str, Any] = {field: values[field]}
    found = sort_out("app", entries, {name: replace(marker_of(base), **changed)})
    assert not found.complete
    names_other = marker_of(base, objects=marker_of(other).objects)
    assert not sort_out("app", [*entries, *copy_of(other)[0]], {name: names_other}).complete


def test_of_two_copies_of_a_backup_the_later_one_counts_and_the_other_is_spare() -> None:
    base = base_of("app", NOW)
    first, known = copy_of(base, "00000001", uploaded=NOW)
    second, more = copy_of(base, "00000002", uploaded=NOW + HOUR)
    for entries in ([*first, *second], [*second, *first]):
        found = sort_out("app", entries, known | more)
        assert [copy.marker.attempt for copy in found.complete] == ["00000002"]
        assert [copy.marker.attempt for copy in found.spare] == ["00000001"]


# What is copied.


def backup_at(hours: int) -> Backup:
    base = base_of("app", NOW - hours * HOUR)
    return Backup(base, NOW - hours * HOUR, 1000, "a" * 64, 3, "", None)


@pytest.mark.parametrize("newest", [False, True])
@pytest.mark.parametrize("seed", range(30))
def test_a_run_that_ends_anywhere_leads_to_the_same_copies(seed: int, newest: bool) -> None:
    chance = random.Random(seed)
    local = [backup_at(hours) for hours in chance.sample(range(24 * 100), chance.randrange(1, 60))]
    there = {backup_at(hours).base for hours in chance.sample(range(24 * 100), chance.randrange(20))}
    wanted = plan.to_upload("app", local, copies_of(there), REMOTE_POLICY, now=NOW, newest=newest)
    assert not {backup.base for backup in wanted} & there
    assert [backup.time for backup in wanted] == sorted((backup.time for backup in wanted), reverse=True)
    done = chance.randrange(len(wanted) + 1)
    partly = there | {backup.base for backup in wanted[:done]}
    again = plan.to_upload("app", local, copies_of(partly), REMOTE_POLICY, now=NOW, newest=newest)
    assert {backup.base for backup in again} == {backup.base for backup in wanted[done:]}
    everything = there | {backup.base for backup in wanted}
    assert not plan.to_upload("app", local, copies_of(everything), REMOTE_POLICY, now=NOW, newest=newest)
    # And then the rule keeps the same as if all of the volume had been copied; of the same slots at least.
    all_times = {copy.time for copy in copies_of(everything).complete} | {backup.time for backup in local}
    decided = plan.to_delete(copies_of(everything), REMOTE_POLICY, now=NOW, own=frozenset(), limits=Limits())
    kept, expected = {keep.time for keep in decided.keep}, set(rule(all_times, REMOTE_POLICY).kept)
    assert kept == expected if newest else slots_of(kept) == slots_of(expected)


def slots_of(times: set[datetime]) -> set[datetime]:
    return {slot_of(time, REMOTE_POLICY) for time in times}


def test_nothing_of_the_future_is_copied_and_nothing_there_is_deleted_by_it() -> None:
    ahead = replace_time(365)
    assert plan.to_upload("app", [ahead], copies_of(set()), REMOTE_POLICY, now=NOW, newest=True) == []
    found = plan.obstacle(copies_of({ahead.base}), [], now=NOW, skew=None)
    assert found is not None
    assert "dated after now" in found.reason


def replace_time(days: int) -> Backup:
    base = base_of("app", NOW + days * DAY)
    return Backup(base, NOW + days * DAY, 1000, "a" * 64, 3, "", None)


@pytest.mark.parametrize(("skew", "stops"), [(None, False), (0, False), (299, False), (301, True), (-301, True)])
def test_clocks_may_differ_by_minutes(skew: float | None, stops: bool) -> None:
    found = plan.obstacle(copies_of({base_of("app", NOW)}), [], now=NOW + timedelta(minutes=1), skew=skew)
    assert (found is not None) is stops
