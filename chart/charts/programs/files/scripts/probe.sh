#!/bin/sh
# Without comments: they are in the project's file of this name.
probe_folder() {
  probe=$1/$2
  for file in "$probe" "$probe.renamed"; do
    plain_or_free "$file" || fail "$file is not a file of its own" "remove it"
  done
  begin_step "writing a file"
  (write_text "$2" "$probe") 2>"$stderr" || fail_probe "cannot write to $1"
  names=$(stat -c %h "$probe" 2>"$stderr") || fail_probe "cannot look at $probe"
  [ "$names" = 1 ] || {
    : >"$stderr"
    fail_probe "the volume counts $names names of a new file instead of 1, which locks rely on" \
      "use storage with the file system of a Linux or Unix server"
  }
  begin_step "syncing a file to the disk"
  sync_file "$probe" || fail_probe "cannot sync a file in $1 to the disk"
  begin_step "renaming a file"
  mv "$probe" "$probe.renamed" 2>"$stderr" || fail_probe "cannot rename a file in $1"
  sync_file "$1" || fail_probe "cannot sync $1 to the disk"
  begin_step "reading a file"
  written=$(cat "$probe.renamed" 2>"$stderr") || fail_probe "cannot read $probe.renamed"
  [ "$written" = "$2" ] || fail_probe "$probe.renamed is not what was written to it" "look at the storage system"
  begin_step "locking a file"
  probe_lock "$probe.renamed"
  begin_step "removing a file"
  rm -f "$probe.renamed" 2>"$stderr" || fail_with_stderr "cannot remove $probe.renamed"
}

steps=''
begin_step() { [ -z "$steps" ] || echo "$1" >"$steps"; }

probe_lock() {
  exec 9>>"$1"
  flock -n 9 2>"$stderr" || {
    forget_probe
    fail_without_locks
  }
  ! flock -n "$1" true 9>&- 2>/dev/null || {
    : >"$stderr"
    fail_probe "the volume grants one lock to two processes at once" \
      "use storage that supports flock; NFS without the mount options nolock and local_lock"
  }
  exec 9>&-
}

fail_probe() {
  forget_probe
  [ -z "${2-}" ] || fail "$@"
  fail_with_stderr "$1"
}

forget_probe() { rm -f "$probe" "$probe.renamed" 2>/dev/null || :; }
