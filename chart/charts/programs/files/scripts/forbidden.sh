#!/bin/sh
# Without comments: they are in the project's file of this name.
find_forbidden() {
  [ "$superuser" = f ] || return 0
  awk -v major="$major" "$forbidden_kinds" "$1" >>"$BACKUP_RUN/obstacles"
  awk '$4 ~ /^(ACL|FUNCTION|PROCEDURE|CAST|SERVER|PUBLICATION)$/ || ($4 == "DEFAULT" && $5 == "ACL") || ($4 == "FOREIGN" && $5 == "TABLE") ||
    $4 == "SUBSCRIPTION"' "$1" >"$list.read"
  [ -s "$list.read" ] || return 0
  sql_of_entries "$list.read" "the archive cannot be read"
  awk -v apostrophe="'" "$role_reader$forbidden_statements" "$BACKUP_RESULTS/roles.sql" | sort -u >"$BACKUP_RUN/needs"
  rm -f "$BACKUP_RESULTS/roles.sql"
  [ ! -s "$BACKUP_RUN/needs" ] || find_unmet_needs
}

forbidden_kinds='
  function object(kind,  text) {
    text = $0
    sub(/^[0-9]+; [0-9]+ [0-9]+ /, "", text)
    text = substr(text, length(kind) + 2)
    sub(/^- /, "", text)
    sub(/ [^ ]+ ?$/, "", text)
    return text
  }
  function forbid(kind, name) { print name " " object(kind) ": only a superuser can create it" }
  !/^[0-9]+; [0-9]+ [0-9]+ / { next }
  $4 == "EVENT" && $5 == "TRIGGER" { forbid("EVENT TRIGGER", "event trigger") }
  $4 == "FOREIGN" && $5 == "DATA" && $6 == "WRAPPER" { forbid("FOREIGN DATA WRAPPER", "foreign data wrapper") }
  $4 == "PROCEDURAL" && $5 == "LANGUAGE" { forbid("PROCEDURAL LANGUAGE", "language") }
  $4 == "ACCESS" && $5 == "METHOD" { forbid("ACCESS METHOD", "access method") }
  $4 == "OPERATOR" && $5 == "CLASS" { forbid("OPERATOR CLASS", "operator class") }
  $4 == "OPERATOR" && $5 == "FAMILY" { forbid("OPERATOR FAMILY", "operator family") }
  $4 == "TEXT" && $6 == "PARSER" { forbid("TEXT SEARCH PARSER", "text search parser") }
  $4 == "TEXT" && $6 == "TEMPLATE" { forbid("TEXT SEARCH TEMPLATE", "text search template") }
  $4 == "SHELL" && $5 == "TYPE" { forbid("SHELL TYPE", "type") }
  $4 == "SUBSCRIPTION" && major < 16 { forbid("SUBSCRIPTION", "subscription") }
  $4 == "PUBLICATION" && $5 == "TABLES" { print "publication of schema " $8 ": only a superuser can create it" }
'

forbidden_statements='
  function found(kind, name) { printf "%s\037%s\n", kind, name }
  /^-- Name: .*; Type: [A-Z ]+; Schema: / {
    name = $0
    sub(/^-- Name: /, "", name)
    sub(/; Type: [A-Z ]+; Schema: .*/, "", name)
    type = $0
    sub(/.*; Type: /, "", type)
    sub(/;.*/, "", type)
    reading = 1
    next
  }
  !reading { next }
  type == "ACL" && /^SET SESSION AUTHORIZATION [^D]/ { found("grantor", role(substr($0, 27))) }
  type == "DEFAULT ACL" && /^ALTER DEFAULT PRIVILEGES FOR ROLE / { found("defaults", role(substr($0, 35))) }
  type == "FUNCTION" || type == "PROCEDURE" {
    if (/^    LANGUAGE /) {
      if (/^    LANGUAGE (c|internal)( |$)/) found("function", name)
      else if (/ LEAKPROOF( |$)/) found("leakproof", name)
    } else if (/^    SET [a-z_."]+ TO /) { gsub(/"/, "", $2); found("parameter", $2) }
    else if (/^    AS |^BEGIN ATOMIC|^RETURN /) reading = 0
    next
  }
  type == "CAST" && /^CREATE CAST \(.*\) WITHOUT FUNCTION/ { found("cast", name) }
  type == "CAST" && /^CREATE CAST \([^.]*\) WITH / && name !~ /\./ { found("cast", name) }
  type == "SERVER" && /^CREATE SERVER .* FOREIGN DATA WRAPPER / { sub(/.* FOREIGN DATA WRAPPER /, ""); found("wrapper", role($0)) }
  type == "SERVER" && /^CREATE SERVER / { sub(/^CREATE SERVER /, ""); found("made", role($0)) }
  type == "FOREIGN TABLE" && /^SERVER / { found("server", role(substr($0, 8))) }
  type == "PUBLICATION" && /^CREATE PUBLICATION .* FOR ALL TABLES/ { found("publication", name) }
  type == "SUBSCRIPTION" && /^CREATE SUBSCRIPTION / { found("subscription", name) }
