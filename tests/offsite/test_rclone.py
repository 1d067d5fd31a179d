"""What rclone and the stores do when something is wrong, found out with the real ones, and said in one true line."""

from __future__ import annotations

import http.server
import os
import socket
import subprocess
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from offsite.remote.errors import (
    CarrierError,
    DeniedError,
    MissingError,
    RemoteError,
    TakenError,
    UnknownError,
    explain,
)
from offsite.remote.rclone import Destination, Rclone
from offsite.rule.parts import Parts, parts_for
from retention.errors import ExitCode, RetentionError
from tests.lab import tools
from tests.offsite import stores
from tests.offsite.stores import Store
from tests.offsite.world import NOW, World, publish_days, sum_of

# rclone and a store take minutes to build, which nothing else of `make test` needs.
pytestmark = pytest.mark.long


def remote_of(world: World, *, etags: bool = True, idle_seconds: float = 60) -> Rclone:
    remote = Rclone(
        Destination(str(world.carrier.socket), world.store.type, world.store.path, etags=etags),
        idle_seconds=idle_seconds,
    )
    remote.wait(20)
    return remote


def upload(remote: Rclone, path: str, content: bytes, *, once: bool = False) -> None:
    remote.upload(path, [content], len(content), parts_for(len(content)), once=once)


# What the values or the credentials have wrong: nothing is copied, and the line says what to change.


@pytest.mark.parametrize(
    ("changes", "words", "remedy"),
    [
        ({"ACCESS_KEY_ID": "other"}, "does not know the access key", "access_key_id"),
        ({"SECRET_ACCESS_KEY": "other"}, "does not accept the secret key", "check secret_access_key"),
        ({"ENDPOINT": "http://127.0.0.1:1"}, "does not answer", "offsite.egress"),
        ({"ENDPOINT": "http://store.invalid"}, "is not known", "check endpoint or host"),
        ({"TYPE": "nonsense"}, "rclone does not know the destination", "check type"),
        ({"ENDPOINT": "https://127.0.0.1:{port}"}, "", ""),
    ],
)
def test_a_destination_that_cannot_be_reached_is_one_line_that_says_what_to_change(
    tmp_path: Path, s3_store: Store, changes: dict[str, str], words: str, remedy: str
) -> None:
    world = World(tmp_path, s3_store)
    changes = {key: value.format(port=s3_store.port) for key, value in changes.items()}
    world.carrier = stores.carrier(world.top, s3_store, **changes)
    publish_days(world, "app", 1)
    with stores.running(world.carrier):
        ran = world.copy()
    assert ran.code == ExitCode.FAILED
    assert words in ran.err
    assert remedy in ran.err
    assert ran.err.count("\n") == 1
    assert world.message() in ran.err
    assert not world.store.files()


def test_a_missing_bucket_is_not_taken_for_an_empty_one(world: World) -> None:
    publish_days(world, "app", 1)
    world.configure(path="no-such-bucket/prefix")
    ran = world.copy()
    assert ran.code == ExitCode.FAILED
    assert "there is no such bucket" in ran.err
    assert "make the bucket, or correct offsite.path" in ran.err


def test_a_missing_folder_is_an_empty_one(any_world: World) -> None:
    remote = remote_of(any_world)
    assert remote.list("nobody") == []
    assert remote.look("nobody/nothing") is None
    assert remote.delete("nobody/nothing") is False
    with pytest.raises(MissingError):
        remote.read("nobody/nothing", 10)


@pytest.mark.parametrize("kind", ["sftp", "webdav"])
def test_a_wrong_login_is_said_for_servers_of_files_too(tmp_path: Path, kind: str) -> None:
    store = stores.served(tmp_path / "store", kind)
    world = World(tmp_path, store)
    world.carrier = stores.carrier(world.top, store, USER="other")
    publish_days(world, "app", 1)
    with stores.running(store, world.carrier):
        ran = world.copy()
    assert ran.code == ExitCode.FAILED
    assert "does not accept the login" in ran.err or "lack the right" in ran.err
    assert not world.store.files()


