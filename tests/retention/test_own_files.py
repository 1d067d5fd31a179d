"""Files that are changed in place, and descriptors: nothing else is changed through them, and no error is a bug."""

import errno
import os
from pathlib import Path

import pytest

from retention.volume import locks
from retention.volume.folder import Folder
from tests.faults.injector import ALWAYS, Injector, once
from tests.retention.world import HOUR, T0, World, retention_here

NOW = T0 + 30 * 24 * HOUR
MINUTE = HOUR / 60


def _archive(world: World) -> Path:
    for index in range(18):
        world.publish("app", NOW - 2 * index * HOUR - MINUTE)
    return world.folder("app") / "app-20260130-235900.dump"


def _link(path: Path, archive: Path) -> None:
    path.hardlink_to(archive)


def _symlink(path: Path, archive: Path) -> None:
    path.symlink_to(archive.name)


def _fifo(path: Path, _: Path) -> None:
    os.mkfifo(path)


def _directory(path: Path, _: Path) -> None:
    path.mkdir()


@pytest.mark.parametrize("make", [_link, _symlink, _fifo, _directory])
@pytest.mark.parametrize("name", [".lock", ".pins.lock", "deletions.jsonl"])
def test_file_of_ours_that_is_something_else_is_never_written_to(world: World, name: str, make: object) -> None:
    archive = _archive(world)
    before = archive.read_bytes()
    assert callable(make)
    make(world.folder("app") / name, archive)
    ran = retention_here("prune", "--now", NOW.isoformat(), world.root / "app")
    assert archive.read_bytes() == before
    assert f"{name}: " in ran.err
    assert "fault in the program" not in ran.err
    assert "locked for" not in ran.err, "nobody has to be waited for"
    # Without its log a prune goes on; without its locks it must not.
    assert ran.code == (0 if name == "deletions.jsonl" else 1)
    if name != "deletions.jsonl":
        assert len(world.archives("app")) == 18


def test_status_lock_that_is_an_archive_is_never_written_to(world: World) -> None:
    archive = _archive(world)
    before = archive.read_bytes()
    (world.root / ".status.lock").hardlink_to(archive)
    world.stage("app", NOW - 5 * MINUTE)
    ran = world.finish(NOW)
    assert archive.read_bytes() == before
    assert "second name" in ran.out


@pytest.mark.parametrize("operation", ["close", "stat"])
@pytest.mark.parametrize("name", [".lock", ".pins.lock", "deletions.jsonl", "app-20260130-235900.dump", "app"])
def test_error_of_the_volume_is_never_a_fault_of_the_program(world: World, operation: str, name: str) -> None:
    _archive(world)
    world.stage("app", NOW - 5 * MINUTE)
    for arguments in (world.finish_arguments(NOW), ["verify", "--lock-timeout", "1s", world.root / "app"]):
        with Injector(once(operation, name, errno.EIO, ALWAYS), world.root):
            ran = retention_here(*arguments)
        assert "fault in the program" not in ran.out + ran.err
        assert "standard output" not in ran.err


def test_closing_a_lock_that_fails_ends_nothing(world: World) -> None:
    with (
        Folder.open(world.folder("app")) as folder,
        Injector(once("close", ".lock", errno.EIO, ALWAYS), world.root),
        locks.locked(folder, ".lock", seconds=0, holder="a test"),
    ):
        pass
    with Folder.open(world.folder("app")) as folder, locks.locked(folder, ".lock", seconds=0, holder="a test"):
        pass
