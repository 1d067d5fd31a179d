"""The throwaway servers: real TLS, a real standby, and nothing left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.lab import data
from tests.lab.postgres import PostgresError, Server

ROOT = Path(__file__).resolve().parents[2]


def wait_until(condition: Callable[[], bool], what: str, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"waited {seconds} s in vain: {what}"
        time.sleep(0.02)


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server() as running:
        running.create_role("app", "a:b\\c")
        running.create_database("app", owner="app")
        yield running


def login(server: Server, **environment: str) -> str:
    known = {"PGHOST": "localhost", "PGPORT": str(server.port), "PGUSER": "app", "PGPASSWORD": "a:b\\c"}
    known |= {"PGDATABASE": "app", "PGSSLMODE": "verify-full", "PGSSLROOTCERT": str(server.ca)}
    query = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
    return server.installation.run("psql", "-XAtc", query, env=known | environment).stdout.strip()


def test_right_name_password_and_authority_are_let_in(server: Server) -> None:
    assert login(server) == "t", "the connection is not encrypted"


@pytest.mark.parametrize(
    ("environment", "refusal"),
    [
        ({"PGPASSWORD": "wrong"}, "password authentication failed"),
        ({"PGHOST": "127.0.0.1"}, "does not match host name"),
        ({"PGSSLROOTCERT": "/nonexistent/ca.crt"}, "does not exist"),
    ],
)
def test_wrong_password_name_or_authority_is_refused(server: Server, environment: dict[str, str], refusal: str) -> None:
    with pytest.raises(PostgresError, match=refusal):
        login(server, **environment)


def test_another_authority_is_refused(server: Server) -> None:
    with Server() as other, pytest.raises(PostgresError, match="certificate verify failed"):
        login(server, PGSSLROOTCERT=str(other.ca))


def test_database_names_that_look_like_connection_strings_are_names(server: Server) -> None:
    name = "postgresql://x?a=b \"c\" 'ü'"
    server.create_database(name)
    assert server.value("SELECT current_database()", name) == name
    server.drop_database(name)


def test_standby_follows_and_refuses_writes(server: Server) -> None:
    with server.standby() as standby:
        server.psql("CREATE TABLE followed AS SELECT generate_series(1, 10)", "app")
        standby.catch_up()  # type: ignore[attr-defined]
        assert standby.value("SELECT count(*) FROM followed", "app") == "10"
        with pytest.raises(PostgresError, match="read-only transaction"):
            standby.psql("DROP TABLE followed", "app")


def test_the_other_major_has_neither_tls_nor_zstd() -> None:
    with Server(major=18) as server:
        assert server.value("SHOW server_version").startswith("18.")
        assert server.ca is None
        with pytest.raises(PostgresError, match="ZSTD"):
            server.installation.run("pg_dump", "-Fc", "-Z", "zstd:1", "-f", "/dev/null", env=server.superuser_env)


def test_restart_keeps_port_and_data(server: Server) -> None:
    server.psql("CREATE TABLE kept AS SELECT 1 AS a", "app")
    port = server.port
    server.restart()
    assert server.port == port
    assert server.value("SELECT a FROM kept", "app") == "1"


def test_a_server_that_cannot_start_says_why() -> None:
    with pytest.raises(PostgresError, match="no_such_setting"), Server(settings={"no_such_setting": "1"}):
        pass


def _gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGKILL])
def test_no_server_outlives_the_process_that_started_it(ending: signal.Signals) -> None:
    program = (
        "import time\nfrom tests.lab.postgres import Server\n"
        "with Server() as s:\n  print(s.pid, s.folder, flush=True)\n  time.sleep(600)"
    )
    owner = subprocess.Popen(
        [sys.executable, "-c", program], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    assert owner.stdout
    pid, folder = owner.stdout.readline().split()
    owner.send_signal(ending)
    owner.communicate(timeout=60)
    wait_until(lambda: _gone(int(pid)), f"postmaster {pid} is still there after {ending.name}")
    if ending == signal.SIGKILL:
        # Nobody was left to remove its files: the next owner does.
        subprocess.run([sys.executable, "-c", program.replace("time.sleep(600)", "pass")], cwd=ROOT, check=True)
    assert not Path(folder).exists(), f"{folder} was left behind after {ending.name}"


@pytest.fixture(scope="module")
def filled(server: Server) -> Server:
    makers: dict[str, Callable[[Server], None]] = {
        "authelia": data.authelia,
        "kutt": lambda server: data.kutt(server, megabytes=10),
        "plausible": lambda server: data.plausible(server, megabytes=12),
    }
    for name, make in makers.items():
        server.create_role(name, "secret")
        server.create_database(name, owner=name)
        make(server)
    return server


def test_equal_databases_have_equal_fingerprints(filled: Server) -> None:
    filled.psql('CREATE DATABASE twin TEMPLATE "plausible" OWNER "plausible"')
    first, second = data.fingerprint(filled, "plausible"), data.fingerprint(filled, "twin")
    assert first.differences(second) == []
    assert first.tables["large objects"].rows > 0
    filled.drop_database("twin")


@pytest.mark.parametrize(
    ("change", "difference"),
    [
        ("UPDATE sites SET domain = domain || ' ' WHERE id = 3", "table public.sites"),
        ("DELETE FROM events WHERE id = 7", "table public.events_2025"),
        ("UPDATE imports.uploads SET payload = set_byte(payload, 9, 1 # get_byte(payload, 9)) WHERE id = 1", "uploads"),
        ("SELECT lo_put(min(loid), 5, 'x') FROM pg_largeobject", "large objects"),
        ("SELECT nextval('imports.ticket')", "sequence imports.ticket"),
        ("DROP INDEX pages_by_title", "gone: index CREATE INDEX pages_by_title"),
        ("ALTER TABLE sites ALTER domain DROP NOT NULL", "gone: column public.sites domain"),
        ("ALTER TABLE salts SET LOGGED", "gone: relation public.salts"),
        ("ALTER TABLE sites OWNER TO postgres", "gone: relation public.sites"),
        ("CREATE VIEW more AS SELECT 1 AS a", "new: view public.more"),
        ("REFRESH MATERIALIZED VIEW daily; UPDATE sessions SET pageviews = 0 WHERE id = 1", "table public.sessions"),
    ],
)
def test_a_fingerprint_sees_each_change(filled: Server, change: str, difference: str) -> None:
    before = data.fingerprint(filled, "plausible")
    filled.psql('CREATE DATABASE changed TEMPLATE "plausible" OWNER "plausible"')
    try:
        filled.psql(change, "changed")
        found = before.differences(data.fingerprint(filled, "changed"))
    finally:
        filled.drop_database("changed")
    assert any(difference in line for line in found), f"{change}: not seen in {found}"
