#!/bin/sh
# Without comments: they are in the project's file of this name.
rows_of_extensions() {
  awk '
    { rest = $0; sub(/^[0-9]+; [0-9]+ [0-9]+ /, "", rest) }
    FILENAME == ARGV[1] { if (sub(/^(FOREIGN )?TABLE /, "", rest)) own[rest]; next }
    sub(/^TABLE DATA /, "", rest) && !(rest in own)' "$list" "$1" >"$2"
}

make_way_for_rows() {
  awk -v separator="$separator" '{ sub(/^[0-9]+; [0-9]+ [0-9]+ TABLE DATA /, ""); gsub(/"/, ""); print NR separator $0 }' \
    "$list.rows" >"$BACKUP_RUN/rows"
  relations="SELECT DISTINCT place, c.oid::regclass AS relation, condition
    FROM (SELECT split_part(line, chr(31), 1) AS place, split_part(line, chr(31), 2) AS name FROM (VALUES $(values_of "$BACKUP_RUN/rows")) w (line)) a,
      (SELECT unnest(extconfig) AS relation, unnest(extcondition) AS condition FROM pg_extension) e
      JOIN pg_class c ON c.oid = relation JOIN pg_namespace n ON n.oid = relnamespace
    WHERE relkind = 'r' AND starts_with(a.name, translate(nspname || ' ' || relname || ' ', E'\\n\\r\"', '  '))
      AND has_table_privilege(c.oid, 'SELECT') AND has_table_privilege(c.oid, 'DELETE')"
  ask "$1" <<SQL || fail_with_stderr "the rows of extensions cannot be replaced"
$without_triggers
SELECT format('DELETE FROM ONLY %s %s', relation, condition) FROM ($relations) r
\\gexec
SELECT format('SELECT %L FROM ONLY %s LIMIT 1', place, relation) FROM ($relations) r
\\gexec
SQL
  mv "$facts" "$BACKUP_RUN/rows"
  awk 'FILENAME == ARGV[1] { full[$1]; next } FNR in full' "$BACKUP_RUN/rows" "$list.rows" >"$list.rows.full"
  [ -s "$list.rows.full" ] || return 0
  feed_rows "$list.rows.full" >"$BACKUP_RESULTS/rows.sql" || fail "the archive's rows of extensions cannot be read"
  PGDATABASE=$1
  run psql -XAtqw -v ON_ERROR_STOP=1 -c "$preamble" -f "$BACKUP_RESULTS/rows.sql" >/dev/null ||
    fail_with_stderr "the rows of extensions cannot be replaced"
  rm -f "$BACKUP_RESULTS/rows.sql"
}

feed_rows() {
  echo "$without_triggers"
  rm -f "$BACKUP_RUN/feed.failed"
  while IFS= read -r entry <&3; do
    printf '%s\n' "$entry" >"$list.row"
    { pg_restore -f - -L "$list.row" "$archive" 2>"$BACKUP_RUN/feed.err" || : >"$BACKUP_RUN/feed.failed"; } |
      awk -v apostrophe="'" "$role_reader$row_stager"
  done 3<"$1"
  echo "$with_triggers"
  [ ! -e "$BACKUP_RUN/feed.failed" ]
}

without_triggers='DO $rows$ BEGIN
  IF (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) THEN SET session_replication_role = replica; END IF;
END $rows$;'
with_triggers='DO $rows$ BEGIN
  IF (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) THEN SET session_replication_role = origin; END IF;
END $rows$;'

row_stager='
  !copying && !ended && /^COPY / && / FROM stdin;$/ {
    role(substr($0, 6))
    role(substr(rest, 2))
    table = substr($0, 6, length($0) - 5 - length(rest))
    print "CREATE TEMPORARY TABLE cnpg_backup_rows (LIKE " table ");"
    print "COPY pg_temp.cnpg_backup_rows" rest
    copying = 1
    next
  }
  !copying { next }
  { print }
  $0 == "\\." {
    copying = 0
    ended = 1
    gsub(apostrophe, apostrophe apostrophe, table)
    q = apostrophe
    print "SELECT format(" q "DELETE FROM ONLY %s t USING pg_temp.cnpg_backup_rows s WHERE %s" q ", indrelid::regclass,"
    print "  (SELECT string_agg(format(" q "t.%1$I = s.%1$I" q ", attname), " q " AND " q ") FROM unnest(indkey) WITH ORDINALITY k (key, place)"
    print "    JOIN pg_attribute ON attrelid = indrelid AND attnum = key WHERE place <= indnkeyatts))"
    print "FROM pg_index WHERE indrelid = " q table q "::regclass AND indisunique AND indexprs IS NULL AND indpred IS NULL"
    print "  AND (current_setting(" q "session_replication_role" q ") = " q "replica" q " OR NOT EXISTS (SELECT FROM pg_constraint"
    print "    WHERE contype = " q "f" q " AND confrelid = indrelid AND confdeltype IN (" q "c" q ", " q "n" q ", " q "d" q ")))"
    print "\\gexec"
    print "DROP TABLE pg_temp.cnpg_backup_rows;"
  }
'
