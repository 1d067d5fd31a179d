#!/bin/sh
# Without comments: they are in the project's file of this name.
split_for_care() {
  awk -v to="$1." '
    BEGIN { for (n = 1; n <= 4; n++) printf "" >(to n) }
    !match($0, /^[0-9]+; [0-9]+ [0-9]+ /) { next }
    FNR == NR {
      if (/^[0-9]+; [0-9]+ [0-9]+ (FUNCTION|PROCEDURE) /) last = FNR
      if (!data && /^[0-9]+; [0-9]+ [0-9]+ (TABLE DATA|SEQUENCE SET|BLOBS|STATISTICS DATA|INDEX|CONSTRAINT) /) data = FNR
      if (/^[0-9]+; [0-9]+ [0-9]+ (TABLE DATA|SEQUENCE SET|BLOBS) /) rows = FNR
      next
    }
    $4 == "ACL" || ($4 == "DEFAULT" && $5 == "ACL") || (data && FNR >= data) { print >(to (FNR <= rows && $4 != "ACL" && $5 != "ACL" ? 3 : 4)); next }
    { print >(to (FNR <= last ? 1 : 2)) }
  ' "$1" "$1"
}

in_steps() {
  filled=$1
  shift
  split_for_care "$list.use"
  for care in 1 2 3 4; do
    [ "$care" != 3 ] || [ ! -s "$list.rows" ] || make_way_for_rows "$filled"
    [ ! -s "$list.use.$care" ] || "$@" "$list.use.$care" || return 1
    [ -z "$careful" ] || [ "$care" -ge 3 ] || take_care "$filled" "$BACKUP_RESULTS/back.$care"
  done
}

take_care() {
  ask "$1" -v path="$path" -v moment="${moment:-}" <"${0%/*}/careful.sql" || fail_with_stderr "the restored functions cannot be read"
  mv "$facts" "$2"
}

take_back() {
  into=$1
  shift
  {
    [ "${on_error:-stop}" = stop ] || echo '\set ON_ERROR_STOP off'
    cat "$@"
  } >"$BACKUP_RESULTS/back"
  ask "$into" <"$BACKUP_RESULTS/back" || fail_with_stderr "the restored checks cannot be made"
  late_checks
}

late_checks() { sed -n 's/.*WARNING:  cnpg-backup: //p' "$stderr" | printable >"$BACKUP_RUN/late"; }

printable() { tr '\001-\011\013-\037\177' ' '; }
