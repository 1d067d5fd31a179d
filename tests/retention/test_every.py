"""All databases of a cluster share an entry of the configuration: rules, drills and reports of each of them."""

import cProfile
import json
import pstats
import shutil
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import pytest

from tests.retention.world import DAY, HOUR, T0, World, retention_here

NOW = T0 + 10 * DAY
DATABASES = ("shared.app", "shared.my-shop.0123456789abcdef", "shared.wiki")
STAMP = "20260110-220000"


@pytest.fixture
def world(tmp_path: Path) -> World:
    """Three databases of one entry, and one listed database whose name begins like the entry's."""
    world = World(tmp_path)
    world.configure("shared")
    with (world.config / "shared.conf").rename(world.config / "shared.all").open("a") as file:
        file.write("exclude=postgres\nexclude=tmp_*\n")
    world.configure("shared-other")
    for name in (*DATABASES, "shared-other"):
        world.publish(name, NOW - 2 * HOUR)
    (world.config / "shared.assertions").write_text("SELECT true\n")
    for name in ("run", "scratch"):
        (tmp_path / name).mkdir()
    return world


def choose(world: World, most: int, now: datetime = NOW) -> None:
    for name in ("results", "run", "scratch"):
        shutil.rmtree(world.top / name)
        (world.top / name).mkdir()
    arguments = ("--drill", world.config, "--per-entry", most, "--requests", world.results, "--now", now, world.root)
    assert retention_here("choose", *arguments).code == 0


def drill(world: World, most: int, now: datetime = NOW, state: str = "proved") -> list[str]:
    """Run a drill with so many slots; return the databases that were drilled."""
    choose(world, most, now)
    drilled = []
    names: Sequence[tuple[str, str]] = [
        *(("shared", f"shared.slot-{n}") for n in range(1, most + 1)),
        ("shared-other", ""),
    ]
    for database, slot in names:
        folders = [word for name in ("config", "results", "run", "scratch") for word in (f"--{name}", world.top / name)]
        more = ("--slot", slot, "--scratch-size", "10Gi", "--seconds", "3600", "--now", now)
        assert retention_here("hand-over", "--database", database, *more, *folders, world.root).code == 0
        own = {name: world.top / name / "databases" / (slot or database) for name in ("results", "run", "scratch")}
        assert all(folder.is_dir() for folder in own.values()), "a mount of the container would fail"
        others = [
            path for name in own for path in (world.top / name / "databases").iterdir() if path not in own.values()
        ]
        assert others == [], "a container sees no other's folder, and no other's archives"
        for request in own["results"].glob("*.request"):
            base = request.name.removesuffix(".request")
            assert (own["scratch"] / "archives" / f"{base}.dump").exists()
            drilled.append(base[: -len(STAMP) - 1])
            assertions = own["scratch"] / "config" / f"{drilled[-1]}.assertions"
            assert assertions.exists() == bool(slot)
            (own["results"] / f"{base}.drill").write_text(f"database={drilled[-1]}\nbase={base}\nstate={state}\n")
    arguments = ("--config", world.config, "--results", world.results, "--now", now, world.root)
    done = retention_here("drill", *arguments)
    assert done.code == (0 if state == "proved" else 1), done
    return drilled


def test_drills_take_turns_until_every_database_was_drilled(world: World) -> None:
    assert drill(world, 2) == [*DATABASES[:2], "shared-other"]
    assert drill(world, 2, NOW + 7 * DAY) == [DATABASES[2], DATABASES[0], "shared-other"]
    assert drill(world, 2, NOW + 14 * DAY) == [DATABASES[1], DATABASES[0], "shared-other"]
    for name in DATABASES:
        document = json.loads((world.root / name / f"{name}-{STAMP}.drill.json").read_text())
        assert document["result"] == "proved"
        assert (world.root / name / f"{name}-{STAMP}.dump.pin").exists()


def test_a_failed_drill_of_one_of_them_fails_the_drill(world: World) -> None:
    drill(world, 1, state="failed")
    status = json.loads((world.root / "status.json").read_text())["databases"]
    assert status[DATABASES[0]]["drill"]["result"] == "failed"


def test_more_slots_than_databases_leave_the_last_ones_empty(world: World) -> None:
    assert drill(world, 5) == [*DATABASES, "shared-other"]


def test_databases_that_are_named_are_drilled_whosever_turn_it_is(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    drill(world, 2)
    monkeypatch.setenv("BACKUP_ONLY", f"{DATABASES[1]} elsewhere.app")
    assert drill(world, 2, NOW + 7 * DAY) == [DATABASES[1], "shared-other"]
    monkeypatch.delenv("BACKUP_ONLY")
    assert drill(world, 1, NOW + 14 * DAY) == [DATABASES[2], "shared-other"], "it has lost its turn"


@pytest.mark.parametrize(
    ("named", "most", "why"),
    [
        (["shared.ap"], 2, "shared.ap: there is no such database on the volume"),
        (DATABASES, 2, "shared: 3 databases are named, and a drill restores 2 at most"),
    ],
)
def test_a_drill_that_cannot_be_as_it_is_named_ends_before_it_begins(
    world: World, monkeypatch: pytest.MonkeyPatch, named: Sequence[str], most: int, why: str
) -> None:
    monkeypatch.setenv("BACKUP_ONLY", " ".join(named))
    arguments = ("--drill", world.config, "--per-entry", most, "--requests", world.results, "--now", NOW, world.root)
    done = retention_here("choose", *arguments)
    assert done.code == 2
    assert why in done.err
    assert not (world.root / "status.json").exists()
    assert list(world.results.glob("*.slot")) == []


def test_plan_takes_policy_and_limits_from_the_entry(world: World) -> None:
    (world.config / "shared.policy.json").write_text(
        json.dumps({"phase": 0, "tiers": [{"name": "Own", "every": "24h", "keep": 5}]})
    )
    for name, tier in ((DATABASES[1], "Own"), ("shared-other", "Hourly")):
        done = retention_here("plan", "--config", world.config, "--now", NOW, "--format", "json", world.root / name)
        assert done.code == 0, done
        assert tier in done.out, done.out


def work_of_a_run(top: Path, databases: int) -> int:
    """How many functions are called to check, publish, prune, plan and choose so many databases of one entry."""
    top.mkdir()
    world = World(top)
    world.configure("shared")
    template = (world.config / "shared.conf").rename(world.config / "shared.all").read_text()
    for number in range(databases):
        name = f"shared.d{number:03}"
        (world.config / f"{name}.conf").write_text(template.replace("database=shared", f"database={name}"))
        world.publish(name, NOW - DAY)
        world.stage(name, NOW - HOUR)
    profile = cProfile.Profile()
    done = profile.runcall(world.finish, NOW)
    assert done.code == 0, done
    plan = ("plan", "--config", world.config, "--now", NOW, world.root)
    assert profile.runcall(retention_here, *plan).code == 0
    requests = ("--drill", world.config, "--per-entry", 5, "--requests", world.results, "--now", NOW, world.root)
    assert profile.runcall(retention_here, "choose", *requests).code == 0
    return int(pstats.Stats(profile).total_calls)  # type: ignore[attr-defined]


def test_three_hundred_databases_are_ten_times_the_work_of_thirty(tmp_path: Path) -> None:
    few, many = work_of_a_run(tmp_path / "few", 30), work_of_a_run(tmp_path / "many", 300)
    assert many < 10.5 * few, f"{few} calls for 30, {many} for 300"
