#!/bin/sh
# Without comments: they are in the project's file of this name.
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
  printf '%s dump.sh since %s\n' "${BACKUP_POD:-$$}" "$(date -u +%H:%M:%SZ)" 2>/dev/null >"$dir/.lock" || :
  remove_partials 2>"$stderr" || fail_with_stderr "cannot remove a stale partial in $dir"
}

remove_partials() {
  rm -f "$dir/.$database-"[0-9][0-9][0-9][0-9][0-9][0-9][0-9][0-9]-[0-9][0-9][0-9][0-9][0-9][0-9].*partial
}

discard() {
  remove_partials
  [ -z "$staged" ] || [ -e "$staged" ] || rm -f "$staged.sha256" "$staged.result" "$dir/.$base.globals.sql.staged"
}

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

choose_base() {
  base=$database-$(date -u +%Y%m%d-%H%M%S)
  while taken "$base"; do
    run sleep 1
    base=$database-$(date -u +%Y%m%d-%H%M%S)
  done
  partial=$dir/.$base.dump.partial
  staged=$dir/.$base.dump.staged
}

sync_file() {
  case ${sync_help=$(sync "$conf" 2>&1 || :)} in
    *[Uu]sage* | *operand* | *gnoring*) sync ;;
    *) sync "$1" 2>"$stderr" ;;
  esac
}

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

check_facts() {
  for key in database cluster namespace dbname state base started finished host role server_version client_version \
    database_bytes bytes sha256 tables format compression dump_seconds verify_seconds attempts globals; do
    case $line_end$pairs in *"$line_end$key="[!"$line_end"]*) ;; *) fail "the result of this dump lacks $key" "$version_mismatch" ;; esac
  done
  written=$(cat "$staged.result" 2>"$stderr") || fail_with_stderr "cannot read $staged.result"
  [ "$written$line_end" = "$pairs" ] || fail "$staged.result is not what was written to it" "check the volume; the next run dumps again"
}
