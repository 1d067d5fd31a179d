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
. "${0%/*}/selection.sh"
. "${0%/*}/partial.sh"
. "${0%/*}/beside.sh"
. "${0%/*}/in-place.sh"
. "${0%/*}/forbidden.sh"
. "${0%/*}/locks.sh"
. "${0%/*}/owners.sh"
. "${0%/*}/target.sh"
. "${0%/*}/settings.sh"
. "${0%/*}/every.sh"
. "${0%/*}/extensions.sh"
. "${0%/*}/undelete.sh"
. "${0%/*}/analyze.sh"
. "${0%/*}/copies.sh"

watcher='' feeder='' holder='' made='' copying='' copied_before='' roles_made='' target_state='' found_rows=''

report() {
  log "$database" "$1"
  [ -z "${RESTORE_TERMINATION_LOG:-}" ] || printf '%s: %s\n' "$database" "$1" >>"$RESTORE_TERMINATION_LOG" || :
}

name_some() {
  awk 'NR <= 20 { printf "%s%s", sep, $0; sep = ", " } END { if (NR > 20) printf " (and %d more)", NR - 20 }' "$1"
}

quoted() { printf '"%s"' "$(printf '%s\n' "$1" | sed 's/"/""/g')"; }

fail() {
  trap '' TERM INT
  why=$1 remedy=${2:-}
  [ -n "$remedy" ] || remedy=$(remedy_for "$1")
  stop_watching
  [ -z "$feeder" ] || kill "$feeder" 2>/dev/null || :
  drop_new_database
  report "FAILED: $why"
  report "remedy: $remedy"
  if [ -n "$roles_made" ]; then log "$database" "roles that were created before the failure are kept:$roles_made"; fi
  [ -n "$target_state" ] || target_state="nothing was changed: '$target' is as it was"
  report "$target_state"
  exit "${3:-1}"
}

refuse() { fail "refused: $1" "$2" 3; }

remedy_for() {
  case $1 in
    *".dump cannot be read: "* | *"could not read from input file"* | *"could not uncompress data"* | *"could not decompress data"*)
      echo "restore an earlier archive: RESTORE_BACKUP='newest before …'"
      ;;
    *"No space left"* | *"could not extend file"*)
      echo "grow the server's volume, which must hold the old and the new database at once, or set RESTORE_WAY=in-place"
      ;;
    *"out of shared memory"*) echo "raise max_locks_per_transaction of the cluster, then restore again" ;;
    *"deadlock detected"* | *"being accessed by other users"*)
      echo "other sessions are in the way: stop the application, then restore again"
      ;;
    *" rows, the archive held "*) echo "restore again; if it persists, use another archive" ;;
    *"no partition of relation"*)
      echo "create a partition for these rows first, or leave them out with a condition (RESTORE_WHERE)"
      ;;
    *"role \""*"does not exist"*)
      echo "create that role as superuser (<base>.globals.sql next to the archive lists it), then restore again"
      ;;
    *"tablespace \""*"does not exist"*) echo "declare that tablespace in the cluster, then restore again" ;;
    *"of relation "*"does not exist"*)
      echo "if that table is an extension's, the server has an older version of it: ALTER EXTENSION … UPDATE, then restore again"
      ;;
    *"shared_preload_libraries"* | *"must be preloaded"*)
      echo "add that library to spec.postgresql.shared_preload_libraries of the cluster, then restore again"
      ;;
    *"extension \""*) echo "check that the server's image has that extension in that version, and who may create it" ;;
    *"must be owner"* | *"permission denied"*)
      echo "restore with the superuser's Secret (spec.enableSuperuserAccess of the cluster), or as the owner"
      ;;
    *"invalid locale"* | *"invalid LC_"* | *"encoding"*)
      echo "use an image for the cluster that has the locale of the archive's database"
      ;;
    *"server closed the connection"* | *"terminating connection"* | *"no connection to the server"* | *"connection to server was lost"*)
      echo "look at the server's log, then restore again"
      ;;
    *) remedy_in_source "$1" || common_remedy "$1" || echo "look for the cause in the server's log, then restore again" ;;
  esac
}

