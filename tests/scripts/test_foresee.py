"""What pg_restore would fail at is a warning of the dump; what it restores is not. Each case is also restored."""

from __future__ import annotations

import os
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.postgres import Server
from tests.scripts.conftest import REPO, Pod
from tests.scripts.test_check import check, row
from tests.scripts.unrestorable import group

CAREFUL = group("careful")
FAILS = {
    **{kind: sql for kind, sql in CAREFUL.items() if "later" not in kind and "after a table" not in kind},
    **group("fails"),
}
RESTORES = group("restores")
LATE = {
    **group("late"),
    "by one that names the schema": CAREFUL["a check reads a table that is restored later"],
}


@pytest.fixture
def shell(shell_paths: dict[str, str]) -> str:
    return shell_paths["busybox"]


@pytest.fixture
def name(server: Server) -> Iterator[str]:
    """An empty database."""
    made = f"f{uuid.uuid4().hex[:8]}"
    server.create_database(made)
    yield made
    for (dbname,) in server.sql(f"SELECT datname FROM pg_database WHERE starts_with(datname, '{made}')"):
        server.drop_database(dbname)


def run(server: Server, program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(server.bin / program), *arguments],
        env={"PATH": os.defpath, **server.superuser_env}, capture_output=True, text=True, check=False, cwd="/",
    )  # fmt: skip


def foreseen(server: Server, name: str) -> list[str]:
    script = REPO / "scripts" / "foresee.sql"
    path = "SET search_path = pg_catalog, pg_temp; SET default_transaction_read_only = on"
    done = run(server, "psql", "-XAtqw", "-v", "ON_ERROR_STOP=1", "-d", name, "-c", path, "-f", str(script))
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def restores(server: Server, name: str, folder: Path) -> bool:
    """Whether plain pg_restore can restore it."""
    archive = str(folder / "archive")
    done = run(server, "pg_dump", "-Fc", "-f", archive, name)
    assert done.returncode == 0, done.stderr
    server.create_database(f"{name}_copy")
    return run(server, "pg_restore", "--exit-on-error", "-d", f"{name}_copy", archive).returncode == 0


@pytest.mark.parametrize("kind", FAILS)
def test_what_cannot_be_restored_is_foreseen_in_one_sentence(
    server: Server, name: str, kind: str, tmp_path: Path
) -> None:
    server.psql(FAILS[kind], name)
    found = foreseen(server, name)
    assert not restores(server, name, tmp_path), "it can be restored: this case is wrong"
    assert len(found) >= 1
    assert "SET search_path" in found[0], found


@pytest.mark.parametrize("kind", RESTORES)
def test_what_can_be_restored_is_no_warning(server: Server, name: str, kind: str, tmp_path: Path) -> None:
    server.psql(RESTORES[kind], name)
    assert restores(server, name, tmp_path), "it cannot be restored: this case is wrong"
    assert foreseen(server, name) == []


@pytest.mark.parametrize("kind", LATE)
def test_check_that_reads_another_table_is_foreseen(server: Server, name: str, kind: str) -> None:
    server.psql(LATE[kind], name)
    (found,) = foreseen(server, name)
    assert "reads table public." in found
    assert "make it NOT VALID, or a trigger" in found


def test_it_is_a_warning_of_the_dump_and_of_the_check(pod: Pod, server: Server, name: str) -> None:
    server.psql(f"{CAREFUL['a domain']}; CREATE TABLE t (id int CHECK (known(id::text) OR true)); ANALYZE", name)
    pod.add(name)
    pod.run()
    warnings = pod.metadata(pod.archives(name)[0])["warnings"]
    assert len(warnings) == 2, warnings
    assert warnings[0] == (
        "check t_id_check of table public.t calls public.known(text), which finds table public.dict "
        "only through a search_path, and pg_restore sets none: ALTER FUNCTION public.known(text) SET search_path = …"
    )
    assert "SET search_path" in row(check(pod, 0), name)[8]
    server.psql("ALTER FUNCTION known(text) SET search_path = public; ALTER DOMAIN word DROP CONSTRAINT word_check;"
                "ALTER TABLE t DROP CONSTRAINT t_id_check", name)  # fmt: skip
    pod.run()
    assert pod.metadata(pod.archives(name)[1])["warnings"] == []


def test_no_row_is_read(server: Server, name: str) -> None:
    server.psql(CAREFUL["a check in PL/pgSQL"], name)
    reads = "SELECT pg_stat_force_next_flush(); SELECT sum(seq_scan) FROM pg_stat_user_tables"
    before = server.psql(reads, name).split()[-1]
    assert foreseen(server, name)
    assert server.psql(reads, name).split()[-1] == before


def test_what_cannot_be_foreseen_fails_no_dump(pod: Pod, server: Server, name: str, tmp_path: Path) -> None:
    """As when its statement_timeout is over."""
    server.psql("CREATE TABLE t (id int)", name)
    programs = tmp_path / "programs"
    programs.mkdir()
    psql = programs / "psql"
    psql.write_text(
        'case "$*" in *foresee.sql)'
        ' echo "psql: ERROR:  canceling statement due to statement timeout" >&2; exit 3 ;; esac\n'
        f'exec {server.bin}/psql "$@"\n'
    )
    psql.write_text(f"#!/bin/sh\n{psql.read_text()}")
    psql.chmod(0o755)
    pod.add(name)
    log = pod.dump(PATH=f"{programs}:{pod.environment()['PATH']}")
    pod.finish(expect=0)
    assert "is not known: psql: ERROR:  canceling statement due to statement timeout" in log
    assert pod.metadata(pod.archives(name)[0])["warnings"] == []
