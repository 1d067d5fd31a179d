#!/bin/sh
# Without comments: they are in the project's file of this name.
look_at_owners() {
  [ "$superuser" = t ] || return 0
  special_objects
  [ -s "$BACKUP_RUN/special" ] || return 0
  : >"$BACKUP_RUN/kept"
  awk -v separator="$separator" -v keep_owners="$keep_owners" -v kept="$BACKUP_RUN/kept" '
    BEGIN { while ((getline line <ARGV[1]) > 0) super[line]; ARGV[1] = "" }
    FILENAME == ARGV[2] {
      split($0, field, separator)
      if (keep_owners != "" && field[3] in super) next
      name = field[2]
      gsub(/"/, "", name)
      unowned[field[1] " - " name " " field[3]]
      unowned["COMMENT - " field[1] " " name " " field[3]]
      print tolower(field[1]) " " field[2] >kept
      next
    }
    { rest = $0; sub(/^[0-9]+; [0-9]+ [0-9]+ /, "", rest); gsub(/"/, "", rest) }
    rest in unowned { print }' "$BACKUP_RUN/server.superusers" "$BACKUP_RUN/special" "$list" >"$list.unowned"
  [ ! -s "$BACKUP_RUN/kept" ] ||
    report "warning: only a superuser can own these, so they will belong to '$PGUSER': $(name_some "$BACKUP_RUN/kept")"
}

split_entries() {
  rm -f "$list.part".*
  if [ -n "$keep_owners" ]; then
    awk -v part="$list.part" '
      FILENAME == ARGV[1] { unowned[$0]; next }
      ($0 in unowned) && $4 != "FOREIGN" && !($4 == "COMMENT" && $6 == "FOREIGN") { print >(part ".last"); last = 1; next }
      { how = ($0 in unowned) ? "nobody" : "archive" }
      how != before { before = how; print how " " part "." ++n }
      { print >(part "." n) }
      END { if (last) print "nobody " part ".last" }' "$list.unowned" "$1" >"$list.parts"
  elif [ "$superuser" = t ]; then
    split_for_one_owner "$1"
  else
    echo "owner $1" >"$list.parts"
  fi
}

split_for_one_owner() {
  run pg_restore -l --section=pre-data "$archive" >"$list.predata" || unreadable
  awk -v part="$list.part" '
    { rest = $0; sub(/^[0-9]+; [0-9]+ [0-9]+ /, "", rest) }
    FILENAME == ARGV[1] {
      if (/^[0-9]/) first[$1]
      if (rest ~ /^(TABLE|SEQUENCE) /) { sub(/^[A-Z]+ /, "", rest); own[rest] }
      next
    }
    FILENAME == ARGV[2] { unowned[$0]; next }
    $4 == "ACL" || ($4 == "DEFAULT" && $5 == "ACL") || $4 ~ /^(PUBLICATION|SUBSCRIPTION)$/ ||
      ($4 == "COMMENT" && $6 ~ /^(PUBLICATION|SUBSCRIPTION)$/) || (($0 in unowned) && !($1 in first)) { print >(part ".last"); next }
    $1 in first { print >(part ".first"); next }
    sub(/^(TABLE DATA|SEQUENCE SET) /, "", rest) && !(rest in own) { print >(part ".first"); next }
    { print >(part ".most") }' "$list.predata" "$list.unowned" "$1"
  for part in 'nobody first' reassign 'owner most' 'nobody last' reassign; do
    case $part in
      reassign) echo "$part" ;;
      *) [ ! -e "$list.part.${part#* }" ] || echo "${part% *} $list.part.${part#* }" ;;
    esac
  done >"$list.parts"
}

with_owners() {
  case $1 in
    nobody) shift && set -- "$@" --no-owner ;;
    owner) shift && set -- "$@" --no-owner --role="$owner" ;;
    *) shift ;;
  esac
  "$@"
}

each_part() {
  while read -r how part <&4; do
    case $way,$how in
      beside,reassign) reassign_beside ;;
      beside,*) restore_part_beside "$how" "$part" ;;
      *,reassign) reassign_in_place ;;
      *) feed_part "$how" "$part" ;;
    esac || return 1
  done 4<"$list.parts"
}

reassign_beside() {
  ask "$new" -v owner="$owner" -v moment="$moment" <"${0%/*}/reassign.sql" || fail_with_stderr "the owners cannot be set"
}

reassign_in_place() { echo 'RESET ROLE; SET search_path = pg_catalog, pg_temp;' && cat "${0%/*}/reassign.sql"; }
