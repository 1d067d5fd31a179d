#!/bin/sh
# Without comments: they are in the project's file of this name.
remedy_for() {
  case $1 in
    *"row-level security"*) echo "let the backup role see all rows: ALTER ROLE ... BYPASSRLS, or use the tables' owner" ;;
    *"permission denied for"*"large object"*)
      echo "use the role that owns the large objects, or GRANT SELECT ON LARGE OBJECT ... TO the backup role for each of them"
      ;;
    *"permission denied for database"*) echo "GRANT CONNECT ON DATABASE ... TO the backup role, or use the owner" ;;
    *"permission denied"*) remedy_for_rights ;;
    *"Permission denied"*) echo "let user $(id -u), group $(id -g) write to the volume: podSecurityContext.fsGroup, or chown on NFS" ;;
    *"No space left"* | *"Disk quota"*) echo "free space on the volume or grow the claim; the next run needs nothing else" ;;
    *"Read-only file system"*) echo "the volume is read-only: look at the storage system and the node" ;;
    *"File too large"*) echo "the file system, or ulimit -f, allows no larger file: use another storage, or split the database" ;;
    *"Too many open files"*) echo "raise the limit of open files (ulimit -n) of the container runtime" ;;
    *"Input/output error"* | *"Stale file handle"*) echo "look at the storage system and at the node's kernel log" ;;
    *"lock timeout"* | *"statement timeout"*)
      echo "another session keeps a table lock: find it in pg_locks, or raise lockWaitTimeout"
      ;;
    *'database "'*'" does not exist'* | *'role "'*'" does not exist'*)
      echo "correct 'database' or the role's name of this entry in the chart's values"
      ;;
    *"invalid memory alloc request size"*)
      echo "a value is too large to be dumped: leave its table out with --exclude-table-data in extraArgs, or split the value"
      ;;
    *"was killed"*) echo "it may have run out of memory: raise dump.resources.limits.memory" ;;
    *) common_remedy "$1" || remedy_for_others "$1" ;;
  esac
}

remedy_for_others() {
  if dropped_in_mid_dump "$1"; then
    echo "something was dropped during the dump: the next run dumps what is there then"
  elif [ -n "$locked" ] && [ -s "$stderr" ]; then
    echo "see the full message in /backups/$database/last-error.log"
  else
    echo "see the container's log above"
  fi
}

remedy_for_rights() {
  if [ "$(psql -XAtqw -c "$preamble" -c "SELECT pg_catalog.pg_has_role('pg_read_all_data', 'USAGE')" 2>/dev/null)" = t ]; then
    echo "pg_read_all_data does not give the backup role this right: grant it by itself, or use the owner"
  else
    echo "let the backup role read everything: GRANT pg_read_all_data TO ..., or use the owner"
  fi
}
