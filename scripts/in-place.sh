#!/bin/sh
# The method "in place" of restore.sh, for roles that may not create databases: one transaction in the existing database.
# Sourced by restore.sh; it does nothing on its own.
#
# What is there is set aside by the catalog, not dropped by the archive's list: it moves into schemas of the name
# <schema>_before_<moment>, the archive is restored into the emptied ones, and the old objects stay until someone drops them.
# So it does not matter what a migration has made of the database since, and nothing that is newer is lost.
#
# shellcheck disable=SC2034,SC2154 # variables are set for, or by, restore.sh and lib.sh

# The rows of set-aside.sql, for use in a FROM clause.
set_aside_plan() { printf '(%s) plan' "$(cat "${0%/*}/set-aside.sql")"; }

# Everything that would stop a restore in place, found before it begins.
check_in_place() {
  [ "$way" = in-place ] || return 0
  check_timescaledb
  check_set_aside
  check_locks
}

# Its tables are more than PostgreSQL's catalog knows of them, and its functions that prepare a restore need a superuser.
check_timescaledb() {
  ! grep -qx timescaledb "$BACKUP_RUN/extensions" ||
    fail "the archive uses TimescaleDB, whose hypertables can only be restored beside" \
      "set spec.enableSuperuserAccess of the cluster, so that the restore uses the superuser's Secret"
}

# Find everything that cannot be set aside, before anything changes, and list all of it at once.
check_set_aside() {
  ask "$target" -v moment="$moment" <<SQL || fail_with_stderr "database '$target' cannot be read"
SELECT DISTINCT obstacle FROM $(set_aside_plan) WHERE obstacle <> '' ORDER BY 1
SQL
  mv "$facts" "$BACKUP_RUN/obstacles"
  obstacles=$(awk 'END { print NR }' "$BACKUP_RUN/obstacles")
  [ "$obstacles" != 0 ] || return 0
  head -n 50 "$BACKUP_RUN/obstacles" >"$BACKUP_RUN/obstacles.shown"
  while IFS= read -r obstacle <&3; do
    report "in the way: $obstacle"
  done 3<"$BACKUP_RUN/obstacles.shown"
  fail "'$PGUSER' cannot set aside what is in '$target': $(head -n 1 "$BACKUP_RUN/obstacles")$(and_others "$obstacles")" \
    "as superuser, give these objects to '$PGUSER' (ALTER … OWNER TO) or drop them; or let the restore use the superuser's Secret (spec.enableSuperuserAccess of the cluster)"
}

and_others() { [ "$1" = 1 ] || echo " (and $(($1 - 1)) more)"; }

# Every object that the transaction makes holds locks until its end. Twice the server's own reckoning is what its memory
# holds in practice; beyond that the restore would run for its whole length and then fail.
check_locks() {
  ask "$target" <<'SQL' || fail_with_stderr "the server's settings cannot be read"
SELECT current_setting('max_locks_per_transaction')::bigint
  * (current_setting('max_connections')::bigint + current_setting('max_prepared_transactions')::bigint)
SQL
  IFS= read -r lock_room <"$facts"
  lock_need=$(estimate_locks)
  [ "$lock_need" -le $((lock_room * 2)) ] ||
    fail "a restore of this archive in one transaction needs about $lock_need locks, the server has room for about $((lock_room * 2))" \
      "raise max_locks_per_transaction of the cluster to $((lock_need * 64 / lock_room + 64)) or more, or restore beside: give '$PGUSER' CREATEDB, or set spec.enableSuperuserAccess"
}

# By kind of entry; a foreign key takes its constraint, two triggers on either table, and both tables.
estimate_locks() {
  awk '$4 == "TABLE" && $5 != "DATA" && $5 != "ATTACH" { n += 6 }
    $4 == "FK" { n += 5 }
    $4 == "BLOB" || $4 == "BLOBS" { n += 1 }
    $4 ~ /^(INDEX|CONSTRAINT|TRIGGER|VIEW|SEQUENCE|DEFAULT|TYPE|DOMAIN|FUNCTION|POLICY|MATERIALIZED)$/ { n += 2 }
    END { print n + 0 }' "$list"
}

# What is restored: all but what the role could not make and what belongs to the database as a whole. An extension that is
# there stays, and so does its comment, which only its owner may change.
choose_entries() {
  awk -v superuser="$superuser" '$4 == "DATABASE" { next }
    superuser == "t" { print; next }
    $4 == "COMMENT" && $6 == "EXTENSION" { next }
    $4 == "EVENT" && $5 == "TRIGGER" || ($4 == "COMMENT" || $4 == "ACL") && $6 == "EVENT" { next }
    { print }' "$list" >"$list.use"
  awk '$4 == "EVENT" && $5 == "TRIGGER"' "$list" >"$list.triggers"
  if [ "$superuser" != t ] && [ -s "$list.triggers" ]; then
    report "warning: event triggers stay as they are, since only a superuser may make one: $(awk '{ printf "%s%s", sep, $7; sep = ", " }' "$list.triggers")"
  fi
  split_entries
}

# Rows of a table that the archive does not define are an extension's configuration: they replace those that are there where
# the role may do that, and are left alone where it may not.
split_entries() {
  awk '$4 == "SCHEMA"' "$list.use" >"$list.schemas"
  awk '$4 == "BLOB"' "$list.use" >"$list.object_heads"
  awk '$4 == "BLOBS"' "$list.use" >"$list.objects"
  ask "$target" <<'SQL' || fail_with_stderr "the extensions of '$target' cannot be read"
SELECT CASE relkind WHEN 'S' THEN 'SEQUENCE SET ' ELSE 'TABLE DATA ' END || nspname || ' ' || relname || ' ',
  CASE relkind WHEN 'S' THEN has_sequence_privilege(c.oid, 'UPDATE')
    ELSE has_table_privilege(c.oid, 'INSERT') AND has_table_privilege(c.oid, 'DELETE') END,
  CASE relkind WHEN 'S' THEN '' ELSE format('DELETE FROM ONLY %I.%I %s;', nspname, relname, condition) END
FROM pg_extension e CROSS JOIN unnest(extconfig, extcondition) AS u (relation, condition)
  JOIN pg_class c ON c.oid = relation JOIN pg_namespace n ON n.oid = relnamespace
SQL
  mv "$facts" "$BACKUP_RUN/configuration"
  awk -v configuration="$BACKUP_RUN/configuration" -v separator="$separator" -v left="$list.left" -v deletes="$list.deletes" '
    BEGIN {
      while ((getline line <configuration) > 0) {
        split(line, field, separator)
        may[field[1]] = field[2]
        statement[field[1]] = field[3]
      }
      printf "" >left
    }
    /^[0-9]+; [0-9]+ [0-9]+ (SCHEMA|BLOB|BLOBS) / { next }
    match($0, /^[0-9]+; [0-9]+ [0-9]+ /) {
      rest = substr($0, RLENGTH + 1)
      for (name in may) if (index(rest, name) == 1) {
        if (may[name] != "t") { print substr(rest, 1, length(name) - 1) >left; next }
        # The last table of the archive is emptied first: others may refer to the earlier ones.
        if (statement[name] != "") first = statement[name] "\n" first
      }
    }
    { print }
    END { printf "%s", first >deletes }' "$list.use" >"$list.most"
  while IFS= read -r name <&3; do
    report "warning: '$PGUSER' may not change an extension's settings, which stay as they are: ${name#* * }"
  done 3<"$list.left"
}

# The role that new objects belong to at first: its default privileges must not touch what is restored.
maker() { [ -n "$keep_owners" ] && echo "$PGUSER" || echo "$owner"; }

# All statements of the restore. COMMIT comes only after pg_restore has ended well: without it nothing has happened.
feed() {
  set -- "$archive"
  [ -n "$keep_owners" ] || set -- --no-owner --role="$owner" "$archive"
  printf '%s\n' "$preamble" 'BEGIN;'
  make_room
  pg_restore -f - -L "$list.schemas" "$@" 2>"$BACKUP_RUN/feed.err" >"$list.sql" || return 1
  sed 's/^CREATE SCHEMA /CREATE SCHEMA IF NOT EXISTS /' "$list.sql"
  pg_restore -f - -L "$list.most" "$@" 2>"$BACKUP_RUN/feed.err" || return 1
  feed_large_objects "$@" || return 1
  echo 'RESET ROLE; SET search_path = pg_catalog, pg_temp;'
  compare_before_commit
  [ "$keep" = yes ] || drop_set_aside
  echo 'COMMIT;'
}

# What is there moves out of the way, and what would act upon the restored objects goes back to what a new database has.
make_room() {
  cat <<SQL
SELECT statement FROM $(set_aside_plan) ORDER BY step, object
\\gexec
SQL
  cat "${0%/*}/fresh-schemas.sql"
  [ ! -s "$list.object_heads" ] || cat "$list.unlinks"
  cat "$list.deletes"
}

# A large object is known by its number alone: one that has a number of the archive's is replaced.
write_unlinks() {
  [ -s "$list.object_heads" ] || return 0
  run pg_restore --clean --if-exists -L "$list.object_heads" -f "$list.sql" "$archive" ||
    fail_with_stderr "the archive's large objects cannot be read"
  sed -n '/^SELECT pg_catalog.lo_unlink(/p' "$list.sql" >"$list.unlinks"
}

# pg_restore puts large objects into transactions of their own, whose COMMIT would end ours. All else of it is one statement
# a line, and no line is data alone.
feed_large_objects() {
  [ -s "$list.object_heads" ] || return 0
  cat "$list.object_heads" "$list.objects" >"$list.objects.all"
  rm -f "$BACKUP_RUN/feed.failed"
  { pg_restore -f - -L "$list.objects.all" "$@" 2>"$BACKUP_RUN/feed.err" || : >"$BACKUP_RUN/feed.failed"; } |
    sed '/^BEGIN;$/d; /^COMMIT;$/d'
  [ ! -e "$BACKUP_RUN/feed.failed" ]
}

# Compare what this transaction has restored with the archive; what it has set aside is not counted.
compare_before_commit() {
  cat <<SQL
DO \$\$ DECLARE
  found bigint := 0; counted bigint; ours regclass[];
BEGIN
  SELECT array_agg(c.oid) INTO ours $own_relations $restored_alone AND relkind = 'r';
  $(rows_are_known || echo 'RETURN;')
  IF EXISTS (SELECT FROM unnest(ours) t WHERE row_security_active(t)) THEN
    RAISE WARNING 'row security hides rows';
    RETURN;
  END IF;
  FOR i IN 1 .. coalesce(cardinality(ours), 0) LOOP
    EXECUTE format('SELECT count(*) FROM ONLY %s', ours[i]) INTO counted;
    found := found + counted;
  END LOOP;
  IF found <> ${req_rows:-0} THEN
    RAISE 'it has % rows, the archive held ${req_rows:-0} when it was made', found;
  END IF;
END \$\$;
SQL
}

# With RESTORE_KEEP=no the old objects are dropped once everything is compared.
drop_set_aside() {
  cat <<'SQL'
SELECT format('DROP SCHEMA %I CASCADE', nspname) FROM pg_namespace WHERE nspname ~ ('_before_' || :'moment' || '$')
UNION ALL
SELECT format('DROP PUBLICATION %I', pubname) FROM pg_publication WHERE pubname ~ ('_before_' || :'moment' || '$')
UNION ALL
SELECT format('DROP SERVER %I CASCADE', srvname) FROM pg_foreign_server WHERE srvname ~ ('_before_' || :'moment' || '$')
\gexec
SQL
}

# psql runs the statements, not pg_restore: what is set aside and what is restored must be one transaction.
restore_in_place() {
  restored_alone="AND n.nspname !~ '_before_$moment\$'"
  choose_entries
  write_unlinks
  end_sessions_now
  PGDATABASE=$target
  mkfifo "$BACKUP_RUN/statements"
  watch_progress &
  watcher=$!
  feed >"$BACKUP_RUN/statements" &
  feeder=$!
  run psql -Xqw -v ON_ERROR_STOP=1 -v moment="$moment" -v maker="$(maker)" -f "$BACKUP_RUN/statements" >/dev/null ||
    fail_with_stderr "psql failed"
  wait "$feeder" || fail "the archive could not be read to its end: $(head -n 1 "$BACKUP_RUN/feed.err")" "check the volume"
  stop_watching
  ! grep -q 'row security hides rows' "$stderr" || warn_of_hidden_rows
  target_state="'$target' is restored; only a later step failed"
  compare "$target"
  if [ "$found_tables" != "$tables" ] || [ "$found_sequences" != "$sequences" ]; then
    report "warning: '$target' has $found_tables tables and $found_sequences sequences, the archive has $tables and $sequences"
  fi
  analyze "$target"
}

# Say what was set aside, and the one statement that drops it.
report_set_aside() {
  [ "$way" = in-place ] && [ "$keep" = yes ] || return 0
  ask "$target" -v moment="$moment" <<'SQL' || return 0
SELECT string_agg(quote_ident(nspname), ', ' ORDER BY nspname) FROM pg_namespace WHERE nspname ~ ('_before_' || :'moment' || '$')
SQL
  IFS= read -r aside <"$facts" || return 0
  [ -n "$aside" ] || return 0
  report "what was in '$target' before is kept in schemas of its own, and in later backups; when you no longer need it: DROP SCHEMA $aside CASCADE"
}
