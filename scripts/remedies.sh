#!/bin/sh
# What helps against the errors with which an archive cannot be restored as a whole, because of something in its own definitions.
# Sourced by restore.sh and drill.sh; it does nothing on its own. Callers set stderr, major and archive_major.
#
# shellcheck disable=SC2034,SC2154 # variables are set for, or by, the callers

# The remedy for an error of that kind; fails for all others. `unrestorable` is its kind: names (not found without a
# search_path), check, order, keyword, rows (an extension's, with the keys of its own).
remedy_in_source() {
  case $1 in
    # With several connections, pg_restore adds a CHECK when its own table is full and the one that it reads is not yet.
    *" violates check constraint "* | *"check constraint "*" is violated by some row"*)
      unrestorable=check
      cure="its CHECK reads more than its own row$(called_function): in the source, make it NOT VALID or a trigger, then back up again"
      ;;
    *"duplicate key value violates unique constraint "*)
      unrestorable=rows
      cure="a row of the archive has a key that is taken, as by a row of an extension's own: delete the archive's row in the source, then back up again"
      ;;
    *'syntax error at or near "'*)
      [ "$archive_major" -lt "$major" ] || return 1
      unrestorable=keyword
      cure="a name of the archive is a keyword in PostgreSQL $major: rename it in the source, or set extraArgs: [--quote-all-identifiers], then back up again"
      ;;
    *'column "'*'" of relation "'*) return 1 ;;
    *" does not exist"*) kind_of_missing "$1" || return 1 ;;
    *) return 1 ;;
  esac
  tonight="RESTORE_INTO=<a new name> with RESTORE_ON_ERROR=keep, which restores all else"
  [ "$unrestorable" != names ] || tonight="set RESTORE_SEARCH_PATH to the schemas that it needs, or $tonight"
  [ "${on_error:-stop}" = keep ] || cure="$cure; tonight: $tonight"
  echo "$cure"
}

# A name without a schema is not found because every archive is restored with an empty search_path. One with a schema is needed
# before it is there.
kind_of_missing() {
  missing=$(printf '%s\n' "$1" | sed -n \
    -e 's/.*operator does not exist: .*/operator/p' \
    -e 's/.*relation \(.*\) does not exist.*/\1/p' -e 's/.*function \(.*\) does not exist.*/\1/p' -e 's/.*type \(.*\) does not exist.*/\1/p' \
    -e 's/.*collation \(.*\) does not exist.*/\1/p' -e 's/.*text search [a-z]* \(.*\) does not exist.*/\1/p' | head -n 1)
  case ${missing%%(*} in
    '') return 1 ;;
    *.*)
      unrestorable=order
      cure="it is needed before it is there, as by a view that selects from itself: in the source, replace what needs it, then back up again"
      ;;
    *)
      unrestorable=names
      cure="a function$(called_function) finds names only through a search_path: in the source, ALTER FUNCTION … SET search_path = …, then back up again"
      ;;
  esac
}

# The function that was running, as PostgreSQL names it; only its name is taken from the CONTEXT, which may hold data.
called_function() {
  sed -n -e 's/^CONTEXT:  //' -e 's/^SQL function "\([^"]*\)" .*/ (\1)/p' -e 's/^PL\/pgSQL function \([^ ()]*\)(.*/ (\1)/p' \
    "$stderr" 2>/dev/null | head -n 1
}
