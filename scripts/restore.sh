#!/bin/sh
# Restore one archive into its cluster: all of it or nothing, whatever happens on the way.
#
# `retention choose`, the pod's first container, has picked the archive, compared its sha256 and left a request. What is
# wanted stands in the environment, RESTORE_*: docs/restore.md. There are two ways, and which of them it will be is said
# before anything changes:
#
#   beside     a new database, restored, compared and analyzed, then swapped with the old one by renaming both in one
#              transaction; the old one stays under a dated name. For roles that may create databases.
#   in place   one transaction in the database that is there, for all other roles.
#
# Exit: 0 done; 1 failed; 2 usage or configuration; 3 refused, since it would have replaced something; 143 after SIGTERM.
# Runs under busybox ash, dash and bash, with the tools of a PostgreSQL image.
#
# shellcheck disable=SC2119,SC2154 # read_pairs sets conf_* and req_*; read_config needs no further keys here
set -eu
umask 077
LC_ALL=C
export LC_ALL
# shellcheck source=scripts/lib.sh
. "${0%/*}/lib.sh"
# shellcheck source=scripts/archive.sh
. "${0%/*}/archive.sh"

# Below this many bytes a second connection costs more than it brings.
parallel_from=8388608
watcher='' made='' roles_made='' standing='' found_rows=''

# The last words of the container, which `kubectl describe` shows.
tell() {
  log "$database" "$1"
  [ -z "${RESTORE_TERMINATION_LOG:-}" ] || printf '%s: %s\n' "$database" "$1" >>"$RESTORE_TERMINATION_LOG" || :
}

# End the restore: fail ERROR [REMEDY [CODE]].
fail() {
  trap '' TERM INT
  why=$1 remedy=${2:-}
  [ -n "$remedy" ] || remedy=$(remedy_for "$1")
  stop_watching
  forget_new_database
  tell "FAILED: $why"
  tell "remedy: $remedy"
  if [ -n "$roles_made" ]; then log "$database" "roles created before the failure stay: $roles_made"; fi
  [ -n "$standing" ] || standing="nothing was changed: '$target' is as it was"
  tell "$standing"
  exit "${3:-1}"
}

refuse() { fail "refused: $1" "$2" 3; }

remedy_for() {
  case $1 in
    *".dump cannot be read: "* | *"could not read from input file"* | *"could not uncompress data"* | *"could not decompress data"*)
      echo "take the archive before it: RESTORE_BACKUP='newest before …'"
      ;;
    *"No space left"* | *"could not extend file"*) echo "the server's volume is full: the old database and the new one need room beside each other; grow it, or set RESTORE_WAY=in-place" ;;
    *"because other objects depend on it"*) echo "something newer than the archive needs what it would replace; drop that, or give the superuser's Secret, so that the archive is restored beside" ;;
    *"deadlock detected"* | *"being accessed by other users"*) echo "other sessions are in the way: stop the application, then restore again" ;;
    *" rows, the archive held "*) echo "restore again; if it persists, another archive" ;;
    *"role \""*"does not exist"*) echo "create that role as superuser (<base>.globals.sql beside the archive lists it), then restore again" ;;
    *"tablespace \""*"does not exist"*) echo "declare that tablespace in the cluster, then restore again" ;;
    *"extension \""*) echo "see whether the server's image has that extension in that version, and who may create it" ;;
    *"must be owner"* | *"permission denied"*) echo "restore with the superuser's Secret (spec.enableSuperuserAccess of the cluster), or as the owner" ;;
    *"invalid locale"* | *"invalid LC_"* | *"encoding"*) echo "the server lacks the locale of the archive's database; use an image that has it" ;;
    *"server closed the connection"* | *"terminating connection"* | *"no connection to the server"*) echo "look at the server's log, then restore again" ;;
    *) common_remedy "$1" || echo "see what the server's log says about it, then restore again" ;;
  esac
}

on_term() {
  trap '' TERM INT
  end_child
  fail "stopped by SIGTERM before it was done" "restore again when you want" 143
}

