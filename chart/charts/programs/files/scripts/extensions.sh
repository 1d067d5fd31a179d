#!/bin/sh
# Without comments: they are in the project's file of this name.
read_extensions() {
  : >"$BACKUP_RUN/extension-schemas"
  [ -s "$BACKUP_RUN/extensions" ] || return 0
  awk '$4 == "EXTENSION"' "$list" >"$list.extensions"
  run pg_restore -f "$BACKUP_RUN/extensions.sql" -L "$list.extensions" "$archive" || unreadable
  sed -n 's/^CREATE EXTENSION IF NOT EXISTS \(.*\) WITH SCHEMA \(.*\);$/\1'"$separator"'\2/p' "$BACKUP_RUN/extensions.sql" |
    sed 's/^"\(.*\)"'"$separator/\\1$separator/; s/$separator"'"\(.*\)"$/'"$separator"'\1/; s/""/"/g' >"$BACKUP_RUN/extension-schemas"
}

choose_way_for_extensions() {
  read_extensions
  [ "$way" = beside ] && [ -s "$BACKUP_RUN/extensions" ] || return 0
  place_cron
  [ "$superuser" = f ] && [ -n "$exists" ] && [ "$way_wanted" = auto ] && [ -z "$tables_wanted$schemas_wanted" ] || return 0
  ask "$target" <<SQL || fail_with_stderr "the extensions of '$target' cannot be read"
SELECT string_agg(quote_literal(w.name), ', ' ORDER BY w.name) FROM (VALUES $(values_of "$BACKUP_RUN/extensions")) w (name)
  JOIN pg_extension e ON e.extname = w.name
  JOIN pg_available_extensions a ON a.name = w.name
  JOIN pg_available_extension_versions v ON v.name = a.name AND v.version = a.default_version
WHERE v.superuser AND NOT v.trusted
SQL
  IFS= read -r extension <"$facts"
  [ -n "$extension" ] || return 0
  way='in-place'
  report "only a superuser can create extension $extension in a new database, so the one that is there is kept"
}

place_cron() {
  [ "$superuser" = t ] && grep -qx pg_cron "$BACKUP_RUN/extensions" || return 0
  ask "$maintenance" -v target="$target" <<'SQL' || fail_with_stderr "the server's settings cannot be read"
SELECT coalesce((SELECT setting FROM pg_settings WHERE name = 'cron.database_name'), ''),
  coalesce((SELECT setting = :'target' FROM pg_settings WHERE name = 'cron.database_name'), false)
SQL
  IFS=$separator read -r cron_database is_cron_database <"$facts"
  if [ "$is_cron_database" = t ]; then
    [ -n "$exists" ] || fail "extension 'pg_cron' can only be created in '$target', and not in a new database that is renamed later" \
      "create '$target' empty, then restore again: it is then restored in place"
    [ "$way_wanted" = auto ] || fail "extension 'pg_cron' can only be in database '$target' itself, and RESTORE_WAY=beside" \
      "leave out RESTORE_WAY: the restore is then in place"
    [ -z "$tables_wanted$schemas_wanted" ] || fail "a selection of tables needs a new database, and extension 'pg_cron' can only be in '$target'" \
      "set RESTORE_INTO to the name of a new database"
    way='in-place'
    report "extension 'pg_cron' can only be in database '$target' itself, so this restore is in place"
    return
  fi
  [ "$target" != "$req_dbname" ] || fail "extension 'pg_cron' can only be in the database that cron.database_name names, which is '${cron_database:-not set}'" \
    "set cron.database_name to '$target' in the cluster's PostgreSQL parameters, and pg_cron in shared_preload_libraries; or set RESTORE_INTO to another name: pg_cron and its jobs are then left out"
  report "warning: extension 'pg_cron' and its jobs are left out: it can only be in the database that cron.database_name names"
  awk '!($4 == "EXTENSION" && $6 == "pg_cron") && !($4 == "COMMENT" && $6 == "EXTENSION" && $7 == "pg_cron") &&
    !/^[0-9]+; [0-9]+ [0-9]+ [A-Z ]+ cron / && !/^[0-9]+; [0-9]+ [0-9]+ ACL - SCHEMA cron /' "$list" >"$list.without"
  mv "$list.without" "$list"
  grep -vx pg_cron "$BACKUP_RUN/extensions" >"$BACKUP_RUN/extensions.rest" || :
  mv "$BACKUP_RUN/extensions.rest" "$BACKUP_RUN/extensions"
}

