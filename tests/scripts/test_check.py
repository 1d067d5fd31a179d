"""dump.sh --check: reports whether each database could be dumped now, without a lock and without leaving a file."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.postgres import Authority, Server
from tests.scripts.conftest import DUMP, Pod, in_both_shells


@pytest.fixture
def name(server: Server) -> Iterator[str]:
    """A database with one table."""
    made = f"db-{uuid.uuid4().hex[:8]}"
    server.create_database(made)
    server.psql("CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1)", made)
    yield made
    server.drop_database(made)


def check(pod: Pod, expect: int) -> str:
    """Run the check in a pod whose scratch volumes are empty; return the table."""
    for scratch in ("run", "results"):
        shutil.rmtree(pod.folder / scratch)
        (pod.folder / scratch).mkdir()
    done = subprocess.run(
        ["sh", str(DUMP), "--check"],
        env=pod.environment(),
        executable=f"{pod.shell_path}/sh",
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == expect, f"exit {done.returncode}, not {expect}:\n{done.stdout}{done.stderr}"
    return done.stdout + done.stderr


def row(table: str, name: str) -> list[str]:
    """The columns of a database's line; the last one holds the rest."""
    (line,) = [line for line in table.splitlines() if line.startswith(f"{name} ")]
    return line.split(maxsplit=8)


def contents(pod: Pod) -> list[str]:
    return sorted(str(path.relative_to(pod.root)) for path in pod.root.rglob("*"))


@in_both_shells
def test_database_that_can_be_dumped_is_ready(pod: Pod, name: str) -> None:
    pod.add(name)
    _, result, version, role, tls, tables, free, unit, why = row(check(pod, 0), name)
    assert (result, role, tables, unit, why) == ("ready", "primary", "1", "MiB", "-")
    assert re.fullmatch(r"17\.\d+", version)
    assert re.fullmatch(r"TLSv1\.\d", tls)
    assert int(free) > 0
    assert contents(pod) == [], "the check left something on the volume"


