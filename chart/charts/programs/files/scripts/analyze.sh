#!/bin/sh
# Without comments: they are in the project's file of this name.
analyze() {
  log "$database" "gathering statistics (ANALYZE)"
  if [ "$jobs" -gt 1 ]; then
    mkdir -p "$BACKUP_RUN/other"
    analyze_beside "$1" &
    watcher=$!
    analyze_share "$1" 0 2
    wait "$watcher" || :
    watcher=
  else
    analyze_share "$1" 0 1
  fi
}

analyze_beside() {
  trap 'end_child; exit 0' TERM
  BACKUP_RUN=$BACKUP_RUN/other
  facts=$BACKUP_RUN/facts stderr=$BACKUP_RUN/stderr
  analyze_share "$1" 1 2
}

analyze_share() {
  ask "$1" -v share="$2" -v shares="$3" -v moment="$moment" <<'SQL' || :
\set ON_ERROR_STOP off
WITH page (most) AS (SELECT 300 * current_setting('default_statistics_target')::bigint)
SELECT format('ANALYZE %s', oid::regclass) FROM (
  SELECT oid, row_number() OVER (ORDER BY coalesce(
      (SELECT sum(least(pg_relation_size(relid) / 8192, most)) + least(sum(pg_relation_size(relid)) / 8192, most) FROM pg_partition_tree(oid)),
      least(pg_relation_size(oid) / 8192, most)) DESC, oid) AS rank
    FROM pg_class, page WHERE relkind IN ('r', 'p', 'm') AND NOT relispartition AND relpersistence <> 't'
      AND relnamespace::regnamespace::text !~ ('_before_' || :'moment' || '"?$')) t
  WHERE rank / :shares % :shares = :share
\gexec
SQL
  ! grep -q 'ERROR: ' "$stderr" || log "$database" "warning: ANALYZE failed: $(first_error)"
}
