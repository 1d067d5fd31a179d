#!/bin/sh
# Without comments: they are in the project's file of this name.
undelete() {
  where=${RESTORE_WHERE:-} show=${RESTORE_SHOW:-0}
  is_number "$show" || usage "RESTORE_SHOW='$show' is not a whole number"
  [ -z "${RESTORE_INTO:-}$tables_wanted$schemas_wanted${RESTORE_OWNER:-}" ] ||
    usage "RESTORE_UNDELETE copies rows into the table that they came from: leave out RESTORE_INTO, RESTORE_TABLES, RESTORE_SCHEMAS, RESTORE_OWNER"
  case $where in *';'* | *[[:cntrl:]]*) usage "RESTORE_WHERE must be one condition, without a semicolon or a line end" ;; esac
  table=$(names_of "$RESTORE_UNDELETE" table) || usage "RESTORE_UNDELETE='$RESTORE_UNDELETE' is not the name of a table"
  case $table in '' | *"$line_end"*) usage "RESTORE_UNDELETE must name one table" ;; esac
  key=$(names_of "${RESTORE_KEY:-}" schema) || usage "RESTORE_KEY has something that is not the name of a column"
  look_at_archive
  name_tables
  leaves_of "$table" >"$list.leaves" || fail_with_stderr "the archive's partitions cannot be read"
  sed 's/^/table /' "$list.leaves" >"$BACKUP_RUN/wanted"
  [ -s "$BACKUP_RUN/wanted" ] || refuse_unknown "table $table"
  awk "$entry_selector" file=1 "$BACKUP_RUN/tables" file=2 "$BACKUP_RUN/wanted" file=3 "$list" >"$list.rows"
  missing=$(sed -n '/^missing /{s///p;q;}' "$list.rows")
  [ -z "$missing" ] || refuse_unknown "$missing"
  awk 'file == 1 { rows[$1]; next } $1 in rows' file=1 "$list.rows" file=2 "$list" >"$list.use"
  table=$(printf %s "$table" | tr '\036' '\n')
  [ -n "$exists" ] || fail "there is no database '$target'" "restore all of it"
  find_key
  report "$req_base.dump, table $table, to $PGHOST ($server_version) as '$PGUSER'; a row is the same one by $key_columns"
  copy_back
  tell_counts
}

leaves_of() {
  if ! cut -d ' ' -f 2- "$BACKUP_RUN/tables" | grep -Fqx -e "$1 partitioned"; then
    printf '%s\n' "$1"
    return
  fi
  partitions=$(partitions_of "$1") || return 1
  [ -n "$partitions" ] || return 0
  printf '%s\n' "$partitions" | while IFS= read -r leaf; do leaves_of "$leaf" || exit 1; done
}

find_key() {
  printf '%s\n' "$key" | sed 's/^"//; s/"$//; s/""/"/g' | tr '\036' '\n' >"$BACKUP_RUN/key"
  [ -n "$key" ] || : >"$BACKUP_RUN/key"
  names=$(values_of "$BACKUP_RUN/key")
  ask "$target" -v table="$table" <<SQL || fail_with_stderr "table $table cannot be read"
WITH wanted (name) AS (SELECT name FROM (VALUES ${names:-(NULL)}) v (name) WHERE name IS NOT NULL),
keys AS (
  SELECT i.indexrelid, i.indisprimary, string_agg(format('l.%I OPERATOR(%I.%s) b.%I', a.attname, n.nspname, o.oprname, a.attname), ' AND ') AS same,
    string_agg(format('b.%I', a.attname), ', ') AS columns, string_agg(quote_ident(a.attname), ', ') AS shown,
    count(*) AS columns_of_it, count(w.name) AS wanted_of_it
  FROM pg_index i CROSS JOIN generate_series(0, i.indnkeyatts - 1) k
    JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[k] AND a.attnotnull
    JOIN pg_opclass c ON c.oid = i.indclass[k]
    JOIN pg_amop p ON p.amopfamily = c.opcfamily AND p.amopstrategy = 3 AND p.amoplefttype = c.opcintype AND p.amoprighttype = c.opcintype
    JOIN pg_operator o ON o.oid = p.amopopr JOIN pg_namespace n ON n.oid = o.oprnamespace
    LEFT JOIN wanted w ON w.name = a.attname
  WHERE i.indrelid = to_regclass(:'table') AND i.indisunique AND i.indisvalid AND i.indpred IS NULL AND i.indexprs IS NULL
  GROUP BY i.indexrelid, i.indisprimary, i.indnkeyatts HAVING count(*) = i.indnkeyatts
)
SELECT coalesce(to_regclass(:'table')::text, ''), coalesce((SELECT relkind::text FROM pg_class WHERE oid = to_regclass(:'table')), ''), k.same, k.columns, k.shown
FROM (SELECT 1) one LEFT JOIN keys k ON CASE WHEN EXISTS (SELECT FROM wanted)
  THEN k.columns_of_it = (SELECT count(*) FROM wanted) AND k.wanted_of_it = k.columns_of_it ELSE k.indisprimary END
LIMIT 1
SQL
  IFS=$separator read -r found_table kind same columns key_columns <"$facts" || :
  [ -n "$found_table" ] || fail "database '$target' has no table $table" \
    "create it, as the archive has it (pg_restore --schema-only), or restore it into another database (RESTORE_INTO)"
  case $kind in r) only='ONLY ' ;; p) only='' ;; *) fail "$table is not a table" "name a table" ;; esac
  if [ -z "$same" ]; then
    [ -z "$key" ] || fail "table $table has no unique constraint on exactly the columns $(printf '%s' "$key" | tr '\n' ' ')of RESTORE_KEY, all NOT NULL" \
      "name the columns of one, or leave RESTORE_KEY out for the primary key"
    fail "table $table has no primary key, so it is not known which of its rows are gone" \
      "name the columns of a unique constraint in RESTORE_KEY; without one, restore the table into another database (RESTORE_INTO) and compare"
  fi
}

