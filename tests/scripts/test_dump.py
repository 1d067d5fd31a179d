"""dump.sh on a real PostgreSQL: staged archives are complete; a failed dump leaves nothing and reports the reason."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import signal
import socket
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.lab.postgres import Authority, Server, identifier
from tests.scripts.conftest import (
    DUMP,
    PASSWORD,
    REPO,
    Pod,
    Session,
    in_both_shells,
    kill_session,
    session_processes,
    wait_for,
    wait_until,
)

MakeDatabase = Callable[..., str]
Slow = tuple[str, Callable[[], None]]
"""A database's name, and what lets its dump go on."""


@pytest.fixture
def database(server: Server) -> Iterator[MakeDatabase]:
    """Make databases of unique names with a table of that many rows; drop them afterwards."""
    made: list[str] = []

    def make(prefix: str = "db", rows: int = 100, name: str | None = None) -> str:
        name = name or f"{prefix}-{uuid.uuid4().hex[:8]}"
        server.create_database(name)
        made.append(name)
        if rows:
            server.psql(
                f"CREATE TABLE t (id int PRIMARY KEY, v text); "
                f"INSERT INTO t SELECT i, md5(i::text) FROM generate_series(1, {rows}) i",
                name,
            )
        return name

    yield make
    for name in made:
        server.drop_database(name)


def assert_failed(pod: Pod, name: str, error: str, remedy: str = "") -> None:
    """The database failed with that error, nothing is published or left unfinished, and the run exits 1."""
    result = pod.result(name)
    assert result["state"] == "failed", result
    assert re.search(error, result["error"]), f"{result['error']!r} does not match {error!r}"
    assert re.search(remedy, result["remedy"]), f"{result['remedy']!r} does not match {remedy!r}"
    assert pod.unpublished(name) == [] if pod.directory(name).is_dir() else True
    before = [p.name for p in pod.archives(name)]
    done = pod.finish(expect=1)
    assert [p.name for p in pod.archives(name)] == before, "a failed database lost or gained an archive"
    assert result["error"] in (done.stdout + done.stderr), "the run's report lacks the reason"


@in_both_shells
def test_run_publishes_an_archive_that_reads_back_and_restores(pod: Pod, database: MakeDatabase) -> None:
    name = database(rows=1000)
    pod.add(name)
    pod.run()
    (archive,) = pod.archives(name)
    pod.check(archive)
    assert archive.stat().st_mode & 0o777 == 0o600
    assert pod.directory(name).stat().st_mode & 0o777 == 0o700
    assert pod.unpublished(name) == []
    metadata = pod.metadata(archive)
    assert metadata["tables"] == 1
    assert metadata["compression"] == "zstd:1"
    assert metadata["bytes"] == archive.stat().st_size
    copy = database(rows=0)
    pg_restore = [str(pod.server.bin / "pg_restore"), "--exit-on-error", "-d", copy, str(archive)]
    subprocess.run(pg_restore, env=pod.server.superuser_env, check=True)
    query = "SELECT count(*), md5(string_agg(t::text, ',' ORDER BY id)) FROM t"
    assert pod.server.value(query, copy) == pod.server.value(query, name)


def test_roles_are_saved_without_passwords(pod: Pod, database: MakeDatabase) -> None:
    name = database()
    pod.add(name)
    pod.run()
    (archive,) = pod.archives(name)
    roles = archive.with_suffix(".globals.sql")
    text = roles.read_text()
    assert "CREATE ROLE backup" in text
    assert "PASSWORD" not in text
    assert roles.stat().st_mode & 0o777 == 0o600


