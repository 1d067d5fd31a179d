-- What of this database pg_restore cannot restore as it is, because it sets an empty search_path and restores table by table: one
-- sentence a row, at most ten. Only the catalog is read, and of functions only those that a restore calls.
--
-- A function counts if it is SQL or PL/pgSQL in a string, without a search_path of its own, and its text names a table, a type or
-- a function of the user's (or of an extension's) without its schema. Its text is compared without comments and strings.
-- psql's search_path must be pg_catalog, pg_temp.
WITH RECURSIVE
of_user AS (
  SELECT oid, nspname FROM pg_namespace WHERE nspname !~ '^pg_' AND nspname <> 'information_schema'
),
of_extension AS (
  SELECT classid, objid FROM pg_depend WHERE deptype = 'e' AND refclassid = 'pg_extension'::regclass
),
-- What is evaluated while an archive is restored: checks, generated columns, indexes, partition keys, materialized views.
evaluated (classid, objid, what, late) AS (
  SELECT 'pg_constraint'::regclass::oid, c.oid,
    CASE WHEN conrelid <> 0 THEN format('check %I of table %s', conname, conrelid::regclass)
      ELSE format('check %I of domain %s', conname, contypid::regtype) END, true
  FROM pg_constraint c JOIN of_user n ON n.oid = connamespace WHERE contype = 'c' AND convalidated AND coninhcount = 0
  UNION ALL
  SELECT 'pg_attrdef'::regclass, d.oid, format('generated column %I of table %s', attname, adrelid::regclass), false
  FROM pg_attrdef d JOIN pg_attribute a ON attrelid = adrelid AND attnum = adnum
    JOIN pg_class c ON c.oid = adrelid JOIN of_user n ON n.oid = relnamespace
  WHERE attgenerated <> '' AND attinhcount = 0
  UNION ALL
  SELECT 'pg_class'::regclass, c.oid, CASE relkind WHEN 'p' THEN format('partition key of table %s', c.oid::regclass)
    ELSE format('index %s', c.oid::regclass) END, false
  FROM pg_class c JOIN of_user n ON n.oid = relnamespace
  WHERE relkind IN ('i', 'I', 'p') AND NOT relispartition
  UNION ALL
  SELECT 'pg_rewrite'::regclass, r.oid, format('materialized view %s', c.oid::regclass), false
  FROM pg_rewrite r JOIN pg_class c ON c.oid = ev_class JOIN of_user n ON n.oid = relnamespace
  WHERE relkind = 'm' AND relispopulated
),
-- The functions that they call: by name, by an operator, by a view in between, or by another function whose calls are known.
calls (classid, objid, what, late, function) AS (
  SELECT e.classid, e.objid, what, late, CASE d.refclassid WHEN 'pg_proc'::regclass THEN d.refobjid
      WHEN 'pg_operator'::regclass THEN (SELECT oprcode FROM pg_operator o WHERE o.oid = d.refobjid)::oid END
  FROM evaluated e JOIN pg_depend d ON d.classid = e.classid AND d.objid = e.objid
  WHERE d.refclassid IN ('pg_proc'::regclass, 'pg_operator'::regclass) AND d.refobjid >= 16384
  UNION
  SELECT v.classid, v.objid, what, late, CASE d.refclassid WHEN 'pg_proc'::regclass THEN d.refobjid
      WHEN 'pg_operator'::regclass THEN (SELECT oprcode FROM pg_operator o WHERE o.oid = d.refobjid)::oid END
  FROM (
    WITH RECURSIVE views (classid, objid, what, late, rule) AS (
      SELECT classid, objid, what, late, objid FROM evaluated WHERE classid = 'pg_rewrite'::regclass
      UNION
      SELECT v.classid, v.objid, what, late, r.oid FROM views v
        JOIN pg_depend d ON d.classid = 'pg_rewrite'::regclass AND d.objid = v.rule AND d.refclassid = 'pg_class'::regclass
        JOIN pg_class c ON c.oid = d.refobjid AND relkind = 'v' JOIN pg_rewrite r ON ev_class = c.oid
    )
    SELECT * FROM views
  ) v JOIN pg_depend d ON d.classid = 'pg_rewrite'::regclass AND d.objid = v.rule
  WHERE d.refclassid IN ('pg_proc'::regclass, 'pg_operator'::regclass) AND d.refobjid >= 16384
  UNION
  SELECT c.classid, c.objid, what, late, d.refobjid
  FROM calls c JOIN pg_depend d ON d.classid = 'pg_proc'::regclass AND d.objid = c.function
    AND d.refclassid = 'pg_proc'::regclass AND d.deptype = 'n' AND d.refobjid >= 16384
),
texts AS (
  SELECT p.oid, p.oid::regprocedure AS function, lanname,
    EXISTS (SELECT FROM unnest(proconfig) AS u (setting) WHERE starts_with(setting, 'search_path=')) OR prosrc ~* 'search_path' AS has_path,
    -- Without comments, then without strings; in lower case outside quotes, as SQL reads it.
    regexp_replace(regexp_replace(regexp_replace(prosrc, '--[^\n]*', ' ', 'g'), '/[*].*?[*]/', ' ', 'g'), '''[^'']*''', ' '' ', 'g') AS body,
    CASE lanname WHEN 'plpgsql' THEN substring(lower(prosrc), '\ydeclare\y(.*)\ybegin\y') END AS declared
  FROM pg_proc p JOIN pg_language l ON l.oid = prolang
  WHERE p.oid IN (SELECT function FROM calls) AND lanname IN ('sql', 'plpgsql') AND (to_jsonb(p) ->> 'prosqlbody') IS NULL
    AND NOT EXISTS (SELECT FROM of_extension e WHERE e.classid = 'pg_proc'::regclass AND e.objid = p.oid)
),
-- Every name after a word that a table follows, with its schema if it has one.
read AS (
  SELECT t.oid, lower(m[1]) AS word, coalesce(m[2], lower(m[3])) AS schema, coalesce(m[4], lower(m[5])) AS name, m[6] AS after
  FROM texts t, regexp_matches(t.body,
    '\y(from|join|insert\s+into|update)\s+(?:only\s+)?(?:(?:"((?:[^"]|"")+)"|([a-z_]\w*))\s*[.]\s*)?(?:"((?:[^"]|"")+)"|([a-z_]\w*))(?!\w)\s*([.(])?', 'gi') m
  WHERE m[6] IS NULL OR (m[6] = '(' AND lower(m[1]) ~ '^insert')
),
tables AS (
  SELECT r.oid, r.schema, c.oid::regclass AS relation
  FROM read r JOIN texts t USING (oid) JOIN pg_class c ON relname = r.name AND relkind IN ('r', 'p', 'v', 'm', 'f') JOIN of_user n ON n.oid = relnamespace
  WHERE (r.schema IS NULL OR r.schema = nspname)
    -- Not a name that a WITH of the same text gives, nor EXTRACT (… FROM name) and IS DISTINCT FROM name.
    AND NOT (r.schema IS NULL AND t.body ~* ('\y"?' || regexp_replace(r.name, '(\W)', '\\\1', 'g') || '"?(\s*[(][^)]*[)])?\s+as\s+(not\s+|materialized\s+)*[(]'))
    AND NOT (r.schema IS NULL AND t.body ~* ('(distinct|(extract|trim|substring|overlay)\s*[(][^()]*)\s+from\s+' || regexp_replace(r.name, '(\W)', '\\\1', 'g') || '\y'))
),
unqualified AS (
  SELECT oid, format('table %s', min(relation::text)) AS names FROM tables WHERE schema IS NULL GROUP BY oid
  UNION ALL
  -- A call of a function that pg_catalog has none of: name ( … ), but not schema.name ( … ), nor the columns of INSERT INTO name ( … ).
  SELECT t.oid, format('function %s', min(p.oid::regproc::text))
  FROM texts t, regexp_matches(t.body, '(?:^|[^\w.$"])(?:"((?:[^"]|"")+)"|([a-z_]\w*))\s*[(]', 'gi') m
    JOIN pg_proc p ON proname = coalesce(m[1], lower(m[2])) JOIN of_user n ON n.oid = pronamespace
  WHERE NOT EXISTS (SELECT FROM pg_proc c WHERE c.proname = p.proname AND c.pronamespace = 'pg_catalog'::regnamespace)
    AND t.body !~* ('\yinto\s+' || coalesce(m[1], m[2]) || '\s*[(]')
  GROUP BY t.oid
  UNION ALL
  -- A type: value::name, CAST (value AS name), a declared variable, or %ROWTYPE and %TYPE.
  SELECT used.oid, format('type %s', min(y.oid::regtype::text))
  FROM (
    SELECT oid, m[1] AS name FROM texts t, regexp_matches(t.body, '(?:::\s*|\ycast\s*[(][^()]*\yas\s+)("[^"]+"|[a-z_]\w*)(?!\w|\s*[.])', 'gi') m
    UNION
    SELECT oid, m[1] FROM texts t, regexp_matches(t.declared, '[a-z_"]\s+(?:constant\s+)?("[^"]+"|[a-z_]\w*)\s*(?:\[\]|\(\d+\))?\s*(?:;|:=|=|default\y|not null\y|%rowtype|[.]\w+%type)', 'gi') m
  ) used JOIN pg_type y ON typname = CASE WHEN left(name, 1) = '"' THEN trim(name, '"') ELSE lower(name) END
    JOIN of_user n ON n.oid = typnamespace
  WHERE NOT EXISTS (SELECT FROM pg_type c WHERE c.typname = y.typname AND c.typnamespace = 'pg_catalog'::regnamespace)
  GROUP BY used.oid
)
SELECT translate(left(sentence, 400), E'\n\r\t', '   ') FROM (
  SELECT 1 AS rank, what, format('%s calls %s, which finds %s only through a search_path, and pg_restore sets none: ALTER FUNCTION %s SET search_path = …',
    what, t.function, (SELECT min(names) FROM unqualified u WHERE u.oid = t.oid), t.function) AS sentence
  FROM calls JOIN texts t ON t.oid = calls.function
  WHERE NOT has_path AND EXISTS (SELECT FROM unqualified u WHERE u.oid = t.oid)
  UNION
  SELECT 2, what, format('%s reads table %s through %s; a restore may check it before those rows are there: make it NOT VALID, or a trigger',
    what, (SELECT min(relation::text) FROM tables b WHERE b.oid = t.oid), t.function)
  FROM calls JOIN texts t ON t.oid = calls.function
  WHERE late AND EXISTS (SELECT FROM tables b WHERE b.oid = t.oid) AND (has_path OR NOT EXISTS (SELECT FROM unqualified u WHERE u.oid = t.oid))
) found ORDER BY rank, what, sentence LIMIT 10;