LIST, GET, PUT = "s3:ListBucket", "s3:GetObject", "s3:PutObject"
PENDING = "s3:ListBucketMultipartUploads"


@pytest.fixture
def owned(tmp_path: Path) -> Iterator[tuple[World, Store]]:
    """A store with users, and a world whose backups were copied once by its owner."""
    (tmp_path / "users").mkdir()
    store = stores.s3(tmp_path / "store", iam=tmp_path / "users")
    world = World(tmp_path, store)
    with stores.running(store):
        yield world, store


@pytest.mark.parametrize(
    ("rights", "words"),
    [
        ([], "lack the right"),
        ([GET, PUT], "lack the right"),
        ([LIST, GET], "lack the right"),
        ([LIST, PUT], "lack the right"),
    ],
)
def test_credentials_that_lack_a_right_copy_nothing_and_say_so(
    owned: tuple[World, Store], rights: list[str], words: str
) -> None:
    world, store = owned
    publish_days(world, "app", 2)
    world.carrier = stores.carrier(world.top, store, **stores.limit_rights(store, [*rights, "s3:GetBucketAcl"]))
    with stores.running(world.carrier):
        ran = world.copy()
    assert ran.code == ExitCode.FAILED
    assert words in ran.out + ran.err
    assert not world.copied("app")


def test_credentials_that_may_not_delete_copy_all_and_delete_nothing(owned: tuple[World, Store]) -> None:
    world, store = owned
    publish_days(world, "app", 5)
    world.carrier = stores.carrier(world.top, store, **stores.limit_rights(store, [LIST, GET, PUT, PENDING]))
    with stores.running(world.carrier):
        assert world.copy().code == ExitCode.DONE
        assert len(world.copied("app")) == 5
        marker = world.objects("app")[next(name for name in world.objects("app") if name.endswith("offsite.json"))]
        marker.unlink()  # what a killed run leaves
        ran = world.copy()
        assert ran.code == ExitCode.DONE
        assert "is left over and cannot be removed" in ran.out
        assert len(world.copied("app")) == 5
        (world.config / "policy.json").write_text('{"tiers": [{"name": "Few", "every": "24h", "keep": 2}]}')
        world.configure(prune="true", allow_large_prune="true")
        world.volume.publish("app", NOW)
        ran = world.copy()
        assert ran.code == ExitCode.FAILED
        assert "lack the right" in ran.out
        assert len(world.copied("app")) == 6


# A store that is full, broken or slow.


@pytest.fixture
def small_store(tmp_path: Path) -> Iterator[Store]:
    top = tmp_path / "small"
    top.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=30m", "tmpfs", top], capture_output=True).returncode:
        pytest.skip("this machine mounts no tmpfs")
    try:
        store = stores.s3(top / "store")
        with stores.running(store):
            yield store
    finally:
        subprocess.run(["umount", "-l", top], check=True)


def test_a_full_store_fails_the_copy_and_harms_none(tmp_path: Path, small_store: Store) -> None:
    world = World(tmp_path, small_store)
    with stores.running(world.carrier):
        publish_days(world, "app", 2, size=1000)
        assert world.copy().code == ExitCode.DONE
        before = world.copied("app")
        world.volume.publish("app", NOW, content=os.urandom(40_000_000))
        world.volume.publish("zoo", NOW, content=os.urandom(1000))
        ran = world.copy()
        assert ran.code == ExitCode.FAILED
        assert "the destination is full" in ran.out
        assert "free space there" in ran.out
        assert world.copied("app") == before
        assert not world.leftovers("app")
        assert world.copied("zoo"), "another database's small copy had room"


