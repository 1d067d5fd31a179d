#!/bin/sh
# RESTORE_TABLES and RESTORE_SCHEMAS: which rows of an archive are restored. Sourced by restore.sh; it does nothing on its own.
#
# A name is what SQL takes, so "My Table" and "a.b"."C d" are quoted; without quotes, all up to the first dot is the schema.
# Inside these files a name is always quoted, and its line ends are the byte \036, so that each is one line.
#
# shellcheck disable=SC2034,SC2154 # variables are set for, or by, restore.sh and lib.sh

# shellcheck disable=SC2016 # the dollars belong to awk
name_reader='
  function quote(text) {
    gsub(/"/, "\"\"", text)
    gsub(/\n/, "\036", text)
    return "\"" text "\""
  }
  # The quoted name at the beginning of `text`, which then holds what follows it; empty if its quote is not closed.
  function quoted(  found) {
    if (!match(text, /^"([^"]|"")+"/)) return ""
    found = substr(text, 1, RLENGTH)
    text = substr(text, RLENGTH + 1)
    gsub(/\n/, "\036", found)
    return found
  }
'

# The names of a list, separated by commas, blanks or line ends outside quotes, one a line: names_of LIST table|schema. Fails
# with what cannot be read as a name on standard output.
names_of() {
  NAMES=$1 awk -v kind="$2" "$name_reader"'
    function wrong(what) { print what; exit 1 }
    BEGIN {
      text = ENVIRON["NAMES"]
      while (1) {
        sub(/^[[:space:],]+/, "", text)
        if (text == "") break
        from = text
        parts = 0
        while (1) {
          if (text ~ /^"/) {
            if ((part[++parts] = quoted()) == "") wrong(from)
          } else {
            if (!match(text, kind == "table" && !parts ? "^[^\"[:space:],.]+" : "^[^\"[:space:],]+")) wrong(from)
            part[++parts] = quote(substr(text, 1, RLENGTH))
            text = substr(text, RLENGTH + 1)
          }
          if (kind == "table" && parts == 1 && text ~ /^\./) { text = substr(text, 2); continue }
          if (text !~ /^([[:space:],]|$)/) wrong(from)
          break
        }
        if (kind == "schema") names = names part[1] "\n"
        else names = names (parts == 1 ? "\"public\"." part[1] : part[1] "." part[2]) "\n"
      }
      printf "%s", names
    }'
}

# Write the selection to $BACKUP_RUN/wanted, one `table NAME` or `schema NAME` a line.
read_selection() {
  : >"$BACKUP_RUN/wanted"
  for kind in tables schemas; do
    eval "value=\$${kind}_wanted"
    names=$(names_of "$value" "${kind%s}") ||
      usage "RESTORE_$(echo "$kind" | tr '[:lower:]' '[:upper:]') has something that is not a name: $(printf %.200s "$names" | tr '[:cntrl:]' ' ')"
    [ -z "$names" ] || printf '%s\n' "$names" | sed "s/^/${kind%s} /" >>"$BACKUP_RUN/wanted"
  done
}

# Keep only the rows of the selection, but all definitions, since a table alone lacks the types and schemas that it needs.
# Foreign keys are left out, since the rows that they point to may be missing, and with them what depends on them, such as
# their comments.
select_entries() {
  [ -n "$tables_wanted$schemas_wanted" ] || return 0
  name_tables
  awk "$entry_selector" file=1 "$BACKUP_RUN/tables" file=2 "$BACKUP_RUN/wanted" file=3 "$list" >"$list.rows"
  while IFS= read -r missing <&3; do
    [ -z "$missing" ] || refuse_unknown "$missing"
  done 3<<LINES
$(sed -n 's/^missing //p' "$list.rows")
LINES
  # With -v, the list names what each entry depends on.
  run pg_restore -l -v "$archive" >"$list.verbose" || unreadable
  awk '
    file == 1 { rows[$1]; next }
    file == 2 && /^[0-9]+; / { id = $1; if (/^[0-9]+; [0-9]+ [0-9]+ FK CONSTRAINT /) out[id]; next }
    # An entry is listed after those that it depends on.
    file == 2 && /^;\tdepends on:/ { for (n = 4; n <= NF; n++) if (($n ";") in out) out[id] }
    file == 3 && !($1 in out) && (!/^[0-9]+; [0-9]+ [0-9]+ (TABLE DATA|BLOBS) / || ($1 in rows))
  ' file=1 "$list.rows" file=2 "$list.verbose" file=3 "$list" >"$list.selected"
  mv "$list.selected" "$list"
  rm -f "$list.verbose"
}