check_extensions() {
  [ -s "$BACKUP_RUN/extensions" ] || return 0
  in=$maintenance
  [ "$way" = beside ] || in=$target
  ask "$in" -v superuser="$superuser" -v way="$way" <<SQL || fail_with_stderr "the server's extensions cannot be read"
SELECT a.name IS NULL, string_agg(quote_literal(w.name), ', ' ORDER BY w.name)
FROM (VALUES $(values_of "$BACKUP_RUN/extensions")) w (name)
  LEFT JOIN pg_available_extensions a ON a.name = w.name
  LEFT JOIN pg_available_extension_versions v ON v.name = a.name AND v.version = a.default_version
WHERE NOT (:'way' = 'in-place' AND EXISTS (SELECT FROM pg_extension e WHERE e.extname = w.name))
  AND (a.name IS NULL OR NOT (:'superuser' = 't' OR v.trusted OR NOT v.superuser))
GROUP BY 1 ORDER BY 1 DESC LIMIT 1
SQL
  IFS=$separator read -r missing extension <"$facts" || return 0
  [ "$missing" = f ] ||
    fail "extension $extension is in the archive but not on the server" "use an image for the cluster that has it"
  fail "extension $extension is in the archive, and only a superuser may create it" \
    "set spec.enableSuperuserAccess of the cluster, which makes the superuser's Secret, or create it as superuser"
}

check_extensions_in_place() {
  [ -s "$BACKUP_RUN/extension-schemas" ] || return 0
  ask "$target" <<SQL || fail_with_stderr "the extensions of '$target' cannot be read"
WITH archived AS (
  SELECT split_part(line, chr(31), 1) AS name, split_part(line, chr(31), 2) AS schema
  FROM (VALUES $(values_of "$BACKUP_RUN/extension-schemas")) w (line)
)
SELECT format('extension %I is in schema %I, and the archive has it in %I', extname, nspname, schema),
  CASE WHEN extrelocatable AND pg_has_role(extowner, 'USAGE') THEN format('ALTER EXTENSION %I SET SCHEMA %I;', extname, schema) ELSE '' END
FROM archived JOIN pg_extension ON extname = name JOIN pg_namespace n ON n.oid = extnamespace
WHERE nspname <> schema
SQL
  awk -F "$separator" '$2 != "" { print $2 }' "$facts" >"$list.moves"
  awk -F "$separator" '$2 == "" { print $1 }' "$facts" >"$BACKUP_RUN/moved"
  if [ -s "$BACKUP_RUN/moved" ]; then
    fail "$(name_some "$BACKUP_RUN/moved"), and '$PGUSER' cannot move it" \
      "restore into a new database with the superuser's Secret (spec.enableSuperuserAccess of the cluster), or create the extension where it was"
  fi
  [ ! -s "$list.deletes" ] || check_references
}

check_references() {
  ask "$target" <<SQL || fail_with_stderr "the foreign keys of '$target' cannot be read"
SELECT format('foreign key %I of table %s refers to rows of extension table %s', conname, conrelid::regclass, confrelid::regclass)
FROM pg_constraint WHERE contype = 'f' AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = conrelid AND d.deptype = 'e')
  AND confrelid IN ($(cat "$list.deletes"))
