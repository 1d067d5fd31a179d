#!/bin/sh
# What dump.sh, restore.sh and drill.sh share: first what all of them use, then what reads an archive; they read it with `.`, on its own it does nothing.
#
# Whoever reads it brings `fail ERROR [REMEDY]`, which ends the work on one database, `remedy_for ERROR`, and sets
# database, conf, facts, stderr, credentials_of and ca_of before calling what uses them.
#
# shellcheck disable=SC2034,SC2154 # set for, or by, those who read it

now() { date +%s; }

# The log as it was at the start: a signal may be acted upon while a command's output goes to a file, and what is said of it
# must not go there too.
exec 8>&1
log() { printf '%s: %s\n' "$1" "$2" >&8; }

# Run a command so that a signal is acted upon at once: a shell attends to it only while it waits.
child=
stderr=/dev/null
run() {
  "$@" 2>"$stderr" &
  child=$!
  status=0
  wait "$child" || status=$?
  child=
  return "$status"
}

# End what was started last, and wait until it is gone.
end_child() {
  [ -n "$child" ] || return 0
  kill -TERM "$child" 2>/dev/null || :
  wait "$child" 2>/dev/null || :
}

# What PostgreSQL's tools said, as one line without DETAIL, CONTEXT or data. For a failed COPY the reason stands in
# the server's own message.
first_error() {
  awk '
    NR == 1 { first = $0 }
    line == "" && /(error|ERROR|FATAL): / { line = $0 }
    server == "" && /Error message from server: / { server = $0; sub(/.*Error message from server: */, "", server) }
    END {
      if (line == "") line = first
      if (server != "" && line !~ /ERROR: /) line = line " " server
      gsub(/[[:cntrl:]]/, " ", line)
      print substr(line, 1, 400)
    }' "$stderr"
}

# What helps against an error that any of the programs may meet; fails where nothing is known.
common_remedy() {
  case $1 in
    *"password authentication failed"*) echo "the Secret's username or password is not the role's; compare $credentials_of" ;;
    *"does not match host name"*) echo "the server's certificate lacks this host name; correct 'host', or set sslmode: verify-ca" ;;
    *certificate* | *SSL*) echo "the CA file is not this server's; compare $ca_of, or set sslmode for a server without TLS" ;;
    *"could not translate host name"*) echo "no such host: is the cluster's name and namespace right, and DNS egress allowed?" ;;
    *refused* | *"timeout expired"* | *"timed out"* | *"No route"*) echo "is the cluster up and healthy, and is egress to it allowed?" ;;
    *) return 1 ;;
  esac
}

mebibytes() { echo "$((($1 + 1048575) / 1048576)) MiB"; }

# A whole number that shell arithmetic holds.
is_number() {
  case $1 in '' | *[!0-9]* | ????????????????*) return 1 ;; esac
}

# Read $BACKUP_CONFIG/$database.conf into variables conf_*; extra_arg lines are read where they are used.
read_config() {
  conf_timeout=''
  conf_database='' conf_cluster='' conf_namespace='' conf_dbname='' conf_host='' conf_standby_host='' conf_port=''
  conf_sslmode='' conf_username='' conf_compression='' conf_wait_timeout='' conf_lock_timeout=''
  conf_lock_wait_timeout='' conf_retries='' conf_allow_empty='' conf_count_rows='' conf_max_bytes='' conf_min_backups=''
  conf_most_backups=''
  while IFS= read -r line || [ -n "$line" ]; do
    value=${line#*=}
    case $value in *[[:cntrl:]]*) fail "$conf: ${line%%=*} holds a control character" "correct it in values" ;; esac
    case $line in
      database=* | cluster=* | namespace=* | dbname=* | host=* | standby_host=* | port=* | sslmode=* | username=* | \
        compression=* | timeout=* | wait_timeout=* | lock_timeout=* | lock_wait_timeout=* | retries=* | allow_empty=* | \
        count_rows=* | max_bytes=* | min_backups=* | most_backups=*)
        # The variable's name is one of those above, the value is not evaluated.
        eval "conf_${line%%=*}=\$value"
        ;;
      on_shrink=* | allow_large_prune=* | large_prune_percent=*) ;; # for `retention finish`
      extra_arg=*) ;;
      *) fail "$conf: unknown line '$line'" "chart and scripts are not of one version" ;;
    esac
  done <"$conf"
}

