#!/bin/sh
# Without comments: they are in the project's file of this name.
set -eu
umask 077
LC_ALL=C
export LC_ALL
. "${0%/*}/lib.sh"
. "${0%/*}/archive.sh"
. "${0%/*}/volume.sh"
. "${0%/*}/views.sh"
. "${0%/*}/foresee.sh"
. "${0%/*}/dump-remedies.sh"
. "${0%/*}/check.sh"
. "${0%/*}/probe.sh"
. "${0%/*}/outlook.sh"
. "${0%/*}/every.sh"

allowed_extra_arg() {
  case $1 in
    --enable-row-security*) return 1 ;;
    --exclude-table=?* | --exclude-table-and-children=?* | --exclude-table-data=?* | --exclude-schema=?*) ;;
    --exclude-table-data-and-children=?* | --exclude-extension=?* | --extension=?* | --schema=?* | --table=?*) ;;
    --table-and-children=?* | --include-foreign-data=?* | --encoding=?* | --role=?* | --extra-float-digits=?*) ;;
    --no-comments | --no-publications | --no-subscriptions | --no-security-labels | --no-tablespaces) ;;
    --no-toast-compression | --no-unlogged-table-data | --no-owner | --no-privileges | --no-acl) ;;
    --no-table-access-method | --no-policies | --no-statistics | --statistics | --strict-names) ;;
    --large-objects | --no-large-objects | --blobs | --no-blobs | --quote-all-identifiers) ;;
    --serializable-deferrable | --load-via-partition-root | --verbose) ;;
    *) return 1 ;;
  esac
}

fail() {
  report_failure "$@"
  exit 0
}

without_script() { sed 's/^[^ ]*\.sh: \(line \)\{0,1\}[0-9]*: //; s/^[^ ]*\.sh: //'; }

fail_with_stderr() {
  error=$(first_error)
  case $error in *.sh:*": "*) error=$(printf %s "$error" | without_script) ;; esac
  fail "${error:-$1}"
}

locked='' staged='' base=''
report_failure() {
  trap '' TERM INT
  remedy=${2:-$(remedy_for "$1")}
  error=$1
  if is_full "$BACKUP_RUN"; then
    error="the scratch volume $BACKUP_RUN is full${1:+: $1}"
    remedy="this is not the backups' volume: lower dump.parallel, leave --verbose out of extraArgs, or use more CronJobs (shards)"
  fi
  if [ -n "$locked" ]; then
    discard 2>/dev/null || :
    save_last_error 2>/dev/null || :
  fi
  warnings=$(printf %s "$pairs" | grep '^warning=') || :
  put_head
  pairs=$pairs${warnings:+$warnings$line_end}
  put_failure failed "$error" "$remedy"
  put finished "$(now)"
  log "$database" "FAILED: $error"
  trap - EXIT
  if prepare_result "$database.result"; then
    end_with_result
  else
    rm -f "$BACKUP_RESULTS/.$database.result.new" || :
    log "$database" "its result cannot be written to $BACKUP_RESULTS; look whether it is full"
  fi
}

end_with_result() {
  trap - EXIT
  mv "$BACKUP_RESULTS/.$database.result.new" "$BACKUP_RESULTS/$database.result" || :
}

is_full() {
  room=$(df -Pk "$1" 2>/dev/null | awk 'NR == 2 { print $4 }')
  is_number "$room" && [ "$room" -lt 8 ]
}

on_exit() {
  code=$?
  end_child
  error=$(tail -n 1 "$BACKUP_RUN/$database.errors" 2>/dev/null | without_script | tr -d '[:cntrl:]') || :
  report_failure "${error:-its dump ended with exit code $code, and no program said why}"
}

on_term() {
  trap '' TERM INT
  end_child
  stderr=/dev/null
  if [ "$(seconds)" -ge "$deadline" ]; then
    fail "not done within ${limit} s" "find out what is slow, or raise 'timeout' of this database or of the run"
  fi
  report_failure "stopped by SIGTERM before it was done; nothing of this dump is kept" "the next run starts from scratch"
  exit 143
}

check_extra_args() {
  while IFS= read -r line || [ -n "$line" ]; do
    case $line in extra_arg=*) allowed_extra_arg "${line#extra_arg=}" ||
      fail "extra argument '${line#extra_arg=}' is not allowed" "see extraArgs in values.yaml for the allowed ones" ;;
    esac
  done <"$conf"
}

