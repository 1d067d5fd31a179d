"""A volume that refuses: one clear message, nothing lost, and healing once it gives way."""

import contextlib
import errno
import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from retention.names import Kind, file_name
from retention.volume.folder import Folder
from retention.volume.scan import scan
from tests.faults.injector import ALWAYS, Call, Fault, Injector, once
from tests.retention.world import HOUR, T0, World, retention, retention_here

NOW = T0 + 30 * 24 * HOUR
MINUTE = HOUR / 60


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """Make a folder read-only: as root by a mount in its own right, else by its mode."""
    if os.geteuid() != 0:
        folders = [folder, *(path for path in folder.iterdir() if path.is_dir())]
        for path in folders:
            path.chmod(0o500)
        yield
        for path in folders:
            path.chmod(0o700)
        return
    for arguments in (["--bind", str(folder), str(folder)], ["-o", "remount,bind,ro", str(folder)]):
        subprocess.run(["mount", *arguments], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def test_read_only_volume_loses_nothing_and_is_told(world: World) -> None:
    base = world.stage("app", NOW - 5 * MINUTE)
    path = world.publish("app", NOW - 3 * HOUR)
    before = world.names("app")
    with read_only(world.root):
        ran = retention(*world.finish_arguments(NOW))
        assert ran.code == 1
        assert "app: failed: " in ran.out
        assert "mount the volume read-write" in ran.out or "own the files" in ran.out
        assert retention_here("plan", world.root / "app").code == 0, "looking needs no writing"
        assert retention_here("list", world.root).code == 0
        for command in (["prune", world.root / "app"], ["pin", world.root / "app" / f"{path}.dump"]):
            ran = retention_here(*command)
            assert ran.code == 1
            assert len(ran.err.splitlines()) == 1, ran.err
        assert world.names("app") == before
    assert world.finish(NOW).code == 0
    assert f"{base}.dump" in world.archives("app")
    world.assert_sound("app")


@contextmanager
def full_volume(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Yield a file that takes up all the room of a volume; once it is removed there is room again.

    As root the volume is a small one of its own. Nobody else can have a full volume for the asking: there the writing
    of the package is refused as long as the file is there.
    """
    ballast = folder / "ballast"
    if os.geteuid() != 0:
        ballast.touch()
        write = os.write

        def refuse(fd: int, content: bytes) -> int:
            if ballast.exists() and str(Path(f"/proc/self/fd/{fd}").readlink()).startswith(str(folder)):
                raise OSError(errno.ENOSPC, "No space left on device")
            return write(fd, content)

        monkeypatch.setattr(os, "write", refuse)
        yield ballast
        return
    yield fill(folder)


def fill(folder: Path) -> Path:
    """Make a file that takes all the room of a volume."""
    ballast = folder / "ballast"
    with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as file:
        while True:
            file.write(b"x" * 4096)
    return ballast


@contextmanager
def small_volume(folder: Path) -> Iterator[None]:
    """Mount a volume of a megabyte where one may."""
    if os.geteuid() != 0:
        yield
        return
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def test_full_volume_publishes_nothing_half_and_heals_once_there_is_room(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    with small_volume(world.root):
        base = world.stage("app", NOW - 5 * MINUTE)
        with full_volume(world.root, monkeypatch) as ballast:
            ran = world.finish(NOW)
            assert ran.code == 1
            assert "No space left" in ran.out
            assert "enlarge its claim" in ran.out
            assert world.archives("app") == set()
            assert file_name(base, Kind.STAGED) in world.names("app")
            ballast.unlink()
            assert world.finish(NOW).code == 0
        assert world.archives("app") == {f"{base}.dump"}
        world.assert_sound("app")


@pytest.mark.skipif(os.geteuid() != 0, reason="takes a volume of its own")
def test_volume_that_each_dump_leaves_full_heals_by_itself(world: World) -> None:
    """Without room for its sidecars the dump could not be published, and nothing would ever be pruned."""
    with small_volume(world.root):
        for index in range(1, 19):
            world.publish("app", NOW - 2 * index * HOUR - MINUTE)
        world.stage("app", NOW - 5 * MINUTE)
        assert world.finish(NOW).code == 0
        for run in (1, 2, 3):
            now = NOW + 2 * run * HOUR
            base = world.stage("app", now - 5 * MINUTE)
            ballast = fill(world.root)
            before = world.archives("app")
            ran = world.finish(now)
            assert ran.code == 0, ran.out
            assert f"{base}.dump" in world.archives("app")
            assert before - world.archives("app"), "nothing was pruned"
            world.assert_sound("app")
            ballast.unlink()
            # The archives of this test are smaller than what is reserved, so the prune alone makes no room for it.
            assert world.finish(now).code == 0
            assert (world.root / ".reserve").exists()


def test_full_volume_can_still_be_pruned(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pruning is what frees a full volume: that its log finds no room must not stop it."""
    with small_volume(world.root):
        for index in range(18):
            world.publish("app", NOW - 2 * index * HOUR - MINUTE)
        arguments = ("--now", NOW.isoformat(), world.root / "app")
        gone = retention_here("plan", "--format", "names", *arguments).out.split()
        with full_volume(world.root, monkeypatch):
            ran = retention_here("prune", *arguments)
        assert ran.code == 0, ran
        assert gone
        assert not set(gone) & world.archives("app")
        # As root there was room for the log once the archives had gone.
        assert os.geteuid() != 0 or {entry["name"] for entry in world.deletions("app")} == set(gone)
        world.assert_sound("app")


def test_archive_that_cannot_go_stops_its_database_and_nothing_else_is_lost(world: World) -> None:
    """Something stands where one archive's tombstone would: the next run wants the same, and gets it once it may."""
    for index in range(18):
        world.publish("app", NOW - 2 * index * HOUR - MINUTE)
    arguments = ("--now", NOW.isoformat(), "--format", "names", world.root / "app")
    gone = retention_here("plan", *arguments).out.split()
    keep = world.archives("app") - set(gone)
    obstacle = world.root / "app" / file_name(gone[0].removesuffix(".dump"), Kind.TOMBSTONE)
    obstacle.mkdir()
    ran = retention_here("prune", *arguments)
    assert ran.code == 1
    assert f"{obstacle.name}: already exists" in ran.err
    assert len(ran.err.splitlines()) == 1, ran.err
    assert keep | {gone[0]} == world.archives("app")
    assert retention_here("plan", *arguments).out.split() == [gone[0]]
    obstacle.rmdir()
    assert retention_here("prune", *arguments).out.split() == [gone[0]]
    assert world.archives("app") == keep
    world.assert_sound("app")


@pytest.mark.parametrize("indent", [None, 0, 1, 2, 4])
@pytest.mark.parametrize("tables", ["34", ""], ids=["tables known", "tables unknown"])
def test_metadata_mean_the_same_in_any_layout(world: World, indent: int | None, tables: str) -> None:
    """A scan finds its facts by the layout in which they are published; a person may have written them anew."""
    base = world.stage("app", T0, facts={"tables": tables, "compression": "gzip:6"})
    assert world.finish(T0 + HOUR).code == 0
    with Folder.open(world.folder("app")) as folder:
        published = scan(folder, "app").backups
        assert [backup.base for backup in published] == [base]
        assert (published[0].tables, published[0].compression) == (34 if tables else None, "gzip:6")
        path = world.folder("app") / f"{base}.json"
        path.write_text(json.dumps(json.loads(path.read_text()), indent=indent))
        assert scan(folder, "app").backups == published


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"bytes": 2000', '"bytes": 2001'),
        ('"bytes": 2000', '"bytes": "2000"'),
        ('"bytes": 2000', '"bytes": 2e3'),
        ('"sha256": "', '"sha256": "0'),
        ('"bytes": 2000,\n', ""),
        ("\n}\n", ""),
    ],
)
def test_metadata_that_lie_do_not_count(world: World, old: str, new: str) -> None:
    base = world.stage("app", T0)
    assert world.finish(T0 + HOUR).code == 0
    path = world.folder("app") / f"{base}.json"
    assert path.read_text().count(old) >= 1
    path.write_text(path.read_text().replace(old, new, 1))
    with Folder.open(world.folder("app")) as folder:
        found = scan(folder, "app")
    assert not found.backups
    assert [finding.name for finding in found.damaged] == [f"{base}.dump"]