on_term() {
  trap '' TERM INT
  end_child
  fail "stopped by SIGTERM before it was done" "start the restore again" 143
}

read_options() {
  way_wanted=${RESTORE_WAY:-auto} replace=${RESTORE_REPLACE:-no} dry_run=${RESTORE_DRY_RUN:-no} jobs=${RESTORE_JOBS:-auto}
  keep=${RESTORE_KEEP:-yes}
  tables_wanted=${RESTORE_TABLES:-} schemas_wanted=${RESTORE_SCHEMAS:-}
  target=${RESTORE_INTO:-$conf_dbname}
  case $way_wanted in auto | beside | in-place) ;; *) usage "RESTORE_WAY='$way_wanted' is not one of auto, beside, in-place" ;; esac
  for key in replace dry_run keep; do
    eval "value=\$$key"
    case $value in yes | no) ;; *) usage "RESTORE_$(echo "$key" | tr '[:lower:]' '[:upper:]')='$value' is neither yes nor no" ;; esac
  done
  [ "$jobs" = auto ] || { is_number "$jobs" && [ "$jobs" -gt 0 ]; } || usage "RESTORE_JOBS='$jobs' is neither auto nor a number above 0"
  case $target in *[[:cntrl:]]*) usage "RESTORE_INTO holds a control character" ;; esac
  if [ -n "$tables_wanted$schemas_wanted" ] && [ "$target" = "$conf_dbname" ]; then
    usage "RESTORE_TABLES and RESTORE_SCHEMAS need a database of their own, from which you copy: name it in RESTORE_INTO"
  fi
  read_selection
  read_partial_options
  read_copy_options
}

use_other_cluster() {
  elsewhere=${RESTORE_CLUSTER:-} patient='' source=$conf_namespace/$conf_cluster/$conf_dbname
  [ -n "$elsewhere" ] || return 0
  case $elsewhere in
    */*/* | /* | */ | *[!a-z0-9./-]*) usage "RESTORE_CLUSTER='$elsewhere' is neither the name of a cluster nor NAMESPACE/NAME" ;;
    */*) conf_namespace=${elsewhere%/*} ;;
  esac
  conf_cluster=${elsewhere#*/} conf_port=5432
  case $conf_host in *.svc.*) conf_host=.svc.${conf_host#*.svc.} ;; *) conf_host=.svc ;; esac
  conf_host=$conf_cluster-rw.$conf_namespace$conf_host
  patient=yes
}

begin() {
  database=$req_database target=$req_dbname
  conf=$BACKUP_CONFIG/$database.conf archive=$BACKUP_ROOT/$database/$req_base.dump
  stderr=$BACKUP_RUN/stderr facts=$BACKUP_RUN/facts list=$BACKUP_RESULTS/list
  credentials_of="its Secret" ca_of="its CA Secret" began=$(seconds)
  [ -f "$conf" ] || settings_of_entry ||
    usage "$conf does not exist: this restore knows only the databases of its own CronJob"
  trap on_term TERM INT
  read_config
  use_other_cluster
  read_options
  credentials_of="the owner's Secret of cluster $conf_cluster" ca_of="the CA Secret of cluster $conf_cluster"
  login_of_superuser=$BACKUP_CREDENTIALS/${conf_entry:-$database}/superuser
  if [ -z "${RESTORE_UNDELETE:-}" ] && { [ -s "$login_of_superuser-password" ] || [ -s "$login_of_superuser-uri" ]; }; then
    credentials_of="the superuser's Secret of cluster $conf_cluster"
    set_credentials superuser-
  else
    set_credentials owner-
  fi
  PGAPPNAME="cnpg-backup restore"
  maintenance=postgres PGDATABASE=postgres
  ask_primary
}

