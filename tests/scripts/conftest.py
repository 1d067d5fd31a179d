"""A pod's two containers on a folder: dump.sh in a given shell, then `retention finish`."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.lab.conf import conf_text
from tests.lab.postgres import Server, identifier

REPO = Path(__file__).resolve().parents[2]
DUMP = REPO / "scripts" / "dump.sh"
RESTORE = REPO / "scripts" / "restore.sh"
_COMPILED = str(Path(sys.prefix) / "compiled")
PASSWORD = "pa:ss\\word 'with\" all"
OURS: Mapping[str, str] = {"host": "localhost", "wait_timeout": "5", "lock_timeout": "1"}
"""What differs from the chart's own configuration: the server runs here, and failures must come soon."""


def wait_until(condition: Callable[[], bool], what: str, seconds: float = 60) -> None:
    """Poll a condition; fail naming what was waited for."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"waited {seconds} s in vain for {what}"
        time.sleep(0.02)


@dataclass
class Pod:
    """The folders of one pod and of the claim; `dump` and `finish` run the containers' programs."""

    folder: Path
    server: Server
    shell_path: str
    parallel: int = 1
    timeout: int = 600
    root: Path = field(init=False)

    def __post_init__(self) -> None:
        self.root = self.folder / "backups"
        for name in ("backups", "config", "credentials", "run", "results"):
            (self.folder / name).mkdir()
        policy = {
            "phase": -900,
            "tiers": [
                {"name": "Hourly", "every": "2h", "keep": 6, "until": "12h"},
                {"name": "12-Hourly", "every": "12h", "keep": 4, "until": "48h"},
                {"name": "Daily", "every": "24h", "keep": 5},
            ],
        }
        (self.folder / "config" / "policy.json").write_text(json.dumps(policy))

    def add(self, name: str, *, user: str = "backup", password: str = PASSWORD, ca: bool = True, **conf: Any) -> None:
        """Configure a database; keyword arguments override single keys of its `.conf`."""
        extra = conf.pop("extra_args", [])
        own = {"database": name, "dbname": name, "port": str(self.server.port)}
        # Rendered once for all names.
        text = conf_text("app", {**OURS, **own, **conf}) + "".join(f"extra_arg={argument}\n" for argument in extra)
        (self.folder / "config" / f"{name}.conf").write_text(text)
        secret = self.folder / "credentials" / name
        secret.mkdir(exist_ok=True)
        (secret / "username").write_text(user)
        (secret / "password").write_text(password)
        if ca:
            assert self.server.ca
            shutil.copy(self.server.ca, secret / "ca.crt")

    def directory(self, name: str) -> Path:
        return self.root / name

    def environment(self) -> dict[str, str]:
        return {
            "PATH": f"{self.shell_path}:{self.server.bin}:/usr/bin:/bin",
            "HOME": str(self.folder / "run"),
            "BACKUP_ROOT": str(self.root),
            "BACKUP_CONFIG": str(self.folder / "config"),
            "BACKUP_CREDENTIALS": str(self.folder / "credentials"),
            "BACKUP_RUN": str(self.folder / "run"),
            "BACKUP_RESULTS": str(self.folder / "results"),
            "BACKUP_PARALLEL": str(self.parallel),
            "BACKUP_TIMEOUT": str(self.timeout),
            "BACKUP_CHART_VERSION": "0.0.0",
            "BACKUP_POD": "pod-under-test",
        }

    def renew(self) -> None:
        """Empty the scratch volumes, as in a new pod."""
        for name in ("run", "results"):
            shutil.rmtree(self.folder / name)
            (self.folder / name).mkdir()
        (self.folder / "termination-log").unlink(missing_ok=True)

    def start_dump(self, **environment: str) -> subprocess.Popen[str]:
        """Start the dump container's program, with empty scratch volumes as in a new pod."""
        self.renew()
        return self.start(DUMP, **environment)

    def start(self, script: Path, **environment: str) -> subprocess.Popen[str]:
        """Start a container's script."""
        return subprocess.Popen(
            ["sh", str(script)],
            env={**self.environment(), **environment},
            executable=f"{self.shell_path}/sh",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def dump(self, **environment: str) -> str:
        """Run the dump container to its end and return its log; it must exit 0."""
        process = self.start_dump(**environment)
        log = wait_for(process)
        assert process.returncode == 0, f"dump.sh exited {process.returncode}:\n{log}"
        return log

    def finish(self, *arguments: str, expect: int | None = None) -> subprocess.CompletedProcess[str]:
        """Run the retention container's program."""
        config, results = str(self.folder / "config"), str(self.folder / "results")
        return self.retention("finish", *arguments, "--config", config, "--results", results, expect=expect)

    def retention(self, command: str, *arguments: str, expect: int | None = None) -> subprocess.CompletedProcess[str]:
        """Run a command of `retention` as a container does."""
        termination = ("--termination-log", str(self.folder / "termination-log"))
        done = subprocess.run(
            [sys.executable, "-m", "retention", command, *arguments, *termination, str(self.root)],
            cwd=REPO,
            env={"PATH": "/usr/bin:/bin", "PYTHONPYCACHEPREFIX": _COMPILED, "BACKUP_POD": "pod-under-test"},
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
        output = done.stdout + done.stderr
        assert "Traceback" not in output, output
        if expect is not None:
            assert done.returncode == expect, f"{command} exited {done.returncode}, not {expect}:\n{output}"
        return done

    def run(self, expect: int = 0) -> str:
        """Run both containers; returns both logs."""
        log = self.dump()
        done = self.finish(expect=expect)
        return log + done.stdout + done.stderr

    def start_restore(self, name: str, **environment: str) -> subprocess.Popen[str]:
        """Run the first container of a restore, start the second."""
        self.renew()
        backup, results = environment.pop("RESTORE_BACKUP", "newest"), str(self.folder / "results")
        self.retention("choose", "--database", name, "--backup", backup, "--requests", results, expect=0)
        environment.setdefault("RESTORE_TERMINATION_LOG", str(self.folder / "termination-log"))
        return self.start(RESTORE, **environment)

    def restore(self, name: str, expect: int = 0, **environment: str) -> str:
        """Restore an archive; return the log of the second container."""
        process = self.start_restore(name, **environment)
        log = wait_for(process)
        assert process.returncode == expect, f"restore.sh exited {process.returncode}, not {expect}:\n{log}"
        return log

    def result(self, name: str) -> dict[str, str]:
        """Return the values of a result file; of a repeated key the last one."""
        text = (self.folder / "results" / f"{name}.result").read_text()
        return dict(line.split("=", 1) for line in text.splitlines())

    def archives(self, name: str) -> list[Path]:
        """Return the published archives, oldest first."""
        return sorted(self.directory(name).glob(f"{name}-*.dump"))

    def unpublished(self, name: str) -> list[str]:
        """Return the names of partial and staged files."""
        return sorted(p.name for p in self.directory(name).glob(".*") if p.name.startswith(f".{name}-"))

    def metadata(self, archive: Path) -> dict[str, Any]:
        data: dict[str, Any] = json.loads(archive.with_suffix(".json").read_text())
        return data

    def check(self, archive: Path) -> None:
        """An archive must pass sha256sum and a full read by the server's own pg_restore."""
        subprocess.run(["sha256sum", "-c", "--quiet", f"{archive.name}.sha256"], cwd=archive.parent, check=True)
        subprocess.run([f"{self.server.bin}/pg_restore", "-f", "/dev/null", str(archive)], check=True)


def drop_owner(server: Server, name: str) -> None:
    """Drop a role, and every database whose name begins with its own: a restore may have kept or made others."""
    for (dbname,) in server.sql(f"SELECT datname FROM pg_database WHERE datname LIKE '{name}%'"):
        server.drop_database(dbname)
    server.psql(f"DROP OWNED BY {identifier(name)}; DROP ROLE {identifier(name)}")


def session_processes(leader: int) -> list[Path]:
    """Return the /proc entries of a session's processes."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                session = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[3])
            except (OSError, ValueError, IndexError):
                continue
            if session == leader:
                found.append(entry)
    return found


def kill_session(process: subprocess.Popen[str]) -> str:
    """SIGKILL every process of a started script, as the end of a container does, and return its log.

    Whatever was begun between the look and the kill is found by the next look; the last one finds nothing.
    """
    end = time.monotonic() + 60
    while found := session_processes(process.pid):
        assert time.monotonic() < end, f"these processes outlive SIGKILL: {[entry.name for entry in found]}"
        for entry in found:
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(entry.name), signal.SIGKILL)
        process.poll()
    return process.communicate(timeout=60)[0]


def wait_for(process: subprocess.Popen[str], seconds: int = 300) -> str:
    """Wait for the end of a started script and return its log.

    Where it does not end, the failure shows what it said and which programs it was waiting for, and nothing of it is
    left to trouble the next test.
    """
    try:
        log, _ = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        programs = [(entry / "cmdline").read_bytes().replace(b"\0", b" ") for entry in session_processes(process.pid)]
        log = kill_session(process)
        pytest.fail(f"not ended after {seconds} s, while it ran {programs}; it said:\n{log}")
    return log


@pytest.fixture(scope="session")
def shell_paths(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A folder for PATH for each shell: `sh` is that shell; busybox has all its applets, as in an Alpine image."""
    folders = {}
    for name in ("dash", "busybox", "bash"):
        folder = tmp_path_factory.mktemp(name)
        program = shutil.which(name)
        assert program, f"{name} is not installed"
        if name == "busybox":
            subprocess.run([program, "--install", "-s", str(folder)], check=True)
        else:
            (folder / "sh").symlink_to(program)
        folders[name] = str(folder)
    return folders


in_both_shells = pytest.mark.parametrize("shell", ["dash", "busybox"], indirect=True)
"""For tests of what the shell itself does: signals, pipes, redirections. `make test-long` runs all others in dash."""


@pytest.fixture(params=["busybox", pytest.param("dash", marks=pytest.mark.long)])
def shell(request: pytest.FixtureRequest, shell_paths: dict[str, str]) -> str:
    """The folder of the shell under test."""
    return shell_paths[request.param]


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    """A PostgreSQL 17 with TLS and one role that may read everything."""
    with Server() as running:
        running.create_role("backup", PASSWORD, "LOGIN IN ROLE pg_read_all_data")
        yield running


@pytest.fixture(scope="session")
def newer_server() -> Iterator[Server]:
    """A PostgreSQL 18 whose programs support neither TLS nor zstd."""
    with Server(major=18) as running:
        running.create_role("backup", PASSWORD, "LOGIN IN ROLE pg_read_all_data")
        yield running


@pytest.fixture(scope="session")
def default_server() -> Iterator[Server]:
    """A PostgreSQL 16, the major of the chart's default image, whose programs support neither TLS nor zstd."""
    with Server(major=16) as running:
        running.create_role("backup", PASSWORD, "LOGIN IN ROLE pg_read_all_data")
        yield running


@pytest.fixture(scope="session")
def standby(server: Server) -> Iterator[Server]:
    """A hot standby of `server`, on the same port of another loopback address, that lets no query delay replay."""
    follower = server.standby(
        tls=["127.0.0.2"], settings={"listen_addresses": "127.0.0.2", "max_standby_streaming_delay": "0"}
    )
    follower.port = server.port
    with follower:
        yield follower


class Session:
    """A session that stays open and keeps its locks."""

    def __init__(self, server: Server, dbname: str) -> None:
        self._psql = subprocess.Popen(
            [str(server.bin / "psql"), "-XAtq", "-v", "ON_ERROR_STOP=1"],
            env={"PATH": "/usr/bin:/bin", **server.superuser_env, "PGDATABASE": dbname},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
        )

    def sql(self, sql: str) -> None:
        """Run SQL and wait until it has ended."""
        assert self._psql.stdin
        assert self._psql.stdout
        self._psql.stdin.write(f"{sql};\n\\echo done\n")
        while line := self._psql.stdout.readline():
            if line == "done\n":
                return
        raise AssertionError(f"the session ended at: {sql}")

    def close(self) -> None:
        """End the session and release its locks."""
        self._psql.communicate(timeout=60)


@pytest.fixture
def pod(tmp_path: Path, server: Server, shell: str) -> Pod:
    return Pod(tmp_path, server, shell)