@pytest.mark.parametrize("command", ["prune", "finish"])
def test_archive_that_is_pinned_after_the_decision_is_not_deleted(world: World, command: str) -> None:
    """A restore pins an archive while a prune that has decided to delete it waits for the volume."""
    for index in range(18):
        world.publish("app", NOW - 2 * index * HOUR - MINUTE)
    if command == "finish":
        world.stage("app", NOW - MINUTE / 2)
    at = ("--now", NOW.isoformat())
    doomed = retention_here("plan", *at, "--format", "names", world.root / "app").out.split()
    chosen = doomed[-1].removesuffix(".dump")
    done = [False]

    def restore_first(call: Call) -> Fault:
        # The first look at a pin's lock comes after the decision.
        if not done[0] and call.operation == "flock" and call.name == ".pins.lock":
            done[0] = True
            options = ("--database", "app", "--backup", chosen, "--requests", world.results)
            assert retention_here("choose", *at, *options, world.root).code == 0
        return None

    arguments = world.finish_arguments(NOW) if command == "finish" else ["prune", *at, world.root / "app"]
    with Injector(restore_first, world.root):
        ran = retention_here(*arguments)
    assert ran.code == 0, ran
    assert f"{chosen}.dump" in world.archives("app")
    assert set(doomed) & world.archives("app") == {f"{chosen}.dump"}
    if command == "prune":
        (line,) = [line for line in ran.out.splitlines() if chosen in line]
        assert line.startswith("keep"), "the report says what was done"
    else:
        assert f"deleted {chosen}" not in ran.out
    world.assert_sound("app")


