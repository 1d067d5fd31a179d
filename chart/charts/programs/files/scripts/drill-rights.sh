#!/bin/sh
# Without comments: they are in the project's file of this name.
restorer=cnpg_backup_drill
reader=postgres

as_role() {
  PGUSER=$1
  shift
  code=0
  "$@" || code=$?
  PGUSER=postgres
  return "$code"
}

needs_superuser() {
  [ ! -s "$BACKUP_RUN/special" ] && [ ! -s "$list.rows" ] || return 0
  [ -s "$BACKUP_RUN/owners" ] || return 1
  grep -qx -e postgres -e "$restorer" "$BACKUP_RUN/owners"
}

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

restore_as_ordinary_role() {
  create_restorer || return 1
  awk '$4 == "SCHEMA" || $4 == "EXTENSION" || ($4 == "COMMENT" && $6 == "EXTENSION")' "$list" >"$list.first"
  awk '$4 != "SCHEMA" && $4 != "EXTENSION" && !($4 == "COMMENT" && $6 == "EXTENSION")' "$list.use" >"$list.then"
  PGDATABASE=$drilled
  run pg_restore "$@" -L "$list.first" "$archive" || return 1
  as_role "$restorer" run pg_restore "$@" -L "$list.then" "$archive" || return 1
  reader=$restorer
}

ask_as_reader() {
  cat >"$BACKUP_RUN/reader.sql"
  [ "$reader" = postgres ] || ! as_role "$reader" "$@" <"$BACKUP_RUN/reader.sql" || return 0
  "$@" <"$BACKUP_RUN/reader.sql"
}
