-- Databases for test_partial.py and test_foresee.py, each after a line with its group and its name. The groups:
--   careful   pg_restore alone cannot restore it, since it sets an empty search_path and loads table after table; restore.sh can
--   fails     pg_restore cannot restore it; restores: it can; late: a check that reads another table

-- careful: a check reads a table without its schema
CREATE TABLE dict (val text PRIMARY KEY);
INSERT INTO dict VALUES ('a');
CREATE FUNCTION known(p text) RETURNS boolean LANGUAGE sql STABLE AS 'SELECT EXISTS (SELECT FROM dict WHERE val = p)';
CREATE TABLE data (val text CHECK (known(val)));
INSERT INTO data VALUES ('a');

-- careful: a check in PL/pgSQL
CREATE TABLE dict (val text PRIMARY KEY);
INSERT INTO dict VALUES ('a');
CREATE FUNCTION known(p text) RETURNS boolean LANGUAGE plpgsql AS 'BEGIN PERFORM 1 FROM dict WHERE val = p; RETURN FOUND; END';
CREATE TABLE data (val text CONSTRAINT "is it?" CHECK (known(val)));
INSERT INTO data VALUES ('a');
COMMENT ON CONSTRAINT "is it?" ON data IS 'it''s 100% known';

-- careful: a check reads a table that is restored later
CREATE TABLE zoo (val text);
INSERT INTO zoo VALUES ('a');
CREATE FUNCTION known(p text) RETURNS boolean LANGUAGE sql STABLE AS 'SELECT EXISTS (SELECT FROM public.zoo WHERE val = p)';
CREATE TABLE data (val text CHECK (known(val)), CHECK (val <> ''));
INSERT INTO data VALUES ('a');

-- careful: a generated column
CREATE FUNCTION once(p text) RETURNS text IMMUTABLE LANGUAGE sql AS 'SELECT p || p';
CREATE FUNCTION more(p text) RETURNS text IMMUTABLE LANGUAGE sql AS 'SELECT once(p)';
CREATE TABLE data (val text, v2 text GENERATED ALWAYS AS (more(val)) STORED);
INSERT INTO data VALUES ('a');

-- careful: an index
CREATE FUNCTION once(p text) RETURNS text IMMUTABLE LANGUAGE sql AS 'SELECT p || p';
CREATE FUNCTION also(p text) RETURNS text IMMUTABLE LANGUAGE plpgsql SET search_path = public AS 'BEGIN RETURN once(p); END';
CREATE TABLE data (val text);
INSERT INTO data VALUES ('a');
CREATE UNIQUE INDEX ON data (also(val));
ALTER FUNCTION also(text) RESET search_path;

-- careful: a materialized view
CREATE FUNCTION once(p text) RETURNS text IMMUTABLE LANGUAGE sql AS 'SELECT p || p';
CREATE FUNCTION also(p text) RETURNS text IMMUTABLE LANGUAGE plpgsql SET search_path = public AS 'BEGIN RETURN once(p); END';
CREATE TABLE data (val text);
INSERT INTO data VALUES ('a');
CREATE MATERIALIZED VIEW seen AS SELECT also(val) FROM data;
ALTER FUNCTION also(text) RESET search_path;

-- careful: a domain
CREATE TABLE dict (val text PRIMARY KEY);
INSERT INTO dict VALUES ('a');
CREATE FUNCTION known(p text) RETURNS boolean LANGUAGE sql STABLE AS 'SELECT EXISTS (SELECT FROM dict WHERE val = p)';
CREATE DOMAIN word AS text CHECK (known(VALUE));
COMMENT ON CONSTRAINT word_check ON DOMAIN word IS 'x';
CREATE TABLE data (val word);
INSERT INTO data VALUES ('a');

