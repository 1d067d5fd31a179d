"""`choose --drill` and `drill`: what is drilled, what is recorded, and which pins come and go."""

import errno
import json
import os
import shutil
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import pytest

from tests.faults.injector import ALWAYS, Call, Fault, Injector, once
from tests.retention.world import DAY, HOUR, T0, Ran, World, retention_here

NOW = T0 + 10 * DAY


@pytest.fixture
def world(tmp_path: Path) -> World:
    """One database with three backups."""
    world = World(tmp_path)
    world.configure("app")
    for hours in (2, 4, 6):
        world.publish("app", NOW - hours * HOUR)
    return world


NEWEST, MIDDLE, OLDEST = "app-20260110-220000", "app-20260110-200000", "app-20260110-180000"


def drill(world: World, results: dict[str, str], now: datetime = NOW) -> Ran:
    """Record these states of these bases."""
    for path in world.results.iterdir():
        path.unlink()
    for base, state in results.items():
        (world.results / f"{base}.request").write_text(f"base={base}\n")
        if state:
            more = "" if state == "proved" else "error=a table is missing\nremedy=look into it\n"
            text = f"database=app\nbase={base}\nstate={state}\n{more}restore_seconds=7\nrows=12\n"
            (world.results / f"{base}.drill").write_text(text)
    arguments = ("--config", world.config, "--results", world.results, "--now", now)
    return retention_here("drill", *arguments, "--termination-log", world.termination_log, world.root)


def pins(world: World) -> dict[str, dict[str, object]]:
    folder = world.folder("app")
    return {path.name.removesuffix(".dump.pin"): json.loads(path.read_text()) for path in folder.glob("*.pin")}


def status(world: World, expect: int) -> dict[str, object]:
    ran = retention_here("status", "--format", "json", "--now", NOW, world.root)
    assert ran.code == expect, ran.out
    (entry,) = json.loads(ran.out)
    found: dict[str, object] = entry
    return found


def test_newest_and_one_more_are_chosen(world: World) -> None:
    world.configure("empty")
    world.publish("app", NOW + HOUR)
    seen = set()
    for _ in range(40):
        ran = retention_here("choose", "--drill", world.config, "--requests", world.results, "--now", NOW, world.root)
        assert ran.code == 0, ran.err
        assert "empty: there is no backup yet" in ran.out
        bases = {path.stem for path in world.results.iterdir()}
        assert len(bases) == 2
        assert NEWEST in bases
        seen |= bases
        for path in world.results.iterdir():
            path.unlink()
    assert seen == {NEWEST, MIDDLE, OLDEST}, "chance never chose one of them"


def test_newest_proved_backup_is_pinned_and_the_one_before_let_go(world: World) -> None:
    assert drill(world, {MIDDLE: "proved", OLDEST: "proved"}).code == 0
    assert list(pins(world)) == [MIDDLE]
    assert drill(world, {NEWEST: "proved"}).code == 0
    assert list(pins(world)) == [NEWEST]
    assert pins(world)[NEWEST]["by"] == "drill"
    assert json.loads((world.folder("app") / f"{NEWEST}.drill.json").read_text())["rows"] == 12


def test_failed_drill_leaves_the_last_proved_backup_pinned_through_every_prune(world: World) -> None:
    assert drill(world, {OLDEST: "proved"}).code == 0
    policy = world.top / "policy.json"
    policy.write_text('{"phase": 0, "tiers": [{"name": "One", "every": "1h", "keep": 1}]}')
    later = NOW + 30 * DAY
    assert retention_here("prune", "--policy", policy, "--now", later, world.root).code == 0
    assert world.archives("app") == {f"{NEWEST}.dump", f"{OLDEST}.dump"}
    ran = drill(world, {NEWEST: "failed"}, later)
    assert ran.code == 1
    assert "a table is missing" in ran.out
    assert list(pins(world)) == [OLDEST]
    assert retention_here("prune", "--policy", policy, "--now", later, world.root).code == 0
    assert f"{OLDEST}.dump" in world.archives("app")


