"""`choose`: the archive that a person means, whole, and safe from prune until it is restored."""

import errno
import json
from datetime import timedelta
from pathlib import Path

import pytest

from retention.names import base_of
from retention.volume import locks
from retention.volume.folder import Folder
from tests.faults.injector import ALWAYS, Call, Fault, Injector, once
from tests.retention.world import DAY, HOUR, T0, Ran, World, retention_here

NOW = T0 + 10 * DAY


@pytest.fixture
def world(tmp_path: Path) -> World:
    """Three published backups, the oldest of them pinned."""
    world = World(tmp_path)
    for hours in (2, 4, 6):
        world.publish("app", NOW - hours * HOUR)
    world.pin("app-20260110-180000")
    return world


def choose(world: World, backup: str = "newest", database: str = "app", now: object = NOW, *more: str) -> Ran:
    arguments = ("--database", database, "--backup", backup, "--requests", world.results, "--now", now, *more)
    return retention_here("choose", *arguments, "--termination-log", world.termination_log, world.root)


def request(world: World) -> dict[str, str]:
    (path,) = world.results.glob("*.request")
    values = dict(line.split("=", 1) for line in path.read_text().splitlines())
    assert path.name == f"{values['base']}.request"
    return values


@pytest.mark.parametrize(
    ("words", "base"),
    [
        ("newest", "app-20260110-220000"),
        ("  newest ", "app-20260110-220000"),
        ("newest before 2026-01-10T22:00Z", "app-20260110-200000"),
        ("newest before 2026-01-10T23:00+02:00", "app-20260110-200000"),
        ("newest before 2026-01-10 20:00:01", "app-20260110-200000"),
        ("pinned", "app-20260110-180000"),
        ("app-20260110-200000", "app-20260110-200000"),
        ("app-20260110-200000.dump", "app-20260110-200000"),
    ],
)
def test_words_name_the_archive_that_a_person_means(world: World, words: str, base: str) -> None:
    ran = choose(world, words)
    assert ran.code == 0, ran.err
    assert request(world)["base"] == base
    assert f"{base}.dump" in ran.out


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        ("newest before 2026-01-10T18:00Z", 1, "from app-20260110-180000.dump to app-20260110-220000.dump"),
        ("newest before yesterday", 2, "not a date and time"),
        ("oldest", 1, "oldest.dump is not a backup"),
        ("app-20260109-000000", 1, "app-20260109-000000.dump is not a backup"),
        ("../app/app-20260110-200000", 1, "is not a backup"),
        ("", 1, "is not a backup"),
    ],
)
def test_words_that_name_nothing_are_one_clear_line(world: World, words: str, code: int, told: str) -> None:
    ran = choose(world, words)
    assert ran.code == code
    assert told in ran.err
    assert "newest before 2026-01-01T00:00Z" in ran.err, "the remedy says what may be asked for"
    assert ran.err.strip().removeprefix("retention: ") == world.termination_log.read_text()
    assert not list(world.results.iterdir())


def drilled(world: World, base: str, result: str) -> None:
    (world.root / "app" / f"{base}.drill.json").write_text(json.dumps({"schema": 1, "result": result}))


def test_the_newest_proved_backup_is_the_newest_that_a_drill_has_restored(world: World) -> None:
    drilled(world, "app-20260110-180000", "proved")
    drilled(world, "app-20260110-200000", "proved")
    drilled(world, "app-20260110-220000", "failed")
    assert choose(world, "proved").code == 0
    assert request(world)["base"] == "app-20260110-200000"


def test_no_proved_backup_is_an_error_that_says_how_to_get_one(world: World) -> None:
    drilled(world, "app-20260110-220000", "unproved")
    (world.root / "app" / "app-20260110-200000.drill.json").write_text("{")
    ran = choose(world, "proved")
    assert ran.code == 1
    assert "no drill has proved any of its 3 backups" in ran.err
    assert "kubectl cnpg-backup drill app" in ran.err
    assert not list(world.results.iterdir())