-- careful: partitions
CREATE TABLE dict (val text PRIMARY KEY);
INSERT INTO dict VALUES ('a');
CREATE FUNCTION known(p text) RETURNS boolean LANGUAGE sql STABLE AS 'SELECT EXISTS (SELECT FROM dict WHERE val = p)';
CREATE TABLE data (n int, val text CHECK (known(val))) PARTITION BY LIST (n);
CREATE TABLE data1 PARTITION OF data FOR VALUES IN (1);
CREATE TABLE data2 PARTITION OF data FOR VALUES IN (2);
INSERT INTO data VALUES (1, 'a'), (2, 'a');

-- careful: inheritance
CREATE TABLE dict (val text PRIMARY KEY);
INSERT INTO dict VALUES ('a');
CREATE FUNCTION known(p text) RETURNS boolean LANGUAGE sql STABLE AS 'SELECT EXISTS (SELECT FROM dict WHERE val = p)';
CREATE TABLE data (val text CHECK (known(val)), CHECK (known(val || '')) NO INHERIT);
CREATE TABLE child (more int, CHECK (known(val))) INHERITS (data);
CREATE TABLE grandchild () INHERITS (child);
INSERT INTO grandchild VALUES ('a', 1);

-- careful: a function after a table, which reads one that takes longer to fill
CREATE TABLE dict (val text);
INSERT INTO dict SELECT md5(n::text) FROM generate_series(1, 400000) n;
INSERT INTO dict VALUES ('a');
CREATE TABLE data (val text);
CREATE FUNCTION known(d data) RETURNS boolean LANGUAGE plpgsql AS 'DECLARE found dict; BEGIN SELECT * INTO found FROM dict WHERE val = d.val; RETURN found.val IS NOT NULL; END';
ALTER TABLE data ADD CHECK (known(data));
INSERT INTO data VALUES ('a');

-- careful: a schema of its own, and a function after a table
CREATE SCHEMA "app, 1";
CREATE TABLE "app, 1".dict (val text);
INSERT INTO "app, 1".dict VALUES ('a');
CREATE TABLE "app, 1".data (val text);
SET search_path = "app, 1";
CREATE FUNCTION "app, 1".known(d "app, 1".data) RETURNS boolean LANGUAGE plpgsql AS 'DECLARE found dict; BEGIN SELECT * INTO found FROM dict WHERE val = d.val; RETURN found.val IS NOT NULL; END';
ALTER TABLE "app, 1".data ADD CHECK ("app, 1".known(data));
INSERT INTO "app, 1".data VALUES ('a');

-- careful: functions with settings of their own
CREATE TABLE dict (val text PRIMARY KEY);
INSERT INTO dict VALUES ('a');
CREATE FUNCTION known(p text) RETURNS boolean LANGUAGE sql STABLE AS 'SELECT EXISTS (SELECT FROM dict WHERE val = p)';
ALTER FUNCTION known(text) SET work_mem = '1MB';
CREATE TABLE data (val text CHECK (known(val)));
INSERT INTO data VALUES ('a');
CREATE PROCEDURE p() LANGUAGE plpgsql AS 'BEGIN NULL; END';
CREATE FUNCTION q() RETURNS int LANGUAGE sql SET search_path = pg_catalog AS 'SELECT 1';
REVOKE ALL ON FUNCTION known(text) FROM PUBLIC;

-- careful: an owner who took away his own right to write
CREATE TABLE dict (val text PRIMARY KEY);
INSERT INTO dict VALUES ('a');
CREATE FUNCTION known(p text) RETURNS boolean LANGUAGE sql STABLE AS 'SELECT EXISTS (SELECT FROM dict WHERE val = p)';
CREATE TABLE data (val text CHECK (known(val)));
INSERT INTO data VALUES ('a');
REVOKE INSERT ON data FROM CURRENT_USER;

-- fails: an extension's function in an index
CREATE EXTENSION fuzzystrmatch;
CREATE FUNCTION f(p text) RETURNS text IMMUTABLE LANGUAGE sql SET search_path = public AS 'SELECT soundex(p)';
CREATE TABLE data (val text);
INSERT INTO data VALUES ('a');
CREATE INDEX ON data (f(val));
ALTER FUNCTION f(text) RESET ALL;

