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

visitor=cnpg_backup_reader

step() {
  shown=$pairs
  put state "$1" && put step "${2-}"
  write_result open.state || :
  pairs=$shown
}

fail() {
  trap 'exit 143' TERM INT
  why=$1 remedy=${2:-}
  [ -n "$remedy" ] || remedy=$(remedy_for "$1")
  stop_server
  put_failure failed "$why" "$remedy"
  write_result open.state || :
  log "$database" "FAILED: $req_base.dump: $why; $remedy"
  run sleep "${OPEN_LINGER:-300}" || :
  exit 1
}

set_up_server() {
  server_settings="autovacuum = on
lo_compat_privileges = on
cluster_name = 'copy of $req_base'"
  [ "$major" -lt 17 ] || server_settings="$server_settings
event_triggers = off"
  server_logins="local all all trust
host all postgres,$visitor 127.0.0.1/32 scram-sha-256
host all all all reject"
  server_address=127.0.0.1 server_port=${OPEN_PORT:-5432}
}

let_in() {
  who=$visitor
  [ "${OPEN_WRITE-}" != yes ] || who=postgres
  secret=$(head -c 24 /dev/urandom | od -An -v -tx1 | tr -d ' \n')
  ask postgres <<SQL || fail_with_stderr "the role that reads cannot be created"
SELECT 'CREATE ROLE $visitor' WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '$visitor')
\\gexec
ALTER ROLE $visitor LOGIN NOSUPERUSER BYPASSRLS;
ALTER ROLE $visitor SET default_transaction_read_only = on;
GRANT pg_read_all_data, pg_read_all_settings, pg_read_all_stats TO $visitor;
SET password_encryption = 'scram-sha-256';
ALTER ROLE $who PASSWORD '$secret';
SQL
  { echo "user=$who" && echo "password=$secret"; } >"$BACKUP_RUN/login"
  secret=''
  rm -f "$BACKUP_RUN/query.sql"
}

name_copy() {
  stamp=${req_base#"$req_database-"}
  suffix=_copy_${stamp%-*}_${stamp#*-}
  ask postgres -v name="$req_dbname" -v suffix="$suffix" -v old="$drilled" <<'SQL' || fail_with_stderr "the copy cannot be renamed"
SELECT left(:'name', i) || :'suffix' AS name FROM generate_series(1, 63) i
  WHERE octet_length(left(:'name', i)) <= 63 - octet_length(:'suffix') ORDER BY i DESC LIMIT 1
\gset
ALTER DATABASE :"old" RENAME TO :"name";
SELECT format('ALTER DATABASE %I CONNECTION LIMIT -1 ALLOW_CONNECTIONS true', :'name')
\gexec
SELECT :'name';
SQL
  IFS= read -r copy <"$facts"
}

end_after() {
  ends=$(($(seconds) + OPEN_SECONDS))
  while [ "$(seconds)" -lt "$ends" ]; do
    kill -0 "$server" 2>/dev/null || fail "its server has ended: $(server_error)" "raise drill.resources.limits.memory: it may have run out of memory"
    run sleep 1 || :
  done
  stop_server
}

on_term() {
  trap '' TERM INT
  end_child
  stop_server
  exit 143
}

open_archive() {
  set_places "$1"
  exec >"$DRILL_SCRATCH/open.log" 2>&1 8>&1
  trap on_term TERM INT
  began=$(seconds)
  put database "$database" && put base "$req_base" && put write "${OPEN_WRITE:-no}"
  step restoring "reading the archive"
  read_archive
  check_views
  name_database
  set_up_server
  step restoring "starting a server"
  start_server
  check_extensions
  preload_libraries
  step restoring "restoring $(mebibytes "$req_bytes")"
  restore
  rm -f "$archive"
  name_copy
  let_in
  put dbname "$copy" && put server_version "$(postgres --version | sed 's/.*) //; s/ .*//')" && put seconds "$(($(seconds) - began))"
  step ready
  log "$database" "$req_base.dump is open"
  end_after
}

read_state() {
  now_state='' now_step='' now_error='' now_remedy='' now_dbname='' now_base='' now_write=''
  [ ! -f "$BACKUP_RESULTS/open.state" ] || read_pairs now_ "$BACKUP_RESULTS/open.state" || :
}

run_psql() {
  read_state
  until [ "$now_state" = ready ]; do
    if [ "$now_state" = failed ]; then
      echo "open.sh: $now_base.dump: $now_error; $now_remedy" >&2
      exit 1
    fi
    sleep 0.2
    read_state
  done
  PGHOST=$BACKUP_RUN PGPORT=${OPEN_PORT:-5432} PGUSER=$visitor PGDATABASE=$now_dbname PGAPPNAME=cnpg-backup-open PSQL_HISTORY=/dev/null
  kind=read-only
  [ "$now_write" != yes ] || { PGUSER=postgres && kind=writable; }
  export PGHOST PGPORT PGUSER PGDATABASE PGAPPNAME PSQL_HISTORY
  [ -t 0 ] || set -- -v ON_ERROR_STOP=1 "$@"
  exec psql -X -P pager=off -v PROMPT1="$kind COPY %/%R%x%# " -v PROMPT2="$kind COPY %/%R%x%# " "$@"
}

usage() {
  echo "open.sh: $1" >&2
  exit 2
}

check_environment() {
  for variable in BACKUP_CONFIG BACKUP_RUN BACKUP_RESULTS DRILL_SCRATCH OPEN_SECONDS; do
    eval "value=\${$variable-}"
    [ -n "$value" ] || usage "$variable is not set; start this by a Job of the chart's CronJob, which sets it"
    [ "$variable" = OPEN_SECONDS ] || [ -d "$value" ] || usage "$value is not a directory; is its volume mounted?"
  done
  is_number "$OPEN_SECONDS" || usage "OPEN_SECONDS='$OPEN_SECONDS' is not a whole number"
}

main() {
  check_environment
  case ${1-} in
    '') ;;
    --state)
      [ ! -f "$BACKUP_RESULTS/open.state" ] || cat "$BACKUP_RESULTS/open.state"
      return
      ;;
    --login)
      cat "$BACKUP_RUN/login"
      return
      ;;
    --psql)
      shift
      run_psql "$@"
      ;;
    *) usage "unknown argument '$1'" ;;
  esac
  for request in "$BACKUP_RESULTS"/*.request; do
    [ -e "$request" ] || usage "no archive was handed over"
    open_archive "$request"
  done
}

main "$@"
