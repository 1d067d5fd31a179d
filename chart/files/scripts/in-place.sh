#!/bin/sh
# The method "in place" of restore.sh, for roles that may not create databases: one transaction in the existing database.
# Sourced by restore.sh; it does nothing on its own.
#
# shellcheck disable=SC2034,SC2154 # variables are set for, or by, restore.sh and lib.sh

# The same before COMMIT, for only the tables that this transaction has created.
note_what_is_there() {
  ! rows_are_known || echo 'CREATE TEMP TABLE cnpg_backup_there ON COMMIT DROP AS SELECT oid FROM pg_class;'
}

compare_rows_before_commit() {
  rows_are_known || return 0
  cat <<SQL
RESET ROLE;
DO \$\$ DECLARE
  found bigint := 0; counted bigint; ours regclass[];
BEGIN
  SELECT array_agg(c.oid) INTO ours $own_relations AND relkind = 'r' AND c.oid NOT IN (SELECT oid FROM pg_temp.cnpg_backup_there);
  IF EXISTS (SELECT FROM unnest(ours) t WHERE row_security_active(t)) THEN
    RAISE WARNING 'row security hides rows';
    RETURN;
  END IF;
  FOR i IN 1 .. coalesce(cardinality(ours), 0) LOOP
    EXECUTE format('SELECT count(*) FROM ONLY %s', ours[i]) INTO counted;
    found := found + counted;
  END LOOP;
  IF found <> $req_rows THEN
    RAISE 'it has % rows, the archive held $req_rows when it was made', found;
  END IF;
END \$\$;
SQL
}

# Leave out of the list what exists and stays: extensions, which only their owner (mostly the superuser) could change, and
# schemas, which may contain objects that are not in the archive.
keep_what_stays() {
  ask "$target" <<'SQL' || fail_with_stderr "database '$target' cannot be read"
SELECT 'EXTENSION ' || extname FROM pg_extension UNION ALL SELECT 'SCHEMA ' || nspname FROM pg_namespace
SQL
  awk 'NR == FNR { there[$0]; next }
    $4 == "EXTENSION" || $4 == "SCHEMA" { if (($4 " " $6) in there) next }
    $4 == "COMMENT" && $6 == "EXTENSION" { if (("EXTENSION " $7) in there) next }
    $4 != "DATABASE"' "$facts" "$list" >"$list.use"
}

# Write the statements that drop what the archive contains, and nothing else. An index, a constraint and so on is dropped with
# its table: one that a partition has inherited cannot be dropped by itself. Foreign keys are dropped first.
write_drops() {
  kinds='TABLE DATA|SEQUENCE SET|BLOBS|SCHEMA|EXTENSION|INDEX|CONSTRAINT|CHECK|TRIGGER|STATISTICS|POLICY|ROW|TABLE ATTACH'
  awk -v kinds="^[0-9]+; [0-9]+ [0-9]+ ($kinds|MATERIALIZED VIEW DATA) " '$0 !~ kinds' "$list.use" >"$list.drops"
  [ -n "$keep_owners" ] || set -- --no-owner --role="$owner"
  run pg_restore --clean --if-exists -L "$list.drops" "$@" -f "$BACKUP_RESULTS/drops.all" "$archive" ||
    fail_with_stderr "the archive's contents cannot be read"
  awk '/^-- Name: / { exit } !/^\\/ { print }' "$BACKUP_RESULTS/drops.all" >"$BACKUP_RESULTS/drops.sql"
  rm -f "$BACKUP_RESULTS/drops.all"
}

# Print all statements of the restore. COMMIT is printed only after pg_restore has succeeded: without it nothing changes.
feed() {
  set -- "$archive"
  [ -n "$keep_owners" ] || set -- --no-owner --role="$owner" "$archive"
  echo 'BEGIN;'
  cat "$BACKUP_RESULTS/drops.sql"
  note_what_is_there
  awk '$4 != "BLOBS"' "$list.use" >"$list.most"
  pg_restore -f - -L "$list.most" "$@" 2>"$BACKUP_RUN/feed.err" || return 1
  feed_large_objects "$@" || return 1
  compare_rows_before_commit
  echo 'COMMIT;'
}

# pg_restore puts large objects into transactions of their own, whose COMMIT would end ours, so these lines are removed. In
# this part of its output each line is a statement, and none is data.
feed_large_objects() {
  awk '$4 == "BLOBS"' "$list.use" >"$list.objects"
  [ -s "$list.objects" ] || return 0
  rm -f "$BACKUP_RUN/feed.failed"
  { pg_restore -f - -L "$list.objects" "$@" 2>"$BACKUP_RUN/feed.err" || : >"$BACKUP_RUN/feed.failed"; } |
    sed '/^BEGIN;$/d; /^COMMIT;$/d'
  [ ! -e "$BACKUP_RUN/feed.failed" ]
}

# psql runs the statements, not pg_restore: its --clean with --single-transaction fails on partitions with a primary key.
restore_in_place() {
  keep_what_stays
  write_drops
  end_sessions_now
  PGDATABASE=$target
  mkfifo "$BACKUP_RUN/statements"
  watch_progress &
  watcher=$!
  feed >"$BACKUP_RUN/statements" &
  feeder=$!
  run psql -Xqw -v ON_ERROR_STOP=1 -f "$BACKUP_RUN/statements" >/dev/null || fail_with_stderr "psql failed"
  wait "$feeder" || fail "the archive could not be read to its end: $(head -n 1 "$BACKUP_RUN/feed.err")" "check the volume"
  stop_watching
  ! grep -q 'row security hides rows' "$stderr" || warn_of_hidden_rows
  target_state="'$target' is restored; only a later step failed"
  compare "$target"
  [ "$found_tables" = "$tables" ] ||
    report "warning: '$target' has $found_tables tables, the archive has $tables: newer ones were left alone"
  analyze "$target"
}
