"""Destinations for tests, real ones on loopback: versitygw for S3, rclone's own servers for SFTP and WebDAV."""

from __future__ import annotations

import hashlib
import hmac
import http.client
import json
import signal
import socket
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from tests.lab import tools

KEY, SECRET = "key-of-tests", "secret-of-tests"
BUCKET = "bucket"
LIMITS = {"GOMEMLIMIT": "64MiB", "GOGC": "50"}
"""They keep rclone below 80 MiB at any size of an archive."""

_QUIET = {"RCLONE_CONFIG": "/dev/null", "PATH": "/usr/bin:/bin"}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until(condition: Callable[[], bool], what: str, seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"{what}: not after {seconds} s"
        time.sleep(0.02)


def answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@dataclass(slots=True)
class Program:
    """A program in the background, which the test ends by its own process."""

    command: list[str]
    environment: dict[str, str]
    log: Path
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(self.command, env=self.environment, stdout=log, stderr=log)

    def end(self, number: int = signal.SIGKILL) -> None:
        if self.process is not None:
            self.process.send_signal(number)
            self.process.wait(30)
            self.process = None


@dataclass(slots=True)
class Store:
    """A destination.

    Attributes:
        type: rclone's type.
        environment: What rclone needs to know to reach it.
        path: Bucket and prefix, or a folder.
        root: The folder that holds its objects as files.
        program: The server.
        port: Where it listens.
    """

    type: str
    environment: dict[str, str]
    path: str
    root: Path
    program: Program
    port: int
    settings: dict[str, str] = field(default_factory=dict)

    def start(self) -> None:
        self.program.start()
        wait_until(lambda: answers(self.port), f"{self.type} listens")

    def files(self) -> dict[str, Path]:
        """All objects below the path, by their names there."""
        top = self.root / self.path.partition("/")[2] if self.type == "s3" else self.root / self.path
        found = (path for path in top.rglob("*") if path.is_file()) if top.exists() else iter(())
        return {str(path.relative_to(top)): path for path in found}

    def pending(self) -> int:
        """How many uploads in parts were begun and not ended."""
        folder = self.root / ".sgwtmp" / "multipart"
        return sum(1 for path in folder.glob("*/*") if path.is_dir()) if folder.exists() else 0


def s3(top: Path, *options: str, versions: bool = False, iam: Path | None = None) -> Store:
    """An S3 store, with one bucket; with a folder for users, if there are to be any."""
    data, port = top / "data", free_port()
    for folder in (data / BUCKET, top / "versions"):
        folder.mkdir(parents=True)
    more = ["--versioning-dir", str(top / "versions")] if versions else []
    users = ["--iam-dir", str(iam)] if iam else []
    listen = ["--quiet", "--port", f"127.0.0.1:{port}", *users]
    command = [tools.program("versitygw"), *listen, "posix", *more, *options, str(data)]
    environment = {"ROOT_ACCESS_KEY": KEY, "ROOT_SECRET_KEY": SECRET, "PATH": "/usr/bin:/bin"}
    reach = {
        "TYPE": "s3",
        "PROVIDER": "Other",
        "ENDPOINT": f"http://127.0.0.1:{port}",
        "REGION": "us-east-1",
        "ACCESS_KEY_ID": KEY,
        "SECRET_ACCESS_KEY": SECRET,
        "NO_CHECK_BUCKET": "true",
    }
    program = Program(command, environment, top / "versitygw.log")
    return Store("s3", reach, f"{BUCKET}/prefix", data / BUCKET, program, port, {"provider": "Other"})


def limit_rights(store: Store, actions: Sequence[str]) -> dict[str, str]:
    """Make a user with some rights on the bucket alone; return what rclone needs to know about it."""
    name = f"user-{uuid.uuid4().hex[:8]}"
    endpoint = store.environment["ENDPOINT"]
    command = [tools.program("versitygw"), "admin", "--access", KEY, "--secret", SECRET, "--endpoint-url", endpoint]
    user = ["create-user", "--access", name, "--secret", SECRET, "--role", "user"]
    subprocess.run([*command, *user], check=True, capture_output=True, timeout=60)
    resources = [f"arn:aws:s3:::{BUCKET}", f"arn:aws:s3:::{BUCKET}/*"]
    statements = [
        {"Effect": "Allow", "Principal": {"AWS": [name]}, "Action": action, "Resource": resources["Object" in action]}
        for action in actions
    ]
    _signed_put(store, "policy=", json.dumps({"Version": "2012-10-17", "Statement": statements}).encode())
    return {"ACCESS_KEY_ID": name}


def _signed_put(store: Store, query: str, content: bytes) -> None:
    """A request that rclone cannot make, by the store's owner (AWS Signature, version 4)."""
    host, moment = store.environment["ENDPOINT"].removeprefix("http://"), datetime.now(UTC)
    stamp, day = f"{moment:%Y%m%dT%H%M%SZ}", f"{moment:%Y%m%d}"
    digest, signed = hashlib.sha256(content).hexdigest(), "host;x-amz-content-sha256;x-amz-date"
    headers = f"host:{host}\nx-amz-content-sha256:{digest}\nx-amz-date:{stamp}\n"
    request = f"PUT\n/{BUCKET}\n{query}\n{headers}\n{signed}\n{digest}"
    scope = f"{day}/us-east-1/s3/aws4_request"
    text = f"AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{hashlib.sha256(request.encode()).hexdigest()}"
    key = f"AWS4{SECRET}".encode()
    for part in (day, "us-east-1", "s3", "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    signature = hmac.digest(key, text.encode(), "sha256").hex()
    connection = http.client.HTTPConnection(host, timeout=30)
    authorization = f"AWS4-HMAC-SHA256 Credential={KEY}/{scope}, SignedHeaders={signed}, Signature={signature}"
    sent = {"x-amz-content-sha256": digest, "x-amz-date": stamp, "Authorization": authorization}
    connection.request("PUT", f"/{BUCKET}?{query.rstrip('=')}", content, sent)
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    assert answer.status in (200, 204), text


def served(top: Path, kind: str) -> Store:
    """An SFTP or WebDAV server of rclone."""
    data, port = top / "data", free_port()
    data.mkdir(parents=True)
    login = ["--user", KEY, "--pass", SECRET]
    command = [tools.program("rclone"), "serve", kind, str(data), "--addr", f"127.0.0.1:{port}", *login]
    hidden = subprocess.check_output([tools.program("rclone"), "obscure", SECRET], env=_QUIET, text=True).strip()
    reach = {"TYPE": kind, "USER": KEY, "PASS": hidden}
    if kind == "sftp":
        reach |= {"HOST": "127.0.0.1", "PORT": str(port)}
    else:
        reach |= {"URL": f"http://127.0.0.1:{port}", "VENDOR": "rclone"}
    program = Program(command, {**_QUIET, "HOME": str(top), "XDG_CACHE_HOME": str(top)}, top / f"{kind}.log")
    return Store(kind, reach, "folder/prefix", data, program, port)


@dataclass(slots=True)
class Carrier:
    """rclone as the sidecar container runs it."""

    socket: Path
    program: Program

    def start(self) -> None:
        self.socket.unlink(missing_ok=True)
        self.program.start()

    def end(self, number: int = signal.SIGKILL) -> None:
        self.program.end(number)


def carrier(top: Path, store: Store, *options: str, **changes: str) -> Carrier:
    """A sidecar for a store; `changes` replace what it needs to know."""
    path = top / "rc.sock"
    reach = {f"RCLONE_CONFIG_OFFSITE_{key}": value for key, value in {**store.environment, **changes}.items()}
    command = [
        tools.program("rclone"), "rcd", "--rc-serve", "--rc-addr", f"unix://{path}", "--rc-no-auth",
        "--retries", "1", "--low-level-retries", "2", "--contimeout", "10s", "--buffer-size", "0", *options,
    ]  # fmt: skip
    return Carrier(path, Program(command, {**_QUIET, **LIMITS, **reach}, top / "rclone.log"))


@contextmanager
def running(*programs: Store | Carrier) -> Iterator[None]:
    """Start programs, and end them."""
    try:
        for program in programs:
            program.start()
        yield
    finally:
        for program in programs:
            (program.program if isinstance(program, Store) else program).end()
