"""Kinds of what no schema holds, and of settings and states of a database."""

from __future__ import annotations

from tests.matrix.kind import Kind
from tests.matrix.tables import T

_EVENT_TRIGGER = """CREATE FUNCTION et() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN
  IF EXISTS (SELECT FROM pg_catalog.pg_tables WHERE tablename = 'forbidden') THEN RAISE 'forbidden'; END IF; END $$;
  CREATE EVENT TRIGGER et ON ddl_command_end WHEN TAG IN ('CREATE TABLE', 'ALTER TABLE') EXECUTE FUNCTION et();
  COMMENT ON EVENT TRIGGER et IS 'x'; ALTER EVENT TRIGGER et ENABLE ALWAYS;"""


KINDS = [
    Kind(
        "publications",
        "With row filters, column lists and options, changed since.",
        T
        + """CREATE TABLE u (id int PRIMARY KEY, v text, secret text); CREATE PUBLICATION p FOR TABLE t WHERE (id >
          1), u (id, v)
          WITH (publish = 'insert, update', publish_via_partition_root); CREATE PUBLICATION none; COMMENT ON
          PUBLICATION p IS 'x';""",
        since="ALTER PUBLICATION p SET TABLE u; ALTER PUBLICATION p RENAME TO p2; CREATE PUBLICATION p FOR TABLE t; "
        "DROP PUBLICATION none",
    ),
    Kind(
        "publications of all tables and of schemas",
        "Which only a superuser can make.",
        T,
        then="CREATE PUBLICATION everything FOR ALL TABLES; CREATE PUBLICATION of_schema FOR TABLES IN SCHEMA public;",
        since="DROP TABLE t",
    ),
    Kind(
        "subscriptions",
        "With an unreachable publisher, dumped by the superuser: they come back disabled, as pg_dump writes them.",
        T,
        then="CREATE SUBSCRIPTION sub CONNECTION 'host=127.0.0.1 port=1' PUBLICATION p WITH (connect = false, "
        "slot_name = NONE);",
        since="DELETE FROM t",
        dumped_by="superuser",
    ),
    Kind(
        "foreign servers of the owner",
        "With user mappings, foreign tables and imported options.",
        """CREATE SERVER srv FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host 'a', dbname 'x y'); CREATE USER MAPPING
          FOR PUBLIC SERVER srv;
        CREATE USER MAPPING FOR shop SERVER srv OPTIONS (user 'u', password 'it''s'); CREATE FOREIGN TABLE ft (i int
          OPTIONS (column_name 'x'))
        SERVER srv OPTIONS (table_name 'y'); GRANT USAGE ON FOREIGN SERVER srv TO reader; COMMENT ON SERVER srv IS
          'x'; CREATE TABLE t (i int);""",
        superuser="CREATE EXTENSION postgres_fdw; GRANT USAGE ON FOREIGN DATA WRAPPER postgres_fdw TO shop;",
        since="ALTER SERVER srv OPTIONS (SET host 'b'); DROP FOREIGN TABLE ft; CREATE FOREIGN TABLE ft2 (i int) "
        "SERVER srv",
    ),
    Kind(
        "foreign servers of the superuser",
        "That the owner may use.",
        "CREATE FOREIGN TABLE ft (i int) SERVER srv;" + T,
        superuser="CREATE EXTENSION postgres_fdw; CREATE SERVER srv FOREIGN DATA WRAPPER postgres_fdw; CREATE USER "
        "MAPPING FOR PUBLIC SERVER srv;"
        "GRANT USAGE ON FOREIGN SERVER srv TO shop; COMMENT ON SERVER srv IS 'x';",
        since="DROP FOREIGN TABLE ft; CREATE FOREIGN TABLE ft2 (i int) SERVER srv",
    ),
    Kind(
        "user mappings of other roles",
        "Their passwords are for a superuser's eyes.",
        T,
        then="CREATE EXTENSION postgres_fdw; CREATE SERVER srv FOREIGN DATA WRAPPER postgres_fdw; CREATE USER MAPPING "
        "FOR reader SERVER srv "
        "OPTIONS (user 'r', password 'x'); CREATE FOREIGN TABLE of_superuser (i int) SERVER srv; ALTER FOREIGN TABLE "
        "of_superuser OWNER TO shop;",
        since="DELETE FROM t",
        dumped_by="superuser",
    ),
    Kind(
        "event triggers",
        "Of the superuser, with their function in public.",
        T,
        then=_EVENT_TRIGGER,
        since="DELETE FROM t",
    ),
    Kind(
        "event triggers, with their function in a schema of the superuser",
        "As Supabase has them.",
        T,
        then="CREATE SCHEMA guard; " + _EVENT_TRIGGER.replace("et()", "guard.et()"),
        since="DELETE FROM t",
        dumped_by="superuser",
    ),
    Kind(
        "an event trigger that forbids tables, newer than the archive",
        "It would stop the restore.",
        T,
        since_superuser="CREATE FUNCTION no() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'no tables'; "
        "END $$;"
        "CREATE EVENT TRIGGER no ON ddl_command_start WHEN TAG IN ('CREATE TABLE') EXECUTE FUNCTION no()",
    ),
    Kind(
        "extensions in public",
        "Trusted ones of the owner, with an index and columns that need them.",
        """CREATE EXTENSION pg_trgm; CREATE EXTENSION citext; CREATE EXTENSION hstore; CREATE TABLE t (v citext, h
          hstore); INSERT INTO t VALUES
        ('A', 'a=>1'); CREATE INDEX ON t USING gin ((v::text) gin_trgm_ops);""",
        since="DROP TABLE t; CREATE TABLE t (v citext[]); CREATE FUNCTION f(citext) RETURNS int LANGUAGE sql AS "
        "'SELECT 1'",
    ),
    Kind(
        "extensions of the superuser",
        "Not trusted, in a schema of their own, with a comment, and one whose name needs quotes.",
        T,
        superuser="CREATE SCHEMA ext; GRANT USAGE ON SCHEMA ext TO shop; CREATE EXTENSION pg_stat_statements SCHEMA "
        'ext; CREATE EXTENSION "odd-name";'
        "COMMENT ON EXTENSION \"odd-name\" IS 'ours'",
        since="ALTER TABLE t DROP v",
    ),
    Kind(
        "an extension dropped since",
        "Together with the columns that need it.",
        "CREATE EXTENSION citext; CREATE TABLE t (v citext); INSERT INTO t VALUES ('A');",
        since="DROP EXTENSION citext CASCADE",
    ),
    Kind(
        "an extension newer than the archive",
        "In a schema of its own, and in use.",
        "CREATE TABLE t (v text); INSERT INTO t VALUES ('A');",
        since="CREATE SCHEMA x; CREATE EXTENSION citext SCHEMA x; ALTER TABLE t ALTER v TYPE x.citext",
    ),
    Kind(
        "rows of an extension's configuration",
        "As spatial_ref_sys of PostGIS: some are the extension's, some are the user's; nothing has changed since.",
        T,
        then="CREATE EXTENSION settings; INSERT INTO settings.job (v) VALUES ('mine'); GRANT USAGE ON SCHEMA settings "
        "TO shop;"
        "GRANT ALL ON settings.job, settings.job_id_seq TO shop;",
        since="DELETE FROM t",
    ),
    Kind(
        "rows of an extension's own, changed by the user",
        "The archive holds them, and the extension brings them too: those of the archive win.",
        T,
        then="CREATE EXTENSION presets; GRANT USAGE ON SCHEMA presets TO shop;"
        "UPDATE presets.preset SET v = 'mine' WHERE name = 'one';"
        "UPDATE presets.preset SET name = 'zwei' WHERE name = 'two';"
        "INSERT INTO presets.preset VALUES ('three', 3, 'mine');",
        since="DELETE FROM t; UPDATE presets.preset SET v = 'newer'",
    ),
    Kind(
        "range types next to an extension",
        "The functions that make a range's values belong to the first superuser, and only he can move them.",
        "CREATE EXTENSION citext; CREATE TYPE span AS RANGE (subtype = float8); CREATE TABLE t (s span); INSERT INTO "
        "t VALUES ('[1,2)');",
        since="DELETE FROM t",
    ),
    Kind(
        "casts between built-in types",
        "A superuser's; neither moved nor renamed.",
        T,
        then="CREATE FUNCTION cf(bytea) RETURNS text LANGUAGE sql IMMUTABLE AS $$ SELECT encode($1, 'hex') $$; ALTER "
        "FUNCTION cf OWNER TO shop;"
        "CREATE CAST (bytea AS text) WITH FUNCTION cf(bytea);",
        since="DELETE FROM t",
    ),
    Kind(
        "settings, rights and comment of the database",
        "ALTER DATABASE SET, ALTER ROLE IN DATABASE SET, CONNECT taken from PUBLIC.",
        T,
        then="ALTER DATABASE shop SET work_mem = '9MB'; ALTER DATABASE shop SET search_path = 'public', '$user', 'a "
        "b'; "
        "ALTER ROLE shop IN DATABASE shop SET lock_timeout = '7s'; ALTER ROLE reader IN DATABASE shop SET "
        "statement_timeout = '1min';"
        "REVOKE CONNECT, TEMPORARY ON DATABASE shop FROM PUBLIC; GRANT CONNECT ON DATABASE shop TO reader; COMMENT ON "
        "DATABASE shop IS 'the shop''s';",
        since="DELETE FROM t",
    ),
    Kind(
        "settings of the database, changed since",
        "Somebody opened it to all and took its settings away.",
        T,
        then="ALTER DATABASE shop SET work_mem = '9MB'; REVOKE CONNECT ON DATABASE shop FROM PUBLIC; GRANT CONNECT ON "
        "DATABASE shop TO reader;",
        since_superuser="ALTER DATABASE shop RESET ALL; GRANT CONNECT ON DATABASE shop TO PUBLIC; ALTER DATABASE shop "
        "SET timezone = 'UTC'",
    ),
    Kind(
        "a database frozen by default_transaction_read_only",
        "As one does after an accident, so that nothing more is written.",
        T,
        since="DELETE FROM t",
        since_superuser="ALTER DATABASE shop SET default_transaction_read_only = on",
    ),
    Kind(
        "short timeouts of the role",
        "statement_timeout, lock_timeout and the others, shorter than the restore of one table.",
        """CREATE FUNCTION slow(text) RETURNS bool LANGUAGE plpgsql STABLE AS $$ BEGIN PERFORM pg_sleep(1.2); RETURN
          true; END $$;
        CREATE TABLE t (v text CHECK (slow(v))); INSERT INTO t VALUES ('a'), ('b');""",
        since="DELETE FROM t",
        since_superuser="ALTER ROLE shop SET statement_timeout = '1s'; ALTER ROLE shop SET transaction_timeout = '1s'; "
        "ALTER ROLE shop SET idle_in_transaction_session_timeout = '1s'; ALTER ROLE shop SET lock_timeout = '1s'",
    ),
    Kind(
        "odd settings of the role",
        "Settings that change how SQL is read and written: quotes, search path, dates, row security, encoding, "
        "tablespace.",
        T
        + "CREATE TABLE d (d date, i interval, q text DEFAULT E'\\\\''x'); INSERT INTO d VALUES ('2026-03-04', '1 day "
        "2:03'); SELECT lo_create(7000);",
        since="DELETE FROM t",
        since_superuser="ALTER ROLE shop SET standard_conforming_strings = off; ALTER ROLE shop SET search_path = ''; "
        "ALTER ROLE shop SET DateStyle = 'German'; ALTER ROLE shop SET row_security = off; ALTER ROLE shop SET "
        "quote_all_identifiers = on;"
        "ALTER ROLE shop SET client_encoding = 'LATIN1'; ALTER ROLE shop SET default_tablespace = 'fast'; "
        "ALTER ROLE shop SET IntervalStyle = 'sql_standard'; ALTER ROLE shop SET client_min_messages = error;"
        "ALTER ROLE shop SET check_function_bodies = on; ALTER ROLE shop SET default_toast_compression = pglz; ALTER "
        "ROLE shop SET timezone = 'Asia/Tokyo'",
    ),
    Kind(
        "a prepared transaction",
        "It holds its locks until someone ends it by its name.",
        T,
        since_superuser="BEGIN; DELETE FROM t; PREPARE TRANSACTION 'lost'",
    ),
    Kind(
        "a logical replication slot",
        "Of a consumer such as Debezium.",
        T,
        since="DELETE FROM t",
        since_superuser="SELECT pg_create_logical_replication_slot('debezium', 'pgoutput')",
    ),
    Kind(
        "a template database",
        "is_template, and a connection limit.",
        T,
        then="ALTER DATABASE shop CONNECTION LIMIT 7;",
        since="DELETE FROM t",
        since_superuser="ALTER DATABASE shop IS_TEMPLATE true",
    ),
    Kind(
        "event triggers, functions and operators that stand in for PostgreSQL's",
        "Twins of pg_catalog's functions and operators in public, made by the owner; nothing of ours calls them.",
        T
        + """CREATE FUNCTION format(text, VARIADIC name[]) RETURNS text LANGUAGE plpgsql AS $$ BEGIN RAISE 'called';
          END $$;
        CREATE FUNCTION quote_ident(name) RETURNS text LANGUAGE plpgsql AS $$ BEGIN RAISE 'called'; END $$;
        CREATE FUNCTION no(name, name) RETURNS bool LANGUAGE plpgsql AS $$ BEGIN RAISE 'called'; END $$;
        CREATE OPERATOR !~ (LEFTARG = name, RIGHTARG = name, FUNCTION = no); CREATE OPERATOR ~ (LEFTARG = name,
          RIGHTARG = name, FUNCTION = no);
        CREATE OPERATOR || (LEFTARG = name, RIGHTARG = name, FUNCTION = no); CREATE TABLE pg_class (i int); CREATE
          TABLE pg_roles (i int);""",
        since="DELETE FROM t",
    ),
]
