-- Give the database, and what this superuser owns in it, to psql's variable `owner`: all that was restored and that another
-- role can own.
--
-- What an extension owns stays with it, what only a superuser can own (event triggers, foreign-data wrappers, languages,
-- publications of all tables or of schemas) stays with the superuser, and what a restore in place has set aside stays as it was.
-- psql's variable `moment` is YYYYMMDD_HHMMSS. The search_path must be pg_catalog, pg_temp.
SELECT format('ALTER DATABASE %I OWNER TO %I', current_database(), :'owner')
\gexec

SELECT format('ALTER %s %s OWNER TO %I', CASE class
    WHEN 'pg_proc'::regclass THEN 'ROUTINE'
    WHEN 'pg_type'::regclass THEN 'TYPE'
    WHEN 'pg_statistic_ext'::regclass THEN 'STATISTICS'
    ELSE upper(o.type) END,
  o.identity, :'owner')
FROM (
  -- An index belongs to its table's owner, and so does a sequence that belongs to a column, and a row type.
  SELECT 'pg_class'::regclass AS class, oid, relowner AS owner FROM pg_class c
  WHERE relkind IN ('r', 'p', 'v', 'm', 'f') OR (relkind = 'S' AND NOT EXISTS (SELECT FROM pg_depend d
    WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype IN ('a', 'i') AND d.refclassid = 'pg_class'::regclass))
  UNION ALL SELECT 'pg_type'::regclass, t.oid, typowner FROM pg_type t LEFT JOIN pg_class c ON c.oid = typrelid
  WHERE typtype <> 'm' AND coalesce(relkind, 'c') = 'c' AND NOT EXISTS (SELECT FROM pg_type e WHERE e.typarray = t.oid)
  UNION ALL SELECT 'pg_proc'::regclass, oid, proowner FROM pg_proc
  UNION ALL SELECT 'pg_namespace'::regclass, oid, nspowner FROM pg_namespace
  UNION ALL SELECT 'pg_operator'::regclass, oid, oprowner FROM pg_operator
  UNION ALL SELECT 'pg_opclass'::regclass, oid, opcowner FROM pg_opclass
  UNION ALL SELECT 'pg_opfamily'::regclass, oid, opfowner FROM pg_opfamily
  UNION ALL SELECT 'pg_collation'::regclass, oid, collowner FROM pg_collation
  UNION ALL SELECT 'pg_conversion'::regclass, oid, conowner FROM pg_conversion
  UNION ALL SELECT 'pg_statistic_ext'::regclass, oid, stxowner FROM pg_statistic_ext
  UNION ALL SELECT 'pg_ts_config'::regclass, oid, cfgowner FROM pg_ts_config
  UNION ALL SELECT 'pg_ts_dict'::regclass, oid, dictowner FROM pg_ts_dict
  UNION ALL SELECT 'pg_foreign_server'::regclass, oid, srvowner FROM pg_foreign_server
  UNION ALL SELECT 'pg_largeobject'::regclass, oid, lomowner FROM pg_largeobject_metadata
  UNION ALL SELECT 'pg_publication'::regclass, oid, pubowner FROM pg_publication WHERE NOT puballtables
) own CROSS JOIN LATERAL pg_identify_object(class, oid, 0) o
WHERE (own.oid >= 16384 OR class = 'pg_largeobject'::regclass OR o.identity = 'public') AND own.owner = current_user::regrole AND :'owner' <> current_user
  AND coalesce(o.schema, '') !~ ('^pg_|_before_' || :'moment' || '$') AND coalesce(o.name, '') !~ ('_before_' || :'moment' || '$')
  AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.deptype = 'e' AND d.objid = own.oid AND d.classid = class)
  -- What belongs to another object, such as the functions of a range type.
  AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.deptype = 'i' AND d.classid = class AND d.objid = own.oid AND class = 'pg_proc'::regclass)
ORDER BY class::oid, own.oid
\gexec
