"""A file of ours that cannot be looked at or read: it alone counts as damaged, and nothing is removed because of it."""

import errno

import pytest

from retention.names import Kind, file_name
from tests.faults.injector import ALWAYS, Injector, once
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