connect() {
  ask_primary
  if [ -n "$conf_standby_host" ]; then
    PGHOST=$conf_standby_host,$conf_host PGTARGETSESSIONATTRS=prefer-standby
  fi
  wait_for_server
  if [ -n "$conf_standby_host" ] && [ "$role" = standby ]; then
    PGHOST=$conf_standby_host PGTARGETSESSIONATTRS=standby
  else
    ask_primary
  fi
}

check_version() {
  client_version=$(pg_dump --version)
  client_version=${client_version#*"(PostgreSQL) "}
  client_version=${client_version%% *}
  major=$((server_num / 10000))
  case $client_version in
    "$major" | "$major".* | "$major"[a-z]*) ;;
    *) fail "the server is PostgreSQL $server_version, this image's pg_dump is $client_version" \
      "$(image_of_major "$major"); dump, check and restore need the server's own major version" ;;
  esac
}

pg_dump_once() {
  set -- "$@" -Fc -Z "$compression" "--lock-wait-timeout=$((conf_lock_wait_timeout * 1000))" -w -f "$partial"
  while IFS= read -r line || [ -n "$line" ]; do
    case $line in extra_arg=*) set -- "$@" "${line#extra_arg=}" ;; esac
  done <"$conf"
  run_filtered pg_dump "$@" || return
  warn_of_pg_dump
}

run_filtered() {
  code=0
  make_pipe "$stderr.pipe" || return
  awk 'NR <= 200 || (/(error|warning|hint|detail|ERROR|FATAL|HINT|DETAIL): / && n++ < 800) { print substr($0, 1, 1000) }' \
    <&6 >"$stderr" 5>&- 6<&- &
  counter=$!
  exec 6<&-
  run messages_to_pipe "$@" || code=$?
  end_counter
  return "$code"
}

lost_connection() {
  lost_tls "$1" || case $1 in
    *"server closed the connection"* | *"terminating connection"* | *"onnection to server"* | *"could not receive data"* | \
      *"SSL error"* | *"conflict with recovery"* | *"the database system is"* | *"no connection to the server"*) ;;
    *) return 1 ;;
  esac
}

dropped_in_mid_dump() {
  case $1 in
    *'database "'*'" does not exist'* | *'role "'*'" does not exist'*) return 1 ;;
    *" does not exist"* | *"could not open relation with OID"* | *"cache lookup failed for"*) ;;
    *) return 1 ;;
  esac
}

compression_refused() {
  case $1 in
    "pg_dump: error: unrecognized compression algorithm"* | "pg_dump: error: invalid compression specification"* | \
      "pg_dump: error: this build does not support compression"* | "pg_dump: error: compression level must be"* | \
      'pg_dump: error: invalid value "'*'" for option -Z'* | 'pg_dump: error: invalid value "'*'" for option "-Z'*) ;;
    *) return 1 ;;
  esac
}

exit_of() {
  case $status in
    137) echo "$1 was killed (SIGKILL)" ;;
    *) echo "$1 ended with exit code $status and printed nothing" ;;
  esac
}

why() {
  error=$(first_error)
  echo "${error:-$(exit_of "$1")}"
}

warn_of_pg_dump() {
  awk '/^pg_dump: warning: / && !seen[$0]++ {
    if (++n > 10) exit
    gsub(/[[:cntrl:]]/, " ")
    print substr($0, 1, 300)
  }' "$stderr" >"$facts"
  while IFS= read -r line; do warn "pg_dump: ${line#pg_dump: warning: }"; done <"$facts"
}

dump() {
  attempts=1 compression=$conf_compression began=$(seconds)
  until pg_dump_once; do
    error=$(why pg_dump)
    rm -f "$partial"
    if [ "$compression" != 6 ] && compression_refused "$error"; then
      warn "this pg_dump does not support $compression, so gzip is used"
      compression=6
      continue
    fi
    [ "$attempts" -le "$conf_retries" ] || fail "$error"
    [ "$role" = standby ] || lost_connection "$error" || dropped_in_mid_dump "$error" || fail "$error"
    attempts=$((attempts + 1))
    warn "attempt on the $role failed ($error), trying again on the primary"
    ask_primary
    wait_for_server
  done
  [ "$compression" != 6 ] || compression=gzip:6
  dump_seconds=$(($(seconds) - began))
}

