{{/* Values that cannot work together. Each define gives a JSON list of sentences: the value, what is wrong, and the remedy. */}}

{{- define "cnpg-backup.errors" -}}
{{- $errors := include "cnpg-backup.scheduleErrors" . | fromJsonArray -}}
{{- $errors = concat $errors (include "cnpg-backup.objectErrors" . | fromJsonArray) -}}
{{- $errors = concat $errors (include "cnpg-backup.containerErrors" . | fromJsonArray) -}}
{{- $errors = concat $errors (include "cnpg-backup.databaseErrors" . | fromJsonArray) -}}
{{- $errors = concat $errors (include "cnpg-backup.budgetErrors" . | fromJsonArray) -}}
{{- $errors = concat $errors (include "cnpg-backup.cronJobErrors" . | fromJsonArray) -}}
{{- $errors = concat $errors (include "cnpg-backup.drillErrors" . | fromJsonArray) -}}
{{- $errors = concat $errors (include "cnpg-backup.copyErrors" . | fromJsonArray) -}}
{{- $errors = concat $errors (include "cnpg-backup.offsiteErrors" . | fromJsonArray) -}}
{{- toJson $errors -}}
{{- end -}}

{{/* Parameters that would open a drill's server to others, let it run programs, or move its files out of its own folders. */}}
{{- define "cnpg-backup.drillErrors" -}}
{{- $errors := list -}}
{{- $open := printf "^(%s)$" (join "|" (list
  "listen_addresses" "port" "unix_socket_[a-z_]*" "bonjour[a-z_]*" "ssl[a-z_]*" "krb_[a-z_]*" "gss_[a-z_]*"
  "hba_file" "ident_file" "config_file" "include[a-z_]*" "data_directory" "external_pid_file"
  "archive_[a-z_]*" "recovery_[a-z_]*" "primary_[a-z_]*" "hot_standby[a-z_]*" "restore_command" "promote_trigger_file"
  "log_destination" "log_directory" "log_filename" "logging_collector" "syslog_[a-z_]*" "stats_temp_directory"
  "temp_tablespaces" "default_tablespace" "shared_memory_type" "dynamic_shared_memory_type")) -}}
{{- range $name, $_ := .Values.drill.postgresql -}}
  {{- if regexMatch $open $name -}}
    {{- $errors = append $errors (printf
      "drill.postgresql.%s: the drill sets this itself, so that nobody else reaches its server or its files; remove it" $name) -}}
  {{- end -}}
{{- end -}}
{{- toJson $errors -}}
{{- end -}}

{{/* Schedules, deadlines and tiers: those that all databases share, and those that one has of its own. */}}
{{- define "cnpg-backup.scheduleErrors" -}}
{{- $common := include "cnpg-backup.schedule" . | fromJson -}}
{{- $here := dict "root" . "where" "" "retention" .Values.retention "cron" .Values.schedule "schedule" $common "own" true -}}
{{- $errors := include "cnpg-backup.runErrors" $here | fromJsonArray -}}
{{- range $index, $entry := .Values.databases -}}
  {{- if or $entry.schedule $entry.retention -}}
    {{- $cron := $entry.schedule | default $.Values.schedule -}}
    {{- $schedule := include "cnpg-backup.schedule" (dict "root" $ "schedule" $cron) | fromJson -}}
    {{- $own := $entry.retention | default dict -}}
    {{- $retention := ternary $own $.Values.retention (or (hasKey $own "tiers") (hasKey $own "keep")) -}}
    {{- $here := dict
      "root" $ "where" (printf "databases[%d] (%s): " $index $entry.name) "retention" $retention
      "cron" $cron "schedule" $schedule "own" (hasKey $entry "schedule") -}}
    {{- $errors = concat $errors (include "cnpg-backup.runErrors" $here | fromJsonArray) -}}
  {{- end -}}
{{- end -}}
{{- concat $errors (include "cnpg-backup.lifetimeErrors" . | fromJsonArray) | toJson -}}
{{- end -}}

