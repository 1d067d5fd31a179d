"""A file of ours that cannot be looked at or read: it alone counts as damaged, and nothing is removed because of it."""

import errno
import os
from datetime import UTC, datetime

import pytest

from retention.names import Kind, file_name
from tests.faults.injector import ALWAYS, SHORT, Call, Fault, Injector, once
from tests.retention.world import HOUR, T0, World, retention_here

NOW = T0 + 30 * 24 * HOUR
MINUTE = HOUR / 60


def _commands(world: World) -> dict[str, list[str]]:
    return {"finish": world.finish_arguments(NOW), "prune": ["prune", "--now", NOW.isoformat(), str(world.root)]}


def _full_set(world: World) -> str:
    """Publish a backup with everything that may lie next to one; return its base."""
    base = world.publish("app", NOW - 6 * HOUR)
    world.publish("app", NOW - 2 * HOUR)
    world.pin(base, '{"reason": "legal hold"}')
    (world.folder("app") / file_name(base, Kind.DRILL)).write_text('{"result": "proved"}')
    return base


@pytest.mark.parametrize("times", [1, 2, ALWAYS])
@pytest.mark.parametrize("error", [errno.ENOENT, errno.EIO, errno.ESTALE, errno.EACCES])
@pytest.mark.parametrize("command", ["finish", "prune"])
def test_archive_that_cannot_be_looked_at_keeps_every_file_next_to_it(
    world: World, command: str, error: int, times: int
) -> None:
    base = _full_set(world)
    world.stage("app", NOW - 5 * MINUTE)
    before = {name for name in world.names("app") if base in name}
    with Injector(once("stat", f"{base}.dump", error, times), world.root):
        retention_here(*_commands(world)[command])
    assert {name for name in world.names("app") if base in name} == before
    assert f"{base}.dump" in retention_here("list", "--format", "names", world.root / "app").out


