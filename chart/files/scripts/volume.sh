#!/bin/sh
# The part of dump.sh that touches the volume: the database's directory and its lock, the room on it, the names of a backup,
# and staging. Sourced by dump.sh; it does nothing on its own.
#
# shellcheck disable=SC2034,SC2154 # variables are set for, or by, dump.sh and lib.sh

# Whether a name is free, or is a file without a second name. Only such a file is opened for writing: a link would lead to
# another file, a second name belongs to another one (to an archive, perhaps), and a named pipe would block.
plain_or_free() {
  [ ! -L "$1" ] || return 1
  [ ! -e "$1" ] || { [ -f "$1" ] && [ "$(stat -c %h "$1")" = 1 ]; }
}

make_directory() {
  if [ -L "$dir" ] || { [ -e "$dir" ] && [ ! -d "$dir" ]; }; then
    fail "$dir is a link or a file, not a directory" "move it away"
  fi
  [ -d "$dir" ] || mkdir "$dir" 2>"$stderr" || fail_with_stderr "cannot create $dir"
}

fail_for_lock_file() {
  fail "$dir/.lock is not a file of its own, but a link, a second name of another file, or a device" \
    "remove it; the next run makes a new one"
}

open_lock() {
  plain_or_free "$dir/.lock" || fail_for_lock_file
  (: >>"$dir/.lock") 2>"$stderr" || fail_with_stderr "cannot write to $dir"
  exec 9>>"$dir/.lock"
}

# Try the lock once. A volume that cannot lock files says why; a lock that another run holds fails without a word. After the
# file lost its name while we waited, others lock the file that has it now.
try_lock() {
  if ! flock -n 9 2>"$stderr"; then
    [ ! -s "$stderr" ] || fail_without_locks
    return 1
  fi
  [ "$(stat -c %d:%i "$dir/.lock" 2>/dev/null)" != "$(stat -L -c %d:%i /proc/self/fd/9)" ] || return 0
  open_lock
  return 1
}

fail_without_locks() {
  error=$(first_error)
  error=${error#flock: }
  fail "the volume cannot lock files: ${error#9: }" \
    "use storage that supports flock; NFS takes version 4, or a running lock service on node and server"
}

take_lock() {
  make_directory
  open_lock
  until=$(($(seconds) + conf_lock_timeout))
  until try_lock; do
    [ "$(seconds)" -lt "$until" ] ||
      fail "another run holds the lock: $(awk 'NR == 1 { gsub(/[^ -~]/, ""); print }' "$dir/.lock")" \
        "wait for it to end, or delete its Job"
    run sleep 1
  done
  locked=yes
  # On a full volume the name cannot be written; the lock holds even so.
  printf '%s dump.sh since %s\n' "${BACKUP_POD:-$$}" "$(date -u +%H:%M:%SZ)" 2>/dev/null >"$dir/.lock" || :
  remove_partials 2>"$stderr" || fail_with_stderr "cannot remove a stale partial in $dir"
}

remove_partials() {
  rm -f "$dir/.$database-"[0-9][0-9][0-9][0-9][0-9][0-9][0-9][0-9]-[0-9][0-9][0-9][0-9][0-9][0-9].*partial
}

# Remove what this dump has left unfinished. Without its archive the rest of a staged backup means nothing.
discard() {
  remove_partials
  [ -z "$staged" ] || [ -e "$staged" ] || rm -f "$staged.sha256" "$staged.result" "$dir/.$base.globals.sql.staged"
}

# Keep everything that the program which failed has printed next to the archives, since the log gets only one line. Written
# under another name and renamed, so that whatever lies under this one is replaced and never opened.
save_last_error() {
  [ -s "$stderr" ] || return 0
  unfinished=$dir/.$database-$(date -u +%Y%m%d-%H%M%S).error.partial
  rm -f "$unfinished"
  if ! { date -u +'%Y-%m-%dT%H:%M:%SZ' && cat "$stderr"; } >"$unfinished"; then
    rm -f "$unfinished"
    return
  fi
  plain_or_free "$dir/last-error.log" || rm -f "$dir/last-error.log"
  mv "$unfinished" "$dir/last-error.log"
}

newest_archive() {
  newest=
  for file in "$dir/$database-"[0-9][0-9][0-9][0-9][0-9][0-9][0-9][0-9]-[0-9][0-9][0-9][0-9][0-9][0-9].dump; do
    [ ! -f "$file" ] || newest=$file
  done
}

# Expect an archive a quarter larger than the last one, or half of the database where there is none yet (zstd:1 and gzip
# compress typical data to a third). A guess that is too low does no harm: a full volume fails this dump and nothing else.
check_space() {
  newest_archive
  if [ -n "$newest" ]; then
    archive=$(stat -c %s "$newest")
    need=$((archive * 5 / 4))
  else
    archive=$((database_bytes / 2))
    need=$archive
  fi
  free=$(df -Pk "$BACKUP_ROOT" | awk 'NR == 2 { print $4 }')
  is_number "$free" || return 0
  [ $((free * 1024)) -gt $((need + 1048576)) ] ||
    fail "only $(mebibytes $((free * 1024))) free on the volume, about $(mebibytes $((need + 1048576))) needed" \
      "free space or grow the claim; the next run needs nothing else"
}

taken() {
  for file in "$dir/$1."* "$dir/.$1."*; do
    if [ -e "$file" ] || [ -L "$file" ]; then return 0; fi
  done
  return 1
}

# A base is never used twice, whatever the clock does.
choose_base() {
  base=$database-$(date -u +%Y%m%d-%H%M%S)
  while taken "$base"; do
    run sleep 1
    base=$database-$(date -u +%Y%m%d-%H%M%S)
  done
  partial=$dir/.$base.dump.partial
  staged=$dir/.$base.dump.staged
}

# Sync a file or a directory to the disk; a failure is one, since the disk then may not have it. Only where `sync` does not
# know files, everything is synced, which is slower but just as good.
sync_file() {
  case ${sync_help=$(sync "$conf" 2>&1 || :)} in
    *[Uu]sage* | *operand* | *gnoring*) sync ;;
    *) sync "$1" 2>"$stderr" ;;
  esac
}

