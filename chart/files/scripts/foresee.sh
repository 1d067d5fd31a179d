#!/bin/sh
# The part of dump.sh that looks for what a restore of this database would fail at. Sourced by dump.sh; it does nothing on its own.
#
# shellcheck disable=SC2154 # variables are set by dump.sh and lib.sh

# Warn of it: on the day of the first dump, not on the night of the restore. This never fails a dump, and never takes long.
foresee() {
  run psql -XAtqw -v ON_ERROR_STOP=1 -c "$preamble" -c "SET statement_timeout = '10s'" -f "${0%/*}/foresee.sql" >"$facts" || {
    log "$database" "whether its functions need a search_path is not known: $(first_error)"
    return 0
  }
  while IFS= read -r line <&3; do
    warn "$(printf %s "$line" | tr -d '[:cntrl:]')"
  done 3<"$facts"
}
