"""Kinds of views, functions, operators, triggers and what else runs."""

from __future__ import annotations

from tests.matrix.kind import Kind
from tests.matrix.tables import T

USERS = """CREATE TABLE users (id int PRIMARY KEY, first text, last text, at timestamptz);
  INSERT INTO users VALUES (1, 'a', 'b', '2026-01-01');
  CREATE FUNCTION full_name(u users) RETURNS text LANGUAGE sql IMMUTABLE AS $$ SELECT u.first || ' ' || u.last $$;
  CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.at := now(); RETURN NEW; END $$; """
GROUPED = """CREATE SCHEMA sc; CREATE TYPE sc.e AS ENUM ('a'); CREATE TABLE t (id int PRIMARY KEY, v text, k sc.e);
  INSERT INTO t VALUES (1, 'x', 'a'); CREATE TABLE u (id int REFERENCES t); INSERT INTO u VALUES (1), (1);
  CREATE VIEW w AS SELECT t.id, t.v, t.k, count(u.id) AS n FROM t LEFT JOIN u USING (id) GROUP BY t.id;
  CREATE VIEW x AS SELECT sum(n) FROM w; """

KINDS = [
    Kind(
        "views on views",
        "Security barriers, check options, recursive views, columns renamed, rules, updatable views with defaults.",
        T
        + """CREATE VIEW a WITH (security_barrier, security_invoker) AS SELECT * FROM t WHERE id > 0 WITH LOCAL CHECK
          OPTION;
        CREATE VIEW b (x, "y z") AS SELECT id, v FROM a; CREATE VIEW c AS SELECT b.x, d.x AS x2 FROM b, b d WHERE b.x
          = ANY (ARRAY[1, 2]);
        CREATE RECURSIVE VIEW r (n) AS SELECT 1 UNION ALL SELECT n + 1 FROM r WHERE n < 5; ALTER VIEW a ALTER v SET
          DEFAULT 'd';
        CREATE VIEW w AS SELECT v, rank() OVER (PARTITION BY v ORDER BY id DESC) FROM t; CREATE VIEW vals AS VALUES
          (1, 'x'), (2, NULL);""",
        since="ALTER TABLE t RENAME v TO vv; DROP VIEW c",
    ),
    Kind(
        "materialized views on materialized views",
        "One depends on the other and on a function; one was never populated; one has a unique index.",
        T
        + """CREATE FUNCTION f(int) RETURNS bigint LANGUAGE sql STABLE AS 'SELECT count(*) FROM public.t WHERE id > $1';
        CREATE MATERIALIZED VIEW m2 AS SELECT id, public.f(id) AS n FROM t; CREATE MATERIALIZED VIEW m1 AS SELECT
          sum(n) AS s FROM m2;
        CREATE UNIQUE INDEX ON m2 (id); CREATE MATERIALIZED VIEW later AS SELECT * FROM t WITH NO DATA;
        CREATE MATERIALIZED VIEW of_later AS SELECT count(*) FROM t JOIN m1 ON true WITH NO DATA; COMMENT ON
          MATERIALIZED VIEW m1 IS 'm';""",
        since="DELETE FROM t; REFRESH MATERIALIZED VIEW m2; DROP MATERIALIZED VIEW later",
    ),
    Kind(
        "row types in signatures, with triggers",
        "Functions that take a table's row, as Hasura, PostgREST and PostGraphile use them, and a trigger; nothing "
        "has changed since.",
        USERS + "CREATE TRIGGER touch BEFORE UPDATE ON users FOR EACH ROW EXECUTE FUNCTION touch()",
    ),
    Kind(
        "row types in signatures, with policies and indexes",
        "Such functions in a policy, an index, a check and a default.",
        USERS
        + """CREATE POLICY p ON users USING (full_name(users) = ''); ALTER TABLE users ENABLE ROW LEVEL SECURITY;
        CREATE INDEX ON users (full_name(users)); ALTER TABLE users ADD CHECK (full_name(users) <> '');
        CREATE FUNCTION kin(u users) RETURNS SETOF users LANGUAGE sql STABLE AS
          'SELECT * FROM public.users WHERE last = u.last';
        CREATE TABLE logins (who users, whose users[]); INSERT INTO logins SELECT u, ARRAY[u] FROM users u;""",
        since="ALTER TABLE logins RENAME who TO whom; DROP FUNCTION kin",
    ),
    Kind(
        "views that group by a key",
        "Which pg_dump takes apart; since then one of them got a column, and its type is used otherwise.",
        GROUPED,
        since="CREATE OR REPLACE VIEW w AS SELECT t.id, t.v, t.k, count(u.id) AS n, 1 AS more FROM t LEFT JOIN u "
        "USING (id) GROUP BY t.id;"
        "CREATE TABLE newer (k sc.e)",
    ),
    Kind(
        "views that group by a key, dropped",
        "The same, where all of it is gone.",
        GROUPED,
        since="DROP VIEW x, w; DROP TABLE u, t; DROP SCHEMA sc CASCADE",
    ),
    Kind(
        "a view that refers to itself",
        "CREATE OR REPLACE VIEW allows it, CREATE VIEW does not, so no archive can bring it back.",
        T + "CREATE VIEW v AS SELECT 1 AS a; CREATE OR REPLACE VIEW v AS SELECT a FROM v;",
        since="DELETE FROM t",
    ),
    Kind(
        "views that refer to each other",
        "Two, three, and one that also refers to itself: pg_dump makes them in two steps.",
        T
        + """CREATE VIEW v AS SELECT 1 AS a; CREATE VIEW w AS SELECT a FROM v;
        CREATE OR REPLACE VIEW v AS SELECT a FROM w;
        CREATE VIEW x AS SELECT 1 AS a; CREATE VIEW y AS SELECT a FROM x; CREATE VIEW z AS SELECT a FROM y;
        CREATE OR REPLACE VIEW x AS SELECT a FROM z;
        CREATE VIEW own AS SELECT 1 AS a; CREATE VIEW its AS SELECT a FROM own;
        CREATE OR REPLACE VIEW own AS SELECT its.a FROM its, own;""",
        since="DROP VIEW x, y, z",
    ),
    Kind(
        "functions of all forms",
        "SQL bodies that are parsed, procedures, variadic and polymorphic ones, defaults, tables as results, window "
        "functions.",
        T
        + """CREATE FUNCTION atomic(a int DEFAULT 1) RETURNS bigint BEGIN ATOMIC SELECT count(*) FROM t WHERE id > a;
          END;
        CREATE FUNCTION direct(a int) RETURNS int IMMUTABLE RETURN a + 1; CREATE PROCEDURE p(IN a int, OUT b text)
          LANGUAGE plpgsql AS
          'BEGIN b := a; END'; CREATE PROCEDURE q(VARIADIC text[]) BEGIN ATOMIC DELETE FROM t WHERE false; INSERT
          INTO t (v) VALUES ('q'); END;
        CREATE FUNCTION poly(anycompatible, VARIADIC anycompatiblearray) RETURNS anycompatible LANGUAGE sql AS
          'SELECT $1';
        CREATE FUNCTION outs(a int, INOUT b int, OUT c text) LANGUAGE sql AS $$ SELECT 1, 'x' $$;
        CREATE FUNCTION rows(a int) RETURNS TABLE (x int, y public.t) LANGUAGE sql ROWS 7 COST 3 STRICT PARALLEL SAFE
          AS 'SELECT 1, t FROM public.t'; CREATE FUNCTION same(int) RETURNS int LANGUAGE sql AS 'SELECT 1';
        CREATE FUNCTION same(text) RETURNS int LANGUAGE sql AS 'SELECT 2'; CREATE FUNCTION same("a b" int, "c" text)
          RETURNS int
          LANGUAGE sql AS 'SELECT 3'; CREATE VIEW uses AS SELECT atomic(), direct(id) FROM t;""",
        since="DROP FUNCTION same(text); DROP PROCEDURE q; CREATE FUNCTION q() RETURNS int LANGUAGE sql AS 'SELECT "
        "1'; DROP VIEW uses",
    ),
    Kind(
        "functions with settings and security definer",
        "SECURITY DEFINER with a search_path of its own, SET of other parameters, rights taken from PUBLIC.",
        T
        + """CREATE SCHEMA api; CREATE FUNCTION api.f() RETURNS bigint LANGUAGE sql SECURITY DEFINER SET search_path
          = public, pg_temp
          SET work_mem = '8MB' AS 'SELECT count(*) FROM t'; CREATE FUNCTION api.g() RETURNS text LANGUAGE plpgsql
          SECURITY DEFINER
          SET search_path = '' SET timezone = 'Europe/Berlin' AS $$ BEGIN RETURN now()::text; END $$; REVOKE EXECUTE
          ON FUNCTION api.f
          FROM PUBLIC; GRANT EXECUTE ON FUNCTION api.f TO reader; GRANT USAGE ON SCHEMA api TO reader;
        CREATE FUNCTION checked(text) RETURNS bool LANGUAGE sql IMMUTABLE SET search_path = public AS
          'SELECT length($1) < 9';
        ALTER TABLE t ADD CHECK (checked(v)); CREATE INDEX ON t (checked(v));""",
        since="GRANT EXECUTE ON FUNCTION api.f TO PUBLIC; ALTER FUNCTION api.f SECURITY INVOKER; ALTER FUNCTION api.g "
        "RESET ALL",
    ),
    Kind(
        "functions that need a search path",
        "A check calls a function that names a table without its schema: COPY cannot run it, since a dump's search "
        "path is empty.",
        """CREATE TABLE allowed (v text); INSERT INTO allowed VALUES ('a'); CREATE FUNCTION ok(text) RETURNS bool
          LANGUAGE plpgsql STABLE AS
          $$ BEGIN RETURN EXISTS (SELECT FROM allowed WHERE v = $1); END $$;
        CREATE TABLE t (v text CHECK (ok(v))); INSERT INTO t VALUES ('a');""",
        since="DELETE FROM t",
    ),
    Kind(
        "operators, casts and aggregates",
        "With commutators and negators that refer to each other, ordered-set aggregates, casts between one's own "
        "types.",
        """CREATE TYPE mood AS ENUM ('sad', 'ok'); CREATE TYPE pair AS (a int, b mood); CREATE SCHEMA ops;
        CREATE FUNCTION mf(int, mood) RETURNS bool LANGUAGE sql IMMUTABLE AS 'SELECT true'; CREATE FUNCTION fm(mood,
          int) RETURNS bool
          LANGUAGE sql IMMUTABLE AS 'SELECT true'; CREATE OPERATOR <#> (LEFTARG = int, RIGHTARG = mood, FUNCTION =
          mf, COMMUTATOR = <#>,
          NEGATOR = <!#>, RESTRICT = eqsel, JOIN = eqjoinsel); CREATE OPERATOR <#> (LEFTARG = mood, RIGHTARG = int,
          FUNCTION = fm, COMMUTATOR = <#>);
        CREATE OPERATOR <!#> (LEFTARG = int, RIGHTARG = mood, FUNCTION = mf, NEGATOR = <#>);
        CREATE FUNCTION mg(mood) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT 1'; CREATE OPERATOR ops.@@@ (RIGHTARG
          = mood, FUNCTION = mg);
        CREATE FUNCTION add2(int, int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT $1 + $2'; CREATE AGGREGATE
          mysum(int) (SFUNC = add2,
          STYPE = int, INITCOND = '0', PARALLEL = safe, COMBINEFUNC = add2); CREATE AGGREGATE ordered(ORDER BY int)
          (SFUNC = add2, STYPE = int, INITCOND = '0');
        CREATE AGGREGATE hypothetical(int ORDER BY int) (SFUNC = add2, STYPE = int, INITCOND = '0'); CREATE AGGREGATE
          cnt(*) (SFUNC = int8inc, STYPE = int8, INITCOND = '0');
        CREATE FUNCTION pm(pair) RETURNS mood LANGUAGE sql AS 'SELECT $1.b'; CREATE CAST (pair AS mood) WITH FUNCTION
          pm(pair) AS ASSIGNMENT;
        CREATE TABLE t (m mood); INSERT INTO t VALUES ('ok'); CREATE VIEW v AS SELECT mysum(1) AS s FROM t WHERE 1
          OPERATOR(public.<#>) m;
        COMMENT ON OPERATOR <#> (int, mood) IS 'op'; COMMENT ON CAST (pair AS mood) IS 'cast'; COMMENT ON AGGREGATE
          cnt(*) IS 'agg';""",
        since="DROP VIEW v; DROP OPERATOR ops.@@@ (NONE, mood); DROP CAST (pair AS mood); DROP AGGREGATE cnt(*)",
    ),
    Kind(
        "operator classes and C functions",
        "Which only a superuser can make.",
        "CREATE TABLE t (i int4); INSERT INTO t VALUES (1); CREATE INDEX ON t USING btree (i backwards);",
        superuser="""CREATE OPERATOR FAMILY fam USING btree; CREATE FUNCTION back(int4, int4) RETURNS int4 LANGUAGE
          sql IMMUTABLE AS
          'SELECT pg_catalog.btint4cmp($2, $1)'; CREATE OPERATOR CLASS backwards FOR TYPE int4 USING btree FAMILY fam
          AS OPERATOR 1 > (int4, int4),
          OPERATOR 2 >= (int4, int4), OPERATOR 3 =, OPERATOR 4 <= (int4, int4), OPERATOR 5 < (int4, int4), FUNCTION 1
          back(int4, int4);
        CREATE FUNCTION in_c(int4, int4) RETURNS int4 LANGUAGE internal IMMUTABLE STRICT AS 'int4pl';""",
        since="DROP INDEX t_i_idx",
    ),
    Kind(
        "text search, collations, conversions",
        "Configurations, dictionaries and templates of one's own, and an index that uses them.",
        """CREATE TEXT SEARCH DICTIONARY dict (TEMPLATE = simple, STOPWORDS = english); CREATE TEXT SEARCH
          CONFIGURATION conf (COPY = simple);
        ALTER TEXT SEARCH CONFIGURATION conf ALTER MAPPING FOR asciiword, word WITH dict, simple; CREATE COLLATION
          coll (LOCALE = 'C');
        CREATE CONVERSION conv FOR 'LATIN1' TO 'UTF8' FROM iso8859_1_to_utf8; CREATE TABLE t (v text COLLATE coll);
        INSERT INTO t VALUES ('the cats'); CREATE INDEX ON t USING gin (to_tsvector('public.conf', v));
        COMMENT ON TEXT SEARCH CONFIGURATION conf IS 'c'; COMMENT ON COLLATION coll IS 'k';""",
        since='DROP TEXT SEARCH DICTIONARY dict CASCADE; ALTER TABLE t ALTER v TYPE text COLLATE "C"; DROP COLLATION '
        "coll",
    ),
    Kind(
        "triggers of all forms",
        "Disabled, ALWAYS and REPLICA ones, transition tables, WHEN conditions, constraint triggers, INSTEAD OF, on "
        "partitions.",
        T
        + """CREATE FUNCTION tf() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'called'; END $$;
        CREATE TRIGGER a BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION tf(); ALTER TABLE t ENABLE ALWAYS TRIGGER a;
        CREATE TRIGGER b AFTER UPDATE ON t REFERENCING OLD TABLE AS o NEW TABLE AS n FOR EACH STATEMENT EXECUTE
          FUNCTION tf('x', 'it''s');
        ALTER TABLE t DISABLE TRIGGER b; CREATE TRIGGER c AFTER TRUNCATE ON t EXECUTE FUNCTION tf(); ALTER TABLE t
          ENABLE REPLICA TRIGGER c;
        CREATE CONSTRAINT TRIGGER d AFTER DELETE ON t DEFERRABLE INITIALLY DEFERRED FOR EACH ROW WHEN (OLD.id > 5)
          EXECUTE FUNCTION tf();
        CREATE VIEW v AS SELECT * FROM t; CREATE TRIGGER e INSTEAD OF INSERT ON v FOR EACH ROW EXECUTE FUNCTION tf();
        CREATE TABLE p (i int) PARTITION BY RANGE (i); CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (1) TO (5);
        CREATE TRIGGER g BEFORE INSERT ON p FOR EACH ROW EXECUTE FUNCTION tf(); ALTER TABLE p1 DISABLE TRIGGER g;
          COMMENT ON TRIGGER a ON t IS 'a';""",
        since="ALTER TABLE t ENABLE TRIGGER ALL; DROP TRIGGER d ON t; DROP VIEW v",
    ),
    Kind(
        "rules",
        "On tables and views, disabled ones too.",
        T
        + """CREATE TABLE log (x text); CREATE RULE a AS ON UPDATE TO t DO ALSO INSERT INTO log VALUES (NEW.v);
          CREATE RULE b AS ON DELETE TO t
          WHERE OLD.id = 1 DO INSTEAD NOTHING; ALTER TABLE t DISABLE RULE b; CREATE VIEW v AS SELECT * FROM t;
        CREATE RULE c AS ON INSERT TO v DO INSTEAD (INSERT INTO t VALUES (NEW.id, NEW.v); INSERT INTO log VALUES
          ('v') RETURNING 1, x);""",
        since="DROP RULE a ON t; DROP VIEW v; DELETE FROM t",
    ),
    Kind(
        "two schemas that need each other",
        "Functions, types, defaults and keys that go back and forth between two schemas.",
        """CREATE SCHEMA a; CREATE SCHEMA b; CREATE TYPE a.e AS ENUM ('x'); CREATE SEQUENCE a.s;
        CREATE TABLE b.t (id int PRIMARY KEY, e a.e DEFAULT 'x', n int DEFAULT nextval('a.s'));
        CREATE FUNCTION a.f(b.t) RETURNS a.e LANGUAGE sql IMMUTABLE AS 'SELECT $1.e'; CREATE TABLE a.u (t int
          REFERENCES b.t, r b.t);
        CREATE VIEW b.v AS SELECT a.f(t) FROM b.t;
        INSERT INTO b.t VALUES (1); INSERT INTO a.u SELECT 1, t FROM b.t;""",
        since="DROP SCHEMA a CASCADE; CREATE SCHEMA a; CREATE TABLE a.u (i int)",
    ),
]
