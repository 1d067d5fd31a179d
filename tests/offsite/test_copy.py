"""A copy counts when all of it arrived; what is copied is what the policy keeps; nothing else leaves the volume."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from offsite.remote.errors import RemoteError
from offsite.remote.rclone import Destination, Rclone
from offsite.rule import names
from offsite.rule.parts import parts_for
from offsite.settings import read_settings
from offsite.steps import clock as clocks
from offsite.steps import run as runs
from offsite.steps import upload as uploads
from offsite.steps.owner import OtherOwnerError, claim
from retention.errors import ExitCode
from retention.names import Grammar
from retention.rule.backup import Scan
from retention.rule.plan import plan
from retention.volume.folder import Folder
from retention.volume.scan import scan as real_scan
from tests.lab import tools
from tests.offsite import stores
from tests.offsite.world import CLUSTER, NOW, REMOTE_POLICY, World, publish_days
from tests.retention.world import DAY, HOUR, REPOSITORY

# rclone and a store take minutes to build, which nothing else of `make test` needs.
pytestmark = pytest.mark.long


def test_every_copy_is_what_the_volume_has_and_only_its_recipients_read_it(any_world: World) -> None:
    world = any_world
    world.volume.publish("app", NOW - HOUR, content=os.urandom(3 * 1024 * 1024 + 7))
    publish_days(world, "zoo", 3)
    ran = world.copy()
    assert ran.code == ExitCode.DONE, ran
    assert world.copied("app") == {"app-20260130-230000"}
    assert len(world.copied("zoo")) == 3
    assert not world.leftovers("app") | world.leftovers("zoo")
    # With the age command, by someone who has neither this program nor its marker.
    (archive,) = (path for name, path in world.objects("app").items() if name.endswith(".dump.age"))
    plain = subprocess.check_output([tools.program("age"), "-d", "-i", world.key_file, archive], timeout=60)
    assert plain == (world.volume.root / "app" / "app-20260130-230000.dump").read_bytes()


def test_nothing_of_a_backup_is_readable_at_the_destination(world: World) -> None:
    secret = b"the-customers-password"
    base = world.volume.publish("app", NOW - HOUR, content=secret * 1000)
    (world.volume.root / "app" / f"{base}.globals.sql").write_bytes(b"CREATE ROLE the_role;\n")
    assert world.copy().code == ExitCode.DONE
    for path in world.store.files().values():
        content = path.read_bytes()
        assert secret not in content, path
        assert b"the_role" not in content, path
        assert b"CREATE" not in content, path


def test_what_is_copied_is_what_the_policy_keeps(world: World) -> None:
    publish_days(world, "app", 20)
    for hours in range(2, 60, 2):
        world.volume.publish("app", NOW - hours * HOUR)
    found = [Grammar("app").parse(path.name) for path in (world.volume.root / "app").glob("*.dump")]
    times = {one.time for one in found if one is not None}
    assert world.copy().code == ExitCode.DONE
    kept = {f"app-{time:%Y%m%d-%H%M%S}" for time in plan(times, REMOTE_POLICY).kept}
    assert world.copied("app") == kept
    assert 3 <= len(kept) <= REMOTE_POLICY.most


def test_a_second_run_writes_and_deletes_nothing(world: World) -> None:
    publish_days(world, "app", 5)
    assert world.copy().code == ExitCode.DONE
    before = {name: (path.stat().st_ino, path.stat().st_mtime_ns) for name, path in world.store.files().items()}
    ran = world.copy()
    assert ran.code == ExitCode.DONE
    assert "nothing new" in ran.out
    after = {name: (path.stat().st_ino, path.stat().st_mtime_ns) for name, path in world.store.files().items()}
    assert after == before


def test_without_encryption_the_archive_is_copied_as_it_is_and_only_if_it_is_said(world: World) -> None:
    publish_days(world, "app", 1, size=100_000)
    world.configure(recipients="")
    ran = world.copy()
    assert ran.code == ExitCode.USAGE
    assert "there is no recipient" in ran.err
    assert not world.store.files()
    world.configure(encryption="none")
    assert world.copy().code == ExitCode.DONE
    (base,) = world.copied("app")
    (archive,) = (path for name, path in world.objects("app").items() if name.endswith(".dump"))
    assert archive.read_bytes() == (world.volume.root / "app" / f"{base}.dump").read_bytes()
    new = world.top / "new"
    new.mkdir()
    assert world.run("fetch", "--database", "app", new).code == ExitCode.DONE
    assert (new / "app" / f"{base}.dump").read_bytes() == archive.read_bytes()


def test_only_published_sound_backups_of_the_past_are_copied(world: World) -> None:
    (good,) = publish_days(world, "app", 1)
    folder = world.volume.root / "app"
    world.volume.stage("app", NOW - 2 * DAY)
    world.volume.publish("app", NOW + DAY)
    bad = world.volume.publish("app", NOW - 3 * DAY)
    (folder / f"{bad}.dump").rename(folder / f"{bad}.dump.bad")
    short = world.volume.publish("app", NOW - 4 * DAY)
    (folder / f"{short}.dump").write_bytes(b"short")
    alone = world.volume.publish("app", NOW - 5 * DAY)
    (folder / f"{alone}.json").unlink()
    (folder / ".app-20260120-000000.dump.partial").write_bytes(b"half")
    (folder / "notes.txt").write_text("private")
    world.copy()
    assert world.copied("app") == {good}
    assert len(world.objects("app")) == 4


def test_a_damaged_archive_is_never_copied_and_does_not_keep_others_from_it(world: World) -> None:
    newest, *older = publish_days(world, "app", 3, size=2_500_000)
    path = world.volume.root / "app" / f"{newest}.dump"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    ran = world.copy()
    assert ran.code == ExitCode.FAILED
    assert "is not what was published" in ran.out
    assert world.copied("app") == set(older)
    assert not world.leftovers("app")
    assert not any(newest in name for name in world.objects("app"))


def test_a_backup_that_is_pruned_meanwhile_is_no_failure(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    newest, other = publish_days(world, "app", 2)

    def scan(folder: Folder, database: str) -> Scan:
        found = real_scan(folder, database)
        for path in (world.volume.root / "app").glob(f"{other}.*"):
            path.unlink()
        return found

    monkeypatch.setattr(runs, "scan", scan)
    ran = world.copy()
    assert ran.code == ExitCode.DONE
    assert f"{other}.dump was pruned before it could be copied" in ran.out
    assert world.copied("app") == {newest}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"type": ""}, "type is empty"),
        ({"path": "/"}, "path is ''"),
        ({"path": "bucket/a]b"}, "without `]`"),
        ({"cluster_id": "../other"}, "cluster_id is '../other'"),
        ({"owner": ""}, "owner is empty"),
        ({"encryption": "pgp"}, "give one of age, none"),
        ({"encryption": "none"}, "leave one of them out"),
        ({"recipients": "age1qqqq"}, "is too short"),
        ({"verify": "believe"}, "give one of auto, etag, readback"),
        ({"copy": "everything"}, "give one of tiers, newest"),
        ({"prune": "yes"}, "give true or false"),
        ({"max_parts": "-1"}, "give a whole number"),
        ({"timeout": "1h"}, "give a whole number"),
        ({"readback_every": "weekly"}, "is not a duration"),
        ({"accept_loss_until": "soon"}, "give a date"),
        ({"object_lock_mode": "governance"}, "give one of GOVERNANCE, COMPLIANCE"),
        ({"object_lock_mode": "COMPLIANCE", "object_lock_days": "36500"}, "give 1 to 3650"),
        ({"object_lock_mode": "GOVERNANCE", "object_lock_days": "3", "type": "sftp"}, "has no object lock"),
        ({"large_prune_percent": "100"}, "give a whole number from 1 to 99"),
    ],
)
def test_a_wrong_setting_is_named_before_anything_is_done(world: World, changes: dict[str, str], words: str) -> None:
    publish_days(world, "app", 1)
    world.configure(**changes)
    ran = world.copy()
    assert ran.code == ExitCode.USAGE
    assert words in ran.err
    assert "offsite.conf: " in ran.err
    assert ran.err.count("\n") == 1
    assert not world.store.files()


def test_the_volume_is_only_read(world: World) -> None:
    publish_days(world, "app", 3)
    before = {path: (path.stat().st_mtime_ns, path.stat().st_ctime_ns) for path in world.volume.root.rglob("*")}
    world.configure(prune="true", readback_every="1d")
    assert world.copy().code == ExitCode.DONE
    assert {path: (path.stat().st_mtime_ns, path.stat().st_ctime_ns) for path in world.volume.root.rglob("*")} == before


# Whose folder it is, and who is at work.


def test_two_releases_with_one_folder_refuse_each_other(world: World) -> None:
    publish_days(world, "app", 2)
    assert world.copy().code == ExitCode.DONE
    before = {name: path.read_bytes() for name, path in world.store.files().items()}
    world.configure(owner="release-2")
    publish_days(world, "zoo", 2)
    ran = world.copy()
    assert ran.code == ExitCode.REFUSED
    assert "belongs to another release (release-1, not release-2)" in ran.err
    assert "set offsite.clusterId" in world.message()
    assert {name: path.read_bytes() for name, path in world.store.files().items()} == before
    world.configure(cluster_id="main-2")
    assert world.copy().code == ExitCode.DONE


def test_of_two_releases_that_begin_at_once_one_is_refused(world: World) -> None:
    destination = read_settings(world.config, str(world.carrier.socket)).destination
    Rclone(destination).wait(20)
    outcomes: list[str] = []

    def begin(owner: str) -> None:
        try:
            claim(Rclone(destination), CLUSTER, owner, now=NOW)
            outcomes.append(owner)
        except OtherOwnerError:
            outcomes.append("refused")

    threads = [threading.Thread(target=begin, args=(f"release-{number}",)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outcomes.count("refused") == 7, outcomes


def test_a_second_run_at_the_same_time_does_nothing(world: World) -> None:
    publish_days(world, "app", 1)
    fd = os.open(world.volume.root, os.O_RDONLY)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        ran = world.copy()
    finally:
        os.close(fd)
    assert ran.code == ExitCode.FAILED
    assert "another run copies at this moment" in ran.err
    assert not world.store.files()


# Ends of a run.


def test_the_deadline_ends_a_run_and_the_next_one_goes_on(world: World) -> None:
    publish_days(world, "app", 3)
    world.configure(timeout="0")
    ran = world.copy()
    assert ran.code == ExitCode.FAILED
    assert "deadline" in ran.out
    world.configure(timeout="600")
    assert world.copy().code == ExitCode.DONE
    assert len(world.copied("app")) == 3


def test_sigterm_ends_an_upload_and_leaves_nothing(tmp_path: Path, s3_store: stores.Store) -> None:
    world = World(tmp_path, s3_store)
    world.carrier = stores.carrier(world.top, s3_store, "--bwlimit", "4M")
    with stores.running(world.carrier):
        (base,) = publish_days(world, "app", 1, size=60_000_000)
        words = [sys.executable, "-m", "offsite", "copy", "--config", world.config, "--socket", world.carrier.socket]
        words += ["--now", NOW.isoformat(), world.volume.root]
        process = subprocess.Popen(list(map(str, words)), cwd=REPOSITORY, stdout=subprocess.PIPE)
        stores.wait_until(lambda: s3_store.pending() > 0, "the upload has begun")
        process.send_signal(signal.SIGTERM)
        out, _ = process.communicate(timeout=60)
        assert process.returncode == ExitCode.STOPPED, out
        assert b"stopped by SIGTERM" in out
        assert not world.copied("app")
        stores.wait_until(lambda: s3_store.pending() == 0, "rclone has ended the upload")
    world.carrier = stores.carrier(world.top, s3_store)
    with stores.running(world.carrier):
        assert world.copy().code == ExitCode.DONE
        assert world.copied("app") == {base}
        assert not world.leftovers("app")


# What is at the destination.


@pytest.mark.parametrize(
    "damage", ["flip", "truncate", "swap", "remove", "other marker", "no marker", "garbage marker"]
)
def test_damage_at_the_destination_is_noticed_and_the_backup_copied_again(world: World, damage: str) -> None:
    newest, other = publish_days(world, "app", 2, size=200_000)
    assert world.copy().code == ExitCode.DONE
    objects, marker = world.objects("app"), world.markers("app")[newest]
    archive = objects[marker.archive.name]
    marker_path = objects[names.object_name(newest, marker.attempt, names.Part.MARKER)]
    second = objects[world.markers("app")[other].archive.name]
    if damage == "flip":
        content = bytearray(archive.read_bytes())
        content[100_000] ^= 1
        archive.write_bytes(content)
    elif damage == "truncate":
        archive.write_bytes(archive.read_bytes()[:-1])
    elif damage == "swap":
        archive.write_bytes(second.read_bytes())
    elif damage == "remove":
        archive.unlink()
    elif damage == "no marker":
        marker_path.unlink()
    elif damage == "garbage marker":
        marker_path.write_bytes(b"{}")
    else:
        own = world.markers("app")[other]
        marker_path.write_bytes(objects[names.object_name(other, own.attempt, names.Part.MARKER)].read_bytes())
    seen = damage in ("flip", "swap")  # of the same size: a full reading alone shows it
    world.configure(readback_every="7d")
    fetched = world.fetch("app", "--backup", newest, root=world.top)
    assert fetched.code != ExitCode.DONE
    first = world.copy()
    if damage == "no marker":
        assert first.code == ExitCode.DONE
    elif seen:
        assert first.code == ExitCode.FAILED
        assert "reads back as" in first.out
        assert world.copy().code == ExitCode.DONE
    else:
        assert f"{newest}.{marker.attempt}" in first.out
        assert "does not count" in first.out or "cannot be understood" in first.out or "is missing" in first.out
    for path in marker_path, archive:
        if damage in ("other marker", "garbage marker", "truncate", "remove"):
            path.unlink(missing_ok=True)
    assert world.copied("app") == {newest, other}


def test_new_copies_are_not_read_back_before_a_week_has_passed_since_the_last_reading(world: World) -> None:
    publish_days(world, "app", 1)
    world.configure(readback_every="7d")
    read = [world.copy().out.count("back in full")]
    for day in range(1, 9):
        world.volume.publish("app", NOW + day * DAY)
        read.append(world.copy(now=NOW + day * DAY + HOUR).out.count("back in full"))
    assert read == [1, 0, 0, 0, 0, 0, 0, 1, 0]


def test_a_readback_is_done_when_it_is_due_and_not_before(world: World) -> None:
    (newest,) = publish_days(world, "app", 1)
    assert world.copy().code == ExitCode.DONE
    world.configure(readback_every="7d")
    ran = world.copy()
    assert f"read {newest} back in full" in ran.out
    assert world.copy(now=NOW + 6 * DAY).out.count("back in full") == 0
    assert world.copy(now=NOW + 7 * DAY + HOUR).out.count("back in full") == 1
    (document,) = world.listed()
    assert document["copies"][0]["checked"].startswith("2026-02-07")
    assert world.copied("app") == {newest}


# Sizes.


@pytest.mark.parametrize(("size", "parts"), [(0, None), (1, None), (100_000, None), (110_000, 1), (20_000_000, 3)])
def test_large_archives_go_in_equal_parts_of_a_size_that_we_choose(world: World, size: int, parts: int | None) -> None:
    (base,) = publish_days(world, "app", 1, size=size)
    assert world.copy().code == ExitCode.DONE
    assert world.copied("app") == {base}
    etag = os.getxattr(world.objects("app")[world.markers("app")[base].archive.name], "user.etag").decode().strip('"')
    assert etag.partition("-")[2] == ("" if parts is None else str(parts))


def test_a_store_that_takes_few_parts_gets_larger_ones(world: World) -> None:
    (base,) = publish_days(world, "app", 1, size=20_000_000)
    world.configure(max_parts="2")
    assert world.copy().code == ExitCode.DONE
    etag = os.getxattr(world.objects("app")[world.markers("app")[base].archive.name], "user.etag").decode().strip('"')
    assert etag.endswith("-2")
    assert world.copied("app") == {base}


def test_interrupted_uploads_are_ended_and_those_of_others_are_not(world: World) -> None:
    publish_days(world, "app", 1)
    assert world.copy().code == ExitCode.DONE
    mine, others = (f"{CLUSTER}/app/app-x", f"{CLUSTER}-2/app/app-x")
    slow = stores.carrier(world.top / "slow", world.store, "--bwlimit", "1M")
    (world.top / "slow").mkdir()
    before = world.store.pending()
    with stores.running(slow):
        for place in (mine, others):
            threading.Thread(target=_begin_upload, args=(world, slow, place), daemon=True).start()
        stores.wait_until(lambda: world.store.pending() == before + 2, "two uploads have begun")
        slow.end()
    assert world.store.pending() == before + 2
    assert world.copy().code == ExitCode.DONE
    assert world.store.pending() == before + 1


def _begin_upload(world: World, slow: stores.Carrier, place: str) -> None:
    remote = Rclone(Destination(str(slow.socket), "s3", world.store.path))
    remote.wait(20)
    try:
        remote.upload(place, (os.urandom(65536) for _ in range(400)), 400 * 65536, parts_for(400 * 65536))
    except RemoteError:
        return


# Secrets.


def test_no_key_is_in_an_argument_a_log_or_a_message(world: World) -> None:
    publish_days(world, "app", 1)
    process = world.carrier.program.process
    assert process is not None
    arguments = Path(f"/proc/{process.pid}/cmdline").read_bytes()
    ran = world.copy()
    fetched = world.fetch("app", root=world.top)
    secret = world.key_file.read_text().splitlines()[-1]
    said = ran.out + ran.err + fetched.out + fetched.err + world.message() + world.carrier.program.log.read_text()
    for text in (stores.SECRET, secret):
        assert text.encode() not in arguments
        assert text not in said
    for path in world.store.files().values():
        assert stores.SECRET.encode() not in path.read_bytes()
        assert secret.encode() not in path.read_bytes()


# Clocks.


def test_a_clock_that_differs_from_the_stores_is_noticed_before_anything_is_deleted(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish_days(world, "app", 9)
    assert world.copy().code == ExitCode.DONE
    world.configure(prune="true", allow_large_prune="true")
    (world.config / "policy.json").write_text(json.dumps({"tiers": [{"name": "Few", "every": "24h", "keep": 2}]}))
    world.volume.publish("app", NOW)
    real = clocks.wall
    monkeypatch.setattr(uploads, "wall", lambda: real() + HOUR)
    ran = world.copy()
    assert "clock is 3600 s ahead of the store's" in ran.out.replace("3599", "3600").replace("3601", "3600")
    assert len(world.copied("app")) > 2
    monkeypatch.undo()
    world.volume.publish("app", NOW + DAY)
    assert world.copy(now=NOW + DAY + HOUR).code == ExitCode.DONE
    assert len(world.copied("app")) == 2


def test_a_run_without_rclone_says_so_in_one_line(tmp_path: Path, s3_store: stores.Store) -> None:
    world = World(tmp_path, s3_store)
    publish_days(world, "app", 1)
    started = time.monotonic()
    ran = world.run("copy", "--wait", "1", world.volume.root)
    assert ran.code == ExitCode.FAILED
    assert "rclone does not answer" in ran.err
    assert ran.err.count("\n") == 1
    assert time.monotonic() - started < 30
