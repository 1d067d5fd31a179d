#!/bin/sh
# Archives that cannot be restored as a whole. Sourced by restore.sh; it does nothing on its own.
#
#   RESTORE_SEARCH_PATH    the search_path of functions that have none, while the archive is restored (see careful.sh)
#   RESTORE_ON_ERROR=keep  restore all that can be restored, into a new database of another name, and list the rest
#
# shellcheck disable=SC2034,SC2154 # variables are set for, or by, restore.sh and lib.sh

incomplete='' careful='' replace_rows='' path=''

# Read both options; called once the target is known.
read_partial_options() {
  on_error=${RESTORE_ON_ERROR:-stop} failed=$BACKUP_RESULTS/failed
  case $on_error in
    stop) ;;
    keep)
      [ "$target" != "$conf_dbname" ] ||
        usage "RESTORE_ON_ERROR=keep restores only a part of the archive: name a new database for it in RESTORE_INTO"
      [ "$way_wanted" != in-place ] || usage "RESTORE_ON_ERROR=keep needs a new database: leave out RESTORE_WAY=in-place"
      careful=yes
      ;;
    *) usage "RESTORE_ON_ERROR='$on_error' is neither stop nor keep" ;;
  esac
  [ -n "${RESTORE_SEARCH_PATH:-}" ] || return 0
  names=$(names_of "$RESTORE_SEARCH_PATH" schema) ||
    usage "RESTORE_SEARCH_PATH has something that is not the name of a schema: $(printf %.200s "$names" | tr '[:cntrl:]' ' ')"
  case $names in
    *'"pg_'*) usage "RESTORE_SEARCH_PATH names a schema of PostgreSQL's own, which is searched first anyway" ;;
  esac
  careful=yes
  path=$(printf '%s\n' "$names" | awk '{ printf "%s%s", (NR > 1 ? ", " : ""), $0 }' | tr '\036' '\n')
}

check_keep() {
  [ "$on_error" = keep ] || return 0
  [ -z "$exists" ] || refuse "database '$target' exists, and RESTORE_ON_ERROR=keep only fills a new one" \
    "name a database in RESTORE_INTO that does not exist"
}

# End a restore that could only fail at a view.
check_views() {
  [ "$on_error" = stop ] || return 0
  views_of "$list" >"$list.views"
  find_own_views "$list.views" "$archive" || unreadable
  [ -s "$facts" ] || return 0
  tonight=$own_views_tonight
  [ "$superuser$may_create_databases" != ff ] ||
    tonight="the superuser's Secret (spec.enableSuperuserAccess of the cluster) and $tonight"
  fail "$(own_views_error)" "$own_views_cure; tonight: $tonight"
}

# Fill the new database. If that fails because of names that are not found, or of checks, then once more and carefully.
fill_new_database() {
  awk '$4 != "DATABASE"' "$list" >"$list.use"
  rows_of_extensions "$list.use" "$list.rows"
  PGDATABASE=$new
  watch_progress &
  watcher=$!
  if [ -n "$careful" ]; then
    fill_carefully
  elif ! fill_plainly; then
    stop_watching
    begin_again || fail_with_stderr "pg_restore failed"
    drop_new_database
    create_database
    create_extensions_as_before
    PGDATABASE=$new
    watch_progress &
    watcher=$!
    fill_carefully
  fi
  stop_watching
}

fill_plainly() { if [ -s "$list.rows" ]; then in_steps "$new" fill_part; else fill_part "$list.use"; fi; }

fill_part() { split_entries "$1" && each_part; }

fill_carefully() {
  : >"$failed"
  in_steps "$new" fill_part || fail_with_stderr "pg_restore failed"
  take_back "$new" "$BACKUP_RESULTS/back.2" "$BACKUP_RESULTS/back.1"
  sed -n 's/^psql:.*: ERROR:  /CHECK: ERROR:  /p' "$stderr" | printable >>"$failed"
  report_late_checks
  incomplete=$(awk 'END { print NR }' "$failed")
  [ "$incomplete" != 0 ] || incomplete=
}

# Restore the entries of a list into the new database: restore_part_beside HOW LIST. The name is passed in the environment,
# since as an argument `a=b` would be a connection string; with the empty -d pg_restore connects to it.
restore_part_beside() {
  PGDATABASE=$new
  if [ "$on_error" = keep ]; then
    with_owners "$1" restore_what_works "$2"
    return
  fi
  with_owners "$1" fill_entries -j "$jobs" -L "$2"
}

fill_entries() { run pg_restore -d '' -w --exit-on-error "$@" "$archive"; }

# Whether the error in $stderr is one that a careful restore avoids.
begin_again() {
  why=$(first_error)
  case $why in psql:* | pg_restore:*) why=${why#*: } && why=${why#error: } ;; esac
  remedy_in_source "$why" >/dev/null || return 1
  case $unrestorable in
    names | check) careful=yes ;;
    rows)
      [ "$way$replace_rows" = in-place ] || return 1
      replace_rows=yes
      report "it failed ($why); once more, with the archive's rows of extensions in place of those that have their keys"
      return
      ;;
    *) return 1 ;;
  esac
  report "it failed ($why); once more, with a search_path for functions that have none, and checks that call functions after all rows"
}