-- fails: a type in a cast
CREATE TYPE kind AS ENUM ('a');
CREATE FUNCTION known(p text) RETURNS boolean LANGUAGE sql IMMUTABLE AS 'SELECT p::kind IS NOT NULL';
CREATE TABLE data (val text CHECK (known(val)));
INSERT INTO data VALUES ('a');

-- fails: a row of a table as a variable
CREATE TABLE dict (val text PRIMARY KEY);
INSERT INTO dict VALUES ('a');
CREATE FUNCTION known(p text) RETURNS boolean LANGUAGE plpgsql AS 'DECLARE one dict%ROWTYPE; BEGIN one.val := p; RETURN one.val = p; END';
CREATE TABLE data (val text CHECK (known(val)));
INSERT INTO data VALUES ('a');

-- fails: an operator of one's own
CREATE TABLE dict (val text PRIMARY KEY);
INSERT INTO dict VALUES ('a');
CREATE FUNCTION known(p text) RETURNS boolean LANGUAGE sql STABLE AS 'SELECT EXISTS (SELECT FROM dict WHERE val = p)';
CREATE FUNCTION same(a text, b text) RETURNS boolean LANGUAGE plpgsql AS 'BEGIN RETURN known(a) AND known(b); END';
CREATE OPERATOR === (FUNCTION = same, LEFTARG = text, RIGHTARG = text);
CREATE TABLE data (val text CHECK (val === 'a'));
INSERT INTO data VALUES ('a');

-- fails: a materialized view over a view
CREATE FUNCTION once(p text) RETURNS text IMMUTABLE LANGUAGE sql AS 'SELECT p || p';
CREATE FUNCTION also(p text) RETURNS text IMMUTABLE LANGUAGE plpgsql SET search_path = public AS 'BEGIN RETURN once(p); END';
CREATE TABLE data (val text);
INSERT INTO data VALUES ('a');
CREATE VIEW between_them AS SELECT also(val) FROM data;
CREATE MATERIALIZED VIEW seen AS SELECT * FROM between_them;
ALTER FUNCTION also(text) RESET search_path;

-- fails: quoted and mixed names
CREATE TABLE "The Dict" (val text);
INSERT INTO "The Dict" VALUES ('a');
CREATE FUNCTION known(p text) RETURNS boolean LANGUAGE sql AS 'select exists (select 1 FROM
  "The Dict" d where d.val = p)';
CREATE TABLE data (val text CHECK (known(val)));
INSERT INTO data VALUES ('a');

-- fails: a row type in a signature
CREATE TABLE dict (val text);
CREATE TABLE data (val text);
INSERT INTO dict VALUES ('a');
CREATE FUNCTION known(d data) RETURNS boolean LANGUAGE sql STABLE AS 'SELECT EXISTS (SELECT FROM dict WHERE val = d.val)';
ALTER TABLE data ADD CHECK (known(data));
INSERT INTO data VALUES ('a');

-- restores: everything is qualified
CREATE FUNCTION once(p text) RETURNS text IMMUTABLE LANGUAGE sql AS 'SELECT p || p';
CREATE FUNCTION known(p text) RETURNS boolean LANGUAGE sql IMMUTABLE AS 'SELECT public.once(p) = p || p';
CREATE TABLE data (val text CHECK (known(val)));
INSERT INTO data VALUES ('a');

-- restores: the function has a search_path
CREATE FUNCTION once(p text) RETURNS text IMMUTABLE LANGUAGE sql AS 'SELECT p || p';
CREATE FUNCTION known(p text) RETURNS boolean LANGUAGE sql IMMUTABLE SET search_path = public AS 'SELECT once(p) = p || p';
CREATE TABLE data (val text CHECK (known(val)));
INSERT INTO data VALUES ('a');