'

find_unmet_needs() {
  in=$maintenance
  [ "$way" = beside ] || in=$target
  ask "$in" <<SQL || fail_with_stderr "the rights of '$PGUSER' cannot be read"
$(unmet_needs "$BACKUP_RUN/needs")
SQL
  cat "$facts" >>"$BACKUP_RUN/obstacles"
}

unmet_needs() {
  cat <<SQL
WITH need (kind, name) AS (SELECT split_part(line, chr(31), 1), split_part(line, chr(31), 2) FROM (VALUES $(values_of "$1")) w (line))
SELECT CASE kind
  WHEN 'grantor' THEN format('rights that role %I has granted: only a superuser can grant them in its name', name)
  WHEN 'defaults' THEN format('default privileges of role %I, of which %I is not a member', name, current_user)
  WHEN 'function' THEN format('function %s: only a superuser can create one in C', name)
  WHEN 'leakproof' THEN format('function %s: only a superuser can create one that is LEAKPROOF', name)
  WHEN 'parameter' THEN format('a function that sets %s: only a superuser may set that', name)
  WHEN 'cast' THEN format('cast %s: only a superuser can create it', substr(name, 6))
  WHEN 'publication' THEN format('publication %s of all tables: only a superuser can create it', name)
  WHEN 'subscription' THEN format('subscription %s: only a superuser, or a member of pg_create_subscription, can create it', name)
  WHEN 'wrapper' THEN format('foreign data wrapper %s, which %I may not use', name, current_user)
  WHEN 'server' THEN format('foreign server %s, which %I may not use', name, current_user)
  END
FROM need WHERE CASE kind
  WHEN 'made' THEN false
  WHEN 'grantor' THEN name <> current_user
  WHEN 'defaults' THEN NOT EXISTS (SELECT FROM pg_roles WHERE rolname = name AND pg_has_role(oid, 'USAGE'))
  WHEN 'parameter' THEN EXISTS (SELECT FROM pg_settings s WHERE s.name = need.name AND context IN ('superuser', 'superuser-backend'))
  WHEN 'subscription' THEN NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'pg_create_subscription' AND pg_has_role(oid, 'USAGE'))
  WHEN 'wrapper' THEN NOT EXISTS (SELECT FROM pg_foreign_data_wrapper w WHERE fdwname = name AND has_foreign_data_wrapper_privilege(w.oid, 'USAGE'))
  WHEN 'server' THEN name NOT IN (SELECT n.name FROM need n WHERE n.kind = 'made')
    AND NOT EXISTS (SELECT FROM pg_foreign_server s WHERE srvname = name AND has_server_privilege(s.oid, 'USAGE'))
  ELSE true END
ORDER BY 1
SQL
}

find_forbidden_rights() {
  [ "$superuser" = f ] || return 0
  : >"$BACKUP_RUN/none"
  awk -v superuser=f -v alone="$BACKUP_RUN/none" -v rows="$BACKUP_RUN/none" -v separator="$separator" \
    -v left="$list.left" -v deletes="$BACKUP_RUN/none" "$entry_chooser" "$list" "$list" >/dev/null
  sed -n 's/^rights on .*/&: only a superuser can grant them/p' "$list.left" >>"$BACKUP_RUN/obstacles"
}

and_others() { [ "$1" = 1 ] || echo " (and $(($1 - 1)) more)"; }

stop_at_obstacles() {
  obstacles=$(awk 'END { print NR }' "$BACKUP_RUN/obstacles")
  [ "$obstacles" != 0 ] || return 0
  head -n 50 "$BACKUP_RUN/obstacles" >"$BACKUP_RUN/obstacles.shown"
  while IFS= read -r obstacle <&3; do
    report "in the way: $obstacle"
  done 3<"$BACKUP_RUN/obstacles.shown"
  first="$(head -n 1 "$BACKUP_RUN/obstacles")$(and_others "$obstacles")"
  superuser_cure="let the restore use the superuser's Secret (spec.enableSuperuserAccess of the cluster)"
  [ "$1" != 0 ] || fail "'$PGUSER' cannot restore what is in the archive: $first" "$superuser_cure"
  [ "$1" = "$obstacles" ] || fail "'$PGUSER' cannot set aside what is in '$target': $first" "$superuser_cure"
  fail "'$PGUSER' cannot set aside what is in '$target': $first" \
    "as superuser, give these objects to '$PGUSER' (ALTER … OWNER TO) or drop them; or $superuser_cure"
}
