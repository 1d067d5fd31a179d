"""Who owns what is restored: RESTORE_OWNER as superuser, and what only a superuser can own."""
# ruff: noqa: F811

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import pytest

from tests.lab.postgres import Server, identifier, literal
from tests.matrix.site import differences
from tests.scripts.test_in_place import Make, Place, make, shell  # noqa: F401 # fixtures

_SPECIAL = {
    "event trigger": "CREATE FUNCTION e() RETURNS event_trigger LANGUAGE plpgsql AS 'begin end'; "
    "CREATE EVENT TRIGGER x ON ddl_command_end EXECUTE FUNCTION e(); COMMENT ON EVENT TRIGGER x IS 'c'",
    "publication": "CREATE PUBLICATION x FOR ALL TABLES; COMMENT ON PUBLICATION x IS 'c'",
    "foreign data wrapper": "CREATE FOREIGN DATA WRAPPER x; COMMENT ON FOREIGN DATA WRAPPER x IS 'c'; "
    "CREATE SERVER s FOREIGN DATA WRAPPER x; CREATE FOREIGN TABLE ft (i int) SERVER s",
}
# What only a superuser can create.
_SUPERUSERS = {
    **_SPECIAL,
    "extension": "CREATE EXTENSION postgres_fdw; CREATE SERVER s FOREIGN DATA WRAPPER postgres_fdw",
    "function": "CREATE FUNCTION f(int) RETURNS int LANGUAGE internal IMMUTABLE AS 'int4abs'; "
    "CREATE INDEX ON t (f(id))",
    "cast": "CREATE CAST (text AS jsonb) WITH INOUT",
    "operator class": "CREATE OPERATOR CLASS oc FOR TYPE int USING btree AS "
    "OPERATOR 1 <, FUNCTION 1 btint4cmp(int, int)",
    "language": "CREATE FUNCTION h() RETURNS language_handler LANGUAGE c AS '$libdir/plpgsql', 'plpgsql_call_handler'; "
    "CREATE LANGUAGE x HANDLER h",
    "text search": "CREATE TEXT SEARCH TEMPLATE x (LEXIZE = dsimple_lexize)",
    "publication of a schema": "CREATE SCHEMA s; CREATE PUBLICATION x FOR TABLES IN SCHEMA s",
}
# What a plain owner can have, of every kind that has an owner.
_PLAIN = """
CREATE SCHEMA "s s"; CREATE TYPE en AS ENUM ('a'); CREATE TYPE co AS (a int); CREATE DOMAIN d AS int CHECK (value > 0);
CREATE COLLATION col (LOCALE = 'C'); CREATE TEXT SEARCH CONFIGURATION tc (COPY = simple);
CREATE TEXT SEARCH DICTIONARY td (TEMPLATE = simple);
CREATE CONVERSION cv FOR 'LATIN1' TO 'UTF8' FROM iso8859_1_to_utf8;
CREATE FUNCTION "odd ""f"(a int DEFAULT 1, VARIADIC b text[] DEFAULT '{}') RETURNS int LANGUAGE sql AS 'SELECT 1';
CREATE PROCEDURE pr() LANGUAGE sql AS 'SELECT 1';
CREATE AGGREGATE ag(*) (SFUNC = int8inc, STYPE = int8, INITCOND = '0');
CREATE FUNCTION eq(co, co) RETURNS bool LANGUAGE sql AS 'SELECT true';
CREATE OPERATOR === (LEFTARG = co, RIGHTARG = co, FUNCTION = eq);
CREATE TABLE t (id serial PRIMARY KEY, e en, c co, n d, g int GENERATED ALWAYS AS IDENTITY); CREATE SEQUENCE sq;
CREATE STATISTICS st ON id, n FROM t; CREATE TABLE pt (i int) PARTITION BY RANGE (i);
CREATE TABLE pt1 PARTITION OF pt FOR VALUES FROM (0) TO (9); SELECT lo_from_bytea(4711, 'x');
CREATE VIEW v AS SELECT id, n FROM t GROUP BY id; CREATE PUBLICATION p FOR TABLE t;
CREATE FUNCTION as_whom(int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN
  IF (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) THEN RAISE 'called by a superuser'; END IF;
  RETURN $1; END $$;
CREATE TABLE checked (i int CHECK (as_whom(i) = i)); INSERT INTO checked VALUES (1);
INSERT INTO t (e) VALUES ('a'); CREATE INDEX ON t (as_whom(id));
CREATE MATERIALIZED VIEW mv AS SELECT as_whom(id) FROM t
"""
_OWNED = """
SELECT DISTINCT o.type || ' ' || o.identity FROM pg_shdepend d, pg_identify_object(d.classid, d.objid, 0) o
WHERE d.deptype = 'o' AND d.dbid = (SELECT oid FROM pg_database WHERE datname = current_database())
  AND d.refobjid = (SELECT oid FROM pg_roles WHERE rolname = {}) AND o.identity !~ '_before_'
"""


def owned(server: Server, dbname: str, role: str) -> set[str]:
    return {line for line in server.psql(_OWNED.format(literal(role)), dbname).splitlines() if line}


def ownerless(lines: list[str]) -> list[str]:
    """A dump without what names an owner."""
    return [re.sub("Owner: .*", "", line) for line in lines if " OWNER TO " not in line]


MakeRole = Callable[..., str]