def test_check_neither_waits_for_a_run_nor_touches_its_files(pod: Pod, name: str) -> None:
    pod.add(name)
    pod.run()
    partial = pod.directory(name) / f".{name}-20260101-000000.dump.partial"
    partial.write_text("a dump under way")
    before = contents(pod)
    with (pod.directory(name) / ".lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert row(check(pod, 0), name)[1] == "ready"
    assert contents(pod) == before
    assert partial.read_text() == "a dump under way"


def test_no_data_is_read(pod: Pod, name: str, server: Server) -> None:
    server.psql("CREATE TABLE big AS SELECT md5(i::text) FROM generate_series(1, 300000) i", name)
    reads = "SELECT seq_scan FROM pg_stat_user_tables WHERE relname = 'big'"
    pod.add(name)
    check(pod, 0)
    assert server.value(reads, name) == "0", "the check read the table"


def test_table_without_privilege_is_named_and_fails(pod: Pod, name: str, server: Server) -> None:
    server.create_role("half-poor", "poor")
    try:
        pod.add(name, user="half-poor", password="poor")
        table = check(pod, 1)
        assert "FAILED" in row(table, name)
        assert "permission denied for table t" in table
        assert "pg_read_all_data" in table
    finally:
        server.psql('DROP ROLE "half-poor"')


def test_excluded_table_needs_no_privilege(pod: Pod, name: str, server: Server) -> None:
    server.create_role("half", "half")
    try:
        server.psql("CREATE TABLE secret (id int); GRANT SELECT ON t TO half", name)
        pod.add(name, user="half", password="half", extra_args=["--exclude-table=secret"])
        assert row(check(pod, 0), name)[1] == "ready"
    finally:
        server.psql("DROP OWNED BY half", name)
        server.psql("DROP ROLE half")


def test_row_security_is_a_warning(pod: Pod, name: str, server: Server) -> None:
    server.psql("ALTER TABLE t ENABLE ROW LEVEL SECURITY", name)
    pod.add(name)
    assert "row security hides rows of 1 tables" in row(check(pod, 0), name)[8]


@in_both_shells
def test_one_failure_fails_the_check_and_hides_no_other_database(pod: Pod, name: str) -> None:
    pod.add(name)
    pod.add("wrong-password", password="wrong", dbname=name)
    pod.add("wrong-ca", dbname=name)
    (pod.folder / "credentials" / "wrong-ca" / "ca.crt").write_bytes(Authority().pem)
    pod.add("no-secret", dbname=name)
    (pod.folder / "credentials" / "no-secret" / "password").unlink()
    pod.add("no-such-database")
    pod.add("no-such-host", host="nosuch.invalid", wait_timeout="1")
    table = check(pod, 1)
    assert row(table, name)[1] == "ready"
    for failed, why in {
        "wrong-password": "password authentication failed",
        "wrong-ca": "certificate verify failed",
        "no-secret": "does the Secret exist",
        "no-such-database": "does not exist",
        "no-such-host": "DNS egress",
    }.items():
        columns = row(table, failed)
        assert columns[1] == "FAILED", table
        assert why in " ".join(columns), table
    assert contents(pod) == []


def test_database_without_a_table_is_not_ready_unless_that_is_right(pod: Pod, name: str, server: Server) -> None:
    server.psql("DROP TABLE t", name)
    pod.add(name)
    assert "allowEmpty" in check(pod, 1)
    pod.add(name, allow_empty="true")
    assert row(check(pod, 0), name)[1] == "ready"


def test_other_major_is_not_ready(pod: Pod, newer_server: Server) -> None:
    newer_server.create_database("newer")
    try:
        pod.add("newer", port=str(newer_server.port), sslmode="disable")
        assert "add to the entry 'newer' of databases" in (table := check(pod, 1))
        assert "image: {tag: 18-alpine};" in table
    finally:
        newer_server.drop_database("newer")


def test_directory_that_cannot_be_written_is_not_ready(pod: Pod, name: str) -> None:
    pod.add(name)
    (pod.directory(name) / f".{name}.check").mkdir(parents=True)
    assert f"{name}.check" in " ".join(row(check(pod, 1), name))


@pytest.fixture
def small_volume(pod: Pod) -> Iterator[None]:
    """A claim of 4 MiB."""
    if os.geteuid() != 0:
        pytest.fail("a small volume is a tmpfs, which takes root to mount")
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m,mode=0700", "tmpfs", str(pod.root)], check=True)
    yield
    subprocess.run(["umount", str(pod.root)], check=True)


@pytest.mark.usefixtures("small_volume")
def test_a_volume_too_small_for_all_tiers_is_told_before_it_is_full(pod: Pod, name: str) -> None:
    pod.add(name)
    archive = pod.root / name / f"{name}-20260101-000000.dump"
    archive.parent.mkdir()
    archive.write_bytes(b"x" * 100 * 1024)
    output = check(pod, 0)
    assert "volume: 4 MiB, 0 MiB used; about 2 MiB once all tiers are full" in output
    assert "too small" not in output
    archive.write_bytes(b"x" * 300 * 1024)
    output = check(pod, 0)
    assert "volume: 4 MiB, 0 MiB used; about 5 MiB once all tiers are full" in output
    assert "volume: warning: it will be too small; grow the claim" in output
    pod.add(name, max_bytes=str(1024 * 1024))
    output = check(pod, 0)
    assert "volume: 4 MiB, 0 MiB used; about 1 MiB once all tiers are full" in output
    assert "too small" not in output


def test_volume_without_locks_is_not_ready(pod: Pod, name: str, tmp_path: Path) -> None:
    pod.add(name)
    programs = tmp_path / "programs"
    programs.mkdir()
    (programs / "flock").write_text('#!/bin/sh\necho "flock: 9: No locks available" >&2\nexit 71\n')
    (programs / "flock").chmod(0o755)
    pod.shell_path = f"{programs}:{pod.shell_path}"
    done = subprocess.run(
        ["sh", str(DUMP), "--check"],
        env=pod.environment(),
        executable=f"{pod.shell_path.rpartition(':')[2]}/sh",
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 1
    assert "cannot lock files: No locks available" in done.stdout
    assert contents(pod) == []


def test_large_object_that_the_role_may_not_read_is_not_ready(pod: Pod, name: str, server: Server) -> None:
    """pg_read_all_data, which the role has, does not cover it; a dump would fail only when it comes to its data."""
    pod.add(name)
    oid = server.value("SELECT lo_from_bytea(0, 'x')", name)
    table = check(pod, 1)
    assert "permission denied for 1 large objects" in table
    assert "GRANT SELECT ON LARGE OBJECT" in table
    assert "pg_read_all_data" not in table
    pod.add(name, extra_args=["--no-large-objects"])
    assert row(check(pod, 0), name)[1] == "ready"
    pod.add(name)
    server.psql(f"GRANT SELECT ON LARGE OBJECT {oid} TO PUBLIC", name)
    assert row(check(pod, 0), name)[1] == "ready"
    pod.run()
