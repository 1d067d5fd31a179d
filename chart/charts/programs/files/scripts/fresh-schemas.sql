-- Inside the transaction of a restore in place, once all that was there is set aside: what a new database would have, and
-- nothing that would change the restored objects. The archive then adds what is its own.
-- psql's variables: `moment`, as in set-aside.sql; `public`, which is `usual` if the archive does not make that schema itself.

-- `public` as initdb makes it, unless the archive makes it itself: of the usual one, an archive holds only what differs.
SELECT CASE WHEN to_regnamespace('public') IS NULL THEN 'CREATE SCHEMA public' || coalesce(' AUTHORIZATION ' || usual, '')
  ELSE 'ALTER SCHEMA public OWNER TO ' || usual END
FROM (SELECT quote_ident(rolname) AS usual FROM (VALUES (1)) one LEFT JOIN pg_roles ON pg_has_role(oid, 'USAGE')
  AND CASE WHEN current_setting('server_version_num')::int >= 150000 THEN rolname = 'pg_database_owner' ELSE oid = 10 END) owner
WHERE :'public' = 'usual' AND (to_regnamespace('public') IS NULL OR usual IS NOT NULL AND NOT EXISTS (SELECT FROM pg_namespace
  WHERE nspname = 'public' AND (quote_ident(pg_get_userbyid(nspowner)) = usual OR NOT pg_has_role(nspowner, 'USAGE'))))
\gexec

-- Rights on the schemas that stay. Those of extensions are not ours to change.
SELECT format('REVOKE ALL ON SCHEMA %I FROM %s', nspname, CASE grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(grantee)) END)
FROM (SELECT DISTINCT n.nspname, n.nspowner, a.grantee FROM pg_namespace n, aclexplode(n.nspacl) a
  WHERE n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' AND n.nspname !~ ('_before_' || :'moment' || '$')
    AND pg_has_role(n.nspowner, 'USAGE') AND a.grantee <> n.nspowner
    AND NOT EXISTS (SELECT FROM pg_depend d
      WHERE d.classid = 'pg_namespace'::regclass AND d.objid = n.oid AND d.deptype = 'e')) granted
UNION ALL
SELECT format('GRANT %s ON SCHEMA public TO PUBLIC', CASE WHEN current_setting('server_version_num')::int >= 150000 THEN 'USAGE' ELSE 'ALL' END)
FROM pg_namespace WHERE nspname = 'public' AND pg_has_role(nspowner, 'USAGE')
UNION ALL
-- What an extension gave on the schema that was made for it: an archive holds only what differs from that.
SELECT format('GRANT %s ON SCHEMA %I TO %s', privilege_type, nspname,
  CASE grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(grantee)) END)
FROM pg_namespace n JOIN pg_init_privs i ON i.classoid = 'pg_namespace'::regclass AND i.objoid = n.oid AND privtype = 'e',
  aclexplode(initprivs)
WHERE pg_has_role(nspowner, 'USAGE') AND grantee <> nspowner AND (grantee = 0 OR grantee IN (SELECT oid FROM pg_roles))
  AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_namespace'::regclass AND d.objid = n.oid AND d.deptype = 'e')
\gexec

-- Comments on these schemas, too.
SELECT format('COMMENT ON SCHEMA %I IS %L', nspname, CASE nspname WHEN 'public' THEN 'standard public schema' END)
FROM pg_namespace n
WHERE nspname !~ '^pg_' AND nspname <> 'information_schema' AND nspname !~ ('_before_' || :'moment' || '$')
  AND pg_has_role(nspowner, 'USAGE') AND NOT EXISTS (SELECT FROM pg_depend d
    WHERE d.classid = 'pg_namespace'::regclass AND d.objid = n.oid AND d.deptype = 'e')
\gexec

-- Default privileges would give rights to the restored objects that the archive does not name.
WITH defaults AS (
  SELECT d.oid, defaclrole, defaclnamespace, pg_get_userbyid(defaclrole) AS role,
    CASE WHEN defaclnamespace <> 0 THEN format('IN SCHEMA %s', defaclnamespace::regnamespace) ELSE '' END AS place,
    CASE defaclobjtype WHEN 'r' THEN 'TABLES' WHEN 'S' THEN 'SEQUENCES' WHEN 'f' THEN 'FUNCTIONS' WHEN 'T' THEN 'TYPES'
      WHEN 'n' THEN 'SCHEMAS' ELSE 'LARGE OBJECTS' END AS objects,
    defaclacl, acldefault(CASE defaclobjtype WHEN 'S' THEN 's' ELSE defaclobjtype END, defaclrole) AS usual
  FROM pg_default_acl d
  WHERE pg_has_role(defaclrole, 'USAGE')
    AND coalesce((SELECT nspname FROM pg_namespace n WHERE n.oid = defaclnamespace), '') !~ ('_before_' || :'moment' || '$')
),
changes AS (
  SELECT 1 AS step, role, place, objects, 'REVOKE' AS verb, 'FROM' AS word, grantee FROM defaults, aclexplode(defaclacl)
  UNION
  SELECT 2, role, place, objects, 'GRANT', 'TO', grantee FROM defaults, aclexplode(usual) WHERE defaclnamespace = 0
)
SELECT format('ALTER DEFAULT PRIVILEGES FOR ROLE %I %s %s ALL ON %s %s %s', role, place, verb, objects, word,
  CASE grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(grantee)) END)
FROM changes ORDER BY step
\gexec
