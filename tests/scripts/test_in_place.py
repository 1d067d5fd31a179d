"""A restore in place: the database is as the archive, and what was there is whole in schemas of its own."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.lab.data import fingerprint
from tests.lab.postgres import Server, identifier
from tests.matrix.site import differences, shortened
from tests.scripts.conftest import PASSWORD, RESTORE, Pod, drop_owner, wait_for
from tests.scripts.migrations import KITCHEN_SINK, MIGRATIONS, WRECK, Migration, install_extensions
from tests.scripts.test_restore_script import SUPERUSER_PASSWORD

_MOMENT = r"_before_\d{8}_\d{6}"
# What no schema holds, and what the server names after an object's number.
_INVENTORY = r"""
SELECT DISTINCT o.type || ' ' || o.identity FROM pg_depend d, pg_identify_object(d.classid, d.objid, 0) o
WHERE d.objid >= 16384 AND o.identity !~ '_RETURN'
  AND o.type !~ '^(toast|default acl|event trigger|cast|extension|publication|server|user mapping|large)'
  AND o.type !~ 'of access method'
  AND NOT EXISTS (SELECT FROM pg_depend e WHERE e.classid = d.classid AND e.objid = d.objid AND e.deptype = 'e')
  AND o.identity !~ 'pg_toast|^pg_catalog\.'
"""


@dataclass
class Place:
    """A database of a plain owner, an archive of it, and the pod that restores it."""

    pod: Pod
    name: str

    @property
    def server(self) -> Server:
        return self.pod.server

    @property
    def archive(self) -> Path:
        return self.pod.root / self.name / f"{self.name}-20260101-000000.dump"

    def plain(self) -> list[str]:
        """The whole database as SQL."""
        done = self._pg_dump("-Fp")
        return [
            line for line in done.split("\n") if not re.match(r"\\(un)?restrict |-- Dumped|$|--$|-- TOC entry", line)
        ]

    def back_up(self) -> None:
        """Dump it into the archive that a restore will use."""
        self.archive.parent.mkdir(exist_ok=True)
        self._pg_dump("-Fc", "-f", str(self.archive))

    def _pg_dump(self, *arguments: str) -> str:
        done = subprocess.run(
            [str(self.server.bin / "pg_dump"), *arguments],
            env={"PATH": os.defpath, **self.server.superuser_env, "PGDATABASE": self.name},
            capture_output=True, text=True, check=False, cwd="/",
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout

    def sql(self, sql: str) -> str:
        """Run SQL as the owner, in one session."""
        return self.server.psql(f"SET ROLE {identifier(self.name)}; {sql}", self.name)

    def inventory(self, aside: bool = False) -> set[str]:
        """All objects, or all that are set aside under the names that they had."""
        lines = self.server.psql(f"SET search_path = pg_catalog; {_INVENTORY}", self.name).split("\n")
        if aside:
            return {re.sub(_MOMENT, "", line) for line in lines if re.search(_MOMENT, line)}
        return {line for line in lines if line}

    def rows(self, aside: bool = False) -> dict[str, object]:
        """The content of all tables, or of those that are set aside."""
        found = fingerprint(self.server, self.name).tables
        return {
            re.sub(_MOMENT, "", k): v for k, v in found.items() if "." in k and bool(re.search(_MOMENT, k)) == aside
        }

    def restore(
        self, expect: int = 0, /, *, superuser: bool = False, rows: int | str | None = None, **environment: str
    ) -> str:
        """Restore it; `rows` is how many the archive held when it was made."""
        self.pod.renew()
        body = self.archive.read_bytes()
        facts = {
            "database": self.name, "base": self.archive.stem, "bytes": str(len(body)), "dbname": self.name,
            "sha256": hashlib.sha256(body).hexdigest(), "server_version": self.server.value("SHOW server_version"),
        }  # fmt: skip
        if rows is not None:
            facts["rows"] = str(rows)
        lines = "".join(f"{key}={value}\n" for key, value in facts.items())
        (self.pod.folder / "results" / "a.request").write_text(lines)
        secret = self.pod.folder / "credentials" / self.name
        (secret / "owner-username").write_text(self.name)
        (secret / "owner-password").write_text(PASSWORD)
        if superuser:
            (secret / "superuser-username").write_text("postgres")
            (secret / "superuser-password").write_text(SUPERUSER_PASSWORD)
        options = {"RESTORE_REPLACE": "yes", "RESTORE_WAY": "in-place", **environment}
        process = self.pod.start(RESTORE, **options)
        log = wait_for(process)
        assert process.returncode == expect, f"restore.sh exited {process.returncode}, not {expect}:\n{log}"
        return log

    def drop_old(self, log: str) -> None:
        """Drop what was set aside, with the statement that the restore printed, as the owner."""
        for statement in re.findall("no longer need it: (.*)", log):
            self.sql(statement)


@pytest.fixture
def shell(request: pytest.FixtureRequest, shell_paths: dict[str, str]) -> str:
    """The pod's own shell, unless a test asks for another one."""
    return shell_paths[getattr(request, "param", "busybox")]


