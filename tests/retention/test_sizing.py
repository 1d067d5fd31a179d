"""Whether the volume is large enough, said before it is full."""

import json
import math
import os
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from retention import Policy
from retention.pod import status
from retention.rule import sizing
from retention.rule.backup import Backup
from retention.rule.policy import Limits
from retention.volume.folder import Folder
from tests.retention.world import HOUR, T0, World

NOW = datetime(2026, 1, 31, tzinfo=UTC)
DEFAULT = Policy.default()


def holding(*sizes: int, limits: Limits | None = None) -> sizing.Holding:
    """A database with archives of these sizes, newest first, an hour apart."""
    backups = [Backup(f"app-{n}", NOW - n * HOUR, size, "", None, "", None) for n, size in enumerate(sizes)]
    found = sizing.Holding.of(backups, DEFAULT, limits or Limits(), NOW)
    assert found is not None
    return found


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
    found = sizing.assess(10_000, 1_000, [holding(100, 50, 50), holding(10)])
    assert found == sizing.Sizing(10_000, 1_000, 1_000 - 200 - 10 + 1_600 + 160)


def test_a_database_without_a_backup_counts_as_it_is() -> None:
    assert sizing.Holding.of([], DEFAULT, Limits(), NOW) is None
    ahead = Backup("app-1", NOW + HOUR, 50, "", None, "", None)
    assert sizing.Holding.of([ahead], DEFAULT, Limits(), NOW) is None, "a backup of tomorrow says nothing about today"
    assert sizing.assess(10_000, 1_000, []) == sizing.Sizing(10_000, 1_000, 1_000)


def test_growth_is_that_of_full_tiers_and_a_day_says_nothing() -> None:
    day = 86_400.0
    assert sizing.growth([(0, 2_000), (day, 1_000)], 30_000) == pytest.approx(15 * 1_000 / day)
    assert sizing.growth([(0, 1_000), (day, 2_000)], 30_000) == pytest.approx(-30 * 1_000 / day)
    assert sizing.growth([(0, 2_000), (day - 1, 1_000)], 30_000) is None
    assert sizing.growth([(0, 2_000)], 30_000) is None
    assert sizing.growth([(0, 0), (day, 0)], 0) == 0
    grown = [sizing.Holding(1, 1, growth) for growth in (2.5, None, -1.0)]
    assert sizing.assess(10, 1, grown).growth == 1.5
    assert sizing.assess(10, 1, grown[1:2]).growth is None, "not known is not 0"


def test_tiers_that_were_cut_down_do_not_make_the_volume_emptier_than_it_is() -> None:
    assert sizing.assess(10_000, 1_000, [holding(1, *[50] * 18)]).full == 1_000


@pytest.mark.parametrize(("capacity", "warns"), [(2_509, True), (2_510, False)])
def test_a_volume_that_is_too_small_is_told_and_one_that_just_fits_is_not(capacity: int, warns: bool) -> None:
    found = sizing.assess(capacity, 1_010, [holding(100)])
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


def test_databases_of_other_runs_count_too_for_a_week(small: World) -> None:
    """Two CronJobs share a volume that is large enough for each of them, and too small for both."""
    at = T0 + timedelta(days=30)
    small.stage("app", at, content=os.urandom(40_000))
    assert "too small" not in small.finish(at).out
    (small.config / "app.conf").unlink()
    small.configure("other")
    small.stage("other", at + HOUR, content=os.urandom(40_000))
    assert "too small" in small.finish(at + HOUR).out
    volume = json.loads((small.root / "status.json").read_text())["volume"]
    assert volume["full_bytes"] > 2 * 16 * 40_000
    assert volume["bytes"] == 2**20
    assert volume["growth_bytes_per_second"] is None
    late = at + timedelta(days=8)
    small.stage("other", late, content=os.urandom(40_000))
    assert "too small" not in small.finish(late).out, "nobody backs up the other one any more"


def test_drill_keeps_what_the_last_run_wrote_about_the_volume(world: World) -> None:
    world.stage("app", T0)
    world.finish(T0)
    before = json.loads((world.root / "status.json").read_text())["volume"]
    assert before["used_bytes"] > 2000
    with Folder.open(world.root) as root:
        assert status.write_drills(root, {"app": {"result": "proved"}}, now=T0, holder="drill") == ""
        after = json.loads((world.root / "status.json").read_text())
        assert after["volume"] == before
        assert after["databases"]["app"]["drill"] == {"result": "proved"}


@pytest.mark.parametrize("volume", ["3", "[1]", '{"bytes": "x"}', "null"])
@pytest.mark.parametrize("field", ["true", "-1", "1e400", '"9"', "[]", "12345678901234567890123", "null"])
def test_hostile_numbers_of_status_json_fail_no_run(world: World, volume: str, field: str) -> None:
    entry = f'{{"last_run": "{T0.isoformat()}", "bytes": 1, "full_bytes": {field}, "growth_bytes_per_second": {field}}}'
    (world.root / "status.json").write_text(f'{{"volume": {volume}, "databases": {{"other": {entry}}}}}')
    world.stage("app", T0)
    ran = world.finish(T0)
    assert ran.code == 0, ran
    assert "too small" not in ran.out
    written = json.loads((world.root / "status.json").read_text())["volume"]
    assert all(math.isfinite(number) for number in written.values() if number is not None)
    assert written["full_bytes"] < 10**15


def test_the_machine_reads_it_too(small: World) -> None:
    small.stage("app", T0, content=b"x" * 20_000)
    found = small.finish(T0, "--format", "json").json()
    assert isinstance(found, dict)
    assert found["volume"]["capacity"] == 2**20
    reserved = (small.root / ".reserve").stat().st_size
    assert 20_000 < found["volume"]["used"] - reserved < 100_000
    assert 16 * 20_000 <= found["volume"]["full"] - reserved < 400_000