-- restores: the body is parsed
CREATE FUNCTION once(p text) RETURNS text IMMUTABLE LANGUAGE sql AS 'SELECT p || p';
CREATE FUNCTION known(p text) RETURNS boolean LANGUAGE sql IMMUTABLE BEGIN ATOMIC SELECT once(p) = p || p;
END;
CREATE TABLE data (val text CHECK (known(val)));
INSERT INTO data VALUES ('a');

-- restores: nothing calls it
CREATE TABLE dict (val text PRIMARY KEY);
INSERT INTO dict VALUES ('a');
CREATE FUNCTION known(p text) RETURNS boolean LANGUAGE sql STABLE AS 'SELECT EXISTS (SELECT FROM dict WHERE val = p)';
CREATE VIEW data AS SELECT known('a');
CREATE TABLE t (a boolean DEFAULT known('a'));

-- restores: a trigger calls it
CREATE TABLE dict (val text PRIMARY KEY);
INSERT INTO dict VALUES ('a');
CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM 1 FROM dict; RETURN NEW; END';
CREATE TABLE data (val text);
CREATE TRIGGER t BEFORE INSERT ON data FOR EACH ROW EXECUTE FUNCTION f();
INSERT INTO data VALUES ('a');

-- restores: a policy calls it
CREATE TABLE dict (val text PRIMARY KEY);
INSERT INTO dict VALUES ('a');
CREATE FUNCTION known(p text) RETURNS boolean LANGUAGE sql STABLE AS 'SELECT EXISTS (SELECT FROM dict WHERE val = p)';
CREATE TABLE data (val text);
CREATE POLICY p ON data USING (known(val));

-- restores: a check that is not valid
CREATE TABLE dict (val text PRIMARY KEY);
INSERT INTO dict VALUES ('a');
CREATE FUNCTION known(p text) RETURNS boolean LANGUAGE sql STABLE AS 'SELECT EXISTS (SELECT FROM dict WHERE val = p)';
CREATE TABLE data (val text);
INSERT INTO data VALUES ('a');
ALTER TABLE data ADD CHECK (known(val)) NOT VALID;

-- restores: names in comments and strings
CREATE TABLE dict (val text PRIMARY KEY);
INSERT INTO dict VALUES ('a');
CREATE FUNCTION known(p text) RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS '/* select from dict */ BEGIN -- join dict
 RETURN p <> '' from dict '' AND p || ''::dict'' <> '''';
END';
CREATE TABLE data (val text CHECK (known(val)));
INSERT INTO data VALUES ('a');

-- restores: columns and variables called like tables
CREATE TABLE status (val text);
CREATE TYPE kind AS ENUM ('a');
CREATE FUNCTION known(status text) RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS 'DECLARE kind text; other text; BEGIN SELECT upper(status) AS kind INTO kind; other := status; RETURN status IS DISTINCT FROM other OR kind > ''''; END';
CREATE TABLE data (val text CHECK (known(val)));
INSERT INTO data VALUES ('a');

-- restores: a WITH called like a table
CREATE TABLE dict (val text PRIMARY KEY);
INSERT INTO dict VALUES ('a');
CREATE FUNCTION known(p text) RETURNS boolean LANGUAGE sql IMMUTABLE AS 'WITH dict (val) AS (SELECT p) SELECT EXISTS (SELECT FROM dict WHERE val = p)';
CREATE TABLE data (val text CHECK (known(val)));
INSERT INTO data VALUES ('a');

-- restores: EXTRACT from a column called like a table
CREATE TABLE created (val text);
CREATE TABLE data (created timestamp, y numeric GENERATED ALWAYS AS (extract(year FROM created)) STORED);
CREATE FUNCTION y(created timestamp) RETURNS boolean IMMUTABLE LANGUAGE sql AS 'SELECT extract(year FROM created) > 0';
ALTER TABLE data ADD CHECK (y(created));
INSERT INTO data VALUES (now());

