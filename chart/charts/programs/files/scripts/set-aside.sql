-- What a restore in place sets aside: one row for each object, in the order in which the objects are moved.
--
--   step       the order. A name that a statement uses is still valid when its turn comes: operators and functions move
--              before the types in their signatures, and whole schemas are renamed last.
--   object     the object's oid
--   statement  moves or renames the object
--   obstacle   why this role cannot do that; empty where it can
--   aside      the schema that the object ends up in; empty for an object without a schema
--
-- A schema that holds nothing of an extension is renamed, which takes no lock for each table. Where an extension lives in a
-- schema, or where the schema belongs to another role, its objects move one by one and the schema stays.
-- What an earlier restore has set aside is treated like everything else: the archive may hold it, too.
--
-- psql's variable `moment` is YYYYMMDD_HHMMSS. The search_path must be pg_catalog, pg_temp.
WITH
of_extension AS (
  SELECT classid, objid FROM pg_depend WHERE deptype = 'e' AND refclassid = 'pg_extension'::regclass
  UNION ALL
  -- Of a composite type, only the type itself is noted.
  SELECT 'pg_class'::regclass, typrelid FROM pg_depend JOIN pg_type t ON t.oid = objid
  WHERE deptype = 'e' AND refclassid = 'pg_extension'::regclass AND classid = 'pg_type'::regclass AND typrelid <> 0
),
schemas AS (
  SELECT n.oid, n.nspname, n.nspowner,
    -- At most 63 bytes: of a long name its beginning, and a hash that keeps two such names apart.
    CASE WHEN octet_length(n.nspname) <= 40 THEN n.nspname ELSE left(n.nspname, 8) || '_' || left(md5(n.nspname), 8) END
      || '_before_' || :'moment' AS aside,
    pg_has_role(n.nspowner, 'USAGE')
      -- An empty one, as in a new database, stays.
      AND (n.nspname <> 'public' OR EXISTS (SELECT FROM pg_depend d
        WHERE d.refclassid = 'pg_namespace'::regclass AND d.refobjid = n.oid AND d.deptype = 'n'))
      AND NOT EXISTS (SELECT FROM of_extension e WHERE e.classid = 'pg_namespace'::regclass AND e.objid = n.oid)
      AND NOT EXISTS (SELECT FROM pg_extension e WHERE e.extnamespace = n.oid)
      AND NOT EXISTS (SELECT FROM pg_depend d JOIN of_extension e ON e.classid = d.classid AND e.objid = d.objid
        WHERE d.refclassid = 'pg_namespace'::regclass AND d.refobjid = n.oid) AS whole
  FROM pg_namespace n
  WHERE n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
),
objects (step, class, oid, schema, owner, kind, name) AS (
  SELECT 10, 'pg_operator'::regclass, oid, oprnamespace, oprowner, 'OPERATOR',
    format('%s.%s (%s, %s)', oprnamespace::regnamespace, oprname,
      CASE oprleft WHEN 0 THEN 'NONE' ELSE format_type(oprleft, NULL) END,
      CASE oprright WHEN 0 THEN 'NONE' ELSE format_type(oprright, NULL) END)
  FROM pg_operator
  UNION ALL
  SELECT 11, 'pg_opclass'::regclass, c.oid, opcnamespace, opcowner, 'OPERATOR CLASS',
    format('%s.%I USING %I', opcnamespace::regnamespace, opcname, amname)
  FROM pg_opclass c JOIN pg_am a ON a.oid = c.opcmethod
  UNION ALL
  SELECT 11, 'pg_opfamily'::regclass, f.oid, opfnamespace, opfowner, 'OPERATOR FAMILY',
    format('%s.%I USING %I', opfnamespace::regnamespace, opfname, amname)
  FROM pg_opfamily f JOIN pg_am a ON a.oid = f.opfmethod
  UNION ALL
  SELECT 12, 'pg_proc'::regclass, oid, pronamespace, proowner,
    CASE prokind WHEN 'p' THEN 'PROCEDURE' WHEN 'a' THEN 'AGGREGATE' ELSE 'FUNCTION' END,
    format('%s.%I(%s)', pronamespace::regnamespace, proname,
      CASE WHEN prokind = 'a' AND pronargs = 0 THEN '*' ELSE pg_get_function_identity_arguments(oid) END)
  FROM pg_proc
  UNION ALL
  SELECT 13, 'pg_statistic_ext'::regclass, oid, stxnamespace, stxowner, 'STATISTICS',
    format('%s.%I', stxnamespace::regnamespace, stxname)
  FROM pg_statistic_ext
  UNION ALL
  SELECT 14, 'pg_ts_config'::regclass, oid, cfgnamespace, cfgowner, 'TEXT SEARCH CONFIGURATION',
    format('%s.%I', cfgnamespace::regnamespace, cfgname)
  FROM pg_ts_config
  UNION ALL
  SELECT 14, 'pg_ts_dict'::regclass, oid, dictnamespace, dictowner, 'TEXT SEARCH DICTIONARY',
    format('%s.%I', dictnamespace::regnamespace, dictname)
  FROM pg_ts_dict
  UNION ALL
  SELECT 14, 'pg_ts_parser'::regclass, oid, prsnamespace, 10, 'TEXT SEARCH PARSER',
    format('%s.%I', prsnamespace::regnamespace, prsname)
  FROM pg_ts_parser
  UNION ALL
  SELECT 14, 'pg_ts_template'::regclass, oid, tmplnamespace, 10, 'TEXT SEARCH TEMPLATE',
    format('%s.%I', tmplnamespace::regnamespace, tmplname)
  FROM pg_ts_template
  UNION ALL
  SELECT 15, 'pg_collation'::regclass, oid, collnamespace, collowner, 'COLLATION',
    format('%s.%I', collnamespace::regnamespace, collname)
  FROM pg_collation
  UNION ALL
  SELECT 15, 'pg_conversion'::regclass, oid, connamespace, conowner, 'CONVERSION',
    format('%s.%I', connamespace::regnamespace, conname)
  FROM pg_conversion
  UNION ALL
  -- Indexes move with their table, and so does a sequence that belongs to a column.
  SELECT 20, 'pg_class'::regclass, c.oid, relnamespace, relowner,
    CASE relkind WHEN 'v' THEN 'VIEW' WHEN 'm' THEN 'MATERIALIZED VIEW' WHEN 'f' THEN 'FOREIGN TABLE'
      WHEN 'S' THEN 'SEQUENCE' WHEN 'c' THEN 'TYPE' ELSE 'TABLE' END,
    format('%s.%I', relnamespace::regnamespace, relname)
  FROM pg_class c
  WHERE relkind IN ('r', 'p', 'v', 'm', 'f', 'c')
    OR (relkind = 'S' AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid
      AND d.deptype IN ('a', 'i') AND d.refclassid = 'pg_class'::regclass))
  UNION ALL
  -- The row type of a table and the array type of any type move along; the multirange type of a range does not.
  SELECT 21, 'pg_type'::regclass, oid, typnamespace, typowner, CASE typtype WHEN 'd' THEN 'DOMAIN' ELSE 'TYPE' END,
    format('%s.%I', typnamespace::regnamespace, typname)
  FROM pg_type t
  WHERE typtype <> 'c' AND NOT EXISTS (SELECT FROM pg_type e WHERE e.typarray = t.oid)
),
-- The functions that make a range's values belong to the first superuser, whoever has made the range.
of_range AS (
  SELECT d.objid, format('%s.%I', t.typnamespace::regnamespace, t.typname) AS type
  FROM pg_depend d JOIN pg_type t ON t.oid = d.refobjid
  WHERE d.classid = 'pg_proc'::regclass AND d.refclassid = 'pg_type'::regclass AND d.deptype = 'i'
),
moved AS (
  SELECT o.step, o.oid, o.kind, o.name, o.owner, s.aside, s.nspowner, r.type
  FROM objects o JOIN schemas s ON s.oid = o.schema AND NOT s.whole
    LEFT JOIN of_range r ON o.class = 'pg_proc'::regclass AND r.objid = o.oid
  WHERE NOT EXISTS (SELECT FROM of_extension e WHERE e.classid = o.class AND e.objid = o.oid)
),
rights AS (
  SELECT has_database_privilege(current_database(), 'CREATE') AS makes_schemas, current_setting('is_superuser') = 'on' AS superuser
),
-- What lies in no schema keeps its place in the catalog and gets another name. It must also cease to act upon the new objects.
-- An object that only a superuser can make, and that belongs to another role, stays as it is: see left_alone in in-place.sh.
no_schema (class, kind, oid, name, owner, stop) AS (
  SELECT 'pg_publication'::regclass, 'PUBLICATION', oid, pubname, pubowner, ''
  FROM pg_publication WHERE NOT puballtables OR pg_has_role(pubowner, 'USAGE')
  UNION ALL
  SELECT 'pg_foreign_server'::regclass, 'SERVER', oid, srvname, srvowner, ''
  FROM pg_foreign_server WHERE pg_has_role(srvowner, 'USAGE')
  UNION ALL
  SELECT 'pg_event_trigger'::regclass, 'EVENT TRIGGER', oid, evtname, evtowner, format('ALTER EVENT TRIGGER %I DISABLE', evtname)
  FROM pg_event_trigger, rights WHERE superuser
  UNION ALL
  -- Its oid is not for everyone to read, and no extension has one.
  SELECT 'pg_subscription'::regclass, 'SUBSCRIPTION', 0, subname, subowner, format('ALTER SUBSCRIPTION %I DISABLE', subname)
  FROM pg_subscription WHERE pg_has_role(subowner, 'USAGE')
    AND subdbid = (SELECT oid FROM pg_database WHERE datname = current_database())
),
renamed AS (
  SELECT r.*, CASE WHEN octet_length(name) <= 40 THEN name ELSE left(name, 8) || '_' || left(md5(name), 8) END
    || '_before_' || :'moment' AS new_name
  FROM no_schema r
  WHERE NOT EXISTS (SELECT FROM of_extension e WHERE e.classid = r.class AND e.objid = r.oid)
),
-- A cast between two types that stay can be neither moved nor renamed.
casts AS (
  SELECT c.oid, format_type(castsource, NULL) AS source, format_type(casttarget, NULL) AS target
  FROM pg_cast c, rights
  WHERE superuser AND c.oid >= 16384
    AND NOT EXISTS (SELECT FROM of_extension e WHERE e.classid = 'pg_cast'::regclass AND e.objid = c.oid)
    AND NOT EXISTS (SELECT FROM pg_type t JOIN pg_namespace n ON n.oid = typnamespace
      WHERE t.oid IN (castsource, casttarget) AND nspname NOT IN ('pg_catalog', 'information_schema')
        AND NOT EXISTS (SELECT FROM of_extension e WHERE e.classid = 'pg_type'::regclass AND e.objid = t.oid))
)
-- Event triggers first: they would see all that follows.
SELECT CASE kind WHEN 'EVENT TRIGGER' THEN 0 ELSE 2 END AS step, oid AS object, stop AS statement, '' AS obstacle, '' AS aside
FROM renamed WHERE stop <> ''
UNION ALL
SELECT 1, 0, format('CREATE SCHEMA %I', aside) || CASE WHEN pg_has_role(nspowner, 'USAGE')
    THEN format(' AUTHORIZATION %I', pg_get_userbyid(nspowner)) ELSE '' END,
  CASE WHEN makes_schemas THEN '' ELSE format('role %I may not create a schema in this database', current_user) END,
  aside