look_at_roles() {
  ask "$maintenance" -v target="$target" -v to="$BACKUP_RUN/server" <<'SQL' || fail_with_stderr "the server's roles and databases cannot be read"
\o :to.me
SELECT rolsuper, rolcreatedb, rolcreaterole, nullif(rolconnlimit, -1) FROM pg_roles WHERE rolname = current_user;
\o :to.target
SELECT pg_get_userbyid(datdba), pg_has_role(datdba, 'USAGE'), datallowconn, datconnlimit FROM pg_database WHERE datname = :'target';
\o :to.prepared
SELECT quote_literal(gid), owner FROM pg_prepared_xacts WHERE database = :'target' ORDER BY prepared;
\o :to.roles
SELECT rolname FROM pg_roles WHERE strpos(rolname, chr(10)) = 0;
\o :to.superusers
SELECT rolname FROM pg_roles WHERE rolsuper AND strpos(rolname, chr(10)) = 0;
\o
SQL
  IFS=$separator read -r superuser may_create_databases may_create_roles may_connect <"$BACKUP_RUN/server.me"
}

look_at_server() {
  wait_for_server
  [ "$role" = primary ] || fail "host $conf_host is a standby" "set 'host' of this database to the primary"
  look_at_roles
  client_version=$(pg_restore --version)
  client_version=${client_version#*"(PostgreSQL) "}
  major=$((server_num / 10000)) archive_major=${req_server_version%%[!0-9]*}
  [ "$archive_major" -le "$major" ] ||
    fail "the archive is of PostgreSQL $req_server_version, the server is $server_version: never into an older major" \
      "restore into a cluster of PostgreSQL $archive_major or newer"
  case $client_version in
    "$major" | "$major"[!0-9]*) ;;
    *) fail "the server is PostgreSQL $server_version, this image's pg_restore is ${client_version%% *}" \
      "$(image_of_major "$major"); a restore needs the server's own major version" ;;
  esac
}

look_at_archive() {
  list_archive || unreadable
  archive_owner=$(DBNAME=$req_dbname awk '$4 == "DATABASE" && $5 == "-" {
    head = "DATABASE - " ENVIRON["DBNAME"] " "
    at = index($0, head)
    if (at) { print substr($0, at + length(head)); exit } }' "$list")
}

read_archive() {
  [ "$dry_run" = yes ] || [ -s "$BACKUP_RUN/missing" ] || return 0
  run pg_restore -f /dev/null "$archive" || unreadable
}

unreadable() { fail "$req_base.dump cannot be read: ${1:-$(first_error)}"; }

check_roles() {
  needed_roles "$keep_owners"
  [ "$way" = in-place ] || printf '%s\n' "$owner" >>"$BACKUP_RUN/roles"
  awk 'FILENAME == ARGV[1] { there[$0]; next } !($0 in there) && !seen[$0]++' "$BACKUP_RUN/server.roles" "$BACKUP_RUN/roles" >"$BACKUP_RUN/missing"
  [ ! -s "$BACKUP_RUN/missing" ] || [ "$superuser$may_create_roles" != ff ] ||
    fail "the archive names role '$(head -n 1 "$BACKUP_RUN/missing")', which the server lacks, and '$PGUSER' may not create it" \
      "create it as superuser ($req_base.globals.sql lists it), or restore with the superuser's Secret"
}

create_roles() {
  while IFS= read -r name <&3; do
    ask "$maintenance" -v name="$name" <<'SQL' || fail_with_stderr "role '$name' cannot be created"
CREATE ROLE :"name" NOLOGIN
SQL
    roles_made="$roles_made $name"
    report "role '$name' was missing and has been created, without login and rights; $req_base.globals.sql lists its rights"
  done 3<"$BACKUP_RUN/missing"
}