@in_both_shells
def test_hashes_of_passwords_are_saved_only_where_the_values_ask_and_the_role_may_read_them(
    pod: Pod, database: MakeDatabase, server: Server
) -> None:
    names = [database(kind) for kind in ("root", "owner", "plain", "reader")]
    root, role, owner = names[0], f"s-{uuid.uuid4().hex[:8]}", f"o-{uuid.uuid4().hex[:8]}"
    server.create_role(role, PASSWORD, "SUPERUSER LOGIN")
    server.create_role(owner, PASSWORD)
    server.psql(f"ALTER TABLE t OWNER TO {identifier(owner)}", names[1])
    try:
        pod.add(root, user=role, roles="with-password-hashes")
        pod.add(names[1], user=owner, roles="with-password-hashes")
        pod.add(names[2], user=role)
        pod.add(names[3], roles="with-password-hashes")
        log = pod.run()
        pod.renew()
        process = subprocess.Popen(
            ["sh", str(DUMP), "--check"], executable=f"{pod.shell_path}/sh", env=pod.environment(),
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        checked = wait_for(process)
    finally:
        server.psql(f"DROP OWNED BY {identifier(owner)}", names[1])
        server.psql(f"DROP ROLE {identifier(role)}, {identifier(owner)}")
    texts = {}
    for name in names:
        archive = pod.archives(name)[0]
        roles = archive.with_suffix(".globals.sql")
        texts[name] = roles.read_text()
        assert roles.stat().st_mode & 0o777 == 0o600
        assert "CREATE ROLE backup" in texts[name]
        assert pod.metadata(archive)["globals"] is True
    assert [texts[name].count("PASSWORD 'SCRAM-SHA-256$") > 0 for name in names] == [True, False, False, True]
    (warning,) = pod.metadata(pod.archives(names[1])[0])["warnings"]
    assert "which this role cannot read: " in warning
    assert "permission denied for table pg_authid" in warning
    assert not pod.metadata(pod.archives(root)[0])["warnings"]
    assert "SCRAM-SHA" not in log
    lines = {line.split()[0]: line for line in checked.splitlines() if " ready " in line}
    assert "a member of pg_read_all_data in 'secret'" in lines[names[1]]
    assert "superuser" not in lines[root] + lines[names[2]] + lines[names[3]]


def test_wrong_password_is_that_databases_failure_alone(pod: Pod, database: MakeDatabase) -> None:
    good, bad = database("good"), database("bad")
    pod.add(good)
    pod.add(bad, password="wrong")
    pod.dump()
    assert pod.result(good)["state"] == "staged"
    assert_failed(pod, bad, "password authentication failed", "Secret")
    assert len(pod.archives(good)) == 1


@pytest.mark.parametrize("missing", ["username", "password", "ca.crt"])
def test_missing_secret_file_fails_that_database_and_never_weakens_tls(
    pod: Pod, database: MakeDatabase, missing: str
) -> None:
    good, bad = database("good"), database("bad")
    pod.add(good)
    pod.add(bad)
    (pod.folder / "credentials" / bad / missing).unlink()
    pod.dump()
    expected = {"username": "no user name", "password": "no password", "ca.crt": "no CA certificate"}
    assert pod.result(good)["state"] == "staged"
    assert_failed(pod, bad, expected[missing], "does the Secret exist")


def test_unknown_database_fails(pod: Pod) -> None:
    pod.add("nosuch")
    pod.dump()
    assert_failed(pod, "nosuch", 'database "nosuch" does not exist', "database")


def test_role_or_database_that_lets_nobody_in_fails_without_a_wait(
    pod: Pod, database: MakeDatabase, server: Server
) -> None:
    closed, role, password = database("closed"), f"out-{uuid.uuid4().hex[:8]}", "p"
    server.psql(f"ALTER DATABASE {identifier(closed)} ALLOW_CONNECTIONS false")
    server.create_role(role, password, "NOLOGIN")
    try:
        pod.add(closed, wait_timeout="600")
        pod.add("no-login", dbname="postgres", user=role, password=password, wait_timeout="600")
        began = time.monotonic()
        pod.dump()
        assert time.monotonic() - began < 300, "it waited for what waiting cannot cure"
    finally:
        server.psql(f"DROP ROLE {identifier(role)}")
    assert_failed(pod, closed, "not currently accepting connections", "ALLOW_CONNECTIONS true")
    assert_failed(pod, "no-login", "not permitted to log in", "ALTER ROLE ... LOGIN")


def test_wrong_ca_fails(pod: Pod, database: MakeDatabase) -> None:
    name = database()
    pod.add(name)
    (pod.folder / "credentials" / name / "ca.crt").write_bytes(Authority().pem)
    pod.dump()
    assert_failed(pod, name, "certificate verify failed", "CA")


def test_name_not_in_the_certificate_fails(pod: Pod, database: MakeDatabase) -> None:
    name = database()
    pod.add(name, host="127.0.0.1")
    pod.dump()
    assert_failed(pod, name, "does not match host name", "verify-ca")


@in_both_shells
def test_host_that_refuses_fails_after_a_bounded_wait(pod: Pod) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        pod.add("refused", port=str(unused.getsockname()[1]), wait_timeout="2")
        pod.dump()
    assert_failed(pod, "refused", "no answer within 2 s: .*refused", "cluster is up")


@pytest.mark.parametrize("shell", ["busybox"], indirect=True)  # in one shell: it is ten seconds of waiting
def test_host_that_never_answers_fails_after_a_bounded_wait(pod: Pod) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(16)
        pod.add("silent", port=str(silent.getsockname()[1]), wait_timeout="1", sslmode="disable")
        pod.dump()
    assert_failed(pod, "silent", "no answer within 1 s", "cluster is up.*ingress in its namespace")


def test_server_that_starts_late_is_waited_for(tmp_path: Path, shell: str) -> None:
    """A server may be in a failover, and some network policies let a new pod's address through late."""
    with Server() as late:
        late.create_role("backup", PASSWORD, "LOGIN IN ROLE pg_read_all_data")
        late.psql("CREATE TABLE t (id int)")
        late.stop()
        pod = Pod(tmp_path, late, shell)
        pod.add("late", dbname="postgres", wait_timeout="60")
        dump = pod.start_dump()
        said = pod.folder / "run" / "late.stderr"
        wait_until(lambda: said.exists() and "refused" in said.read_text(), "a refused attempt")
        late.start()
        log = wait_for(dump, 120)
    assert pod.result("late")["state"] == "staged", log


def test_server_newer_than_the_client_is_refused_naming_the_image(
    tmp_path: Path, server: Server, newer_server: Server, shell: str
) -> None:
    pod = Pod(tmp_path, server, shell)
    pod.add("newer", port=str(newer_server.port), sslmode="disable", dbname="postgres")
    pod.dump()
    assert_failed(
        pod,
        "newer",
        r"server is PostgreSQL 18\.\d+, this image's pg_dump is 17\.",
        r"entry 'newer' of .*: image: {tag: 18-alpine};",
    )


def test_client_newer_than_the_server_is_refused(
    tmp_path: Path, server: Server, newer_server: Server, shell: str, database: MakeDatabase
) -> None:
    """A newer pg_dump writes archives that the server's own pg_restore cannot open."""
    name = database()
    pod = Pod(tmp_path, newer_server, shell)
    pod.add(name, port=str(server.port), ca=False, sslmode="disable")
    pod.dump()
    assert_failed(pod, name, r"server is PostgreSQL 17\.\d+, this image's pg_dump is 18\.", r"image: {tag: 17-alpine};")


def test_client_without_zstd_falls_back_to_gzip_and_says_so(tmp_path: Path, newer_server: Server, shell: str) -> None:
    newer_server.psql("CREATE TABLE IF NOT EXISTS t AS SELECT generate_series(1, 100) AS id")
    pod = Pod(tmp_path, newer_server, shell)
    pod.add("plain", dbname="postgres", sslmode="disable", ca=False)
    log = pod.dump()
    pod.finish(expect=0)
    (archive,) = pod.archives("plain")
    pod.check(archive)
    assert pod.metadata(archive)["compression"] == "gzip:6"
    assert "gzip is used" in log


def test_no_right_on_one_table_fails_and_names_it(pod: Pod, database: MakeDatabase) -> None:
    name = database()
    pod.server.psql("DROP OWNED BY poor") if pod.server.value("SELECT 1 FROM pg_roles WHERE rolname = 'poor'") else None
    pod.server.psql("DROP ROLE IF EXISTS poor")
    pod.server.create_role("poor", PASSWORD)
    pod.server.psql("CREATE TABLE secret_table (id int)", name)
    pod.server.psql("GRANT SELECT ON t TO poor", name)
    pod.add(name, user="poor")
    pod.dump()
    assert_failed(pod, name, "permission denied for table secret_table", "pg_read_all_data")
    kept = pod.directory(name) / "last-error.log"
    assert "secret_table" in kept.read_text()
    assert kept.stat().st_mode & 0o777 == 0o600


def test_row_security_never_yields_a_silent_part(pod: Pod, database: MakeDatabase) -> None:
    name = database()
    pod.server.psql(
        "ALTER TABLE t ENABLE ROW LEVEL SECURITY; ALTER TABLE t FORCE ROW LEVEL SECURITY; "
        "CREATE POLICY few ON t USING (id < 10)",
        name,
    )
    pod.add(name)
    pod.dump()
    assert_failed(pod, name, "row-level security", "BYPASSRLS")


@pytest.mark.parametrize(
    "argument",
    [
        "--enable-row-security",
        "--enable-row",
        "-f/tmp/x",
        "--file=/tmp/x",
        "-Fp",
        "--dbname=x",
        "-j2",
        "--schema-only",
        "x",
    ],
)
@pytest.mark.sample(4)
def test_extra_argument_that_could_spoil_the_archive_is_refused(pod: Pod, argument: str) -> None:
    pod.add("app", extra_args=[argument])
    pod.dump()
    assert_failed(pod, "app", re.escape(f"extra argument '{argument}' is not allowed"), "extraArgs")


def test_extra_arguments_reach_pg_dump_as_they_stand(pod: Pod, database: MakeDatabase) -> None:
    name = database()
    pod.server.psql('CREATE TABLE "a b" AS SELECT 1 AS x; CREATE TABLE "it\'s" AS SELECT 1 AS x', name)
    pod.add(name, extra_args=['--exclude-table="a b"', '--exclude-table-data="it\'s"'])
    pod.run()
    (archive,) = pod.archives(name)
    listing = subprocess.run(
        [f"{pod.server.bin}/pg_restore", "-l", str(archive)], check=True, capture_output=True, text=True
    ).stdout
    assert "a b" not in listing
    assert "TABLE public it's" in listing
    assert "TABLE DATA public it's" not in listing


def test_empty_database_fails_unless_allowed(pod: Pod, database: MakeDatabase) -> None:
    name = database(rows=0)
    pod.add(name)
    pod.dump()
    assert_failed(pod, name, "no table", "allowEmpty")
    pod.add(name, allow_empty="true")
    pod.run()
    assert len(pod.archives(name)) == 1


@pytest.mark.parametrize(
    "dbname",
    [
        "Capital.Letters",
        "with space",
        "quo'te",
        'dou"ble',
        "per%cent",
        "a=b",
        "host=elsewhere dbname=x",
        "umläut",
        "postgresql://localhost/other",
        "back\\slash",
        "$(touch x)",
        "-d",
    ],
)
@pytest.mark.sample(4)
def test_any_database_name_is_a_name_and_nothing_else(pod: Pod, database: MakeDatabase, dbname: str) -> None:
    database(name=dbname)
    pod.add("safe-name", dbname=dbname)
    pod.run()
    (archive,) = pod.archives("safe-name")
    assert pod.metadata(archive)["dbname"] == dbname
    pod.check(archive)


def test_similar_names_never_touch_each_others_files(pod: Pod, database: MakeDatabase) -> None:
    names = ["app", "app-prod", "app_prod", "app.prod"]
    for name in names:
        database(name=name)
        pod.add(name)
        own = pod.directory(name)
        own.mkdir()
        for other in names:
            (own / f".{other}-20260101-000000.dump.partial").write_text(f"stale partial of {other}")
    pod.run()
    for name in names:
        assert len(pod.archives(name)) == 1
        left = sorted(p.name for p in pod.directory(name).glob(".*.partial"))
        assert left == sorted(f".{other}-20260101-000000.dump.partial" for other in names if other != name)


def test_directory_that_is_a_link_is_not_followed(pod: Pod, database: MakeDatabase, tmp_path: Path) -> None:
    name = database()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    pod.directory(name).symlink_to(elsewhere)
    pod.add(name)
    pod.dump()
    assert pod.result(name)["state"] == "failed"
    assert "is a link" in pod.result(name)["error"]
    assert list(elsewhere.iterdir()) == []


@in_both_shells
def test_second_run_fails_while_the_first_holds_the_lock_and_names_it(pod: Pod, database: MakeDatabase) -> None:
    name = database()
    pod.add(name)
    directory = pod.directory(name)
    directory.mkdir()
    partial = directory / f".{name}-20260101-000000.dump.partial"
    partial.write_text("of the run that holds the lock")
    with (directory / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        lock.write("the-other-pod dump.sh since 12:00:00Z\n")
        lock.flush()
        pod.dump()
        result = pod.result(name)
        assert result["state"] == "failed"
        assert "the-other-pod" in result["error"]
        assert partial.exists(), "a partial was removed without the lock"
    pod.run()
    assert not partial.exists(), "under the lock every partial is stale"
    assert len(pod.archives(name)) == 1


@pytest.fixture
def slow(server: Server, database: MakeDatabase) -> Iterator[Slow]:
    """A database whose dump stops in the middle, behind a table lock, until released."""
    name = database("slow", rows=20000)
    server.psql("CREATE TABLE zz AS SELECT 1 AS x", name)
    locker = Session(server, name)
    locker.sql("BEGIN; LOCK TABLE zz")
    yield name, lambda: locker.sql("COMMIT")
    locker.close()


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
@in_both_shells
def test_sigterm_in_mid_dump_leaves_nothing_and_says_what_was_lost(
    pod: Pod, slow: Slow, database: MakeDatabase, how: signal.Signals
) -> None:
    name, _ = slow
    done = database("aaa")
    pod.add(done)
    pod.add(name, lock_wait_timeout="100")
    dump = pod.start_dump()
    wait_until(lambda: (pod.folder / "results" / f"{done}.result").exists(), "the first database")
    wait_until(lambda: waits_for_lock(pod.server, name), "pg_dump behind the lock")
    os.kill(dump.pid, how)
    log = wait_for(dump, 60)
    assert dump.returncode == 143, log
    assert f"{name}: LOST" in log
    assert f"{done}: LOST" not in log
    assert pod.unpublished(name) == []
    assert pod.archives(name) == []
    wait_until(lambda: not backends(pod.server, name), "pg_dump to be gone")
    pod.finish(expect=1)
    assert len(pod.archives(done)) == 1, "what was staged before the signal is judged by the next finish"


def waits_for_lock(server: Server, name: str) -> bool:
    query = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'cnpg-backup' AND wait_event_type = 'Lock'"
    return server.value(f"{query} AND datname = '{name}'") == "1"


def backends(server: Server, name: str) -> bool:
    query = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'cnpg-backup'"
    return server.value(f"{query} AND datname = '{name}'") != "0"


@in_both_shells
def test_sigkill_in_mid_dump_leaves_a_partial_that_the_next_run_removes(pod: Pod, slow: Slow) -> None:
    name, release = slow
    pod.add(name, lock_wait_timeout="100")
    dump = pod.start_dump()
    wait_until(lambda: waits_for_lock(pod.server, name), "pg_dump behind the lock")
    kill_session(dump)
    assert [n for n in pod.unpublished(name) if not n.endswith(".partial")] == []
    assert pod.archives(name) == []
    release()
    pod.run()
    assert pod.unpublished(name) == []
    assert len(pod.archives(name)) == 1


@in_both_shells
def test_database_over_its_timeout_fails_alone(pod: Pod, slow: Slow, database: MakeDatabase) -> None:
    name, _ = slow
    good = database("zzz")
    pod.add(name, lock_wait_timeout="100", timeout="3")
    pod.add(good)
    pod.dump()
    assert pod.result(good)["state"] == "staged"
    assert_failed(pod, name, "not done within 3 s", "timeout")


def test_what_the_run_does_not_reach_is_reported(pod: Pod, slow: Slow, database: MakeDatabase) -> None:
    name, _ = slow
    later = database("zzz")
    pod.timeout = 4
    pod.add(name, lock_wait_timeout="100")
    pod.add(later)
    pod.dump()
    assert pod.result(name)["state"] == "failed"
    assert pod.result(later)["state"] == "not-reached"
    done = pod.finish(expect=1)
    assert "not reached" in done.stdout + done.stderr


def test_table_lock_is_waited_for_only_so_long(pod: Pod, slow: Slow) -> None:
    name, _ = slow
    pod.add(name, lock_wait_timeout="1", retries="0")
    pod.dump()
    assert_failed(pod, name, "canceling statement due to (lock|statement) timeout", "lockWaitTimeout")


@in_both_shells
def test_connection_lost_in_mid_dump_is_tried_again(pod: Pod, slow: Slow) -> None:
    name, release = slow
    pod.add(name, lock_wait_timeout="100")
    dump = pod.start_dump()
    wait_until(lambda: waits_for_lock(pod.server, name), "pg_dump behind the lock")
    pod.server.psql(
        f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        f"WHERE datname = '{name}' AND application_name = 'cnpg-backup'"
    )
    release()
    log = wait_for(dump, 120)
    assert pod.result(name)["state"] == "staged", log
    assert pod.result(name)["attempts"] == "2"
    assert "trying again" in log


@in_both_shells
def test_several_databases_are_dumped_at_a_time(pod: Pod, slow: Slow, database: MakeDatabase) -> None:
    name, release = slow
    others = [database(f"other{i}") for i in range(3)]
    pod.parallel = 2
    pod.add(name, lock_wait_timeout="100")
    for other in others:
        pod.add(other)
    dump = pod.start_dump()
    for other in others:
        wait_until((pod.folder / "results" / f"{other}.result").exists, f"{other} next to the slow one")
    assert dump.poll() is None
    release()
    log = wait_for(dump, 120)
    assert all(pod.result(n)["state"] == "staged" for n in [name, *others]), log


def test_name_taken_by_an_earlier_backup_is_never_reused(pod: Pod, database: MakeDatabase, tmp_path: Path) -> None:
    """A clock set back to the same second must not overwrite a backup."""
    name = database()
    pod.add(name)
    clock, ticks = tmp_path / "clock", tmp_path / "ticks"
    clock.mkdir()
    script = (
        '#!/bin/sh\ncase "$*" in *%Y%m%d-%H%M%S*)\n'
        f"  echo x >>{ticks}; [ $(wc -l <{ticks}) -gt 3 ] && echo 20260101-000001 || echo 20260101-000000 ;;\n"
        f'*) exec {shutil.which("date")} "$@" ;; esac\n'
    )
    (clock / "date").write_text(script)
    (clock / "date").chmod(0o755)
    path = f"{clock}:{pod.environment()['PATH']}"
    pod.dump(PATH=path)
    pod.finish(expect=0)
    (first,) = pod.archives(name)
    content = first.read_bytes()
    pod.dump(PATH=path)
    pod.finish(expect=0)
    assert [p.name for p in pod.archives(name)] == [f"{name}-20260101-000000.dump", f"{name}-20260101-000001.dump"]
    assert first.read_bytes() == content


def test_no_secret_reaches_arguments_environment_log_or_volume(pod: Pod, slow: Slow) -> None:
    name, release = slow
    pod.add(name, lock_wait_timeout="100")
    dump = pod.start_dump()
    wait_until(lambda: waits_for_lock(pod.server, name), "pg_dump behind the lock")
    seen = b"".join(
        (entry / file).read_bytes() for entry in session_processes(dump.pid) for file in ("cmdline", "environ")
    )
    assert b"pg_dump" in seen
    assert PASSWORD.encode() not in seen
    release()
    log = wait_for(dump, 120)
    assert PASSWORD not in log
    for file in pod.root.rglob("*"):
        if file.is_file():
            assert PASSWORD.encode() not in file.read_bytes(), file


def test_log_holds_only_the_first_line_of_an_error_never_data(pod: Pod, database: MakeDatabase, tmp_path: Path) -> None:
    """What a server prints in DETAIL and CONTEXT stays on the volume. Simulated, since no sound server prints this."""
    name = database()
    pod.add(name)
    folder = tmp_path / "programs"
    folder.mkdir()
    said = (
        'pg_dump: error: Dumping the contents of table "people" failed: PQgetResult() failed.\n'
        "pg_dump: detail: Error message from server: ERROR:  invalid memory alloc request size\n"
        "DETAIL:  Key (name)=(classified) is broken.\nCONTEXT:  row 7: classified\n"
    )
    (folder / "said").write_text(said)
    script = (
        f'#!/bin/sh\n[ "$1" != --version ] || exec {pod.server.bin}/pg_dump --version\ncat {folder}/said >&2; exit 1\n'
    )
    (folder / "pg_dump").write_text(script)
    (folder / "pg_dump").chmod(0o755)
    log = pod.dump(PATH=f"{folder}:{pod.environment()['PATH']}")
    result = (pod.folder / "results" / f"{name}.result").read_text()
    report = pod.finish(expect=1).stdout
    for text in (log, result, report, (pod.folder / "termination-log").read_text()):
        assert "classified" not in text
        assert "invalid memory alloc request size" in text, "the server's own reason is what one needs at night"
    kept = pod.directory(name) / "last-error.log"
    assert said in kept.read_text()
    assert kept.stat().st_mode & 0o777 == 0o600


def test_what_a_run_leaves_at_any_moment_has_a_name_that_the_next_run_removes_or_publishes(
    pod: Pod, database: MakeDatabase, tmp_path: Path
) -> None:
    """Each program that a run starts first notes what lies in the directory: a node may die at any of these moments."""
    name = database(rows=10)
    pod.add(name)
    folder, seen = tmp_path / "programs", tmp_path / "seen"
    folder.mkdir()
    for program in [
        "pg_dump",
        "pg_restore",
        "psql",
        "awk",
        "sed",
        "sort",
        "rm",
        "mv",
        "sha256sum",
        "stat",
        "sync",
        "grep",
    ]:
        places = f"{pod.server.bin}:/usr/bin:/bin"
        note = f"ls -A {pod.directory(name)} >>{seen} 2>&-"
        (folder / program).write_text(f'#!/bin/sh\nPATH={places}\n{note}\nexec {program} "$@"\n')
        (folder / program).chmod(0o755)
    pod.dump(PATH=f"{folder}:{pod.environment()['PATH']}")
    unfinished = {line for line in seen.read_text().splitlines() if line.startswith(f".{name}-")}
    assert any(".list.all" in line or line.endswith(".all") for line in unfinished), "the look at locks was seen"
    endings = (".partial", ".dump.staged", ".dump.staged.sha256", ".dump.staged.result", ".globals.sql.staged")
    assert [line for line in unfinished if not line.endswith(endings)] == []


def test_keys_of_another_reader_are_ignored(pod: Pod, database: MakeDatabase) -> None:
    name = database()
    pod.add(name)
    with (pod.folder / "config" / f"{name}.conf").open("a") as conf:
        conf.write("surprise=$(touch /nonexistent/x)\nuser_2=\n")
    pod.dump()
    assert pod.result(name)["state"] == "staged"


@in_both_shells
def test_missing_or_broken_configuration_is_one_clear_error(pod: Pod) -> None:
    pod.add("app")
    conf = pod.folder / "config" / "app.conf"
    right = conf.read_text()
    for wrong, error in (
        (right + "surprise\n", "a line is not key=value: surprise"),
        (right + "a=$(b);c=1\n" + "x y=1\n", "a line is not key=value: x y=1"),
        (right.replace("port=", "porn="), "port is missing"),
        (re.sub("(?m)^retries=.*\n", "", right), "retries='' is not a whole number"),
        (right.replace("retries=1", "retries=many"), "retries='many' is not a whole number"),
        (right.replace("database=app", "database=other"), "does not match the file's name"),
        (right.replace("host=localhost", "host="), "host is missing"),
        (right.replace("dbname=app", "dbname=a\tb"), "control character"),
    ):
        conf.write_text(wrong)
        pod.dump()
        assert pod.result("app")["state"] == "failed"
        assert error in pod.result("app")["error"], (wrong, pod.result("app"))


@pytest.mark.parametrize("variable", ["BACKUP_ROOT", "BACKUP_RESULTS", "BACKUP_PARALLEL", "BACKUP_TIMEOUT"])
def test_wrong_environment_exits_2_with_one_line(pod: Pod, variable: str) -> None:
    pod.add("app")
    process = pod.start_dump(**{variable: "nonsense"})
    log = wait_for(process, 60)
    assert process.returncode == 2
    assert len(log.splitlines()) == 1
    assert "nonsense" in log


def test_no_configured_database_exits_2(pod: Pod) -> None:
    process = pod.start_dump()
    log = wait_for(process, 60)
    assert process.returncode == 2
    assert "no database is configured" in log


@pytest.fixture
def small_volume(pod: Pod) -> Iterator[Path]:
    """A claim of 12 MiB."""
    if os.geteuid() != 0:
        pytest.fail("a full volume is tested on a tmpfs, which takes root to mount")
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=12m,mode=0700", "tmpfs", str(pod.root)], check=True)
    yield pod.root
    subprocess.run(["umount", str(pod.root)], check=True)


def incompressible(server: Server, name: str, mebibytes: int) -> None:
    """Add a table of that size that no compressor makes smaller."""
    server.psql(
        "CREATE TABLE noise AS SELECT i, (SELECT string_agg(sha512((i * 1000 + j)::text::bytea), ''::bytea) "
        f"FROM generate_series(1, 160) j) AS b FROM generate_series(1, {mebibytes * 100}) i",
        name,
    )


@in_both_shells
def test_volume_full_in_mid_dump_loses_nothing_and_heals_once_the_claim_has_grown(
    pod: Pod, database: MakeDatabase, small_volume: Path
) -> None:
    name = database()
    pod.add(name)
    pod.run()
    (first,) = pod.archives(name)
    incompressible(pod.server, name, 16)
    pod.dump()
    assert_failed(pod, name, "No space left on device", "grow the claim")
    assert [p.name for p in pod.archives(name)] == [first.name]
    pod.check(first)
    subprocess.run(["mount", "-o", "remount,size=64m", str(small_volume)], check=True)
    pod.run()
    assert len(pod.archives(name)) == 2


def test_too_little_room_is_seen_before_the_dump(pod: Pod, database: MakeDatabase, small_volume: Path) -> None:
    name = database()
    pod.add(name)
    (small_volume / "ballast").write_bytes(b"\0" * (10 << 20))
    pod.dump()
    assert_failed(pod, name, "free on the volume, about .* needed", "grow the claim")
    (small_volume / "ballast").unlink()
    pod.run()
    assert len(pod.archives(name)) == 1


def test_read_only_volume_fails_each_database_with_one_line(
    pod: Pod, database: MakeDatabase, small_volume: Path
) -> None:
    name, never = database(), database()
    pod.add(name)
    pod.run()
    pod.add(never)
    (first,) = pod.archives(name)
    subprocess.run(["mount", "-o", "remount,ro", str(small_volume)], check=True)
    pod.dump()
    for each in (name, never):
        assert "Read-only file system" in pod.result(each)["error"]
        assert "read-only" in pod.result(each)["remedy"]
    pod.finish(expect=1)
    pod.check(first)
    subprocess.run(["mount", "-o", "remount,rw", str(small_volume)], check=True)
    pod.run()
    assert len(pod.archives(name)) == 2


def test_standby_is_preferred_by_value(
    tmp_path: Path, server: Server, standby: Server, shell: str, database: MakeDatabase
) -> None:
    name = database()
    catch_up(server, standby)
    pod = Pod(tmp_path, server, shell)
    pod.add(name, standby_host="127.0.0.2")
    pod.run()
    assert pod.metadata(pod.archives(name)[0])["role"] == "standby"


def test_primary_serves_where_no_standby_answers(pod: Pod, database: MakeDatabase) -> None:
    name = database()
    pod.add(name, standby_host="127.0.0.3")
    pod.run()
    assert pod.metadata(pod.archives(name)[0])["role"] == "primary"


def test_recovery_conflict_on_a_standby_is_tried_again_on_the_primary(
    tmp_path: Path, server: Server, standby: Server, shell: str, slow: Slow
) -> None:
    name, release = slow
    catch_up(server, standby)
    pod = Pod(tmp_path, server, shell)
    pod.add(name, standby_host="127.0.0.2", lock_wait_timeout="100")
    dump = pod.start_dump()
    wait_until(lambda: waits_for_lock(standby, name), "pg_dump behind the replayed lock")
    # Replay of this lock cannot wait for the dump, which holds one on `t`.
    server.psql("BEGIN; LOCK TABLE t; COMMIT", name)
    wait_until(lambda: waits_for_lock(server, name), "pg_dump on the primary, behind the same lock")
    release()
    log = wait_for(dump, 120)
    result = pod.result(name)
    assert (result["state"], result["attempts"], result["role"]) == ("staged", "2", "primary"), log
    assert "conflict with recovery" in log


def catch_up(server: Server, standby: Server) -> None:
    """Wait until the standby has replayed all that the primary wrote."""
    target = server.value("SELECT pg_current_wal_insert_lsn()")
    server.psql("SELECT pg_switch_wal()")
    wait_until(lambda: standby.value(f"SELECT pg_last_wal_replay_lsn() >= '{target}'") == "t", f"replay of {target}")


def test_dump_script_takes_every_path_from_its_environment() -> None:
    """So that tests and the demo run what the pod runs; only messages name the pod's paths."""
    text = (REPO / "scripts" / "dump.sh").read_text()
    code = "\n".join(line for line in text.splitlines() if "echo" not in line and not line.lstrip().startswith("#"))
    assert not re.search(r"/(backups|etc/cnpg|run/cnpg|opt/cnpg)", code)


@pytest.mark.parametrize("kills", [7, pytest.param(20, marks=pytest.mark.long)])
def test_kill_at_any_moment_never_leaves_an_unverified_archive_under_a_final_name(
    tmp_path: Path, server: Server, shell_paths: dict[str, str], database: MakeDatabase, kills: int
) -> None:
    pod = Pod(tmp_path, server, shell_paths["dash"])
    name = database(rows=60000)
    pod.add(name)
    began = time.monotonic()
    pod.dump()
    whole = time.monotonic() - began
    pod.finish(expect=0)
    for i in range(kills):
        dump = pod.start_dump()
        # Spread over the whole run, whatever the machine's speed: no moment is left out.
        time.sleep(whole * (i + 0.5) / kills)
        kill_session(dump)
        pod.finish()
        for archive in pod.archives(name):
            pod.check(archive)
        assert not [n for n in pod.unpublished(name) if not n.endswith(".partial")]
    pod.run()
    assert pod.unpublished(name) == []
