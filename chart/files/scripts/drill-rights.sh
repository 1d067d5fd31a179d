#!/bin/sh
# With which rights a drill restores and reads: those of an ordinary role where they suffice. Sourced by drill.sh; it does nothing on
# its own.
#
# A restore runs the owner's functions. As the superuser they could run programs, so a drill first restores with a role that is not
# one: a session of its own, since SET ROLE can be taken back. What only a superuser may restore, or the role cannot, is restored by
# the superuser.
#
# shellcheck disable=SC2034,SC2154 # variables are set for, or by, drill.sh

restorer=cnpg_backup_drill
# Who restored, and so who reads: $restorer or postgres.
reader=postgres

# Run a command as a role of the throwaway server: as_role ROLE COMMAND….
as_role() {
  PGUSER=$1
  shift
  code=0
  "$@" || code=$?
  PGUSER=postgres
  return "$code"
}

# Whether the archive names the superuser, has objects that only a superuser can own, or rows that an extension brings too.
needs_superuser() {
  [ ! -s "$BACKUP_RUN/special" ] && [ ! -s "$list.rows" ] || return 0
  [ -s "$BACKUP_RUN/owners" ] || return 1
  grep -qx -e postgres -e "$restorer" "$BACKUP_RUN/owners"
}

# A role that is a member of all others, and may read and write everything in the database but is not a superuser. The database gets
# its own owner: only somebody who may create objects in a schema can become the owner of one there.
create_restorer() {
  owner=$(awk "$role_reader"'/^ALTER DATABASE .* OWNER TO .*;$/ { match($0, /.* OWNER TO /); print role(substr($0, RLENGTH + 1)) }' \
    "$BACKUP_RESULTS/database.sql" | tail -n 1)
  ask postgres -v name="$drilled" -v role="$restorer" -v owner="$owner" <<'SQL'
CREATE ROLE :"role" LOGIN BYPASSRLS;
GRANT pg_read_all_data, pg_write_all_data TO :"role";
SELECT format('GRANT %I TO %I', rolname, :'role') FROM pg_roles
  WHERE NOT rolsuper AND rolname !~ '^pg_' AND rolname <> :'role'
\gexec
SELECT format('ALTER DATABASE %I OWNER TO %I', :'name', rolname) FROM pg_roles
  WHERE rolname = coalesce((SELECT rolname FROM pg_roles WHERE rolname = :'owner' AND NOT rolsuper), :'role')
\gexec
SQL
}

# Restore with that role what it may restore, after extensions and their schemas: restore_as_ordinary_role ARGUMENT OF pg_restore….
restore_as_ordinary_role() {
  create_restorer || return 1
  awk '$4 == "SCHEMA" || $4 == "EXTENSION" || ($4 == "COMMENT" && $6 == "EXTENSION")' "$list" >"$list.first"
  awk '$4 != "SCHEMA" && $4 != "EXTENSION" && !($4 == "COMMENT" && $6 == "EXTENSION")' "$list.use" >"$list.then"
  PGDATABASE=$drilled
  run pg_restore "$@" -L "$list.first" "$archive" || return 1
  as_role "$restorer" run pg_restore "$@" -L "$list.then" "$archive" || return 1
  reader=$restorer
}

# Run the SQL on standard input with the role that restored, and if that fails with the superuser: ask_as_reader FUNCTION ARGUMENT….
ask_as_reader() {
  cat >"$BACKUP_RUN/reader.sql"
  [ "$reader" = postgres ] || ! as_role "$reader" "$@" <"$BACKUP_RUN/reader.sql" || return 0
  "$@" <"$BACKUP_RUN/reader.sql"
}