# Write the exact names of the archive's tables to $BACKUP_RUN/tables, one `OID NAME` a line, with `partitioned` after it where
# that is so. The table of contents separates schema, name and owner by blanks, which each of them may contain.
name_tables() {
  awk '/^[0-9]+; [0-9]+ [0-9]+ TABLE / && !/^[0-9]+; [0-9]+ [0-9]+ TABLE (DATA|ATTACH) /' "$list" >"$list.tables"
  : >"$BACKUP_RUN/tables"
  [ -s "$list.tables" ] || return 0
  run pg_restore -v --schema-only --no-owner -L "$list.tables" -f "$list.sql" "$archive" ||
    fail_with_stderr "the archive's tables cannot be read"
  awk "$name_reader"'
    /^-- TOC entry [0-9]+ \(class 1259 OID [0-9]+\)$/ { oid = $NF + 0; statement = ""; next }
    oid == "" { next }
    /^PARTITION BY / && done == oid { partitioned = 1 }
    done == oid { if (/;$/) { print line (partitioned ? " partitioned" : ""); oid = "" } next }
    statement == "" && !/^CREATE (UNLOGGED )?TABLE / { next }
    {
      statement = statement (statement == "" ? "" : "\n") $0
      text = statement
      sub(/^CREATE (UNLOGGED )?TABLE /, "", text)
      line = part(".")
      if (line == "") next
      text = substr(text, 2)
      name = part(" ")
      if (name == "") next
      line = oid " " line "." name
      done = oid
      partitioned = 0
      if (/;$/) { print line; oid = "" }
    }
    function part(end,  found) {
      if (text ~ /^"/) { found = quoted(); return substr(text, 1, 1) == end ? found : "" }
      if (!match(text, "^[^\" ." "]+") || substr(text, RLENGTH + 1, 1) != end) return ""
      found = quote(substr(text, 1, RLENGTH))
      text = substr(text, RLENGTH + 1)
      return found
    }
  ' "$list.sql" >"$BACKUP_RUN/tables"
  rm -f "$list.sql"
}

# Reads the tables, the wanted names and the table of contents; prints the identifiers of the entries of their rows, and
# `missing …` for what has none. Rows without a table in the archive are an extension's, and known by the list alone.
# shellcheck disable=SC2016 # the dollars belong to awk
entry_selector='
  function plain(name) {
    name = substr(name, 2, length(name) - 2)
    gsub(/""/, "\"", name)
    gsub(/[\036\r]/, " ", name)
    return name
  }
  file == 1 {
    oid = $1
    sub(/^[0-9]+ /, "")
    sub(/ partitioned$/, "")
    name[oid] = $0
    match($0, /^"([^"]|"")+"/)
    schema[oid] = substr($0, 1, RLENGTH)
    next
  }
  file == 2 { wanted[++count] = $0; next }
  !match($0, /^[0-9]+; [0-9]+ [0-9]+ TABLE DATA /) { next }
  {
    rest = substr($0, RLENGTH + 1)
    for (n = 1; n <= count; n++) {
      kind = wanted[n]
      what = substr(kind, index(kind, " ") + 1)
      sub(/ .*/, "", kind)
      if ($3 in name) hit = (kind == "table" ? name[$3] : schema[$3]) == what
      else if (kind == "schema") hit = index(rest, plain(what) " ") == 1
      else {
        match(what, /^"([^"]|"")+"/)
        hit = index(rest, plain(substr(what, 1, RLENGTH)) " " plain(substr(what, RLENGTH + 2)) " ") == 1
      }
      if (hit) { print $1; found[n] }
    }
  }
  END { for (n = 1; n <= count; n++) if (!(n in found)) print "missing " wanted[n] }
