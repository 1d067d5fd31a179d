#!/bin/sh
# Print how many rows each table of an archive has: tables.sh ARCHIVE. One line for each entry with rows: its number in the
# table of contents, a tab, and its rows. The archive is read in full. Without a line on standard output the rows cannot be
# counted, as in an archive of INSERTs.
#
# Exit: 0; 1 if the archive cannot be read; 2 if the environment is not usable.
# Runs under busybox ash, dash and bash, with the tools of a PostgreSQL image.
set -eu
umask 077
LC_ALL=C
export LC_ALL
# shellcheck source=scripts/lib.sh
. "${0%/*}/lib.sh"
# shellcheck source=scripts/archive.sh
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
