#!/bin/sh
# Without comments: they are in the project's file of this name.
remedy_in_source() {
  case $1 in
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

called_function() {
  sed -n -e 's/^CONTEXT:  //' -e 's/^SQL function "\([^"]*\)" .*/ (\1)/p' -e 's/^PL\/pgSQL function \([^ ()]*\)(.*/ (\1)/p' \
    "$stderr" 2>/dev/null | head -n 1
}
