"""Whatever is killed at whatever moment: no copy counts that is not whole, none is lost, and the next run tidies up."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from offsite.remote import rclone
from retention.errors import ExitCode
from retention.volume.folder import Folder
from tests.offsite import stores
from tests.offsite.world import NOW, World, publish_days
from tests.retention.world import HOUR, retention

# rclone and a store take minutes to build, which nothing else of `make test` needs.
pytestmark = pytest.mark.long

CALLS = ("_call", "upload", "read", "reading")
KILLED = 137


class Moments:
    """Stands before each request to rclone, counts them, and does something at one of them."""

    def __init__(self, number: int, moment: str, act: Callable[[], None]) -> None:
        self.seen = 0
        self._number = number
        self._moment = moment
        self._act = act

    def install(self, patch: Callable[[Any, str, Any], None]) -> None:
        for name in CALLS:
            patch(rclone.Rclone, name, self._around(name, getattr(rclone.Rclone, name)))

    def _around(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*arguments: Any, **options: Any) -> Any:
            self.seen += 1
            here = self.seen == self._number
            if here and self._moment == "before":
                self._act()
            if here and self._moment == "amid" and name == "upload":
                own, path, pieces, *rest = arguments
                arguments = (own, path, self._amid(pieces), *rest)
            result = real(*arguments, **options)
            if here and self._moment in ("after", "amid"):
                self._act()
            return result

        return wrapped

    def _amid(self, pieces: Any) -> Any:
        for number, piece in enumerate(pieces):
            yield piece[: len(piece) // 2]
            if number == 0:
                self._act()
            yield piece[len(piece) // 2 :]


def prepare(world: World) -> None:
    """A run that copies two backups of one database and one of another, reads back, and deletes."""
    publish_days(world, "app", 5, size=400)
    assert world.copy(now=NOW).code == ExitCode.DONE
    (world.config / "policy.json").write_text(json.dumps({"tiers": [{"name": "Few", "every": "24h", "keep": 3}]}))
    world.configure(prune="true", readback_every="1d")
    world.volume.publish("app", NOW + HOUR, content=os.urandom(150_000))
    world.volume.publish("zoo", NOW + HOUR, content=os.urandom(500))


LATER = NOW + 2 * HOUR


KEPT = {"app-20260129-230000", "app-20260130-230000", "app-20260131-010000"}
"""What the policy keeps in the end."""


def assert_sound_afterwards(world: World, before: set[str]) -> None:
    """No copy counts that is not whole; the next run does what the killed one did not; nothing is left over."""
    assert KEPT & before <= world.copied("app"), "a good copy was deleted"
    world.copied("zoo")
    ran = world.copy(now=LATER)
    assert ran.code == ExitCode.DONE, ran
    assert world.copied("app") >= KEPT
    assert world.copied("zoo") == {"zoo-20260131-010000"}
    assert not world.leftovers("app") | world.leftovers("zoo")


def count_moments(tmp_path: Path, store: stores.Store) -> int:
    world = World(tmp_path, store)
    with stores.running(world.carrier):
        prepare(world)
        with pytest.MonkeyPatch.context() as patch:
            moments = Moments(0, "", lambda: None)
            moments.install(patch.setattr)
            assert world.copy(now=LATER).code == ExitCode.DONE
    return moments.seen


MOST = 75
"""More requests than a run makes; those beyond end the test at once."""


@pytest.mark.sample(6)
@pytest.mark.parametrize("moment", ["before", "after", "amid"])
@pytest.mark.parametrize("number", range(1, MOST))
def test_our_own_end_at_any_request(world: World, number: int, moment: str) -> None:
    prepare(world)
    before = world.copied("app")
    child = os.fork()
    if child == 0:
        Moments(number, moment, lambda: os._exit(KILLED)).install(setattr)
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 1)
        os.dup2(null, 2)
        world.copy(now=LATER)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) in (0, KILLED)
    assert_sound_afterwards(world, before)


@pytest.mark.sample(6)
@pytest.mark.parametrize("moment", ["before", "after", "amid"])
@pytest.mark.parametrize("number", range(1, MOST))
def test_the_end_of_rclone_at_any_request(world: World, number: int, moment: str) -> None:
    prepare(world)
    before = world.copied("app")
    with pytest.MonkeyPatch.context() as patch:
        Moments(number, moment, world.carrier.end).install(patch.setattr)
        ran = world.copy(now=LATER)
    if world.carrier.program.process is None:
        world.carrier.start()
        if ran.code == ExitCode.FAILED:
            assert "rclone" in ran.out + ran.err
    else:
        assert ran.code == ExitCode.DONE, ran
    assert_sound_afterwards(world, before)


@pytest.mark.parametrize("kind", ["sftp", "webdav"])
def test_the_end_of_rclone_amid_an_upload_leaves_nothing_that_counts(tmp_path: Path, kind: str) -> None:
    """Here an object that was cut off has its final name."""
    store = stores.served(tmp_path / "store", kind)
    world = World(tmp_path, store)
    world.carrier = stores.carrier(world.top, store, "--bwlimit", "2M")
    with stores.running(store, world.carrier):
        (base,) = publish_days(world, "app", 1, size=20_000_000)
        child = os.fork()
        if child == 0:
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, 1)
            os.dup2(null, 2)
            os._exit(world.copy().code)
        stores.wait_until(lambda: any(".dump" in name for name in world.objects("app")), "the upload has begun")
        world.carrier.end(signal.SIGKILL)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == ExitCode.FAILED
        assert world.objects("app"), "nothing is left over: the test shows nothing"
        assert not world.copied("app")
    world.carrier = stores.carrier(world.top, store)
    with stores.running(store, world.carrier):
        assert world.copy().code == ExitCode.DONE
        assert world.copied("app") == {base}
        assert not world.leftovers("app"), "left over after the next run"
        assert len(world.objects("app")) == 4


# The way back.


@pytest.mark.sample(4)
@pytest.mark.parametrize("number", range(1, 14))
def test_a_fetch_that_ends_anywhere_leaves_no_backup_that_is_not_whole(world: World, number: int) -> None:
    (base,) = publish_days(world, "app", 1, size=300_000)
    assert world.copy().code == ExitCode.DONE
    new = world.top / "new"
    new.mkdir()
    child = os.fork()
    if child == 0:
        seen = 0

        def counted(real: Callable[..., Any]) -> Callable[..., Any]:
            def wrapped(*arguments: Any, **options: Any) -> Any:
                nonlocal seen
                seen += 1
                if seen == number:
                    os._exit(KILLED)
                return real(*arguments, **options)

            return wrapped

        for name in ("write", "create", "rename", "sync", "remove", "make_child"):
            setattr(Folder, name, counted(getattr(Folder, name)))
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 1)
        os.dup2(null, 2)
        os._exit(world.fetch("app", root=new).code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) in (0, KILLED)
    for archive in new.glob("app/*.dump"):
        assert archive.read_bytes() == (world.volume.root / "app" / archive.name).read_bytes()
        assert retention("verify", new).code == ExitCode.DONE
    assert world.fetch("app", root=new).code == ExitCode.DONE
    assert (new / "app" / f"{base}.dump").read_bytes() == (world.volume.root / "app" / f"{base}.dump").read_bytes()
    assert retention("verify", new).code == ExitCode.DONE
    assert not list(new.glob("app/.*partial"))


def test_all_requests_of_a_run_are_among_the_moments(tmp_path: Path, s3_store: stores.Store) -> None:
    assert 40 < count_moments(tmp_path, s3_store) < MOST
