#!/bin/sh
# Without comments: they are in the project's file of this name.
check_readable() {
  compression=0 partial=/dev/null
  pg_dump_once --section=pre-data --no-sync || fail_with_stderr "pg_dump failed"
  run psql -XAtqw -F '|' -c "$preamble" -c "SELECT coalesce((SELECT version FROM pg_stat_ssl WHERE pid = pg_backend_pid()), 'none'),
    count(*), count(*) FILTER (WHERE row_security_active(oid)) FROM pg_class WHERE relkind IN ('r', 'p')
    AND relpersistence <> 't' AND relnamespace NOT IN ('pg_catalog'::regnamespace, 'information_schema'::regnamespace)" \
    >"$facts" || fail_with_stderr "the catalog cannot be read"
  IFS='|' read -r tls tables hidden <"$facts"
  check_not_empty
  [ "$hidden" = 0 ] ||
    warn "row security hides rows of $hidden tables from this role; a dump fails unless it excludes them"
}

check_large_objects() {
  dumps_large_objects || return 0
  denied="pg_catalog.current_setting('lo_compat_privileges') = 'off' AND NOT pg_catalog.pg_has_role(lomowner, 'USAGE')
    AND NOT EXISTS (SELECT FROM pg_catalog.aclexplode(lomacl) a WHERE a.privilege_type = 'SELECT'
      AND CASE WHEN a.grantee = 0 THEN true ELSE pg_catalog.pg_has_role(a.grantee, 'USAGE') END)"
  [ "$server_num" -lt 180000 ] || denied="NOT pg_catalog.has_largeobject_privilege(oid, 'SELECT')"
  run psql -XAtqw -c "$preamble" -c "SELECT count(*) FROM pg_catalog.pg_largeobject_metadata WHERE $denied" >"$facts" ||
    fail_with_stderr "the catalog cannot be read"
  IFS= read -r unreadable <"$facts"
  [ "$unreadable" = 0 ] || fail "permission denied for $unreadable large objects"
}

dumps_large_objects() {
  whole=yes
  while IFS= read -r line || [ -n "$line" ]; do
    case $line in
      extra_arg=--no-large-objects | extra_arg=--no-blobs | extra_arg=--role=*) return 1 ;;
      extra_arg=--large-objects | extra_arg=--blobs) return 0 ;;
      extra_arg=--table* | extra_arg=--schema=* | extra_arg=--extension=*) whole=no ;;
    esac
  done <"$conf"
  [ "$whole" = yes ]
}

check_roles() {
  [ "$conf_roles" = with-password-hashes ] || return 0
  run psql -XAtqw -c "$preamble" -c "SELECT pg_catalog.has_table_privilege('pg_catalog.pg_authid', 'SELECT')" >"$facts" ||
    fail_with_stderr "the catalog cannot be read"
  IFS= read -r readable <"$facts"
  [ "$readable" = t ] || warn "$(without_hashes): name a superuser or a member of pg_read_all_data in 'secret', or set roles: without-passwords"
}

check_writable() {
  if [ -d "$dir" ]; then probe_folder "$dir" ".$database.check"; else probe_folder "$BACKUP_ROOT" ".$database.check"; fi
  plain_or_free "$dir/.lock" || fail_for_lock_file
}

put_growth() {
  kept=$((archive * conf_most_backups))
  if [ "$conf_max_bytes" -gt 0 ]; then
    budget=$((archive * conf_min_backups))
    [ "$budget" -gt "$conf_max_bytes" ] || budget=$conf_max_bytes
    [ "$kept" -lt "$budget" ] || kept=$budget
  fi
  now_there=0
  [ ! -d "$dir" ] || now_there=$(du -sk "$dir" | awk '{ printf "%.0f", $1 * 1024 }')
  put growth $((kept + archive - now_there))
}

check_database() {
  begin "$@"
  [ "$conf_wait_timeout" -le 30 ] || conf_wait_timeout=30
  set_credentials
  connect
  put server_version "$server_version" && put role "$role"
  check_version
  check_readable
  check_large_objects
  check_roles
  foresee
  put tls "$tls" && put tables "$tables"
  check_writable
  check_space
  foresee_views "$newest" "$BACKUP_RESULTS/.$database.views"
  put free "$(mebibytes $((free * 1024)))"
  put_growth
  put_outlook "$newest"
  put restore_outlook "$outlook"
  put state ready
  prepare_result "$database.result" 2>"$stderr" || fail_with_stderr "cannot write to $BACKUP_RESULTS"
  end_with_result
}

report_checks() {
  code=0
  report_line DATABASE RESULT SERVER ROLE TLS TABLES FREE WHY
  for conf in "$BACKUP_CONFIG"/*.conf; do
    name_database "$conf"
    (report_check) || code=1
  done
  for conf in "$BACKUP_CONFIG"/*.conf; do
    name_database "$conf"
    (report_outlook)
  done
  report_volume
  return "$code"
}

report_line() { printf '%-24s %-7s %-9s %-8s %-8s %6s %10s  %s\n' "$@"; }

report_check() {
  verdict=FAILED
  if read_pairs found_ "$BACKUP_RESULTS/$database.result" state && [ "$found_state" = ready ]; then verdict=ready; fi
  case $verdict in
    ready) why=${found_warning:--} ;;
    *) why="${found_error:-${problem:-}}; ${found_remedy:-}" ;;
  esac
  report_line "$database" "$verdict" "${found_server_version:--}" "${found_role:--}" "${found_tls:--}" "${found_tables:--}" \
    "${found_free:--}" "$why"
  [ "$verdict" = ready ]
}

report_outlook() {
  read_pairs found_ "$BACKUP_RESULTS/$database.result" restore_outlook || return 0
  printf '%s: %s\n' "$database" "$found_restore_outlook"
}

report_volume() {
  growth=$(cat "$BACKUP_RESULTS"/*.result | awk -F = '$1 == "growth" { sum += $2 } END { printf "%.0f", sum }')
  df -Pk "$BACKUP_ROOT" | awk -v growth="$growth" '
    function mebibytes(kibibytes) { return sprintf("%.0f MiB", kibibytes / 1024) }
    NR == 2 {
      full = $3 + (growth > 0 ? growth / 1024 : 0)
      printf "volume: %s, %s used; about %s once all tiers are full\n", mebibytes($3 + $4), mebibytes($3), mebibytes(full)
      if (full > $3 + $4) print "volume: warning: it will be too small; grow the claim, keep fewer backups, or set maxBytes"
    }'
}

limit_of() {
  conf_timeout=''
  read_pairs conf_ "$1" || :
  limit=$((run_deadline - $(seconds)))
  ! is_number "$conf_timeout" || [ "$conf_timeout" -gt "$limit" ] || limit=$conf_timeout
}
