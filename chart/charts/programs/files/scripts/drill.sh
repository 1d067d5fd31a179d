#!/bin/sh
# Without comments: they are in the project's file of this name.
set -eu
umask 077
LC_ALL=C
export LC_ALL
. "${0%/*}/lib.sh"
. "${0%/*}/archive.sh"
. "${0%/*}/remedies.sh"
. "${0%/*}/views.sh"
. "${0%/*}/careful.sh"
. "${0%/*}/rows.sh"
. "${0%/*}/drill-server.sh"
. "${0%/*}/drill-rights.sh"
. "${0%/*}/drill-restore.sh"

fail() {
  trap '' TERM INT
  why=$1 remedy=${2:-} state=${3:-failed}
  [ -n "$remedy" ] || { ! lacks "$1" || state=unproved; }
  [ -n "$remedy" ] || remedy=$(remedy_for "$1")
  stop_server
  put_failure "$state" "$why" "$remedy"
  publish_result
  log "$database" "FAILED: $req_base.dump: $why; $remedy"
  exit 0
}

lacks() {
  case $1 in
    *"extension \""*"is not available"* | *"extension control file"* | *"could not access file"* | *"could not load library"*) ;;
    *"shared_preload_libraries"* | *"must be preloaded"* | *"out of shared memory"*) ;;
    *"unrecognized configuration parameter"* | *"throwaway server did not start"* | *"could not look up effective user"*) ;;
    *) return 1 ;;
  esac
}

publish_result() {
  put finished "$(now)"
  write_result "$req_base.drill" || log "$database" "its result cannot be written to $BACKUP_RESULTS"
}

on_term() {
  trap '' TERM INT
  end_child
  if [ "$(seconds)" -ge "$deadline" ]; then
    fail "not restored and checked within $limit s" "raise drill.timeoutSeconds, or give the drill more CPU"
  fi
  (fail "stopped by SIGTERM before it was done" "the next drill tries again" not-reached)
  stop_server
  exit 143
}

begin() {
  set_places "$1"
  limit=$2 deadline=$3
  trap on_term TERM INT
  put database "$database" && put base "$req_base" && put started "$(now)"
}

check_rows() {
  ask_as_reader ask "$drilled" <<SQL || fail_with_stderr "a table cannot be read"
SELECT format('SELECT %L, count(*) FROM ONLY %I.%I', relkind, n.nspname, c.relname) $own_relations
  AND relkind IN ('r', 'm') AND relispopulated
\\gexec
SQL
  rows=$(awk -F "$separator" '$1 == "r" { n += $2 } END { printf "%.0f\n", n }' "$facts")
  [ -z "$req_rows" ] || [ "$rows" = "$req_rows" ] ||
    fail "it has $rows rows, the archive held $req_rows when it was made"
  as_role "$reader" run pg_dump -Fp -w -f /dev/null || run pg_dump -Fp -w -f /dev/null ||
    fail_with_stderr "it cannot be dumped again"
  put rows "$rows"
}

check_counts() {
  ask "$drilled" <<SQL || fail_with_stderr "the catalog cannot be read"
SELECT count(*) FILTER (WHERE relkind IN ('r', 'p')), count(*) FILTER (WHERE relkind = 'S'),
  (SELECT count(*) FROM pg_index i JOIN pg_class t ON t.oid = i.indexrelid WHERE NOT indisvalid AND t.relkind = 'i'), (SELECT count(*) FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid
    WHERE c.relnamespace <> ALL (ARRAY['pg_catalog', 'pg_toast', 'information_schema']::regnamespace[])) $own_relations
SQL
  IFS=$separator read -r found_tables found_sequences invalid indexes <"$facts"
  [ "$found_tables" = "$tables" ] && [ "$found_sequences" = "$sequences" ] ||
    fail "it has $found_tables tables and $found_sequences sequences, the archive lists $tables and $sequences"
  [ -z "$req_tables" ] || [ "$found_tables" = "$req_tables" ] ||
    fail "it has $found_tables tables, and there were $req_tables when it was dumped"
  [ "$invalid" = 0 ] || fail "$invalid indexes are invalid"
  put tables "$found_tables" && put sequences "$found_sequences" && put indexes "$indexes"
}

