#!/bin/sh
# Without comments: they are in the project's file of this name.
set_aside_plan() { printf '(%s) plan' "$(cat "${0%/*}/set-aside.sql")"; }

check_obstacles() {
  : >"$BACKUP_RUN/obstacles"
  if [ "$way" = beside ]; then
    find_forbidden "$list"
    find_forbidden_rights
    stop_at_obstacles 0
    return
  fi
  choose_entries
  check_timescaledb
  check_extensions_in_place
  find_set_aside
  in_database=$(awk 'END { print NR }' "$BACKUP_RUN/obstacles")
  find_forbidden "$list.use"
  stop_at_obstacles "$in_database"
  check_locks
}

check_timescaledb() {
  ! grep -qx timescaledb "$BACKUP_RUN/extensions" ||
    fail "the archive uses TimescaleDB, whose hypertables can only be restored beside" \
      "set spec.enableSuperuserAccess of the cluster, so that the restore uses the superuser's Secret"
}

find_set_aside() {
  ask "$target" -v moment="$moment" -v keep="$keep" <<SQL || fail_with_stderr "database '$target' cannot be read"
WITH plan AS MATERIALIZED (SELECT * FROM $(set_aside_plan)),
obstacles AS (SELECT DISTINCT regexp_replace(obstacle, '[[:cntrl:]]', ' ', 'g') AS line FROM plan WHERE obstacle <> '')
SELECT line FROM (
  SELECT 1 AS part, concat_ws(chr(31), $locks_there) AS line
  UNION ALL SELECT 2, line FROM obstacles) l ORDER BY part, line
SQL
  sed -n 1p "$facts" >"$BACKUP_RUN/locks"
  sed 1d "$facts" >>"$BACKUP_RUN/obstacles"
}

choose_entries() {
  left_alone
  awk -v superuser="$superuser" -v alone="$BACKUP_RUN/alone" -v rows="$BACKUP_RUN/extension-rows" -v separator="$separator" \
    -v left="$list.left" -v deletes="$list.deletes" "$entry_chooser" "$list" "$list" >"$list.use"
  awk '$4 == "SCHEMA"' "$list.use" >"$list.schemas"
  awk '$4 == "BLOB"' "$list.use" >"$list.object_heads"
  awk '$4 == "BLOB" || $4 == "BLOBS"' "$list.use" >"$list.objects"
  awk '$4 != "SCHEMA" && $4 != "BLOB" && $4 != "BLOBS"' "$list.use" >"$list.most"
  [ ! -s "$list.left" ] ||
    report "warning: stays as it is, since '$PGUSER' may not change it: $(name_some "$list.left")"
}

left_alone() {
  ask "$target" -v superuser="$superuser" -v alone="$BACKUP_RUN/alone" -v rows="$BACKUP_RUN/extension-rows" <<SQL || fail_with_stderr "the objects of '$target' cannot be read"
\\o :alone
SELECT 'SERVER - ' || srvname || ' ', '' FROM pg_foreign_server WHERE NOT pg_has_role(srvowner, 'USAGE')
UNION ALL SELECT unnest(ARRAY['ACL - FOREIGN ', 'COMMENT - ', 'USER MAPPING - ']), ' SERVER ' || srvname || ' '
  FROM pg_foreign_server WHERE NOT pg_has_role(srvowner, 'USAGE')
UNION ALL SELECT unnest(ARRAY['', 'COMMENT - ']) || 'PUBLICATION - ' || pubname || ' ', ''
  FROM pg_publication WHERE puballtables AND NOT pg_has_role(pubowner, 'USAGE')
UNION ALL SELECT 'SUBSCRIPTION - ' || subname || ' ', '' FROM pg_subscription WHERE NOT pg_has_role(subowner, 'USAGE')
UNION ALL SELECT 'FOREIGN DATA WRAPPER - ' || fdwname || ' ', '' FROM pg_foreign_data_wrapper
UNION ALL SELECT 'ACCESS METHOD - ' || amname || ' ', '' FROM pg_am
UNION ALL SELECT 'CAST - CAST (' || format_type(castsource, NULL) || ' AS ' || format_type(casttarget, NULL) || ') ', ''
  FROM pg_cast WHERE current_setting('is_superuser') = 'off' AND NOT EXISTS (SELECT FROM pg_type t
    JOIN pg_namespace n ON n.oid = typnamespace WHERE t.oid IN (castsource, casttarget)
      AND nspname NOT IN ('pg_catalog', 'information_schema') AND NOT EXISTS (SELECT FROM pg_depend d
        WHERE d.classid = 'pg_type'::regclass AND d.objid = t.oid AND d.deptype = 'e'))
UNION ALL SELECT unnest(ARRAY['ACL', 'COMMENT']) || ' - SCHEMA ' || nspname || ' ', ''
  FROM pg_namespace WHERE NOT pg_has_role(nspowner, 'USAGE')
UNION ALL SELECT unnest(ARRAY['EVENT TRIGGER - ', 'COMMENT - EVENT TRIGGER ']) || evtname || ' ', ''
  FROM pg_event_trigger WHERE current_setting('is_superuser') = 'off'
UNION ALL SELECT unnest(ARRAY['COMMENT - EXTENSION ', 'ACL pg_catalog ']), ''
  WHERE current_setting('is_superuser') = 'off'
UNION ALL SELECT 'DEFAULT ACL ', ' ' || rolname || ' ' FROM pg_roles WHERE NOT pg_has_role(oid, 'USAGE');
\\o :rows
$(extension_rows);
\\o
SQL
}

entry_chooser='
  function begins(beginning) { return index(rest, beginning) == 1 }
  function leave(what) {
    if (what ~ /EXTENSION/) return
    sub(/^ACL (- )?/, "rights on ", what)
    sub(/ - /, " ", what)
    sub(/ $/, "", what)
    print what >left
  }
  function defined(kind,  at) {
    at = index(rest, " " kind " ")
    return at && (without_arguments(substr(rest, 5, at - 4) substr(rest, at + length(kind) + 2)) in own)
  }
  function without_arguments(name) {
    sub(/\(.*/, "", name)
    return name
  }
  BEGIN {
    printf "" >left
    while ((getline line <alone) > 0) {
      split(line, field, separator)
      gsub(/"/, "", line)
      split(line, field, separator)
      beginning[++alones] = field[1]
      part[alones] = field[2]
    }
    while ((getline line <rows) > 0) {
      split(line, field, separator)
      if (field[1] == "") created = field[2]
      else may[field[1]] = field[2]
      oid[field[1]] = field[3]
    }
  }
  !match($0, /^[0-9]+; [0-9]+ [0-9]+ /) { next }
  { rest = substr($0, RLENGTH + 1) " "; gsub(/"/, "", rest) }
  FNR == NR {
    if (match(rest, /^((MATERIALIZED )?VIEW|(FOREIGN )?TABLE|SEQUENCE|FUNCTION|PROCEDURE|AGGREGATE|(SHELL )?TYPE|DOMAIN) /))
      own[without_arguments(substr(rest, RLENGTH + 1))]
    next
  }
  $4 == "DATABASE" { next }
  {
    for (n = 1; n <= alones; n++)
      if (begins(beginning[n]) && (part[n] == "" || index(rest, part[n]))) { leave(rest); next }
  }
  superuser != "t" && /^[0-9]+; [0-9]+ [0-9]+ ACL [^-]/ && !/ COLUMN / &&
    !defined("TABLE") && !defined("SEQUENCE") && !defined("FUNCTION") && !defined("PROCEDURE") && !defined("TYPE") &&
    !defined("DOMAIN") { leave(rest); next }
  superuser != "t" && /^[0-9]+; [0-9]+ [0-9]+ ACL - (LANGUAGE|FOREIGN DATA WRAPPER) / { leave(rest); next }
  begins("TABLE DATA ") || begins("SEQUENCE SET ") {
    known = ""
    for (name in may) if (begins(name)) known = name
    if (known == "" && (created == "t" || without_arguments(substr(rest, begins("TABLE") ? 12 : 14)) in own)) { print; next }
    if (known == "") { leave("rows of " substr(rest, begins("TABLE") ? 12 : 14) "(no extension keeps rows there now) "); next }
    if (may[known] != "t") { leave("rows of " substr(rest, begins("TABLE") ? 12 : 14)); next }
    if (oid[known] != "") first = oid[known] (first == "" ? "" : "," first)
  }
  { print }
  END { printf "%s", first >deletes }
'

feed() {
  as=archive
  case $keep_owners$superuser in f) as=owner ;; t) as=nobody ;; esac
  printf '%s\n' "$preamble" 'BEGIN;' "SELECT txid_current() \\g $BACKUP_RUN/transaction"
  make_room
  with_owners "$as" write_statements -L "$list.schemas" >"$list.sql" || return 1
  sed 's/^CREATE SCHEMA /CREATE SCHEMA IF NOT EXISTS /' "$list.sql"
  [ ! -s "$list.moves" ] || cat "$list.moves"
  feed_large_objects || return 1
  feed_carefully "$list.most" || return 1
  echo 'RESET ROLE; SET search_path = pg_catalog, pg_temp;'
  compare_before_commit
  [ "$keep" = yes ] || drop_set_aside
  echo 'COMMIT;'
}

feed_part() {
  echo 'RESET ROLE;'
  with_owners "$1" write_statements -L "$2"
}

write_statements() { pg_restore -f - "$@" "$archive" 2>"$BACKUP_RUN/feed.err"; }

make_room() {
  cat <<SQL
SELECT statement FROM $(set_aside_plan) ORDER BY step, object
\\gexec
SQL
  cat "${0%/*}/fresh-schemas.sql"
  [ ! -s "$list.object_heads" ] || cat "$list.unlinks"
  [ ! -s "$list.deletes" ] || empty_extension_tables
}

write_unlinks() {
  [ -s "$list.object_heads" ] || return 0
  run pg_restore --clean --if-exists -L "$list.object_heads" -f "$list.sql" "$archive" ||
    fail_with_stderr "the archive's large objects cannot be read"
  awk '/^SELECT pg_catalog.lo_unlink\(/ && match($0, /\047[0-9]+\047/) {
      printf "%s%s", (n++ ? "," : "SELECT count(lo_unlink(oid)) FROM pg_largeobject_metadata WHERE oid = ANY (\047{"),
        substr($0, RSTART + 1, RLENGTH - 2)
    }
    END { if (n) print "}\047);" }' "$list.sql" >"$list.unlinks"
}