@contextmanager
def answering(status: int, *, silent: bool = False) -> Iterator[int]:
    """A server that answers everything alike, or never; its port."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def answer(self) -> None:
            if silent:
                stop.wait(60)
                return
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = answer  # noqa: N815

        def log_message(self, *_: object) -> None:
            return

    stop = threading.Event()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server.server_address[1]
    finally:
        stop.set()
        server.shutdown()
        server.server_close()


def test_a_store_that_has_a_fault_is_given_up_within_seconds(tmp_path: Path, s3_store: Store) -> None:
    world = World(tmp_path, s3_store)
    publish_days(world, "app", 1)
    with answering(500) as port:
        world.carrier = stores.carrier(world.top, s3_store, ENDPOINT=f"http://127.0.0.1:{port}")
        with stores.running(world.carrier):
            started = time.monotonic()
            ran = world.copy()
    assert ran.code == ExitCode.FAILED
    assert "has a fault, or is overloaded" in ran.err
    assert time.monotonic() - started < 100


def test_a_store_that_never_answers_does_not_hold_a_run_for_ever(tmp_path: Path, s3_store: Store) -> None:
    world = World(tmp_path, s3_store)
    with answering(200, silent=True) as port:
        world.carrier = stores.carrier(world.top, s3_store, ENDPOINT=f"http://127.0.0.1:{port}")
        with stores.running(world.carrier):
            remote = remote_of(world, idle_seconds=1)
            for work in (
                lambda: remote.list("main"),
                lambda: remote.read("main/owner.json", 10),
                lambda: upload(remote, "main/x", b"x" * 200_000),
            ):
                with pytest.raises(CarrierError, match="in time"):
                    work()


def test_a_store_that_goes_away_amid_an_upload_leaves_nothing_that_counts(tmp_path: Path) -> None:
    store = stores.s3(tmp_path / "store")
    world = World(tmp_path, store)
    world.carrier = stores.carrier(world.top, store, "--bwlimit", "8M")
    with stores.running(store, world.carrier):
        (base,) = publish_days(world, "app", 1, size=30_000_000)
        killer = threading.Thread(target=_end_amid, args=(store,))
        killer.start()
        ran = world.copy()
        killer.join()
        assert ran.code == ExitCode.FAILED
        assert "does not answer" in ran.out
        assert not world.copied("app")
        store.start()
        assert world.copy().code == ExitCode.DONE
        assert world.copied("app") == {base}
        assert not world.leftovers("app")
        assert store.pending() == 0


def _end_amid(store: Store) -> None:
    stores.wait_until(lambda: store.pending() > 0, "the upload has begun")
    store.program.end()


def test_a_store_that_cannot_tidy_up_gets_its_copies_all_the_same(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish_days(world, "app", 2)
    assert world.copy().code == ExitCode.DONE
    next(path for name, path in world.objects("app").items() if name.endswith("offsite.json")).unlink()

    def refuse(*_: object) -> bool:
        raise RemoteError("ending interrupted uploads: the destination has a fault")

    monkeypatch.setattr(Rclone, "abort_pending", refuse)
    monkeypatch.setattr(Rclone, "delete", refuse)
    ran = world.copy()
    assert ran.code == ExitCode.DONE
    assert "the destination has a fault" in ran.out
    assert len(world.copied("app")) == 2


def test_a_marker_that_cannot_be_read_back_is_never_left_without_its_objects(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish_days(world, "app", 1)
    real = Rclone.read

    def read(self: Rclone, path: str, most: int) -> bytes:
        if path.endswith(".offsite.json"):
            raise RemoteError(f"reading {path}: the destination has a fault")
        return real(self, path, most)

    monkeypatch.setattr(Rclone, "read", read)
    assert world.copy().code == ExitCode.FAILED
    assert not world.objects("app")
    monkeypatch.undo()
    assert world.copy().code == ExitCode.DONE
    assert len(world.copied("app")) == 1


# What rclone does without a word.


def test_rclone_overwrites_in_silence_so_names_are_written_once(world: World) -> None:
    remote = remote_of(world)
    for size in (100, 200_000):
        path = f"main/x-{size}"
        upload(remote, path, b"a" * size, once=True)
        with pytest.raises(TakenError):
            upload(remote, path, b"b" * size, once=True)
        assert remote.read(path, size) == b"a" * size
        upload(remote, path, b"c" * size)  # the trap: no error
        assert remote.read(path, size) == b"c" * size


@pytest.mark.parametrize("lost", ["nothing arrives", "half arrives"])
def test_an_upload_that_succeeds_without_arriving_does_not_count(
    any_world: World, lost: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As rclone answers where a request has no file."""
    world, real = any_world, Rclone.upload
    publish_days(world, "app", 1)

    def upload(self: Rclone, path: str, pieces: Iterable[bytes], size: int, parts: Parts, **options: Any) -> None:
        content = b"".join(map(bytes, pieces))
        if lost == "half arrives" or not path.endswith(".dump.age"):
            content = content if not path.endswith(".dump.age") else content[: size // 2]
            real(self, path, [content], len(content), parts, **options)

    monkeypatch.setattr(Rclone, "upload", upload)
    ran = world.copy()
    assert ran.code == ExitCode.FAILED
    assert ("it is not there" if lost == "nothing arrives" else "and it has") in ran.out
    assert not world.copied("app")
    assert not world.leftovers("app")


@pytest.mark.parametrize(("verify", "words"), [("etag", "has the MD5"), ("readback", "reads back as")])
def test_an_object_that_changes_on_its_way_does_not_count(
    world: World, verify: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Rclone.upload
    publish_days(world, "app", 1)
    world.configure(verify=verify)

    def upload(self: Rclone, path: str, pieces: Iterable[bytes], size: int, parts: Parts, **options: Any) -> None:
        content = bytearray(b"".join(map(bytes, pieces)))
        content[size // 2] ^= 1 if path.endswith(".dump.age") else 0
        real(self, path, [bytes(content)], size, parts, **options)

    monkeypatch.setattr(Rclone, "upload", upload)
    ran = world.copy()
    assert ran.code == ExitCode.FAILED
    assert words in ran.out
    assert not world.copied("app")
    assert not world.leftovers("app")


def test_an_upload_that_ends_early_leaves_no_object(any_world: World) -> None:
    remote = remote_of(any_world)

    def broken() -> Iterator[bytes]:
        yield b"x" * 500_000
        raise RetentionError("the volume has a fault")

    def short() -> Iterator[bytes]:
        yield b"x" * 500_000

    with pytest.raises(RetentionError, match="has a fault"):
        remote.upload("main/broken", broken(), 1_000_000, parts_for(1_000_000))
    with pytest.raises(RetentionError, match="500000 bytes instead of 1000000"):
        remote.upload("main/short", short(), 1_000_000, parts_for(1_000_000))
    if any_world.store.type == "s3":
        # Servers of files may keep what they have got, under its final name: no marker will ever name it.
        stores.wait_until(lambda: not any_world.store.files(), "nothing is left")
    for name in ("broken", "short"):
        found = remote.look(f"main/{name}")
        assert found is None or found.size != 1_000_000


def test_a_store_whose_etags_are_other_sums_is_noticed_and_can_be_read_back(tmp_path: Path) -> None:
    store = stores.s3(tmp_path / "store", "--data-integrity-etag")
    world = World(tmp_path, store)
    with stores.running(store, world.carrier):
        (base,) = publish_days(world, "app", 1, size=300_000)
        ran = world.copy()
        assert ran.code == ExitCode.FAILED
        assert "its ETags are not sums of the parts" in ran.out or "has the MD5" in ran.out
        assert not world.copied("app")
        assert not world.leftovers("app")
        world.configure(verify="readback")
        assert world.copy().code == ExitCode.DONE, ran
        assert world.copied("app") == {base}
        assert world.markers("app")[base].verified == "readback"


def test_a_stream_that_breaks_off_is_never_taken_for_an_end(tmp_path: Path) -> None:
    store = stores.s3(tmp_path / "store")
    world = World(tmp_path, store)
    with stores.running(store, world.carrier):
        content = os.urandom(40_000_000)
        upload(remote_of(world), "main/x", content)
    slow = stores.carrier(world.top, store, "--bwlimit", "4M")
    with stores.running(store, slow):
        remote, got = remote_of(world), 0
        with pytest.raises(RemoteError), remote.reading("main/x") as (readinto, size):  # noqa: PT012
            assert size == len(content)
            memory = memoryview(bytearray(1 << 20))
            while count := readinto(memory):
                got += count
                if got > 2_000_000:
                    slow.end()
        assert 2_000_000 < got < len(content)


def test_names_with_blanks_and_other_characters_go_both_ways(any_world: World) -> None:
    any_world.store.path += "/with a blank & ünïcode, [x=1:2%41?#"
    remote = remote_of(any_world)
    upload(remote, "main/app/x", b"content")
    assert remote.read("main/app/x", 10) == b"content"
    assert [entry.path for entry in remote.list("main")] == ["app/x"]
    assert remote.delete("main/app/x")
    assert not remote.delete("main/app/x")


def test_a_folder_outside_the_users_home_is_meant_as_it_is_written(tmp_path: Path) -> None:
    store = stores.served(tmp_path / "store", "sftp")
    store.path = "/elsewhere/deep"
    world = World(tmp_path, store)
    with stores.running(store, world.carrier):
        (base,) = publish_days(world, "app", 1)
        assert world.copy().code == ExitCode.DONE
        assert (store.root / "elsewhere" / "deep" / "main" / "owner.json").exists()
        new = world.top / "new"
        new.mkdir()
        assert world.fetch("app", root=new).code == ExitCode.DONE
        assert (new / "app" / f"{base}.dump").exists()


def test_a_bucket_that_keeps_versions_gets_only_marks_of_deletion(tmp_path: Path) -> None:
    store = stores.s3(tmp_path / "store", versions=True)
    world = World(tmp_path, store)
    with stores.running(store, world.carrier):
        remote = remote_of(world)
        request = {"command": "versioning", "fs": f"OFFSITE:{stores.BUCKET}", "arg": ["Enabled"]}
        remote._call("backend/command", request, "turning versions on")
        publish_days(world, "app", 5)
        assert world.copy().code == ExitCode.DONE
        sums = {stored.stored_sha256 for marker in world.markers("app").values() for stored in marker.objects.values()}
        (world.config / "policy.json").write_text('{"tiers": [{"name": "Few", "every": "24h", "keep": 2}]}')
        world.configure(prune="true", allow_large_prune="true")
        world.volume.publish("app", NOW)
        assert world.copy().code == ExitCode.DONE
        assert len(world.listed()[0]["copies"]) == 2
        assert world.copy().code == ExitCode.DONE
        kept = {sum_of(path.read_bytes()) for path in (tmp_path / "store").rglob("*") if path.is_file()}
        assert sums <= kept, "what was deleted is still among the versions"


def test_a_locked_copy_outlives_its_deletion_and_the_run_goes_on(tmp_path: Path) -> None:
    store = stores.s3(tmp_path / "store", versions=True)
    world = World(tmp_path, store)
    with stores.running(store, world.carrier):
        remote = remote_of(world)
        request = {"fs": "OFFSITE,bucket_object_lock_enabled=true,no_check_bucket=false:locked", "remote": ""}
        remote._call("operations/mkdir", request, "making a bucket")
        world.configure(path="locked/prefix", object_lock_mode="GOVERNANCE", object_lock_days="30")
        store.path, store.root = "locked/prefix", store.root.parent / "locked"
        publish_days(world, "app", 5)
        assert world.copy().code == ExitCode.DONE
        listed = {"fs": "OFFSITE:locked/", "remote": "", "opt": {"recurse": True, "metadata": True, "filesOnly": True}}
        for found in remote._call("operations/list", listed, "listing")["list"]:
            until = found["Metadata"].get("object-lock-retain-until-date")
            if found["Name"] == "owner.json":
                assert until is None
                continue
            assert found["Metadata"]["object-lock-mode"] == "GOVERNANCE"
            left = datetime.fromisoformat(until) - datetime.now(UTC)
            assert timedelta(days=29, hours=23) < left <= timedelta(days=30)
        sums = {stored.stored_sha256 for marker in world.markers("app").values() for stored in marker.objects.values()}
        (world.config / "policy.json").write_text('{"tiers": [{"name": "Few", "every": "24h", "keep": 2}]}')
        world.configure(prune="true", allow_large_prune="true")
        world.volume.publish("app", NOW)
        assert world.copy().code == ExitCode.DONE
        assert len(world.listed()[0]["copies"]) == 2
        # Not even with every right of the store's owner, unless the lock itself is bypassed.
        versions = {**listed, "fs": "OFFSITE,versions=true:locked/"}
        old = [
            one["Path"] for one in remote._call("operations/list", versions, "listing")["list"] if "-v20" in one["Path"]
        ]
        assert old
        for path in old:
            with pytest.raises(RemoteError, match=r"locked|protected"):
                remote._call(
                    "operations/deletefile", {"fs": "OFFSITE,versions=true:locked/", "remote": path}, "removing"
                )
        kept = {sum_of(path.read_bytes()) for path in (tmp_path / "store").rglob("*") if path.is_file()}
        assert sums <= kept


def test_the_socket_answers_at_once_when_rclone_is_too_old(tmp_path: Path) -> None:
    path = tmp_path / "old.sock"
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen()

        def answer() -> None:
            connection, _ = listening.accept()
            request = b""
            while b"{}" not in request:
                request += connection.recv(65536)
            body = b'{"version": "v1.60.1", "decomposed": [1, 60, 1]}'
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
            connection.close()

        threading.Thread(target=answer, daemon=True).start()
        with pytest.raises(CarrierError, match=r"rclone is v1\.60\.1, and 1\.74 or newer"):
            Rclone(Destination(str(path), "s3", "bucket")).wait(5)


def test_a_socket_that_nobody_serves_is_given_up_in_time(tmp_path: Path) -> None:
    path = tmp_path / "deaf.sock"
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen()
        started = time.monotonic()
        with pytest.raises(CarrierError, match="in time"):
            Rclone(Destination(str(path), "s3", "bucket")).wait(1)
        assert time.monotonic() - started < 20


# Texts of stores that are not at hand.


@pytest.mark.parametrize(
    ("text", "kind", "words"),
    [
        ("api error RequestTimeTooSkewed: The difference is too large", DeniedError, "clock differs"),
        ("StatusCode: 403, RequestID: AB12, HostID: x+/=, api error AccessDenied: Access Denied", DeniedError, "right"),
        ("StatusCode: 501, api error NotImplemented: A header you provided is not implemented", UnknownError, "know"),
        ("api error QuotaExceeded: quota", RemoteError, "is full"),
        ("api error SlowDown: Please reduce your request rate", RemoteError, "overloaded"),
        ("api error InvalidArgument: Part number must be an integer between 1 and 1000", RemoteError, "maxParts"),
        ("tls: failed to verify certificate: x509: certificate signed by unknown authority", RemoteError, "caBundle"),
        ("dial tcp: lookup s3.example.org on 10.0.0.10:53: i/o timeout", RemoteError, "does not answer"),
        ("ssh: handshake failed: knownhosts: key mismatch", DeniedError, "known_hosts"),
        ("", RemoteError, "without a reason"),
        ("a\nb\x1b[31mc" * 100, RemoteError, "container rclone"),
    ],
)
def test_errors_of_stores_are_one_line_with_a_remedy(text: str, kind: type[RemoteError], words: str) -> None:
    error = explain("writing bucket/x", text)
    assert type(error) is kind
    assert words in str(error)
    line = str(error)
    assert line.isprintable()
    assert len(line) < 600
    assert "RequestID" not in line
    assert line.startswith("writing bucket/x: ")


def test_rclone_is_built_as_the_tests_mean() -> None:
    version = subprocess.check_output([tools.program("rclone"), "version"], text=True)
    assert "v1.76.0" in version
