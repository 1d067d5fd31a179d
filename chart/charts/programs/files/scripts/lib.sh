#!/bin/sh
# Without comments: they are in the project's file of this name.
now() { date +%s; }

seconds() {
  if read -r uptime _ 2>/dev/null </proc/uptime; then echo "${uptime%%.*}"; else now; fi
}

exec 8>&1
log() {
  case $2 in *[!\ -~]*) set -- "$1" "$(as_utf8 "$2")" ;; esac
  printf '%s: %s\n' "$1" "$2" >&8
}

child='' counter=''
stderr=/dev/null
run() {
  "$@" 2>"$stderr" &
  child=$!
  status=0
  wait "$child" || status=$?
  child=
  return "$status"
}

end_child() {
  [ -z "$child" ] || kill -TERM "$child" 2>/dev/null || :
  [ -z "$child" ] || wait "$child" 2>/dev/null || :
  [ -z "$counter" ] || kill -KILL "$counter" 2>/dev/null || :
}

make_pipe() { rm -f "$1" && mkfifo "$1" && exec 7<>"$1" && exec 5>"$1" 6<"$1" 7>&- && rm -f "$1"; }
to_pipe() { exec "$@" >&5 5>&-; }
messages_to_pipe() { exec "$@" 2>&5 5>&-; }
from_pipe() { exec "$@" <&6 6<&-; }

first_error() {
  awk '
    NR == 1 { first = $0 }
    /(error|ERROR|FATAL): / { errors++ }
    line == "" && errors { line = $0 }
    server == "" && /Error message from server: / { server = $0; sub(/.*Error message from server: */, "", server) }
    hint == "" && errors == 1 && sub(/^(pg_[a-z]+: )?(HINT|hint): */, "") { hint = $0 }
    END {
      if (line == "") line = first
      if (server != "" && line !~ /ERROR: /) line = line " " server
      line = substr(line, 1, 400)
      if (hint != "") line = line " (hint: " substr(hint, 1, 200) ")"
      gsub(/[[:cntrl:]]/, " ", line)
      print line
    }' "$stderr"
}

lost_tls() {
  case $1 in *"SSL SYSCALL error"* | *"SSL connection has been closed"* | *"SSL error: unexpected eof"*) ;; *) return 1 ;; esac
}

common_remedy() {
  ! lost_tls "$1" || set -- "server closed the connection"
  case $1 in
    *"password authentication failed"*) echo "correct the user name or the password in $credentials_of" ;;
    *"does not match host name"*) echo "the server's certificate does not name this host: correct 'host', or set sslmode: verify-ca" ;;
    *"server closed the connection"* | *"terminating connection"*)
      echo "the connection was lost: look for a restart, a failover or a crash in the server's log, then run it again"
      ;;
    *certificate* | *SSL*) echo "check that $ca_of holds the CA of this server, or set sslmode for a server without TLS" ;;
    *"could not translate host name"*)
      echo "check the cluster's name and namespace, that DNS egress is allowed, and, if the pods' ndots is below 3, set 'host' to the full name"
      ;;
    *refused* | *"timeout expired"* | *"timed out"* | *"No route"*)
      echo "check that the cluster is up and healthy, and that NetworkPolicies allow egress from here and ingress in its namespace"
      ;;
    *"not permitted to log in"*) echo "ALTER ROLE ... LOGIN, or name another role in $credentials_of" ;;
    *"not currently accepting connections"*) echo "ALTER DATABASE ... ALLOW_CONNECTIONS true, or set suspended: true for this entry" ;;
    *"out of shared memory"*) echo "raise max_locks_per_transaction in the cluster's PostgreSQL parameters" ;;
    *) return 1 ;;
  esac
}

image_of_major() {
  echo "add to the entry '${conf_entry:-$database}' of databases, or for all of them at the top of the values: image: {tag: $1-alpine}"
}

mebibytes() { echo "$((($1 + 1048575) / 1048576)) MiB"; }

