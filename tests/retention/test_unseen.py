"""A file of ours that cannot be looked at or read: it alone counts as damaged, and nothing is removed because of it."""

import errno

import pytest

from retention.names import Kind, file_name
from tests.faults.injector import ALWAYS, Call, Fault, Injector, once
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
