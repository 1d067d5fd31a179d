#!/bin/sh
# Without comments: they are in the project's file of this name.
directory_of() {
  directory=$1.$2
  case $2 in
    '' | *[!a-z0-9_-]* | [!a-z0-9]* | *[!a-z0-9]) ;;
    *) [ "${#directory}" -gt 63 ] || return 0 ;;
  esac
  hash=$(printf %s "$2" | sha256sum | cut -c 1-16)
  directory=$(printf %s "$2" | tr '[:upper:]' '[:lower:]' | tr -cs 'a-z0-9' '-' | cut -c 1-21 | sed 's/^-*//; s/-*$//')
  directory=$1.${directory:-db}.$hash
}

settings_of() { printf 'database=%s\ndbname=%s\nentry=%s\n%s\n' "$2" "$3" "$1" "$template"; }

read_template() { template=$(grep -v '^\(database\|dbname\|exclude\)=' "$1"); }

is_excluded() {
  while IFS= read -r line || [ -n "$line" ]; do
    case $line in exclude=*) ;; *) continue ;; esac
    case $1 in ${line#exclude=}) return 0 ;; esac
  done <"$conf"
  return 1
}

is_left_by_restore() {
  case $1 in *_restoring_$moments | *_before_$moments | *_restored_$moments) ;; *) return 1 ;; esac
}
moments=$(printf '[0-9]%.0s' 1 2 3 4 5 6 7 8)_$(printf '[0-9]%.0s' 1 2 3 4 5 6)

is_wanted() {
  case " ${BACKUP_ONLY-} " in *" $1."*) ;; *) return 0 ;; esac
  case " $BACKUP_ONLY " in *" $2 "*) ;; *) return 1 ;; esac
}

objection_to() {
  case $1 in
    *[[:cntrl:]]*) objection="its name holds a control character" ;;
    *[!\ -~]*)
      objection=''
      [ "$(as_utf8 "$1")" = "$1" ] || objection="its name is not UTF-8"
      case $1 in *"$c1_begin"["$c1_first"-"$c1_last"]* | *"$line_separator"* | *"$paragraph_separator"*)
        objection="its name holds a control character"
        ;;
      esac
      ;;
    *) objection='' ;;
  esac
  [ -n "$objection" ]
}
c1_begin=$(printf '\302') c1_first=$(printf '\200') c1_last=$(printf '\237')
line_separator=$(printf '\342\200\250') paragraph_separator=$(printf '\342\200\251')

list_databases() {
  begin "$1" "$2" "$3" "$BACKUP_CONFIG/$1.all"
  set_credentials
  connect
  check_version
  PGCLIENTENCODING=SQL_ASCII && export PGCLIENTENCODING
  run psql -XAtqw -v ON_ERROR_STOP=1 -c "$preamble" -c "SELECT encode(textsend(datname::text), 'hex') FROM pg_database
    WHERE datallowconn AND NOT datistemplate ORDER BY 1" >"$facts" ||
    fail_with_stderr "the cluster's databases cannot be listed"
  awk '{ line = ""
    for (i = 1; i < length($0); i += 2) {
      byte = 16 * (index("0123456789abcdef", substr($0, i, 1)) - 1) + index("0123456789abcdef", substr($0, i + 1, 1)) - 1
      line = line sprintf("\\0%o", byte)
    }
    print line }' "$facts" >"$facts.list"
  read_template "$conf"
  found=0 entry=$database
  while IFS= read -r octal <&3; do
    name=$(printf '%b.' "$octal") && name=${name%.}
    directory_of "$entry" "$name"
    if is_left_by_restore "$name"; then
      log "$entry" "$directory is left out: a restore has made that database next to another one"
      : >"$BACKUP_CONFIG/.$directory.excluded"
      continue
    fi
    if is_excluded "$name"; then
      : >"$BACKUP_CONFIG/.$directory.excluded"
      continue
    fi
    found=$((found + 1))
    is_wanted "$entry" "$directory" || continue
    if objection_to "$name"; then
      refuse_name
    else
      settings_of "$entry" "$directory" "$name" | cat >"$BACKUP_CONFIG/$directory.conf" || fail "cannot write to $BACKUP_CONFIG"
    fi
  done 3<"$facts.list"
  [ "$found" != 0 ] ||
    fail "cluster $conf_cluster has no database to back up" "look at 'exclude' of this entry; templates are always left out"
  log "$entry" "$found databases in cluster $conf_cluster"
  : >"$BACKUP_CONFIG/.$entry.listed"
  trap - EXIT
}

