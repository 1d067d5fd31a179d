#!/bin/sh
# Without comments: they are in the project's file of this name.
parts=''

read_settings() {
  [ -z "$parts" ] || return 0
  parts=$BACKUP_RUN/settings
  rm -rf "$parts" && mkdir "$parts"
  for name in door inside unknown keys same; do : >"$parts/$name"; done
  awk '($4 == "DATABASE" && $5 == "PROPERTIES") || ($4 ~ /^(ACL|COMMENT)$/ && $5 == "-" && $6 == "DATABASE") ||
    ($4 == "SECURITY" && $6 == "-" && $7 == "DATABASE")' "$list" >"$list.settings"
  [ -s "$list.settings" ] || return 0
  run pg_restore -C -L "$list.settings" -f "$BACKUP_RESULTS/settings.sql" "$archive" ||
    fail_with_stderr "the settings of the archive's database cannot be read"
  awk -v apostrophe="'" -v parts="$parts" "$role_reader$statement_reader$settings_reader" "$BACKUP_RESULTS/settings.sql"
  rm -f "$BACKUP_RESULTS/settings.sql"
  while IFS= read -r name <&3; do
    report "warning: a statement about the archive's database is of an unknown form and is not restored: $name"
  done 3<"$parts/unknown"
}

settings_reader='
  function keep(list, statement, name) {
    gsub(/[[:cntrl:]]/, " ", name)
    printf "%s\n", statement >(parts "/" ++count ".sql")
    close(parts "/" count ".sql")
    print name >(parts "/" count ".name")
    close(parts "/" count ".name")
    print count >(parts "/" list)
  }
  function after_name(text) { role(text); return rest }
  function setting(text) { sub(/^ SET /, "", text); sub(/ TO .*/, "", text); return text }
  function statement(text,  head, tail, who) {
    if (text ~ /^(CREATE DATABASE|SET [a-z_]+ =|SELECT pg_catalog\.set_config\()/) return
    if (text ~ /^ALTER DATABASE /) {
      tail = after_name(substr(text, 16))
      if (tail ~ /^ OWNER TO /) return
      if (tail ~ /^ (CONNECTION LIMIT|IS_TEMPLATE) = /) {
        keep("door", "ALTER DATABASE :\"database\"" tail, "ALTER DATABASE" substr(tail, 1, index(tail, " =") - 1))
        return
      }
      if (tail ~ /^ SET /) {
        keep("inside", "ALTER DATABASE :\"database\"" tail, "ALTER DATABASE … SET " setting(tail))
        print "-", setting(tail) >(parts "/keys")
        return
      }
    }
    if (text ~ /^ALTER ROLE /) {
      tail = after_name(substr(text, 12))
      who = substr(text, 12, length(text) - 11 - length(tail))
      if (sub(/^ IN DATABASE /, "", tail)) {
        tail = after_name(tail)
        keep("inside", "ALTER ROLE " who " IN DATABASE :\"database\"" tail, "ALTER ROLE " who " IN DATABASE … SET " setting(tail))
        print who, setting(tail) >(parts "/keys")
        return
      }
    }
    if (text ~ /^(GRANT|REVOKE) / && match(text, / ON DATABASE /)) {
      head = substr(text, 1, RSTART - 1)
      tail = after_name(substr(text, RSTART + RLENGTH))
      keep("door", head " ON DATABASE :\"database\"" tail, head " ON DATABASE …" substr(tail, 1, length(tail) - 1))
      return
    }
    if (text ~ /^(SET|RESET) SESSION AUTHORIZATION/) {
      keep("door", text, substr(text, 1, length(text) - 1))
      return
    }
    if (text ~ /^COMMENT ON DATABASE /) {
      keep("door", "COMMENT ON DATABASE :\"database\"" after_name(substr(text, 21)), "COMMENT ON DATABASE")
      return
    }
    if (text ~ /^SECURITY LABEL FOR / && match(text, / ON DATABASE /)) {
      head = substr(text, 1, RSTART - 1)
      keep("inside", head " ON DATABASE :\"database\"" after_name(substr(text, RSTART + RLENGTH)), head " ON DATABASE")
      return
    }
    gsub(/[[:cntrl:]]/, " ", text)
    print substr(text, 1, 30) " …" >(parts "/unknown")
  }
'

statements_of() {
  echo '\set ON_ERROR_STOP 0'
  echo '\set ON_ERROR_ROLLBACK on'
  while read -r number <&3; do
    cat "$parts/$number.sql"
    printf '\\if :ERROR\n\\echo %s :LAST_ERROR_SQLSTATE :LAST_ERROR_MESSAGE\n\\endif\n' "$number"
  done 3<"$parts/$1"
  echo '\set ON_ERROR_STOP 1'
  echo '\set ON_ERROR_ROLLBACK off'
}

foresee_settings() {
  read_settings
  [ -s "$parts/inside" ] || [ -s "$parts/door" ] || return 0
  tried=$target
  [ -n "$exists" ] || tried=$maintenance
  {
    echo 'BEGIN;'
    if [ -n "$exists" ]; then
      statements_of inside
      statements_of door
    else
      statements_of inside | sed 's/^ALTER DATABASE :"database" SET /ALTER ROLE CURRENT_USER IN DATABASE :"database" SET /'
    fi
    printf '%s\n' 'ROLLBACK;' '\echo present' "$present_settings"
  } >"$BACKUP_RUN/settings.sql"
  ask "$maintenance" -v database="$tried" <"$BACKUP_RUN/settings.sql" || {
    report "warning: whether '$PGUSER' may restore the settings of the database itself is not known: $(first_error)"
    return
  }
  sed '/^present$/,$d' "$facts" >"$BACKUP_RUN/lost"
  sed '1,/^present$/d' "$facts" >"$BACKUP_RUN/present"
  while read -r number code message <&3; do
    statement=$(cat "$parts/$number.sql")
    if [ "$way" = in-place ] && grep -Fqx -e "$statement" "$BACKUP_RUN/present"; then
      echo "$number" >>"$parts/same"
      continue
    fi
    describe_lost
    [ -n "$lost" ] || continue
    fate="will not come back"
    [ "$way" != in-place ] || fate="stays as it is now"
    if [ "$code" = 42501 ]; then lost="$lost; after the restore, as superuser: $(statement_for_superuser)"; fi
    report "warning: $fate: $lost"
  done 3<"$BACKUP_RUN/lost"
}

present_settings="SELECT format('ALTER ROLE %s IN DATABASE :\"database\" SET %s TO %L;',
    quote_ident(pg_get_userbyid(setrole)), quote_ident(split_part(line, '=', 1)), substr(line, strpos(line, '=') + 1))
  FROM pg_db_role_setting s JOIN pg_database d ON d.oid = setdatabase CROSS JOIN unnest(setconfig) line
  WHERE datname = :'database' AND setrole <> 0;"