@pytest.fixture(scope="module", autouse=True)
def _extensions(server: Server) -> None:
    install_extensions(server)


Make = Callable[..., Place]


@pytest.fixture
def make(pod: Pod) -> Iterator[Make]:
    """Make a database of a plain owner's and an archive of it."""
    made: list[str] = []

    def make(sql: str, superuser: str = "", **conf: str) -> Place:
        server = pod.server
        server.psql(f"ALTER ROLE postgres PASSWORD '{SUPERUSER_PASSWORD}'")
        place = Place(pod, f"p{uuid.uuid4().hex[:7]}")
        made.append(place.name)
        server.create_role(place.name, PASSWORD)
        server.create_database(place.name, owner=place.name)
        server.psql(superuser, place.name)
        place.sql(sql)
        pod.add(place.name, user=place.name, ca=server.ca is not None, **conf)
        place.back_up()
        return place

    yield make
    server = pod.server
    for name in made:
        for (subscription,) in server.sql("SELECT subname FROM pg_subscription"):
            server.psql(
                f"SET event_triggers = off; ALTER SUBSCRIPTION {subscription} DISABLE;"
                f"ALTER SUBSCRIPTION {subscription} SET (slot_name = NONE); DROP SUBSCRIPTION {subscription}",
                name,
            )
        drop_owner(server, name)


# Each is like one that the short tests have, as far as the restore is concerned.
_VARIANTS = {
    "column dropped",
    "column of another type",
    "function of another result",
    "type dropped",
    "enum value added",
    "index name taken",
    "constraint name taken",
    "newer table with a foreign key",
    "newer view",
    "newer child",
    "partition detached",
    "schema renamed",
    "public dropped",
    "row type in a function, index and check",
    "row type in a function, policy",
    "view that groups by a key got a column",
    "everything dropped",
    "kitchen sink",
    "rights on an extension of the superuser",
    "foreign server of the owner",
    "circular foreign keys",
}


def _marks(name: str) -> list[pytest.MarkDecorator]:
    return [pytest.mark.long] if name in _VARIANTS else []


@pytest.mark.parametrize(
    "migration", [pytest.param(one, id=name, marks=_marks(name)) for name, one in MIGRATIONS.items()]
)
@pytest.mark.sample(12)
def test_migration_gone_wrong_is_undone_by_the_owner(make: Make, migration: Migration) -> None:
    place = make(migration.schema, migration.superuser)
    good = place.plain()
    place.sql(migration.migration)
    was = {shortened(line) for line in place.inventory() if "." in line}
    rows = {shortened(name): content for name, content in place.rows().items()}
    log = place.restore()
    assert migration.stays in log
    assert ("warning" in log) == bool(migration.stays), log
    assert rows == place.rows(aside=True), "a row of what was there is lost"
    assert was - place.inventory(aside=True) == set(), "an object is lost"
    place.drop_old(log)
    assert differences(good, place.plain()) == []