@pytest.fixture
def make_role(make: Make) -> Iterator[MakeRole]:  # noqa: ARG001 # whose databases are dropped after this
    """Create a role that is named after a database; it is dropped with it."""
    made: list[tuple[Server, str, str]] = []

    def make_role(place: Place, options: str = "") -> str:
        role = f"{place.name} r"
        made.append((place.server, place.name, role))
        place.server.psql(f"CREATE ROLE {identifier(role)} {options}")
        return role

    yield make_role
    for server, name, role in made:
        for (dbname,) in server.sql(f"SELECT datname FROM pg_database WHERE datname LIKE '{name}%'"):
            server.drop_database(dbname)
        server.psql(f"DROP ROLE IF EXISTS {identifier(role)}")


@pytest.mark.parametrize("way", ["beside", "in-place"])
def test_one_owner_gets_everything_that_it_can_own(make: Make, way: str, make_role: MakeRole) -> None:
    place: Place = make(_PLAIN)
    good, had = place.plain(), owned(place.server, place.name, place.name)
    role = make_role(place)
    log = place.restore(superuser=True, RESTORE_WAY=way, RESTORE_OWNER=role, RESTORE_KEEP="no")
    assert owned(place.server, place.name, role) == had
    assert ownerless(place.plain()) == ownerless(good)
    assert "warning" not in log


@pytest.mark.parametrize("kind", _SUPERUSERS)
@pytest.mark.parametrize("way", ["beside", pytest.param("in-place", marks=pytest.mark.long)])
@pytest.mark.sample(4)
def test_one_owner_takes_no_right_from_the_superuser(
    make: Make,
    kind: str,
    way: str,
    make_role: MakeRole,
) -> None:
    place: Place = make("CREATE TABLE t (id int); INSERT INTO t VALUES (1)")
    place.server.psql(_SUPERUSERS[kind], place.name)
    place.back_up()
    good = ownerless(place.plain())
    role = make_role(place)
    # In place, what the superuser has not restored stays as it was.
    place.server.drop_database(place.name)
    if way == "in-place":
        place.server.create_database(place.name, owner=place.name)
    log = place.restore(superuser=True, RESTORE_WAY=way, RESTORE_OWNER=role)
    assert ownerless(place.plain()) == good
    assert place.server.value("SELECT relowner::regrole FROM pg_class WHERE relname = 't'", place.name) == f'"{role}"'
    assert ("only a superuser can own these" in log) == (kind in _SPECIAL)
    assert kind not in _SPECIAL or f"will belong to 'postgres': {kind} x" in log


@pytest.mark.parametrize("kind", _SPECIAL)
@pytest.mark.parametrize(
    ("way", "role_is"),
    [("beside", "missing"), ("in-place", "plain"), pytest.param("beside", "plain", marks=pytest.mark.long)],
)
@pytest.mark.sample(2)
def test_object_of_a_former_superuser_stays_with_the_superuser_and_makes_no_role(
    make: Make,
    kind: str,
    way: str,
    role_is: str,
    make_role: MakeRole,
) -> None:
    place: Place = make("CREATE TABLE t (id int)")
    server, role = place.server, make_role(place, "SUPERUSER")
    server.psql(f"SET ROLE {identifier(role)}; {_SPECIAL[kind]}", place.name)
    for (function,) in server.sql("SELECT oid::regprocedure FROM pg_proc WHERE proname = 'e'", place.name):
        server.psql(f"ALTER FUNCTION {function} OWNER TO {place.name}", place.name)
    for (table,) in server.sql("SELECT relname FROM pg_class WHERE relname = 'ft'", place.name):
        server.psql(
            f"ALTER FOREIGN TABLE {table} OWNER TO {place.name}; ALTER SERVER s OWNER TO {place.name}", place.name
        )
    place.back_up()
    good = ownerless(place.plain())
    server.drop_database(place.name)
    server.psql(
        f"DROP ROLE {identifier(role)}" if role_is == "missing" else f"ALTER ROLE {identifier(role)} NOSUPERUSER"
    )
    if way == "in-place":
        server.create_database(place.name, owner=place.name)
    log = place.restore(superuser=True, RESTORE_WAY=way)
    assert ownerless(place.plain()) == good
    assert f"only a superuser can own these, so they will belong to 'postgres': {kind} x" in log
    catalog = {
        "event trigger": "evtowner::regrole FROM pg_event_trigger",
        "publication": "pubowner::regrole FROM pg_publication",
    }
    query = catalog.get(kind, "fdwowner::regrole FROM pg_foreign_data_wrapper WHERE fdwname = 'x'")
    assert server.sql(f"SELECT {query}", place.name) == [["postgres"]]
    there = server.sql(f"SELECT 1 FROM pg_roles WHERE rolname = {literal(role)}")
    assert bool(there) == (role_is == "plain"), "a missing role was created in vain"


def test_object_of_a_superuser_of_the_server_keeps_its_owner(make: Make, make_role: MakeRole) -> None:
    place: Place = make("CREATE TABLE t (id int)")
    role = make_role(place, "SUPERUSER")
    for sql in (_SPECIAL["event trigger"], "CREATE PUBLICATION y FOR ALL TABLES"):
        place.server.psql(f"SET ROLE {identifier(role)}; {sql}", place.name)
    place.back_up()
    good = place.plain()
    for way in ("beside", "in-place"):
        log = place.restore(superuser=True, RESTORE_WAY=way, RESTORE_KEEP="no")
        assert "warning" not in log
        assert differences(good, place.plain()) == []