SQL
  [ -s "$facts" ] || return 0
  mv "$facts" "$BACKUP_RUN/references"
  fail "$(name_some "$BACKUP_RUN/references"), which this restore would replace" \
    "restore beside, as superuser; or drop this foreign key, which the archive may bring back"
}

create_extensions_as_before() {
  [ "$superuser$exists$keep_owners" = tyesyes ] && [ -s "$BACKUP_RUN/extension-schemas" ] || return 0
  ask "$target" <<SQL || fail_with_stderr "the extensions of '$target' cannot be read"
WITH archived AS (
  SELECT split_part(line, chr(31), 1) AS name, split_part(line, chr(31), 2) AS schema
  FROM (VALUES $(values_of "$BACKUP_RUN/extension-schemas")) w (line)
)
SELECT format('SET ROLE %I; CREATE EXTENSION IF NOT EXISTS %I WITH SCHEMA %I; RESET ROLE;', pg_get_userbyid(extowner), extname, archived.schema),
  archived.schema = 'public'
FROM archived JOIN pg_extension ON extname = name
  JOIN pg_available_extensions a USING (name) JOIN pg_available_extension_versions v ON v.name = a.name AND v.version = a.default_version
WHERE v.trusted AND NOT (SELECT rolsuper FROM pg_roles r WHERE r.oid = extowner)
ORDER BY cardinality(v.requires) NULLS FIRST, extname
SQL
  mv "$facts" "$BACKUP_RUN/trusted"
  [ -s "$BACKUP_RUN/trusted" ] || return 0
  if grep -q "${separator}f\$" "$BACKUP_RUN/trusted"; then
    [ -e "$list.schemas" ] || awk '$4 == "SCHEMA"' "$list" >"$list.schemas"
    PGDATABASE=$new
    fill_entries -L "$list.schemas" || fail_with_stderr "pg_restore failed"
    awk '$4 != "SCHEMA"' "$list" >"$list.rest"
    mv "$list.rest" "$list"
  fi
  sed "s/${separator}[tf]\$//" "$BACKUP_RUN/trusted" | while IFS= read -r statement; do
    echo "$statement" | ask "$new" || :
  done
}

extension_rows() {
  cat <<SQL
SELECT translate(CASE relkind WHEN 'S' THEN 'SEQUENCE SET ' ELSE 'TABLE DATA ' END || nspname || ' ' || relname || ' ', E'\\n\\r"', '  '),
  CASE relkind WHEN 'S' THEN has_sequence_privilege(c.oid, 'UPDATE')
    ELSE has_table_privilege(c.oid, 'INSERT') AND has_table_privilege(c.oid, 'DELETE') AND NOT row_security_active(c.oid) END,
  CASE relkind WHEN 'S' THEN NULL ELSE c.oid END
FROM pg_extension e CROSS JOIN unnest(extconfig) AS relation
  JOIN pg_class c ON c.oid = relation JOIN pg_namespace n ON n.oid = relnamespace
UNION ALL
SELECT '', count(*) > 0 AND count(*) = count(*) FILTER (WHERE :'superuser' = 't' OR NOT v.superuser), NULL
FROM (VALUES $(values_of "$BACKUP_RUN/extensions" | grep . || echo '(NULL)')) w (name)
  JOIN pg_available_extensions a USING (name) JOIN pg_available_extension_versions v ON v.name = a.name AND v.version = a.default_version
WHERE NOT EXISTS (SELECT FROM pg_extension WHERE extname = w.name)
SQL
}

empty_extension_tables() {
  cat <<SQL
SELECT format('DELETE FROM ONLY %I.%I %s', nspname, relname, condition)
FROM unnest('{$(cat "$list.deletes")}'::oid[]) WITH ORDINALITY AS t (relation, place)
  JOIN (SELECT unnest(extconfig) AS relation, unnest(extcondition) AS condition FROM pg_extension) e USING (relation)
  JOIN pg_class c ON c.oid = relation JOIN pg_namespace n ON n.oid = relnamespace
ORDER BY place
\\gexec
SQL
}
