"""A volume, a configuration and results as the dump container leaves them, and the commands run on them."""

import contextlib
import hashlib
import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import MappingProxyType

from retention import Policy
from retention.cli.main import main
from retention.names import Kind, base_of, file_name
from tests.lab.conf import conf_text

REPOSITORY = Path(__file__).resolve().parents[2]
T0 = datetime(2026, 1, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Ran:
    """A command that has ended."""

    code: int
    out: str
    err: str

    def json(self) -> object:
        return json.loads(self.out)


def python(
    arguments: Sequence[str],
    *,
    stdin: str = "",
    environment: Mapping[str, str] | None = None,
    cwd: Path = REPOSITORY,
) -> Ran:
    """Run this Python and wait for it."""
    ended = subprocess.run(
        [sys.executable, *arguments],
        input=stdin.encode(errors="surrogateescape"),
        capture_output=True,
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), "BACKUP_POD": "pod-1", **(environment or {})},
        timeout=120,
        check=False,
    )
    ran = Ran(ended.returncode, ended.stdout.decode(errors="replace"), ended.stderr.decode(errors="replace"))
    assert "Traceback" not in ran.out + ran.err, f"a traceback reached the user of {arguments}:\n{ran.out}{ran.err}"
    return ran


def retention(*arguments: object, stdin: str = "") -> Ran:
    """Run the command line of the package as a program of its own."""
    return python(["-m", "retention", *map(str, arguments)], stdin=stdin)


def retention_here(*arguments: object) -> Ran:
    """Run the command line in this process, which saves starting another one."""
    out, err, handler = io.StringIO(), io.StringIO(), signal.getsignal(signal.SIGTERM)
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = main([str(argument) for argument in arguments])
    finally:
        signal.signal(signal.SIGTERM, handler)
    return Ran(code, out.getvalue(), err.getvalue())


