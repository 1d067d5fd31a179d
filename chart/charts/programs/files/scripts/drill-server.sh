#!/bin/sh
# Without comments: they are in the project's file of this name.
server=''
server_settings='' server_logins='' server_address='' server_port=5432

start_server() {
  rm -rf "$data"
  run initdb -D "$data" -U postgres -A trust -E UTF8 --locale=C --no-sync --no-instructions >/dev/null ||
    fail_with_stderr "the throwaway server cannot be initialized"
  cat >>"$data/postgresql.conf" <<CONF
fsync = off
full_page_writes = off
synchronous_commit = off
wal_level = minimal
max_wal_senders = 0
max_connections = 20
max_locks_per_transaction = 2048
max_wal_size = 256MB
autovacuum = off
maintenance_work_mem = 128MB
include_if_exists = 'preload.conf'
CONF
  printf '%s\n' "$server_settings" >>"$data/postgresql.conf"
  [ -z "$server_logins" ] || printf '%s\n' "$server_logins" >"$data/pg_hba.conf"
  [ ! -f "$BACKUP_CONFIG/drill.parameters" ] || cat "$BACKUP_CONFIG/drill.parameters" >>"$data/postgresql.conf"
  unset PGPASSFILE PGSSLMODE PGSSLROOTCERT PGSERVICE PGSERVICEFILE PGHOSTADDR PGOPTIONS PGTARGETSESSIONATTRS PGCLIENTENCODING
  PGHOST=$BACKUP_RUN PGPORT=$server_port PGUSER=postgres PGDATABASE=postgres PGAPPNAME=cnpg-backup-drill
  export PGHOST PGPORT PGUSER PGDATABASE PGAPPNAME
  start_postgres || fail "the throwaway server did not start: $(server_error)"
}

server_error() {
  awk '{ last = $0 } fatal == "" && /(FATAL|PANIC):  / { fatal = $0 } END { if (fatal != "") last = fatal; print last }' "$DRILL_SCRATCH/log" |
    sed 's/.*\(FATAL\|PANIC\):  //' | tr '[:cntrl:]' ' '
}

start_postgres() {
  postgres -D "$data" -c listen_addresses="$server_address" -c unix_socket_directories="$BACKUP_RUN" -c port="$server_port" -c ssl=off \
    -c dynamic_shared_memory_type=mmap -c shared_memory_type=mmap \
    >"$DRILL_SCRATCH/log" 2>&1 &
  server=$!
  until run pg_isready -q; do
    kill -0 "$server" 2>/dev/null || { server= && return 1; }
    run sleep 0.1
  done
}

end_postgres() {
  [ -n "$server" ] || return 0
  kill "-$1" "$server" 2>/dev/null || :
  wait "$server" 2>/dev/null || :
  server=
}

stop_server() {
  [ -n "$server" ] || return 0
  end_postgres QUIT
  rm -rf "$data"
}

preload_libraries() {
  [ -s "$BACKUP_RUN/extensions" ] || return 0
  ask postgres <<SQL || fail_with_stderr "the image's extensions cannot be read"
WITH folder AS (
  SELECT max(setting) FILTER (WHERE name = 'PKGLIBDIR') AS libraries, max(setting) FILTER (WHERE name = 'SHAREDIR') AS shared
  FROM pg_config
),
extension AS (
  SELECT name, shared || '/extension/' || name || '.control' AS control
  FROM (VALUES $(values_of "$BACKUP_RUN/extensions")) w (name), folder WHERE name !~ '/'
),
library AS (
  SELECT name FROM extension
  UNION
  SELECT substring(pg_read_file(control, 0, 100000, true) FROM 'module_pathname\s*=\s*''\\\$libdir/([^''/]+)''') FROM extension
)
SELECT name FROM (SELECT name, libraries || '/' || name || '.so' AS file FROM library, folder) l
WHERE position('\x7368617265645f7072656c6f61645f6c6962726172696573'::bytea
  IN pg_read_binary_file(file, 0, (pg_stat_file(file, true)).size, true)) > 0
ORDER BY 1
SQL
  mv "$facts" "$BACKUP_RUN/libraries"
  [ -s "$BACKUP_RUN/libraries" ] || return 0
  end_postgres INT
  ! start_with_libraries "$BACKUP_RUN/libraries" || return 0
  : >"$BACKUP_RUN/libraries.kept"
  while IFS= read -r library <&3; do
    { cat "$BACKUP_RUN/libraries.kept" && echo "$library"; } >"$BACKUP_RUN/libraries.next"
    if start_with_libraries "$BACKUP_RUN/libraries.next"; then
      end_postgres INT
      mv "$BACKUP_RUN/libraries.next" "$BACKUP_RUN/libraries.kept"
    else
      warn "the server does not start with $library preloaded, and goes without: $(server_error)"
    fi
  done 3<"$BACKUP_RUN/libraries"
  start_with_libraries "$BACKUP_RUN/libraries.kept" || fail "the throwaway server did not start: $(server_error)"
}

start_with_libraries() {
  {
    echo "shared_preload_libraries = '$(awk '{ printf "%s%s", sep, $0; sep = "," }' "$1")'"
    echo "max_worker_processes = 0"
    ! grep -qx pg_cron "$1" || echo "cron.database_name = '$(echo "$drilled" | sed "s/'/''/g")'"
  } >"$data/preload.conf"
  start_postgres
}
