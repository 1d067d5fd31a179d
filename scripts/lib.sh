#!/bin/sh
# What dump.sh, restore.sh and drill.sh share: first what all of them use, then what reads an archive; they read it with `.`, on its own it does nothing.
#
# Whoever reads it brings `fail ERROR [REMEDY]`, which ends the work on one database, `remedy_for ERROR`, and sets
# database, conf, result, facts, stderr, credentials_of and ca_of before calling what uses them.
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

# A result is a file of key=value lines. `put KEY VALUE` adds one to it, write_result NAME publishes it: in full or not at all.
put() { printf '%s=%s\n' "$1" "$2" >>"$result"; }

warn() {
  put warning "$1"
  log "$database" "warning: $1"
}

put_failure() { put state "$1" && put error "$2" && put remedy "$3"; }

write_result() {
  cp "$result" "$BACKUP_RESULTS/.$1.new"
  mv "$BACKUP_RESULTS/.$1.new" "$BACKUP_RESULTS/$1"
}

# The result of work on a database that ended without writing one: write_failure NAME STATE ERROR REMEDY [BASE].
write_failure() {
  result=$BACKUP_RUN/$1.failure
  : >"$result"
  put database "$database"
  [ -z "${5-}" ] || put base "$5"
  put_failure "$2" "$3" "$4"
  put started "$(now)" && put finished "$(now)"
  write_result "$1"
  log "$database" "FAILED: ${5:+$5.dump: }$3"
}

# Read the key=value lines of a file into variables: read_pairs PREFIX FILE [KEY…]. Each KEY must have a value; other keys
# may be there, they are for other readers of the file. Of a repeated key the last line counts. Where it fails, `problem`
# says why. Only a key is ever evaluated, after it has passed the check; a value never is.
read_pairs() {
  prefix=$1 file=$2
  shift 2
  for key; do unset "$prefix$key"; done
  while IFS= read -r line || [ -n "$line" ]; do
    case $line in *=*) key=${line%%=*} value=${line#*=} ;; *) key='' ;; esac
    case $key in
      '' | *[!a-z0-9_]*) problem="a line is not key=value: $(printf %s "$line" | tr -d '[:cntrl:]')" && return 1 ;;
    esac
    case $value in *[[:cntrl:]]*) problem="$key holds a control character" && return 1 ;; esac
    eval "$prefix$key=\$value"
  done <"$file"
  for key; do
    eval "value=\${$prefix$key-}"
    [ -n "$value" ] || { problem="$key is missing" && return 1; }
  done
}

# Read $conf into variables conf_*: what is used here, and the caller's KEYs. Its extra_arg lines are read where they are used.
read_config() {
  conf_username=''
  read_pairs conf_ "$conf" database cluster namespace dbname host port sslmode "$@" ||
    case $problem in
      *"control character") fail "$conf: $problem" "correct it in values" ;;
      *) fail "$conf: $problem" "chart and scripts are not of one version" ;;
    esac
  [ "$conf_database" = "$database" ] || fail "$conf: database=$conf_database does not fit the file's name" "correct it"
  check_numbers wait_timeout
}

check_numbers() {
  for key; do
    eval "value=\${conf_$key-}"
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

# A quoted list for SQL of the lines of a file.
values_of() { sed "s/'/''/g; s/.*/('&')/" "$1" | awk '{ printf "%s%s", (NR > 1 ? ", " : ""), $0 }'; }

# Relations that are nobody's but the user's: neither the system's nor an extension's.
own_relations="FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
  WHERE n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' AND NOT EXISTS (SELECT FROM pg_depend d
    WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')"

# Read the request in file $1, see docs/architecture.md, into variables req_*; `usage` ends the program.
read_request() {
  req_database_bytes='' req_expected_seconds='' req_tables='' req_rows=''
  read_pairs req_ "$1" database base sha256 bytes dbname server_version ||
    usage "$1: $problem; chart and scripts are not of one version"
  is_number "$req_rows" || req_rows=''
}