def test_a_newer_damaged_archive_does_not_keep_the_proved_one_from_being_taken(world: World) -> None:
    drilled(world, "app-20260110-200000", "proved")
    (world.root / "app" / "app-20260110-220000.dump").write_bytes(b"short")
    assert choose(world, "proved").code == 0
    assert request(world)["base"] == "app-20260110-200000"
    world.publish("app", NOW + HOUR)
    drilled(world, base_of("app", NOW + HOUR), "proved")
    assert choose(world, "proved").code == 0, "dated after now"


def test_unknown_database_is_told_with_those_that_are_there(world: World) -> None:
    ran = choose(world, database="ap")
    assert ran.code == 2
    assert "available: app" in ran.err


def test_backups_dated_after_now_are_never_the_newest(world: World) -> None:
    world.publish("app", NOW + HOUR)
    assert choose(world).code == 0
    assert request(world)["base"] == "app-20260110-220000"


def test_backups_that_a_clock_hides_from_newest_are_named(world: World) -> None:
    """The clock of this node may be behind: then the one that is chosen is old, and its age is wrong."""
    for hours in (1, 9000):
        world.publish("app", NOW + hours * HOUR)
    ran = choose(world)
    assert ran.code == 0
    latest = base_of("app", NOW + 9000 * HOUR)
    assert f"warning: 2 backups are dated after now (2026-01-11 00:00Z), the latest {latest}.dump" in ran.out
    assert "give its name" in ran.out
    for words in ("newest before 2030-01-01T00:00Z", "app-20260110-220000"):
        assert "warning" not in choose(world, words).out, "that is what was asked for"
    assert f"selected {latest}.dump, dated after now," in choose(world, latest).out


def test_all_backups_dated_after_now_are_no_reason_to_say_that_there_are_none(world: World) -> None:
    ran = choose(world, now=NOW - 365 * DAY)
    assert ran.code == 1
    assert "app: 3 backups are dated after now (2025-01-11 00:00Z), the latest app-20260110-220000.dump" in ran.err
    assert "check the clocks of the nodes; to restore one of them, give its name" in ran.err
    assert choose(world, "app-20260110-220000", now=NOW - 365 * DAY).code == 0


def test_request_says_what_the_metadata_say(world: World) -> None:
    path = world.folder("app") / "app-20260110-220000.json"
    facts = {"dbname": "The App", "server_version": "17.2", "database_bytes": 9, "dump_seconds": 20, "x": "\n"}
    path.write_text(json.dumps({**json.loads(path.read_text()), **facts}))
    assert choose(world).code == 0
    found = request(world)
    assert (found["dbname"], found["server_version"], found["database_bytes"]) == ("The App", "17.2", "9")
    assert found["expected_seconds"] == "60"
    assert found["bytes"] == "2000"


def test_chosen_archive_outlives_the_prunes_of_the_next_day(world: World) -> None:
    assert choose(world, "app-20260110-200000").code == 0
    policy = world.top / "policy.json"
    policy.write_text('{"phase": 0, "tiers": [{"name": "One", "every": "1h", "keep": 1}]}')
    for now, there in ((NOW + HOUR, True), (NOW + DAY + HOUR, False)):
        world.publish("app", now - HOUR / 2)
        ran = retention_here("prune", "--policy", policy, "--now", now, world.root)
        assert ran.code == 0, ran.err
        assert ("app-20260110-200000.dump" in world.archives("app")) is there


@pytest.mark.parametrize("behind", [2 * DAY, 365 * DAY])
def test_restore_by_a_clock_that_is_behind_pins_for_a_day_of_the_others(world: World, behind: timedelta) -> None:
    """The run on another node, half a day later, must not take the pin for one that has ended."""
    assert choose(world, "app-20260110-200000", now=NOW - behind).code == 0
    world.configure("app", allow_large_prune="true")
    (world.config / "policy.json").write_text('{"phase": 0, "tiers": [{"name": "One", "every": "1h", "keep": 1}]}')
    for hours in (10, 12):
        world.stage("app", NOW + hours * HOUR)
        assert world.finish(NOW + hours * HOUR).code == 0
    assert "app-20260110-200000.dump" in world.archives("app")


