#!/bin/sh
# Without comments: they are in the project's file of this name.
find_own_views() {
  printf '' >"$facts" || return 1
  [ -s "$1" ] || return 0
  make_pipe "$facts.views" || return 1
  awk -v apostrophe="'" "$statement_reader$view_reader" <&6 >"$facts" 5>&- 6<&- &
  counter=$! code=0
  exec 6<&-
  run to_pipe pg_restore -L "$1" -f - "$2" || code=$?
  end_counter
  return "$code"
}

views_of() { awk '$4 == "VIEW" && /^[0-9]+; [0-9]+ [0-9]+ VIEW /' "$1"; }

own_views_error() {
  first=$(head -n 1 "$facts") others=$(awk 'END { print NR - 1 }' "$facts")
  [ "$others" = 0 ] || first="$first (and $others more)"
  echo "view $first refers to itself, and PostgreSQL cannot create such a view"
}
own_views_cure="in the source, replace or drop it, then back up again"
own_views_tonight="RESTORE_INTO=<a new name> with RESTORE_ON_ERROR=keep, which restores all else"

view_reader='
  function next_token(  raw) {
    sub(/^[ \n\t\r]+/, "", left)
    kind = left == "" ? "end" : "sign"
    if (match(left, /^"([^"]|"")*"/)) kind = "name"
    else if (match(left, "^" apostrophe "([^" apostrophe "]|" apostrophe apostrophe ")*" apostrophe)) kind = "string"
    else if (match(left, /^[A-Za-z_][A-Za-z0-9_$]*/)) kind = "word"
    else if (match(left, /^[0-9][0-9.]*/)) kind = "number"
    else RLENGTH = substr(left, 1, 2) == "::" ? 2 : 1
    value = substr(left, 1, RLENGTH)
    left = substr(left, RLENGTH + 1)
    if (kind == "name") { value = substr(value, 2, length(value) - 2); gsub(/""/, "\"", value) }
    if (kind == "string") { value = substr(value, 2, length(value) - 2); gsub(apostrophe apostrophe, apostrophe, value) }
    return kind
  }
  function read_name() {
    schema = value
    name = ""
    if (substr(left, 1, 1) != ".") return
    left = substr(left, 2)
    next_token()
    if (kind == "name" || kind == "word") name = value
  }
  function plain(text) { gsub(/"/, "", text); return text }
  function statement(text,  own_schema, own_name, shown, depth, expect, list, select, found) {
    if (text !~ /^CREATE VIEW /) return
    left = substr(text, 13)
    next_token()
    read_name()
    own_schema = schema
    own_name = name
    shown = substr(text, 13, length(text) - 12 - length(left))
    if (own_name == "" || !index(plain(left), plain(own_name))) return
    depth = expect = found = 0
    list[0] = select[0] = 0
    while (!found && next_token() != "end") {
      if (kind == "sign") {
        if (value == "(") {
          depth++
          list[depth] = expect
          select[depth] = 0
        } else {
          if (value == ")") depth--
          expect = value == "," && list[depth]
        }
      } else if (kind == "string") {
        found = plain(value) == plain(shown) && left ~ /^::"?regclass([^a-z0-9_]|$)/
        expect = 0
      } else if (kind == "word" && value == "SELECT") {
        select[depth] = 1
        list[depth] = expect = 0
      } else if (kind == "word" && value == "FROM") {
        if (select[depth]) list[depth] = expect = 1
      } else if (kind == "word" && value == "JOIN") expect = list[depth]
      else if (kind == "word" && value ~ /^(WHERE|GROUP|HAVING|WINDOW|ORDER|LIMIT|OFFSET|FETCH|FOR|UNION|INTERSECT|EXCEPT|VALUES)$/)
        list[depth] = expect = 0
      else if (kind == "word" && expect && value ~ /^(ONLY|LATERAL|ROWS)$/) continue
      else if (kind == "word" || kind == "name") {
        read_name()
        found = expect && schema == own_schema && name == own_name && left !~ /^[(]/
        expect = 0
      } else expect = 0
    }
    if (!found) return
    gsub(/[[:cntrl:]]/, " ", shown)
    print shown
  }
'
