"""Whether the volume is large enough, said before it is full."""

import os
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from retention import Policy
from retention.rule import sizing
from retention.rule.backup import Backup
from retention.rule.policy import Limits
from tests.retention.world import HOUR, T0, World

NOW = datetime(2026, 1, 31, tzinfo=UTC)
DEFAULT = Policy.default()


def holding(*sizes: int, limits: Limits | None = None) -> sizing.Holding:
    """A database with archives of these sizes, newest first."""
    backups = [Backup(f"app-{n}", NOW - n * HOUR, size, "", None, "", None) for n, size in enumerate(sizes)]
    return sizing.Holding(backups, DEFAULT, limits or Limits())


@pytest.mark.parametrize(
    ("limits", "wanted"),
    [
        (Limits(), 15 * 100 + 100),
        (Limits(max_bytes=500), 500 + 100),
        (Limits(max_bytes=100), 3 * 100 + 100),
        (Limits(max_bytes=100, min_backups=20), 15 * 100 + 100),
        (Limits(max_bytes=10_000), 15 * 100 + 100),
    ],
)
def test_a_database_needs_its_tiers_or_its_budget_and_room_for_one_dump(limits: Limits, wanted: int) -> None:
    assert sizing.of_database(100, DEFAULT, limits) == wanted


def test_the_newest_archive_stands_for_all_and_what_else_is_there_stays() -> None:
    found = sizing.assess(10_000, 1_000, [holding(100, 50, 50), holding(10)], NOW)
    assert found == sizing.Sizing(10_000, 1_000, 1_000 - 200 - 10 + 1_600 + 160)


def test_a_database_without_a_backup_counts_as_it_is() -> None:
    assert sizing.assess(10_000, 1_000, [holding()], NOW).full == 1_000


def test_tiers_that_were_cut_down_do_not_make_the_volume_emptier_than_it_is() -> None:
    assert sizing.assess(10_000, 1_000, [holding(1, *[50] * 18)], NOW).full == 1_000


@pytest.mark.parametrize(("capacity", "warns"), [(2_509, True), (2_510, False)])
def test_a_volume_that_is_too_small_is_told_and_one_that_just_fits_is_not(capacity: int, warns: bool) -> None:
    found = sizing.assess(capacity, 1_010, [holding(100)], NOW)
    assert found.full == 1_010 - 100 + 1_600
    assert bool(found.warning()) is warns


@pytest.fixture
def small(world: World) -> Iterator[World]:
    """A volume of a mebibyte."""
    if os.geteuid() != 0:
        pytest.fail("a small volume is a tmpfs, which takes root to mount")
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m,mode=0700", "tmpfs", str(world.root)], check=True)
    yield world
    subprocess.run(["umount", str(world.root)], check=True)


def test_every_run_says_how_the_volume_stands_and_warns_while_there_is_time(small: World) -> None:
    at = T0 + timedelta(days=30)
    small.stage("app", at, content=os.urandom(20_000))
    ran = small.finish(at)
    assert ran.code == 0, ran
    assert "volume: 1.0 MiB, " in ran.out
    assert "too small" not in ran.out
    small.stage("app", at + 2 * HOUR, content=os.urandom(100_000))
    ran = small.finish(at + 2 * HOUR)
    assert ran.code == 0, ran
    assert (
        "warning: the volume will be too small: once all tiers are full a run needs about 1.8 MiB, it has 1.0"
        in ran.out
    )
    assert b"the volume will be too small" in small.termination_log.read_bytes()
    small.configure("app", max_bytes="400000")
    small.stage("app", at + 4 * HOUR, content=os.urandom(100_000))
    assert "too small" not in small.finish(at + 4 * HOUR).out


def test_the_machine_reads_it_too(small: World) -> None:
    small.stage("app", T0, content=b"x" * 20_000)
    found = small.finish(T0, "--format", "json").json()
    assert isinstance(found, dict)
    assert found["volume"]["capacity"] == 2**20
    reserved = (small.root / ".reserve").stat().st_size
    assert 20_000 < found["volume"]["used"] - reserved < 100_000
    assert 16 * 20_000 <= found["volume"]["full"] - reserved < 400_000