def test_what_cannot_be_set_aside_is_listed_at_once_and_nothing_changes(make: Make) -> None:
    place = make(
        "CREATE TABLE t (i int); CREATE TYPE span AS RANGE (subtype = float8)",
        "CREATE EXTENSION citext; CREATE TABLE theirs (i int); CREATE SCHEMA other; CREATE TABLE other.t (i int);"
        "CREATE FUNCTION other.e() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END';"
        "CREATE EVENT TRIGGER et ON ddl_command_end EXECUTE FUNCTION other.e();"
        "CREATE PUBLICATION pub FOR TABLE theirs",
    )
    before = place.plain()
    for dry_run in ("yes", "no"):
        log = place.restore(1, RESTORE_DRY_RUN=dry_run)
        listed = set(re.findall("in the way: (.*)", log))
        assert listed >= {
            "table public.theirs belongs to role postgres",
            "table other.t belongs to role postgres",
            "function other.e() belongs to role postgres",
            "event trigger et of role postgres calls function other.e()",
            "publication pub belongs to role postgres",
            "range type public.span: only a superuser can move its functions",
        }
        assert f"(and {len(listed) - 1} more)" in log
        assert "OWNER TO" in log
        assert place.plain() == before
    place.server.psql("DROP EVENT TRIGGER et", place.name)
    place.restore(superuser=True)


def test_restored_twice_what_was_set_aside_first_is_set_aside_again(make: Make) -> None:
    place = make(KITCHEN_SINK)
    good = place.plain()
    place.sql("INSERT INTO log VALUES ('of the first')")
    place.restore()
    place.sql("INSERT INTO log VALUES ('of the second')")
    log = place.restore()
    assert (
        place.server.value("SELECT count(*) FROM pg_namespace WHERE nspname ~ '_before_.*_before_'", place.name) == "4"
    )
    place.drop_old(log)
    assert differences(good, place.plain()) == []


def test_archive_that_holds_what_was_set_aside_is_restored_with_it(make: Make) -> None:
    place = make("CREATE TABLE t (i int); INSERT INTO t VALUES (1)")
    place.sql("DELETE FROM t")
    place.restore()
    good = place.plain()
    assert any("public_before_" in line for line in good)
    place.back_up()
    place.sql("DROP TABLE t")
    log = place.restore()
    place.drop_old(log)
    # An owner's restore gives all to the owner, and `public` belonged to whoever owns the database.
    good = [line.replace("pg_database_owner", place.name) for line in good]
    assert differences(good, place.plain()) == []


@pytest.mark.parametrize("superuser", [False, True], ids=["owner", "superuser"])
def test_without_keep_the_old_is_dropped_in_the_same_transaction(make: Make, superuser: bool) -> None:
    place = make(KITCHEN_SINK + "CREATE EXTENSION citext; CREATE TABLE c (v citext)")
    good = place.plain()
    place.sql("DELETE FROM log; CREATE TABLE newer (m mood); CREATE PUBLICATION newer FOR TABLE newer")
    log = place.restore(superuser=superuser, RESTORE_KEEP="no")
    assert "_before_" not in log
    assert differences(good, place.plain()) == []


