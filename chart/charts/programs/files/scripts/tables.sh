#!/bin/sh
# Without comments: they are in the project's file of this name.
set -eu
umask 077
LC_ALL=C
export LC_ALL
. "${0%/*}/lib.sh"
. "${0%/*}/archive.sh"

fail() {
  echo "tables.sh: $1${2:+; $2}" >&2
  exit 1
}

main() {
  for variable in BACKUP_RUN BACKUP_RESULTS; do
    eval "value=\${$variable-}"
    if [ -z "$value" ] || [ ! -d "$value" ]; then
      echo "tables.sh: $variable='$value' is not a directory; start this by a Job of the chart's CronJob, which sets it" >&2
      exit 2
    fi
  done
  facts=$BACKUP_RUN/tables.facts stderr=$BACKUP_RUN/tables.stderr listing=$BACKUP_RESULTS/tables.contents
  : >"$stderr"
  each=1
  count_rows "$1" || fail_with_stderr "the archive cannot be read to its end"
  cat "$facts.rows"
  rm -f "$facts" "$facts.rows" "$stderr"
}

main "$@"
