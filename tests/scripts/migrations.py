"""Databases and what a migration gone wrong has made of them, for restores in place."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tests.lab.postgres import Server


@dataclass(frozen=True)
class Migration:
    """A database as it was backed up, and what happened to it since.

    Attributes:
        schema: SQL of the owner, before the backup.
        migration: SQL of the owner, after it.
        superuser: SQL of the superuser, before the owner's.
        stays: what the restore must name in a warning, since the owner may not change it.
    """

    schema: str
    migration: str
    superuser: str = ""
    stays: str = ""


def install_extensions(server: Server) -> None:
    """One whose name must be quoted, as "uuid-ossp", and one with rows of its own and of the user, as PostGIS."""
    folder = Path(server.installation.run("pg_config", "--sharedir").stdout.strip()) / "extension"
    (folder / "odd-name.control").write_text("default_version = '1'\ncomment = 'odd'\n")
    (folder / "odd-name--1.sql").write_text("CREATE FUNCTION odd() RETURNS int LANGUAGE sql AS 'SELECT 1';\n")
    (folder / "settings.control").write_text("default_version = '1'\nschema = settings\n")
    (folder / "settings--1.sql").write_text(
        "CREATE TABLE settings.job (id serial PRIMARY KEY, v text); GRANT SELECT ON settings.job TO PUBLIC;"
        "INSERT INTO settings.job (v) VALUES ('built in');"
        "SELECT pg_catalog.pg_extension_config_dump('settings.job', 'WHERE id > 1');"
        "SELECT pg_catalog.pg_extension_config_dump('settings.job_id_seq', '');"
    )
    # Its dumps hold rows that it brings itself.
    (folder / "presets.control").write_text("default_version = '1'\nschema = presets\n")
    (folder / "presets--1.sql").write_text(
        "CREATE TABLE presets.preset (name text PRIMARY KEY, rank int UNIQUE, v text);"
        "GRANT ALL ON presets.preset TO PUBLIC;"
        "INSERT INTO presets.preset VALUES ('one', 1, 'built in'), ('two', 2, 'built in');"
        "SELECT pg_catalog.pg_extension_config_dump('presets.preset', '');"
    )


_T = "CREATE TABLE t (id serial PRIMARY KEY, v text); INSERT INTO t (v) VALUES ('a'), ('b'); "
_PARTS = """CREATE TABLE ev (id int, at date, PRIMARY KEY (id, at)) PARTITION BY RANGE (at);
  CREATE TABLE ev_1 PARTITION OF ev FOR VALUES FROM ('2026-01-01') TO ('2026-02-01');
  INSERT INTO ev VALUES (1, '2026-01-05'); """
_GROUPED = """CREATE TYPE e AS ENUM ('a'); CREATE TABLE t (id int PRIMARY KEY, v text, k e);
  INSERT INTO t VALUES (1, 'x', 'a'); CREATE TABLE u (id int REFERENCES t);
  CREATE VIEW w AS SELECT t.id, t.v, t.k, count(u.id) AS n FROM t LEFT JOIN u USING (id) GROUP BY t.id; """
_USERS = """CREATE TABLE users (id int PRIMARY KEY, first text, last text, at timestamptz);
  INSERT INTO users VALUES (1, 'a', 'b', '2026-01-01');
  CREATE FUNCTION full_name(u users) RETURNS text LANGUAGE sql IMMUTABLE AS $$ SELECT u.first || ' ' || u.last $$;
  CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.at := now(); RETURN NEW; END $$; """
KITCHEN_SINK = r"""
CREATE TYPE mood AS ENUM ('sad', 'ok'); CREATE DOMAIN pos AS int CHECK (VALUE > 0);
CREATE TYPE pair AS (a int, b mood); CREATE SCHEMA audit; CREATE SCHEMA "My Schema"; CREATE SCHEMA "Ünï ""q"" x";
CREATE TABLE u (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, m mood, p pos, c pair, d text DEFAULT 'x',
  g text GENERATED ALWAYS AS (d || '!') STORED);