is_number() {
  case $1 in '' | *[!0-9]* | ????????????????*) return 1 ;; esac
}

version_mismatch="chart and scripts are of different versions"

line_end='
'
pairs=''
put() {
  case $2 in *[!\ -~]*) set -- "$1" "$(as_utf8 "$2")" ;; esac
  pairs=$pairs$1=$2$line_end
}

as_utf8() {
  printf '%s\n' "$1" | awk '
    BEGIN {
      more = "[\200-\277]"
      two = "[\302-\337]" more
      three = "\340[\240-\277]" more "|[\341-\354\356\357]" more more "|\355[\200-\237]" more
      four = "\360[\220-\277]" more more "|[\361-\363]" more more more "|\364[\200-\217]" more more
      valid = "^([\001-\177]|" two "|" three "|" four ")+"
    }
    {
      for (rest = $0; rest != ""; rest = substr(rest, taken + 1)) {
        taken = match(rest, valid) ? RLENGTH : 1
        printf "%s", RSTART ? substr(rest, 1, taken) : "?"
      }
    }'
}

warn() {
  put warning "$1"
  log "$database" "warning: $1"
}

put_failure() { put state "$1" && put error "$2" && put remedy "$3"; }

write_text() { printf %s "$1" | cat >"$2"; }

prepare_result() { write_text "$pairs" "$BACKUP_RESULTS/.$1.new"; }

write_result() { prepare_result "$1" && mv "$BACKUP_RESULTS/.$1.new" "$BACKUP_RESULTS/$1"; }

write_failure() {
  pairs=''
  put database "$database"
  [ -z "${5-}" ] || put base "$5"
  put_failure "$2" "$3" "$4"
  put started "$(now)" && put finished "$(now)"
  log "$database" "FAILED: ${5:+$5.dump: }$3"
  write_result "$1" || log "$database" "its result cannot be written to $BACKUP_RESULTS"
}

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

read_config() {
  conf_username='' conf_entry=''
  read_pairs conf_ "$conf" database cluster namespace dbname host port sslmode "$@" ||
    case $problem in
      *"control character") fail "$conf: $problem" "correct it in the chart's values" ;;
      *) fail "$conf: $problem" "$version_mismatch" ;;
    esac
  [ "$conf_database" = "$database" ] || fail "$conf: database=$conf_database does not match the file's name" "correct it"
  check_numbers wait_timeout
}

check_numbers() {
  for key; do
    eval "value=\${conf_$key-}"
    is_number "$value" || fail "$conf: $key='$value' is not a whole number" "correct it in the chart's values"
  done
}