# RESTORE_WAY, RESTORE_REPLACE and so on: anything else than a known word is an error, not a default.
read_wishes() {
  way_wanted=${RESTORE_WAY:-auto} replace=${RESTORE_REPLACE:-no} dry_run=${RESTORE_DRY_RUN:-no} jobs=${RESTORE_JOBS:-auto}
  tables_wanted=${RESTORE_TABLES:-} schemas_wanted=${RESTORE_SCHEMAS:-}
  target=${RESTORE_INTO:-$conf_dbname}
  case $way_wanted in auto | beside | in-place) ;; *) usage "RESTORE_WAY='$way_wanted' is none of auto, beside, in-place" ;; esac
  for key in replace dry_run; do
    eval "value=\$$key"
    case $value in yes | no) ;; *) usage "RESTORE_$(echo "$key" | tr '[:lower:]' '[:upper:]')='$value' is neither yes nor no" ;; esac
  done
  [ "$jobs" = auto ] || { is_number "$jobs" && [ "$jobs" -gt 0 ]; } || usage "RESTORE_JOBS='$jobs' is neither auto nor a number above 0"
  case $target in *[[:cntrl:]]*) usage "RESTORE_INTO holds a control character" ;; esac
  if [ -n "$tables_wanted$schemas_wanted" ] && [ "$target" = "$conf_dbname" ]; then
    usage "RESTORE_TABLES and RESTORE_SCHEMAS go into a database of their own, from which you copy: name it in RESTORE_INTO"
  fi
}

# A cluster that is none of the configured ones, as `NAME` or `NAMESPACE/NAME`: its Secrets are mounted instead of theirs.
aim_elsewhere() {
  elsewhere=${RESTORE_CLUSTER:-} patient=
  [ -n "$elsewhere" ] || return 0
  case $elsewhere in
    */*/* | /* | */ | *[!a-z0-9./-]*) usage "RESTORE_CLUSTER='$elsewhere' is neither a cluster's name nor namespace/name" ;;
    */*) conf_namespace=${elsewhere%/*} ;;
  esac
  conf_cluster=${elsewhere#*/} conf_port=5432
  conf_host=$conf_cluster-rw.$conf_namespace.svc
  # A cluster that was made a moment ago sets its passwords a moment later.
  patient=yes
}

begin() {
  database=$req_database target=$req_dbname
  conf=$BACKUP_CONFIG/$database.conf archive=$BACKUP_ROOT/$database/$req_base.dump
  stderr=$BACKUP_RUN/stderr facts=$BACKUP_RUN/facts list=$BACKUP_RESULTS/list
  credentials_of="its Secret" ca_of="its CA Secret" began=$(now)
  [ -f "$conf" ] || usage "there is no $conf: this restore knows only the databases of its own CronJob"
  trap on_term TERM INT
  read_config
  aim_elsewhere
  read_wishes
  credentials_of="the owner's Secret of cluster $conf_cluster" ca_of="the CA Secret of cluster $conf_cluster"
  if [ -s "$BACKUP_CREDENTIALS/$database/superuser-password" ]; then
    credentials_of="the superuser's Secret of cluster $conf_cluster"
    set_credentials superuser-
  else
    set_credentials owner-
  fi
  PGAPPNAME="cnpg-backup restore"
  maintenance=postgres PGDATABASE=postgres
  ask_primary
}

look_at_server() {
  wait_for_server
  [ "$role" = primary ] || fail "host $conf_host is a standby" "correct 'host' of this database; it has to be the primary's"
  ask "$maintenance" <<'SQL' || fail_with_stderr "the server's roles cannot be read"
SELECT rolsuper, rolcreatedb, rolcreaterole FROM pg_roles WHERE rolname = current_user
SQL
  IFS=$separator read -r superuser may_create_databases may_create_roles <"$facts"
  client_version=$(pg_restore --version)
  client_version=${client_version#*"(PostgreSQL) "}
  major=$((server_num / 10000)) archive_major=${req_server_version%%[!0-9]*}
  [ "$archive_major" -le "$major" ] ||
    fail "the archive is of PostgreSQL $req_server_version, the server is $server_version: never into an older major" \
      "restore into a cluster of PostgreSQL $archive_major or newer"
  case $client_version in
    "$major" | "$major"[!0-9]*) ;;
    *) fail "the server is PostgreSQL $server_version, this image's pg_restore is ${client_version%% *}" \
      "set image.tag of this database to $major-alpine: a restore needs the server's own major" ;;
  esac
}