feed_undelete() {
  copied=cnpg_backup_undelete
  printf '%s\n' "$preamble" 'BEGIN;' "SET LOCAL lock_timeout = '60s';" \
    "CREATE TEMPORARY TABLE $copied ON COMMIT DROP AS SELECT * FROM ONLY $found WITH NO DATA;"
  rm -f "$BACKUP_RUN/feed.failed"
  { write_statements --data-only -L "$list.use" || : >"$BACKUP_RUN/feed.failed"; } |
    awk -v table="pg_temp.$copied" -v to="$BACKUP_RUN/columns" "$name_reader"'
      function name() {
        if (text ~ /^"/) { if (quoted() == "") exit 1 } else if (match(text, /^[^" .(]+/)) text = substr(text, RLENGTH + 1); else exit 1
      }
      copied { print; if ($0 == "\\.") copied = 0; next }
      /^COPY / {
        text = substr($0, 6)
        name()
        text = substr(text, 2)
        name()
        if (text !~ /^ .*FROM stdin;$/) exit 1
        columns = text
        sub(/ FROM stdin;$/, "", columns)
        if (!any) print columns >to
        close(to)
        print "COPY " table text
        copied = any = 1
        next
      }
      /^\\restrict / || /^(SET|SELECT pg_catalog\.set_config) / && !/statement_timeout|lock_timeout/ { print }
      END { if (!any || copied) exit 1 }' || : >"$BACKUP_RUN/feed.failed"
  [ ! -e "$BACKUP_RUN/feed.failed" ] || return 1
  cols=$(cat "$BACKUP_RUN/columns")
  list_of=${cols#" ("} && list_of=${list_of%")"}
  printf '%s\n' 'SET search_path = pg_catalog, pg_temp;' "SELECT 'archive', count(*) FROM pg_temp.$copied;"
  [ -z "$where" ] || printf '%s\n' 'RESET search_path;' "DELETE FROM pg_temp.$copied b WHERE ($where) IS NOT TRUE;" \
    'SET search_path = pg_catalog, pg_temp;'
  cat <<SQL
SELECT 'wanted', count(*) FROM pg_temp.$copied;
ANALYZE pg_temp.$copied;
SELECT 'changed', count(*) FROM pg_temp.$copied b JOIN $only$found l ON $same
  WHERE (SELECT row($list_of)::text FROM (SELECT b.*) r) IS DISTINCT FROM (SELECT row($list_of)::text FROM (SELECT l.*) r);
DELETE FROM pg_temp.$copied b USING $only$found l WHERE $same;
SELECT 'gone', count(*) FROM pg_temp.$copied;
SELECT 'key', row($columns) FROM pg_temp.$copied b ORDER BY row($columns)::text LIMIT $show;
WITH back AS (INSERT INTO $found ($list_of) OVERRIDING SYSTEM VALUE SELECT $list_of FROM pg_temp.$copied ON CONFLICT DO NOTHING RETURNING 1)
SELECT 'copied', count(*) FROM back;
SQL
  echo 'SET CONSTRAINTS ALL IMMEDIATE;'
  if [ "$dry_run" = yes ]; then echo 'ROLLBACK;'; else printf '%s\n' 'COMMIT;' "SELECT 'committed', 1;"; fi
}

copy_back() {
  found=$table
  PGDATABASE=$target
  make_pipe "$BACKUP_RUN/undelete"
  feed_undelete >&5 5>&- 6<&- &
  feeder=$!
  exec 5>&-
  code=0
  run from_pipe psql -XAtqw -v ON_ERROR_STOP=1 -F "$separator" -f - >"$facts" || code=$?
  exec 6<&-
  fed=0
  wait "$feeder" || fed=$?
  feeder=''
  if [ "$code" != 0 ]; then
    case $(first_error) in
      *"server closed"* | *"connection to server was lost"* | *"terminating connection"* | *SSL*)
        target_state="whether rows were copied is not known: run it again, which copies none of them twice"
        ;;
    esac
    fail_with_stderr "the rows cannot be copied"
  elif [ "$fed" != 0 ]; then
    [ ! -s "$BACKUP_RUN/feed.err" ] || unreadable "$(pg_restore_said)"
    fail "the archive has no COPY of $table" "restore it into another database (RESTORE_INTO), and copy the rows from there"
  fi
}

count_of() { awk -F "$separator" -v what="$1" '$1 == what { print $2 }' "$facts"; }

tell_counts() {
  in_archive=$(count_of archive) wanted_rows=$(count_of wanted) changed=$(count_of changed) gone=$(count_of gone) back=$(count_of copied)
  [ "$dry_run" = yes ] || [ "$(count_of committed)" = 1 ] || fail "the transaction has not ended" "look at the server's log, then run it again"
  would='' copied_what="copied back"
  [ "$dry_run" = no ] || { would='would be ' && copied_what="would be copied back"; }
  met=''
  [ -z "$where" ] || met=", $wanted_rows of them meet the condition"
  report "the archive has $in_archive rows of $table$met; $gone of them are gone from the table"
  sed -n "s/^key$separator/gone: /p" "$facts" | printable | while IFS= read -r line; do log "$database" "$line"; done
  [ "$changed" = 0 ] || report "$changed rows have changed since; ${would:-they were }left as they are"
  [ "$gone" = "$back" ] || report "$((gone - back)) rows conflict with another unique constraint, or a trigger kept them out; ${would:-they were }left out"
  report "$back rows $copied_what"
  [ "$dry_run" = no ] || report "nothing was changed, because RESTORE_DRY_RUN=yes"
}
