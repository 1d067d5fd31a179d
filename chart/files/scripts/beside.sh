#!/bin/sh
# The method "beside" of restore.sh, for roles that may create databases: restore into a new database, compare and analyze it,
# then swap it with the old one by renaming both in one transaction. Sourced by restore.sh; it does nothing on its own.
#
# shellcheck disable=SC2034,SC2154 # variables are set for, or by, restore.sh and lib.sh

# Drop the unfinished databases that killed restores of this target left behind; they are of no use.
remove_leftovers() {
  ask "$maintenance" -v prefix="$prefix" <<'SQL' || fail_with_stderr "the server's databases cannot be read"
SELECT datname FROM pg_database WHERE starts_with(datname, :'prefix' || '_restoring_')
  AND substr(datname, length(:'prefix' || '_restoring_') + 1) ~ '^[0-9]{8}_[0-9]{6}$'
SQL
  mv "$facts" "$BACKUP_RUN/leftovers"
  while IFS= read -r name <&3; do
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

# Called whenever the restore ends, even if the server no longer answers.
drop_new_database() {
  [ -n "$made" ] || return 0
  made=
  PGDATABASE=$maintenance
  # FORCE, since the server may still run a statement of the ended pg_restore. It waits five seconds for that statement, which
  # is too short on a busy server, hence three attempts. Together they stay within a container's grace period.
  printf '%s\n' "$preamble" 'DROP DATABASE IF EXISTS :"name" WITH (FORCE)' >"$BACKUP_RUN/drop.sql"
  for _ in 1 2 3; do
    ! timeout -k 1 7 psql -Xqw -v ON_ERROR_STOP=1 -v name="$new" -f "$BACKUP_RUN/drop.sql" >/dev/null 2>&1 || return 0
  done
  report "warning: '$new' could not be dropped; the next restore of '$target' will drop it"
}

create_database() {
  database_settings
  made=yes
  ask "$maintenance" -v new="$new" -v owner="$owner" <<SQL || fail_with_stderr "the new database cannot be created"
CREATE DATABASE :"new" OWNER :"owner" TEMPLATE template0 $settings
SQL
}

# Run pg_restore into a database: pg_restore_into DATABASE [ARGUMENT…]. The name is passed in the environment, since as an
# argument `a=b` would be a connection string; with the empty -d pg_restore connects to it.
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

# Compare the rows with the number that was counted when the archive was made: compare_rows DATABASE. This is skipped if row
# security would hide some.
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
  create_database
  if [ "$jobs" -gt 1 ]; then set -- -j "$jobs"; else set --; fi
  pg_restore_into "$new" "$@"
  compare "$new"
  compare_rows "$new"
  if [ "$found_tables" != "$tables" ] || [ "$found_sequences" != "$sequences" ]; then
    fail "it has $found_tables tables and $found_sequences sequences, the archive has $tables and $sequences" \
      "please report this; try another archive"
  fi
  [ "$invalid" = 0 ] || fail "$invalid indexes are invalid" "restore again; if it persists, use another archive"
  analyze "$new"
  swap
  restore_settings
}

# The rename takes its lock first and then waits for other sessions to end. New sessions block on that lock, so terminating
# the existing ones suffices.
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

# Whether the swap was done after all, as when the connection was lost before the answer came. Until that is known, nothing
# may be dropped.
swapped() {
  made='' target_state="both databases were renamed, or neither: look for '$old' among the databases"
  PGDATABASE=$maintenance
  wait_for_server
  ask "$maintenance" -v old="$old" <<'SQL' || fail_with_stderr "the server's databases cannot be read"
SELECT 'swapped' FROM pg_database WHERE datname = :'old'
SQL
  if grep -q swapped "$facts"; then return 0; fi
  made=yes target_state=''
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

# Everything is restored and only the renaming failed: keep the new database, since restoring it took long.
keep_for_later() {
  made=
  ask "$maintenance" -v new="$new" -v finished="$finished" <<'SQL' || finished=$new
ALTER DATABASE :"new" RENAME TO :"finished"
SQL
  fail "everything is restored, but '$target' cannot be renamed: $1" \
    "end its sessions, then: ALTER DATABASE \"$target\" RENAME TO \"$old\"; ALTER DATABASE \"$finished\" RENAME TO \"$target\";"
}

# Restore settings (ALTER DATABASE … SET), grants and comment of the database itself; in an archive they name the database
# that was dumped.
restore_settings() {
  [ "$target" = "$req_dbname" ] || return 0
  awk '($4 == "DATABASE" && $5 == "PROPERTIES") || ($4 ~ /^(ACL|COMMENT)$/ && $5 == "-" && $6 == "DATABASE")' "$list" >"$list.settings"
  [ -s "$list.settings" ] || return 0
  PGDATABASE=$target
  # pg_restore first tries to create the database, whatever the list contains, and continues after that error.
  run pg_restore -C -d '' -w -L "$list.settings" "$archive" || :
  complaint=$(awk '/error: / && !/database ".*" already exists/ { sub(/^pg_restore: error: /, ""); print; exit }' "$stderr")
  [ -z "$complaint" ] || report "warning: not all settings and grants of the database itself were restored: $complaint"
}