def content_of(base: str, size: int = 2000) -> bytes:
    """Return bytes that stand for an archive; the package never looks inside."""
    seed = hashlib.sha256(base.encode()).digest()
    return (seed * (size // len(seed) + 1))[:size]


@dataclass(slots=True)
class World:
    """The folders of a pod."""

    top: Path
    root: Path = field(init=False)
    config: Path = field(init=False)
    results: Path = field(init=False)
    termination_log: Path = field(init=False)

    def __post_init__(self) -> None:
        self.root, self.config, self.results = (self.top / name for name in ("backups", "config", "results"))
        for folder in (self.root, self.config, self.results):
            folder.mkdir(exist_ok=True)
        self.termination_log = self.top / "termination-log"
        (self.config / "policy.json").write_text(Policy.default().to_json())

    def configure(self, database: str, /, **changes: str) -> None:
        """Write the database's configuration as the chart does; a lock is waited for a second only."""
        text = conf_text(database, {"lock_timeout": "1", **changes})
        (self.config / f"{database}.conf").write_text(text)

    def folder(self, database: str) -> Path:
        folder = self.root / database
        folder.mkdir(exist_ok=True, mode=0o700)
        return folder

    def stage(
        self,
        database: str,
        time: datetime,
        *,
        content: bytes | None = None,
        report: bool = True,
        roles: bool = True,
        facts: Mapping[str, str] = MappingProxyType({}),
    ) -> str:
        """Leave what a dump leaves that has come to its end; return the base."""
        base = base_of(database, time)
        content = content_of(base) if content is None else content
        sha256 = hashlib.sha256(content).hexdigest()
        values = {
            "database": database,
            "cluster": f"{database}-postgresql-cnpg",
            "namespace": "default",
            "dbname": database,
            "chart_version": "0.1.0",
            "state": "staged",
            "base": base,
            "started": str(int(time.timestamp())),
            "finished": str(int(time.timestamp()) + 3),
            "host": "db-rw",
            "role": "primary",
            "server_version": "16.10",
            "client_version": "16.10",
            "database_bytes": "9000000",
            "bytes": str(len(content)),
            "sha256": sha256,
            "tables": "34",
            "format": "custom",
            "compression": "zstd:1",
            "dump_seconds": "2",
            "verify_seconds": "1",
            "attempts": "1",
            "globals": "yes" if roles else "no",
            **facts,
        }
        text = "".join(f"{key}={value}\n" for key, value in values.items())
        folder = self.folder(database)
        if roles:
            (folder / file_name(base, Kind.STAGED_GLOBALS)).write_text("CREATE ROLE app;\n")
        (folder / file_name(base, Kind.STAGED_SHA256)).write_text(f"{sha256}  {base}.dump\n")
        (folder / file_name(base, Kind.STAGED_RESULT)).write_text(text)
        (folder / file_name(base, Kind.STAGED)).write_bytes(content)
        if report:
            (self.results / f"{database}.result").write_text(text)
        return base

    def fail(self, database: str, facts: Mapping[str, str] = MappingProxyType({})) -> None:
        """Leave the result of a dump that failed."""
        values = {"database": database, "state": "failed", "error": "no password", "remedy": "make the Secret", **facts}
        (self.results / f"{database}.result").write_text("".join(f"{k}={v}\n" for k, v in values.items()))

    def publish(self, database: str, time: datetime, *, content: bytes | None = None, tables: int = 34) -> str:
        """Put a published backup beside the others; return its base."""
        base = base_of(database, time)
        content = content_of(base) if content is None else content
        sha256 = hashlib.sha256(content).hexdigest()
        folder = self.folder(database)
        (folder / file_name(base, Kind.SHA256)).write_text(f"{sha256}  {base}.dump\n")
        metadata = {"schema": 1, "bytes": len(content), "sha256": sha256, "tables": tables, "compression": "zstd:1"}
        (folder / file_name(base, Kind.METADATA)).write_text(json.dumps(metadata))
        (folder / file_name(base, Kind.GLOBALS)).write_text("CREATE ROLE app;\n")
        (folder / file_name(base, Kind.ARCHIVE)).write_bytes(content)
        return base

    def pin(self, base: str, content: str = '{"reason": "audit"}') -> None:
        (self.folder(database_of(base)) / file_name(base, Kind.PIN)).write_text(content)

    def finish(self, now: datetime, *more: object) -> Ran:
        self.termination_log.write_bytes(b"")
        return retention_here(*self.finish_arguments(now), *more)

    def finish_arguments(self, now: datetime) -> list[str]:
        return [
            "finish",
            *("--now", now.isoformat()),
            *("--config", str(self.config)),
            *("--results", str(self.results)),
            *("--termination-log", str(self.termination_log)),
            str(self.root),
        ]

    def names(self, database: str) -> set[str]:
        """All names in a database's directory but our locks and log."""
        folder = self.root / database
        if not folder.exists():
            return set()
        return {path.name for path in folder.iterdir()} - {".lock", ".pins.lock", "deletions.jsonl"}

    def archives(self, database: str) -> set[str]:
        return {name for name in self.names(database) if name.endswith(".dump") and not name.startswith(".")}

    def status(self) -> dict[str, dict[str, object]]:
        databases: dict[str, dict[str, object]] = json.loads((self.root / "status.json").read_text())["databases"]
        return databases

    def deletions(self, database: str) -> list[dict[str, str]]:
        path = self.root / database / "deletions.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def assert_sound(self, database: str) -> None:
        """Every archive with a final name is what its sidecars say, and nothing lies around."""
        folder, names = self.root / database, self.names(database)
        for archive in self.archives(database):
            base = archive.removesuffix(".dump")
            actual = hashlib.sha256((folder / archive).read_bytes()).hexdigest()
            assert (folder / f"{archive}.sha256").read_text().split() == [actual, archive], (
                f"{archive}: wrong sha256 file"
            )
            metadata = json.loads((folder / f"{base}.json").read_text())
            assert (metadata["sha256"], metadata["bytes"]) == (actual, (folder / archive).stat().st_size), archive
        allowed = (".dump", ".dump.bad", ".dump.sha256", ".json", ".globals.sql", ".dump.pin")
        for name in names:
            assert name.endswith(allowed), f"{name} was left over"
            assert not name.startswith("."), f"{name} was left over"
            base = next(name.removesuffix(suffix) for suffix in allowed[::-1] if name.endswith(suffix))
            assert {f"{base}.dump", f"{base}.dump.bad"} & names, f"{name} has no archive"


def database_of(base: str) -> str:
    return base[: -len("-20260101-000000")]
