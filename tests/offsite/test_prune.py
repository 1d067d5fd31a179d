"""Copies are kept by the same rule; nothing is deleted there because it is missing here, or when a clock is wrong."""

from __future__ import annotations

import json
import os
import random
import shutil

import pytest

from retention.errors import ExitCode
from retention.names import Grammar, base_of
from retention.rule.plan import plan
from tests.offsite.world import NOW, REMOTE_POLICY, World, publish_days
from tests.retention.world import DAY, HOUR


def few(world: World, keep: int = 2) -> None:
    """A policy that keeps the newest of each of the last days."""
    (world.config / "policy.json").write_text(json.dumps({"tiers": [{"name": "Few", "every": "24h", "keep": keep}]}))


def test_deletion_is_off_unless_the_values_say_so(world: World) -> None:
    publish_days(world, "app", 6)
    assert world.copy().code == ExitCode.DONE
    few(world)
    world.volume.publish("app", NOW)
    assert world.copy().code == ExitCode.DONE
    assert len(world.copied("app")) == 7


def test_a_simulated_month_keeps_what_the_rule_keeps_and_nothing_else(world: World) -> None:
    world.configure(prune="true", readback_every="7d", copy="newest")
    chance, begin = random.Random(1), NOW - 40 * DAY
    kept: set[str] = set()
    for hour in range(0, 32 * 24, 22):
        now = begin + hour * HOUR
        time = now - chance.randrange(60) * HOUR / 60
        world.volume.publish("app", time.replace(microsecond=0), content=os.urandom(500))
        # As the volume's own policy would: it keeps the last five.
        archives = sorted((world.volume.root / "app").glob("*.dump"))
        for old in archives[:-5]:
            base = old.name.removesuffix(".dump")
            for path in (world.volume.root / "app").glob(f"{base}.*"):
                path.unlink()
            with (world.volume.root / "app" / "deletions.jsonl").open("a") as log:
                log.write(json.dumps({"event": "deleted", "name": old.name}) + "\n")
        ran = world.copy(now=now)
        assert ran.code == ExitCode.DONE, ran
        there = set(world.markers("app"))
        times = {one.time for one in (Grammar("app").parse(f"{base}.dump") for base in there | {kept_of(world)}) if one}
        assert {base_of("app", time) for time in plan(times, REMOTE_POLICY).kept} == there, hour
        kept = there
    assert world.copied("app") == kept
    assert not world.leftovers("app")
    assert 8 <= len(kept) <= REMOTE_POLICY.most


def kept_of(world: World) -> str:
    return max(path.name for path in (world.volume.root / "app").glob("*.dump")).removesuffix(".dump")


@pytest.mark.parametrize("loss", ["all databases", "one database", "the newest", "all but the newest", "a folder"])
def test_a_loss_on_the_volume_is_reported_and_nothing_is_deleted(world: World, loss: str) -> None:
    bases = publish_days(world, "app", 7)
    publish_days(world, "zoo", 7)
    assert world.copy().code == ExitCode.DONE
    before = world.copied("app")
    few(world)
    world.configure(prune="true", allow_large_prune="true", allow_shrunk="true")
    root = world.volume.root
    if loss == "all databases":
        shutil.rmtree(root / "app")
        shutil.rmtree(root / "zoo")
    elif loss in ("one database", "a folder"):
        shutil.rmtree(root / "app")
    else:
        for base in bases[:1] if loss == "the newest" else bases[1:]:
            for path in (root / "app").glob(f"{base}.*"):
                path.unlink()
    if loss == "a folder":
        (root / "app").mkdir()
    world.volume.publish("zoo", NOW)
    if loss != "one database" and loss != "all databases":
        world.volume.publish("app", NOW)
    ran = world.copy()
    assert "the volume has lost" in ran.out
    assert "offsite fetch" in ran.out
    assert before <= world.copied("app")
    if loss in ("one database", "a folder"):
        assert len(world.copied("zoo")) == 2, "the loss of one database stops the policy of another"
    # It is accepted: then the policy goes on.
    world.volume.publish("app", NOW + DAY)
    world.configure(accept_loss_until=NOW.date().isoformat())
    assert "the volume has lost" not in world.copy(now=NOW + DAY + HOUR).out
    assert len(world.copied("app")) == 2