CREATE TABLE "My Schema"."T x" (a serial, b mood); CREATE TABLE "Ünï ""q"" x".t (a int);
CREATE TABLE ev (id serial, t date, u int REFERENCES u, PRIMARY KEY (id, t)) PARTITION BY RANGE (t);
CREATE TABLE ev1 PARTITION OF ev FOR VALUES FROM ('2026-01-01') TO ('2026-02-01');
CREATE INDEX ON ev (t); CREATE VIEW v AS SELECT * FROM u; CREATE MATERIALIZED VIEW mv AS SELECT count(*) FROM u;
CREATE FUNCTION f(u) RETURNS text LANGUAGE sql AS 'SELECT $1.d';
CREATE FUNCTION trg() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
CREATE TRIGGER tr BEFORE INSERT ON u FOR EACH ROW EXECUTE FUNCTION trg();
ALTER TABLE u ENABLE ALWAYS TRIGGER tr;
CREATE PROCEDURE pr(int, OUT x int) LANGUAGE plpgsql AS 'BEGIN x := $1; END';
CREATE PROCEDURE pr2(VARIADIC text[]) LANGUAGE plpgsql AS 'BEGIN END';
CREATE FUNCTION outs(a int, OUT b int, OUT c text) LANGUAGE sql AS $$ SELECT 1, 'x' $$;
CREATE FUNCTION rows(a int DEFAULT 3) RETURNS TABLE (x int, m mood) LANGUAGE sql AS $$ SELECT 1, 'ok'::public.mood $$;
CREATE FUNCTION atomic(a int) RETURNS bigint BEGIN ATOMIC SELECT count(*) FROM u WHERE id > a; END;
CREATE FUNCTION "F x"("A b" int, "select" mood[]) RETURNS int LANGUAGE sql AS 'SELECT 1';
CREATE FUNCTION add2(int, int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT $1 + $2';
CREATE AGGREGATE mysum(int) (SFUNC = add2, STYPE = int, INITCOND = '0');
CREATE AGGREGATE cnt(*) (SFUNC = int8inc, STYPE = int8, INITCOND = '0');
CREATE AGGREGATE ordered(ORDER BY int) (SFUNC = add2, STYPE = int);
CREATE AGGREGATE hypothetical(int ORDER BY int) (SFUNC = add2, STYPE = int);
CREATE FUNCTION variadic_state(int, VARIADIC int[]) RETURNS int LANGUAGE sql AS 'SELECT 1';
CREATE AGGREGATE many(VARIADIC int[]) (SFUNC = variadic_state, STYPE = int);
CREATE FUNCTION mf(int, mood) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT $1';
CREATE OPERATOR <+> (LEFTARG = int, RIGHTARG = mood, FUNCTION = mf);
CREATE FUNCTION mg(mood) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT 1';
CREATE OPERATOR @@@ (RIGHTARG = mood, FUNCTION = mg); CREATE OPERATOR audit.~~~ (RIGHTARG = mood, FUNCTION = mg);
CREATE STATISTICS st ON id, m FROM u; CREATE COLLATION coll (LOCALE = 'C');
CREATE TEXT SEARCH DICTIONARY tsd (TEMPLATE = simple); CREATE TEXT SEARCH CONFIGURATION tsc (COPY = simple);
ALTER TEXT SEARCH CONFIGURATION tsc ALTER MAPPING FOR asciiword WITH tsd;
CREATE FUNCTION pm(pair) RETURNS mood LANGUAGE sql AS 'SELECT $1.b'; CREATE CAST (pair AS mood) WITH FUNCTION pm(pair);
CREATE CONVERSION conv FOR 'LATIN1' TO 'UTF8' FROM iso8859_1_to_utf8;
CREATE SEQUENCE loose INCREMENT 7 CYCLE; SELECT nextval('loose'); CREATE SEQUENCE owned OWNED BY u.p;
CREATE TABLE log (x text, m mood DEFAULT 'ok'); CREATE RULE r AS ON UPDATE TO log DO ALSO NOTHING;
CREATE TABLE inh (y int) INHERITS (log); CREATE TABLE typed OF pair; CREATE UNLOGGED TABLE ul (i int);
ALTER TABLE u ENABLE ROW LEVEL SECURITY; CREATE POLICY pol ON u USING (d <> '');
CREATE TABLE forced (v text); ALTER TABLE forced ENABLE ROW LEVEL SECURITY;
CREATE PUBLICATION pb FOR TABLE u; CREATE VIEW w AS SELECT id, m, count(*) FROM u GROUP BY id;
CREATE VIEW secured WITH (security_barrier) AS SELECT * FROM forced;
CREATE FUNCTION audit.g(public.u) RETURNS SETOF public.u LANGUAGE sql AS 'SELECT $1';
CREATE TABLE ex (r int4range, EXCLUDE USING gist (r WITH &&)); CREATE TABLE no_columns ();
ALTER TABLE log ADD CONSTRAINT later CHECK (x <> 'never') NOT VALID;
ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO pg_monitor;
ALTER DEFAULT PRIVILEGES IN SCHEMA audit GRANT EXECUTE ON FUNCTIONS TO pg_monitor;
ALTER DEFAULT PRIVILEGES REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC;
INSERT INTO u (m, p) VALUES ('ok', 1), ('sad', 2); INSERT INTO ev (t, u) VALUES ('2026-01-05', 1);
INSERT INTO log VALUES ('a'); INSERT INTO inh VALUES ('b', 'ok', 1);
INSERT INTO "My Schema"."T x" (b) VALUES ('ok'); INSERT INTO no_columns DEFAULT VALUES;
REFRESH MATERIALIZED VIEW mv; SELECT lo_from_bytea(4711, 'abc'); COMMENT ON LARGE OBJECT 4711 IS 'BEGIN;';
SELECT lo_from_bytea(4712, 'def'); GRANT SELECT ON LARGE OBJECT 4712 TO pg_monitor;
COMMENT ON TABLE u IS 'users'; GRANT SELECT ON u TO PUBLIC; COMMENT ON CONSTRAINT ev_u_fkey ON ev IS 'fk';
COMMENT ON COLUMN u.d IS 'it''s'; GRANT SELECT (x) ON log TO pg_monitor; COMMENT ON SCHEMA audit IS 'what happened';
GRANT USAGE ON SCHEMA audit TO pg_monitor; REVOKE EXECUTE ON FUNCTION add2 FROM PUBLIC;
GRANT EXECUTE ON FUNCTION mysum TO pg_monitor; GRANT USAGE ON TYPE mood TO pg_monitor;
"""
WRECK = """DROP VIEW w; ALTER TABLE u RENAME d TO dd; DROP MATERIALIZED VIEW mv; CREATE TABLE mv (i int);
  CREATE TABLE ev2 PARTITION OF ev FOR VALUES FROM ('2026-02-01') TO ('2026-03-01');
  INSERT INTO ev (t, u) VALUES ('2026-02-02', 1); DROP FUNCTION f(u);
  CREATE PROCEDURE f(u) LANGUAGE sql AS 'SELECT 1'; CREATE SCHEMA newer; CREATE TABLE newer.n (m public.mood);
  DELETE FROM log; SELECT lo_unlink(4712); SELECT lo_put(4711, 0, 'other'); ALTER TYPE mood ADD VALUE 'new';
  DROP PUBLICATION pb; CREATE PUBLICATION pb FOR TABLE log; SELECT nextval('loose') """

MIGRATIONS = {
    "nothing": Migration(_T, "SELECT 1"),
    "column renamed": Migration(_T, "ALTER TABLE t RENAME id TO key"),
    "column dropped": Migration(_T, "ALTER TABLE t DROP v"),
    "column of another type": Migration(_T, "ALTER TABLE t ALTER v TYPE int USING 1"),
    "serial to identity": Migration(
        _T,
        "ALTER TABLE t ALTER id DROP DEFAULT; DROP SEQUENCE t_id_seq;"
        "ALTER TABLE t ALTER id ADD GENERATED BY DEFAULT AS IDENTITY (SEQUENCE NAME t_id_seq)",
    ),
    "table renamed": Migration(_T, "ALTER TABLE t RENAME TO t2"),
    "table to view": Migration(_T, "ALTER TABLE t RENAME TO t_old; CREATE VIEW t AS SELECT * FROM t_old"),
    "view to materialized view": Migration(
        _T + "CREATE VIEW w AS SELECT * FROM t", "DROP VIEW w; CREATE MATERIALIZED VIEW w AS SELECT * FROM t"
    ),
    "function to procedure": Migration(
        _T + "CREATE FUNCTION f(a int) RETURNS void LANGUAGE sql AS 'SELECT 1'",
        "DROP FUNCTION f(int); CREATE PROCEDURE f(a int) LANGUAGE sql AS 'SELECT 1'",
    ),
    "function of another result": Migration(
        "CREATE FUNCTION f(a int) RETURNS int LANGUAGE sql AS 'SELECT 1'",
        "DROP FUNCTION f(int); CREATE FUNCTION f(a int, OUT b text) LANGUAGE sql AS $$ SELECT 'x' $$",
    ),
    "domain to type": Migration(
        "CREATE DOMAIN d AS int CHECK (VALUE > 0); CREATE TABLE t (v d); INSERT INTO t VALUES (1)",
        "ALTER TABLE t ALTER v TYPE int; DROP DOMAIN d; CREATE TYPE d AS ENUM ('x')",
    ),
    "type dropped": Migration(_GROUPED, "DROP VIEW w; ALTER TABLE t ALTER k TYPE text; DROP TYPE e"),
    "enum value added": Migration(
        "CREATE TYPE e AS ENUM ('a'); CREATE TABLE t (k e); INSERT INTO t VALUES ('a')",
        "ALTER TYPE e ADD VALUE 'b'; BEGIN; UPDATE t SET k = 'a'; COMMIT; INSERT INTO t VALUES ('b')",
    ),
    "type used anew": Migration(
        "CREATE TYPE e AS ENUM ('a')",
        "CREATE TABLE t (k e); CREATE FUNCTION f(e) RETURNS e LANGUAGE sql AS 'SELECT $1'",
    ),
    "index name taken": Migration(
        _T + "CREATE INDEX i ON t (v)", "DROP INDEX i; CREATE TABLE n (v text); CREATE INDEX i ON n (v)"
    ),
    "constraint name taken": Migration(
        _T, "ALTER TABLE t DROP CONSTRAINT t_pkey; CREATE TABLE n (CONSTRAINT t_pkey PRIMARY KEY (i), i int)"
    ),
    "sequence name taken": Migration(
        _T, "ALTER TABLE t ALTER id DROP DEFAULT; DROP SEQUENCE t_id_seq; CREATE TABLE t_id_seq (i int)"
    ),
    "newer table with a foreign key": Migration(_T, "CREATE TABLE n (t int REFERENCES t); INSERT INTO n VALUES (1)"),
    "newer view": Migration(_T, "CREATE VIEW n AS SELECT * FROM t; CREATE MATERIALIZED VIEW m AS SELECT * FROM n"),
    "newer child": Migration(_T, "CREATE TABLE child (w int) INHERITS (t); INSERT INTO child VALUES (7, 'c', 8)"),
    "newer partition with rows": Migration(
        _PARTS,
        "CREATE TABLE ev_2 PARTITION OF ev FOR VALUES FROM ('2026-02-01') TO ('2026-03-01');"
        "CREATE TABLE ev_rest PARTITION OF ev DEFAULT; INSERT INTO ev VALUES (2, '2026-02-05'), (3, '2027-01-01')",
    ),
    "partition detached": Migration(_PARTS, "ALTER TABLE ev DETACH PARTITION ev_1; DROP TABLE ev"),
    "partitioned since": Migration(
        "CREATE TABLE t (id int, at date); INSERT INTO t VALUES (1, '2025-05-05')",
        "ALTER TABLE t RENAME TO t_2025; CREATE TABLE t (id int, at date) PARTITION BY RANGE (at);"
        "ALTER TABLE t ATTACH PARTITION t_2025 FOR VALUES FROM ('2025-01-01') TO ('2026-01-01');"
        "CREATE TABLE t_2026 PARTITION OF t FOR VALUES FROM ('2026-01-01') TO ('2027-01-01');"
        "INSERT INTO t VALUES (2, '2026-05-05')",
    ),
    "schema dropped": Migration(
        "CREATE SCHEMA s; CREATE TABLE s.t (i int); INSERT INTO s.t VALUES (1)", "DROP SCHEMA s CASCADE"
    ),
    "schema renamed": Migration(
        "CREATE SCHEMA s; CREATE TABLE s.t (i int); INSERT INTO s.t VALUES (1)", "ALTER SCHEMA s RENAME TO other"
    ),
    "schema with a blank in its name": Migration(
        'CREATE SCHEMA "My Schema"; CREATE TABLE "My Schema".t (i int)', 'ALTER TABLE "My Schema".t RENAME TO u'
    ),
    "schema of a long name": Migration(
        f"CREATE SCHEMA {'l' * 60}x; CREATE SCHEMA {'l' * 60}y; "
        f"CREATE TABLE {'l' * 60}x.t (i int); CREATE TABLE {'l' * 60}y.t (i int)",
        f"DROP TABLE {'l' * 60}y.t",
    ),
    "table with line ends in its name": Migration(
        'CREATE TABLE "a\n-- Name: b; Type: TABLE" (id int PRIMARY KEY); CREATE TABLE zz (id int)', "DROP TABLE zz"
    ),
    "public dropped and made again": Migration(
        _T + "GRANT SELECT ON t TO pg_monitor", "DROP SCHEMA public CASCADE; CREATE SCHEMA public"
    ),
    "public dropped": Migration(_T, "DROP SCHEMA public CASCADE"),
    "public dropped, with an extension in it": Migration(
        "CREATE EXTENSION pg_trgm; " + _T, "DROP SCHEMA public CASCADE; CREATE SCHEMA public; CREATE EXTENSION pg_trgm"
    ),
    "public of its own owner, rights and comment": Migration(
        _T + "REVOKE USAGE ON SCHEMA public FROM PUBLIC; GRANT USAGE ON SCHEMA public TO pg_monitor;"
        "COMMENT ON SCHEMA public IS 'ours'",
        "GRANT ALL ON SCHEMA public TO PUBLIC; COMMENT ON SCHEMA public IS NULL",
    ),
    "rights on public, with an extension in it": Migration(
        _T + "REVOKE USAGE ON SCHEMA public FROM PUBLIC",
        "GRANT ALL ON SCHEMA public TO PUBLIC, pg_monitor; COMMENT ON SCHEMA public IS 'x'",
        "CREATE EXTENSION hstore",
    ),
    "default privileges": Migration(
        "CREATE TABLE secrets (v text); CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'; CREATE SCHEMA s;"
        "CREATE SEQUENCE s.q; CREATE TYPE e AS ENUM ('a'); ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO"
        " pg_monitor",
        "ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO pg_monitor; ALTER DEFAULT PRIVILEGES REVOKE ALL ON FUNCTIONS "
        "FROM PUBLIC; ALTER DEFAULT PRIVILEGES GRANT ALL ON SCHEMAS TO pg_monitor; ALTER DEFAULT PRIVILEGES IN SCHEMA "
        "s GRANT ALL ON SEQUENCES TO pg_monitor; ALTER DEFAULT PRIVILEGES REVOKE USAGE ON TYPES FROM PUBLIC",
    ),
    "row type in a function, trigger": Migration(
        _USERS + "CREATE TRIGGER touch BEFORE UPDATE ON users FOR EACH ROW EXECUTE FUNCTION touch()", "SELECT 1"
    ),
    "row type in a function, index and check": Migration(
        _USERS + "CREATE INDEX ON users (full_name(users)); ALTER TABLE users ADD CHECK (full_name(users) <> '')",
        "ALTER TABLE users ADD family text; ALTER TABLE users DROP at",
    ),
    "row type in a function, policy": Migration(
        _USERS + "CREATE POLICY p ON users USING (full_name(users) = ''); ALTER TABLE users ENABLE ROW LEVEL SECURITY",
        "DROP TABLE users CASCADE",
    ),
    "function that returns rows, view with INSTEAD OF": Migration(
        _T + "CREATE VIEW v AS SELECT * FROM t; CREATE FUNCTION g() RETURNS SETOF v LANGUAGE sql AS 'SELECT * FROM v';"
        "CREATE FUNCTION h() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NEW; END $$;"
        "CREATE TRIGGER i INSTEAD OF INSERT ON v FOR EACH ROW EXECUTE FUNCTION h()",
        "DROP VIEW v CASCADE",
    ),
    "view that groups by a key got a column": Migration(
        _GROUPED,
        "CREATE OR REPLACE VIEW w AS SELECT t.id, t.v, t.k, count(u.id) AS n, 1 AS more FROM t "
        "LEFT JOIN u USING (id) GROUP BY t.id",
    ),
    "view that groups by a key became materialized": Migration(
        _GROUPED, "DROP VIEW w; CREATE MATERIALIZED VIEW w AS SELECT 1 AS id"
    ),
    "everything dropped": Migration(_GROUPED, "DROP VIEW w; DROP TABLE u, t; DROP TYPE e"),
    "kitchen sink": Migration(KITCHEN_SINK, WRECK),
    "kitchen sink, with extensions in public": Migration(
        KITCHEN_SINK + "CREATE EXTENSION pg_trgm; CREATE INDEX ON log USING gin (x gin_trgm_ops);"
        "CREATE TABLE mail (a citext, h hstore); INSERT INTO mail VALUES ('x', 'a=>1')",
        WRECK + "; DROP TABLE mail",
        'CREATE EXTENSION citext; CREATE EXTENSION hstore; CREATE EXTENSION "odd-name"; CREATE EXTENSION btree_gist',
    ),
    "comment on an extension of the superuser": Migration(
        _T, "ALTER TABLE t DROP v", 'CREATE EXTENSION "odd-name"; COMMENT ON EXTENSION "odd-name" IS \'ours\''
    ),
    "extension dropped": Migration(
        "CREATE EXTENSION citext; CREATE TABLE t (v citext); INSERT INTO t VALUES ('A')",
        "DROP EXTENSION citext CASCADE",
    ),
    "rights on an extension of the superuser": Migration(
        _T,
        "ALTER TABLE t RENAME TO u",
        "CREATE EXTENSION pg_stat_statements; GRANT EXECUTE ON FUNCTION pg_stat_statements_reset TO pg_monitor;"
        "GRANT SELECT ON pg_stat_statements TO pg_monitor;"
        "GRANT EXECUTE ON FUNCTION pg_ls_dir(text) TO pg_monitor",
        "pg_stat_statements",
    ),
    "schema of the superuser": Migration(
        _T,
        "DROP TABLE t",
        "CREATE SCHEMA monitoring; GRANT USAGE ON SCHEMA monitoring TO pg_monitor; COMMENT ON SCHEMA monitoring IS 'x';"
        "CREATE EXTENSION pg_stat_statements SCHEMA monitoring",
        "rights on SCHEMA monitoring",
    ),
    "foreign server of the superuser": Migration(
        "CREATE FOREIGN TABLE ft (i int) SERVER srv; " + _T,
        "DROP FOREIGN TABLE ft; CREATE FOREIGN TABLE ft2 (i int) SERVER srv",
        "CREATE EXTENSION postgres_fdw; CREATE SERVER srv FOREIGN DATA WRAPPER postgres_fdw; CREATE USER MAPPING FOR "
        "PUBLIC SERVER srv; GRANT USAGE ON FOREIGN SERVER srv TO PUBLIC; COMMENT ON SERVER srv IS 'x'",
        "SERVER srv",
    ),
    "foreign server of the owner": Migration(
        "CREATE SERVER srv FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host 'a'); "
        "CREATE USER MAPPING FOR PUBLIC SERVER srv; CREATE FOREIGN TABLE ft (i int) SERVER srv",
        "ALTER SERVER srv OPTIONS (SET host 'b'); CREATE FOREIGN TABLE ft2 (i int) SERVER srv",
        "CREATE EXTENSION postgres_fdw; GRANT USAGE ON FOREIGN DATA WRAPPER postgres_fdw TO PUBLIC",
        "rights on FOREIGN DATA WRAPPER postgres_fdw",
    ),
    "publication of all tables": Migration(
        _T, "DROP TABLE t", "CREATE PUBLICATION everything FOR ALL TABLES", "PUBLICATION everything"
    ),
    "row security forced": Migration(
        _T + "ALTER TABLE t ENABLE ROW LEVEL SECURITY; ALTER TABLE t FORCE ROW LEVEL SECURITY;"
        "CREATE POLICY p ON t FOR INSERT WITH CHECK (true)",
        "ALTER TABLE t NO FORCE ROW LEVEL SECURITY; DELETE FROM t",
    ),
    "circular foreign keys": Migration(
        "CREATE TABLE a (id int PRIMARY KEY, b int); CREATE TABLE b (id int PRIMARY KEY, a int REFERENCES a);"
        "ALTER TABLE a ADD FOREIGN KEY (b) REFERENCES b; INSERT INTO a VALUES (1); INSERT INTO b VALUES (1, 1);"
        "UPDATE a SET b = 1",
        "DROP TABLE b CASCADE",
    ),
    "range types": Migration(
        "CREATE TYPE span AS RANGE (subtype = float8); CREATE TABLE t (s span, m span_multirange);"
        "INSERT INTO t VALUES ('[1,2)', '{[1,2)}')",
        "ALTER TABLE t DROP m",
    ),
}
"""Each of them is undone by the owner, in place."""