look_at_target() {
  ask "$maintenance" -v target="$target" <<'SQL' || fail_with_stderr "the server's databases cannot be read"
SELECT pg_get_userbyid(datdba), pg_has_role(datdba, 'MEMBER') FROM pg_database WHERE datname = :'target'
SQL
  exists='' owner='' owns='' relations=0
  IFS=$separator read -r owner owns <"$facts" || return 0
  exists=yes
  ask "$target" <<SQL || fail_with_stderr "database '$target' cannot be read"
SELECT count(*) FILTER (WHERE relkind IN ('r', 'p')), count(*) FILTER (WHERE relkind IN ('r', 'p', 'v', 'm', 'f', 'S'))
$own_relations
SQL
  IFS=$separator read -r target_tables relations <"$facts"
}

# What the archive says of itself, by its table of contents.
look_at_archive() {
  list_archive || unreadable
  archive_owner=$(DBNAME=$req_dbname awk '$4 == "DATABASE" && $5 == "-" {
    head = "DATABASE - " ENVIRON["DBNAME"] " "
    at = index($0, head)
    if (at) { print substr($0, at + length(head)); exit } }' "$list")
}

# `choose` has compared its sha256 with that of the archive which pg_restore read whole before it was published. Where something
# that is there will be changed, pg_restore reads it whole once more. A new database is none of that: it is made by reading
# the archive to its end, and is nobody's until then.
read_archive() {
  [ "$way$dry_run" != besideno ] || [ -s "$BACKUP_RUN/missing" ] || return 0
  run pg_restore -f /dev/null "$archive" || unreadable
}

unreadable() { fail "$req_base.dump cannot be read: $(first_error)"; }

check_extensions() {
  [ -s "$BACKUP_RUN/extensions" ] || return 0
  in=$maintenance
  [ "$way" = beside ] || in=$target
  ask "$in" -v superuser="$superuser" -v way="$way" <<SQL || fail_with_stderr "the server's extensions cannot be read"
SELECT w.name, a.name IS NULL FROM (VALUES $(values_of "$BACKUP_RUN/extensions")) w (name)
  LEFT JOIN pg_available_extensions a ON a.name = w.name
  LEFT JOIN pg_available_extension_versions v ON v.name = a.name AND v.version = a.default_version
WHERE a.name IS NULL OR NOT (:'superuser' = 't' OR v.trusted OR NOT v.superuser
  OR (:'way' = 'in-place' AND EXISTS (SELECT FROM pg_extension e WHERE e.extname = w.name)))
ORDER BY 2 DESC, 1 LIMIT 1
SQL
  IFS=$separator read -r extension missing <"$facts" || return 0
  [ "$missing" = f ] ||
    fail "extension '$extension' is in the archive, and not on the server" "use an image for the cluster that has it"
  fail "extension '$extension' is in the archive, and only a superuser may create it" \
    "set spec.enableSuperuserAccess of the cluster, so that the superuser's Secret is there, or create it as superuser"
}

# What of them is missing; they are created only once nothing else is in the way.
check_roles() {
  needed_roles "$keep_owners"
  [ "$way" = in-place ] || printf '%s\n' "$owner" >>"$BACKUP_RUN/roles"
  : >"$BACKUP_RUN/missing"
  [ -s "$BACKUP_RUN/roles" ] || return 0
  ask "$maintenance" <<SQL || fail_with_stderr "the server's roles cannot be read"
SELECT name FROM (VALUES $(values_of "$BACKUP_RUN/roles")) w (name) EXCEPT SELECT rolname FROM pg_roles ORDER BY 1
SQL
  mv "$facts" "$BACKUP_RUN/missing"
  [ ! -s "$BACKUP_RUN/missing" ] || [ "$superuser$may_create_roles" != ff ] ||
    fail "role '$(head -n 1 "$BACKUP_RUN/missing")' is named in the archive and missing on the server; '$PGUSER' may not create it" \
      "create it as superuser ($req_base.globals.sql lists it), or restore with the superuser's Secret"
}

