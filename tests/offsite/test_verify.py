"""Copies are read back on demand, and the store is tried before it is needed: what is said is true either way."""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from offsite.remote.rclone import Rclone
from offsite.rule import names
from offsite.steps import check, examine
from offsite.steps.clock import wall
from retention import message
from retention.errors import ExitCode
from tests.offsite import stores
from tests.offsite.test_rclone import GET, LIST, PUT, remote_of
from tests.offsite.world import CLUSTER, NOW, World, publish_days
from tests.retention.world import DAY

# rclone and a store take minutes to build, which nothing else of `make test` needs.
pytestmark = pytest.mark.long


def archive_of(world: World, base: str, database: str = "app") -> Path:
    return world.objects(database)[world.markers(database)[base].archive.name]


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def test_a_sound_copy_is_said_to_be_read_and_its_verification_is_remembered(any_world: World) -> None:
    world = any_world
    newest, older = publish_days(world, "app", 2)
    publish_days(world, "zoo", 1)
    assert world.copy().code == ExitCode.DONE
    ran = world.run("verify", now=NOW + DAY)
    assert (ran.code, ran.err) == (ExitCode.DONE, ""), ran
    assert f"app: {newest}: sound" in ran.out
    assert "2 copies read, 0 damaged or unreadable" in ran.out
    one, two = world.listed()[0]["copies"]
    assert (one["verified"], one["checked"][:10]) == ("readback", f"{NOW + DAY:%Y-%m-%d}")
    assert (two["base"], two["verified"]) == (older, "etag" if world.store.type == "s3" else "readback")
    assert world.message() == "2 copies read, 0 damaged or unreadable"


@pytest.mark.parametrize("damage", ["flip", "truncate", "swap", "remove"])
def test_a_damaged_copy_is_never_called_sound_and_no_longer_counts(world: World, damage: str) -> None:
    newest, older = publish_days(world, "app", 2, size=200_000)
    assert world.copy().code == ExitCode.DONE
    path, other = archive_of(world, newest), archive_of(world, older)
    if damage == "flip":
        flip(path)
    elif damage == "truncate":
        path.write_bytes(path.read_bytes()[:-1])
    elif damage == "swap":
        path.write_bytes(other.read_bytes())
    else:
        path.unlink()
    ran = world.run("verify", "--database", "app")
    assert ran.code == ExitCode.FAILED
    assert "1 damaged or unreadable" in ran.out
    assert newest not in {copy["base"] for copy in world.listed()[0]["copies"]}
    assert world.run("verify", "--database", "app", "--backup", older).code != ExitCode.USAGE
    # The volume still has the backup: it is copied again.
    world.copy()
    assert newest in {copy["base"] for copy in world.listed()[0]["copies"]}


@pytest.mark.parametrize("finder", ["verify", "copy"])
def test_nothing_of_a_damaged_copy_is_deleted_before_there_is_another_one(world: World, finder: str) -> None:
    (base,) = publish_days(world, "app", 1, size=200_000)
    world.configure(readback_every="7d")
    assert world.copy().code == ExitCode.DONE
    before, marker = dict(world.objects("app")), world.markers("app")[base]
    folder = world.volume.root / "app"
    kept = folder.rename(world.top / "elsewhere")
    folder.mkdir()
    flip(archive_of(world, base))
    later = NOW + 8 * DAY
    ran = world.run("verify", now=later) if finder == "verify" else world.copy(now=later)
    assert ran.code == ExitCode.FAILED
    assert f"app: {base}.{marker.attempt}.offsite.json does not count" not in ran.out, "the same is said twice"
    for day in range(9, 12):
        ran = world.copy(now=NOW + day * DAY)
        assert ran.code == ExitCode.FAILED
        assert f"{base}.{marker.attempt}.offsite.json does not count: it was read on " in ran.out
        assert "save what `age --decrypt` still reads of it" in ran.out
        assert before.keys() <= world.objects("app").keys(), "what may be all that is left was deleted"
        assert world.copied("app") == set()
    shutil.rmtree(folder)
    kept.rename(folder)
    assert world.copy(now=NOW + 12 * DAY).code == ExitCode.DONE
    assert world.copied("app") == {base}
    ran = world.copy(now=NOW + 13 * DAY)
    assert (ran.code, world.copied("app")) == (ExitCode.DONE, {base})
    assert not before.keys() & world.objects("app").keys(), "the damaged copy is left over for ever"