choose_way() {
  keep_owners=
  if [ -z "$exists" ]; then
    owner=$archive_owner owns=t
    [ -n "$owner" ] || owner=$PGUSER
  fi
  [ -z "${RESTORE_OWNER:-}" ] || owner=$RESTORE_OWNER
  way='in-place'
  if [ "$superuser" = t ] || { [ "$may_create_databases" = t ] && [ "$owns" = t ]; }; then way=beside; fi
  if [ "$superuser" = f ] && [ -z "$exists" ]; then owner=${RESTORE_OWNER:-$PGUSER}; fi
  [ "$superuser" = f ] || [ -n "${RESTORE_OWNER:-}" ] || keep_owners=yes
  if [ "$way" = in-place ] && [ "$way_wanted" = beside ]; then
    fail "role '$PGUSER' may not create databases, and RESTORE_WAY=beside" \
      "give it CREATEDB and the ownership of '$target', or set spec.enableSuperuserAccess of the cluster"
  fi
  if [ "$way" = in-place ] && [ -z "$exists" ]; then
    fail "database '$target' does not exist, and role '$PGUSER' may not create it" \
      "create it empty with its owner, give the role CREATEDB, or set spec.enableSuperuserAccess of the cluster"
  fi
  if [ -n "$exists" ] && [ "$way_wanted" = in-place ]; then way='in-place'; fi
  [ "$way$accepts" != in-placef ] ||
    fail "database '$target' accepts no connections" "ALTER DATABASE $(quoted "$target") ALLOW_CONNECTIONS true, then restore again"
  if [ "$way" = in-place ] && [ -n "$tables_wanted$schemas_wanted" ]; then
    fail "a selection of tables needs a database of its own, and role '$PGUSER' may not create it" \
      "give it CREATEDB, or set spec.enableSuperuserAccess of the cluster"
  fi
}

refuse_to_replace() {
  check_keep
  [ "$accepts" = t ] || [ "$replace" = yes ] ||
    refuse "database '$target' accepts no connections, so what it holds is not known" \
      "set RESTORE_REPLACE=yes to replace it, or restore under another name with RESTORE_INTO"
  [ "$relations" -eq 0 ] || [ "$replace" = yes ] ||
    refuse "database '$target' is not empty, it has $target_tables tables" \
      "set RESTORE_REPLACE=yes to replace it, or restore under another name with RESTORE_INTO"
}

choose_jobs() {
  if [ "$jobs" != auto ]; then return; fi
  jobs=$(jobs_for "$req_bytes")
}

announce() {
  what="$req_base.dump, of PostgreSQL $req_server_version, $(mebibytes "$req_bytes"), $tables tables"
  report "$what, to $PGHOST ($server_version) as '$PGUSER'"
  case $way in
    beside)
      next="beside, in a new database '$new'"
      if [ -z "$exists" ]; then
        next="$next, which is then renamed to '$target'"
      else
        next="$next; then both are renamed at once: it becomes '$target', and the present '$target' is kept as '$old'"
        [ -z "$copied_before" ] || next="$next and dropped"
      fi
      ;;
    in-place)
      next="in place, in one transaction in '$target': all or nothing"
      case $relations$keep in 0*) ;; *yes) next="$next; what is there now is kept in schemas whose names end in _before_$moment" ;; esac
      ;;
  esac
  [ -z "$tables_wanted$schemas_wanted" ] ||
    next="$next; all definitions except foreign keys, and the rows of: $tables_wanted $schemas_wanted"
  [ -z "$path" ] || next="$next; functions without a search_path get $(printf '%s\n' "$path" | tr '\n' ' ' | printable) meanwhile"
  [ "$on_error" = stop ] || next="$next; what cannot be restored is left out and listed"
  report "method: $next"
  ! is_number "$req_expected_seconds" || report "this will take about $req_expected_seconds s"
}

watch_progress() {
  trap '[ -z "$nap" ] || kill "$nap" 2>/dev/null; exit 0' TERM
  nap='' from=$(seconds) facts=$BACKUP_RUN/progress stderr=$BACKUP_RUN/progress.err old_size=0
  [ "$way" != in-place ] || { ask_progress >"$facts" 2>"$stderr" && IFS=$separator read -r old_size _ <"$facts"; } || old_size=0
  while :; do
    sleep "${RESTORE_PROGRESS_SECONDS:-15}" &
    nap=$!
    wait "$nap" || :
    ask_progress >"$facts" 2>"$stderr" || continue
    IFS=$separator read -r size blocker <"$facts" || continue
    text="$(($(seconds) - from)) s, $(mebibytes "$((size - old_size))")"
    [ -z "$req_database_bytes" ] || text="$text of about $(mebibytes "$req_database_bytes")"
    [ -z "$blocker" ] || text="$text; WAITING for the session of $blocker"
    log "$database" "restoring: $text"
  done
}