def test_a_look_tells_the_same_and_leaves_the_volume_as_it_is(world: World) -> None:
    ran = choose(world)
    assert ran.code == 0
    assert "sha256 is correct" in ran.out
    told = request(world)
    (world.folder("app") / "app-20260110-220000.dump.pin").unlink()
    (world.folder("app") / "app-20260110-220000.dump").write_bytes(b"x" * 2000)
    before = {
        path: path.read_bytes() for path in world.folder("app").iterdir() if path.name not in (".lock", ".pins.lock")
    }
    ran = choose(world, "newest", "app", NOW, "--look")
    assert ran.code == 0, ran.err
    assert request(world) == told
    assert {
        path: path.read_bytes() for path in world.folder("app").iterdir() if path.name not in (".lock", ".pins.lock")
    } == before
    assert "sha256 is correct" not in ran.out, "it was not read"


def test_pin_of_a_person_stays_as_it_is(world: World) -> None:
    pin = world.folder("app") / "app-20260110-180000.dump.pin"
    before = pin.read_text()
    assert choose(world, "pinned").code == 0
    assert pin.read_text() == before


def test_run_that_holds_the_lock_is_not_waited_for(world: World) -> None:
    with Folder.open(world.folder("app")) as folder, locks.locked(folder, ".lock", seconds=0, holder="a dump"):
        ran = choose(world)
    assert ran.code == 0, ran.err
    assert "warning" not in ran.out
    assert (world.folder("app") / "app-20260110-220000.dump.pin").exists()


def test_damaged_archive_is_not_restored_and_the_one_before_is_named(world: World) -> None:
    archive = world.folder("app") / "app-20260110-220000.dump"
    archive.write_bytes(archive.read_bytes()[:-1] + b"?")
    ran = choose(world)
    assert ran.code == 1
    assert "app-20260110-220000.dump is bad" in ran.err
    assert "restore the one before it, app-20260110-200000.dump" in ran.err
    assert not list(world.results.iterdir())
    assert choose(world, "app-20260110-220000").code == 1
    assert choose(world).code == 0
    assert request(world)["base"] == "app-20260110-200000"


def test_expected_time_is_that_of_the_last_drill_where_there_was_one(world: World) -> None:
    (world.folder("app") / "app-20260110-220000.drill.json").write_text('{"restore_seconds": 41}')
    assert choose(world, now=NOW + timedelta(minutes=1)).code == 0
    assert request(world)["expected_seconds"] == "41"


def test_pin_set_while_choose_waits_is_never_shortened(world: World) -> None:
    """Someone pins the archive for good after choose has looked at the directory: a day later it is still there."""
    base = "app-20260110-200000"
    later = [False]

    def pin_then_go_on(call: Call) -> Fault:
        if call.operation == "flock" and not later[0]:
            later[0] = True
            archive = world.folder("app") / f"{base}.dump"
            assert retention_here("pin", "--reason", "legal hold", "--now", NOW, archive).code == 0
        return None

    with Injector(pin_then_go_on, world.root):
        assert choose(world, base).code == 0
    assert later[0]
    pin = json.loads((world.folder("app") / f"{base}.dump.pin").read_text())
    assert (pin["reason"], pin["expires"]) == ("legal hold", None)


def test_shorter_pin_of_a_person_is_lengthened_by_a_restore_and_noted(world: World) -> None:
    base = "app-20260110-200000"
    world.pin(base, '{"reason": "audit", "expires": "2026-01-11T01:00:00+00:00"}')
    assert choose(world, base).code == 0
    pin = json.loads((world.folder("app") / f"{base}.dump.pin").read_text())
    assert pin["expires"] == (NOW + DAY).isoformat()
    assert json.loads(pin["replaced"])["reason"] == "audit"


