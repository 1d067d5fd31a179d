#!/bin/sh
# Without comments: they are in the project's file of this name.
lock_settings="current_setting('max_locks_per_transaction'),
  current_setting('max_connections')::bigint + current_setting('max_prepared_transactions')::bigint
    + coalesce(current_setting('autovacuum_worker_slots', true), current_setting('autovacuum_max_workers'))::bigint
    + current_setting('max_worker_processes')::bigint + current_setting('max_wal_senders')::bigint,
  (SELECT count(*) FROM pg_locks WHERE NOT fastpath AND pid <> pg_backend_pid())"

moved_locks="(SELECT count(*) FROM plan WHERE step BETWEEN 10 AND 20 AND NOT starts_with(statement, 'ALTER TYPE '))
  + (SELECT count(*) FROM plan JOIN pg_depend d ON d.refclassid = 'pg_class'::regclass AND d.refobjid = plan.object
      JOIN pg_class c ON d.classid = 'pg_class'::regclass AND c.oid = d.objid
    WHERE plan.step = 20 AND d.deptype IN ('a', 'i') AND c.relkind = 'S')"

locks_there="$lock_settings, CASE :'keep' WHEN 'yes' THEN $moved_locks ELSE 0 END,
  (SELECT count(*) FROM (SELECT classid, objid FROM pg_depend WHERE :'keep' = 'no' AND objid >= 16384
    EXCEPT SELECT classid, objid FROM pg_depend WHERE deptype = 'e') dropped)"

check_locks() {
  IFS=$separator read -r lock_setting lock_slots locks_held locks_to_move locks_to_drop <"$BACKUP_RUN/locks"
  estimate_locks "$archive" "$list.defined" || unreadable "its table of contents"
  add_up_locks
  log "$database" "it needs about $lock_need locks at once, the server has room for about $lock_room"
  [ "$lock_need" -le "$lock_room" ] ||
    fail "a restore of this archive in one transaction needs about $lock_need locks, the server has room for about $lock_room" \
      "raise max_locks_per_transaction of the cluster from $lock_setting to $more_locks or more, or restore beside: give '$PGUSER' CREATEDB, or set spec.enableSuperuserAccess"
}

add_up_locks() {
  lock_need=$((100 + locks_held + locks_to_move + locks_to_drop + locks_to_make))
  lock_room=$((lock_setting * lock_slots * 3 / 2))
  more_locks=$((lock_need * 2 / 3 / lock_slots + 1))
}

estimate_locks() {
  case $2 in *.partial) every_entry=${2%.partial}.all.partial ;; *) every_entry=$2.all ;; esac
  pg_restore -l "$1" >"$every_entry" || {
    rm -f "$every_entry"
    return 1
  }
  awk '($4 == "TABLE" && $5 != "DATA" && $5 != "ATTACH") || $4 == "BLOB"' "$every_entry" >"$2"
  defined=$(pg_restore -L "$2" -f - "$1" | awk "$definitions_counter")
  locks_to_make=$(awk -v owners="${keep_owners-}" -v n="$defined" -v newer="$((server_num >= 180000))" '
    !/^[0-9]+; / { next }
    $4 == "TABLE" && $5 != "DATA" && $5 != "ATTACH" { n += 3 + newer }
    $4 == "MATERIALIZED" && $6 != "DATA" { n += 8 + newer }
    $4 == "EXTENSION" { n += 15 }
    $4 == "INDEX" && $5 == "ATTACH" { next }
    $4 == "SEQUENCE" && ($5 == "SET" || $5 == "OWNED") { next }
    $4 ~ /^(VIEW|CONSTRAINT|FK|TYPE|DOMAIN)$/ { n += newer }
    $4 ~ /^(INDEX|CONSTRAINT|VIEW|SEQUENCE|TYPE|SCHEMA|STATISTICS|FOREIGN)$/ { n++ }
    owners && $4 ~ /^(FUNCTION|PROCEDURE|AGGREGATE|OPERATOR|TEXT|COLLATION|CONVERSION)$/ { n++ }
    $4 == "COMMENT" && owners && $6 ~ /^(FUNCTION|PROCEDURE|AGGREGATE|OPERATOR|TEXT|COLLATION|CONVERSION)$/ { next }
    $4 == "COMMENT" && $6 !~ /^(TABLE|COLUMN|VIEW|MATERIALIZED|INDEX|SEQUENCE|TYPE|SCHEMA|EXTENSION|STATISTICS|FOREIGN|LARGE)$/ { n++ }
    END { print n + 0 }' "$every_entry")
  rm -f "$2" "$every_entry"
}

definitions_counter='
  /^SELECT pg_catalog.lo_create\(/ { n++; next }
  /^CREATE (UNLOGGED )?TABLE .* \($/ { inside = 1; fixed = 1; next }
  inside && /^\)/ {
    inside = 0
    ended = /^\)$/
    if (/^\);$/ && fixed) n -= 2
    next
  }
  ended { ended = 0; if (/^PARTITION BY /) n -= 2 }
  !inside || /^    CONSTRAINT / { next }
  !/^    ([a-z0-9_]+|"[^"]*") (smallint|integer|bigint|real|double precision|boolean|date|uuid|oid|money|interval|"char"|time(stamp)?(\([0-6]\))? with(out)? time zone)(,| DEFAULT .*| NOT NULL.*| CONSTRAINT .*| GENERATED .*)?$/ { fixed = 0 }
  END { print n + 0 }'
