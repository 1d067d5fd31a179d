"""Roles that an archive names and the server lacks: in owners, grants, policies and user mappings, of whatever kind."""

from __future__ import annotations

import pytest

from tests.matrix.site import differences
from tests.scripts.test_in_place import Make, Place, make, shell  # noqa: F401 # fixtures

_KINDS = {
    "function": "CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'; ALTER FUNCTION f() OWNER TO {role}",
    "procedure": "CREATE PROCEDURE f() LANGUAGE sql AS 'SELECT 1'; ALTER PROCEDURE f() OWNER TO {role}",
    "view": "CREATE VIEW w AS SELECT 1 AS a; ALTER VIEW w OWNER TO {role}",
    "materialized view": "CREATE MATERIALIZED VIEW w AS SELECT 1 AS a; ALTER MATERIALIZED VIEW w OWNER TO {role}",
    "aggregate": "CREATE AGGREGATE a(int) (SFUNC = int4pl, STYPE = int); ALTER AGGREGATE a(int) OWNER TO {role}",
    "large object": "SELECT lo_create(4711); ALTER LARGE OBJECT 4711 OWNER TO {role}",
    "publication": "CREATE PUBLICATION p; ALTER PUBLICATION p OWNER TO {role}",
    "text search": "CREATE TEXT SEARCH CONFIGURATION c (COPY = simple); "
    "ALTER TEXT SEARCH CONFIGURATION c OWNER TO {role}",
    "collation": "CREATE COLLATION c (LOCALE = 'C'); ALTER COLLATION c OWNER TO {role}",
    "statistics": "CREATE STATISTICS s ON id, v FROM t; ALTER STATISTICS s OWNER TO {role}",
    "policy": "CREATE POLICY \"a ON b\" ON t AS RESTRICTIVE FOR SELECT TO pg_monitor, {role} USING (v <> ' TO x')",
    "user mapping": "CREATE EXTENSION postgres_fdw; CREATE SERVER s FOREIGN DATA WRAPPER postgres_fdw; "
    "CREATE USER MAPPING FOR {role} SERVER s",
}


@pytest.mark.parametrize("name", [pytest.param("r_one", marks=pytest.mark.long), 'a "b" TO c'])
@pytest.mark.parametrize("kind", _KINDS)
@pytest.mark.sample(4)
def test_missing_role_is_made_whatever_it_is_named_for(make: Make, kind: str, name: str) -> None:  # noqa: F811
    role = '"' + name.replace('"', '""') + '"'
    place: Place = make(
        "CREATE TABLE t (id int, v text)",
        f"CREATE ROLE {role}; CREATE TABLE t0 (id int); CREATE FUNCTION evil() RETURNS text LANGUAGE sql AS\n"
        "$$ SELECT '\nALTER TABLE x OWNER TO not_a_role;\nCREATE POLICY x ON y TO nor_this;\n' $$",
    )
    server = place.server
    try:
        server.psql(_KINDS[kind].format(role=role), place.name)
        place.back_up()
        good = place.plain()
        server.drop_database(place.name)
        server.psql(f"DROP ROLE {role}")
        log = place.restore(superuser=True, RESTORE_WAY="auto")
        assert f"role '{name}' was missing and has been created" in log
        assert differences(good, place.plain()) == []
        assert server.sql("SELECT 1 FROM pg_roles WHERE rolname IN ('not_a_role', 'nor_this')") == []
    finally:
        server.psql(f"DROP OWNED BY {role}", place.name)
        server.psql(f"DROP ROLE IF EXISTS {role}")