feed_large_objects() {
  [ -s "$list.objects" ] || return 0
  rm -f "$BACKUP_RUN/feed.failed"
  { with_owners "$as" write_statements -L "$list.objects" || : >"$BACKUP_RUN/feed.failed"; } |
    awk '$0 != "BEGIN;" && $0 != "COMMIT;"' || : >"$BACKUP_RUN/feed.failed"
  [ ! -e "$BACKUP_RUN/feed.failed" ]
}

compare_before_commit() {
  cat <<SQL
DO \$\$ DECLARE
  found bigint := 0; counted bigint; ours regclass[];
BEGIN
  SELECT array_agg(c.oid) INTO ours $own_relations $restored_alone AND relkind = 'r';
  $(rows_are_known || echo 'RETURN;')
  IF EXISTS (SELECT FROM unnest(ours) t WHERE row_security_active(t)) THEN
    RAISE WARNING 'row security hides rows';
    RETURN;
  END IF;
  FOR i IN 1 .. coalesce(cardinality(ours), 0) LOOP
    EXECUTE format('SELECT count(*) FROM ONLY %s', ours[i]) INTO counted;
    found := found + counted;
  END LOOP;
  IF found <> ${req_rows:-0} THEN
    RAISE 'it has % rows, the archive held ${req_rows:-0} when it was made', found;
  END IF;
END \$\$;
SQL
}

