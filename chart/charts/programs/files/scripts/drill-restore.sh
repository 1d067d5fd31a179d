#!/bin/sh
# Without comments: they are in the project's file of this name.
set_places() {
  read_request "$1"
  database=$req_database archive=$DRILL_SCRATCH/archives/$req_base.dump
  stderr=$BACKUP_RUN/stderr facts=$BACKUP_RUN/facts list=$BACKUP_RESULTS/list
  data=$DRILL_SCRATCH/data
  major=$(postgres --version) archive_major=${req_server_version%%[!0-9]*}
  major=${major#*"(PostgreSQL) "}
  major=${major%%[!0-9]*}
  : >"$stderr"
}

remedy_for() {
  case $1 in
    *"No space left"* | *"could not extend file"* | *"could not write"*) echo "raise drill.scratch.sizeLimit" ;;
    *"extension \""*"is not available"* | *"extension control file"* | *"could not access file"* | *"could not load library"*)
      echo "set image of this database to one that has it, such as the image of its cluster"
      ;;
    *"shared_preload_libraries"* | *"must be preloaded"*)
      echo "name that library in drill.postgresql.shared_preload_libraries, with all others that the database needs"
      ;;
    *"out of shared memory"*) echo "raise drill.postgresql.max_locks_per_transaction, which is 2048 if it is not set" ;;
    *"could not look up effective user"*)
      echo "the image has no user with this id: set podSecurityContext.runAsUser, or use an image that has it"
      ;;
    *"throwaway server did not start"*) echo "correct drill.postgresql, or the image of this database" ;;
    *"invalid value for parameter"* | *"unrecognized configuration parameter"*)
      echo "its cluster's server knows this setting and the drill's does not: add what it needs to drill.postgresql"
      ;;
    *) remedy_in_source "$1" || echo "restore it into another database (RESTORE_INTO) to find out why; an earlier archive may be sound" ;;
  esac
}

read_archive() {
  run pg_restore -f /dev/null "$archive" || fail_with_stderr "it cannot be read"
  list_archive || fail_with_stderr "it cannot be listed"
}

check_views() {
  views_of "$list" >"$list.views"
  find_own_views "$list.views" "$archive" || fail_with_stderr "it cannot be read"
  [ ! -s "$facts" ] || fail "$(own_views_error)" "$own_views_cure; tonight: $own_views_tonight"
}

create_roles() {
  needed_roles owners
  globals=${archive%.dump}.globals.sql
  if [ -f "$globals" ]; then
    sed -n 's/^CREATE ROLE \([a-z_][a-z0-9_$]*\);$/\1/p; s/^CREATE ROLE "\(\([^"]\|""\)*\)";$/\1/p' "$globals" |
      sed 's/""/"/g' >>"$BACKUP_RUN/roles"
  fi
  [ -s "$BACKUP_RUN/roles" ] || return 0
  ask postgres <<SQL || fail_with_stderr "the roles cannot be created"
SELECT format('CREATE ROLE %I', name) FROM (VALUES $(values_of "$BACKUP_RUN/roles")) w (name)
  WHERE name NOT LIKE 'pg\\_%' EXCEPT SELECT format('CREATE ROLE %I', rolname) FROM pg_roles
\\gexec
SQL
  major=$(postgres --version | sed 's/.*) //; s/[^0-9].*//')
  special_objects
  awk -F "$separator" '{ print $3 }' "$BACKUP_RUN/special" | sort -u >"$BACKUP_RUN/roles"
  [ -s "$BACKUP_RUN/roles" ] || return 0
  ask postgres <<SQL || fail_with_stderr "the roles cannot be created"
SELECT format('ALTER ROLE %I SUPERUSER', rolname) FROM pg_roles JOIN (VALUES $(values_of "$BACKUP_RUN/roles")) w (name) ON name = rolname
  WHERE rolname <> current_user
\\gexec
SQL
}

name_database() {
  drilled=$req_dbname
  case $drilled in postgres | template[01]) drilled=drill ;; esac
}

check_extensions() {
  [ -s "$BACKUP_RUN/extensions" ] || return 0
  ask postgres <<SQL || fail_with_stderr "the image's extensions cannot be read"
SELECT string_agg(quote_literal(name), ', ' ORDER BY name) FROM (
  SELECT name FROM (VALUES $(values_of "$BACKUP_RUN/extensions")) w (name) EXCEPT SELECT name FROM pg_available_extensions) missing
SQL
  IFS= read -r missing <"$facts"
  [ -z "$missing" ] ||
    fail "it could not be proved for want of extension $missing in the image${DRILL_IMAGE:+ $DRILL_IMAGE}" \
      "set image of this database to one that has it, such as the image of its cluster" unproved
}

create_database() {
  database_settings
  [ -z "$settings_unread" ] || warn "not all of the encoding and locale of the archive's database is known: $settings_unread"
  ask postgres -v name="$drilled" <<SQL && return
CREATE DATABASE :"name" TEMPLATE template0 $settings
SQL
  warn "the drill's image lacks its locale, so C is used: $(first_error)"
  ask postgres -v name="$drilled" <<'SQL' || fail_with_stderr "the database cannot be created"
CREATE DATABASE :"name" TEMPLATE template0
SQL
}

restore() {
  began=$(seconds)
  create_roles
  create_database
  set -- -d '' -w --exit-on-error --no-tablespaces -j "${DRILL_JOBS:-$(jobs_for "$req_bytes")}"
  careful=''
  awk '$4 != "DATABASE"' "$list" >"$list.use"
  rows_of_extensions "$list.use" "$list.rows"
  if needs_superuser; then
    restore_as_superuser "$@"
  elif ! restore_as_ordinary_role "$@"; then
    log "$database" "only the superuser can restore it: $(first_error)"
    drop_database
    create_database
    restore_as_superuser "$@"
  fi
  put restore_seconds "$(($(seconds) - began))"
}

restore_list() {
  PGDATABASE=$drilled
  run pg_restore "$@" "$archive"
}

restore_as_superuser() {
  PGDATABASE=$drilled
  if [ -s "$list.rows" ]; then in_steps "$drilled" restore_list "$@" -L; else run pg_restore "$@" "$archive"; fi || restore_carefully "$@"
}

drop_database() {
  ask postgres -v name="$drilled" <<'SQL' || fail_with_stderr "the database cannot be dropped"
DROP DATABASE :"name"
SQL
}

restore_carefully() {
  error=$(first_error)
  remedy_in_source "$error" >/dev/null || fail_with_stderr "pg_restore failed"
  case $unrestorable in names | check) ;; *) fail_with_stderr "pg_restore failed" ;; esac
  warn "it can only be restored with a search_path for its functions, and its checks after its rows (${error#*error: }); $cure"
  drop_database
  create_database
  careful=yes path=''
  in_steps "$drilled" restore_list "$@" -L || fail_with_stderr "pg_restore failed"
  take_back "$drilled" "$BACKUP_RESULTS/back.2" "$BACKUP_RESULTS/back.1"
}