'

# End the restore over a wanted name that has no rows in the archive: refuse_unknown 'table NAME'.
refuse_unknown() {
  case $1 in
    schema*)
      fail "the archive has no rows in schema $(bare_name "${1#schema }")" \
        "$(cut -d ' ' -f 2- "$BACKUP_RUN/tables" | close_names "${1#schema }" schema | alternatives "name another schema")"
      ;;
  esac
  wanted=${1#table }
  if cut -d ' ' -f 2- "$BACKUP_RUN/tables" | grep -Fqx -e "$wanted partitioned"; then
    fail "the archive has no rows of $(bare_name "$wanted"), which is partitioned: its partitions have them" \
      "$(partitions_of "$wanted" | alternatives "name its partitions")"
  fi
  fail "the archive has no rows of $(bare_name "$wanted")" \
    "$(sed 's/^[0-9]* //; s/ partitioned$//' "$BACKUP_RUN/tables" | close_names "$wanted" table | alternatives "name a table of the archive")"
}

# A name as one would write it, for a message: without quotes where it needs none.
bare_name() { printf '%s\n' "$1" | printable | sed "s/\"\([a-z_][a-z0-9_\$]*\)\"/\1/g; s/.*/'&'/"; }

# What to do, with the names on standard input: alternatives TEXT.
alternatives() {
  printable | sed 's/"\([a-z_][a-z0-9_$]*\)"/\1/g' | awk -v text="$1" '
    NR <= 20 { names = names (NR > 1 ? ", " : "") $0 }
    END {
      if (NR > 20) names = names " and " (NR - 20) " more"
      print text (names == "" ? "; see the archive'"'"'s contents with pg_restore -l" : ": " names)
    }'
}

# Names that resemble the one that was asked for: the same without regard to case and schema, or one within the other. Where
# nothing resembles it and there are few names, all of them.
close_names() {
  WANTED=$1 awk -v kind="$2" '
    function last(name) { return match(name, /"([^"]|"")+"$/) ? tolower(substr(name, RSTART + 1, RLENGTH - 2)) : name }
    BEGIN { wanted = last(ENVIRON["WANTED"]) }
    kind == "schema" { match($0, /^"([^"]|"")+"/); $0 = substr($0, 1, RLENGTH); if (seen[$0]++) next }
    {
      own = last($0)
      all[++count] = $0
      if (own == wanted || index(own, wanted) || index(wanted, own)) close_by[++found] = $0
    }
    END {
      for (n = 1; n <= found; n++) print close_by[n]
      if (!found && count <= 20) for (n = 1; n <= count; n++) print all[n]
    }'
}

# The partitions of a table, by the statements that attach them.
partitions_of() {
  awk '/^[0-9]+; [0-9]+ [0-9]+ TABLE ATTACH /' "$list" >"$list.tables"
  [ -s "$list.tables" ] || return 0
  run pg_restore --schema-only --no-owner -L "$list.tables" -f "$list.sql" "$archive" || return 1
  WANTED=$1 awk "$name_reader"'
    function part(  found) {
      if (text ~ /^"/) return quoted()
      match(text, /^[^" .]+/)
      found = quote(substr(text, 1, RLENGTH))
      text = substr(text, RLENGTH + 1)
      return found
    }
    function table(  found) { found = part(); text = substr(text, 2); return found "." part() }
    /^ALTER TABLE ONLY / || statement != "" {
      statement = statement (statement == "" ? "" : "\n") $0
      if (!/;$/) next
      text = substr(statement, 18)
      statement = ""
      parent = table()
      if (parent == ENVIRON["WANTED"] && sub(/^ ATTACH PARTITION /, "", text)) print table()
    }' "$list.sql"
  rm -f "$list.sql"
}
