#!/bin/sh
# Without comments: they are in the project's file of this name.
. "${0%/*}/locks.sh"
. "${0%/*}/forbidden.sh"

put_outlook() {
  method=unknown role_to_restore='' obstacles='' obstacle_count=0 remedies='' createdb_entry='' locks_needed=''
  own_stderr=$stderr stderr=/dev/null
  [ $((deadline - $(seconds))) -le 60 ] || { ask_outlook && read_outlook "${1-}"; } || method=unknown
  stderr=$own_stderr
  put restore_method "$method" && put restore_role "$role_to_restore"
  put restore_createdb "$createdb_entry" && put restore_max_locks "$locks_needed"
  put_lines restore_obstacle "$obstacles"
  put_lines restore_remedy "$remedies"
  describe_outlook
}

put_lines() {
  number=0
  while IFS= read -r line; do
    number=$((number + 1))
    [ -z "$line" ] || put "$1_$number" "$line"
  done <<LINES
$2
LINES
}

ask_outlook() {
  {
    printf '%s\n' "$preamble" "SET statement_timeout = '5s'; SET client_encoding = 'UTF8';"
    cat <<SQL
SELECT CASE WHEN :'same' = 'true' THEN current_user ELSE pg_get_userbyid(datdba) END AS role
FROM pg_database WHERE datname = current_database()
\\gset
SELECT CASE WHEN beside THEN 'beside' ELSE 'in-place' END AS method, rolsuper AS superuser, owns AND NOT rolcreatedb AS lacks_createdb,
  NOT beside AS in_place, $managed_role AS entry
FROM (SELECT *, rolsuper OR (rolcreatedb AND owns AND NOT bound) AS beside FROM pg_roles,
    (SELECT pg_has_role(:'role', datdba, 'MEMBER') AS owns FROM pg_database WHERE datname = current_database()) d,
    -- An extension that only a superuser can create keeps an owner's restore in place.
    (SELECT count(*) > 0 AS bound FROM pg_extension e JOIN pg_available_extensions a ON a.name = e.extname
      JOIN pg_available_extension_versions v ON v.name = a.name AND v.version = a.default_version
      WHERE e.oid >= 16384 AND v.superuser AND NOT v.trusted) x) r
WHERE rolname = :'role'
\\gset
SELECT 'restore', :'role', :'method', :'superuser', :'lacks_createdb', :'entry', $lock_settings;
SELECT 'extension', e.extname, a.name IS NULL FROM pg_extension e
  LEFT JOIN pg_available_extensions a ON a.name = e.extname
  LEFT JOIN pg_available_extension_versions v ON v.name = a.name AND v.version = a.default_version
WHERE e.oid >= 16384 AND (a.name IS NULL OR NOT (:'superuser' = 't' OR v.trusted OR NOT v.superuser));
\\if :in_place
SELECT 'refused', 'the database uses TimescaleDB, whose hypertables can only be restored beside'
FROM pg_extension WHERE extname = 'timescaledb';
WITH plan AS MATERIALIZED ($(of_restoring_role "${0%/*}/set-aside.sql")),
obstacles AS (SELECT DISTINCT regexp_replace(obstacle, '[[:cntrl:]]', ' ', 'g') AS obstacle FROM plan WHERE obstacle <> '')
SELECT 'moved', ($moved_locks)::text, (SELECT count(*) FROM obstacles)::text
UNION ALL (SELECT 'obstacle', obstacle, '' FROM obstacles ORDER BY 2 LIMIT 10);
\\endif
SQL
  } >"$facts.outlook"
  run timeout -k 1 15 psql -XAtqw -v ON_ERROR_STOP=1 -F "$separator" -v same="${conf_dumps_as_owner:-false}" \
    -v moment=00000000_000000 -f "$facts.outlook" >"$facts"
}

of_restoring_role() {
  sed "s/pg_has_role(/&:'role', /g; s/has_[a-z_]*_privilege(/&:'role', /g; s/current_setting('is_superuser') = 'on'/:'superuser' = 't'/g
    s/current_user/:'role'/g" "$@"
}

managed_role="jsonb_strip_nulls(jsonb_build_object('name', rolname, 'login', true, 'createdb', true,
    'createrole', nullif(rolcreaterole, false), 'replication', nullif(rolreplication, false),
    'bypassrls', nullif(rolbypassrls, false), 'inherit', nullif(rolinherit, true), 'connectionLimit', nullif(rolconnlimit, -1),
    'validUntil', CASE WHEN isfinite(rolvaliduntil) THEN to_char(rolvaliduntil AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"') END,
    'comment', shobj_description(r.oid, 'pg_authid'),
    'inRoles', (SELECT jsonb_agg(DISTINCT pg_get_userbyid(roleid)) FROM pg_auth_members WHERE member = r.oid)))"

read_outlook() {
  untrusted='' absent='' of_others='' superuser='' lacks_createdb='' locks_to_move=0 not_movable=0 locks_to_drop=0
  while IFS=$separator read -r kind one two three four five six seven eight; do
    case $kind in
      restore)
        role_to_restore=$one method=$two superuser=$three lacks_createdb=$four createdb_entry=$five lock_setting=$six lock_slots=$seven locks_held=$eight
        ;;
      extension) read_extension ;;
      refused) add_obstacle "$one" ;;
      moved) locks_to_move=$one not_movable=$two ;;
      obstacle)
        case $one in *" belongs to role "*) of_others=yes ;; esac
        obstacles=$obstacles$one$line_end
        ;;
    esac
  done <"$facts"
  case $method in beside | in-place) ;; *) return 1 ;; esac
  for number in "$lock_setting" "$lock_slots" "$locks_held" "$locks_to_move" "$not_movable"; do is_number "$number" || return; done
  obstacle_count=$((obstacle_count + not_movable))
  while IFS= read -r line; do
    [ -z "$line" ] || add_obstacle "view $line refers to itself"
  done <<LINES
