"""The method `beside` in traffic: nobody gets in before the swap, and a finished copy is never lost."""
# ruff: noqa: F811

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.lab.postgres import PostgresError, Server, identifier, server_user
from tests.scripts.conftest import PASSWORD, RESTORE, Pod, Session, drop_owner, wait_for, wait_until
from tests.scripts.test_in_place import Make, Place, make, shell  # noqa: F401 # fixtures
from tests.scripts.test_restore_script import SUPERUSER_PASSWORD

_OWN = {"RESTORE_REPLACE": "yes", "RESTORE_WAY": "beside"}


@pytest.fixture(scope="module")
def busy() -> Iterator[Server]:
    """A server of this file's own, with prepared transactions and logical decoding."""
    with Server(settings={"wal_level": "logical", "max_prepared_transactions": "5"}) as running:
        running.create_role("backup", PASSWORD, "LOGIN IN ROLE pg_read_all_data")
        yield running


@contextmanager
def backed_up(folder: Path, server: Server, shell: str, name: str, sql: str) -> Iterator[Place]:
    """A database with what some statements make, and a backup of it; its owner may create databases."""
    (folder / "pod").mkdir()
    pod = Pod(folder / "pod", server, shell)
    server.psql(f"ALTER ROLE postgres PASSWORD '{SUPERUSER_PASSWORD}'")
    place = Place(pod, name)
    server.create_role(name, PASSWORD, "LOGIN CREATEDB")
    server.create_database(name, owner=name)
    place.sql(sql)
    pod.add(name, user=name)
    place.back_up()
    yield place
    drop_owner(server, name)


@pytest.fixture
def place(tmp_path: Path, busy: Server, shell: str) -> Iterator[Place]:
    """A database with ten rows, of which none is left."""
    rows = "CREATE TABLE t AS SELECT n FROM generate_series(1, 10) n"
    with backed_up(tmp_path, busy, shell, "swapped", rows) as place:
        place.sql("DELETE FROM t")
        yield place


def names(place: Place, kind: str = "") -> list[str]:
    query = f"SELECT datname FROM pg_database WHERE datname ~ '^{place.name}.*{kind}' ORDER BY 1"
    return [name for (name,) in place.server.sql(query)]


def rows(place: Place, dbname: str = "") -> str:
    return place.server.value("SELECT count(*) FROM t", dbname or place.name)


def start(place: Place, superuser: bool, path: str = "", **environment: str) -> subprocess.Popen[str]:
    """Start a restore beside, as `Place.restore` does, and do not wait for its end."""
    place.restore(2, superuser=superuser, RESTORE_JOBS="0")
    if path:
        environment["PATH"] = f"{path}:{place.pod.environment()['PATH']}"
    return place.pod.start(RESTORE, **_OWN, **environment)


def ended(process: subprocess.Popen[str], expect: int = 0) -> str:
    log = wait_for(process)
    assert process.returncode == expect, log
    return log


def stand_in(folder: Path, server: Server, program: str, script: str) -> str:
    """A folder with a program that runs a script before the real one, which is `$real`."""
    programs = folder / "programs"
    programs.mkdir()
    (programs / program).write_text(
        f'#!/bin/sh\ncd {folder}\nreal={server.bin}/{program}\n{script}\nexec "$real" "$@"\n'
    )
    (programs / program).chmod(0o755)
    return str(programs)


_WAITS = 'case "$*" in *"-d "*) : >filling; until [ -e go ]; do sleep 0.1; done ;; esac'