# Without login and without any right: what a role may do is for its people to decide, and its password is in no backup.
create_roles() {
  while IFS= read -r name <&3; do
    ask "$maintenance" -v name="$name" <<'SQL' || fail_with_stderr "role '$name' cannot be created"
CREATE ROLE :"name" NOLOGIN
SQL
    roles_made="$roles_made $name"
    tell "role '$name' was missing and is there now, without login and rights; its own are in $req_base.globals.sql"
  done 3<"$BACKUP_RUN/missing"
}

# Beside where the role may; the new database gets the old one's owner, or the one that the archive names.
choose_way() {
  keep_owners=
  if [ -z "$exists" ]; then
    owner=$archive_owner owns=t
    [ -n "$owner" ] || owner=$PGUSER
  fi
  [ -z "${RESTORE_OWNER:-}" ] || owner=$RESTORE_OWNER
  way='in-place'
  if [ "$superuser" = t ] || { [ "$may_create_databases" = t ] && [ "$owns" = t ]; }; then way=beside; fi
  # Without the superuser's rights nobody but its members can be made the owner.
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
  if [ "$way" = in-place ] && [ -n "$tables_wanted$schemas_wanted" ]; then
    fail "a selection of tables needs a database of its own, and role '$PGUSER' may not create it" \
      "give it CREATEDB, or set spec.enableSuperuserAccess of the cluster"
  fi
}

refuse_to_replace() {
  [ "$relations" -eq 0 ] || [ "$replace" = yes ] ||
    refuse "database '$target' is not empty, it has $target_tables tables" \
      "set RESTORE_REPLACE=yes to replace it, or restore under another name with RESTORE_INTO"
}

choose_jobs() {
  if [ "$jobs" != auto ]; then return; fi
  jobs=1
  [ "$req_bytes" -lt "$parallel_from" ] || jobs=2
}

announce() {
  tell "$req_base.dump, of PostgreSQL $req_server_version, $(mebibytes "$req_bytes"), $tables tables, to $PGHOST ($server_version) as '$PGUSER'"
  case $way in
    beside)
      next="a new database '$new' beside"
      if [ -z "$exists" ]; then
        next="$next, which then becomes '$target'"
      else
        next="$next, then both are renamed at once: it becomes '$target', and what is '$target' now stays as '$old'"
      fi
      ;;
    in-place) next="'$target' in place, in one transaction: all or nothing" ;;
  esac
  [ -z "$tables_wanted$schemas_wanted" ] || next="$next; all definitions but foreign keys, and the rows of: $tables_wanted $schemas_wanted"
  tell "way: $next"
  ! is_number "$req_expected_seconds" || tell "expect about $req_expected_seconds s"
}

# Names beside the target's: what is half made can be told from all else by them, and the old one by its date.
name_databases() {
  moment=$(date -u +%Y%m%d_%H%M%S)
  ask "$maintenance" -v target="$target" <<'SQL' || fail_with_stderr "no names can be made"
SELECT CASE WHEN octet_length(:'target') <= 36 THEN :'target' ELSE left(:'target', 6) || '_' || left(md5(:'target'), 8) END
SQL
  IFS= read -r prefix <"$facts"
  new=${prefix}_restoring_$moment old=${prefix}_before_$moment finished=${prefix}_restored_$moment
}

# A restore that was killed leaves its new database behind, which nobody can use for anything.
remove_leftovers() {
  ask "$maintenance" -v prefix="$prefix" <<'SQL' || fail_with_stderr "the server's databases cannot be read"
SELECT datname FROM pg_database WHERE starts_with(datname, :'prefix' || '_restoring_')
  AND substr(datname, length(:'prefix' || '_restoring_') + 1) ~ '^[0-9]{8}_[0-9]{6}$'
SQL
  mv "$facts" "$BACKUP_RUN/leftovers"
  while IFS= read -r name <&3; do
    if drop_database "$name"; then
      log "$database" "removed '$name', left half made by a restore that was cut off"
    else
      log "$database" "warning: '$name' is left half made by a restore that was cut off, or by one that is under way: $(first_error)"
    fi
  done 3<"$BACKUP_RUN/leftovers"
}

