#!/bin/sh
# How an archive is restored whose functions need a search_path, or whose checks read other rows than their own. Sourced by
# restore.sh and drill.sh; it does nothing on its own. Callers set list, archive, major, and `path` of careful.sql.
#
# An archive is restored with an empty search_path, and so stays every statement of it here. Only while it lasts, functions that
# have no search_path of their own get one, and checks that call functions wait until all rows are there.
#
# shellcheck disable=SC2034,SC2154 # variables are set for, or by, the callers

# Split the list of entries $1 into four, in its order: $1.1 up to the last function, $1.2 the other definitions, $1.3 rows, $1.4 what
# follows them, and all rights (an owner may have taken some from himself). With several connections, pg_restore checks or indexes a table
# as soon as its own rows are there; a function may read those of another one.
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

# Restore first the definitions, then the rows, with what has to be done in between: in_steps DATABASE COMMAND [ARGUMENT…]. The command
# gets the list of each step as its last argument. Restores and drills share this, so that a drill proves what a restore does.
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

# Run careful.sql in database $1; the statements that take it all back go to the file $2.
take_care() {
  ask "$1" -v path="$path" -v moment="${moment:-}" <"${0%/*}/careful.sql" || fail_with_stderr "the restored functions cannot be read"
  mv "$facts" "$2"
}

# Take everything back, the last first: take_back DATABASE FILE….
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

# Checks that the restored rows do not meet, one a line of $BACKUP_RUN/late.
late_checks() { sed -n 's/.*WARNING:  cnpg-backup: //p' "$stderr" | printable >"$BACKUP_RUN/late"; }

# Lines without control characters, which a name may contain.
printable() { tr '\001-\011\013-\037\177' ' '; }
