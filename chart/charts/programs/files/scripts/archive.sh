#!/bin/sh
# Without comments: they are in the project's file of this name.
read_whole() {
  rows=
  if [ "${2-}" = true ] && count_rows "$1"; then return; fi
  rows=
  run pg_restore -f /dev/null "$1"
}

count_rows() {
  if ! run pg_restore -l "$1" >"$listing" || ! make_pipe "$facts.sql"; then
    rm -f "$listing"
    return 1
  fi
  awk -v apostrophe="'" -v each="${each-}" "$row_counter" "$listing" - <&6 >"$facts.rows" 2>/dev/null 5>&- 6<&- &
  counter=$! code=0
  exec 6<&-
  set -- "$1" --section=data -f -
  case $(pg_restore --help) in *--no-statistics*) set -- "$@" --no-statistics ;; esac
  run to_pipe pg_restore "$@" || code=$?
  end_counter
  rm -f "$listing"
  [ "$code" = 0 ] || return 1
  IFS= read -r rows <"$facts.rows" || :
}

end_counter() {
  exec 5>&-
  wait "$counter" || :
  counter=
}

read_contents() {
  make_pipe "$facts.list" || return 1
  awk '
    /^;/ { if (NR < 40) print }
    /^[0-9]+; [0-9]+ [0-9]+ TABLE / && !/^[0-9]+; [0-9]+ [0-9]+ TABLE (DATA|ATTACH) / { tables++ }
    END { print "tables=" tables + 0 }' <&6 >"$facts" 5>&- 6<&- &
  counter=$! code=0
  exec 6<&-
  run to_pipe pg_restore -l "$1" || code=$?
  end_counter
  [ "$code" = 0 ] || return 1
  tables=$(sed -n 's/^tables=//p' "$facts")
  is_number "$tables"
}

row_counter='
  copying {
    if ($0 != "\\.") rows++
    else {
      copying = 0
      found[blocks] = rows - before
      if (!(data[blocks] in own)) rows = before
    }
    next
  }
  FNR == NR {
    if (match($0, /^[0-9]+; [0-9]+ [0-9]+ TABLE DATA /)) {
      data[++entries] = substr($0, RLENGTH + 1)
      number[entries] = $0 + 0
    }
    else if (match($0, /^[0-9]+; [0-9]+ [0-9]+ TABLE /)) own[substr($0, RLENGTH + 1)]
    next
  }
  quote == "" && /^--/ { next }
  {
    if (quote == "") copy = /^COPY /
    for (rest = $0; rest != ""; rest = substr(rest, at + 1)) {
      if (quote == "") {
        if (!(at = match(rest, "[\"" apostrophe "]"))) break
        quote = substr(rest, at, 1)
      } else {
        if (!(at = index(rest, quote))) break
        quote = ""
      }
    }
    if (copy && quote == "" && / FROM stdin;$/) {
      copying = 1
      blocks++
      before = rows
    }
  }
  END {
    if (copying || blocks != entries) exit
    if (!each) printf "%.0f\n", rows
    for (entry = 1; each && entry <= entries; entry++) printf "%d\t%.0f\n", number[entry], found[entry]
  }
'

jobs_for() {
  jobs_wanted=2
  ! is_number "$1" || [ "$1" -ge 8388608 ] || jobs_wanted=1
  echo "$jobs_wanted"
}

list_archive() {
  run pg_restore -C -l "$archive" >"$list" || return 1
  : >"$list.unowned"
  tables=$(count_tables) sequences=$(entries ' SEQUENCE ' ' SEQUENCE (SET|OWNED BY) ')
  sed -n 's/^[0-9]*; [0-9]* [0-9]* EXTENSION - \(.*\) $/\1/p' "$list" >"$BACKUP_RUN/extensions"
}

count_tables() { entries ' TABLE ' ' TABLE (DATA|ATTACH) '; }