ask_progress() {
  psql -XAtqw -F "$separator" -c "$preamble" -c "SELECT pg_database_size(current_database()),
    (SELECT format('%s (%s, pid %s)', b.usename, b.application_name, b.pid) FROM pg_stat_activity a
      CROSS JOIN unnest(pg_blocking_pids(a.pid)) p JOIN pg_stat_activity b ON b.pid = p
      WHERE a.application_name = 'cnpg-backup restore' AND b.application_name <> a.application_name LIMIT 1)"
}

stop_watching() {
  [ -n "$watcher" ] || return 0
  kill "$watcher" 2>/dev/null || :
  wait "$watcher" 2>/dev/null || :
  watcher=
}

compare() {
  log "$database" "comparing with the archive"
  ask "$1" <<SQL || fail_with_stderr "the restored database cannot be read"
SELECT count(*) FILTER (WHERE relkind IN ('r', 'p')), count(*) FILTER (WHERE relkind = 'S'),
  (SELECT count(*) FROM pg_index i JOIN pg_class t ON t.oid = i.indexrelid WHERE NOT indisvalid AND t.relkind = 'i') $own_relations ${restored_alone-}
SQL
  IFS=$separator read -r found_tables found_sequences invalid <"$facts"
}

rows_are_known() { [ -n "$req_rows" ] && [ -z "$tables_wanted$schemas_wanted" ]; }

warn_of_hidden_rows() { report "warning: rows are not compared: row security hides some from '$PGUSER'"; }

done_now() {
  [ -z "$incomplete" ] || end_incomplete
  counts="$found_tables tables, $found_sequences sequences${found_rows:+, $found_rows rows}"
  report "restored $req_base.dump into '$target' in $(($(seconds) - began)) s: $counts as in the archive"
  if [ "$way" = in-place ]; then
    report_set_aside
  elif [ -n "$copied_before" ]; then
    drop_previous_copy
  elif [ -n "$exists" ]; then
    report_other_settings
    report_previous
  fi
}

usage() {
  echo "restore.sh: $1" >&2
  [ -z "${RESTORE_TERMINATION_LOG:-}" ] || echo "restore.sh: $1" >>"$RESTORE_TERMINATION_LOG" || :
  exit 2
}

check_environment() {
  for variable in BACKUP_ROOT BACKUP_CONFIG BACKUP_CREDENTIALS BACKUP_RUN BACKUP_RESULTS; do
    eval "value=\${$variable-}"
    [ -n "$value" ] || usage "$variable is not set; start this by a Job of the chart's CronJob, which sets it"
    [ -d "$value" ] || usage "$value is not a directory; is its volume mounted?"
  done
}

main() {
  check_environment
  set -- "$BACKUP_RESULTS"/*.request
  [ -e "$1" ] || usage "there is no request in $BACKUP_RESULTS; did the container 'choose' run?"
  [ $# -eq 1 ] || usage "there are $# requests in $BACKUP_RESULTS, and there must be one"
  read_request "$1"
  begin
  look_at_server
  look_at_target
  if [ -n "${RESTORE_UNDELETE:-}" ]; then
    undelete
    return
  fi
  [ -z "$copying" ] || check_copy_target
  refuse_to_replace
  look_at_archive
  choose_way
  choose_way_for_extensions
  check_extensions
  look_at_owners
  check_roles
  select_entries
  choose_jobs
  name_databases
  announce
  check_prepared_transactions
  check_views
  check_obstacles
  foresee_settings
  read_archive
  if [ "$dry_run" = yes ]; then
    [ "$way$exists" != besideyes ] || report_what_stays "$target" "the present database"
    report "nothing was changed, because RESTORE_DRY_RUN=yes"
    return
  fi
  remove_leftovers
  create_roles
  case $way in
    beside) restore_beside ;;
    in-place) restore_in_place && settings_in_place ;;
  esac
  done_now
}

main "$@"