statement_for_superuser() {
  hidden=
  case $lost in *" SET "*[.]*) hidden=yes ;; esac
  case $statement in *[[:cntrl:]]*) hidden=yes ;; esac
  STATEMENT=$statement TARGET=$(quoted "$target") awk -v hidden="$hidden" 'BEGIN {
    text = ENVIRON["STATEMENT"]
    at = index(text, ":\"database\"")
    text = substr(text, 1, at - 1) ENVIRON["TARGET"] substr(text, at + 11)
    gsub(/[[:cntrl:]]/, " ", text)
    if (hidden && match(text, / TO /)) text = substr(text, 1, RSTART + 3) "…; (its value is only in the archive, since it may be a secret)"
    print text
  }'
}

warn_of_lost() {
  while read -r number code message <&3; do
    ! grep -qx "$number" "$parts/same" || continue
    describe_lost
    [ -z "$lost" ] || report "warning: not restored for '$1': $lost"
  done 3<"$BACKUP_RUN/lost"
}

describe_lost() {
  case $code in 42*) ;; *) message="the server does not accept it (SQLSTATE $code)" ;; esac
  lost="$(cat "$parts/$number.name"): $message"
  case $lost in "SET SESSION"* | "RESET SESSION"*) lost='' ;; esac
}

settings_beside() {
  {
    echo 'BEGIN;'
    statements_of inside
    echo 'COMMIT; BEGIN;'
    statements_of door
    echo 'ROLLBACK;'
  } >"$BACKUP_RUN/settings.sql"
  ask "$maintenance" -v database="$new" <"$BACKUP_RUN/settings.sql" || {
    settings_failed "$new"
    return
  }
  mv "$facts" "$BACKUP_RUN/lost"
  warn_of_lost "$target"
  awk 'FILENAME == ARGV[1] { lost[$1]; next } !($1 in lost)' "$BACKUP_RUN/lost" "$parts/door" >"$parts/door.kept"
  mv "$parts/door.kept" "$parts/door"
}

settings_failed() {
  report "warning: the settings and rights of database '$1' itself were not restored: $(first_error)"
  : >"$parts/door"
}

open_database() {
  echo "COMMENT ON DATABASE :\"database\" IS NULL; ALTER DATABASE :\"database\" CONNECTION LIMIT -1;"
  [ "$superuser" = t ] || echo "GRANT CONNECT ON DATABASE :\"database\" TO PUBLIC;"
  while read -r number <&3; do cat "$parts/$number.sql"; done 3<"$parts/door"
  [ -z "$copying" ] || echo "COMMENT ON DATABASE :\"database\" IS :'copy_mark';"
}

