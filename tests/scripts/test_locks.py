"""Locks of a restore in place: the estimate is near the server's own count and never below it."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from tests.lab.postgres import PostgresError, Server
from tests.scripts.conftest import PASSWORD, Pod
from tests.scripts.test_in_place import Make, Place, make, shell

__all__ = ["make", "shell"]

# What the server holds for this transaction when it is about to commit, each object once whatever the lock's modes.
_HELD = (
    "SELECT count(*) FROM (SELECT DISTINCT locktype, database, relation, page, tuple, virtualxid, transactionid::text,"
    " classid, objid, objsubid FROM pg_locks WHERE pid = pg_backend_pid() AND NOT fastpath) held"
)
_FILL = """DO $$ DECLARE n int := 0; BEGIN
  LOOP n := n + 1; PERFORM pg_advisory_xact_lock(n); END LOOP;
EXCEPTION WHEN OTHERS THEN RAISE '% locks: %', n - 1, sqlerrm; END $$"""


def each(count: int, statements: str) -> str:
    """SQL that runs statements for each number from 1 on, which they name as %1$s."""
    return f"SELECT format($_${statements}$_$, i) FROM generate_series(1, {count}) i\n\\gexec\n"


_TRIGGER = "CREATE FUNCTION tf() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN new; END';"
SCHEMAS = {
    "plain": each(500, "CREATE TABLE t%1$s (id int PRIMARY KEY, v text)"),
    "fixed": each(500, 'CREATE TABLE t%1$s (id bigint NOT NULL, "at or" timestamptz DEFAULT now(), v float8)'),
    "serial": each(500, "CREATE TABLE t%1$s (id serial PRIMARY KEY, v jsonb)"),
    "foreign keys and indexes": "CREATE TABLE a (i int PRIMARY KEY);"
    + each(
        500, "CREATE TABLE t%1$s (id int REFERENCES a, v text); CREATE INDEX ON t%1$s (id); CREATE INDEX ON t%1$s (v)"
    ),
    "triggers and policies": _TRIGGER
    + each(
        500,
        "CREATE TABLE t%1$s (id int, v text); CREATE POLICY p ON t%1$s USING (true);"
        "CREATE TRIGGER tg BEFORE INSERT ON t%1$s FOR EACH ROW EXECUTE FUNCTION tf()",
    ),
    "views": "CREATE TABLE a (i int, v text);" + each(2000, "CREATE VIEW v%1$s AS SELECT * FROM a"),
    "materialized views": "CREATE TABLE a (i int, v text);"
    + each(500, "CREATE MATERIALIZED VIEW m%1$s AS SELECT * FROM a; CREATE UNIQUE INDEX ON m%1$s (i)"),
    "functions": each(
        3000, "CREATE FUNCTION f%1$s() RETURNS int LANGUAGE sql AS 'SELECT 1'; COMMENT ON FUNCTION f%1$s() IS 'f'"
    ),
    "types": each(
        500,
        "CREATE TYPE e%1$s AS ENUM ('a'); CREATE DOMAIN d%1$s AS int CHECK (value > 0); CREATE TYPE c%1$s AS (a int);"
        "COMMENT ON TYPE e%1$s IS 'e'",
    ),
    "partitions": "CREATE TABLE p (i int PRIMARY KEY, v float8) PARTITION BY RANGE (i);"
    + each(500, "CREATE TABLE p%1$s PARTITION OF p FOR VALUES FROM (%1$s) TO (%1$s + 1)"),
    "large objects": "SELECT count(lo_from_bytea(0, 'x')) FROM generate_series(1, 3000)",
}
MIXED = _TRIGGER + each(
    40,
    "CREATE SCHEMA s%1$s; CREATE TABLE t%1$s (id serial PRIMARY KEY, v text UNIQUE, n int CHECK (n > 0));"
    "CREATE TABLE s%1$s.u (id int REFERENCES t%1$s, at timestamptz); COMMENT ON TABLE s%1$s.u IS 'u';"
    "CREATE TRIGGER tg BEFORE INSERT ON t%1$s FOR EACH ROW EXECUTE FUNCTION tf();"
    "CREATE VIEW v%1$s AS SELECT * FROM t%1$s; CREATE MATERIALIZED VIEW m%1$s AS SELECT * FROM t%1$s;"
    "CREATE FUNCTION f%1$s() RETURNS int LANGUAGE sql AS 'SELECT 1'; CREATE TYPE e%1$s AS ENUM ('a');"
    "GRANT SELECT ON t%1$s TO backup; SELECT lo_from_bytea(0, 'x');"
    "CREATE STATISTICS st%1$s ON id, n FROM t%1$s; COMMENT ON SCHEMA s%1$s IS 's'",
)


class Counter:
    """A psql that counts the locks just before the COMMIT of a restore in place."""

    def __init__(self, pod: Pod) -> None:
        self._folder = pod.folder / "counting"
        self._folder.mkdir(exist_ok=True)
        self._held = self._folder / "held"
        self._held.unlink(missing_ok=True)
        program = self._folder / "psql"
        program.write_text(f"""#!/bin/sh
