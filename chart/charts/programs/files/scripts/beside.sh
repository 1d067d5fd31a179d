#!/bin/sh
# Without comments: they are in the project's file of this name.
finished_mark='cnpg-backup: restored in full'

remove_leftovers() {
  ask "$maintenance" -v prefix="$prefix" -v mark="$finished_mark" <<'SQL' || fail_with_stderr "the server's databases cannot be read"
SELECT CASE WHEN coalesce(starts_with(shobj_description(oid, 'pg_database'), :'mark'), false) THEN 'finished'
  WHEN pg_try_advisory_lock(hashtext('cnpg-backup'), hashtext(datname)) THEN 'left' ELSE 'running' END, datname
FROM pg_database WHERE starts_with(datname, :'prefix' || '_restoring_')
  AND substr(datname, length(:'prefix' || '_restoring_') + 1) ~ '^[0-9]{8}_[0-9]{6}$'
SQL
  mv "$facts" "$BACKUP_RUN/leftovers"
  while IFS=$separator read -r state name <&3; do
    case $state in
      finished)
        report "warning: '$name' is a restored copy that was not renamed; if you do not need it: DROP DATABASE $(quoted "$name")"
        continue
        ;;
      running)
        report "warning: another restore of '$target' is running; it fills '$name'"
        continue
        ;;
    esac
    if drop_database "$name"; then
      log "$database" "removed '$name', which an interrupted restore left unfinished"
    else
      log "$database" "warning: '$name' is of an interrupted restore, or of one that is still running: $(first_error)"
    fi
  done 3<"$BACKUP_RUN/leftovers"
}

drop_database() {
  ask "$maintenance" -v name="$1" <<'SQL'
DROP DATABASE :"name"
SQL
}

drop_new_database() {
  release_new_database
  [ -n "$made" ] || return 0
  made=
  PGDATABASE=$maintenance
  printf '%s\n' "$preamble" 'DROP DATABASE IF EXISTS :"name" WITH (FORCE)' >"$BACKUP_RUN/drop.sql"
  for _ in 1 2 3; do
    ! timeout -k 1 7 psql -Xqw -v ON_ERROR_STOP=1 -v name="$new" -f "$BACKUP_RUN/drop.sql" >/dev/null 2>&1 || return 0
  done
  report "warning: '$new' could not be dropped; the next restore of '$target' will drop it"
}

hold_new_database() {
  is_number "$may_connect" && [ "$may_connect" -lt 5 ] && return
  rm -f "$BACKUP_RUN/hold"
  mkfifo "$BACKUP_RUN/hold"
  make_pipe "$BACKUP_RUN/held" || fail "the new database cannot be reserved: a pipe cannot be made in $BACKUP_RUN"
  printf '%s\n' "$preamble" "SELECT pg_try_advisory_lock(hashtext('cnpg-backup'), hashtext(:'new'));" >"$BACKUP_RUN/hold.sql"
  PGDATABASE=$maintenance psql -XAtqw -v ON_ERROR_STOP=1 -v new="$new" \
    -f "$BACKUP_RUN/hold.sql" -f "$BACKUP_RUN/hold" >&5 2>"$stderr" 5>&- 6<&- &
  holder=$!
  exec 9<>"$BACKUP_RUN/hold" 5>&-
  IFS= read -r held <&6 || held=
  exec 6<&-
  case $held in
    t) ;;
    f) fail "another restore of '$target' began in the same second" "start the restore again" ;;
    *) wait "$holder" || holder='' && fail_with_stderr "the new database cannot be reserved" ;;
  esac
}

release_new_database() {
  [ -n "$holder" ] || return 0
  kill "$holder" 2>/dev/null || :
  wait "$holder" 2>/dev/null || :
  holder=
}