check_config() {
  [ "$conf_database" = "$database" ] || fail "$conf: database=$conf_database does not fit the file's name" "correct it"
  for key in cluster namespace dbname host port sslmode compression; do
    eval "value=\$conf_$key"
    [ -n "$value" ] || fail "$conf: $key is missing" "chart and scripts are not of one version"
  done
  for key in timeout wait_timeout lock_timeout lock_wait_timeout retries max_bytes min_backups most_backups; do
    eval "value=\$conf_$key"
    is_number "$value" || fail "$conf: $key='$value' is not a whole number" "correct it in values"
  done
}

# libpq takes all it needs from the environment and from files, so that nothing secret is an argument, and a database
# called `a=b` or `postgresql://x` is a name and no connection string.
# set_credentials [PREFIX]: of the files username and password, or of those whose names begin with PREFIX.
set_credentials() {
  own=$BACKUP_CREDENTIALS/$database
  PGUSER=
  [ -n "${1-}" ] || PGUSER=$conf_username
  [ -n "$PGUSER" ] || PGUSER=$(cat "$own/${1-}username" 2>/dev/null) || :
  [ -n "$PGUSER" ] || fail "no user name" "there is none in $credentials_of; does the Secret exist?"
  password=$(cat "$own/${1-}password" 2>/dev/null) || :
  [ -n "$password" ] || fail "no password" "there is none in $credentials_of; does the Secret exist?"
  case $password in *[[:cntrl:]]*) fail "the password holds a control character" "correct $credentials_of" ;; esac
  PGPASSFILE=$BACKUP_RUN/$database.pgpass
  { printf '*:*:*:*:' && printf '%s\n' "$password" | sed 's/[\\:]/\\&/g'; } >"$PGPASSFILE"
  unset password PGPASSWORD PGSERVICE PGSERVICEFILE PGHOSTADDR PGOPTIONS PGSSLROOTCERT PGSSLCERT PGSSLKEY PGCLIENTENCODING
  case $conf_sslmode in
    verify-ca | verify-full)
      [ -s "$own/ca.crt" ] || fail "no CA certificate for sslmode=$conf_sslmode" "there is none in $ca_of; does the Secret exist?"
      PGSSLROOTCERT=$own/ca.crt
      export PGSSLROOTCERT
      ;;
  esac
  PGDATABASE=$conf_dbname PGPORT=$conf_port PGSSLMODE=$conf_sslmode PGAPPNAME=cnpg-backup PGCONNECT_TIMEOUT=10
  export PGUSER PGPASSFILE PGDATABASE PGPORT PGSSLMODE PGAPPNAME PGCONNECT_TIMEOUT
}

ask_primary() { PGHOST=$conf_host PGTARGETSESSIONATTRS=any && export PGHOST PGTARGETSESSIONATTRS; }

# Ask the server what it is; poll until it answers or wait_timeout is over. What waiting cannot cure fails at once: a wrong
# password does, unless `patient` says that the right one may be about to be set.
wait_for_server() {
  until=$(($(now) + conf_wait_timeout))
  until run psql -XAtqw -F '|' -c "SELECT current_setting('server_version_num'),
    split_part(current_setting('server_version'), ' ', 1), pg_is_in_recovery(),
    pg_database_size(current_database())" >"$facts"; do
    error=$(first_error)
    case ${patient:-}$error in
      yes*"authentication failed"*) ;;
      *"authentication failed"* | *certificate* | *SSL* | *pg_hba.conf* | *"does not exist"* | *"permission denied"*) fail "$error" ;;
    esac
    [ "$(now)" -lt "$until" ] || fail "no answer within $conf_wait_timeout s: $error" "$(remedy_for "$error")"
    run sleep 1
  done
  IFS='|' read -r server_num server_version recovery database_bytes <"$facts"
  role=primary
  [ "$recovery" = f ] || role=standby
}

# The error without the name of the program and of its file, or the words for the case that it said nothing.
fail_with_stderr() {
  error=$(first_error)
  case $error in psql:* | pg_restore:*) error=${error#*: } && error=${error#error: } ;; esac
  fail "${error:-$1}"
}

# ask DATABASE [psql's arguments]: run the SQL on standard input, in one session; its answer is $facts, columns apart by
# a byte that no name holds. Values come in as psql's variables, which quotes them.
ask() {
  PGDATABASE=$1
  shift
  cat >"$BACKUP_RUN/query.sql"
  run psql -XAtqw -v ON_ERROR_STOP=1 -F "$separator" "$@" -f "$BACKUP_RUN/query.sql" >"$facts"
}

separator=$(printf '\037')