{{/* Jobs that would be gone before anyone, or `status`, has seen why they failed. */}}
{{- define "cnpg-backup.lifetimeErrors" -}}
{{- $errors := list -}}
{{- $lifetime := .Values.ttlSecondsAfterFinished -}}
{{- if not (kindIs "string" $lifetime) -}}
  {{- $schedules := dict "schedule" .Values.schedule -}}
  {{- range $index, $entry := .Values.databases -}}
    {{- with $entry.schedule -}}
      {{- $_ := set $schedules (printf "databases[%d] (%s): schedule" $index $entry.name) . -}}
    {{- end -}}
  {{- end -}}
  {{- if .Values.drill.enabled -}}
    {{- $_ := set $schedules "drill.schedule" .Values.drill.schedule -}}
  {{- end -}}
  {{- range $index, $copy := .Values.copies -}}
    {{- $_ := set $schedules (printf "copies[%d] (%s): schedule" $index $copy.name) $copy.schedule -}}
  {{- end -}}
  {{- if .Values.offsite.enabled -}}
    {{- $_ := set $schedules "offsite.schedule" .Values.offsite.schedule -}}
    {{- if .Values.offsite.drill.enabled -}}
      {{- $_ := set $schedules "offsite.drill.schedule" .Values.offsite.drill.schedule -}}
    {{- end -}}
  {{- end -}}
  {{- $rarest := "" -}}
  {{- $longest := int64 0 -}}
  {{- range $where, $cron := $schedules -}}
    {{- $seconds := (include "cnpg-backup.schedule" (dict "root" $ "schedule" $cron) | fromJson).longest | int64 -}}
    {{- if gt $seconds $longest -}}
      {{- $longest = $seconds -}}
      {{- $rarest = printf "%s %q" $where $cron -}}
    {{- end -}}
  {{- end -}}
  {{- if lt (int64 $lifetime) $longest -}}
    {{- $errors = append $errors (printf
      (cat
        "ttlSecondsAfterFinished: after %d seconds a failed Job would be gone, and the reason with it, before the next run shows whether"
        "all is well; %s needs at least %d (the time between two of its runs, or a day); set that, or auto")
      (int64 $lifetime) $rarest $longest) -}}
  {{- end -}}
{{- end -}}
{{- toJson $errors -}}
{{- end -}}

{{- define "cnpg-backup.runErrors" -}}
{{- $errors := list -}}
{{- $schedule := .schedule -}}
{{- $deadlines := include "cnpg-backup.deadlines" (dict "root" .root "schedule" .cron) | fromJson -}}
{{- if not .own -}}
{{- else if not $schedule.possible -}}
  {{- $errors = append $errors (printf
    (cat
      "%sschedule %q can never fire: minutes are 0 to 59 and hours 0 to 23, days 1 to 31, months 1 to 12,"
      "days of the week 0 to 6, and a range or step must hit one of them")
    .where .cron) -}}
{{- else if ge (int64 $deadlines.job) (int64 $schedule.interval) -}}
  {{- $errors = append $errors (printf
    (cat
      "%sactiveDeadlineSeconds: a run may take %d seconds, but schedule %q starts one every %d;"
      "set a lower deadline, or run less often")
    .where (int64 $deadlines.job) .cron (int64 $schedule.interval)) -}}
{{- end -}}
{{- if and .own (ge (int64 $deadlines.dump) (int64 $deadlines.pod)) -}}
  {{- $errors = append $errors (printf
    (cat
      "%sdump.timeoutSeconds: %d seconds leave no time to check and publish the dumps before the pod's deadline of %d"
      "(activeDeadlineSeconds minus 60); lower dump.timeoutSeconds")
    .where (int64 $deadlines.dump) (int64 $deadlines.pod)) -}}
{{- end -}}
{{- concat $errors (include "cnpg-backup.retentionErrors" (set . "where" (print .where "retention")) | fromJsonArray) | toJson -}}
{{- end -}}