def test_pin_of_a_person_outlives_that_of_a_drill(world: World) -> None:
    person = {"reason": "audit", "expires": "2026-03-01T00:00:00+00:00"}
    world.pin(MIDDLE, json.dumps(person))
    world.pin(OLDEST)
    drill(world, {MIDDLE: "proved"})
    assert pins(world)[MIDDLE]["expires"] is None
    drill(world, {NEWEST: "proved"})
    assert pins(world)[MIDDLE] == person
    assert pins(world)[OLDEST] == {"reason": "audit"}


def test_drill_by_a_clock_that_is_ahead_costs_no_pin_that_has_not_ended(world: World) -> None:
    person = {"reason": "audit", "expires": "2026-01-12T00:00:00+00:00"}
    world.pin(MIDDLE, json.dumps(person))
    drill(world, {MIDDLE: "proved"})
    drill(world, {NEWEST: "proved"}, NOW + 365 * DAY)
    assert pins(world)[MIDDLE] == person


@pytest.mark.parametrize("state", ["failed", "unproved", "not-reached", ""])
def test_drill_that_proves_nothing_is_a_failure_in_status_and_exit_code(world: World, state: str) -> None:
    ran = drill(world, {NEWEST: state})
    assert ran.code == 1
    entry = status(world, 1)
    assert entry["result"] == "failed"
    text = retention_here("status", "--now", NOW, world.root).out
    assert "the drill failed" in text
    assert "1 of 1 drills failed" in world.termination_log.read_text()
    assert pins(world) == {}
    assert f"{NEWEST}.dump" in world.archives("app"), "nothing was said about the archive itself"
    assert drill(world, {NEWEST: "proved"}).code == 0
    assert status(world, 0)["drill"] is not None


def test_archive_pruned_before_its_turn_is_no_failure(world: World) -> None:
    assert drill(world, {"app-20260109-000000": "gone", NEWEST: "proved"}).code == 0
    assert not (world.folder("app") / "app-20260109-000000.drill.json").exists(), "a sidecar without an archive"


def test_damage_is_looked_at_again_before_an_archive_is_called_bad(world: World) -> None:
    archive = world.folder("app") / f"{NEWEST}.dump"
    archive.write_bytes(archive.read_bytes()[:-1] + b"?")
    ran = drill(world, {NEWEST: "damaged", MIDDLE: "damaged"})
    assert ran.code == 1
    assert f"{NEWEST}.dump.bad" in world.names("app")
    assert f"{MIDDLE}.dump" in world.names("app"), "it reads well: not lost to one bad reading"
    assert "was wrong in the drill and is right now" in ran.out


def test_backup_run_keeps_what_a_drill_said(world: World) -> None:
    drill(world, {NEWEST: "proved"})
    world.stage("app", NOW)
    assert world.finish(NOW).code == 0
    drilled = world.status()["app"]["drill"]
    assert isinstance(drilled, dict)
    assert drilled["proved"] == f"{NEWEST}.dump"


def choose(world: World, base: str, now: datetime) -> Ran:
    options = ("--database", "app", "--backup", base, "--requests", world.results, "--now", now)
    return retention_here("choose", *options, world.root)


def test_drill_leaves_a_restored_archive_its_day(world: World) -> None:
    """A restore begins under a drill's pin; the next drill moves that on, and prune leaves the archive for the day."""
    assert drill(world, {OLDEST: "proved"}).code == 0
    assert choose(world, OLDEST, NOW).code == 0
    assert pins(world)[OLDEST]["by"] == "drill"
    assert drill(world, {NEWEST: "proved"}, NOW + HOUR).code == 0
    assert set(pins(world)) == {NEWEST, OLDEST}
    policy = world.top / "policy.json"
    policy.write_text('{"phase": 0, "tiers": [{"name": "One", "every": "1h", "keep": 1}]}')
    for now, there in ((NOW + 2 * HOUR, True), (NOW + DAY + HOUR, False)):
        world.publish("app", now - HOUR / 2)
        assert retention_here("prune", "--policy", policy, "--now", now, world.root).code == 0
        assert (f"{OLDEST}.dump" in world.archives("app")) is there


