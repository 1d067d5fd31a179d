#!/bin/sh
# Reading an archive: its contents, rows, roles and locale. The scripts source this file after lib.sh; on its own it does
# nothing. Callers set `archive`, and `list`: the file for its table of contents.
#
# shellcheck disable=SC2034,SC2154 # these variables are set for the callers, or by them

# Read an archive in full: read_whole ARCHIVE [COUNT]. If COUNT is `true`, its rows are counted on the way into `rows`, which
# stays empty if they cannot be counted. Only pg_restore decides whether the archive is sound: when the counting fails (a
# row that does not fit into memory, for example), the archive is read once more without it.
read_whole() {
  rows=
  if [ "${2-}" = true ] && count_rows "$1"; then return; fi
  rows=
  run pg_restore -f /dev/null "$1"
}

# A named pipe, so that the exit code of pg_restore is seen. Only the data section is written; the whole archive is still
# read.
count_rows() {
  run pg_restore -l "$1" >"$facts.list" || return 1
  rm -f "$facts.sql" && mkfifo "$facts.sql" || return 1
  awk -v apostrophe="'" "$row_counter" "$facts.list" - <"$facts.sql" >"$facts.rows" 2>/dev/null &
  counter=$! code=0
  set -- "$1" --section=data -f "$facts.sql"
  # Statistics are not rows. An older pg_restore neither writes them nor knows the option.
  case $(pg_restore --help) in *--no-statistics*) set -- "$@" --no-statistics ;; esac
  run pg_restore "$@" || code=$?
  # pg_restore may have ended before it opened the pipe; the counter would then wait forever.
  [ "$code" = 0 ] || kill "$counter" 2>/dev/null || :
  wait "$counter" || :
  rm -f "$facts.sql"
  [ "$code" = 0 ] || return 1
  IFS= read -r rows <"$facts.rows" || :
}

# A row of COPY is one line, whatever it contains, and `\.` ends the rows. Everything else is tracked by its quotes: a
# comment on a large object may look like a COPY, and a name may contain line breaks. The n-th COPY belongs to the n-th
# entry of the table of contents; if that entry has no TABLE of its own, it belongs to an extension, and its rows are not
# counted. Unless there is a COPY for each entry (with INSERTs there is not), nothing is printed.
# shellcheck disable=SC2016 # the dollars belong to awk
row_counter='
  copying {
    if ($0 != "\\.") rows++
    else {
      copying = 0
      if (!(data[blocks] in own)) rows = before
    }
    next
  }
  FNR == NR {
    if (match($0, /^[0-9]+; [0-9]+ [0-9]+ TABLE DATA /)) data[++entries] = substr($0, RLENGTH + 1)
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
  END { if (!copying && blocks == entries) printf "%.0f\n", rows }
'

# Write the archive's table of contents to $list and count its tables and sequences. Fails where pg_restore cannot read it.
list_archive() {
  run pg_restore -C -l "$archive" >"$list" || return 1
  tables=$(count_tables) sequences=$(entries ' SEQUENCE ' ' SEQUENCE (SET|OWNED BY) ')
  awk '$4 == "EXTENSION" { print $6 }' "$list" >"$BACKUP_RUN/extensions"
}

count_tables() { entries ' TABLE ' ' TABLE (DATA|ATTACH) '; }

# How many entries of $list have the first pattern after their numbers, and not the second.
entries() {
  awk -v want="^[0-9]+; [0-9]+ [0-9]+$1" -v not="^[0-9]+; [0-9]+ [0-9]+$2" \
    '$0 ~ want && $0 !~ not { n++ } END { print n + 0 }' "$list"
}

# Set `settings` to the archive's encoding and locale, for CREATE DATABASE. Only a statement of exactly this form is used.
database_settings() {
  awk '$4 == "DATABASE" && $5 == "-"' "$list" >"$list.database"
  run pg_restore -C --schema-only -L "$list.database" -f "$BACKUP_RESULTS/database.sql" "$archive" ||
    fail_with_stderr "the archive's database cannot be read"
  settings=$(sed -n "s/^CREATE DATABASE .* WITH TEMPLATE = template0 \(ENCODING = '[A-Za-z0-9_]*'[A-Za-z0-9_.@' =-]*\);\$/\1/p" \
    "$BACKUP_RESULTS/database.sql" | head -n 1)
  settings=${settings%% TABLESPACE = *}
}

# Write the roles that grants name to $BACKUP_RUN/roles, one a line; needed_roles owners adds the owners of objects. They are
# read from entries that hold no free text.
needed_roles() {
  awk -v owners="$1" '$4 == "ACL" || ($4 == "DEFAULT" && $5 == "ACL") ||
    (owners != "" && $4 ~ /^(TABLE|SCHEMA|SEQUENCE|TYPE|DOMAIN|FOREIGN)$/)' "$list" >"$list.roles"
  run pg_restore -f "$BACKUP_RESULTS/roles.sql" --schema-only -L "$list.roles" "$archive" ||
    fail_with_stderr "the archive's grants cannot be read"
  awk -v owners="$1" '
    function role(text) {
      sub(/^(GROUP )?/, "", text)
      if (substr(text, 1, 1) == "\"") {
        if (!match(text, /^"([^"]|"")*"/)) return
        text = substr(text, 2, RLENGTH - 2)
        gsub(/""/, "\"", text)
      } else if (match(text, /^[a-z_][a-z0-9_$]*/)) text = substr(text, 1, RLENGTH)
      else return
      print text
    }
    owners != "" && /^ALTER .* OWNER TO .*;$/ { match($0, /.* OWNER TO /); role(substr($0, RLENGTH + 1)) }
    /^(GRANT|ALTER DEFAULT PRIVILEGES) .* TO .*;$/ { match($0, /.* TO /); role(substr($0, RLENGTH + 1)) }
    /^SET SESSION AUTHORIZATION / { role(substr($0, 27)) }
    /^ALTER DEFAULT PRIVILEGES FOR ROLE / { role(substr($0, 35)) }
  ' "$BACKUP_RESULTS/roles.sql" | sort -u >"$BACKUP_RUN/roles"
  rm -f "$BACKUP_RESULTS/roles.sql"
}
