"""Everything in the cluster is gone: from the destination and the key alone the databases are back, all rows equal."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from retention.errors import ExitCode
from retention.names import Kind, file_name
from tests.lab import tools
from tests.lab.data import authelia, fingerprint
from tests.lab.guide import block
from tests.lab.postgres import Server
from tests.offsite.world import CLUSTER, NOW, World, publish_days, sum_of
from tests.retention.world import DAY, HOUR, retention

# rclone and a store take minutes to build, which nothing else of `make test` needs.
pytestmark = pytest.mark.long

DATABASES = ("authelia", "paperless", "zoo")


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server() as running:
        running.create_role("authelia", "secret")
        for name in DATABASES:
            running.create_database(name, owner="authelia")
            authelia(running, name)
        running.psql("CREATE TABLE more AS SELECT g, md5(g::text) FROM generate_series(1, 50000) g", "zoo")
        yield running


def dump(server: Server, database: str) -> bytes:
    command = [str(server.bin / "pg_dump"), "-Fc", "-Z", "1", "-d", database]
    return subprocess.check_output(command, env={**os.environ, **server.superuser_env}, timeout=120)


def restored(server: Server, database: str, archive: Path) -> None:
    """Restore an archive into a database of its name, after that was dropped."""
    shell(
        server, 'createdb "$1" && pg_restore --exit-on-error --no-owner -d "$1" "$2"', archive.parent, database, archive
    )


def shell(server: Server, text: str, folder: Path, *arguments: object, **more: str) -> None:
    words = ["sh", "-euc", text, "sh", *map(str, arguments)]
    path = f"{server.bin}:{tools.built('age')}:{tools.built('rclone')}:/usr/bin:/bin"
    done = subprocess.run(
        words,
        cwd=folder,
        env={"PATH": path, **server.superuser_env, **more},
        capture_output=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()


@pytest.mark.sample(1)
def test_all_databases_are_back_from_the_destination_and_the_key(any_world: World, server: Server) -> None:
    world = any_world
    good = {name: fingerprint(server, name) for name in DATABASES}
    for name in DATABASES:
        world.volume.publish(name, NOW - HOUR, content=dump(server, name))
    assert world.copy().code == ExitCode.DONE
    shutil.rmtree(world.volume.root)
    for name in DATABASES:
        server.drop_database(name)
    new = world.top / "new"
    new.mkdir()
    for document in world.listed():
        name = str(document["database"])
        ran = world.fetch(name, root=new)
        assert ran.code == ExitCode.DONE, ran
        assert f"{name}-20260130-230000.dump is published" in ran.out
    # What is on the new volume is a backup like any other: list, verify, restore.
    assert retention("verify", new).code == ExitCode.DONE
    for name in DATABASES:
        folder = new / name
        assert (folder / f"{name}-20260130-230000.globals.sql").read_text() == "CREATE ROLE app;\n"
        metadata = json.loads((folder / f"{name}-20260130-230000.json").read_text())
        assert set(metadata.pop("fetched")) == {"at", "from", "uploaded"}
        assert metadata["sha256"] == sum_of((folder / f"{name}-20260130-230000.dump").read_bytes())
        assert folder.stat().st_mode & 0o777 == 0o700
        assert all(path.stat().st_mode & 0o777 == 0o600 for path in folder.iterdir())
        restored(server, name, folder / f"{name}-20260130-230000.dump")
        found = fingerprint(server, name)
        assert (found.tables, found.sequences) == (good[name].tables, good[name].sequences)


def test_without_our_tools_rclone_age_and_pg_restore_are_enough(world: World, server: Server, tmp_path: Path) -> None:
    """By the commands of docs/restore.md."""
    good = fingerprint(server, "authelia")
    world.volume.publish("authelia", NOW - HOUR, content=dump(server, "authelia"))
    assert world.copy().code == ExitCode.DONE
    server.drop_database("authelia")
    reach = {f"RCLONE_CONFIG_OFFSITE_{key}": value for key, value in world.store.environment.items()}
    laptop = tmp_path / "laptop"
    laptop.mkdir()
    shutil.copy(world.key_file, laptop / "key.txt")
    commands = block("out-of-a-store").replace("20261122-140000", "20260130-230000")
    place = f"OFFSITE:{world.store.path}/{CLUSTER}/authelia"
    assert "OFFSITE:bucket/prefix/production/authelia" in commands
    commands = commands.replace("OFFSITE:bucket/prefix/production/authelia", place)
    shell(server, commands, laptop, RCLONE_CONFIG="/dev/null", **reach)
    found = fingerprint(server, "authelia")
    assert (found.tables, found.sequences) == (good.tables, good.sequences)


def test_a_fetched_backup_is_kept_for_a_week_and_then_by_the_policy(world: World) -> None:
    *_, oldest = publish_days(world, "app", 5)
    assert world.copy().code == ExitCode.DONE
    for path in (world.volume.root / "app").glob(f"{oldest}.*"):
        path.unlink()
    assert world.fetch("app", "--backup", f"{oldest}.dump").code == ExitCode.DONE
    world.volume.configure("app")
    (world.volume.config / "policy.json").write_text('{"tiers": [{"name": "A", "every": "24h", "keep": 2}]}')
    world.volume.stage("app", NOW + HOUR)
    assert world.volume.finish(NOW + HOUR, "--allow-large-prune").code == ExitCode.DONE
    assert f"{oldest}.dump" in world.volume.archives("app")
    world.volume.stage("app", NOW + 8 * DAY)
    world.volume.finish(NOW + 8 * DAY, "--allow-large-prune")
    world.volume.stage("app", NOW + 8 * DAY + 2 * HOUR)
    assert world.volume.finish(NOW + 8 * DAY + 2 * HOUR, "--allow-large-prune").code == ExitCode.DONE
    assert f"{oldest}.dump" not in world.volume.archives("app")


@pytest.mark.parametrize(
    ("wish", "expected"),
    [
        ("newest", "app-20260130-230000"),
        ("newest before 2026-01-30T00:00:00Z", "app-20260129-230000"),
        ("app-20260128-230000", "app-20260128-230000"),
        ("app-20260128-230000.dump", "app-20260128-230000"),
        ("app-20260101-000000", None),
        ("newest before 2020-01-01", None),
        ("newest before tomorrow", None),
        ("../../etc/passwd", None),
    ],
)
def test_the_copy_that_is_meant_is_fetched_or_none(world: World, wish: str, expected: str | None) -> None:
    publish_days(world, "app", 3)
    assert world.copy().code == ExitCode.DONE
    new = world.top / "new"
    new.mkdir()
    ran = world.fetch("app", "--backup", wish, root=new)
    found = {path.name for path in new.glob("*/*.dump")}
    if expected is None:
        assert ran.code == ExitCode.USAGE
        assert not found
        assert "the newest copies are app-20260130-230000" in ran.err or "is not a date" in ran.err
    else:
        assert found == {f"{expected}.dump"}


def test_a_fetch_never_replaces_what_is_there(world: World) -> None:
    (base,) = publish_days(world, "app", 1)
    assert world.copy().code == ExitCode.DONE
    folder = world.volume.root / "app"
    before = (folder / f"{base}.dump").stat()
    ran = world.fetch("app")
    assert ran.code == ExitCode.DONE
    assert "was there already" in ran.out
    assert (folder / f"{base}.dump").stat().st_ino == before.st_ino
    (folder / f"{base}.dump").write_bytes(b"something else")
    ran = world.fetch("app")
    assert ran.code == ExitCode.REFUSED
    assert "move it away" in ran.err
    assert (folder / f"{base}.dump").read_bytes() == b"something else"
    (folder / f"{base}.dump").rename(folder / file_name(base, Kind.BAD))
    assert world.fetch("app").code == ExitCode.REFUSED


def test_the_wrong_key_is_said_before_anything_is_on_the_volume(world: World) -> None:
    publish_days(world, "app", 1)
    assert world.copy().code == ExitCode.DONE
    other = World(world.top / "other", world.store)
    world.key_file.write_text(other.key_file.read_text())
    new = world.top / "new"
    new.mkdir()
    ran = world.fetch("app", root=new)
    assert ran.code == ExitCode.FAILED
    assert "is encrypted for 2 recipients, and the identity is of none of them" in ran.err
    assert not [path for path in new.rglob("*") if path.is_file() and path.name not in (".lock", ".pins.lock")]
    world.key_file.write_text("")
    assert world.fetch("app", root=new).code == ExitCode.USAGE
    assert world.run("fetch", "--database", "app", new).code == ExitCode.USAGE


def test_a_fetch_onto_a_full_volume_leaves_nothing(world: World) -> None:
    publish_days(world, "app", 1, size=20_000_000)
    assert world.copy().code == ExitCode.DONE
    new = world.top / "new"
    new.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", new], capture_output=True).returncode:
        pytest.skip("this machine mounts no tmpfs")
    try:
        ran = world.fetch("app", root=new)
        assert ran.code == ExitCode.FAILED
        assert "No space left on device; free space on the volume" in ran.err
        assert {path.name for path in (new / "app").iterdir()} <= {".lock", ".pins.lock"}
    finally:
        subprocess.run(["umount", "-l", new], check=True)


@pytest.mark.parametrize("name", ["..", "app/..", "", "A", "lost+found/x"])
def test_no_name_of_a_database_leads_out_of_the_volume(world: World, name: str) -> None:
    ran = world.run("fetch", "--database", name, "--identity", world.key_file, world.volume.root)
    assert ran.code == ExitCode.USAGE
    assert not list(world.volume.root.iterdir())