def test_pin_of_a_person_below_that_of_a_drill_outlives_a_restore(world: World) -> None:
    person = {"reason": "audit", "expires": "2026-03-01T00:00:00+00:00"}
    world.pin(OLDEST, json.dumps(person))
    assert drill(world, {OLDEST: "proved"}).code == 0
    assert choose(world, OLDEST, NOW).code == 0
    assert drill(world, {NEWEST: "proved"}, NOW + HOUR).code == 0
    assert pins(world)[OLDEST] == person


def test_pin_for_a_time_waits_below_that_of_a_drill(world: World) -> None:
    """The proved archive stays pinned for good although someone pins it for a day."""
    assert drill(world, {OLDEST: "proved"}).code == 0
    assert retention_here("pin", "--for", "20d", "--now", NOW, world.folder("app") / f"{OLDEST}.dump").code == 0
    assert pins(world)[OLDEST]["expires"] is None
    assert drill(world, {NEWEST: "proved"}).code == 0
    assert pins(world)[OLDEST]["expires"] == (NOW + 20 * DAY).isoformat()


@pytest.mark.parametrize("written", [".dump.pin.tmp", ".drill.json.tmp"])
def test_run_leaves_a_file_alone_that_a_drill_is_writing(world: World, written: str) -> None:
    """A run begins while a drill is between writing a small file and giving it its name."""
    began = [False]

    def finish_first(call: Call) -> Fault:
        if call.operation == "rename" and call.name == f".{NEWEST}{written}":
            began[0] = True
            world.finish(NOW)
        return None

    with Injector(finish_first, world.root):
        ran = drill(world, {NEWEST: "proved"})
    assert began[0]
    assert ran.code == 0
    assert "warning" not in ran.out
    assert list(pins(world)) == [NEWEST]
    assert (world.folder("app") / f"{NEWEST}.drill.json").exists()


def test_run_removes_what_a_killed_drill_was_writing(world: World) -> None:
    names = [f".{NEWEST}.dump.pin.tmp", f".{NEWEST}.drill.json.tmp"]
    for name in names:
        (world.folder("app") / name).write_text("{")
    world.finish(NOW)
    assert not set(names) & world.names("app")


def _two(world: World) -> str:
    """Configure another database with a backup and a proved drill of it; return its base."""
    world.configure("zzz")
    return world.publish("zzz", NOW - 2 * HOUR)


def _drill_both(world: World, spoil: Callable[[], None]) -> Ran:
    for path in world.results.iterdir():
        path.unlink()
    for base in (NEWEST, NEWEST.replace("app", "zzz")):
        (world.results / f"{base}.request").write_text(f"base={base}\n")
        text = f"database={base[:3]}\nbase={base}\nstate=proved\n"
        (world.results / f"{base}.drill").write_text(text)
    spoil()
    arguments = ("--config", world.config, "--results", world.results, "--now", NOW)
    return retention_here("drill", *arguments, "--termination-log", world.termination_log, world.root)


def _link(world: World) -> None:
    shutil.rmtree(world.root / "app")
    (world.root / "app").symlink_to("zzz")


@pytest.mark.parametrize(
    ("spoil", "code"),
    [
        (lambda world: (world.results / f"{NEWEST}.drill").write_text(f"database=app\nbase={NEWEST}\nst"), 1),
        (lambda world: (world.results / f"{NEWEST}.drill").write_text(""), 1),
        (lambda world: os.truncate(world.results / f"{NEWEST}.drill", 1 << 31), 1),
        (lambda world: (world.results / "x.request").write_text(""), 0),
        (_link, 1),
    ],
    ids=["result cut off", "result empty", "result too large", "stray request", "directory a link"],
)
def test_one_database_never_spoils_the_record_of_another(
    world: World, spoil: Callable[[World], object], code: int
) -> None:
    other = _two(world)
    ran = _drill_both(world, lambda: _ignore(spoil(world)))
    assert ran.code == code, ran
    assert (world.folder("zzz") / f"{other}.drill.json").exists()
    assert (world.folder("zzz") / f"{other}.dump.pin").exists()
    drilled = {name: entry["drill"] for name, entry in world.status().items()}
    assert isinstance(drilled["zzz"], dict)
    assert drilled["zzz"]["result"] == "proved"
    if code:
        assert isinstance(drilled["app"], dict)
        assert drilled["app"]["result"] == "failed"
        assert drilled["app"]["problem"]
        assert "1 of 2 drills failed" in world.termination_log.read_text()