drop_database() {
  ask "$maintenance" -v name="$1" <<'SQL'
DROP DATABASE :"name"
SQL
}

# Called on every way out, also when nothing answers any more.
forget_new_database() {
  [ -n "$made" ] || return 0
  made=
  PGDATABASE=$maintenance
  # FORCE, for the server may still be at a statement of the pg_restore that is gone; a busy one needs more than the five
  # seconds that it waits for that. All tries together stay within a container's grace.
  printf '%s\n' 'DROP DATABASE IF EXISTS :"name" WITH (FORCE)' >"$BACKUP_RUN/drop.sql"
  for _ in 1 2 3; do
    ! timeout -k 1 7 psql -Xqw -v ON_ERROR_STOP=1 -v name="$new" -f "$BACKUP_RUN/drop.sql" >/dev/null 2>&1 || return 0
  done
  tell "warning: '$new' could not be dropped; the next restore of '$target' does that"
}

create_database() {
  database_settings
  made=yes
  ask "$maintenance" -v new="$new" -v owner="$owner" <<SQL || fail_with_stderr "no database can be created"
CREATE DATABASE :"new" OWNER :"owner" TEMPLATE template0 $settings
SQL
}

# Only the rows of what is wanted, with all definitions, since a table alone lacks the types and schemas that it needs.
# No foreign keys: the rows that they point to need not be there.
select_entries() {
  [ -n "$tables_wanted$schemas_wanted" ] || return 0
  for wanted in $(echo "$tables_wanted $schemas_wanted" | tr ',' ' '); do
    mark=" TABLE DATA $wanted "
    case " $(echo "$tables_wanted" | tr ',' ' ') " in *" $wanted "*)
      case $wanted in *.*) ;; *) wanted=public.$wanted ;; esac
      mark=" TABLE DATA ${wanted%%.*} ${wanted#*.} "
      ;;
    esac
    MARK=$mark awk 'index($0, ENVIRON["MARK"])' "$list" >"$list.one"
    [ -s "$list.one" ] || fail "the archive has no rows of '$wanted'" "see pg_restore -l for what is in it; of a partitioned table name the partitions"
    cat "$list.one" >>"$list.rows"
  done
  awk 'NR == FNR { rows[$1]; next }
    !/^[0-9]+; [0-9]+ [0-9]+ (TABLE DATA|FK CONSTRAINT|BLOBS) / || ($1 in rows)' \
    "$list.rows" "$list" >"$list.selected"
  mv "$list.selected" "$list"
}

# pg_restore with these arguments besides, into the database $1. Its name goes by the environment, for as an argument
# `a=b` would be a connection string; the empty argument says that there is one.
pg_restore_into() {
  PGDATABASE=$1
  shift
  [ -n "$keep_owners" ] || set -- "$@" --no-owner --role="$owner"
  awk '$4 != "DATABASE"' "$list" >"$list.use"
  watch_progress &
  watcher=$!
  run pg_restore -d '' -w --exit-on-error -L "$list.use" "$@" "$archive" || fail_with_stderr "pg_restore failed"
  stop_watching
}

# One line every now and then, and who is in the way when somebody is.
watch_progress() {
  trap '[ -z "$nap" ] || kill "$nap" 2>/dev/null; exit 0' TERM
  nap='' from=$(now) facts=$BACKUP_RUN/progress stderr=$BACKUP_RUN/progress.err
  while :; do
    sleep "${RESTORE_PROGRESS_SECONDS:-15}" &
    nap=$!
    wait "$nap" || :
    ask_progress >"$facts" 2>"$stderr" || continue
    IFS=$separator read -r size blocker <"$facts" || continue
    text="$(($(now) - from)) s, $(mebibytes "$size")"
    [ -z "$req_database_bytes" ] || text="$text of about $(mebibytes "$req_database_bytes")"
    [ -z "$blocker" ] || text="$text; WAITING for the session of $blocker"
    log "$database" "restoring: $text"
  done
}