{{/* Names, images and the claim. */}}
{{- define "cnpg-backup.objectErrors" -}}
{{- $errors := list -}}
{{- /* With a condition Helm leaves the whole chart out, and this is never rendered. */ -}}
{{- if eq (toString (get .Values "enabled")) "false" -}}
  {{- $errors = append $errors (cat
    "enabled: false has no effect here; it is for a parent chart whose dependency has a condition;"
    "set suspend: true to stop the runs, or add the condition to the parent's Chart.yaml") -}}
{{- end -}}
{{- with .Values.fullnameOverride -}}
  {{- if gt (len .) 53 -}}
    {{- $errors = append $errors (printf
      "fullnameOverride: %q has %d characters; shorten it to 53, the most that fits all names" . (len .)) -}}
  {{- end -}}
{{- end -}}
{{- range $where, $image := dict "image" .Values.image "retention.image" .Values.retention.image -}}
  {{- if not (or $image.tag $image.digest) -}}
    {{- $errors = append $errors (printf "%s: tag and digest are both empty; set one of them" $where) -}}
  {{- end -}}
{{- end -}}
{{- $claim := .Values.persistence.existingClaim -}}
{{- if and $claim .Values.persistence.nameOverride -}}
  {{- $errors = append $errors (cat
    "persistence: existingClaim and nameOverride exclude each other;"
    "put the name of an existing claim into existingClaim, and leave nameOverride empty") -}}
{{- end -}}
{{- if and $claim (include "cnpg-backup.longhornLabels" . | fromJson) -}}
  {{- $errors = append $errors (printf
    "persistence.longhorn: the chart does not label an existing claim; label %s yourself, see %s"
    $claim (include "cnpg-backup.page" (dict "root" . "page" "longhorn.md"))) -}}
{{- end -}}
{{- $errors = concat $errors (include "cnpg-backup.storageErrors" .Values.persistence | fromJsonArray) -}}
{{- if has "source" .Values.persistence.longhorn.recurringJobs -}}
  {{- $errors = append $errors (cat
    "persistence.longhorn.recurringJobs: to Longhorn the label of a job called source has another meaning;"
    "rename the job") -}}
{{- end -}}
{{- toJson $errors -}}
{{- end -}}

{{/* Which volume the claim gets, given the values of `persistence`. */}}
{{- define "cnpg-backup.storageErrors" -}}
{{- $errors := list -}}
{{- $nfs := .nfs -}}
{{- if ne (empty $nfs.server) (empty $nfs.path) -}}
  {{- $errors = append $errors (printf
    "persistence.nfs: %s is missing; set server and path, or neither of them" (ternary "server" "path" (empty $nfs.server))) -}}
{{- end -}}
{{- if and $nfs.mountOptions (not $nfs.server) -}}
  {{- $errors = append $errors
    "persistence.nfs.mountOptions: there is no NFS volume that they apply to; set server and path, or remove the options" -}}
{{- end -}}
{{- range $nfs.mountOptions -}}
  {{- if or (eq . "nolock") (regexMatch "^local_lock=(all|flock)$" .) -}}
    {{- $errors = append $errors (printf
      "persistence.nfs.mountOptions: %s keeps locks to one node, and two runs could work on the same files; remove it" .) -}}
  {{- else if or (eq . "ro") (eq . "soft") -}}
    {{- $errors = append $errors (printf
      "persistence.nfs.mountOptions: with %s writes fail or are lost; use %s" . (ternary "rw" "hard" (eq . "ro"))) -}}
  {{- end -}}
{{- end -}}
{{- $ways := dict "existingClaim" .existingClaim "nfs" $nfs.server "volumeName" .volumeName "selector" .selector -}}
{{- $given := list -}}
{{- range list "existingClaim" "nfs" "volumeName" "selector" -}}
  {{- if get $ways . -}}
    {{- $given = append $given . -}}
  {{- end -}}
{{- end -}}
{{- if gt (len $given) 1 -}}
  {{- $errors = append $errors (printf
    "persistence: %s exclude each other, since each names the storage of the backups; keep one of them" (join " and " $given)) -}}
{{- end -}}
{{- if has ".." (splitList "/" .subPath) -}}
  {{- $errors = append $errors (printf
    "persistence.subPath: %s leads out of the volume; write it without .." .subPath) -}}
{{- end -}}
{{- toJson $errors -}}
{{- end -}}

{{/* What values add to the containers: environment variables, volumes and their mounts. */}}
{{- define "cnpg-backup.containerErrors" -}}
{{- $libpq := list
  "PGUSER" "PGPASSWORD" "PGPASSFILE" "PGHOST" "PGHOSTADDR" "PGPORT" "PGDATABASE" "PGSERVICE" "PGSSLMODE" "PGSSLROOTCERT" -}}
{{- $dump := dict "where" "dump" "env" .Values.dump.extraEnv "reserved" (append $libpq "HOME") -}}
{{- $python := list "PYTHONPATH" "PYTHONDONTWRITEBYTECODE" "PYTHONUNBUFFERED" -}}
{{- $retention := dict "where" "retention" "env" .Values.retention.extraEnv "reserved" $python -}}
{{- $errors := include "cnpg-backup.envErrors" $dump | fromJsonArray -}}
{{- $errors = concat $errors (include "cnpg-backup.envErrors" $retention | fromJsonArray) -}}
{{- concat $errors (include "cnpg-backup.volumeErrors" . | fromJsonArray) | toJson -}}
{{- end -}}