set_credentials() {
  own=$BACKUP_CREDENTIALS/${conf_entry:-$database}
  PGUSER=$(cat "$own/${1-}username" 2>/dev/null) || :
  password=$(cat "$own/${1-}password" 2>/dev/null) || :
  [ ! -s "$own/${1-}uri" ] || read_uri "$own/${1-}uri"
  [ -n "${1-}" ] || PGUSER=${conf_username:-$PGUSER}
  [ -n "$PGUSER" ] || fail "no user name" "there is none in $credentials_of; does the Secret exist?"
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

read_uri() {
  uri=$(cat "$1") || :
  case $uri in
    *[[:space:][:cntrl:]]*) refuse_uri "holds a blank or a line end" ;;
    postgresql://* | postgres://* | postgresql+[a-z]*://*) ;;
    *) refuse_uri "does not begin with postgresql://" ;;
  esac
  uri=${uri#*://}
  login=${uri%%/*}
  case $login in
    *:*@*) uri=${login#*@} login=${login%%@*} ;;
    *) refuse_uri "has no user:password@ before the host" ;;
  esac
  case ${uri%%[?#]*} in *@*) refuse_uri "has more than one @ before the host" ;; esac
  case $login in *:*) ;; *) refuse_uri "has no user:password@ before the host" ;; esac
  decode_uri "${login%%:*}" && PGUSER=$decoded
  decode_uri "${login#*:}" && password=$decoded
  unset uri login decoded encoded
}

refuse_uri() {
  unset uri login decoded encoded
  fail "the URI of the login $1" \
    "correct it in $credentials_of: postgresql://user:password@host, where %40 stands for @, %2F for /, %3A for : and %25 for %"
}

decode_uri() {
  encoded=$1 decoded=''
  while :; do
    case $encoded in *%*) ;; *) break ;; esac
    decoded=$decoded${encoded%%"%"*}
    encoded=${encoded#*"%"}
    case $encoded in
      [01][0-9A-Fa-f]* | 7[Ff]*) refuse_uri "holds a control character" ;;
      [2-9A-Fa-f][0-9A-Fa-f]*) ;;
      *) refuse_uri "has a % without two hexadecimal digits" ;;
    esac
    byte=${encoded%"${encoded#??}"} encoded=${encoded#??}
    decoded=$decoded$(printf "\\$(printf %03o "0x$byte")")
  done
  decoded=$decoded$encoded
}

ask_primary() { PGHOST=$conf_host PGTARGETSESSIONATTRS=any && export PGHOST PGTARGETSESSIONATTRS; }

wait_for_server() {
  until=$(($(seconds) + conf_wait_timeout))
  until run psql -XAtqw -F '|' -c "$preamble" -c "SELECT current_setting('server_version_num'),
    split_part(current_setting('server_version'), ' ', 1), pg_is_in_recovery(),
    pg_database_size(current_database())" >"$facts"; do
    error=$(first_error)
    case ${patient:-}$error in
      yes*"authentication failed"*) ;;
      *"authentication failed"* | *certificate* | *SSL* | *pg_hba.conf* | *"does not exist"* | *"permission denied"* | \
        *"not permitted to log in"* | *"not currently accepting connections"*)
        lost_tls "$error" || fail "$error"
        ;;
    esac
    [ "$(seconds)" -lt "$until" ] || fail "no answer within $conf_wait_timeout s: $error" "$(remedy_for "$error")"
    run sleep 1
  done
  IFS='|' read -r server_num server_version recovery database_bytes <"$facts"
  role=primary
  [ "$recovery" = f ] || role=standby
}

fail_with_stderr() {
  error=$(first_error)
  case $error in psql:* | pg_restore:*) error=${error#*: } && error=${error#error: } ;; esac
  fail "${error:-$1}"
}

preamble="SET search_path = pg_catalog, pg_temp; SET default_transaction_read_only = off; SET statement_timeout = 0;
SET lock_timeout = 0; SET idle_in_transaction_session_timeout = 0;
SELECT name FROM pg_settings WHERE CASE WHEN name IN ('idle_session_timeout', 'transaction_timeout')
  THEN set_config(name, '0', false) IS NULL END;"

ask() {
  { echo "$preamble" && cat; } >"$BACKUP_RUN/query.sql"
  run_query "$@"
}

ask_for_user() {
  cat >"$BACKUP_RUN/query.sql"
  run_query "$@"
}

run_query() {
  PGDATABASE=$1
  shift
  run psql -XAtqw -v ON_ERROR_STOP=1 -F "$separator" "$@" -f "$BACKUP_RUN/query.sql" >"$facts"
}

separator=$(printf '\037')

values_of() { sed "s/'/''/g; s/.*/('&')/" "$1" | awk '{ printf "%s%s", (NR > 1 ? ", " : ""), $0 }'; }

own_relations="FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
  WHERE n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' AND NOT EXISTS (SELECT FROM pg_depend d
    WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')"

read_request() {
  req_database_bytes='' req_expected_seconds='' req_tables='' req_rows='' request_file=$1
  shift
  read_pairs req_ "$request_file" database base sha256 bytes dbname server_version "$@" ||
    usage "$request_file: $problem; $version_mismatch"
  is_number "$req_rows" || req_rows=''
}