ask_progress() {
  psql -XAtqw -F "$separator" -c "SELECT pg_database_size(current_database()),
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

# What was restored, against the archive's own table of contents: compare DATABASE.
compare() {
  log "$database" "comparing with the archive"
  ask "$1" <<SQL || fail_with_stderr "the restored database cannot be read"
SELECT count(*) FILTER (WHERE relkind IN ('r', 'p')), count(*) FILTER (WHERE relkind = 'S'),
  (SELECT count(*) FROM pg_index WHERE NOT indisvalid) $own_relations
SQL
  IFS=$separator read -r found_tables found_sequences invalid <"$facts"
}

# Whether rows are compared at all: only where they were counted, and all of them are restored.
rows_are_known() { [ -n "$req_rows" ] && [ -z "$tables_wanted$schemas_wanted" ]; }

say_rows_are_hidden() { tell "warning: rows are not compared: row security hides some from '$PGUSER'"; }

# The rows, against what was counted when the archive was made: compare_rows DATABASE. Row security would hide some.
compare_rows() {
  rows_are_known || return 0
  ask "$1" <<SQL || fail_with_stderr "the restored database cannot be read"
SELECT 'hidden' $own_relations AND relkind = 'r' AND row_security_active(c.oid) LIMIT 1;
SELECT format('SELECT count(*) FROM ONLY %I.%I', n.nspname, c.relname) $own_relations AND relkind = 'r'
\\gexec
SQL
  if grep -q hidden "$facts"; then
    say_rows_are_hidden
    return
  fi
  found_rows=$(awk '{ n += $1 } END { printf "%.0f", n }' "$facts")
  [ "$found_rows" = "$req_rows" ] ||
    fail "it has $found_rows rows, the archive held $req_rows when it was made"
}

# The same before COMMIT, of the tables alone that this very transaction has made.
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

restore_beside() {
  create_database
  if [ "$jobs" -gt 1 ]; then set -- -j "$jobs"; else set --; fi
  pg_restore_into "$new" "$@"
  compare "$new"
  compare_rows "$new"
  if [ "$found_tables" != "$tables" ] || [ "$found_sequences" != "$sequences" ]; then
    fail "it has $found_tables tables and $found_sequences sequences, the archive $tables and $sequences" "please report this; another archive may do"
  fi
  [ "$invalid" = 0 ] || fail "$invalid indexes are not valid" "restore again; if it persists, another archive"
  analyze "$new"
  swap
  restore_settings
}

# As many tables at a time as connections have restored them, but no more than two: each ANALYZE keeps one CPU busy.
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

# Of the tables, the largest first: the first is one's, the next two the other's, and so on. A partition goes with its parent.
analyze_share() {
  ask "$1" -v share="$2" -v shares="$3" <<'SQL' || log "$database" "warning: ANALYZE failed: $(first_error)"
SELECT format('ANALYZE %s', oid::regclass) FROM (
  SELECT oid, row_number() OVER (ORDER BY greatest(pg_table_size(oid),
      (SELECT sum(pg_table_size(relid)) FROM pg_partition_tree(oid))) DESC, oid) AS rank
    FROM pg_class WHERE relkind IN ('r', 'p', 'm') AND NOT relispartition AND relpersistence <> 't') t
  WHERE rank / :shares % :shares = :share
\gexec
SQL
}

# The rename takes its lock first and then waits a while for others to leave; who comes anew waits for that lock, so that
# ending those who are there is enough.
swap() {
  if [ -z "$exists" ]; then
    ask "$maintenance" -v new="$new" -v target="$target" <<'SQL' || fail_with_stderr "the new database cannot be renamed"
ALTER DATABASE :"new" RENAME TO :"target"
SQL
    made=
    return
  fi
  tries=1
  until swap_once; do
    error=$(first_error)
    ! swapped || break
    case $error in *"being accessed by other users"*) ;; *) keep_for_later "$error" ;; esac
    [ "$tries" -lt "${RESTORE_SWAP_TRIES:-6}" ] || keep_for_later "$error"
    tries=$((tries + 1))
  done
  made=
}

