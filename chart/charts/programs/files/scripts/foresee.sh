#!/bin/sh
# Without comments: they are in the project's file of this name.
foresee() {
  run psql -XAtqw -v ON_ERROR_STOP=1 -c "$preamble" -c "SET statement_timeout = '10s'" -f "${0%/*}/foresee.sql" >"$facts" || {
    log "$database" "whether its functions need a search_path is not known: $(first_error)"
    return 0
  }
  while IFS= read -r line <&3; do
    warn "$(printf %s "$line" | tr -d '[:cntrl:]')"
  done 3<"$facts"
}

own_views=''
foresee_views() {
  [ -n "$1" ] || return 0
  if pg_restore -l "$1" 2>/dev/null | views_of - >"$2" && find_own_views "$2" "$1"; then
    while IFS= read -r line <&3; do
      warn "view $line refers to itself, so no restore of this archive can create it: $own_views_cure"
      own_views=$own_views$line$line_end
    done 3<"$facts"
  else
    log "$database" "whether a view refers to itself is not known"
  fi
  rm -f "$2" || :
}