def _ignore(_: object) -> None:
    pass


@pytest.mark.parametrize("how", ["link", "EIO", "listing EIO"])
def test_one_database_never_spoils_the_choice_for_another_and_is_recorded_as_failed(world: World, how: str) -> None:
    other = _two(world)
    faults: dict[str, Callable[[Call], Fault]] = {
        "EIO": once("open", "app", errno.EIO, ALWAYS),
        "listing EIO": once("readdir", "app", errno.EIO, ALWAYS),
    }
    if how == "link":
        _link(world)
    options = ("--drill", world.config, "--requests", world.results, "--now", NOW)
    with Injector(faults.get(how, lambda _: None), world.root):
        ran = retention_here("choose", *options, world.root)
    assert ran.code == 0, ran
    assert "app: nothing can be selected: " in ran.out
    assert f"zzz: selected {other}.dump" in ran.out
    (world.results / f"{other}.drill").write_text(f"database=zzz\nbase={other}\nstate=proved\n")
    arguments = ("--config", world.config, "--results", world.results, "--now", NOW)
    ran = retention_here("drill", *arguments, world.root)
    assert ran.code == 1, ran
    assert "app: failed: " in ran.out
    drilled = world.status()["app"]["drill"]
    assert isinstance(drilled, dict)
    assert drilled["result"] == "failed"
    assert (world.folder("zzz") / f"{other}.drill.json").exists()


@pytest.mark.parametrize("name", [f".{NEWEST}.drill.json.tmp", f".{NEWEST}.dump.pin.tmp"])
@pytest.mark.parametrize("operation", ["create", "write", "fsync"])
def test_proof_that_cannot_be_recorded_or_pinned_is_a_failure(world: World, name: str, operation: str) -> None:
    with Injector(once(operation, name, errno.EIO, ALWAYS), world.root):
        ran = drill(world, {NEWEST: "proved"})
    assert ran.code == 1
    assert "Input/output error" in ran.out


def test_archive_that_is_newer_than_the_drilled_ones_and_not_sound_is_named(world: World) -> None:
    (world.folder("app") / f"{NEWEST}.json").write_text("")
    ran = retention_here("choose", "--drill", world.config, "--requests", world.results, "--now", NOW, world.root)
    assert ran.code == 0
    assert f"app: warning: {NEWEST}.dump is newer and cannot be drilled: damaged" in ran.out


def test_drill_says_that_a_clock_hides_backups_from_it(world: World) -> None:
    """Where it hides all of them, no drill is a failure: that there are no backups would not be true."""
    world.publish("app", NOW + HOUR)
    options = ("--drill", world.config, "--requests", world.results)
    ran = retention_here("choose", *options, "--now", NOW, world.root)
    assert ran.code == 0
    assert f"app: warning: 1 backup is dated after now ({NOW:%Y-%m-%d %H:%M}Z)" in ran.out
    for path in world.results.iterdir():
        path.unlink()
    then = NOW - 365 * DAY
    assert retention_here("choose", *options, "--now", then, world.root).code == 0
    ran = retention_here("drill", "--config", world.config, "--results", world.results, "--now", then, world.root)
    assert ran.code == 1
    assert "backups are dated after now" in ran.out
    drilled = world.status()["app"]["drill"]
    assert isinstance(drilled, dict)
    assert drilled["result"] == "failed"
    assert "check the clocks" in drilled["remedy"]