verify() {
  began=$(seconds)
  [ -s "$partial" ] || fail "pg_dump left an empty file" "run it again; if it persists, check the volume"
  listing=$dir/.$base.list.partial
  read_whole "$partial" "$conf_count_rows" ||
    fail "the archive cannot be read back: $(why pg_restore)" "check the volume; the next run dumps again"
  read_contents "$partial" || fail "the archive's contents cannot be listed: $(why pg_restore)" "check the volume"
  check_not_empty
  sha256=$(sha256sum <"$partial")
  sha256=${sha256%% *}
  bytes=$(stat -c %s "$partial")
  verify_seconds=$(($(seconds) - began))
}

check_not_empty() {
  [ "$tables" != 0 ] || [ "$conf_allow_empty" = true ] ||
    fail "the database has no tables" "if that is right, set allowEmpty: true for it; if not, correct the name in 'database'"
}

dump_globals() {
  globals=no
  file=$dir/.$base.globals.sql
  set -- --globals-only -w -f "$file.partial"
  case $conf_dbname in *[!A-Za-z0-9_-]*) ;; *) set -- "$@" -l "$conf_dbname" ;; esac
  hashes=no
  [ "$conf_roles" != with-password-hashes ] || ! run pg_dumpall "$@" || hashes=yes
  [ "$conf_roles" != with-password-hashes ] || [ "$hashes" = yes ] || warn "$(without_hashes): $(first_error)"
  if [ "$hashes" = yes ] || run pg_dumpall "$@" --no-role-passwords; then
    globals=yes
    mv "$file.partial" "$file.staged" 2>"$stderr" && sync_file "$file.staged" && return
  fi
  globals=no
  warn "roles are not in this backup: $(first_error)"
  rm -f "$file.partial" "$file.staged"
}

without_hashes() { echo "roles are saved without the hashes of their passwords, which this role cannot read"; }

begin() {
  database=$1 limit=$2 deadline=$3 started=$(now)
  conf=${4:-$BACKUP_CONFIG/$database.conf} dir=$BACKUP_ROOT/$database
  stderr=$BACKUP_RUN/$database.stderr facts=$BACKUP_RUN/$database.facts
  credentials_of="its Secret" ca_of="its CA Secret"
  conf_cluster='' conf_namespace='' conf_dbname='' conf_standby_host=''
  trap on_term TERM INT
  trap on_exit EXIT
  exec 2>"$BACKUP_RUN/$database.errors"
  : >"$stderr"
  read_config compression allow_empty count_rows roles
  check_numbers timeout lock_timeout lock_wait_timeout retries max_bytes min_backups most_backups
  check_extra_args
  credentials_of="the Secret of cluster $conf_cluster" ca_of="the CA Secret of cluster $conf_cluster"
  put_head
}

put_head() {
  pairs=''
  put database "$database"
  put started "$started"
  put chart_version "${BACKUP_CHART_VERSION:-}"
  put cluster "${conf_cluster-}" && put namespace "${conf_namespace-}" && put dbname "${conf_dbname-}"
}

backup_database() {
  begin "$@"
  take_lock
  set_credentials
  connect
  check_version
  check_space
  choose_base
  dump
  foresee
  verify
  foresee_views "$partial" "$dir/.$base.views.partial"
  dump_globals
  put_outlook "$partial"
  [ "$method" != none ] || log "$database" "$outlook"
  stage
  times="dumped in $dump_seconds s, read back in $verify_seconds s"
  log "$database" "staged $base.dump: $(mebibytes "$bytes"), $tables tables, $times, PostgreSQL $server_version, $role"
}