# Rename the archive as the last step: a file with a staged name was read in full and is on the disk, as is all that belongs
# to it. Its result is ready before that and only renamed after it. Signals no longer count from the rename on, for a staged
# archive will be published.
stage() {
  put_facts
  {
    write_text "$sha256  $base.dump$line_end" "$staged.sha256" && write_text "$pairs" "$staged.result"
  } 2>"$stderr" || fail_with_stderr "cannot write to $dir"
  check_facts
  for file in "$partial" "$staged.sha256" "$staged.result" "$dir"; do
    sync_file "$file" || fail_with_stderr "cannot sync $file to the disk"
  done
  prepare_result "$database.result" 2>"$stderr" || fail_with_stderr "cannot write to $BACKUP_RESULTS"
  trap '' TERM INT
  mv "$partial" "$staged" 2>"$stderr" || fail_with_stderr "cannot rename in $dir"
  sync_file "$dir" || unstage
  end_with_result
}

unstage() {
  error=$(first_error)
  rm -f "$staged"
  fail "${error:-cannot sync $dir to the disk}"
}

put_facts() {
  put base "$base"
  put host "$PGHOST" && put role "$role"
  put server_version "$server_version" && put client_version "$client_version"
  put database_bytes "$database_bytes"
  put bytes "$bytes" && put sha256 "$sha256" && put tables "$tables"
  put rows "$rows"
  put format custom && put compression "$compression"
  put dump_seconds "$dump_seconds" && put verify_seconds "$verify_seconds"
  put attempts "$attempts" && put globals "$globals"
  put finished "$(now)"
  put state staged
}

# Read the staged result back: what lies next to the archive must be complete, for it decides whether the archive counts.
check_facts() {
  for key in database cluster namespace dbname state base started finished host role server_version client_version \
    database_bytes bytes sha256 tables format compression dump_seconds verify_seconds attempts globals; do
    case $line_end$pairs in *"$line_end$key="[!"$line_end"]*) ;; *) fail "the result of this dump lacks $key" "$version_mismatch" ;; esac
  done
  written=$(cat "$staged.result" 2>"$stderr") || fail_with_stderr "cannot read $staged.result"
  [ "$written$line_end" = "$pairs" ] || fail "$staged.result is not what was written to it" "check the volume; the next run dumps again"
}