{{- define "cnpg-backup.envErrors" -}}
{{- $errors := list -}}
{{- $names := dict -}}
{{- range .env -}}
  {{- if or (has .name $.reserved) (hasPrefix "BACKUP_" .name) -}}
    {{- $errors = append $errors (printf "%s.extraEnv: %s is set by the chart; remove it" $.where .name) -}}
  {{- else if hasKey $names .name -}}
    {{- $errors = append $errors (printf "%s.extraEnv: %s is listed twice; remove one of them" $.where .name) -}}
  {{- end -}}
  {{- $_ := set $names .name true -}}
{{- end -}}
{{- toJson $errors -}}
{{- end -}}

{{- define "cnpg-backup.volumeErrors" -}}
{{- $errors := list -}}
{{- $volumes := dict -}}
{{- range .Values.extraVolumes -}}
  {{- if has .name (list "backups" "scripts" "config" "credentials" "run" "results") -}}
    {{- $errors = append $errors (printf "extraVolumes: %s is a volume of the chart; choose another name" .name) -}}
  {{- else if hasKey $volumes .name -}}
    {{- $errors = append $errors (printf "extraVolumes: %s is listed twice; remove one of them" .name) -}}
  {{- end -}}
  {{- $_ := set $volumes .name false -}}
{{- end -}}
{{- $own := list
  "/backups" "/opt/cnpg-backup" "/etc/cnpg-backup" "/etc/cnpg-backup-credentials" "/run/cnpg-backup" "/run/cnpg-backup-results"
  "/dev/termination-log" -}}
{{- range $where, $mounts := dict "dump" .Values.dump.extraVolumeMounts "retention" .Values.retention.extraVolumeMounts -}}
  {{- $paths := dict -}}
  {{- range $mount := $mounts -}}
    {{- if not (hasKey $volumes .name) -}}
      {{- $errors = append $errors (printf
        "%s.extraVolumeMounts: there is no volume %s; add it to extraVolumes" $where .name) -}}
    {{- end -}}
    {{- $_ := set $volumes .name true -}}
    {{- $path := printf "%s/" $mount.mountPath -}}
    {{- range $own -}}
      {{- if or (hasPrefix (printf "%s/" .) $path) (hasPrefix $path (printf "%s/" .)) -}}
        {{- $errors = append $errors (printf
          "%s.extraVolumeMounts: %s would hide %s of the chart; choose another path" $where $mount.mountPath .) -}}
      {{- end -}}
    {{- end -}}
    {{- if has ".." (splitList "/" (.subPath | default "")) -}}
      {{- $errors = append $errors (printf
        "%s.extraVolumeMounts: subPath %s leads out of the volume; write it without .." $where .subPath) -}}
    {{- end -}}
    {{- if hasKey $paths .mountPath -}}
      {{- $errors = append $errors (printf
        "%s.extraVolumeMounts: %s is listed twice; remove one of them" $where .mountPath) -}}
    {{- end -}}
    {{- $_ := set $paths .mountPath true -}}
  {{- end -}}
{{- end -}}
{{- range $name, $mounted := $volumes -}}
  {{- if not $mounted -}}
    {{- $errors = append $errors (printf
      "extraVolumes: no container mounts %s; add it to dump.extraVolumeMounts or retention.extraVolumeMounts" $name) -}}
  {{- end -}}
{{- end -}}
{{- toJson $errors -}}
{{- end -}}