def test_what_prune_has_deleted_from_the_volume_is_no_loss(world: World) -> None:
    bases = publish_days(world, "app", 7)
    assert world.copy().code == ExitCode.DONE
    world.volume.configure("app")
    (world.volume.config / "policy.json").write_text(json.dumps({"tiers": [{"name": "A", "every": "24h", "keep": 1}]}))
    world.volume.stage("app", NOW)
    assert world.volume.finish(NOW, "--allow-large-prune").code == ExitCode.DONE
    assert len(world.volume.archives("app")) == 1
    ran = world.copy()
    assert ran.code == ExitCode.DONE
    assert "lost" not in ran.out
    assert set(bases) < world.copied("app")


def test_nothing_is_deleted_without_something_new_that_was_verified(world: World) -> None:
    publish_days(world, "app", 6)
    assert world.copy().code == ExitCode.DONE
    few(world)
    world.configure(prune="true", allow_large_prune="true")
    assert world.copy().code == ExitCode.DONE
    assert len(world.copied("app")) == 6
    world.volume.publish("app", NOW)
    assert world.copy().code == ExitCode.DONE
    assert len(world.copied("app")) == 2


def test_nothing_is_deleted_when_a_copy_has_failed(world: World) -> None:
    publish_days(world, "app", 6)
    assert world.copy().code == ExitCode.DONE
    few(world)
    world.configure(prune="true", allow_large_prune="true")
    world.volume.publish("app", NOW - HOUR / 2)
    base = world.volume.publish("app", NOW)
    (world.volume.root / "app" / f"{base}.dump").write_bytes(bytes(2000))
    assert world.copy().code == ExitCode.FAILED
    assert len(world.copied("app")) >= 6


def test_a_large_prune_is_refused_until_it_is_allowed(world: World) -> None:
    publish_days(world, "app", 7)
    assert world.copy().code == ExitCode.DONE
    few(world)
    world.configure(prune="true")
    world.volume.publish("app", NOW)
    ran = world.copy()
    assert ran.code == ExitCode.REFUSED
    assert "would be deleted at once" in world.message()
    assert len(world.copied("app")) == 8
    world.configure(allow_large_prune="true")
    world.volume.publish("app", NOW + DAY)
    assert world.copy(now=NOW + DAY).code == ExitCode.DONE
    assert len(world.copied("app")) == 2


@pytest.mark.parametrize("shrunk", ["bytes", "tables"])
def test_dumps_of_an_emptied_database_never_push_out_the_full_ones(world: World, shrunk: str) -> None:
    full = publish_days(world, "app", 6, size=5000)
    assert world.copy().code == ExitCode.DONE
    few(world)
    world.configure(prune="true", allow_large_prune="true")
    for hour in range(0, 54, 9):
        now = NOW + hour * HOUR
        if shrunk == "bytes":
            world.volume.publish("app", now, content=os.urandom(2000))
        else:
            world.volume.publish("app", now, content=os.urandom(5000), tables=3)
        ran = world.copy(now=now)
        assert "look whether data was lost" in ran.out
    assert set(full) <= set(world.markers("app"))
    world.configure(allow_shrunk="true")
    world.volume.publish("app", NOW + 49 * HOUR, content=os.urandom(2000), tables=3)
    assert world.copy(now=NOW + 50 * HOUR).code == ExitCode.DONE
    assert not set(full) & world.copied("app")


def test_a_backup_dated_after_now_is_neither_copied_nor_lets_anything_be_deleted(world: World) -> None:
    publish_days(world, "app", 5)
    future = world.volume.publish("app", NOW + 365 * DAY)
    assert world.copy().code == ExitCode.DONE
    assert future not in world.copied("app")
    # A clock was ahead for one run: its copy is there.
    assert world.copy(now=NOW + 366 * DAY).code == ExitCode.DONE
    before = world.copied("app")
    assert future in before
    few(world)
    world.configure(prune="true", allow_large_prune="true")
    world.volume.publish("app", NOW)
    ran = world.copy()
    assert "dated after now" in ran.out
    assert before <= world.copied("app")