-- restores: functions that PostgreSQL has, too
CREATE EXTENSION citext;
CREATE FUNCTION lower(text, int) RETURNS text LANGUAGE sql AS 'SELECT $1';
CREATE FUNCTION known(p text) RETURNS boolean LANGUAGE sql IMMUTABLE AS 'SELECT lower(p) = regexp_replace(lower(p), $$x$$, $$$$)';
CREATE TABLE data (val text CHECK (known(val)));
INSERT INTO data VALUES ('a');

-- restores: views, also of one another
CREATE VIEW v AS SELECT 1 AS id;
CREATE VIEW w AS SELECT id FROM v;
CREATE TABLE t (id int PRIMARY KEY, v int);
CREATE VIEW grouped AS SELECT * FROM t GROUP BY id;
CREATE MATERIALIZED VIEW m AS SELECT id FROM w;

-- restores: a materialized view that is empty
CREATE TABLE dict (val text PRIMARY KEY);
INSERT INTO dict VALUES ('a');
CREATE FUNCTION known(p text) RETURNS boolean LANGUAGE sql STABLE AS 'SELECT EXISTS (SELECT FROM dict WHERE val = p)';
CREATE MATERIALIZED VIEW m AS SELECT known('a') WITH NO DATA;

-- late: by a function with a search_path
CREATE TABLE dict (val text PRIMARY KEY);
INSERT INTO dict VALUES ('a');
CREATE FUNCTION known(p text) RETURNS boolean LANGUAGE sql STABLE AS 'SELECT EXISTS (SELECT FROM dict WHERE val = p)';
ALTER FUNCTION known(text) SET search_path = public;
CREATE TABLE data (val text CHECK (known(val)));
INSERT INTO data VALUES ('a');

-- itself: a view of itself
CREATE VIEW itself AS SELECT 1 AS id;
CREATE OR REPLACE VIEW itself AS SELECT id FROM itself;

-- itself: none of whose columns it reads
CREATE VIEW itself AS SELECT 1::bigint AS id;
CREATE OR REPLACE VIEW itself AS SELECT count(*) AS id FROM itself;

-- itself: as rows
CREATE VIEW itself AS SELECT 1 AS id, '' AS row;
CREATE OR REPLACE VIEW itself AS SELECT 1 AS id, itself::text AS row FROM itself;

-- itself: by its number
CREATE VIEW itself AS SELECT 1 AS id, ''::text AS name;
CREATE OR REPLACE VIEW itself AS SELECT 1 AS id, 'itself'::regclass::text AS name;

-- itself: within joins
CREATE VIEW itself AS SELECT 1 AS id;
CREATE TABLE t (id int);
CREATE TABLE u (id int);
CREATE OR REPLACE VIEW itself AS SELECT t.id FROM (t JOIN u USING (id)) LEFT JOIN (t x CROSS JOIN itself) ON x.id = t.id, ONLY u z;

-- itself: within EXISTS, in the FROM list of a WITH, of a UNION
CREATE VIEW itself AS SELECT 1 AS id;
CREATE TABLE t (id int);
CREATE OR REPLACE VIEW itself AS WITH q AS (SELECT id FROM t WHERE EXISTS (SELECT 1 FROM t x, itself y WHERE y.id = t.id))
  SELECT id FROM q UNION ALL SELECT max(id) FROM t;

-- itself: beside and below a function
CREATE VIEW itself AS SELECT 1 AS id;
CREATE TABLE t (id int);
CREATE OR REPLACE VIEW itself AS SELECT g.id FROM t, ROWS FROM (generate_series(1, 2), unnest(ARRAY[1, 2])) WITH ORDINALITY f (a, b, c),
  LATERAL generate_series(1, (SELECT max(i.id) FROM itself i WHERE i.id IS DISTINCT FROM t.id)) g (id);

-- itself: with options
CREATE VIEW itself WITH (security_barrier) AS SELECT 1 AS id;
CREATE OR REPLACE VIEW itself WITH (security_barrier, check_option = local) AS SELECT id FROM itself;

