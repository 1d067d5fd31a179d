#!/bin/sh
# Without comments: they are in the project's file of this name.
read_copy_options() {
  case ${RESTORE_COPY:-no} in
    no) return ;;
    yes) ;;
    *) usage "RESTORE_COPY='$RESTORE_COPY' is neither yes nor no" ;;
  esac
  [ "$way_wanted$on_error$tables_wanted$schemas_wanted" = besidestop ] && [ -z "${RESTORE_UNDELETE:-}" ] ||
    usage "RESTORE_COPY makes a copy in full, with RESTORE_WAY=beside: leave out RESTORE_TABLES, RESTORE_SCHEMAS, RESTORE_ON_ERROR and RESTORE_UNDELETE"
  [ "$conf_namespace/$conf_cluster/$target" != "$source" ] ||
    usage "the copy would replace the database that is backed up: name another one in RESTORE_INTO, or another cluster in RESTORE_CLUSTER"
  copying=yes
  copy_mark="cnpg-backup: copy of $database, "
}

check_copy_target() {
  [ -n "$exists" ] || return 0
  ask "$maintenance" -v target="$target" -v mark="$copy_mark" <<'SQL' || fail_with_stderr "the comment of database '$target' cannot be read"
SELECT coalesce(starts_with(shobj_description(oid, 'pg_database'), :'mark'), false) FROM pg_database WHERE datname = :'target'
SQL
  IFS= read -r marked <"$facts"
  if [ "$marked" = t ]; then
    copied_before=yes replace=yes
    return
  fi
  [ "$accepts" = t ] && [ "$relations" -eq 0 ] ||
    refuse "database '$target' in cluster $conf_cluster is not a copy of $database that this release has made, and it is not empty" \
      "rename or drop it, or name another database for the copy (copies[].into)"
}

run_sql_files() {
  [ -n "${RESTORE_SQL:-}" ] || return 0
  set -- "$RESTORE_SQL"/*.sql
  [ -e "$1" ] ||
    fail "there is no SQL file for this copy: the ConfigMap does not exist, or has no key that ends in .sql" \
      "make it (copies[].sqlConfigMap), or set sqlConfigMap: \"\" for a copy without changes"
  lock=$(head -c 16 /dev/urandom | od -An -v -tx1 | tr -d ' \n')
  {
    echo 'SET statement_timeout = 0; SET default_transaction_read_only = off; SET ROLE :"owner";'
    printf '\\restrict %s\n' "$lock"
  } >"$BACKUP_RUN/before.sql"
  echo 'COMMIT;' >"$BACKUP_RUN/after.sql"
  PGDATABASE=$new
  for file; do
    log "$database" "running ${file##*/}"
    run psql -Xq -v ON_ERROR_STOP=1 -v owner="$owner" -f "$BACKUP_RUN/before.sql" -f "$file" -f "$BACKUP_RUN/after.sql" >/dev/null ||
      sql_file_failed
  done
  PGDATABASE=$maintenance
  lock=''
  rm -f "$BACKUP_RUN/before.sql" "$BACKUP_RUN/after.sql"
  report "$# SQL files ran before anybody could connect"
}

sql_file_failed() {
  error=$(first_error)
  place=$(printf '%s\n' "$error" | sed -n 's|^psql:.*/\([^/]*\):\([0-9]*\): .*|\1, line \2|p')
  error=$(printf '%s\n' "$error" | sed 's/^psql:[^ ]*: //; s/^\(error\|ERROR\|FATAL\): *//')
  case $error in
    *"invalid command \\restrict"*)
      fail "this image's psql cannot lock its own commands, so it runs no SQL files" "use an image with a minor version of August 2025 or newer"
      ;;
    *"backslash commands are restricted"*) remedy="write it as SQL: psql's own commands are locked in these files" ;;
    *) remedy="correct the file in its ConfigMap (copies[].sqlConfigMap), then run the copy again" ;;
  esac
  case $place in "after.sql,"*) place=${file##*/} ;; '') place=${file##*/} ;; esac
  fail "$place: $error" "$remedy"
}

mark_copy() {
  copy_mark="$copy_mark$req_base.dump, made $(date -u +%Y-%m-%dT%H:%MZ); the next run replaces it"
  finished_mark=$copy_mark
  ask "$maintenance" -v new="$new" -v mark="$copy_mark" <<'SQL' || fail_with_stderr "the new database cannot be marked"
COMMENT ON DATABASE :"new" IS :'mark'
SQL
}

drop_previous_copy() {
  ask "$maintenance" -v name="$old" <<'SQL' || { report "warning: the copy before cannot be dropped: $(first_error)" && report_previous; }
DROP DATABASE :"name" WITH (FORCE)
SQL
}
