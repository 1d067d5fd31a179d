#!/bin/sh
# Without comments: they are in the project's file of this name.
set -eu
umask 077
LC_ALL=C
export LC_ALL
. "${0%/*}/lib.sh"
. "${0%/*}/volume.sh"
. "${0%/*}/dump-remedies.sh"
. "${0%/*}/probe.sh"

database=volume locked='' conf=$0
attempts=${FIRST_RUN_ATTEMPTS:-4}
patience=${FIRST_RUN_SECONDS:-25}
smallest=$((16 * 1024))

fail() {
  printf 'error=%s\nremedy=%s\n' "$1" "${2:-$(remedy_for "$1")}" >"$problems"
  exit 1
}

dropped_in_mid_dump() { return 1; }

usage() {
  echo "first-run.sh: $1" >&2
  exit 2
}

probe_volume() {
  stderr=$BACKUP_RUN/stderr steps=$BACKUP_RUN/step folder=$BACKUP_ROOT/.check-${BACKUP_POD:-$$}
  : >"$stderr"
  begin_step "making a folder"
  [ ! -L "$folder" ] || fail "$folder is a link, not a directory" "remove it"
  [ -d "$folder" ] || mkdir "$folder" 2>"$stderr" || fail_with_stderr "cannot create $folder"
  trap 'rm -rf "$folder" 2>/dev/null || :' EXIT
  probe_folder "$folder" probe
  free=$(df -Pk "$BACKUP_ROOT" | awk 'NR == 2 { print $4 }')
  ! is_number "$free" || [ "$free" -ge "$smallest" ] ||
    fail "only $(mebibytes $((free * 1024))) free on the volume" "free space or grow the claim"
}

attempt() {
  problems=$BACKUP_RUN/problems status=0
  rm -f "$problems"
  timeout -k 5 "$patience" sh "$0" --probe >"$BACKUP_RUN/probe.log" 2>&1 &
  child=$!
  wait "$child" || status=$?
  child=
  [ "$status" != 0 ] || return 0
  error='' remedy=''
  if [ -s "$problems" ]; then
    read_pairs found_ "$problems" error
    error=$found_error remedy=${found_remedy-}
  elif [ "$status" = 124 ] || [ "$status" = 137 ] || [ "$status" = 143 ]; then
    error="the volume does not answer: $(cat "$BACKUP_RUN/step" 2>/dev/null || echo "looking at it") took more than $patience s"
    timeout -k 1 2 rm -rf "$BACKUP_ROOT/.check-${BACKUP_POD:-$$}" 2>/dev/null || :
    remedy="look whether the storage system or the NFS server and its lock service run, and whether a firewall is between"
  else
    error="the check ended with exit code $status: $(tail -n 1 "$BACKUP_RUN/probe.log" | tr -d '[:cntrl:]')"
    remedy="see the container's log above"
  fi
  return 1
}

check_volume() {
  tried=1
  until attempt; do
    if [ "$tried" -ge "$attempts" ]; then
      log volume "FAILED: $error"
      log volume "remedy: $remedy"
      job=${BACKUP_POD:+ ${BACKUP_POD%-*}}
      log volume "then delete the Job$job and install or upgrade again: while it is there, it counts as failed"
      exit 1
    fi
    log volume "attempt $tried of $attempts: $error"
    tried=$((tried + 1))
    run sleep "${FIRST_RUN_PAUSE:-3}"
  done
  warn_of_strangers
  df -Pk "$BACKUP_ROOT" | awk 'NR == 2 { printf "%.0f %.0f\n", $4 / 1024, $2 / 1024 }' >"$BACKUP_RUN/room"
  read -r free size <"$BACKUP_RUN/room"
  log volume "ok: user $(id -u) can write, sync, rename and lock files in $BACKUP_ROOT; $free of $size MiB are free"
}

warn_of_strangers() {
  for folder in "$BACKUP_ROOT"/*/; do
    case $folder in */'*'/ | */lost+found/) continue ;; esac
    { [ -r "$folder" ] && [ -w "$folder" ] && [ -x "$folder" ]; } ||
      log volume "warning: user $(id -u) cannot use ${folder%/}, which belongs to user $(stat -c %u "$folder"):" \
        "if it holds backups, set podSecurityContext.runAsUser to that user"
  done
}

select_databases() {
  selected=$BACKUP_RESULTS/first
  mkdir -p "$selected"
  count=0
  for file in "$BACKUP_CONFIG"/*.conf; do
    [ -e "$file" ] || continue
    database=${file##*/} && database=${database%.conf}
    dir=$BACKUP_ROOT/$database
    newest_archive
    if [ -n "$newest" ]; then
      log "$database" "it has a backup: ${newest##*/}"
      continue
    fi
    select_files "$database.conf"
  done
  for file in "$BACKUP_CONFIG"/*.all; do
    [ -e "$file" ] || continue
    database=${file##*/} && database=${database%.all}
    set -- "$BACKUP_ROOT/$database".*/*.dump
    if [ -e "$1" ]; then
      log "$database" "its databases have backups, such as ${1##*/}"
      continue
    fi
    select_files "$database.all"
  done
}

select_files() {
  for part in "$1" "$database.policy.json" policy.json; do
    [ ! -e "$BACKUP_CONFIG/$part" ] || cat "$BACKUP_CONFIG/$part" >"$selected/$part"
  done
  count=$((count + 1))
}

main() {
  for variable in BACKUP_ROOT BACKUP_RUN; do
    eval "value=\${$variable-}"
    [ -n "$value" ] || usage "$variable is not set; start this by a Job of the chart's CronJob, which sets it"
    [ -d "$value" ] || usage "$value is not a directory; is its volume mounted?"
  done
  case ${1-} in
    '')
      check_volume
      ;;
    --probe)
      problems=$BACKUP_RUN/problems
      probe_volume
      ;;
    --backup)
      check_volume
      select_databases
      [ "$count" -gt 0 ] || exit 0
      BACKUP_CONFIG=$selected exec sh "${0%/*}/dump.sh"
      ;;
    *) usage "unknown argument '$1'" ;;
  esac
}

trap 'trap "" TERM; end_child; exit 143' TERM
main "$@"