def test_person_cannot_shorten_the_pin_of_a_running_restore_by_a_shorter_one(world: World) -> None:
    base = "app-20260110-200000"
    assert choose(world, base).code == 0
    archive = world.folder("app") / f"{base}.dump"
    assert retention_here("pin", "--for", "1h", "--now", NOW, archive).code == 0
    assert json.loads((world.folder("app") / f"{base}.dump.pin").read_text())["expires"] == (NOW + DAY).isoformat()


def test_pin_that_a_look_misses_once_is_not_overwritten(world: World) -> None:
    base = "app-20260110-180000"
    name = f"{base}.dump.pin"
    before = (world.folder("app") / name).read_text()
    # The first opening is the scan's.
    opened = [0]

    def miss(call: Call) -> Fault:
        opened[0] += call.operation == "open" and call.name == name
        return errno.ENOENT if call.operation == "open" and call.name == name and opened[0] == 2 else None

    with Injector(miss, world.root):
        assert choose(world, base).code == 0
    assert opened[0] >= 2
    assert (world.folder("app") / name).read_text() == before


def test_time_beyond_the_last_year_is_the_end_of_the_last_year(world: World) -> None:
    at = "9999-12-31T20:00:00Z"
    assert choose(world, "app-20260110-200000", "app", at).code == 0
    assert retention_here("pin", "--for", "7d", "--now", at, world.folder("app") / "app-20260110-220000.dump").code == 0


def _empty(path: Path) -> None:
    path.write_text("")


def _half(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _remove(path: Path) -> None:
    path.unlink()


@pytest.mark.parametrize("words", ["newest", "newest before 2026-01-10T23:00Z"])
@pytest.mark.parametrize("spoil", [_empty, _half, _remove])
@pytest.mark.parametrize("suffix", [".dump", ".json", ".dump.sha256"])
def test_newest_is_refused_while_a_newer_archive_is_not_sound(
    world: World, suffix: str, spoil: object, words: str
) -> None:
    newest = world.folder("app") / f"app-20260110-220000{suffix}"
    assert callable(spoil)
    spoil(newest)
    ran = choose(world, words)
    if suffix == ".dump" and spoil is _remove:
        assert ran.code == 0, "an archive that is not there is not newer"
        return
    assert ran.code == 1
    assert "app-20260110-220000.dump is newer and does not count: " in ran.err
    assert "--backup app-20260110-200000.dump" in ran.err
    assert not list(world.results.iterdir())
    assert choose(world, "app-20260110-200000.dump").code == 0
    assert choose(world, "newest before 2026-01-10T22:00Z").code == 0
    assert choose(world, "pinned").code == 0


@pytest.mark.parametrize("operation", ["stat", "open"])
def test_newest_is_refused_while_a_newer_archive_cannot_be_looked_at(world: World, operation: str) -> None:
    name = "app-20260110-220000.dump" if operation == "stat" else "app-20260110-220000.json"
    with Injector(once(operation, name, errno.EIO, ALWAYS), world.root):
        ran = choose(world)
    assert ran.code == 1
    assert "app-20260110-220000.dump is newer and does not count: damaged: " in ran.err


def test_newest_pinned_is_refused_while_a_newer_pinned_one_is_not_sound(world: World) -> None:
    world.pin("app-20260110-200000")
    _empty(world.folder("app") / "app-20260110-200000.json")
    ran = choose(world, "pinned")
    assert ran.code == 1
    assert "app-20260110-200000.dump is newer and does not count" in ran.err
    assert choose(world).code == 0, "the newest is sound"


def test_newer_archive_that_was_judged_bad_is_named(world: World) -> None:
    archive = world.folder("app") / "app-20260110-220000.dump"
    archive.rename(f"{archive}.bad")
    ran = choose(world)
    assert ran.code == 0
    assert "warning: newer, but bad and no backup any more: app-20260110-220000.dump.bad" in ran.out