report_late_checks() {
  while IFS= read -r line <&3; do report "warning: $line"; done 3<"$BACKUP_RUN/late"
}

# All statements of a list, in one session: what careful.sql answers goes through files.
feed_carefully() {
  if [ -z "$careful$replace_rows" ]; then
    each_part
    return
  fi
  split_for_care "$1"
  for care in 1 2 3 4; do
    if [ "$care$replace_rows" = 3yes ]; then
      rows_of_extensions "$1" "$list.rows"
      feed_rows "$list.rows" || return 1
    fi
    if [ -s "$1.$care" ]; then
      split_entries "$1.$care"
      each_part || return 1
    fi
    echo 'RESET ROLE; SET search_path = pg_catalog, pg_temp;'
    [ "$care" -ge 3 ] || [ -z "$careful" ] || {
      printf '%s\n' '\pset format unaligned' '\pset tuples_only on' "\\o $BACKUP_RESULTS/back.$care"
      cat "${0%/*}/careful.sql"
      echo '\o'
    }
  done
  [ -z "$careful" ] || printf '%s\n' "\\i $BACKUP_RESULTS/back.2" "\\i $BACKUP_RESULTS/back.1"
}

# Restore what can be restored of a list of entries, and add what failed to $failed. By one connection: then each error follows
# the entry that it belongs to.
restore_what_works() {
  [ -s "$1" ] || return 0
  part_list=$1
  shift
  code=0
  make_pipe "$stderr.pipe"
  awk "$failure_reader" file=1 "$part_list" file=2 - <&6 >"$failed.part" 5>&- 6<&- &
  counter=$!
  exec 6<&-
  run messages_to_pipe pg_restore -v -d '' -w -L "$part_list" "$@" -j 1 "$archive" || code=$?
  exec 5>&-
  # Without its messages it is not known what failed.
  wait "$counter" || fail "what reads pg_restore's messages ended before them" "restore again"
  counter=
  fatal=$(sed -n 's/^fatal //p' "$failed.part" | head -n 1)
  [ -z "$fatal" ] || fail "$fatal"
  [ "$code" = 0 ] || [ -s "$failed.part" ] || fail "pg_restore ended with exit code $code"
  cat "$failed.part" >>"$failed"
}

# Reads the list and what pg_restore prints with -v; prints a line for each entry that failed, and `fatal …` where pg_restore did
# not come to its end, or the server was lost on the way. Of a message only its first line and its HINT are taken.
# shellcheck disable=SC2016 # the dollars belong to awk
failure_reader='
  file == 1 {
    if (match($0, /^[0-9]+; [0-9]+ [0-9]+ /)) {
      id = $1 + 0
      entry[id] = substr($0, RLENGTH + 1)
      sub(/ [^ ]*$/, "", entry[id])
      sub(/ - /, " ", entry[id])
      id = ""
    }
    next
  }
  /^pg_restore: from TOC entry [0-9]+;/ { id = $5 + 0; hints = 0; next }
  /^pg_restore: warning: errors ignored on restore: / { ended = 1 }
  /^pg_restore: error: / {
    sub(/^pg_restore: error: /, "")
    sub(/^could not execute query: /, "")
    gsub(/[[:cntrl:]]/, " ")
    text = substr($0, 1, 400)
    last = text
    if (text ~ /server closed the connection|no connection to the server|terminating connection|SSL SYSCALL/) lost = lost == "" ? text : lost
    if (id != "" && !(id in error)) { error[id] = text; order[++count] = id; hints = 1 }
    next
  }
  /^HINT:  / && hints { gsub(/[[:cntrl:]]/, " "); hint[id] = substr($0, 8, 200); hints = 0 }
  END {
    if (lost != "") print "fatal " lost
    else if (last != "" && !ended) print "fatal " last
    for (n = 1; n <= count; n++) {
      id = order[n]
      print (id in entry ? entry[id] : "entry " id) ": " error[id] (id in hint ? " (hint: " hint[id] ")" : "")
    }
  }
'

# The end of a restore that kept what it could. It failed, whatever there is: nobody may take it for the whole.
end_incomplete() {
  shown=0
  while IFS= read -r line <&3; do
    shown=$((shown + 1))
    if [ "$shown" -le 8 ]; then
      report "not restored: $line"
    elif [ "$shown" -le 500 ]; then
      log "$database" "not restored: $line"
    fi
  done 3<"$failed"
  report "INCOMPLETE: '$target' lacks what $incomplete entries of $req_base.dump would have made: it is not the database, copy from it what you need"
  report "remedy: $(remedy_for "$(head -n 1 "$failed")")"
  report "it has $found_tables of $tables tables and $found_sequences of $sequences sequences; when you no longer need it: DROP DATABASE \"$target\""
  exit 1
}