refuse_name() {
  shown=$(as_utf8 "$(printf %s "$name" | tr '[:cntrl:]' '?')")
  settings_of "$entry" "$directory" '?' | cat >"$BACKUP_CONFIG/$directory.conf" || fail "cannot write to $BACKUP_CONFIG"
  (database=$directory && write_failure "$directory.result" failed "database '$shown' cannot be backed up: $objection" \
    "ALTER DATABASE … RENAME, or exclude it")
}

resolve_entries() {
  set -- "$BACKUP_CONFIG"/*.all
  [ -e "$1" ] || return 0
  case $BACKUP_CONFIG in
    "$BACKUP_RESULTS"/*) resolved=$BACKUP_CONFIG ;;
    *)
      resolved=$BACKUP_RESULTS/config
      { mkdir -p "$resolved" && cp "$BACKUP_CONFIG"/*.* "$resolved/"; } || usage "the configuration cannot be copied to $resolved"
      ;;
  esac
  BACKUP_CONFIG=$resolved && export BACKUP_CONFIG
  for conf in "$resolved"/*.all; do
    entry=${conf##*/} && entry=${entry%.all}
    list_in_background &
    workers="$workers $!"
  done
  for worker in $workers; do wait "$worker" || :; done
  workers=
  for conf in "$resolved"/*.all; do
    database=${conf##*/} && database=${database%.all}
    read_template "$conf"
    if [ -e "$resolved/.$database.listed" ]; then
      require_wanted "$database"
      [ "$one" != --dump-one ] || report_vanished "$database"
    else
      report_unlisted "$database"
    fi
    free_scratch
  done
}

list_in_background() {
  trap 'trap "" TERM; end_child; exit 143' TERM
  limit_of "$conf"
  timeout -k 20 "$limit" sh "$0" --list "$entry" "$limit" "$(($(seconds) + limit))" &
  child=$!
  wait "$child" || :
}

report_others() {
  for dir in "$BACKUP_ROOT/$1".*/; do
    database=${dir%/} && database=${database##*/}
    [ -d "$dir" ] && is_wanted "$1" "$database" && [ ! -e "$BACKUP_CONFIG/$database.conf" ] && [ ! -e "$BACKUP_CONFIG/.$database.excluded" ] || continue
    settings_of "$1" "$database" '?' | cat >"$BACKUP_CONFIG/$database.conf" || continue
    pairs=''
    put database "$database"
    put_failure "$2" "$3" "$4"
    put started "$(now)" && put finished "$(now)"
    log "$database" "$3"
    write_result "$database.result" || log "$database" "its result cannot be written to $BACKUP_RESULTS"
  done
}

require_wanted() {
  for name in ${BACKUP_ONLY-}; do
    case $name in "$1".*) ;; *) continue ;; esac
    [ -e "$BACKUP_CONFIG/$name.conf" ] ||
      usage "entry $1 finds no database '$name': its cluster has none, or it accepts no connections, or 'exclude' leaves it out"
  done
}

report_vanished() {
  report_others "$1" vanished "the cluster no longer has this database, or it accepts no connections: its backups stay" \
    "once you no longer need them, remove the folder"
}

report_unlisted() {
  entry=$1
  [ -e "$BACKUP_RESULTS/$entry.result" ] ||
    write_failure "$entry.result" failed "the databases of its cluster could not be listed in time" "see the log lines above"
  cp "$BACKUP_CONFIG/$entry.all" "$BACKUP_CONFIG/$entry.conf"
  found_error='' found_remedy=''
  read_pairs found_ "$BACKUP_RESULTS/$entry.result" || :
  report_others "$entry" failed "the databases of its cluster could not be listed: $found_error" "$found_remedy"
}

settings_of_entry() {
  entry=${database%%.*}
  [ -f "$BACKUP_CONFIG/$entry.all" ] || return 1
  directory_of "$entry" "$req_dbname"
  [ "$directory" = "$database" ] ||
    usage "$req_base.dump is of database '$req_dbname', which belongs into folder '$directory': move it there, and adopt it"
  read_template "$BACKUP_CONFIG/$entry.all"
  conf=$BACKUP_RUN/$database.conf
  settings_of "$entry" "$database" "$req_dbname" >"$conf"
}