# Whether it was done after all, as when the connection was lost with the answer. Then nobody may drop anything.
swapped() {
  made='' standing="both names were changed, or neither: look for '$old' among the databases"
  PGDATABASE=$maintenance
  wait_for_server
  ask "$maintenance" -v old="$old" <<'SQL' || fail_with_stderr "the server's databases cannot be read"
SELECT 'swapped' FROM pg_database WHERE datname = :'old'
SQL
  if grep -q swapped "$facts"; then return 0; fi
  made=yes standing=''
  return 1
}

swap_once() {
  end_sessions &
  watcher=$!
  code=0
  ask "$maintenance" -v new="$new" -v old="$old" -v target="$target" <<'SQL' || code=$?
BEGIN;
ALTER DATABASE :"target" RENAME TO :"old";
ALTER DATABASE :"new" RENAME TO :"target";
COMMIT;
SQL
  stop_watching
  return "$code"
}

# End the sessions of the target that we may end.
end_sessions_now() {
  printf '%s\n' "SELECT pg_terminate_backend(a.pid) FROM pg_stat_activity a JOIN pg_roles r ON r.oid = a.usesysid
    WHERE a.datname = :'target' AND a.pid <> pg_backend_pid() AND (:'superuser' = 't' OR (NOT r.rolsuper
      AND (pg_has_role(r.oid, 'USAGE') OR pg_has_role('pg_signal_backend', 'USAGE'))))" >"$BACKUP_RUN/end.sql"
  PGDATABASE=$maintenance
  psql -Xqw -v superuser="$superuser" -v target="$target" -f "$BACKUP_RUN/end.sql" >/dev/null 2>&1 || :
}

end_sessions() {
  trap '[ -z "$nap" ] || kill "$nap" 2>/dev/null; exit 0' TERM
  nap=
  while :; do
    end_sessions_now
    sleep 1 &
    nap=$!
    wait "$nap" || :
  done
}

# All is restored and only the names are not: what took long is not thrown away.
keep_for_later() {
  made=
  ask "$maintenance" -v new="$new" -v finished="$finished" <<'SQL' || finished=$new
ALTER DATABASE :"new" RENAME TO :"finished"
SQL
  fail "all is restored, but '$target' cannot be renamed: $1" \
    "end its sessions, then: ALTER DATABASE \"$target\" RENAME TO \"$old\"; ALTER DATABASE \"$finished\" RENAME TO \"$target\";"
}

# ALTER DATABASE ... SET, grants and comment of the database itself; an archive holds them under its own name.
restore_settings() {
  [ "$target" = "$req_dbname" ] || return 0
  awk '($4 == "DATABASE" && $5 == "PROPERTIES") || ($4 ~ /^(ACL|COMMENT)$/ && $5 == "-" && $6 == "DATABASE")' "$list" >"$list.settings"
  [ -s "$list.settings" ] || return 0
  PGDATABASE=$target
  # It tries to create the database first, whatever the list says, and goes on from that error.
  run pg_restore -C -d '' -w -L "$list.settings" "$archive" || :
  complaint=$(awk '/error: / && !/database ".*" already exists/ { sub(/^pg_restore: error: /, ""); print; exit }' "$stderr")
  [ -z "$complaint" ] || tell "warning: not all settings and grants of the database itself are restored: $complaint"
}

# What is there and stays: extensions, which only their owner (mostly the superuser) could touch, and schemas, which may
# hold what the archive does not know.
keep_what_stays() {
  ask "$target" <<'SQL' || fail_with_stderr "database '$target' cannot be read"
SELECT 'EXTENSION ' || extname FROM pg_extension UNION ALL SELECT 'SCHEMA ' || nspname FROM pg_namespace
SQL
  awk 'NR == FNR { there[$0]; next }
    $4 == "EXTENSION" || $4 == "SCHEMA" { if (($4 " " $6) in there) next }
    $4 == "COMMENT" && $6 == "EXTENSION" { if (("EXTENSION " $7) in there) next }
    $4 != "DATABASE"' "$facts" "$list" >"$list.use"
}