drops="(
  SELECT 1 AS step, format('DROP EVENT TRIGGER %I', evtname) AS statement FROM pg_event_trigger WHERE evtname ~ ('_before_' || :'moment' || '\$')
  UNION ALL
  SELECT 2, format('DROP PUBLICATION %I', pubname) FROM pg_publication WHERE pubname ~ ('_before_' || :'moment' || '\$')
  UNION ALL
  SELECT 3, format('ALTER SUBSCRIPTION %1\$I SET (slot_name = NONE); DROP SUBSCRIPTION %1\$I', subname)
  FROM pg_subscription WHERE subname ~ ('_before_' || :'moment' || '\$')
  UNION ALL
  SELECT 4, format('DROP SCHEMA %s CASCADE', string_agg(quote_ident(nspname), ', ' ORDER BY nspname))
  FROM pg_namespace WHERE nspname ~ ('_before_' || :'moment' || '\$') HAVING count(*) > 0
  UNION ALL
  SELECT 5, format('DROP SERVER %I CASCADE', srvname) FROM pg_foreign_server WHERE srvname ~ ('_before_' || :'moment' || '\$')
) drops"

drop_set_aside() {
  echo "SELECT statement FROM $drops ORDER BY step"
  echo '\gexec'
}

committed() {
  [ "$status" != 3 ] && [ -s "$BACKUP_RUN/transaction" ] || return 1
  cp "$stderr" "$stderr.lost"
  target_state="it is not known whether '$target' is restored or as it was: look at its content"
  PGDATABASE=$maintenance
  last=$(($(seconds) + conf_wait_timeout)) outcome='in progress'
  while [ "$outcome" = 'in progress' ] && [ "$(seconds)" -le "$last" ]; do
    wait_for_server
    ask "$target" -v id="$(awk '/^ *[0-9]+ *$/ { print $1 }' "$BACKUP_RUN/transaction")" <<'SQL' || fail_with_stderr "the restore's transaction cannot be looked up"
SELECT txid_status(:'id'::bigint)
SQL
    IFS= read -r outcome <"$facts" || outcome=
    [ "$outcome" != 'in progress' ] || run sleep 1
  done
  mv "$stderr.lost" "$stderr"
  case $outcome in
    committed) log "$database" "the connection was lost, but not before the transaction was committed" ;;
    aborted) target_state='' && return 1 ;;
    *) return 1 ;;
  esac
}