FROM (SELECT DISTINCT aside, nspowner FROM moved) m, rights
UNION ALL
SELECT 2, oid, format('DROP CAST (%s AS %s)', source, target), '', '' FROM casts
UNION ALL
SELECT step, oid, format('ALTER %s %s SET SCHEMA %I', kind, name, aside),
  CASE WHEN pg_has_role(owner, 'USAGE') THEN ''
    WHEN type IS NOT NULL THEN format('range type %s: only a superuser can move its functions', type)
    ELSE format('%s %s belongs to role %I', lower(kind), name, pg_get_userbyid(owner)) END,
  aside
FROM moved
UNION ALL
-- Dropping what was set aside would drop the event trigger, which only a superuser can make again.
SELECT 3, t.oid, '', format('event trigger %I of role %I calls function %s', evtname, pg_get_userbyid(evtowner), evtfoid::regprocedure), ''
FROM pg_event_trigger t JOIN pg_proc p ON p.oid = evtfoid, rights
WHERE NOT superuser AND EXISTS (SELECT FROM schemas s WHERE s.oid = pronamespace)
  AND NOT EXISTS (SELECT FROM of_extension e WHERE e.classid = 'pg_proc'::regclass AND e.objid = p.oid)
UNION ALL
-- So it would drop a cast between types that stay, and a foreign data wrapper.
SELECT 3, p.oid, '', format('%s of a superuser calls function %s', what, p.oid::regprocedure), ''
FROM rights, pg_proc p JOIN (
  SELECT castfunc AS function, format('cast (%s AS %s)', format_type(castsource, NULL), format_type(casttarget, NULL)) AS what
  FROM pg_cast c WHERE c.oid >= 16384 AND NOT EXISTS (SELECT FROM of_extension e WHERE e.classid = 'pg_cast'::regclass AND e.objid = c.oid)
    AND NOT EXISTS (SELECT FROM pg_type t JOIN schemas s ON s.oid = typnamespace
      WHERE t.oid IN (castsource, casttarget) AND NOT EXISTS (SELECT FROM of_extension e WHERE e.classid = 'pg_type'::regclass AND e.objid = t.oid))
  UNION ALL
  SELECT unnest(ARRAY[fdwhandler, fdwvalidator]), format('foreign data wrapper %I', fdwname) FROM pg_foreign_data_wrapper
) caller ON caller.function = p.oid
WHERE NOT superuser AND EXISTS (SELECT FROM schemas s WHERE s.oid = pronamespace)
  AND NOT EXISTS (SELECT FROM of_extension e WHERE e.classid = 'pg_proc'::regclass AND e.objid = p.oid)
UNION ALL
SELECT 30, oid, format('ALTER SCHEMA %I RENAME TO %I', nspname, aside),
  CASE WHEN makes_schemas THEN '' ELSE format('role %I may not rename schema %I', current_user, nspname) END,
  aside
FROM schemas, rights WHERE whole
UNION ALL
SELECT 40, oid, format('ALTER %s %I RENAME TO %I', kind, name, new_name),
  CASE WHEN pg_has_role(owner, 'USAGE') AND (makes_schemas OR kind NOT IN ('PUBLICATION', 'SUBSCRIPTION')) THEN ''
    ELSE format('%s %I belongs to role %I', lower(kind), name, pg_get_userbyid(owner)) END,
  ''
FROM renamed, rights
