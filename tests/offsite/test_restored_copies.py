"""A drill of the copies: what it calls restored was restored from the store, and whatever else happens is reported."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from offsite.age import Identity
from offsite.rule import names
from offsite.rule.marker import parse_marker
from retention import message
from retention.errors import ExitCode
from tests.lab.postgres import Server
from tests.offsite import stores
from tests.offsite.test_rclone import GET, LIST, remote_of
from tests.offsite.test_verify import archive_of, flip
from tests.offsite.world import CLUSTER, World, text_of
from tests.retention.world import DAY, HOUR, Ran
from tests.scripts.test_drill import DrillPod, shell_folder

# rclone and a store take minutes to build, which nothing else of `make test` needs.
pytestmark = pytest.mark.long

NAME = "app"


def now() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server() as running:
        for name in (NAME, "zoo"):
            running.create_role(name, "secret")
            running.create_database(name, owner=name)
            rows = "INSERT INTO t (v) SELECT md5(n::text) FROM generate_series(1, 500) n"
            running.psql(f"SET ROLE {name}; CREATE TABLE t (id serial PRIMARY KEY, v text); {rows}", name)
        yield running


@dataclass
class Site:
    """A store, and the pods of a release: those that back up, and one that drills the copies."""

    world: World
    pod: DrillPod

    def back_up(self, *databases: str) -> None:
        """Back databases up with the scripts themselves, and copy them."""
        for name in databases:
            self.pod.add(name, user=name, password="secret", ca=False, sslmode="disable", count_rows="true")
        self.pod.run()
        assert self.copy().code == ExitCode.DONE

    def copy(self, ahead: timedelta = timedelta()) -> Ran:
        return self.world.run("copy", self.pod.root, now=now() + ahead)

    def places(self) -> list[object]:
        folder = self.pod.folder
        kinds = ("results", "run", "scratch")
        places = [word for kind in kinds for word in (f"--{kind}", folder / kind)]
        return ["--databases", folder / "config", "--seconds", 120, *places]

    def begin(self) -> None:
        self.pod.renew()
        shutil.rmtree(self.pod.folder / "scratch", ignore_errors=True)
        (self.pod.folder / "scratch").mkdir()

    def hand_over(self, name: str, *more: object, size: str = "10Gi", key: Path | None = None) -> Ran:
        key = key or self.world.key_file
        words = ["--database", name, "--identity", key, "--scratch-size", size, *more]
        ran = self.world.run("hand-over", *words, *self.places(), now=now())
        assert ran.code == ExitCode.DONE, ran
        self.pod.open_to_the_server_user()
        return ran

    def restore(self, name: str) -> None:
        self.pod.end_drill_of(self.pod.start_drill_of(name), name)

    def record(self) -> Ran:
        return self.world.run("record", *self.places(), now=now())

    def drill(self, size: str = "10Gi", key: Path | None = None) -> Ran:
        """Run all containers of a drill while the volume is away; return how the last one ended, with all logs."""
        self.begin()
        hidden = self.pod.root.rename(self.pod.folder / "hidden")
        log = ""
        try:
            for name in self.pod.databases():
                log += self.hand_over(name, size=size, key=key).out
                self.restore(name)
            ran = self.record()
        finally:
            hidden.rename(self.pod.root)
        return Ran(ran.code, log + ran.out, ran.err)

    def copies(self, name: str = NAME) -> list[dict[str, Any]]:
        found = {str(one["database"]): one["copies"] for one in self.world.listed(now())}
        copies: list[dict[str, Any]] = found.get(name, [])
        return copies

    def objects(self) -> dict[str, bytes]:
        return {name: path.read_bytes() for name, path in self.world.store.files().items()}

    def plaintext(self) -> list[str]:
        """What is left of archives and of databases in the volumes of the pod."""
        left = (path for kind in ("scratch", "run") for path in (self.pod.folder / kind).rglob("*"))
        return [str(path) for path in left if path.is_file()]


def site_of(world: World, server: Server) -> Site:
    folder, programs = shell_folder("busybox")
    return Site(world, DrillPod(folder, server, programs))


@pytest.fixture
def site(world: World, server: Server) -> Site:
    return site_of(world, server)


def test_the_newest_copy_is_restored_from_the_store_alone_and_called_so(any_world: World, server: Server) -> None:
    site = site_of(any_world, server)
    site.back_up(NAME, "zoo")
    before = site.objects()
    ran = site.drill()
    assert (ran.code, ran.err) == (ExitCode.DONE, ""), ran
    told = message.read_drills(site.world.message()).drills
    assert {one.database: one.result for one in told} == {NAME: "proved", "zoo": "proved"}
    assert all(one.restore_seconds is not None for one in told)
    assert "500" in ran.out, "the table says how many rows came back"
    assert not site.plaintext()
    for name in (NAME, "zoo"):
        (copy,) = site.copies(name)
        assert (copy["verified"], copy["restored"][:10]) == ("restored", f"{now():%Y-%m-%d}")
    after = site.objects()
    assert {name: after[name] for name in before} == before, "an object of a copy was changed"
    assert len(after) == len(before) + 2
    # The runs that copy leave it as it is, and say so.
    assert site.copy().code == ExitCode.DONE
    assert "restored" in site.copy().out
    for line in message.read(site.world.message()).lines:
        assert line.numbers["restored"] == line.numbers["proved"] <= now().timestamp()
        assert line.numbers["read"] == line.numbers["restored"], "to restore it is to read it in full"
    assert "restored" in site.world.run("list", now=now()).out


def test_a_newer_copy_is_not_called_restored_and_the_last_restore_is_still_said(site: Site) -> None:
    site.world.configure(copy="newest")
    site.back_up(NAME)
    assert site.drill().code == ExitCode.DONE
    stores.wait_until(lambda: now().timestamp() > site_newest(site), "another second")
    site.pod.run()
    assert site.copy().code == ExitCode.DONE
    newest, older = site.copies()
    assert (newest["verified"], older["verified"]) == ("etag", "restored")
    (line,) = message.read(site.world.message()).lines
    assert "restored" not in line.numbers
    assert "proved" in line.numbers


def site_newest(site: Site) -> float:
    return float(datetime.fromisoformat(site.copies()[0]["time"]).timestamp())


def test_prune_keeps_the_newest_copy_that_a_drill_has_restored(site: Site) -> None:
    site.back_up(NAME)
    assert site.drill().code == ExitCode.DONE
    (proved,) = (copy["base"] for copy in site.copies())
    tiers = '{"tiers": [{"name": "A", "every": "24h", "keep": 2}]}'
    (site.world.config / "policy.json").write_text(tiers)
    site.world.configure(prune="true", allow_large_prune="true", allow_shrunk="true")
    source = site.pod.directory(NAME)
    for day in range(1, 5):
        made = site.world.volume.publish(NAME, now() + day * DAY)
        for path in site.world.volume.folder(NAME).glob(f"{made}.*"):
            shutil.copy(path, source / path.name)
        assert site.copy(day * DAY + HOUR).code == ExitCode.DONE
    found = {names.parse(NAME, name) for name in site.world.objects(NAME)}
    bases = {one.base for one in found if one is not None}
    assert proved in bases
    assert len(bases) == 3, "nothing else is kept beyond the tiers"


@pytest.mark.parametrize("part", [names.Part.ARCHIVE, names.Part.METADATA, names.Part.GLOBALS])
def test_a_byte_that_flipped_at_the_store_is_found_and_the_copy_no_longer_counts(site: Site, part: names.Part) -> None:
    site.back_up(NAME)
    (copy,) = site.copies()
    ((_, marker),) = site.world.markers(NAME).items()
    flip(site.world.objects(NAME)[marker.objects[part.value].name])
    ran = site.drill()
    assert ran.code == ExitCode.FAILED
    assert "proved" not in {one.result for one in message.read_drills(site.world.message()).drills}
    assert "reads back as" in site.world.message()
    assert copy["base"] in site.world.message() or NAME in site.world.message()
    assert not [name for name in site.world.objects(NAME) if "restored" in name]
    assert not site.copies(), "it still counts"
    assert not site.plaintext()
    # The volume has the backup: the next run copies it again, and that copy is restored.
    site.copy()
    assert site.drill().code == ExitCode.DONE
    assert site.copies()[0]["verified"] == "restored"


def test_an_archive_that_does_not_restore_is_reported_and_its_copy_stays(site: Site) -> None:
    """All bytes are what was sent: the copy is no worse than the backup."""
    site.back_up(NAME)
    config = site.pod.folder / "config" / f"{NAME}.assertions"
    config.write_text("SELECT count(*) > 500 FROM t\n")
    before = site.objects()
    ran = site.drill()
    assert ran.code == ExitCode.FAILED
    assert "1 of 1 drills failed" in site.world.message()
    assert "assertion 1 is not true: SELECT count(*) > 500 FROM t" in site.world.message()
    assert site.objects() == before
    assert site.copies()[0]["verified"] == "etag"
    config.unlink()
    assert site.drill().code == ExitCode.DONE
    assert site.copies()[0]["verified"] == "restored"
    config.write_text("SELECT false\n")
    assert site.drill().code == ExitCode.FAILED
    assert site.copies()[0]["verified"] == "restored", "it was restored, whatever is asked of it later"


@pytest.mark.parametrize("key", ["missing", "of someone else", "no key"])
def test_without_the_key_nothing_is_restored_and_no_copy_is_called_damaged(site: Site, key: str) -> None:
    site.back_up(NAME)
    path = site.pod.folder / "key.txt"
    text = text_of(Identity(os.urandom(32))) if key == "of someone else" else "nonsense-1"
    if key != "missing":
        path.write_text(f"{text}\n")
    before = site.objects()
    ran = site.drill(key=path)
    assert ran.code == ExitCode.FAILED
    assert "key" in site.world.message()
    assert text not in ran.out + ran.err + site.world.message()
    assert site.objects() == before


def test_what_does_not_fit_is_not_fetched(site: Site) -> None:
    site.back_up(NAME)
    ran = site.drill(size="640Mi")
    assert ran.code == ExitCode.FAILED
    assert "raise drill.scratch.sizeLimit" in ran.out
    assert site.copies()[0]["verified"] == "etag"


def test_a_database_without_a_copy_is_no_failure_and_no_proof(site: Site) -> None:
    site.back_up(NAME)
    site.pod.add("zoo", user="zoo", password="secret", ca=False, sslmode="disable")
    ran = site.drill()
    assert ran.code == ExitCode.DONE, ran
    told = {one.database: one.result for one in message.read_drills(site.world.message()).drills}
    assert told == {NAME: "proved", "zoo": "none"}


def test_a_store_that_takes_nothing_is_said_and_so_is_that_the_copy_was_restored(
    tmp_path: Path, server: Server
) -> None:
    (tmp_path / "users").mkdir()
    store = stores.s3(tmp_path / "store", iam=tmp_path / "users")
    world = World(tmp_path, store)
    site = site_of(world, server)
    with stores.running(store):
        with stores.running(world.carrier):
            site.back_up(NAME)
        world.carrier = stores.carrier(world.top, store, **stores.limit_rights(store, [LIST, GET, "s3:GetBucketAcl"]))
        with stores.running(world.carrier):
            ran = site.drill()
            assert ran.code == ExitCode.FAILED
            assert "was restored, and this cannot be written next to its copy" in world.message()
            assert "lack the right" in world.message()
            assert site.copies()[0]["verified"] == "etag"


def test_a_store_with_object_lock_takes_it_and_its_marker_has_one_version(tmp_path: Path, server: Server) -> None:
    store = stores.s3(tmp_path / "store", versions=True)
    world = World(tmp_path, store)
    site = site_of(world, server)
    with stores.running(store, world.carrier):
        request = {"fs": "OFFSITE,bucket_object_lock_enabled=true,no_check_bucket=false:locked", "remote": ""}
        remote_of(world)._call("operations/mkdir", request, "making a bucket")
        world.configure(path="locked/prefix", object_lock_mode="GOVERNANCE", object_lock_days="1")
        site.back_up(NAME)
        assert site.drill().code == ExitCode.DONE
        assert site.copies()[0]["verified"] == "restored"
        versions = [path for path in (tmp_path / "store" / "versions").rglob("*") if path.is_file()]
        assert not versions, "an object was written a second time"


def test_a_copy_that_is_gone_by_the_end_gets_no_proof(site: Site) -> None:
    site.back_up(NAME)
    site.begin()
    site.hand_over(NAME)
    site.restore(NAME)
    for path in site.world.objects(NAME).values():
        path.unlink()
    ran = site.record()
    assert ran.code == ExitCode.DONE
    assert "its copy is gone by now" in ran.out
    assert not site.world.objects(NAME)


@pytest.mark.parametrize("moment", ["while it is fetched", "before it is restored", "before it is written down"])
def test_a_kill_leaves_no_proof_and_no_object(site: Site, moment: str) -> None:
    site.back_up(NAME)
    before = site.objects()
    site.begin()
    if moment == "while it is fetched":
        kill_amid(site)
    else:
        site.hand_over(NAME)
    if moment == "before it is written down":
        process = site.pod.start_drill_of(NAME)
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    assert site.objects() == before
    # What a last container would see if it ran all the same.
    ran = site.record()
    if moment == "while it is fetched":
        told = {one.result for one in message.read_drills(site.world.message()).drills}
        assert "proved" not in told
    else:
        assert ran.code == ExitCode.FAILED
        assert "reported nothing" in site.world.message()
    assert site.objects() == before
    assert not site.plaintext()


def kill_amid(site: Site) -> None:
    """Begin to hand over, and kill the program when it has requested the archive."""
    words: list[object] = ["hand-over", "--config", site.world.config, "--socket", site.world.carrier.socket]
    words += ["--database", NAME, "--identity", site.world.key_file, "--scratch-size", "10Gi", *site.places()]
    code = (
        "import os, sys; from offsite.steps import content; real = content.Content.write_archive\n"
        "def dies(self, folder, name):\n"
        "    real(self, folder, name); os.kill(os.getpid(), 9)\n"
        "content.Content.write_archive = dies\n"
        "from offsite.cli import main; sys.exit(main(sys.argv[1:]))"
    )
    done = subprocess.run([sys.executable, "-c", code, *map(str, words)], capture_output=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr


def test_of_an_entry_those_are_first_that_no_drill_has_restored(site: Site) -> None:
    """An entry means all databases of a cluster; its databases share a few containers."""
    site.back_up(NAME)
    for name in ("all.one", "all.three", "all.two"):
        made = site.world.volume.publish(name, now() - HOUR)
        shutil.copytree(site.world.volume.folder(name), site.pod.directory(name))
        assert made
    assert site.copy().code == ExitCode.DONE
    conf = site.pod.folder / "config"
    (conf / f"{NAME}.conf").rename(conf / "all.all")
    marker = next(iter(site.world.markers("all.one").values()))
    path = site.world.objects("all.one")[marker.objects["dump"].name].with_name(
        names.restored_name(marker.base, marker.attempt, now())
    )
    path.write_bytes(b"{}")

    def turn(*slots: int) -> list[str]:
        site.begin()
        for slot in slots:
            site.hand_over("all", "--slot", f"all.slot-{slot}")
        found = sorted((site.pod.folder / "results").glob("*.slot"))
        return [one.read_text().strip().removeprefix("database=") for one in found]

    assert turn(1, 2) == ["all.three", "all.two"]
    assert turn(1, 2, 3, 4) == ["all.three", "all.two", "all.one"], "nobody has two turns"
    assert (site.pod.folder / "scratch" / "databases" / "all.slot-4").is_dir(), "its container could not start"


def test_a_store_that_does_not_answer_is_said_once_for_each_database(tmp_path: Path, server: Server) -> None:
    store = stores.s3(tmp_path / "store")
    world = World(tmp_path, store)
    site = site_of(world, server)
    with stores.running(store, world.carrier):
        site.back_up(NAME)
        store.program.end()
        ran = site.drill()
        assert ran.code == ExitCode.FAILED
        assert "does not answer" in world.message()
        store.start()
        assert site.copies()[0]["verified"] == "etag"


def test_no_object_that_counts_is_read_as_a_marker_of_a_drill(site: Site) -> None:
    site.back_up(NAME)
    assert site.drill().code == ExitCode.DONE
    (evidence,) = (path for name, path in site.world.objects(NAME).items() if ".restored-" in name)
    assert b'"rows": 500' in evidence.read_bytes()
    name, path = next((n, p) for n, p in site.world.objects(NAME).items() if n.endswith(".offsite.json"))
    assert parse_marker(path.read_bytes(), name).verified == "etag", "a marker is never written again"
    assert CLUSTER in str(path)
    assert archive_of(site.world, site.copies()[0]["base"]).exists()
