"""Runs that copy one backup of each slot, to a real store: what is copied, said, and deleted."""

from __future__ import annotations

import pytest

from retention import message
from retention.errors import ExitCode
from tests.offsite.test_prune import few
from tests.offsite.world import NOW, World
from tests.retention.world import HOUR

# rclone and a store take minutes to build, which nothing else of `make test` needs.
pytestmark = pytest.mark.long


def test_of_the_backups_of_a_day_one_is_copied_until_each_newest_one_is_wanted(world: World) -> None:
    for hour in range(0, 8, 2):
        base = world.volume.publish("app", NOW + hour * HOUR)
        ran = world.copy(now=NOW + (hour + 0.75) * HOUR)
        assert ran.code == ExitCode.DONE, ran
        assert world.copied("app") == {"app-20260131-000000"}
        (line,) = message.read(world.message()).lines
        assert (line.result, line.numbers["slot"]) == ("ok", 86400)
    world.configure(copy="newest")
    assert world.copy(now=NOW + 7 * HOUR).code == ExitCode.DONE
    assert world.copied("app") == {"app-20260131-000000", base}
    (line,) = message.read(world.message()).lines
    assert "slot" not in line.numbers


def test_a_run_that_copies_nothing_deletes_nothing(world: World) -> None:
    world.configure(copy="newest")
    for hour in (0, 2):
        world.volume.publish("app", NOW + hour * HOUR)
        assert world.copy(now=NOW + hour * HOUR).code == ExitCode.DONE
    both = world.copied("app")
    few(world, keep=1)
    world.configure(prune="true", copy="tiers")
    world.volume.publish("app", NOW + 4 * HOUR)
    assert world.copy(now=NOW + 5 * HOUR).code == ExitCode.DONE
    assert world.copied("app") == both
    # With the first copy of the next day, the tier is full.
    following = world.volume.publish("app", NOW + 24 * HOUR)
    assert world.copy(now=NOW + 25 * HOUR).code == ExitCode.DONE
    assert world.copied("app") == {following}


def test_in_place_of_a_damaged_archive_another_one_of_its_slot_is_copied(world: World) -> None:
    sound = world.volume.publish("app", NOW, content=b"x" * 3000)
    newest = world.volume.publish("app", NOW + 2 * HOUR, content=b"y" * 3000)
    (world.volume.root / "app" / f"{newest}.dump").write_bytes(b"z" * 3000)
    ran = world.copy(now=NOW + 3 * HOUR)
    assert ran.code == ExitCode.FAILED
    assert f"{newest}.dump is not what was published" in ran.out
    assert world.copied("app") == {sound}
    assert not world.leftovers("app")
    # What was damaged is not tried again: its slot has a copy.
    assert world.copy(now=NOW + 3 * HOUR).code == ExitCode.DONE


def test_a_copy_that_was_damaged_is_made_again_though_its_slot_has_newer_backups(world: World) -> None:
    first = world.volume.publish("app", NOW)
    assert world.copy(now=NOW + HOUR).code == ExitCode.DONE
    for hour in (2, 4):
        world.volume.publish("app", NOW + hour * HOUR)
    marker = world.markers("app")[first]
    world.objects("app")[marker.archive.name].write_bytes(b"short")
    ran = world.copy(now=NOW + 5 * HOUR)
    assert f"copied {first}.dump" in ran.out, ran
    assert ran.code == ExitCode.DONE, ran
