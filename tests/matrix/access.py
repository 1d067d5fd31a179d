"""Kinds of rights, owners and policies."""

from __future__ import annotations

from tests.matrix.kind import Kind
from tests.matrix.tables import T

KINDS = [
    Kind(
        "row security, forced",
        "The owner is bound by the policies, too; since then they are gone.",
        T
        + """ALTER TABLE t ENABLE ROW LEVEL SECURITY; ALTER TABLE t FORCE ROW LEVEL SECURITY;
        CREATE POLICY p ON t FOR INSERT WITH CHECK (true); CREATE POLICY q ON t AS RESTRICTIVE FOR SELECT USING (v <>
          'secret');
        CREATE TABLE on_but_open (i int); ALTER TABLE on_but_open ENABLE ROW LEVEL SECURITY;""",
        since="ALTER TABLE t NO FORCE ROW LEVEL SECURITY; ALTER TABLE t DISABLE ROW LEVEL SECURITY; DROP POLICY p ON t",
        dumped_by="superuser",
    ),
    Kind(
        "policies to roles",
        "Policies that name several roles; their names need quotes or are PUBLIC.",
        T
        + """ALTER TABLE t ENABLE ROW LEVEL SECURITY; CREATE POLICY "to TO reader" ON t FOR UPDATE TO reader, pg_monitor
          USING (v = 'TO other') WITH CHECK (true); CREATE POLICY p2 ON t TO PUBLIC USING (id IN (SELECT 1)); COMMENT
          ON POLICY p2 ON t IS 'x';
        GRANT SELECT ON t TO reader, writer;""",
        since="ALTER POLICY p2 ON t TO reader; GRANT ALL ON t TO stranger",
    ),
    Kind(
        "default privileges, in the archive",
        "For tables, functions, types and schemas, everywhere and in one schema; since then they are gone.",
        T
        + """ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO reader; ALTER DEFAULT PRIVILEGES REVOKE EXECUTE ON
          FUNCTIONS FROM PUBLIC;
        CREATE SCHEMA s; ALTER DEFAULT PRIVILEGES IN SCHEMA s GRANT EXECUTE ON FUNCTIONS TO writer; ALTER DEFAULT
          PRIVILEGES REVOKE USAGE ON TYPES
        FROM PUBLIC; CREATE TABLE s.later (i int); CREATE FUNCTION s.f() RETURNS int LANGUAGE sql AS 'SELECT 1';
          CREATE TYPE s.e AS ENUM ();
        REVOKE SELECT ON s.later FROM reader;""",
        since="ALTER DEFAULT PRIVILEGES REVOKE SELECT ON TABLES FROM reader; ALTER DEFAULT PRIVILEGES GRANT EXECUTE "
        "ON FUNCTIONS TO PUBLIC;"
        "DROP SCHEMA s CASCADE; GRANT SELECT ON t TO stranger",
    ),
    Kind(
        "default privileges, newer than the archive",
        "They would give a stranger rights on everything that is restored.",
        "CREATE TABLE secrets (v text); CREATE SCHEMA s; CREATE SEQUENCE s.q; CREATE FUNCTION f() RETURNS int "
        "LANGUAGE sql AS 'SELECT 1';"
        "CREATE TYPE e AS ENUM ('a'); SELECT lo_create(5000);",
        since="ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO stranger; ALTER DEFAULT PRIVILEGES GRANT ALL ON "
        "SCHEMAS TO stranger;"
        "ALTER DEFAULT PRIVILEGES IN SCHEMA s GRANT ALL ON SEQUENCES TO stranger; ALTER DEFAULT PRIVILEGES IN SCHEMA "
        "public GRANT ALL ON TABLES "
        "TO PUBLIC; ALTER DEFAULT PRIVILEGES REVOKE ALL ON TYPES FROM PUBLIC; ALTER DEFAULT PRIVILEGES REVOKE ALL ON "
        "FUNCTIONS FROM PUBLIC",
    ),
    Kind(
        "default privileges of the superuser, newer than the archive",
        "They act on what a superuser restores.",
        "CREATE TABLE secrets (v text); CREATE SEQUENCE q; CREATE SCHEMA s; CREATE TABLE s.more (i int)",
        since_superuser="ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO stranger; ALTER DEFAULT PRIVILEGES GRANT ALL "
        "ON SCHEMAS TO stranger;"
        "ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT ALL ON SEQUENCES TO PUBLIC",
    ),
    Kind(
        "grants by others",
        "A chain of grant options: rights that another role than the owner has given.",
        T + """GRANT SELECT ON t TO writer WITH GRANT OPTION; GRANT USAGE ON SCHEMA public TO writer;""",
        then="SET ROLE writer; GRANT SELECT ON t TO reader; RESET ROLE;",
        since="REVOKE ALL ON t FROM writer CASCADE",
    ),
    Kind(
        "grants on columns, functions, types, large objects",
        "And rights that were taken from the owner and from PUBLIC.",
        """CREATE TABLE t (a int, b text, secret text); GRANT SELECT (a, b), UPDATE (b) ON t TO reader; REVOKE
          TRUNCATE, REFERENCES ON t FROM shop;
        CREATE FUNCTION f(int) RETURNS int LANGUAGE sql AS 'SELECT 1'; REVOKE ALL ON FUNCTION f FROM PUBLIC; GRANT
          EXECUTE ON FUNCTION f TO reader;
        CREATE TYPE e AS ENUM ('a'); REVOKE USAGE ON TYPE e FROM PUBLIC; GRANT USAGE ON TYPE e TO writer WITH GRANT
          OPTION; CREATE SEQUENCE s;
        GRANT USAGE ON SEQUENCE s TO reader; CREATE DOMAIN d AS int; GRANT USAGE ON DOMAIN d TO reader; CREATE
          PROCEDURE p() LANGUAGE sql AS '';
        REVOKE EXECUTE ON PROCEDURE p FROM PUBLIC; CREATE VIEW v AS SELECT a FROM t; GRANT SELECT, INSERT ON v TO
          PUBLIC;""",
        since="GRANT ALL ON t TO stranger; GRANT SELECT (secret) ON t TO reader; GRANT EXECUTE ON FUNCTION f TO PUBLIC",
    ),
    Kind(
        "rights on schemas",
        "public closed to PUBLIC, schemas open to some.",
        """REVOKE ALL ON SCHEMA public FROM PUBLIC; GRANT USAGE ON SCHEMA public TO reader; CREATE SCHEMA api; GRANT
          USAGE ON SCHEMA api TO PUBLIC;
        CREATE SCHEMA hidden; GRANT CREATE ON SCHEMA hidden TO writer WITH GRANT OPTION; CREATE TABLE api.t (i int);
          GRANT SELECT ON api.t TO PUBLIC;
        COMMENT ON SCHEMA public IS 'ours';""",
        since="GRANT ALL ON SCHEMA public TO PUBLIC; GRANT USAGE ON SCHEMA hidden TO stranger; REVOKE ALL ON SCHEMA "
        "api FROM PUBLIC",
    ),
    Kind(
        "public dropped and made again",
        "Then only its owner may use it; the archive does not hold the default.",
        T + "GRANT SELECT ON t TO reader;",
        since="DROP SCHEMA public CASCADE; CREATE SCHEMA public",
    ),
    Kind(
        "public dropped",
        "A database without that schema.",
        "DROP SCHEMA public; CREATE SCHEMA app; CREATE TABLE app.t (i int); INSERT INTO app.t VALUES (1);",
        since="CREATE SCHEMA public; CREATE TABLE public.t (i int)",
    ),
    Kind(
        "objects of several owners",
        "Tables, functions, views, types, schemas and large objects of another role; the owner cannot touch them.",
        T,
        then="""CREATE SCHEMA theirs AUTHORIZATION other; CREATE TABLE theirs.t (i int); ALTER TABLE theirs.t OWNER
          TO other;
        CREATE FUNCTION theirs.f() RETURNS int LANGUAGE sql AS 'SELECT 1'; ALTER FUNCTION theirs.f OWNER TO other;
          CREATE TYPE theirs.e AS ENUM ('a');
        ALTER TYPE theirs.e OWNER TO other; CREATE VIEW v AS SELECT * FROM t; ALTER VIEW v OWNER TO other; SELECT
          lo_create(6000);
        ALTER LARGE OBJECT 6000 OWNER TO other; GRANT SELECT ON theirs.t TO reader;""",
        since="DELETE FROM t",
        dumped_by="superuser",
    ),
    Kind(
        "objects of a role that the owner is a member of",
        "The owner acts for it.",
        T
        + "CREATE TABLE of_group (i int); ALTER TABLE of_group OWNER TO group_of_shop; CREATE VIEW v AS SELECT * FROM "
        "of_group;"
        "ALTER VIEW v OWNER TO group_of_shop; CREATE SCHEMA team AUTHORIZATION group_of_shop; CREATE TABLE team.t (i "
        "int);",
        superuser="GRANT CREATE ON SCHEMA public TO group_of_shop;",
        since="DROP VIEW v; DELETE FROM t",
    ),
    Kind(
        "a table of the superuser, newer than the archive",
        "Made by hand on the night before: the owner can neither move nor drop it.",
        T,
        since_superuser="CREATE TABLE by_hand (i int); INSERT INTO by_hand VALUES (1)",
    ),
    Kind(
        "rights on objects of extensions and of the system",
        "Which a superuser gave to a monitoring role.",
        T,
        superuser="CREATE EXTENSION pg_stat_statements; GRANT EXECUTE ON FUNCTION pg_stat_statements_reset TO reader;"
        "REVOKE SELECT ON pg_stat_statements FROM PUBLIC; GRANT SELECT ON pg_stat_statements TO reader; GRANT EXECUTE "
        "ON FUNCTION "
        "pg_ls_dir(text) TO reader",
        since="ALTER TABLE t RENAME TO u",
    ),
]