{{/* The databases, each by itself and with the others. */}}
{{- define "cnpg-backup.databaseErrors" -}}
{{- $entries := dict -}}
{{- range .Values.databases -}}
  {{- if .databases -}}
    {{- $_ := set $entries .name true -}}
  {{- end -}}
{{- end -}}
{{- $errors := include "cnpg-backup.settingErrors" (dict "where" "defaults" "settings" .Values.defaults) | fromJsonArray -}}
{{- $names := dict -}}
{{- range $index, $db := .Values.databases -}}
  {{- $where := printf "databases[%d] (%s)" $index $db.name -}}
  {{- if not $db.cluster -}}
    {{- $errors = concat $errors (include "cnpg-backup.outsideErrors" (dict
      "where" $where "database" $db "defaults" $.Values.defaults) | fromJsonArray) -}}
  {{- end -}}
  {{- $errors = concat $errors (include "cnpg-backup.settingErrors" (dict
    "where" $where "settings" $db "defaults" $.Values.defaults) | fromJsonArray) -}}
  {{- $secret := dig "secret" "name" "" $db | default $.Values.defaults.secret.name -}}
  {{- if and (eq ($db.roles | default $.Values.defaults.roles) "with-password-hashes") (not $secret) (not $db.databases) -}}
    {{- $errors = append $errors (printf
      (cat
        "%s: roles: with-password-hashes needs a superuser or a member of pg_read_all_data, and %s-app is the Secret of the"
        "database's owner; set secret.name to that of such a role, for example %s-superuser")
      $where ($db.cluster | default $db.name) ($db.cluster | default $db.name)) -}}
  {{- end -}}
  {{- if hasKey $names $db.name -}}
    {{- $errors = append $errors (printf
      (cat
        "%s: databases[%d] has the same name, and so the same directory;"
        "give one of them another name, and put the name that PostgreSQL knows into its key database")
      $where (get $names $db.name)) -}}
  {{- else -}}
    {{- $_ := set $names $db.name $index -}}
  {{- end -}}
  {{- $entry := splitList "." $db.name | first -}}
  {{- if and $db.databases (not (regexMatch "^[a-z0-9]([a-z0-9_-]{0,22}[a-z0-9])?$" $db.name)) -}}
    {{- $errors = append $errors (printf
      (cat
        "%s: with databases: \"*\" the name begins the name of every directory;"
        "give it at most 24 characters of a-z, 0-9, - and _, and no dot")
      $where) -}}
  {{- else if and (ne $entry $db.name) (hasKey $entries $entry) -}}
    {{- $errors = append $errors (printf
      "%s: names that begin with %q belong to the databases of entry %s; give this one another name" $where (print $entry ".") $entry) -}}
  {{- else if and (hasKey $db "exclude") (not $db.databases) -}}
    {{- $errors = append $errors (printf
      "%s: exclude has no effect on one database; add databases: \"*\", or remove it" $where) -}}
  {{- end -}}
{{- end -}}
{{- toJson $errors -}}
{{- end -}}

{{/* A database on a server that CloudNativePG does not run: its Secrets have no names that the chart could guess. */}}
{{- define "cnpg-backup.outsideErrors" -}}
{{- $errors := list -}}
{{- if not .database.host -}}
  {{- $errors = append $errors (printf
    "%s: cluster is missing; name the CloudNativePG cluster, or set host for a server that is not one of its" .where) -}}
{{- else -}}
  {{- $needed := list "secret" -}}
  {{- if hasPrefix "verify-" (.database.sslmode | default .defaults.sslmode) -}}
    {{- $needed = append $needed "caSecret" -}}
  {{- end -}}
  {{- range $needed -}}
    {{- if not (dig . "name" "" $.database | default (dig . "name" "" $.defaults)) -}}
      {{- $errors = append $errors (printf
        "%s: without a cluster no Secret has a name that is known; set %s.name" $.where .) -}}
    {{- end -}}
  {{- end -}}
{{- end -}}
{{- toJson $errors -}}
{{- end -}}

{{/* Settings of one database, or of the defaults. */}}
{{- define "cnpg-backup.settingErrors" -}}
{{- $errors := list -}}
{{- range .settings.extraArgs -}}
  {{- if not (include "cnpg-backup.allowedArgument" .) -}}
    {{- $errors = append $errors (printf
      (cat
        "%s: extraArgs has %s, which is not allowed;"
        (ternary
          "archives hold rows as COPY, which restores faster and into any version, and which the count of rows reads: remove it"
          (cat "only options written in full, as --option or --option=value, are,"
            "and none that changes the connection, the output or row security")
          (regexMatch "^--(inserts|column-inserts|attribute-inserts|rows-per-insert|on-conflict-do-nothing)\\b" .)))
      $.where (quote .)) -}}
  {{- end -}}
{{- end -}}
{{- with (.settings.caSecret | default dict).key -}}
  {{- if hasSuffix ".key" . -}}
    {{- $errors = append $errors (printf
      (cat
        "%s: caSecret.key is %s, by its name a private key, which no backup needs;"
        "set it to the key of the certificate, such as ca.crt")
      $.where (quote .)) -}}
  {{- end -}}
{{- end -}}
{{- range $name := list "secret" "ownerSecret" "superuserSecret" -}}
  {{- $secret := get $.settings $name | default dict -}}
  {{- /* An entry names a key of its own, or takes all of them from the defaults. */ -}}
  {{- $inherited := get ($.defaults | default dict) $name | default dict -}}
  {{- range $key := list "usernameKey" "passwordKey" -}}
    {{- $own := get $secret $key | default "" -}}
    {{- $uriKey := $secret.uriKey | default (ternary "" $inherited.uriKey (hasKey $secret "uriKey")) -}}
    {{- if and $uriKey $own (ne $own (trimSuffix "Key" $key)) -}}
      {{- $errors = append $errors (printf
        "%s: %s.%s has no effect next to uriKey, whose URI holds name and password; remove one of them, or set uriKey: \"\""
        $.where $name $key) -}}
    {{- end -}}
  {{- end -}}
{{- end -}}
{{- toJson $errors -}}
{{- end -}}

