"""What dumps have left that no run finishes any more is named, and freed by a command that touches nothing else."""

import json
from pathlib import Path

import pytest

from retention.names import Kind, base_of, file_name
from retention.volume import locks
from retention.volume.folder import Folder
from tests.retention.world import DAY, HOUR, T0, World, retention_here

NOW = T0 + 30 * DAY
OLD = NOW - 3 * DAY


@pytest.fixture
def left(world: World) -> list[str]:
    """What two dumps of three days ago have left, next to a backup, a dump under way, and one to be published."""
    folder = world.folder("app")
    base = world.stage("app", OLD, report=False)
    names = {name for name in world.names("app") if name.startswith(f".{base}")}
    for suffix in (".dump.partial", ".globals.sql.partial"):
        (folder / f".{base_of('app', OLD - HOUR)}{suffix}").write_bytes(b"x" * 3000)
        names.add(f".{base_of('app', OLD - HOUR)}{suffix}")
    world.publish("app", OLD - 2 * HOUR)
    world.stage("app", NOW - HOUR, report=False)
    (folder / f".{base_of('app', NOW)}.dump.partial").write_bytes(b"under way")
    (folder / f".{base_of('app', OLD)}.dump.partial.mine").write_bytes(b"not ours")
    return sorted(names)


def run(world: World, *arguments: object) -> tuple[int, str, str]:
    ran = retention_here(*arguments, "--now", NOW.isoformat(), world.root)
    return ran.code, ran.out, ran.err


@pytest.mark.parametrize("last", ["", "warning", "ok"])
def test_status_names_the_files_and_the_command(world: World, left: list[str], last: str) -> None:
    if last:
        (world.root / "status.json").write_text(json.dumps({"databases": {"app": {"result": last}}}))
    code, out, _ = run(world, "status")
    assert code == 0
    assert f"{len(left)} files (" in out
    assert "python3 -m retention clean /backups/app" in out
    code, out, _ = run(world, "status", "--format", "json")
    (entry,) = json.loads(out)
    assert entry["result"] == {"": "unknown", "ok": "warning", "warning": "warning"}[last]
    assert len(entry["warnings"]) == 1
    assert run(world, "clean")[0] == 0
    assert "never published" not in run(world, "status")[1]


def test_exactly_these_files_go(world: World, left: list[str]) -> None:
    before = world.names("app")
    code, out, _ = run(world, "clean", "--dry-run")
    assert (code, sorted(out.splitlines()[:-1])) == (0, left)
    assert "to remove, " in out
    assert world.names("app") == before
    code, out, _ = run(world, "clean", "--format", "names")
    assert (code, sorted(out.splitlines())) == (0, left)
    assert before - world.names("app") - {".lock"} == set(left)
    assert run(world, "clean")[1] == "app: 0 files removed, 0 B\n"


def test_archive_goes_before_what_tells_whether_it_is_sound(world: World, left: list[str]) -> None:
    """A kill in between leaves nothing that a run would take for a damaged archive."""
    _, out, _ = run(world, "clean", "--format", "names")
    staged = [name for name in out.splitlines() if base_of("app", OLD) in name]
    assert set(staged) <= set(left)
    assert staged[0] == file_name(base_of("app", OLD), Kind.STAGED)


def test_dump_that_is_under_way_keeps_its_files(world: World, left: list[str]) -> None:
    before = world.names("app")
    with Folder.open(world.folder("app")) as folder, locks.locked(folder, ".lock", seconds=0, holder="a dump"):
        code, _, err = run(world, "clean", "--lock-timeout", "1s")
    assert (code, "a dump" in err) == (1, True)
    assert set(left) <= before <= world.names("app")


def test_link_is_never_followed(world: World, tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    mine.write_text("mine")
    world.publish("app", OLD)
    (world.folder("app") / f".{base_of('app', OLD - HOUR)}.dump.partial").symlink_to(mine)
    assert run(world, "clean")[0] == 0
    assert mine.read_text() == "mine"