@pytest.mark.parametrize("superuser", [True, False])
def test_nobody_connects_to_the_new_database_before_it_is_swapped(
    place: Place, superuser: bool, tmp_path: Path
) -> None:
    server = place.server
    process = start(place, superuser, stand_in(tmp_path, server, "pg_restore", _WAITS))
    wait_until((tmp_path / "filling").exists, "pg_restore")
    (new,) = names(place, "_restoring_")
    asks = {"PGUSER": "backup", "PGPASSWORD": PASSWORD, "PGHOST": "localhost", "PGPORT": str(server.port)}

    def connect(dbname: str) -> str:
        done = subprocess.run(
            [server.bin / "psql", "-XAtc", "SELECT 1"], env={"PATH": os.defpath, **asks, "PGDATABASE": dbname},
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        return done.stdout + done.stderr

    assert re.search("too many connections for database|permission denied for database", connect(new))
    (tmp_path / "go").touch()
    ended(process)
    assert connect(place.name) == "1\n"
    assert rows(place) == "10"


@pytest.mark.parametrize("superuser", [True, False])
@pytest.mark.sample(1)
def test_session_in_the_new_database_does_not_stop_the_swap(place: Place, superuser: bool, tmp_path: Path) -> None:
    """An exporter's, of a superuser; or one that the role may end."""
    server = place.server
    process = start(place, superuser, stand_in(tmp_path, server, "pg_restore", _WAITS))
    wait_until((tmp_path / "filling").exists, "pg_restore")
    (new,) = names(place, "_restoring_")
    session = Session(server, new)
    session.sql("SELECT 1" if superuser else f"SET SESSION AUTHORIZATION {place.name}")
    (tmp_path / "go").touch()
    if superuser:
        ended(process)
        assert rows(place) == "10"
    else:
        # The session was begun by a superuser, and belongs to that role in the server's eyes.
        log = ended(process, 1)
        assert "cannot be renamed" in log
        assert names(place, "_restoring_"), "a finished copy"
    session._psql.kill()
    session.close()


def test_finished_copy_that_cannot_be_renamed_is_kept_by_the_next_restore(place: Place, tmp_path: Path) -> None:
    server = place.server
    process = start(place, True, stand_in(tmp_path, server, "pg_restore", _WAITS), RESTORE_SWAP_TRIES="1")
    wait_until((tmp_path / "filling").exists, "pg_restore")
    (new,) = names(place, "_restoring_")
    # Nobody can end these; in the new database the first one stops all renaming.
    for dbname in (place.name, new):
        server.psql(f"BEGIN; CREATE TABLE two_phases (i int); PREPARE TRANSACTION 'of {dbname}'", dbname)
    (tmp_path / "go").touch()
    log = ended(process, 1)
    assert names(place) == [place.name, new]
    for dbname in (place.name, new):
        server.psql(f"ROLLBACK PREPARED 'of {dbname}'", dbname)
    other = place.restore(superuser=True, RESTORE_WAY="beside", RESTORE_INTO=place.name)
    assert f"'{new}' is a restored copy that was not renamed" in other
    assert new in names(place), "dropped as a leftover"
    (kept,) = names(place, "_before_")
    server.psql(f"DROP DATABASE {place.name}; ALTER DATABASE {kept} RENAME TO {place.name}")
    (statements,) = re.findall(r"end its sessions, then: (COMMENT .*;)", log)
    server.psql(statements)
    assert rows(place) == "10"
    comment = server.value(
        f"SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = '{place.name}'"
    )
    assert not comment.startswith("cnpg-backup"), "the mark of a finished copy"
    assert server.value(f"SELECT datconnlimit FROM pg_database WHERE datname = '{place.name}'") == "-1"


def test_restore_that_runs_at_the_same_time_keeps_its_database(place: Place, tmp_path: Path) -> None:
    process = start(place, False, stand_in(tmp_path, place.server, "pg_restore", _WAITS))
    wait_until((tmp_path / "filling").exists, "pg_restore")
    (new,) = names(place, "_restoring_")
    # No session of the first restore is in its database at this moment.
    other = tmp_path / "other"
    shutil.copytree(place.pod.folder, other, ignore=shutil.ignore_patterns("hold*", "held", "psql*"))
    pod = object.__new__(Pod)
    pod.folder, pod.server, pod.shell_path, pod.parallel, pod.timeout = (
        other,
        place.server,
        place.pod.shell_path,
        1,
        600,
    )
    pod.root = other / "backups"
    log = Place(pod, place.name).restore(RESTORE_WAY="beside")
    assert f"another restore of '{place.name}' is running; it fills '{new}'" in log
    assert new in names(place)
    (tmp_path / "go").touch()
    ended(process)
    assert rows(place) == "10"
    assert len(names(place, "_before_")) == 2


def test_what_a_killed_restore_leaves_is_dropped_by_the_next(place: Place, tmp_path: Path) -> None:
    process = start(place, True, stand_in(tmp_path, place.server, "pg_restore", _WAITS))
    wait_until((tmp_path / "filling").exists, "pg_restore")
    (new,) = names(place, "_restoring_")
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate(timeout=60)
    locks = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'"
    wait_until(lambda: place.server.value(locks) == "0", "the end of the killed restore's lock")
    log = place.restore(superuser=True, RESTORE_WAY="beside")
    assert f"removed '{new}'" in log
    assert names(place, "_restoring_") == []


@pytest.mark.parametrize("mode", ["fast", pytest.param("immediate", marks=pytest.mark.long)])
def test_server_that_restarts_in_the_swap_is_waited_for(place: Place, mode: str) -> None:
    server = place.server
    session = Session(server, place.name)
    session.sql("SELECT 1")
    process = start(place, False)
    swapping = "SELECT count(*) FROM pg_stat_activity WHERE query ~ '^ALTER DATABASE .* RENAME' AND state = 'active'"
    wait_until(lambda: server.value(swapping) != "0", "the swap", 120)
    # The lab's servers do not wait for the disk, and a crash may lose the last fifth of a second.
    server.psql("CHECKPOINT")
    server.restart(mode)  # type: ignore[arg-type]
    session._psql.kill()
    session.close()
    log = ended(process)
    assert rows(place) == "10"
    assert rows(place, names(place, "_before_")[0]) == "0"
    assert names(place, "_restor") == [], log


def test_sigterm_in_the_swap_keeps_the_finished_copy_and_prints_what_finishes_it(place: Place) -> None:
    server = place.server
    session = Session(server, place.name)
    session.sql("SELECT 1")
    process = start(place, False)
    swapping = "SELECT count(*) FROM pg_stat_activity WHERE query ~ '^ALTER DATABASE .* RENAME' AND state = 'active'"
    wait_until(lambda: server.value(swapping) != "0", "the swap", 120)
    process.send_signal(signal.SIGTERM)
    log = ended(process, 143)
    session.close()
    (kept,) = names(place, "_restoring_")
    (statements,) = re.findall(f"'{kept}' is restored in full. .* by hand: (.*)", log)
    wait_until(lambda: server.value(swapping) == "0", "the end of the swap")
    server.psql(statements)
    assert rows(place) == "10"
    assert len(names(place)) == 2


_SWAPS_AND = 'case "$*" in *"database="*"old="*) [ -e done ] || { : >done; %s; } ;; esac'
_LOST = "echo 'server closed the connection unexpectedly' >&2; exit 2"


def test_swap_whose_answer_is_lost_is_found_out_and_not_done_twice(place: Place, tmp_path: Path) -> None:
    path = stand_in(tmp_path, place.server, "psql", _SWAPS_AND % f'"$real" "$@"; {_LOST}')
    log = ended(start(place, True, path))
    assert "restored" in log
    assert rows(place) == "10"
    assert len(names(place)) == 2


@pytest.mark.parametrize("what", ["database", "mark"])
def test_copy_that_a_failover_has_lost_is_not_swapped(place: Place, tmp_path: Path, what: str) -> None:
    """A promoted standby may lack the newest of what its primary had."""
    server = place.server
    lose = {"database": "DROP DATABASE %s", "mark": "COMMENT ON DATABASE %s IS NULL"}[what] % "$(cat name)"
    environment = " ".join(f"{key}={value}" for key, value in server.superuser_env.items())
    path = stand_in(
        tmp_path, server, "psql",
        _SWAPS_AND % f'{environment} PGDATABASE=postgres "$real" -XqAtc "SELECT datname FROM pg_database WHERE '
        f"datname ~ '_restoring_'\" >name; {environment} PGDATABASE=postgres \"$real\" -Xq -c \"{lose}\"; {_LOST}",
    )  # fmt: skip
    log = ended(start(place, True, path), 1)
    assert "lost in a failover" in log
    assert "nothing was changed" in log
    assert names(place) == [place.name]
    assert rows(place) == "0"


@pytest.mark.parametrize("way", ["beside", "in-place"])
def test_prepared_transaction_is_found_before_anything_is_restored(place: Place, way: str) -> None:
    server = place.server
    for gid in ("it''s one", "two"):
        server.psql(f"BEGIN; CREATE TABLE x_{len(gid)} (i int); PREPARE TRANSACTION '{gid}'", place.name)
    log = place.restore(1, superuser=True, RESTORE_WAY=way)
    assert f"'{place.name}' has prepared transactions" in log
    assert "'it''s one' of role postgres, 'two' of role postgres" in log
    assert names(place) == [place.name]
    assert "restoring" not in log.replace("_restoring_", "")
    (statement,) = re.findall(r"or (ROLLBACK PREPARED .*); then", log)
    server.psql(f"{statement}; ROLLBACK PREPARED 'two'", place.name)
    place.restore(superuser=True, RESTORE_WAY=way)
    assert rows(place) == "10"


def test_template_that_was_replaced_is_dropped_by_the_statements_that_are_printed(place: Place) -> None:
    place.server.psql(f"ALTER DATABASE {place.name} IS_TEMPLATE true CONNECTION LIMIT 9")
    place.back_up()
    log = place.restore(superuser=True, RESTORE_WAY="beside")
    flags = f"SELECT datistemplate, datconnlimit FROM pg_database WHERE datname = '{place.name}'"
    assert place.server.sql(flags) == [["t", "9"]]
    (statements,) = re.findall("no longer need it: (.*)", log)
    place.server.psql(statements)
    assert names(place) == [place.name]
    place.server.psql(f"ALTER DATABASE {place.name} IS_TEMPLATE false")


def test_slot_and_subscription_that_stay_with_the_old_database_are_named_with_what_ends_them(place: Place) -> None:
    server = place.server
    server.psql("SELECT pg_create_logical_replication_slot('debezium_1', 'pgoutput')", place.name)
    server.psql(
        "CREATE SUBSCRIPTION \"Sub's\" CONNECTION 'host=127.0.0.1 port=1 dbname=x' PUBLICATION p "
        "WITH (connect = false)",
        place.name,
    )
    dry = place.restore(superuser=True, RESTORE_WAY="beside", RESTORE_DRY_RUN="yes")
    assert "'debezium_1' stays with the present database" in dry
    log = place.restore(superuser=True, RESTORE_WAY="beside")
    (old,) = names(place, "_before_")
    assert f"'debezium_1' stays with the previous database, now '{old}', and keeps WAL" in log
    (drop,) = re.findall(r"(SELECT pg_drop_replication_slot\(.*?\))", log)
    (end,) = re.findall(r"in that database, (ALTER SUBSCRIPTION .*; DROP SUBSCRIPTION .*?);", log)
    for statement in end.split("; "):
        server.psql(statement, old)
    server.psql(drop)
    server.psql(re.findall("no longer need it: (.*)", log)[0])
    assert names(place) == [place.name]


@pytest.mark.parametrize("may_use", [True, False])
def test_new_database_is_in_the_tablespace_of_the_old_one_if_the_role_may(place: Place, may_use: bool) -> None:
    server = place.server
    folder = server.folder / f"space-{may_use}"
    folder.mkdir()
    os.chown(folder, server_user().uid, server_user().gid)
    space = f"Space {may_use}"
    server.psql(f"CREATE TABLESPACE \"{space}\" LOCATION '{folder}'")
    server.psql(f'ALTER DATABASE {place.name} SET TABLESPACE "{space}"')
    if may_use:
        server.psql(f'GRANT CREATE ON TABLESPACE "{space}" TO {place.name}')
    log = place.restore(RESTORE_WAY="beside")
    query = "SELECT spcname FROM pg_tablespace t JOIN pg_database d ON t.oid = dattablespace WHERE datname = "
    assert server.value(f"{query}'{place.name}'") == (space if may_use else "pg_default")
    assert (f"warning: the database was in tablespace '{space}', where" in log) == (not may_use)
    for name in names(place, "_before_"):
        server.drop_database(name)
    if may_use:
        server.psql(f"ALTER DATABASE {place.name} SET TABLESPACE pg_default")
        server.psql(f'REVOKE ALL ON TABLESPACE "{space}" FROM {place.name}')
    server.psql(f'DROP TABLESPACE "{space}"')


def test_tablespace_that_only_the_archive_has_is_said(place: Place) -> None:
    server = place.server
    folder = server.folder / "gone"
    folder.mkdir()
    os.chown(folder, server_user().uid, server_user().gid)
    server.psql(f"CREATE TABLESPACE gone LOCATION '{folder}'")
    server.psql(f"ALTER DATABASE {place.name} SET TABLESPACE gone")
    place.back_up()
    server.drop_database(place.name)
    server.psql("DROP TABLESPACE gone")
    log = place.restore(superuser=True, RESTORE_WAY="beside")
    assert "warning: the database was in tablespace 'gone', which the server does not have" in log


def test_database_that_accepts_no_connections_is_replaced_only_when_asked_and_beside(place: Place) -> None:
    server = place.server
    server.psql(f"ALTER DATABASE {place.name} ALLOW_CONNECTIONS false")
    log = place.restore(3, superuser=True, RESTORE_WAY="beside", RESTORE_REPLACE="no")
    assert "accepts no connections" in log
    log = place.restore(1, superuser=True, RESTORE_WAY="in-place")
    (remedy,) = re.findall(r"remedy: (ALTER DATABASE .*), then", log)
    log = place.restore(superuser=True, RESTORE_WAY="beside")
    assert rows(place) == "10"
    assert "the previous 'swapped' accepted no connections; the restored one does" in log
    with pytest.raises(PostgresError):
        rows(place, names(place, "_before_")[0])
    server.psql(remedy.replace(identifier(place.name), identifier(names(place, "_before_")[0])))
    assert rows(place, names(place, "_before_")[0]) == "0"


# The moment of a name that begins n seconds from now.
_NTH_SECOND = "to_char(now() AT TIME ZONE 'UTC' + n * interval '1 s', 'YYYYMMDD_HH24MISS')"


@pytest.mark.parametrize("superuser", [True, False])
def test_restore_does_not_take_a_name_that_another_database_has(place: Place, superuser: bool) -> None:
    """Two restores may begin within one second, and a clock may be set back."""
    moments = place.server.sql(f"SELECT {_NTH_SECOND} FROM generate_series(0, 29) n")
    taken = {f"{place.name}_before_{moment}" for (moment,) in moments}
    for name in taken:
        place.server.create_database(name)
    try:
        ended(start(place, superuser))
        assert rows(place) == "10"
        (before,) = set(names(place, "_before_")) - taken
        assert rows(place, before) == "0"
    finally:
        for name in taken:
            place.server.psql(f"DROP DATABASE IF EXISTS {identifier(name)}")


def test_restore_in_place_does_not_take_a_name_that_another_schema_has(make: Make) -> None:
    """Also one of an object without a schema: a publication has the last of the moments."""
    place = make("CREATE TABLE t (n int); CREATE PUBLICATION p FOR TABLE t")
    place.sql(
        f"""SELECT format('CREATE SCHEMA %I', 'public_before_' || {_NTH_SECOND})
        FROM generate_series(0, 59) n \\gexec
        SELECT format('CREATE PUBLICATION %I', 'p_before_' || {_NTH_SECOND})
        FROM generate_series(50, 119) n \\gexec
        """
    )
    log = place.restore()
    (aside,) = re.findall(r"schemas whose names end in (_before_\d{8}_\d{6})", log)
    assert place.server.value(f"SELECT count(*) FROM pg_publication WHERE pubname = 'p{aside}'", place.name) == "1"
    assert place.server.value(f"SELECT to_regclass('public{aside}.t')", place.name) == f"public{aside}.t"