create_database() {
  database_settings
  [ -z "$settings_unread" ] || report "warning: not all of the encoding and locale of the archive's database is known: $settings_unread"
  choose_tablespace
  closed='CONNECTION LIMIT 0' revoke=
  [ "$superuser" = t ] || { closed='' && revoke='REVOKE CONNECT ON DATABASE :"new" FROM PUBLIC;'; }
  hold_new_database
  made=yes
  ask "$maintenance" -v new="$new" -v owner="$owner" -v place="$place" <<SQL || creation_failed
CREATE DATABASE :"new" OWNER :"owner" TEMPLATE template0 $settings ${place:+TABLESPACE :\"place\"} $closed;
$revoke
SQL
}

creation_failed() {
  ! grep -q 'already exists' "$stderr" || made=
  fail_with_stderr "the new database cannot be created"
}

choose_tablespace() {
  ask "$maintenance" -v target="$target" -v archived="$archive_tablespace" <<'SQL' || fail_with_stderr "the tablespaces cannot be read"
SELECT w.name, has_tablespace_privilege(t.oid, 'CREATE') FROM (SELECT coalesce(
    (SELECT spcname FROM pg_database d JOIN pg_tablespace s ON s.oid = dattablespace WHERE datname = :'target'),
    nullif(:'archived', ''), 'pg_default') AS name) w
  LEFT JOIN pg_tablespace t ON t.spcname = w.name
WHERE w.name <> 'pg_default'
SQL
  place='' may_use=''
  IFS=$separator read -r place may_use <"$facts" || return 0
  [ "$may_use" != t ] || return 0
  why="where '$PGUSER' may not create a database"
  [ -n "$may_use" ] || why="which the server does not have"
  report "warning: the database was in tablespace '$place', $why: the new one is in the default tablespace"
  place=
}

compare_rows() {
  rows_are_known || return 0
  ask "$1" <<SQL || fail_with_stderr "the restored database cannot be read"
SELECT 'hidden' $own_relations AND relkind = 'r' AND row_security_active(c.oid) LIMIT 1;
SELECT format('SELECT count(*) FROM ONLY %I.%I', n.nspname, c.relname) $own_relations AND relkind = 'r'
\\gexec
SQL
  if grep -q hidden "$facts"; then
    warn_of_hidden_rows
    return
  fi
  found_rows=$(awk '{ n += $1 } END { printf "%.0f", n }' "$facts")
  [ "$found_rows" = "$req_rows" ] ||
    fail "it has $found_rows rows, the archive held $req_rows when it was made"
}

restore_beside() {
  read_settings
  create_database
  create_extensions_as_before
  fill_new_database
  compare "$new"
  [ -n "$incomplete" ] || check_new_database
  [ -z "$copying" ] || run_sql_files
  analyze "$new"
  settings_beside
  mark_finished
  swap
}

check_new_database() {
  compare_rows "$new"
  if [ "$found_tables" != "$tables" ] || [ "$found_sequences" != "$sequences" ]; then
    fail "it has $found_tables tables and $found_sequences sequences, the archive has $tables and $sequences" \
      "please report this; try another archive"
  fi
  [ "$invalid" = 0 ] || fail "$invalid indexes are invalid" "restore again; if it persists, use another archive"
}

mark_finished() {
  if [ -n "$copying" ]; then
    mark_copy
    return
  fi
  ask "$maintenance" -v new="$new" -v mark="$finished_mark, not yet renamed to $target" <<'SQL' || fail_with_stderr "the new database cannot be marked"
COMMENT ON DATABASE :"new" IS :'mark'
SQL
  made=
  target_state="'$new' is restored in full. As long as it has this name, finish by hand: $(open_by_hand "$new") $(rename_by_hand "$new")"
  release_new_database
}

open_by_hand() {
  if [ "$superuser" = t ]; then
    echo "ALTER DATABASE $(quoted "$1") CONNECTION LIMIT -1; COMMENT ON DATABASE $(quoted "$1") IS NULL;"
  else
    echo "GRANT CONNECT ON DATABASE $(quoted "$1") TO PUBLIC; COMMENT ON DATABASE $(quoted "$1") IS NULL;"
  fi
}

rename_by_hand() {
  [ -z "$exists" ] || printf '%s ' "ALTER DATABASE $(quoted "$target") RENAME TO $(quoted "$old");"
  echo "ALTER DATABASE $(quoted "$1") RENAME TO $(quoted "$target");"
}

swap() {
  tries=1
  until swap_once; do
    error=$(first_error)
    error=${error#psql:*: }
    ! swapped || break
    case $error in
      *"being accessed by other users"* | *"connection"* | *"starting up"* | *"shutting down"* | *"read-only transaction"*) ;;
      *) keep_for_later "$error" ;;
    esac
    [ "$tries" -lt "${RESTORE_SWAP_TRIES:-6}" ] || keep_for_later "$error"
    tries=$((tries + 1))
  done
  target_state="'$target' is restored; only a later step failed"
  made=
  release_new_database
}