case $* in *"-f -") ;; *) exec {pod.server.bin}/psql "$@" ;; esac
sed 's|^COMMIT;$|{_HELD} \\\\g {self._held}\\n&|' | {pod.server.bin}/psql -At "$@"
""")
        program.chmod(0o755)
        self.path = f"{self._folder}:{pod.environment()['PATH']}"

    def held(self) -> int:
        return int(self._held.read_text())


def compare(place: Place, *, superuser: bool, keep: str) -> None:
    """A restore holds no more locks than it says, and not much fewer."""
    counter = Counter(place.pod)
    log = place.restore(superuser=superuser, RESTORE_KEEP=keep, PATH=counter.path)
    (said,) = re.findall(r"needs about (\d+) locks at once", log)
    held = counter.held()
    assert held <= int(said) <= held * 1.25 + 100, f"{held} are held"


@pytest.mark.parametrize(("superuser", "keep"), [(False, "yes"), (True, "no")], ids=["owner", "superuser, not kept"])
def test_estimate_of_locks_is_never_below_the_servers_count(make: Make, superuser: bool, keep: str) -> None:
    compare(make(MIXED, "CREATE EXTENSION citext"), superuser=superuser, keep=keep)


@pytest.mark.long
@pytest.mark.parametrize("keep", ["yes", "no"])
@pytest.mark.parametrize("superuser", [False, True], ids=["owner", "superuser"])
@pytest.mark.parametrize("extension", ["", "CREATE EXTENSION citext"], ids=["renamed", "moved"])
@pytest.mark.parametrize("sql", SCHEMAS.values(), ids=SCHEMAS)
def test_estimate_of_locks_holds_for_each_kind(
    make: Make, sql: str, extension: str, superuser: bool, keep: str
) -> None:
    compare(make(sql, extension), superuser=superuser, keep=keep)


@pytest.mark.long
@pytest.mark.parametrize("sql", SCHEMAS.values(), ids=SCHEMAS)
def test_estimate_of_locks_holds_on_the_newest_major(pod: Pod, newer_server: Server, make: Make, sql: str) -> None:
    pod.server = newer_server
    compare(make(sql, sslmode="disable"), superuser=True, keep="yes")


@pytest.fixture
def own_server(request: pytest.FixtureRequest) -> Iterator[Server]:
    """A server with settings of the test's."""
    with Server(settings=request.param) as server:
        server.create_role("backup", PASSWORD)
        yield server


FEW = {"max_locks_per_transaction": "10", "max_connections": "20", "max_worker_processes": "1", "max_wal_senders": "2"}


@pytest.mark.parametrize("own_server", [FEW], ids=["few"], indirect=True)
def test_restore_that_fits_into_the_lock_table_runs_and_a_larger_one_changes_nothing(
    pod: Pod, own_server: Server, make: Make
) -> None:
    pod.server = own_server
    place = make(each(57, "CREATE TABLE t%1$s (id int PRIMARY KEY, v text)"))
    log = place.restore()
    ((said, room),) = re.findall(r"about (\d+) locks at once, the server has room for about (\d+)", log)
    assert int(room) * 0.8 < int(said) <= int(room), "it is to be near the limit"
    place.sql(each(30, "CREATE TABLE u%1$s (id int PRIMARY KEY, v text)"))
    place.back_up()
    before = place.plain()
    log = place.restore(1)
    assert re.search(r"FAILED: .* needs about \d+ locks, the server has room for about \d+", log)
    assert place.plain() == before
    (setting,) = re.findall(r"max_locks_per_transaction of the cluster from 10 to (\d+)", log)
    own_server.psql(f"ALTER SYSTEM SET max_locks_per_transaction = {setting}")
    own_server.restart()
    place.restore()


@pytest.mark.long
@pytest.mark.parametrize(
    "own_server", [{}, {"max_connections": "500"}, {"max_locks_per_transaction": "512"}], ids=str, indirect=True
)
def test_room_for_locks_is_what_the_server_has(pod: Pod, own_server: Server, make: Make) -> None:
    pod.server = own_server
    log = make("CREATE TABLE t (i int)").restore()
    (room,) = re.findall(r"the server has room for about (\d+)", log)
    with pytest.raises(PostgresError, match="out of shared memory") as caught:
        own_server.psql(_FILL)
    (real,) = re.findall(r"(\d+) locks:", str(caught.value))
    assert int(room) <= int(real) <= int(room) * 1.25