{{/* Whether pg_dump may get an argument; empty if not. dump.sh has the same list. */}}
{{- define "cnpg-backup.allowedArgument" -}}
{{- $bare := list
  "--blobs" "--large-objects" "--load-via-partition-root" "--no-acl" "--no-blobs" "--no-comments" "--no-large-objects"
  "--no-owner" "--no-policies" "--no-privileges" "--no-publications" "--no-security-labels" "--no-statistics"
  "--no-subscriptions" "--no-table-access-method" "--no-tablespaces" "--no-toast-compression" "--no-unlogged-table-data"
  "--quote-all-identifiers" "--serializable-deferrable" "--statistics" "--strict-names" "--verbose" -}}
{{- $valued := list
  "--encoding" "--exclude-extension" "--exclude-schema" "--exclude-table" "--exclude-table-and-children"
  "--exclude-table-data" "--exclude-table-data-and-children" "--extension" "--extra-float-digits" "--include-foreign-data"
  "--role" "--schema" "--table" "--table-and-children" -}}
{{- if or (has . $bare) (and (regexMatch "^--[a-z-]+=." .) (has (splitList "=" . | first) $valued)) -}}
  {{- print "yes" -}}
{{- end -}}
{{- end -}}

{{/* The size budgets. The size of an existing claim is not known here. */}}
{{- define "cnpg-backup.budgetErrors" -}}
{{- $errors := list -}}
{{- $sum := 0 -}}
{{- range $db := include "cnpg-backup.databases" . | fromJsonArray -}}
  {{- $sum = add $sum (include "cnpg-backup.bytes" $db.maxBytes | int64) -}}
{{- end -}}
{{- $size := .Values.persistence.size -}}
{{- if and (not .Values.persistence.existingClaim) (gt $sum (include "cnpg-backup.bytes" $size | int64)) -}}
  {{- $errors = append $errors (printf
    (cat
      "maxBytes: all databases together may take %d bytes, but the claim has %s (persistence.size);"
      "lower maxBytes, or raise persistence.size")
    $sum $size) -}}
{{- end -}}
{{- toJson $errors -}}
{{- end -}}

{{/* The CronJobs that follow from databases, shards and images. */}}
{{- define "cnpg-backup.cronJobErrors" -}}
{{- $errors := list -}}
{{- $shards := list -}}
{{- range prepend .Values.databases .Values.defaults -}}
  {{- with .shard -}}
    {{- $shards = append $shards . -}}
  {{- end -}}
{{- end -}}
{{- if and .Values.cronJob.perDatabase $shards -}}
  {{- $errors = append $errors (printf
    (cat
      "cronJob.perDatabase: each database has a CronJob of its own, so that shard %q has no effect;"
      "remove the shard, or set perDatabase: false")
    (first $shards)) -}}
{{- end -}}
{{- $jobs := dict -}}
{{- range include "cnpg-backup.cronJobs" . | fromJsonArray -}}
  {{- $database := (first .databases).name -}}
  {{- if gt (len .name) 52 -}}
    {{- $errors = append $errors (printf
      "cronJob.nameOverride: %q has %d characters; a CronJob's name has at most 52, so shorten nameOverride"
      .name (len .name)) -}}
  {{- end -}}
  {{- if hasKey $jobs .name -}}
    {{- $errors = append $errors (printf
      "databases: image, shard or schedule of %s and of %s give two CronJobs the same name, %s; rename the shard"
      (get $jobs .name) $database .name) -}}
  {{- end -}}
  {{- $_ := set $jobs .name $database -}}
{{- end -}}
{{- toJson $errors -}}
{{- end -}}