$own_views
LINES
  contents=${listing:-$BACKUP_RESULTS/.$database.list}
  [ -z "$1" ] || find_forbidden_in "$1"
  [ "$method" != in-place ] || [ -z "$1" ] || count_locks "$1"
  find_remedies
  [ "$obstacle_count" = 0 ] || method=none
  hidden=$((obstacle_count - $(printf %s "$obstacles" | wc -l)))
  [ "$hidden" -le 0 ] || obstacles="$obstacles(and $hidden more)$line_end"
}

read_extension() {
  if [ "$two" = t ]; then
    absent=yes
    [ "$method" = in-place ] || add_obstacle "extension '$one' is in the database but not on the server"
  else
    untrusted=yes
  fi
}

add_obstacle() {
  obstacle_count=$((obstacle_count + 1))
  [ "$obstacle_count" -gt 10 ] || obstacles=$obstacles$1$line_end
}

find_forbidden_in() {
  [ "$superuser" = f ] || return 0
  pg_restore -l "$1" 2>/dev/null | awk -v method="$method" -v role="$role_to_restore" '
    !/^[0-9]+; [0-9]+ [0-9]+ / { next }
    { own = substr($0, length($0) - length(role)) == " " role }
    method == "in-place" && (($4 $5 ~ /^(EVENTTRIGGER|ACCESSMETHOD)$/) || ($4 $5 $6 == "FOREIGNDATAWRAPPER")) { next }
    method == "in-place" && !own && ($4 ~ /^(SERVER|PUBLICATION|SUBSCRIPTION)$/ || ($4 $5 == "DEFAULTACL")) { next }
    method == "in-place" && (($4 == "CAST" && !/[.]/) || ($4 $5 == "ACLpg_catalog")) { next }
    $4 ~ /^(ACL|FUNCTION|PROCEDURE|CAST|SERVER|PUBLICATION|SUBSCRIPTION|EVENT|DEFAULT|FOREIGN|PROCEDURAL|ACCESS|OPERATOR|TEXT|SHELL)$/' >"$contents"
  major=$((server_num / 10000))
  awk -v major="$major" "$forbidden_kinds"'
    $4 == "ACL" && $5 == "pg_catalog" {
      sub(/^[0-9]+; [0-9]+ [0-9]+ ACL /, "rights on ")
      print $0 ": only a superuser can grant them"
    }' "$contents" >"$facts.forbidden"
  if [ -s "$contents" ]; then
    pg_restore -L "$contents" -f - "$1" 2>/dev/null | awk -v apostrophe="'" "$role_reader$forbidden_statements" | sort -u >"$facts.needs"
    [ ! -s "$facts.needs" ] || { ask_needs && cat "$facts" >>"$facts.forbidden"; } || :
  fi
  rm -f "$contents"
  while IFS= read -r line <&3; do
    createdb_entry=''
    add_obstacle "$(printf %s "$line" | tr '[:cntrl:]' ' ')"
  done 3<"$facts.forbidden"
  rm -f "$facts.needs" "$facts.forbidden"
}

ask_needs() {
  {
    printf '%s\n' "$preamble" "SET statement_timeout = '5s'; SET client_encoding = 'UTF8';"
    unmet_needs "$facts.needs" | of_restoring_role
  } >"$facts.outlook"
  run timeout -k 1 15 psql -XAtqw -v ON_ERROR_STOP=1 -v role="$role_to_restore" -v superuser=f -f "$facts.outlook" >"$facts"
}

count_locks() {
  estimate_locks "$1" "$contents" 2>/dev/null && is_number "$locks_to_make" || return 0
  add_up_locks
  [ "$lock_need" -gt "$lock_room" ] || return 0
  locks_needed=$more_locks
  add_obstacle "one transaction needs about $lock_need locks, the server has room for about $lock_room"
}

find_remedies() {
  [ "$lacks_createdb" = t ] && [ -z "$untrusted$absent" ] || createdb_entry=''
  if [ -n "$own_views" ]; then
    add_remedy "$own_views_cure"
  elif [ -n "$absent" ]; then
    add_remedy "use an image for the cluster that has the extension"
    [ "$method" != beside ] || add_remedy "RESTORE_WAY=in-place, which creates no extension that is there"
  elif [ "$method$obstacle_count" != beside0 ]; then
    add_remedy "spec: {enableSuperuserAccess: true} in the Cluster"
    [ -z "$createdb_entry" ] || add_remedy "spec: {managed: {roles: [$createdb_entry]}} in the Cluster"
    [ -z "$of_others" ] || add_remedy "as superuser, give these objects to '$role_to_restore' (ALTER … OWNER TO), or drop them"
    [ -z "$locks_needed" ] ||
      add_remedy "spec: {postgresql: {parameters: {max_locks_per_transaction: \"$locks_needed\"}}} in the Cluster"
  fi
}

add_remedy() { remedies=$remedies$1$line_end; }

describe_outlook() {
  reasons=$(join '; ' "$obstacles") ways_out=$(join '; or ' "$remedies")
  case $method in
    beside) outlook="a restore as '$role_to_restore' would be beside" ;;
    in-place) outlook="a restore as '$role_to_restore' would be in place; for beside: $ways_out" ;;
    none) outlook="a restore as '$role_to_restore' would be refused: $reasons; $ways_out" ;;
    *) outlook="which method a restore would use could not be found out" ;;
  esac
}

join() { printf %s "$2" | awk -v separator="$1" '{ printf "%s%s", (NR > 1 ? separator : ""), $0 }'; }