# The statements that drop what the archive holds, and only those. An index, a constraint and so on goes with its table:
# one that a partition has inherited cannot be dropped by itself. Foreign keys go first.
write_drops() {
  awk '!/^[0-9]+; [0-9]+ [0-9]+ (TABLE DATA|SEQUENCE SET|BLOBS|SCHEMA|EXTENSION|INDEX|CONSTRAINT|CHECK|TRIGGER|STATISTICS|POLICY|ROW|TABLE ATTACH|MATERIALIZED VIEW DATA) /' \
    "$list.use" >"$list.drops"
  [ -n "$keep_owners" ] || set -- --no-owner --role="$owner"
  run pg_restore --clean --if-exists -L "$list.drops" "$@" -f "$BACKUP_RESULTS/drops.all" "$archive" ||
    fail_with_stderr "the archive's contents cannot be read"
  awk '/^-- Name: / { exit } !/^\\/ { print }' "$BACKUP_RESULTS/drops.all" >"$BACKUP_RESULTS/drops.sql"
  rm -f "$BACKUP_RESULTS/drops.all"
}

# All statements of the restore. The last one comes only after pg_restore has ended well: without it nothing happened.
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

# pg_restore puts large objects into transactions of their own, whose COMMIT would end ours. All else of it is one statement
# a line, and no line is data alone.
feed_large_objects() {
  awk '$4 == "BLOBS"' "$list.use" >"$list.objects"
  [ -s "$list.objects" ] || return 0
  rm -f "$BACKUP_RUN/feed.failed"
  { pg_restore -f - -L "$list.objects" "$@" 2>"$BACKUP_RUN/feed.err" || : >"$BACKUP_RUN/feed.failed"; } |
    sed '/^BEGIN;$/d; /^COMMIT;$/d'
  [ ! -e "$BACKUP_RUN/feed.failed" ]
}

# Not by pg_restore itself: its --clean with --single-transaction fails over partitions that have a primary key.
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
  wait "$feeder" || fail "the archive could not be read to its end: $(head -n 1 "$BACKUP_RUN/feed.err")" "look at the volume"
  stop_watching
  ! grep -q 'row security hides rows' "$stderr" || say_rows_are_hidden
  standing="'$target' is restored; only what came after that failed"
  compare "$target"
  [ "$found_tables" = "$tables" ] || tell "warning: '$target' has $found_tables tables, the archive $tables: newer ones were left alone"
  analyze "$target"
}

done_now() {
  tell "restored $req_base.dump into '$target' in $(($(now) - began)) s: $found_tables tables, $found_sequences sequences${found_rows:+, $found_rows rows} as in the archive"
  [ "$way" = in-place ] || [ -z "$exists" ] ||
    tell "what was '$target' is kept as '$old'; when you are sure: DROP DATABASE \"$old\""
}

usage() {
  echo "restore.sh: $1" >&2
  [ -z "${RESTORE_TERMINATION_LOG:-}" ] || echo "restore.sh: $1" >>"$RESTORE_TERMINATION_LOG" || :
  exit 2
}

check_environment() {
  for variable in BACKUP_ROOT BACKUP_CONFIG BACKUP_CREDENTIALS BACKUP_RUN BACKUP_RESULTS; do
    eval "value=\${$variable-}"
    [ -n "$value" ] || usage "$variable is not set; the chart sets it, see docs/architecture.md"
    [ -d "$value" ] || usage "$value is not a directory; is its volume mounted?"
  done
}

main() {
  check_environment
  set -- "$BACKUP_RESULTS"/*.request
  [ -e "$1" ] || usage "there is no request in $BACKUP_RESULTS; did the container 'choose' run?"
  [ $# -eq 1 ] || usage "there are $# requests in $BACKUP_RESULTS, and one is wanted"
  read_request "$1"
  begin
  look_at_server
  look_at_target
  refuse_to_replace
  look_at_archive
  choose_way
  check_extensions
  check_roles
  select_entries
  choose_jobs
  name_databases
  announce
  read_archive
  if [ "$dry_run" = yes ]; then
    tell "nothing was changed, since RESTORE_DRY_RUN=yes"
    return
  fi
  remove_leftovers
  create_roles
  case $way in beside) restore_beside ;; in-place) restore_in_place ;; esac
  done_now
}

main "$@"