-- itself: a name with a quote, a line end and a semicolon, in a schema with a blank
CREATE SCHEMA "My S";
CREATE VIEW "My S"."it's ""1
;" AS SELECT 1 AS id;
CREATE OR REPLACE VIEW "My S"."it's ""1
;" AS SELECT id FROM "My S"."it's ""1
;";

-- itself: names that are keywords
CREATE SCHEMA "select";
CREATE VIEW "select"."from" AS SELECT 1 AS id;
CREATE OR REPLACE VIEW "select"."from" AS SELECT id FROM "select"."from";

-- others: two and three views of one another
CREATE VIEW v AS SELECT 1 AS a;
CREATE VIEW w AS SELECT a FROM v;
CREATE OR REPLACE VIEW v AS SELECT a FROM w;
CREATE VIEW x AS SELECT 1 AS a;
CREATE VIEW y AS SELECT a FROM x;
CREATE VIEW z AS SELECT a FROM y;
CREATE OR REPLACE VIEW x AS SELECT a FROM z;

-- others: of itself, and another one of it
CREATE VIEW v AS SELECT 1 AS a;
CREATE VIEW w AS SELECT a FROM v;
CREATE OR REPLACE VIEW v AS SELECT w.a FROM w, v;

-- others: of its own row type
CREATE VIEW v AS SELECT 1 AS a;
CREATE OR REPLACE VIEW v AS SELECT (ROW(1)::v).a AS a;

-- others: through a function
CREATE VIEW v AS SELECT 1 AS a;
CREATE FUNCTION f() RETURNS SETOF v LANGUAGE sql AS 'SELECT 1';
CREATE OR REPLACE VIEW v AS SELECT a FROM f();

-- others: a recursive one
CREATE RECURSIVE VIEW v (a) AS SELECT 1 UNION ALL SELECT a + 1 FROM v WHERE a < 3;

-- others: a name that WITH gives
CREATE VIEW v AS WITH v AS (SELECT 1 AS a) SELECT a FROM v;

-- others: a table of that name in another schema
CREATE SCHEMA s;
CREATE TABLE s.v (v int);
CREATE VIEW v AS SELECT v.v FROM s.v;
CREATE SCHEMA v;
CREATE TABLE v.v (v int);
CREATE VIEW s.w AS SELECT v.v FROM v.v;

-- others: a column of that name, of an alias like the schema
CREATE TABLE t (v int, a int);
CREATE VIEW v AS SELECT public.v, t2.a, t2.a IS DISTINCT FROM public.v AS d, extract(year FROM to_timestamp(public.v)) AS y FROM t public, LATERAL (VALUES (public.v, 1), (public.v, 2)) l (x, y), t t2
  WHERE t2.a IS DISTINCT FROM public.v AND EXTRACT(year FROM to_timestamp(public.v)) > 1 AND substring('a' FROM public.v) = ''
    AND trim(BOTH FROM 'x') = '' AND public.v IN (public.v, 1) GROUP BY t2.a, public.v, l.x ORDER BY t2.a, public.v;

-- others: a function of that name
CREATE FUNCTION v() RETURNS SETOF int LANGUAGE sql AS 'SELECT 1';
CREATE VIEW v AS SELECT x FROM v() x, ROWS FROM (v(), v()) y;

-- others: in strings
CREATE VIEW v AS SELECT ' FROM public.v '::text AS a, E'\\ FROM public.v' AS b, 'it''s FROM public.v' AS c, 'public.v'::name AS d;

-- others: in a rule, a default and a trigger
CREATE VIEW v AS SELECT 1 AS a;
CREATE RULE r AS ON INSERT TO v DO INSTEAD SELECT * FROM v;
ALTER VIEW v ALTER a SET DEFAULT 3;

-- others: in a materialized view
CREATE MATERIALIZED VIEW v AS SELECT 1 AS a;
CREATE VIEW w AS SELECT a FROM v;