check_indexes() {
  ask "$drilled" <<'SQL' || fail_with_stderr "the extensions cannot be read"
SELECT count(*) FROM pg_available_extensions WHERE name = 'amcheck'
SQL
  IFS= read -r available <"$facts"
  put amcheck "$([ "$available" = 1 ] && echo yes || echo no)"
  [ "$available" = 1 ] || return 0
  ask "$drilled" <<'SQL' || fail_with_stderr "an index is damaged"
CREATE SCHEMA cnpg_backup_drill;
CREATE EXTENSION IF NOT EXISTS amcheck SCHEMA cnpg_backup_drill;
SELECT format('SELECT %I.bt_index_check(%s)', n.nspname, i.indexrelid) FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
  JOIN pg_am a ON a.oid = c.relam AND a.amname = 'btree' JOIN pg_extension e ON e.extname = 'amcheck'
  JOIN pg_namespace n ON n.oid = e.extnamespace WHERE c.relkind = 'i' AND i.indisvalid
\gexec
SQL
}

check_assertions() {
  assertions=$BACKUP_CONFIG/$database.assertions count=0
  [ -f "$assertions" ] || return 0
  while IFS= read -r query <&3 || [ -n "$query" ]; do
    [ -n "$query" ] || continue
    count=$((count + 1))
    if [ "$reader" != postgres ] && printf '%s\n' "$query" | as_role "$reader" ask_for_user "$drilled"; then
      [ "$(cat "$facts")" != t ] || continue
    fi
    printf '%s\n' "$query" | ask_for_user "$drilled" ||
      fail "assertion $count failed with an error: $query: $(first_error)" "correct the assertion, or check the archive's data"
    [ "$(cat "$facts")" = t ] ||
      fail "assertion $count is not true: $query" "check the archive's data; if it is right, correct the assertion"
  done 3<"$assertions"
  put assertions "$count"
}

drill_archive() {
  begin "$@"
  read_archive
  check_views
  name_database
  start_server
  check_extensions
  preload_libraries
  restore
  check_counts
  check_rows
  check_indexes
  check_assertions
  stop_server
  put server_version "$(postgres --version | sed 's/.*) //; s/ .*//')"
  put state proved
  publish_result
  log "$database" "proved $req_base.dump: $found_tables tables, $rows rows, restored and checked in $(($(seconds) - began)) s"
}

forget_server() {
  server=$(head -n 1 "$DRILL_SCRATCH/data/postmaster.pid" 2>/dev/null) || :
  [ -z "$server" ] || kill -QUIT "$server" 2>/dev/null || :
  rm -rf "$DRILL_SCRATCH/data" "$BACKUP_RUN"/.s.PGSQL.*
}

drill_all() {
  for request in "$BACKUP_RESULTS"/*.request; do
    read_request "$request"
    database=$req_database
    left=$((run_deadline - $(seconds)))
    if [ "$left" -le 0 ]; then
      write_failure "$req_base.drill" not-reached "not reached within the $DRILL_TIMEOUT s of the drill" \
        "raise drill.timeoutSeconds" "$req_base"
      continue
    fi
    timeout -k 20 "$left" sh "$0" --drill-one "$request" "$left" "$(($(seconds) + left))" &
    child=$!
    wait "$child" || :
    child=
    rm -f "$DRILL_SCRATCH/archives/$req_base".*
    [ ! -e "$BACKUP_RESULTS/$req_base.drill" ] || continue
    forget_server
    write_failure "$req_base.drill" failed "its drill ended without a result" \
      "raise drill.resources.limits.memory: it may have run out of memory" "$req_base"
  done
}

stop() {
  trap '' TERM INT
  end_child
  exit 143
}

usage() {
  echo "drill.sh: $1" >&2
  exit 2
}

check_environment() {
  for variable in BACKUP_CONFIG BACKUP_RUN BACKUP_RESULTS DRILL_SCRATCH DRILL_TIMEOUT; do
    eval "value=\${$variable-}"
    [ -n "$value" ] || usage "$variable is not set; start this by a Job of the chart's CronJob, which sets it"
    [ "$variable" = DRILL_TIMEOUT ] || [ -d "$value" ] || usage "$value is not a directory; is its volume mounted?"
  done
}

main() {
  case ${1-} in
    '') ;;
    --drill-one)
      drill_archive "$2" "$3" "$4"
      return
      ;;
    *) usage "unknown argument '$1'" ;;
  esac
  check_environment
  for request in "$BACKUP_RESULTS"/*.request; do
    [ -e "$request" ] || { echo "drill.sh: no archive was handed over" && return; }
    read_request "$request" seconds
    is_number "$req_seconds" || usage "$request: seconds='$req_seconds' is not a number; $version_mismatch"
  done
  run_deadline=$(($(seconds) + req_seconds))
  exec >"$DRILL_SCRATCH/drill.log" 2>&1 8>&1
  trap stop TERM INT
  drill_all
}

main "$@"