def test_one_copy_is_meant_by_database_and_name(world: World) -> None:
    newest, older = publish_days(world, "app", 2)
    assert world.copy().code == ExitCode.DONE
    ran = world.run("verify", "--database", "app", "--backup", older)
    assert ran.code == ExitCode.DONE
    assert f"{older}: sound" in ran.out
    assert newest not in ran.out
    for words in (("--database", "blog"), ("--database", "../app"), ("--backup", older)):
        assert world.run("verify", *words).code == ExitCode.USAGE
    flip(archive_of(world, newest))
    assert world.run("verify", "--database", "app", "--backup", older).code == ExitCode.DONE


def test_nothing_to_read_is_not_success(world: World) -> None:
    ran = world.run("verify")
    assert ran.code == ExitCode.FAILED
    assert "there is no copy to read" in ran.out


def test_what_differs_once_is_read_again_before_a_copy_is_given_up(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    (base,) = publish_days(world, "app", 1)
    assert world.copy().code == ExitCode.DONE
    real, failures = check.compare, 0

    def unsteady(*arguments: object) -> None:
        nonlocal failures
        failures += 1
        if failures == 1:
            raise check.ChangedError("it reads back as something else")
        real(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(check, "compare", unsteady)
    ran = world.run("verify")
    assert (ran.code, failures > 1) == (ExitCode.DONE, True)
    assert world.copied("app") == {base}


def test_a_store_that_cannot_be_read_makes_no_copy_damaged(tmp_path: Path) -> None:
    store = stores.s3(tmp_path / "store")
    world = World(tmp_path, store)
    with stores.running(store, world.carrier):
        (base,) = publish_days(world, "app", 1)
        assert world.copy().code == ExitCode.DONE
        store.program.end()
        ran = world.run("verify")
        assert ran.code == ExitCode.FAILED
        assert "does not answer" in ran.err
        store.start()
        assert world.copied("app") == {base}


def test_the_message_of_a_run_says_age_count_and_verification_of_each_database(world: World) -> None:
    (newest, _) = publish_days(world, "app", 2)
    assert world.copy().code == ExitCode.DONE
    (line,) = message.read(world.message()).lines
    assert (line.database, line.result, line.why) == ("app", "ok", "copied")
    assert line.newest is not None
    assert newest == f"app-{line.newest:%Y%m%d-%H%M%S}"
    assert (line.numbers["kept"], "read" in line.numbers) == (2, False)
    world.configure(readback_every="7d")
    assert world.copy().code == ExitCode.DONE
    (line,) = message.read(world.message()).lines
    assert line.numbers["read"] == int(NOW.timestamp())
    assert line.why == "nothing new"


# The store is tried.


def tried(out: str) -> dict[str, str]:
    """What was tried, with its result."""
    rows = (line.split("  ") for line in out.splitlines())
    return {row[0]: next(cell for cell in row[1:] if cell).split()[0] for row in rows}


def test_a_store_in_which_copies_can_be_made_is_ok_and_is_left_as_it_was(any_world: World) -> None:
    world = any_world
    before = world.store.files()
    ran = world.run("check")
    assert (ran.code, ran.err) == (ExitCode.DONE, ""), ran
    wanted = ["encryption", "rclone", "list", "owner", "write", "read", "clock", "write once", "delete"]
    assert tried(ran.out) == dict.fromkeys(wanted, "ok"), ran.out
    assert world.store.files() == before
    assert world.message() == "copies can be made"
    publish_days(world, "app", 1)
    assert world.copy().code == ExitCode.DONE, "a check stands in the way of the first run"


@pytest.mark.parametrize(
    ("rights", "wrong"),
    [([], "list"), ([GET, PUT], "list"), ([LIST, GET], "write"), ([LIST, PUT], "owner"), ([LIST, GET, PUT], "delete")],
)
def test_a_right_that_is_missing_is_named(tmp_path: Path, rights: list[str], wrong: str) -> None:
    (tmp_path / "users").mkdir()
    store = stores.s3(tmp_path / "store", iam=tmp_path / "users")
    world = World(tmp_path, store)
    world.configure(prune="true")
    with stores.running(store):
        with stores.running(world.carrier):
            publish_days(world, "app", 1)
            assert world.copy().code == ExitCode.DONE
        world.carrier = stores.carrier(world.top, store, **stores.limit_rights(store, [*rights, "s3:GetBucketAcl"]))
        with stores.running(world.carrier):
            ran = world.run("check")
            assert ran.code == ExitCode.FAILED
            assert tried(ran.out)[wrong] == "wrong", ran.out
            assert "lack the right" in world.message()
            assert [what for what, result in tried(ran.out).items() if result == "wrong"] == [wrong]
        if wrong == "delete":
            # Deletion is off unless the values want it: then it is no fault, and what stays is removed later.
            world.configure(prune="false")
            with stores.running(world.carrier):
                assert world.run("check").code == ExitCode.DONE
            world.carrier = stores.carrier(world.top, store)
            with stores.running(world.carrier):
                assert world.run("check").code == ExitCode.DONE
            assert not [name for name in world.store.files() if "probe-" in name], "left over after the next check"


def test_the_folder_of_another_release_is_named_and_not_touched(world: World) -> None:
    publish_days(world, "app", 1)
    assert world.copy().code == ExitCode.DONE
    before = {name: path.read_bytes() for name, path in world.store.files().items()}
    world.configure(owner="release-2")
    ran = world.run("check")
    assert (ran.code, tried(ran.out)["owner"]) == (ExitCode.FAILED, "wrong")
    assert "belongs to another release (release-1)" in ran.out
    assert {name: path.read_bytes() for name, path in world.store.files().items()} == before


def test_a_missing_bucket_is_named(world: World) -> None:
    world.configure(path="no-such-bucket/prefix")
    ran = world.run("check")
    assert (ran.code, tried(ran.out)["list"]) == (ExitCode.FAILED, "wrong")
    assert "there is no such bucket" in ran.out


@pytest.mark.parametrize(("hours", "result"), [(0, "ok"), (1, "warning"), (-1, "warning")])
def test_a_clock_that_is_off_is_said(world: World, monkeypatch: pytest.MonkeyPatch, hours: int, result: str) -> None:
    monkeypatch.setattr(examine, "wall", lambda: wall() + timedelta(hours=hours))
    ran = world.run("check")
    assert tried(ran.out)["clock"] == result, ran.out
    assert ("3600 s" in ran.out or "3599 s" in ran.out or "3601 s" in ran.out) == bool(hours), ran.out


def test_an_object_lock_is_tried_for_a_minute_and_a_bucket_without_one_is_wrong(tmp_path: Path) -> None:
    store = stores.s3(tmp_path / "store", versions=True)
    world = World(tmp_path, store)
    world.configure(object_lock_mode="GOVERNANCE", object_lock_days="30")
    with stores.running(store, world.carrier):
        ran = world.run("check")
        assert (ran.code, tried(ran.out)["write"]) == (ExitCode.FAILED, "wrong"), ran.out
        request = {"fs": "OFFSITE,bucket_object_lock_enabled=true,no_check_bucket=false:locked", "remote": ""}
        remote_of(world)._call("operations/mkdir", request, "making a bucket")
        world.configure(path="locked/prefix")
        ran = world.run("check")
        assert (ran.code, tried(ran.out)["write"]) == (ExitCode.DONE, "ok"), ran.out
        assert "keeps its version until the lock ends" in ran.out


def fill(path: Path) -> None:
    """Write until the file system is full."""
    with path.open("ab", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(b"x" * 4096):
            continue


@pytest.fixture
def full(tmp_path: Path) -> Iterator[stores.Store]:
    top = tmp_path / "small"
    top.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", top], capture_output=True).returncode:
        pytest.skip("this machine mounts no tmpfs")
    try:
        store = stores.s3(top / "store")
        with stores.running(store):
            fill(top / "fill")
            yield store
    finally:
        subprocess.run(["umount", "-l", top], check=True)


def test_a_full_bucket_is_named(tmp_path: Path, full: stores.Store) -> None:
    world = World(tmp_path, full)
    with stores.running(world.carrier):
        ran = world.run("check")
    assert (ran.code, tried(ran.out)["write"]) == (ExitCode.FAILED, "wrong"), ran.out
    assert "full" in ran.out


def test_a_probe_is_nobodys_backup(world: World) -> None:
    publish_days(world, "app", 1)
    assert world.copy().code == ExitCode.DONE
    (world.store.root / world.store.path.partition("/")[2] / CLUSTER / names.probe_name("0" * 8)).write_bytes(b"x")
    assert [one["database"] for one in json.loads(world.run("list", "--format", "json").out)] == ["app"]
    assert world.copy().code == ExitCode.DONE
    assert isinstance(remote_of(world), Rclone)