@pytest.mark.parametrize("kind", [Kind.ARCHIVE, Kind.BAD, Kind.STAGED])
def test_sidecars_stay_whose_archive_the_list_of_the_directory_lacks_once(
    world: World, kind: Kind, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after a rename during the listing: the scan cannot know, `clean` looks before it removes."""
    base = _full_set(world)
    folder = world.folder("app")
    if kind is not Kind.ARCHIVE:
        (folder / f"{base}.dump").rename(folder / file_name(base, kind))
    before = {name for name in world.names("app") if base in name}
    from retention.volume.folder import Folder

    entries, lists = Folder.entries, [0]

    def without(self: Folder) -> object:
        lists[0] += 1
        skip = file_name(base, kind) if lists[0] == 2 else ""
        return (entry for entry in entries(self) if entry.name != skip)

    monkeypatch.setattr(Folder, "entries", without)
    retention_here("prune", "--now", NOW.isoformat(), folder)
    assert lists[0] > 2
    assert {name for name in world.names("app") if base in name} == before


def _spoil(world: World, name: str, how: str) -> Injector:
    """Make a file unreadable: for good on the volume, or by the errors of a bad sector and of a wrong owner."""
    path = world.folder("app") / name
    errors = {"EIO": errno.EIO, "EACCES": errno.EACCES, "ESTALE": errno.ESTALE}
    if how == "too large":
        with path.open("r+b") as file:
            file.truncate(2 << 30)
    elif how == "read EIO":
        return Injector(once("read", name, errno.EIO, ALWAYS), world.root)
    elif how in errors:
        return Injector(once("open", name, errors[how], ALWAYS), world.root)
    return Injector(lambda _: None, world.root)


SPOILED = pytest.mark.parametrize("how", ["too large", "EIO", "EACCES", "ESTALE", "read EIO"])
EITHER_SIDECAR = pytest.mark.parametrize("kind", [Kind.METADATA, Kind.SHA256])


@SPOILED
@EITHER_SIDECAR
def test_one_sidecar_that_cannot_be_read_stops_nothing_but_its_own_archive(world: World, kind: Kind, how: str) -> None:
    world.configure("other")
    world.publish("other", NOW - 2 * HOUR)
    others = [world.publish("app", NOW - hours * HOUR) for hours in (2, 4)]
    old = world.publish("app", NOW - 100 * HOUR)
    new = world.stage("app", NOW - 5 * MINUTE)
    world.stage("other", NOW - 5 * MINUTE)
    at = ("--now", NOW.isoformat())
    with _spoil(world, file_name(old, kind), how):
        ran = world.finish(NOW)
        assert ran.code == 1
        assert f"app: failed: {old}.dump does not count: damaged: {file_name(old, kind)} cannot be read" in ran.out
        assert f"published {new}.dump" in ran.out
        assert world.status()["other"]["result"] == "ok"
        listed = retention_here("list", *at, world.root / "app").out
        assert all(f"{base}.dump" in listed for base in (new, *others))
        assert f"ignored {old}.dump: damaged" in listed
        for base in (new, others[1]):
            options = ("--database", "app", "--backup", base, "--requests", world.results)
            assert retention_here("choose", *at, *options, world.root).code == 0
        ran = retention_here("verify", world.root / "app")
        assert ran.code == 1
        assert f"{old}.dump: unread" in ran.out
        assert f"{new}.dump: good" in ran.out
        assert retention_here("prune", *at, world.root / "app").code == 0
        assert retention_here("pin", world.root / "app" / f"{others[0]}.dump").code == 0
        ran = retention_here("status", *at, world.root)
        assert ran.code == 1
        assert f"bad archives: {old}.dump" in ran.out
        assert retention_here("choose", *at, "--drill", world.config, "--requests", world.results, world.root).code == 0
    assert f"{old}.dump" in world.archives("app"), "what cannot be read is never deleted"


@pytest.mark.parametrize("name", ["{base}.dump", ".{base}.dump.staged", "{base}.dump.bad"])
@pytest.mark.parametrize("error", [errno.ENOENT, errno.EIO, errno.EACCES, errno.ESTALE])
def test_archive_that_cannot_be_looked_at_fails_finish_status_and_verify(world: World, name: str, error: int) -> None:
    base = world.publish("app", NOW - 8 * HOUR)
    world.publish("app", NOW - 2 * HOUR)
    folder, name = world.folder("app"), name.format(base=base)
    if name != f"{base}.dump":
        (folder / f"{base}.dump").rename(folder / name)
    world.stage("app", NOW - 5 * MINUTE)
    with Injector(once("stat", name, error, ALWAYS), world.root):
        ran = world.finish(NOW)
        assert ran.code == 1
        assert f"{name} does not count: damaged: it cannot be looked at" in ran.out
        assert "do not remove it" in ran.out
        ran = retention_here("status", "--now", NOW.isoformat(), world.root)
        assert ran.code == 1
        assert name in ran.out
        ran = retention_here("verify", world.root / "app")
        assert ran.code == 1
        assert f"{name}: unread" in ran.out
    ran = world.finish(NOW + MINUTE)
    assert f"{name} does not count: damaged" not in ran.out


@pytest.mark.parametrize("operation", ["stat", "open"])
@pytest.mark.parametrize("kind", [Kind.ARCHIVE, Kind.METADATA, Kind.SHA256])
def test_file_that_one_look_misses_is_not_taken_for_damaged(world: World, operation: str, kind: Kind) -> None:
    base = world.publish("app", NOW - 2 * HOUR)
    with Injector(once(operation, file_name(base, kind), errno.ENOENT), world.root):
        ran = retention_here("list", world.root / "app")
    assert f"{base}.dump" in ran.out
    assert "ignored" not in ran.out


def test_backup_that_is_pruned_while_the_directory_is_read_is_not_told_as_damaged(world: World) -> None:
    base = world.publish("app", NOW - 2 * HOUR)

    def prune(call: Call) -> Fault:
        if call.operation == "open" and call.name == f"{base}.json":
            for path in world.folder("app").glob(f"{base}*"):
                path.unlink()
        return None

    with Injector(prune, world.root):
        ran = retention_here("list", world.root / "app")
    assert ran.out == "app: 0 backups, 0 B\n"


def test_incomplete_archive_is_a_warning_in_status_and_unread_for_verify(world: World) -> None:
    base = world.publish("app", NOW - 2 * HOUR)
    world.publish("app", NOW - 4 * HOUR)
    world.stage("app", NOW - 5 * MINUTE)
    (world.folder("app") / f"{base}.json").unlink()
    assert world.finish(NOW).code == 0
    ran = retention_here("verify", world.root / "app")
    assert (ran.code, f"{base}.dump: unread: incomplete" in ran.out) == (1, True)
    ran = retention_here("status", "--now", NOW.isoformat(), "--format", "json", world.root / "app")
    assert (ran.code, '"result": "warning"' in ran.out) == (0, True)


@pytest.mark.parametrize("how", ["EIO", "EACCES", "read EIO"])
def test_one_staged_archive_that_cannot_be_read_stops_no_later_one(world: World, how: str) -> None:
    old = world.stage("app", NOW - 125 * MINUTE, report=False)
    world.publish("app", NOW - 6 * HOUR)
    for run in range(3):
        now = NOW + 2 * run * HOUR
        new = world.stage("app", now - 5 * MINUTE)
        with _spoil(world, file_name(old, Kind.STAGED), how):
            ran = world.finish(now)
        assert ran.code == 1
        assert f"{file_name(old, Kind.STAGED)} stays as it is" in ran.out
        assert f"published {new}.dump" in ran.out
        assert len([name for name in world.names("app") if name.endswith(".staged")]) == 2, "the archive and its roles"
    new = world.stage("app", NOW + 8 * HOUR)
    assert world.finish(NOW + 8 * HOUR + MINUTE).code == 0
    assert {f"{old}.dump", f"{new}.dump"} <= world.archives("app")
    world.assert_sound("app")


def test_directory_in_the_place_of_a_sidecar_stops_no_other_archive(world: World) -> None:
    old = world.stage("app", NOW - 125 * MINUTE, report=False)
    (world.folder("app") / f"{old}.json").mkdir()
    new = world.stage("app", NOW - 5 * MINUTE)
    ran = world.finish(NOW)
    assert ran.code == 1
    assert f"{new}.dump" in world.archives("app")
    assert f"{old}.dump" not in world.archives("app")
    (world.folder("app") / f"{old}.json").rmdir()
    assert world.finish(NOW + MINUTE).code == 0
    assert f"{old}.dump" in world.archives("app")
    world.assert_sound("app")


@pytest.mark.parametrize("kind", [Kind.STAGED_SHA256, Kind.STAGED_RESULT, Kind.STAGED_GLOBALS])
@pytest.mark.parametrize("times", [1, ALWAYS])
def test_staged_sidecar_that_a_look_misses_is_no_verdict(world: World, kind: Kind, times: int) -> None:
    base = world.stage("app", NOW - 5 * MINUTE)
    with Injector(once("open", file_name(base, kind), errno.ENOENT, times), world.root):
        ran = world.finish(NOW)
    assert not [name for name in world.names("app") if name.endswith(".bad")]
    assert (ran.code, len(world.archives("app"))) == ((0, 1) if times == 1 else (1, 0))
    assert world.finish(NOW + MINUTE).code == 0
    assert f"{base}.globals.sql" in world.names("app")
    world.assert_sound("app")


@pytest.mark.parametrize("kind", [Kind.STAGED_SHA256, Kind.STAGED_RESULT, Kind.STAGED_GLOBALS, Kind.STAGED])
def test_file_that_is_read_in_pieces_is_read_in_full(world: World, kind: Kind) -> None:
    base = world.stage("app", NOW - 5 * MINUTE)
    with Injector(once("read", file_name(base, kind), SHORT, ALWAYS), world.root):
        assert world.finish(NOW).code == 0
    assert (world.folder("app") / f"{base}.globals.sql").read_text() == "CREATE ROLE app;\n"
    world.assert_sound("app")


@pytest.mark.parametrize("times", [1, ALWAYS])
def test_published_archive_that_a_look_misses_is_never_overwritten(world: World, times: int) -> None:
    """A clock that was set back gives a dump the name of a backup; its files stay as they are."""
    time = NOW - 5 * MINUTE
    base = world.publish("app", time, content=b"the older backup of the same second")
    world.pin(base)
    before = {name: (world.folder("app") / name).read_bytes() for name in world.names("app")}
    world.stage("app", time)
    with Injector(once("stat", f"{base}.dump", errno.ENOENT, times), world.root):
        world.finish(NOW)
    assert {name: (world.folder("app") / name).read_bytes() for name in before} == before


def test_last_second_of_the_last_year_is_no_fault_of_the_program(world: World) -> None:
    last = "app-99991231-235959"
    (world.folder("app") / f"{last}.dump.bad").write_bytes(b"hostile")
    staged = world.stage("app", datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC))
    new = world.stage("app", NOW - 5 * MINUTE)
    ran = world.finish(NOW)
    assert "fault in the program" not in ran.out
    assert "are taken" in ran.out
    assert f"{new}.dump" in world.archives("app")
    assert file_name(staged, Kind.STAGED) in world.names("app")


def test_archive_that_cannot_be_looked_at_is_refused_for_adoption(world: World) -> None:
    base = world.publish("app", NOW - 2 * HOUR)
    (world.folder("app") / f"{base}.json").unlink()
    with Injector(once("stat", f"{base}.dump", errno.EIO, ALWAYS), world.root):
        ran = retention_here("adopt", "--dry-run", world.root / "app")
    assert ran.code == 1
    assert f"{base}.dump: refused: damaged: it cannot be looked at" in ran.out


@pytest.mark.parametrize("command", ["finish", "prune"])
def test_sidecars_that_are_copied_back_before_their_archive_wait_a_day_for_it(world: World, command: str) -> None:
    """By the clock of the file system: a copy may keep the times of the original."""
    now = datetime.now(UTC).replace(microsecond=0)
    world.publish("app", now - 2 * HOUR)
    base = world.publish("app", now - 3 * HOUR)
    (world.folder("app") / f"{base}.dump").unlink()
    before = {name for name in world.names("app") if base in name}
    for name in before:
        os.utime(world.folder("app") / name, (T0.timestamp(), T0.timestamp()))
    for age, there in ((HOUR, before), (25 * HOUR, set())):
        world.fail("app")
        commands = {
            "finish": world.finish_arguments(now + age),
            "prune": ["prune", "--now", (now + age).isoformat(), str(world.root)],
        }
        retention_here(*commands[command])
        assert {name for name in world.names("app") if base in name} == there


def test_sidecars_of_an_archive_that_we_deleted_go_at_once(world: World) -> None:
    now = datetime.now(UTC).replace(microsecond=0)
    base = world.publish("app", now - 3 * HOUR)
    folder = world.folder("app")
    (folder / f"{base}.dump").rename(folder / file_name(base, Kind.TOMBSTONE))
    world.fail("app")
    retention_here(*world.finish_arguments(now))
    assert not {name for name in world.names("app") if base in name}