# The request in file $1, see docs/architecture.md, into variables req_*; `usage` ends the program.
read_request() {
  req_database='' req_base='' req_sha256='' req_bytes='' req_dbname='' req_server_version='' req_database_bytes=''
  req_expected_seconds='' req_tables='' req_rows=''
  while IFS= read -r line || [ -n "$line" ]; do
    case $line in
      database=* | base=* | sha256=* | bytes=* | dbname=* | server_version=* | \
        tables=* | rows=* | database_bytes=* | expected_seconds=*)
        eval "req_${line%%=*}=\${line#*=}"
        ;;
    esac
  done <"$1"
  for key in database base sha256 bytes dbname server_version; do
    eval "value=\$req_$key"
    [ -n "$value" ] || usage "$1: $key is missing; chart and scripts are not of one version"
  done
  is_number "$req_rows" || req_rows=''
}

# Read an archive whole: read_whole ARCHIVE [COUNT]. With `true` its rows are counted on the way into `rows`, which stays
# empty where nobody can say. Only pg_restore says whether the archive is whole: what goes wrong with the counting (a row
# that no memory holds, for one) makes it read once more.
read_whole() {
  rows=
  if [ "${2-}" = true ] && count_rows "$1"; then return; fi
  rows=
  run pg_restore -f /dev/null "$1"
}

# No pipe stands between pg_restore and its exit code. The data section alone is written, which reads as much.
count_rows() {
  run pg_restore -l "$1" >"$facts.list" || return 1
  rm -f "$facts.sql" && mkfifo "$facts.sql" || return 1
  awk -v apostrophe="'" "$row_counter" "$facts.list" - <"$facts.sql" >"$facts.rows" 2>/dev/null &
  counter=$! code=0
  set -- "$1" --section=data -f "$facts.sql"
  # Statistics are no rows; older ones neither write them nor know the option.
  case $(pg_restore --help) in *--no-statistics*) set -- "$@" --no-statistics ;; esac
  run pg_restore "$@" || code=$?
  # It may have ended before it opened the pipe, for which its reader would wait for ever.
  [ "$code" = 0 ] || kill "$counter" 2>/dev/null || :
  wait "$counter" || :
  rm -f "$facts.sql"
  [ "$code" = 0 ] || return 1
  IFS= read -r rows <"$facts.rows" || :
}

# A row of COPY is one line, whatever is in it, and `\.` ends them. All else is told apart by its quotes: a comment on a
# large object may look like a COPY, and a name may hold line ends. The n-th COPY is that of the n-th entry of the table of
# contents; one without a table of its own is an extension's, and counts for nothing. Where there is not a COPY for each
# entry (as with INSERTs) nothing is known.
# shellcheck disable=SC2016 # the dollars are awk's
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

# The archive's table of contents: in full, and what is counted of it. Fails where pg_restore cannot read it.
list_archive() {
  run pg_restore -C -l "$archive" >"$list" || return 1
  tables=$(entries ' TABLE ' ' TABLE (DATA|ATTACH) ') sequences=$(entries ' SEQUENCE ' ' SEQUENCE (SET|OWNED BY) ')
  awk '$4 == "EXTENSION" { print $6 }' "$list" >"$BACKUP_RUN/extensions"
}

# How many entries of the table of contents have the first pattern after their numbers, and not the second.
entries() {
  awk -v want="^[0-9]+; [0-9]+ [0-9]+$1" -v not="^[0-9]+; [0-9]+ [0-9]+$2" \
    '$0 ~ want && $0 !~ not { n++ } END { print n + 0 }' "$list"
}

# A quoted list for SQL of the lines of a file.
values_of() { sed "s/'/''/g; s/.*/('&')/" "$1" | awk '{ printf "%s%s", (NR > 1 ? ", " : ""), $0 }'; }

# Relations that are nobody's but the user's: neither the system's nor an extension's.
own_relations="FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
  WHERE n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' AND NOT EXISTS (SELECT FROM pg_depend d
    WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')"

# Encoding and locale as in the archive, for CREATE DATABASE; of its statement only what cannot be anything else is used.
database_settings() {
  awk '$4 == "DATABASE" && $5 == "-"' "$list" >"$list.database"
  run pg_restore -C --schema-only -L "$list.database" -f "$BACKUP_RESULTS/database.sql" "$archive" ||
    fail_with_stderr "the archive's database cannot be read"
  settings=$(sed -n "s/^CREATE DATABASE .* WITH TEMPLATE = template0 \(ENCODING = '[A-Za-z0-9_]*'[A-Za-z0-9_.@' =-]*\);\$/\1/p" \
    "$BACKUP_RESULTS/database.sql" | head -n 1)
  settings=${settings%% TABLESPACE = *}
}

# Roles that the archive's objects belong to or grants name, one a line. Read from entries that hold no free text.
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