entries() {
  awk -v want="^[0-9]+; [0-9]+ [0-9]+$1" -v not="^[0-9]+; [0-9]+ [0-9]+$2" \
    '$0 ~ want && $0 !~ not { n++ } END { print n + 0 }' "$list"
}

database_settings() {
  awk '$4 == "DATABASE" && $5 == "-"' "$list" >"$list.database"
  run pg_restore -C --schema-only -L "$list.database" -f "$BACKUP_RESULTS/database.sql" "$archive" ||
    fail_with_stderr "the archive's database cannot be read"
  awk -v apostrophe="'" "$role_reader$statement_reader$creation_reader" "$BACKUP_RESULTS/database.sql" >"$facts"
  settings=$(sed '1,2d' "$facts")
  archive_tablespace=$(sed -n 1p "$facts") settings_unread=$(sed -n 2p "$facts")
}

statement_reader='
  quote == "" && text == "" && /^(--|\\|$)/ { next }
  {
    text = text == "" ? $0 : text "\n" $0
    for (left = $0; left != ""; left = substr(left, at + 1)) {
      if (quote == "") {
        if (!(at = match(left, "[\"" apostrophe "]"))) break
        quote = substr(left, at, 1)
      } else {
        if (!(at = index(left, quote))) break
        quote = ""
      }
    }
    if (quote == "" && /;$/) {
      statement(text)
      text = ""
    }
  }
'

creation_reader='
  function statement(text,  key, value) {
    if (text !~ /^CREATE DATABASE /) return
    role(substr(text, 17))
    sub(/;$/, "", rest)
    if (!sub(/^ WITH TEMPLATE = template0/, "", rest)) { unread = "its CREATE DATABASE is of an unknown form"; return }
    while (match(rest, "^ [A-Z_]+ = (" literal "|\"([^\"]|\"\")*\"|[a-z_][a-z0-9_]*)")) {
      key = substr(rest, 2, index(rest, " = ") - 2)
      value = substr(rest, length(key) + 5, RLENGTH - length(key) - 4)
      rest = substr(rest, RLENGTH + 1)
      if (key ~ /^(ENCODING|LOCALE|LOCALE_PROVIDER|LC_COLLATE|LC_CTYPE|ICU_LOCALE|ICU_RULES|BUILTIN_LOCALE)$/)
        options = options " " key " = " value
      else if (key == "TABLESPACE") { after = rest; place = role(value); rest = after }
      else unread = unread (unread == "" ? "" : ", ") key
    }
    if (rest != "") unread = "its CREATE DATABASE is not understood from \"" substr(rest, 2, 40) "\" on"
    gsub(/[[:cntrl:]]/, " ", unread)
    seen = 1
  }
  BEGIN { literal = "E?" apostrophe "([^" apostrophe "]|" apostrophe apostrophe ")*" apostrophe }
  END {
    if (!seen && unread == "") unread = "it does not name them"
    print place
    print unread
    print options
  }
'

needed_roles() {
  awk '$4 == "ACL" || ($4 == "DEFAULT" && $5 == "ACL") || $4 == "POLICY" || ($4 == "USER" && $5 == "MAPPING")' "$list" >"$list.roles"
  sql_of_entries "$list.roles" "the archive's grants cannot be read"
  awk -v apostrophe="'" "$role_reader"'
    !text && /^(GRANT|ALTER DEFAULT PRIVILEGES) .* TO .*;$/ { match($0, /.* TO /); print role(substr($0, RLENGTH + 1)) }
    !text && /^SET SESSION AUTHORIZATION / { print role(substr($0, 27)) }
    !text && /^ALTER DEFAULT PRIVILEGES FOR ROLE / { print role(substr($0, 35)) }
    !text && /^CREATE POLICY / { policy(substr($0, 15)) }
    !text && /^CREATE USER MAPPING FOR / { print role(substr($0, 25)) }
    { if (gsub(apostrophe, "") % 2) text = !text }
  ' "$BACKUP_RESULTS/roles.sql" | grep -vx -e '' -e PUBLIC -e public >"$BACKUP_RUN/roles.all" || :
  [ -z "$1" ] || owners_of_entries
  sort -u "$BACKUP_RUN/roles.all" >"$BACKUP_RUN/roles"
  rm -f "$BACKUP_RESULTS/roles.sql"
}

