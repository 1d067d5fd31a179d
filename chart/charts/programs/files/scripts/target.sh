#!/bin/sh
# Without comments: they are in the project's file of this name.
look_at_target() {
  exists='' owner='' owns='' relations=0 target_tables='' accepts=t
  if ! IFS=$separator read -r owner owns accepts limit <"$BACKUP_RUN/server.target"; then
    accepts=t
    return
  fi
  exists=yes
  [ "$limit" != -2 ] ||
    fail "database '$target' is invalid: a DROP DATABASE of it was interrupted" "DROP DATABASE $(quoted "$target"), then restore again"
  [ "$accepts" = t ] || return 0
  ask "$target" <<SQL || fail_with_stderr "database '$target' cannot be read"
SELECT count(*) FILTER (WHERE relkind IN ('r', 'p')), count(*) FILTER (WHERE relkind IN ('r', 'p', 'v', 'm', 'f', 'S'))
$own_relations
SQL
  IFS=$separator read -r target_tables relations <"$facts"
}

name_databases() {
  [ "$way" = in-place ] && in=$target || in=$maintenance
  ask "$in" -v target="$target" <<'SQL' || fail_with_stderr "the new database cannot be named"
SELECT moment, CASE WHEN octet_length(:'target') <= 36 THEN :'target' ELSE left(:'target', 6) || '_' || left(md5(:'target'), 8) END
FROM (SELECT to_char(now() AT TIME ZONE 'UTC' + n * interval '1 second', 'YYYYMMDD_HH24MISS') AS moment, n
  FROM generate_series(0, 3600) n) moments
WHERE NOT EXISTS (SELECT FROM (
    SELECT datname FROM pg_database UNION ALL SELECT nspname FROM pg_namespace UNION ALL SELECT pubname FROM pg_publication
    UNION ALL SELECT srvname FROM pg_foreign_server UNION ALL SELECT evtname FROM pg_event_trigger
    UNION ALL SELECT subname FROM pg_subscription) taken (name) WHERE right(name, 16) = '_' || moment)
ORDER BY n LIMIT 1
SQL
  IFS=$separator read -r moment prefix <"$facts"
  new=${prefix}_restoring_$moment old=${prefix}_before_$moment finished=${prefix}_restored_$moment
}

check_prepared_transactions() {
  [ -s "$BACKUP_RUN/server.prepared" ] || return 0
  awk -F "$separator" '{ print $1 " of role " $2 }' "$BACKUP_RUN/server.prepared" >"$BACKUP_RUN/prepared"
  first=$(awk -F "$separator" 'NR == 1 { print $1 }' "$BACKUP_RUN/server.prepared")
  fail "'$target' has prepared transactions, which hold their locks until they are ended: $(name_some "$BACKUP_RUN/prepared")" \
    "in '$target', as that role or as superuser, end each: COMMIT PREPARED $first or ROLLBACK PREPARED $first; then restore again"
}

end_sessions_now() {
  printf '%s\n' "$preamble" "SELECT pg_terminate_backend(a.pid) FROM pg_stat_activity a LEFT JOIN pg_roles r ON r.oid = a.usesysid
    WHERE a.datname IN (:'target', :'new') AND a.pid <> pg_backend_pid() AND (:'superuser' = 't' OR (NOT r.rolsuper
      AND (pg_has_role(r.oid, 'USAGE') OR pg_has_role('pg_signal_backend', 'USAGE'))))" >"$BACKUP_RUN/end.sql"
  PGDATABASE=$maintenance
  psql -Xqw -v superuser="$superuser" -v target="$target" -v new="$new" -f "$BACKUP_RUN/end.sql" >/dev/null 2>&1 || :
}

report_what_stays() {
  ask "$maintenance" -v name="$1" <<'SQL' || return 0
SELECT 'slot', slot_name, quote_literal(slot_name) FROM pg_replication_slots WHERE database = :'name'
UNION ALL SELECT 'subscription', subname, quote_ident(subname)
FROM pg_subscription s JOIN pg_database d ON d.oid = subdbid WHERE datname = :'name'
ORDER BY 1, 2
SQL
  mv "$facts" "$BACKUP_RUN/stays"
  while IFS=$separator read -r kind name quoted_name <&3; do
    case $kind in
      slot)
        report "warning: the logical replication slot '$name' stays with $2 and keeps WAL: stop its consumer, SELECT pg_drop_replication_slot($quoted_name), then let it begin again with '$target'"
        ;;
      subscription)
        report "warning: the subscription '$name' stays with $2 and goes on there: to end it, in that database, ALTER SUBSCRIPTION $quoted_name DISABLE; ALTER SUBSCRIPTION $quoted_name SET (slot_name = NONE); DROP SUBSCRIPTION $quoted_name; only one database may use its slot"
        ;;
    esac
  done 3<"$BACKUP_RUN/stays"
}

report_previous() {
  report_what_stays "$old" "the previous database, now '$old',"
  ask "$maintenance" -v old="$old" <<'SQL' || : >"$facts"
SELECT datistemplate, datallowconn FROM pg_database WHERE datname = :'old'
SQL
  template='' accepts=''
  IFS=$separator read -r template accepts <"$facts" || :
  [ "$accepts" != f ] || report "the previous '$target' accepted no connections; the restored one does"
  drop="DROP DATABASE $(quoted "$old")"
  [ "$template" != t ] || drop="ALTER DATABASE $(quoted "$old") IS_TEMPLATE false; $drop"
  report "the previous '$target' is kept as '$old'; when you no longer need it: $drop"
}