@pytest.mark.parametrize("error", [errno.EIO, errno.EACCES, errno.ESTALE, errno.ENOENT])
@pytest.mark.parametrize(
    ("operation", "name"),
    [
        ("stat", "status.json"),
        ("open", "status.json"),
        ("read", "status.json"),
        ("stat", "app"),
        ("create", ".status.lock"),
    ],
)
def test_status_that_cannot_be_looked_at_never_stops_a_run(world: World, operation: str, name: str, error: int) -> None:
    world.publish("app", NOW - 2 * HOUR)
    base = world.stage("app", NOW - 5 * MINUTE)
    (world.root / "status.json").write_text('{"databases": {}}')
    if name == "app":
        (world.root / "status.json").unlink()
    with Injector(once(operation, name, error, 1 if name == "app" else ALWAYS), world.root):
        ran = world.finish(NOW)
    assert "fault in the program" not in ran.out + ran.err
    assert f"published {base}.dump" in ran.out
    assert ran.code == 0, ran


def test_status_of_another_version_is_shown_as_far_as_it_goes(world: World) -> None:
    base = world.publish("app", NOW - 2 * HOUR)
    values = ("null", "5", '"text"', '{"a": 1}', '["text"]', "[null]", "[[]]", "true", '[{"problem": 5}]', "1e999")
    keys = ("problems", "warnings", "refused", "drill", "last_run", "last_success", "result", "newest")
    for key in keys:
        for value in values:
            (world.root / "status.json").write_text(f'{{"databases": {{"app": {{"{key}": {value}}}}}}}')
            for form in ("text", "json"):
                ran = retention_here("status", "--format", form, "--now", NOW.isoformat(), world.root)
                assert ran.err == "", f"{key}: {value}: {ran}"
                assert base in ran.out or form == "text"
            (entry,) = json.loads(ran.out)
            assert all(isinstance(text, str) for text in entry["warnings"])
            assert all(set(problem) == {"problem", "remedy"} for problem in entry["problems"])
            world.fail("app")
            assert world.finish(NOW).code == 1