run_in_place() {
  [ -z "$feeder" ] || { kill "$feeder" 2>/dev/null && wait "$feeder" 2>/dev/null || :; }
  stop_watching
  watch_progress &
  watcher=$!
  make_pipe "$BACKUP_RUN/statements" || return
  feed >&5 5>&- 6<&- &
  feeder=$! code=0
  exec 5>&-
  run from_pipe psql -Xqw -v ON_ERROR_STOP=1 -v moment="$moment" -v public="$public" -v owner="$owner" -v path="$path" \
    -f - >/dev/null || code=$?
  exec 6<&-
  return "$code"
}

archive_broke() {
  [ ! -s "$BACKUP_RUN/feed.err" ] || grep -q 'could not write' "$BACKUP_RUN/feed.err" || unreadable "$(pg_restore_said)"
  return 1
}

feed_failed() {
  [ ! -s "$BACKUP_RUN/feed.err" ] || unreadable "$(pg_restore_said)"
  case $1 in
    137) fail "what reads the archive was killed (SIGKILL)" "if the container was out of memory, raise its limit; then restore again" ;;
    *) fail "what reads the archive ended with exit code $1 and printed nothing" "restore again" ;;
  esac
}

pg_restore_said() { sed 's/^pg_restore: //; s/^error: //; q' "$BACKUP_RUN/feed.err"; }

restore_in_place() {
  restored_alone="AND n.nspname !~ '_before_$moment\$'"
  split_entries "$list.most"
  write_unlinks
  public=usual
  [ "$superuser$keep_owners" = t ] || ! grep -q ' SCHEMA - public ' "$list.schemas" || public=own
  end_sessions_now
  PGDATABASE=$target
  run_in_place || archive_broke || { begin_again && { run_in_place || archive_broke; }; } || committed || fail_with_stderr "psql failed"
  wait "$feeder" || feed_failed $?
  stop_watching
  ! grep -q 'row security hides rows' "$stderr" || warn_of_hidden_rows
  late_checks
  report_late_checks
  target_state="'$target' is restored; only a later step failed"
  compare "$target"
  if [ "$found_tables" != "$tables" ] || [ "$found_sequences" != "$sequences" ]; then
    report "warning: '$target' has $found_tables tables and $found_sequences sequences, the archive has $tables and $sequences"
  fi
  analyze "$target"
}

report_set_aside() {
  [ "$way" = in-place ] && [ "$keep" = yes ] || return 0
  ask "$target" -v moment="$moment" <<SQL || return 0
SELECT string_agg(statement, '; ' ORDER BY step) FROM $drops
SQL
  IFS= read -r aside <"$facts" || return 0
  [ -n "$aside" ] || return 0
  report "what was in '$target' before is kept in schemas of its own, and in later backups; when you no longer need it: $aside"
}