swapped() {
  wait_for_primary
  ask "$maintenance" -v old="$old" -v new="$new" -v target="$target" -v mark="$finished_mark" <<'SQL' || fail_with_stderr "the server's databases cannot be read"
SELECT EXISTS (SELECT FROM pg_database WHERE datname = :'old'), EXISTS (SELECT FROM pg_database WHERE datname = :'target'),
  (SELECT coalesce(starts_with(shobj_description(oid, 'pg_database'), :'mark'), false) FROM pg_database WHERE datname = :'new')
SQL
  IFS=$separator read -r old_there target_there marked <"$facts"
  case $marked in
    t)
      exists=
      [ "$target_there" = f ] || exists=yes
      return 1
      ;;
    f) lost_in_failover yes ;;
  esac
  [ "$target_there$old_there" = tt ] || [ "$target_there$exists" = t ] || lost_in_failover ''
}

lost_in_failover() {
  made=$1 target_state=''
  fail "the new database, or its end, is not on the server that is the primary now: it was lost in a failover" "restore again"
}

wait_for_primary() {
  PGDATABASE=$maintenance
  patience=$(($(seconds) + conf_wait_timeout))
  wait_for_server
  while [ "$role" != primary ]; do
    [ "$(seconds)" -lt "$patience" ] || fail "host $conf_host is still a standby after $conf_wait_timeout s" "wait for the failover to end"
    run sleep 1
    wait_for_server
  done
}

swap_once() {
  end_sessions &
  watcher=$!
  code=0
  {
    echo 'BEGIN;'
    open_database
    [ -z "$exists" ] || echo 'ALTER DATABASE :"target" RENAME TO :"old";'
    echo 'ALTER DATABASE :"database" RENAME TO :"target"; COMMIT;'
  } >"$BACKUP_RUN/swap.sql"
  ask "$maintenance" -v database="$new" -v old="$old" -v target="$target" -v copy_mark="${copy_mark-}" <"$BACKUP_RUN/swap.sql" || code=$?
  stop_watching
  return "$code"
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

keep_for_later() {
  [ -z "$copying" ] || fail "'$target' cannot be renamed: $1" "end its sessions, then run the copy again"
  kept=$new opening="$(open_by_hand "$new") "
  end_sessions &
  watcher=$!
  echo 'ALTER DATABASE :"database" RENAME TO :"finished"' >"$BACKUP_RUN/keep.sql"
  if ask "$maintenance" -v database="$new" -v finished="$finished" <"$BACKUP_RUN/keep.sql"; then kept=$finished; fi
  stop_watching
  {
    echo 'BEGIN;'
    open_database
    [ "$kept" = "$finished" ] || echo 'COMMENT ON DATABASE :"database" IS :'"'mark';"
    echo 'COMMIT;'
  } >"$BACKUP_RUN/keep.sql"
  if ask "$maintenance" -v database="$kept" -v mark="$finished_mark" <"$BACKUP_RUN/keep.sql"; then
    opening=
    [ "$kept" = "$finished" ] || opening="COMMENT ON DATABASE $(quoted "$kept") IS NULL; "
  fi
  target_state="'$target' is as it was; the restored copy is '$kept', and no later restore removes it"
  fail "everything is restored, but '$target' cannot be renamed: $1" "end its sessions, then: $opening$(rename_by_hand "$kept")"
}