def test_without_keep_rows_are_compared_before_the_old_is_dropped_and_all_is_one_transaction(make: Make) -> None:
    place = make("CREATE TABLE t (i int); INSERT INTO t VALUES (1), (2)")
    good = place.plain()
    place.sql("CREATE TABLE newer (i int); CREATE PUBLICATION newer FOR TABLE newer; INSERT INTO t VALUES (3)")
    place.server.psql(f"ALTER ROLE {place.name} SET log_statement = 'all'")
    try:
        place.restore(RESTORE_KEEP="no", rows=2)
    finally:
        place.server.psql(f"ALTER ROLE {place.name} RESET log_statement")
    done = [line for line in place.server.log.split("\n") if "statement: " in line]
    (drop,) = (line for line in done if "statement: DROP SCHEMA public_before_" in line)
    (process,) = re.findall(r"\[\d+\]", drop)
    words = re.compile("statement: (BEGIN|COMMIT|DO|DROP|ROLLBACK)")
    # Sessions of one process number: only the last of them is the restore's.
    own = [found[1] for line in done if process in line and (found := words.search(line))]
    assert own[own.index("BEGIN") :] == ["BEGIN", "DO", "DROP", "DROP", "COMMIT"]
    assert differences(good, place.plain()) == []


def test_without_keep_a_count_that_differs_keeps_all_that_was_there(make: Make) -> None:
    place = make(KITCHEN_SINK)
    place.sql("CREATE TABLE newer (m mood); INSERT INTO newer VALUES ('ok'); DELETE FROM log")
    before, rows = place.plain(), place.rows()
    for keep in ("no", "yes"):
        log = place.restore(1, RESTORE_KEEP=keep, rows=9999)
        assert re.search("FAILED: .*it has \\d+ rows, the archive held 9999", log)
        assert "nothing was changed" in log
        assert (place.plain(), place.rows()) == (before, rows)


_ONLY_A_SUPERUSER = """CREATE TABLE s (i int);
  CREATE FUNCTION e() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END'; CREATE EVENT TRIGGER et ON
          ddl_command_end EXECUTE FUNCTION e();
  CREATE PUBLICATION everything FOR ALL TABLES; CREATE PUBLICATION of_schema FOR TABLES IN SCHEMA public;
  CREATE OPERATOR FAMILY fam USING btree; CREATE FUNCTION in_c(int4, int4) RETURNS int4 LANGUAGE internal AS 'int4pl';
  CREATE OPERATOR CLASS oc FOR TYPE int4 USING btree FAMILY fam AS OPERATOR 1 <, FUNCTION 1 btint4cmp(int4, int4);
  CREATE FUNCTION tight() RETURNS int LANGUAGE sql LEAKPROOF AS 'SELECT 1';
  CREATE FUNCTION quiet() RETURNS int LANGUAGE sql SET log_statement = 'none' AS 'SELECT 1';
  CREATE FUNCTION hex(bytea) RETURNS text LANGUAGE sql IMMUTABLE AS $$ SELECT encode($1, 'hex') $$;
  CREATE CAST (bytea AS text) WITH FUNCTION hex(bytea); CREATE TYPE e AS ENUM ('a'); CREATE TYPE f AS (i int);
  CREATE SUBSCRIPTION sub CONNECTION 'host=127.0.0.1 port=1' PUBLICATION p WITH (connect = false);
  GRANT SELECT ON s TO pg_monitor WITH GRANT OPTION; SET ROLE pg_monitor; GRANT SELECT ON s TO pg_read_all_settings;
          RESET ROLE;
  ALTER DEFAULT PRIVILEGES FOR ROLE postgres GRANT SELECT ON TABLES TO pg_monitor;
  CREATE FUNCTION harmless() RETURNS text LANGUAGE sql AS $$ SELECT '
    LANGUAGE c
    SET log_statement TO x
ALTER EVENT TRIGGER' $$;"""
_FORBIDDEN = {
    "event trigger et: only a superuser can create it",
    "publication everything of all tables: only a superuser can create it",
    "publication of schema public: only a superuser can create it",
    "operator family public fam: only a superuser can create it",
    "operator class public oc: only a superuser can create it",
    "function in_c(integer, integer): only a superuser can create one in C",
    "function tight(): only a superuser can create one that is LEAKPROOF",
    "a function that sets log_statement: only a superuser may set that",
    "cast (bytea AS text): only a superuser can create it",
    "subscription sub: only a superuser, or a member of pg_create_subscription, can create it",
    "rights that role pg_monitor has granted: only a superuser can grant them in its name",
}