owners_of_entries() {
  awk 'FILENAME == ARGV[1] { unowned[$0]; next } $0 in unowned { next }
    !/^[0-9]+; [0-9]+ [0-9]+ (TABLE DATA|SEQUENCE SET|BLOBS|MATERIALIZED VIEW DATA) / && $4 != "DATABASE"' \
    "$list.unowned" "$list" >"$list.roles"
  sql_of_entries "$list.roles" "the archive's owners cannot be read"
  awk "$role_reader"'
    /^ALTER .* OWNER TO .*;$/ { match($0, /.* OWNER TO /); print role(substr($0, RLENGTH + 1)) }
  ' "$BACKUP_RESULTS/roles.sql" | sort -u >"$BACKUP_RUN/owners"
  awk 'FNR == NR { names[$0]; next }
    { for (name in names) if (substr($0, length($0) - length(name)) == " " name) { print name; delete names[name] } }
  ' "$BACKUP_RUN/owners" "$list.roles" >>"$BACKUP_RUN/roles.all"
}

sql_of_entries() { run pg_restore -f "$BACKUP_RESULTS/roles.sql" -L "$1" "$archive" || fail_with_stderr "$2"; }

special_objects() {
  awk '($4 == "EVENT" && $5 == "TRIGGER") || ($4 == "FOREIGN" && $5 == "DATA") || ($4 ~ /^(PUBLICATION|SUBSCRIPTION)$/ && $5 == "-")' \
    "$list" >"$list.roles"
  : >"$BACKUP_RUN/special"
  [ -s "$list.roles" ] || return 0
  sql_of_entries "$list.roles" "the archive's owners cannot be read"
  awk -v apostrophe="'" -v separator="$separator" -v major="$major" "$role_reader$statement_reader"'
    function statement(text,  kind, name) {
      if (text ~ /^CREATE PUBLICATION /) {
        name = role(substr(text, 20))
        if (rest ~ /^ FOR ALL /) all[name]
      }
      if (!match(text, /^ALTER (EVENT TRIGGER|FOREIGN DATA WRAPPER|PUBLICATION|SUBSCRIPTION) /)) return
      kind = substr(text, 7, RLENGTH - 7)
      name = role(substr(text, RLENGTH + 1))
      if (rest !~ /^ OWNER TO / || (kind == "PUBLICATION" && !(name in all)) || (kind == "SUBSCRIPTION" && major > 15)) return
      print kind separator name separator role(substr(rest, 11))
    }' "$BACKUP_RESULTS/roles.sql" >"$BACKUP_RUN/special"
  rm -f "$BACKUP_RESULTS/roles.sql"
}

role_reader='
  function role(text) {
    rest = text
    sub(/^(GROUP )?/, "", text)
    if (substr(text, 1, 1) == "\"") {
      if (!match(text, /^"([^"]|"")*"/)) return ""
      rest = substr(text, RLENGTH + 1)
      text = substr(text, 2, RLENGTH - 2)
      gsub(/""/, "\"", text)
      return text
    }
    if (!match(text, /^[a-z_][a-z0-9_$]*/)) return ""
    rest = substr(text, RLENGTH + 1)
    return substr(text, 1, RLENGTH)
  }
  function policy(text) {
    role(text)
    role(substr(rest, 5))
    while (substr(rest, 1, 1) == ".") role(substr(rest, 2))
    sub(/^ AS [A-Z]+/, "", rest)
    sub(/^ FOR [A-Z]+/, "", rest)
    if (rest !~ /^ TO /) return
    rest = ", " substr(rest, 5)
    while (rest ~ /^, /) print role(substr(rest, 3))
  }
'
