#!/bin/sh
# Without comments: they are in the project's file of this name.
set -eu
umask 077
LC_ALL=C
export LC_ALL
. "${0%/*}/lib.sh"
. "${0%/*}/archive.sh"

fail() {
  put_failure unreadable "$1" "${2:-it is left as it is; find a better copy, or remove it by hand}"
  publish_result
  log "$database" "$base.dump cannot be read: $1"
  exit 0
}

publish_result() { write_result "$base.adopt" || log "$database" "its result cannot be written to $BACKUP_RESULTS"; }

head_line() { sed -n "s/^; *$1: *//p;/^; Selected TOC Entries/q" "$facts" | head -n 1; }

read_archive() {
  archive=$1
  base=${archive##*/} && base=${base%.dump}
  database=${archive%/*} && database=${database##*/}
  facts=$BACKUP_RUN/adopt.facts stderr=$BACKUP_RUN/adopt.stderr listing=$BACKUP_RESULTS/contents
  : >"$stderr"
  put database "$database" && put base "$base"
  [ -r "$archive" ] || fail "this user may not read it" "let the user of the pod read it: chmod or chown it as root"
  [ -s "$archive" ] || fail "it is empty"
  began=$(seconds)
  sha256=$(sha256sum <"$archive") || fail "it cannot be read to its end" "check the volume"
  read_contents "$archive" || fail_with_stderr "it is not an archive of pg_dump"
  format=$(head_line Format)
  [ "$format" = CUSTOM ] || fail "its format is $format, and only pg_dump's custom format can be adopted (pg_dump -Fc)"
  read_whole "$archive" true || fail_with_stderr "it cannot be read to its end"
  put state whole
  put bytes "$(stat -c %s "$archive")" && put sha256 "${sha256%% *}"
  put tables "$tables" && put rows "$rows"
  put dbname "$(head_line dbname)" && put compression "$(head_line Compression)"
  version=$(head_line 'Dumped from database version') && put server_version "${version%% *}"
  version=$(head_line 'Dumped by pg_dump version') && put client_version "${version%% *}"
  put verify_seconds "$(($(seconds) - began))"
  publish_result
  log "$database" "read $base.dump in full"
}

read_all() {
  if [ $# -eq 0 ]; then set -- "$BACKUP_ROOT"/*/*.dump; fi
  for file; do
    [ -f "$file" ] && [ ! -L "$file" ] || continue
    [ ! -e "$file.sha256" ] || [ ! -e "${file%.dump}.json" ] || continue
    sh "$0" --read-one "$file"
  done
}

main() {
  for variable in BACKUP_ROOT BACKUP_RUN BACKUP_RESULTS; do
    eval "value=\${$variable-}"
    if [ -z "$value" ] || [ ! -d "$value" ]; then
      echo "adopt.sh: $variable='$value' is not a directory; start this by a Job of the chart's CronJob, which sets it" >&2
      exit 2
    fi
  done
  case ${1-} in
    --read-one) read_archive "$2" ;;
    *) read_all "$@" ;;
  esac
}

main "$@"