name_database() { database=${1##*/} && database=${database%.conf}; }

work() {
  trap 'trap "" TERM; end_child; exit 143' TERM
  for conf in "$BACKUP_CONFIG"/*.conf; do
    name_database "$conf"
    [ ! -e "$BACKUP_RESULTS/$database.result" ] || continue
    claim || continue
    limit_of "$conf"
    if [ "$limit" -le 0 ]; then
      write_failure "$database.result" not-reached "not reached within the $BACKUP_TIMEOUT s of the run" \
        "raise the run's timeout, dump more databases at a time, or find out which one is slow"
      continue
    fi
    began=$(seconds) status=0
    timeout -k 20 "$limit" sh "$0" "$one" "$database" "$limit" "$((began + limit))" &
    child=$!
    wait "$child" || status=$?
    child=
    [ -e "$BACKUP_RESULTS/$database.result" ] || explain_end
    free_scratch
  done
}

free_scratch() {
  cat "$BACKUP_RUN/$database.errors" >&2 2>/dev/null || :
  for suffix in errors stderr stderr.pipe facts facts.list facts.sql facts.rows facts.outlook facts.needs facts.forbidden pgpass; do
    rm -f "$BACKUP_RUN/$database.$suffix" || :
  done
}

claim() {
  ! error=$(mkdir "$claims/$database" 2>&1) || return 0
  [ ! -d "$claims/$database" ] && [ ! -e "$BACKUP_RESULTS/$database.result" ] || return 1
  write_failure "$database.result" failed "its scratch folder cannot be made: ${error##*: }" \
    "check the scratch volume $BACKUP_RUN: it may be full"
  return 1
}

explain_end() {
  if [ "$(seconds)" -ge $((began + limit)) ]; then
    set -- "not done within $limit s, and killed" "find out what is slow, or raise 'timeout' of this database or of the run"
  elif [ "$status" = 137 ]; then
    set -- "its dump was killed (SIGKILL)" "it may have run out of memory: raise dump.resources.limits.memory"
  elif is_full "$BACKUP_RESULTS"; then
    set -- "its result could not be written: $BACKUP_RESULTS is full" "dump fewer databases by one CronJob, in shards"
  else
    set -- "its dump ended with exit code $status and without a result" "see the log lines above"
  fi
  write_failure "$database.result" failed "$@"
}

stop() {
  trap '' TERM INT
  for worker in $workers; do kill -TERM "$worker" 2>/dev/null || :; done
  for worker in $workers; do wait "$worker" 2>/dev/null || :; done
  for conf in "$BACKUP_CONFIG"/*.conf; do
    name_database "$conf"
    grep -qs '^state=staged$' "$BACKUP_RESULTS/$database.result" || log "$database" "LOST: stopped by SIGTERM before it was done"
  done
  exit 143
}

usage() {
  echo "dump.sh: $1" >&2
  exit 2
}

check_environment() {
  for variable in BACKUP_ROOT BACKUP_CONFIG BACKUP_CREDENTIALS BACKUP_RUN BACKUP_RESULTS BACKUP_PARALLEL BACKUP_TIMEOUT; do
    eval "value=\${$variable-}"
    [ -n "$value" ] || usage "$variable is not set; start this by a Job of the chart's CronJob, which sets it"
  done
  is_number "$BACKUP_PARALLEL" && [ "$BACKUP_PARALLEL" -gt 0 ] || usage "BACKUP_PARALLEL='$BACKUP_PARALLEL' is not a number above 0"
  is_number "$BACKUP_TIMEOUT" && [ "$BACKUP_TIMEOUT" -gt 0 ] || usage "BACKUP_TIMEOUT='$BACKUP_TIMEOUT' is not a number of seconds above 0"
  for folder in "$BACKUP_ROOT" "$BACKUP_CONFIG" "$BACKUP_RUN" "$BACKUP_RESULTS"; do
    [ -d "$folder" ] || usage "$folder is not a directory; is its volume mounted?"
  done
  set -- "$BACKUP_CONFIG"/*.conf "$BACKUP_CONFIG"/*.all
  [ -e "$1" ] || [ -e "$2" ] || usage "no database is configured: there is no *.conf in $BACKUP_CONFIG"
}

main() {
  one=--dump-one
  case ${1-} in
    '') ;;
    --check) one=--check-one ;;
    --dump-one)
      backup_database "$2" "$3" "$4"
      return
      ;;
    --check-one)
      check_database "$2" "$3" "$4"
      return
      ;;
    --list)
      list_databases "$2" "$3" "$4"
      return
      ;;
    *) usage "unknown argument '$1'" ;;
  esac
  check_environment
  run_deadline=$(($(seconds) + BACKUP_TIMEOUT)) claims=$BACKUP_RUN/claims workers=
  mkdir -p "$claims" 2>/dev/null || :
  trap stop TERM INT
  resolve_entries
  while [ "$BACKUP_PARALLEL" -gt 0 ]; do
    work &
    workers="$workers $!"
    BACKUP_PARALLEL=$((BACKUP_PARALLEL - 1))
  done
  for worker in $workers; do wait "$worker" || :; done
  [ "$one" = --dump-one ] || report_checks
}

main "$@"