@pytest.mark.parametrize("way", ["beside", "in-place"])
def test_what_only_a_superuser_can_restore_is_listed_at_once_before_anything_changes(make: Make, way: str) -> None:
    place = make("CREATE TABLE t (i int)", _ONLY_A_SUPERUSER)
    server = place.server
    server.psql(f"ALTER ROLE {place.name} CREATEDB")
    server.psql(
        "ALTER SUBSCRIPTION sub DISABLE; ALTER SUBSCRIPTION sub SET (slot_name = NONE); DROP SUBSCRIPTION sub",
        place.name,
    )
    server.drop_database(place.name)
    server.create_database(place.name, place.name)
    for dry_run in ("yes", "no"):
        log = place.restore(1, RESTORE_WAY=way, RESTORE_DRY_RUN=dry_run)
        own = f"default privileges of role postgres, of which {place.name} is not a member"
        # In place, what is there stays: see left_alone in in-place.sh.
        assert set(re.findall("in the way: (.*)", log)) == _FORBIDDEN | ({own} if way == "beside" else set())
        assert "spec.enableSuperuserAccess" in log
        assert "nothing was changed" in log
    log = place.restore(superuser=True, RESTORE_WAY=way)


def test_into_an_empty_database_of_a_new_cluster_nothing_is_set_aside(make: Make) -> None:
    place = make(KITCHEN_SINK, "CREATE EXTENSION citext; CREATE EXTENSION hstore")
    good = place.plain()
    place.server.drop_database(place.name)
    place.server.create_database(place.name, place.name)
    log = place.restore(RESTORE_REPLACE="no")
    assert "is kept" not in log
    # Extensions belong to who makes them here, and are no part of a dump's owners.
    assert differences(good, place.plain()) == []


def test_extension_that_is_newer_than_the_archive_stays(make: Make) -> None:
    place = make("CREATE TABLE t (v text); INSERT INTO t VALUES ('A')")
    place.sql("CREATE SCHEMA x; CREATE EXTENSION citext SCHEMA x; ALTER TABLE t ALTER v TYPE x.citext")
    log = place.restore()
    place.drop_old(log)
    assert place.server.value("SELECT v::text || pg_typeof(v) FROM t", place.name) == "Atext"
    assert place.server.value("SELECT 'x.citext'::regtype", place.name) == "x.citext"


def test_rows_of_an_extension_are_replaced_by_the_superuser_and_left_by_the_owner(make: Make) -> None:
    place = make("CREATE TABLE t (i int)", "CREATE EXTENSION settings; INSERT INTO settings.job (v) VALUES ('mine')")
    good = place.plain()
    place.server.psql("INSERT INTO settings.job (v) VALUES ('newer')", place.name)
    log = place.restore()
    assert "stays as it is" in log
    assert "rows of settings job" in log
    place.drop_old(log)
    jobs = "SELECT string_agg(v, ',' ORDER BY id) FROM settings.job"
    assert place.server.value(jobs, place.name) == "built in,mine,newer"
    log = place.restore(superuser=True)
    assert "warning" not in log
    assert place.server.value(jobs, place.name) == "built in,mine"
    place.drop_old(log)
    assert differences(good, place.plain()) == []
    place.server.psql("DROP EXTENSION settings", place.name)
    log = place.restore(superuser=True)
    assert place.server.value(jobs, place.name) == "built in,mine"


