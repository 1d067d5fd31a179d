"""`retention adopt`, killed anywhere; and what it says that the next prune does."""

import hashlib
import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from retention.names import base_of
from retention.volume import locks
from retention.volume.folder import Folder
from tests.retention.killer import KILLED
from tests.retention.test_crash import Killer, assert_nothing_unverified_counts
from tests.retention.world import DAY, HOUR, T0, Ran, World, content_of, retention_here

NOW = T0 + 30 * DAY


def leave(world: World, hours: float, *, read: bool = True) -> str:
    """Put an archive without sidecars onto the volume, with what adopt.sh says of it; return its base."""
    base = base_of("app", NOW - timedelta(hours=hours))
    content = content_of(base, 500)
    (world.folder("app") / f"{base}.dump").write_bytes(content)
    values = {
        "database": "app",
        "base": base,
        "state": "whole",
        "bytes": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
        "tables": 3,
        "rows": "",
        "dbname": "app",
        "compression": "-1",
        "server_version": "16.10",
        "client_version": "16.10",
        "verify_seconds": 1,
    }
    if read:
        (world.results / f"{base}.adopt").write_text("".join(f"{key}={value}\n" for key, value in values.items()))
    return base


def arguments(world: World, *more: object) -> list[str]:
    how = ["--now", NOW.isoformat(), "--config", world.config, "--results", world.results, "--lock-timeout", "1s"]
    return [str(one) for one in ("adopt", *how, *more, world.root)]


def adopt(world: World, *more: object) -> Ran:
    return retention_here(*arguments(world, *more))


@pytest.fixture
def world(tmp_path: Path) -> World:
    made = World(tmp_path)
    made.configure("app")
    return made


@pytest.fixture(scope="module")
def killer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Killer]:
    started = Killer(tmp_path_factory.mktemp("killer"))
    yield started
    started.close()


def backups(world: World) -> list[str]:
    listing = retention_here("list", "--now", NOW, "--format", "names", world.root)
    assert listing.code == 0, listing.err
    return listing.out.split()


def test_adoption_cut_at_any_change_leaves_the_archive_as_it_was_and_is_done_by_the_next(
    tmp_path: Path, killer: Killer
) -> None:
    whole = World(tmp_path)
    whole.configure("app")
    leave(whole, 5)
    code, done = killer.run_arguments(arguments(whole), 0, "before")
    assert code == 0
    changes = [change for change in done if change["operation"] != "fsync"]
    assert [change["name"].rpartition("/")[2] for change in changes if change["operation"] == "rename"] == [
        ".app-20260130-190000.dump.sha256.tmp", ".app-20260130-190000.json.tmp"
    ]  # fmt: skip
    for number, change in enumerate(changes, 1):
        for moment in ("before", "half") if change["operation"] in ("write", "pwrite") else ("before",):
            where = f"killed {moment} change {number}, {change['operation']} of {change['name']}"
            top = tmp_path / f"{number}-{moment}"
            top.mkdir()
            world = World(top)
            world.configure("app")
            base = leave(world, 5)
            archive = world.folder("app") / f"{base}.dump"
            before = (archive.read_bytes(), archive.stat().st_mtime_ns)
            assert killer.run_arguments(arguments(world), number, moment)[0] == KILLED, where
            assert (archive.read_bytes(), archive.stat().st_mtime_ns) == before, where
            assert world.archives("app") == {archive.name}, where
            if backups(world):
                assert_nothing_unverified_counts(world, where)
            # A run in between sweeps what a kill has left, and never the archive.
            world.fail("app")
            world.finish(NOW)
            assert archive.read_bytes() == before[0], where
            again = adopt(world)
            assert again.code == 0, where + again.err
            assert backups(world) == [archive.name], where
            world.assert_sound("app")


def test_adopted_archive_says_what_is_known_and_null_for_the_rest(world: World) -> None:
    base = leave(world, 5)
    assert adopt(world).code == 0
    path = world.folder("app") / f"{base}.json"
    metadata = json.loads(path.read_text())
    assert metadata["adopted"] is True
    assert (metadata["cluster"], metadata["compression"]) == ("app-postgresql-cnpg", "")
    assert metadata["dump_seconds"] is metadata["rows"] is metadata["host"] is None
    assert metadata["published"] == NOW.isoformat(timespec="seconds")
    assert path.stat().st_mode & 0o777 == 0o600


def test_dry_run_says_what_lacks_sidecars_and_what_the_next_prune_does_and_changes_nothing(world: World) -> None:
    for hours in (1.0, 3.0):
        world.publish("app", NOW - hours * HOUR)
    for hours in (5.0, 5.1, 9.0):
        leave(world, hours, read=False)
    before = world.names("app")
    ran = adopt(world, "--dry-run")
    assert ran.code == 0, ran.err
    assert ran.out.count(": adoptable") == 3
    assert "app: the next prune keeps 4 backups and deletes 1, app-20260130-185400.dump to " in ran.out
    assert world.names("app") == before
    document = json.loads(adopt(world, "--dry-run", "--format", "json").out)
    assert document[0]["next_prune"]["delete"] == ["app-20260130-185400.dump"]
    assert [one["bytes"] for one in document[0]["archives"]] == [500, 500, 500]


def test_prune_that_would_be_refused_is_told_before_and_pins_are_seen(world: World) -> None:
    bases = [leave(world, 1 + n / 100) for n in range(9)]
    assert "refuses to do that at once: set allowLargePrune: true" in adopt(world, "--dry-run").out
    for base in bases[1:]:
        (world.folder("app") / f"{base}.dump.pin").write_text("keep")
    assert "the next prune keeps 9 backups and deletes 0" in adopt(world, "--dry-run").out
    assert adopt(world).code == 0
    assert len(backups(world)) == 9


def test_run_that_holds_the_lock_is_named_and_nothing_is_written(world: World) -> None:
    base = leave(world, 5)
    with Folder.open(world.folder("app")) as folder, locks.locked(folder, ".lock", seconds=0, holder="a dump"):
        ran = adopt(world)
    assert ran.code == 1
    assert f"{base}.dump: refused: " in ran.out
    assert "locked for 1s by a dump" in ran.out
    assert world.names("app") == {f"{base}.dump"}


def test_adopting_without_a_reading_is_wrong_usage(world: World) -> None:
    ran = retention_here("adopt", world.root)
    assert ran.code == 2
    assert "--results is missing" in ran.err


def test_result_of_another_archive_is_not_believed(world: World) -> None:
    base, other = leave(world, 5, read=False), leave(world, 6)
    (world.results / f"{base}.adopt").write_text((world.results / f"{other}.adopt").read_text())
    ran = adopt(world)
    assert ran.code == 1
    assert f"{base}.dump: refused: pg_restore has not read it" in ran.out
    assert backups(world) == [f"{other}.dump"]
