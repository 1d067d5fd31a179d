-- While an archive is restored: give each function that has none a search_path, and take away checks that call functions. The
-- answer is the statements that take both back. See careful.sh.
--
-- psql's variables: `path`, the search_path as SQL, or empty for each function's own schema and public; `moment`, that of a
-- restore in place, whose set-aside schemas are left alone. The search_path of this session must be pg_catalog, pg_temp.
CREATE TEMP VIEW functions AS
SELECT p.oid::regprocedure::text AS name, nspname, CASE prokind WHEN 'p' THEN 'PROCEDURE' ELSE 'FUNCTION' END AS kind
FROM pg_proc p JOIN pg_namespace n ON n.oid = pronamespace JOIN pg_language l ON l.oid = prolang
WHERE p.oid >= 16384 AND lanname IN ('sql', 'plpgsql') AND prokind IN ('f', 'p') AND nspname !~ '^pg_'
  AND pg_has_role(proowner, 'USAGE') AND (to_jsonb(p) ->> 'prosqlbody') IS NULL
  AND NOT EXISTS (SELECT FROM unnest(proconfig) AS u (setting) WHERE starts_with(setting, 'search_path='))
  AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e');

CREATE TEMP VIEW checks AS
SELECT c.oid, conname, coninhcount, pg_get_constraintdef(c.oid) AS definition, obj_description(c.oid, 'pg_constraint') AS comment, nspname,
  CASE WHEN conrelid <> 0 THEN format('TABLE %s', conrelid::regclass) ELSE format('DOMAIN %s', contypid::regtype) END AS place
FROM pg_constraint c LEFT JOIN pg_class t ON t.oid = conrelid LEFT JOIN pg_type d ON d.oid = contypid
  JOIN pg_namespace n ON n.oid = connamespace
WHERE contype = 'c' AND convalidated AND conislocal AND pg_has_role(coalesce(t.relowner, d.typowner), 'USAGE')
  AND NOT EXISTS (SELECT FROM pg_depend e WHERE e.deptype = 'e'
    AND (e.classid = 'pg_class'::regclass AND e.objid = conrelid OR e.classid = 'pg_type'::regclass AND e.objid = contypid))
  AND EXISTS (SELECT FROM pg_depend u WHERE u.classid = 'pg_constraint'::regclass AND u.objid = c.oid
    AND u.refclassid = 'pg_proc'::regclass AND u.refobjid >= 16384);

-- The checks come back first: they need their functions. One that the rows do not meet comes back as NOT VALID, for the rows are
-- what the database held when it was dumped. A parent's check comes before that of its child.
SELECT statement FROM (
  SELECT 1 AS step, coninhcount, c.oid, format('DO %L;', format(
    'BEGIN EXECUTE %L; EXCEPTION WHEN check_violation OR feature_not_supported THEN EXECUTE %L; RAISE WARNING %L, SQLERRM; END',
    format('ALTER %s ADD CONSTRAINT %I %s', place, conname, definition),
    format('ALTER %s ADD CONSTRAINT %I %s NOT VALID', place, conname, definition),
    'cnpg-backup: the check ' || replace(format('%I of %s', conname, place), '%', '%%') || ' is restored as NOT VALID: %')) AS statement
  FROM checks c WHERE nspname !~ ('_before_' || :'moment' || '$')
  UNION ALL
  SELECT 2, coninhcount, c.oid, format('COMMENT ON CONSTRAINT %I ON %s IS %L;', conname, regexp_replace(place, '^TABLE ', ''), comment)
  FROM checks c WHERE comment IS NOT NULL AND nspname !~ ('_before_' || :'moment' || '$')
  UNION ALL
  SELECT 3, 0, 0, format('ALTER %s %s RESET search_path;', kind, name) FROM functions WHERE nspname !~ ('_before_' || :'moment' || '$')
) back ORDER BY step, coninhcount, oid;

SELECT format('ALTER %s %s SET search_path = %s, pg_temp', kind, name, CASE :'path' WHEN '' THEN format('%I, public', nspname) ELSE :'path' END)
FROM functions WHERE nspname !~ ('_before_' || :'moment' || '$')
UNION ALL
SELECT format('ALTER %s DROP CONSTRAINT IF EXISTS %I', place, conname) FROM checks WHERE nspname !~ ('_before_' || :'moment' || '$')
\gexec
DROP VIEW pg_temp.functions, pg_temp.checks;