def test_superuser_restores_in_place_what_only_a_superuser_can_make(make: Make) -> None:
    only_superuser = """
    CREATE EXTENSION citext; CREATE CAST (bytea AS citext) WITH INOUT; CREATE PUBLICATION everything FOR ALL TABLES;
    CREATE FUNCTION e() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN
      IF EXISTS (SELECT FROM pg_tables WHERE schemaname = 'public' AND tablename = 'newer') THEN
        RAISE 'e';
      END IF; END $$;
    CREATE EVENT TRIGGER et ON ddl_command_start EXECUTE FUNCTION e(); COMMENT ON EVENT TRIGGER et IS 'x';
    CREATE FUNCTION cf() RETURNS int LANGUAGE c AS '$libdir/citext', 'citext_eq';
    CREATE OPERATOR FAMILY fam USING btree; CREATE TYPE span AS RANGE (subtype = float8);
    CREATE OPERATOR CLASS oc FOR TYPE int4 USING btree FAMILY fam AS OPERATOR 1 <, FUNCTION 1 btint4cmp(int4, int4);
    CREATE TABLE of_superuser (s span); CREATE SCHEMA theirs AUTHORIZATION pg_monitor;
    CREATE SUBSCRIPTION sub CONNECTION 'host=127.0.0.1 port=1' PUBLICATION p WITH (connect = false);
    """
    place = make(KITCHEN_SINK, only_superuser)
    good = place.plain()
    place.server.psql("CREATE TABLE newer (i int); ", place.name)
    log = place.restore(superuser=True)
    assert "warning" not in log
    (statement,) = re.findall("no longer need it: (.*)", log)
    place.server.psql(statement, place.name)
    assert differences(good, place.plain()) == []


def test_default_rights_give_nobody_more_than_the_archive(make: Make) -> None:
    place = make("CREATE TABLE secrets (v text)")
    place.sql("ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO PUBLIC")
    for superuser in (False, True):
        place.restore(superuser=superuser)
        assert place.server.value("SELECT has_table_privilege('backup', 'secrets', 'SELECT')", place.name) == "t"
        assert (
            place.server.value("SELECT relacl IS NULL FROM pg_class WHERE oid = 'secrets'::regclass", place.name) == "t"
        )


@pytest.mark.long
@pytest.mark.parametrize(
    "sql",
    [
        "SELECT format('CREATE TABLE t%s (id serial PRIMARY KEY)', i) FROM generate_series(1, 2500) i\n\\gexec\n",
        "SELECT count(lo_create(0)) FROM generate_series(1, 20000)",
    ],
    ids=["tables", "large objects"],
)
def test_more_locks_than_the_server_has_room_for_are_refused_beforehand(make: Make, sql: str) -> None:
    place = make(sql)
    log = place.restore(1)
    assert re.search(r"needs about \d+ locks, the server has room for about \d+", log)
    assert "max_locks_per_transaction" in log
    assert "nothing was changed" in log


@pytest.mark.parametrize(
    "superuser", [pytest.param(False, id="owner"), pytest.param(True, id="superuser", marks=pytest.mark.long)]
)
def test_kitchen_sink_comes_back_on_the_newest_major(
    pod: Pod, newer_server: Server, make: Make, superuser: bool
) -> None:
    pod.server = newer_server
    place = make(KITCHEN_SINK + "CREATE EXTENSION citext; CREATE TABLE c (v citext)", sslmode="disable")
    good = place.plain()
    place.sql(WRECK)
    was = {line for line in place.inventory() if "." in line}
    log = place.restore(superuser=superuser)
    assert was - place.inventory(aside=True) == set()
    place.drop_old(log)
    assert differences(good, place.plain()) == []


@pytest.mark.parametrize(
    ("superuser", "way"),
    [(False, "in-place"), (True, "in-place"), (True, "beside")],
    ids=["owner", "superuser", "beside"],
)
def test_kitchen_sink_comes_back_on_the_major_of_the_default_image(
    pod: Pod, default_server: Server, make: Make, superuser: bool, way: str
) -> None:
    pod.server = default_server
    place = make(KITCHEN_SINK, sslmode="disable")
    good = place.plain()
    place.sql(WRECK)
    was = {line for line in place.inventory() if "." in line}
    log = place.restore(superuser=superuser, RESTORE_WAY=way)
    if way == "in-place":
        assert was - place.inventory(aside=True) == set()
        place.drop_old(log)
    assert differences(good, place.plain()) == []