extra_settings() {
  ask "$maintenance" -v name="$1" <<'SQL' || return 1
SELECT coalesce(role, '-') || ' ' || quote_ident(setting), setting ~ '[.]', setting || coalesce(' of role ' || role, ''), value,
  'ALTER ' || coalesce('ROLE ' || role || ' IN ', '') || 'DATABASE :"database" RESET ' || quote_ident(setting)
FROM (
  SELECT CASE WHEN setrole <> 0 THEN quote_ident(pg_get_userbyid(setrole)) END AS role, split_part(line, '=', 1) AS setting,
    translate(substr(line, strpos(line, '=') + 1), chr(10) || chr(13) || chr(9), '   ') AS value
  FROM pg_db_role_setting s JOIN pg_database d ON d.oid = setdatabase CROSS JOIN unnest(setconfig) line
  WHERE datname = :'name'
) s ORDER BY 1
SQL
  awk -v separator="$separator" 'FILENAME == ARGV[1] { kept[$0]; next } { split($0, field, separator) } !(field[1] in kept)' \
    "$parts/keys" "$facts" >"$BACKUP_RUN/extra"
}

add_statement() {
  added=$((added + 1))
  cat >"$parts/added$added.sql"
  printf '%s\n' "$2" >"$parts/added$added.name"
  echo "added$added" >>"$parts/$1"
}

settings_in_place() {
  read_settings
  extra_settings "$target" || {
    settings_failed "$target"
    return
  }
  gone='' stays='' added=0
  : >"$parts/usual"
  while IFS=$separator read -r _ dotted name value statement <&3; do
    if [ "$dotted" = t ]; then
      stays="$stays${stays:+, }$name"
    else
      gone="$gone${gone:+, }$name (was: $value)"
      add_statement usual "RESET of $name" <<SQL
$statement;
SQL
    fi
  done 3<"$BACKUP_RUN/extra"
  usual_rights
  {
    echo "BEGIN;"
    echo "$rights_of_database"
    for part in usual inside door; do statements_of "$part"; done
    printf '%s\n' '\echo after'
    echo "$rights_of_database"
    echo 'COMMIT;'
  } >"$BACKUP_RUN/settings.sql"
  ask "$maintenance" -v database="$target" <"$BACKUP_RUN/settings.sql" || {
    settings_failed "$target"
    return
  }
  grep '^[a-z0-9]* [0-9A-Z]\{5\} ' "$facts" >"$BACKUP_RUN/lost" || :
  warn_of_lost "$target"
  rights=$(awk '/^after$/ { after = 1 } !sub(/^right /, "") { next } after { kept[$0]; next } { had[$0] }
    END { for (right in had) if (!(right in kept)) print right }' "$facts" | sort >"$BACKUP_RUN/rights" && name_some "$BACKUP_RUN/rights")
  gone="$gone${rights:+${gone:+, }$rights}"
  [ -z "$gone" ] || report "the archive does not have these settings and rights of '$target', so they were removed: $gone"
  [ -z "$stays" ] || report "the archive does not have these settings of '$target', which stay: $stays"
}

rights_of_database="SELECT 'right ' || privilege_type || ' of ' ||
  CASE grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(grantee)) END
  FROM pg_database CROSS JOIN aclexplode(coalesce(datacl, acldefault('d', datdba))) WHERE datname = :'database';"

usual_rights() {
  add_statement usual "REVOKE of the rights that there were" <<'SQL'
SELECT DISTINCT format('REVOKE ALL ON DATABASE %I FROM %s CASCADE', datname,
  CASE grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(grantee)) END)
FROM pg_database CROSS JOIN aclexplode(datacl) WHERE datname = :'database' AND grantee <> datdba
\gexec
SQL
  add_statement usual "GRANT of the usual rights" <<'SQL'
SELECT format('GRANT %s ON DATABASE %I TO %s', right_of, datname, role) FROM pg_database,
  LATERAL (VALUES ('ALL', quote_ident(pg_get_userbyid(datdba))), ('CONNECT, TEMPORARY', 'PUBLIC')) r (right_of, role)
WHERE datname = :'database' AND datacl IS NOT NULL
\gexec
SQL
  add_statement usual "COMMENT ON DATABASE … IS NULL" <<'SQL'
COMMENT ON DATABASE :"database" IS NULL;
SQL
  add_statement usual "connection limit and template flag of a new database" <<'SQL'
SELECT format('ALTER DATABASE %I CONNECTION LIMIT -1 IS_TEMPLATE false', datname) FROM pg_database
WHERE datname = :'database' AND (datconnlimit <> -1 OR datistemplate)
\gexec
SQL
}

report_other_settings() {
  extra_settings "$old" || return 0
  awk -F "$separator" '{ print $3 }' "$BACKUP_RUN/extra" >"$BACKUP_RUN/rights"
  [ ! -s "$BACKUP_RUN/rights" ] ||
    report "the archive does not have these settings of the previous '$target', which keeps them: $(name_some "$BACKUP_RUN/rights")"
}
