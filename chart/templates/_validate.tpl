{{/* A duration such as 90m in seconds. */}}
{{- define "cnpg-backup.seconds" -}}
{{- mul (regexFind "^[0-9]+" . | int64) (get (dict "s" 1 "m" 60 "h" 3600 "d" 86400 "w" 604800) (regexFind "[smhdw]$" .)) -}}
{{- end -}}

{{/*
What is wrong with a list of tiers, as a JSON list of sentences. The rules are those of `retention`, which would refuse the
policy in the pod, too late.
*/}}
{{- define "cnpg-backup.tierErrors" -}}
{{- $errors := list -}}
{{- $names := dict -}}
{{- $finer := 0 -}}
{{- $begin := 0 -}}
{{- range $index, $tier := .tiers -}}
{{- $where := printf "%s.tiers[%d] (%s)" $.where $index $tier.name -}}
{{- $every := include "cnpg-backup.seconds" $tier.every | int64 -}}
{{- $final := eq $index (sub (len $.tiers) 1 | int) -}}
{{- if has $tier.name (list "newest" "oldest" "pinned" "future") -}}
{{- $errors = append $errors (printf "%s: this name is reserved for backups outside the tiers; choose another" $where) -}}
{{- end -}}
{{- if hasKey $names $tier.name -}}
{{- $errors = append $errors (printf "%s: the name is used twice; give each tier its own" $where) -}}
{{- end -}}
{{- $_ := set $names $tier.name true -}}
{{- if eq $every 0 -}}
{{- $errors = append $errors (printf "%s: every is 0; give more" $where) -}}
{{- /* A tier without an end keeps so many backups whatever their distance: it can be as fine as one likes. */ -}}
{{- else if and (eq $index 0) (not $final) (lt $every (int64 $.schedule.interval)) $.schedule.possible -}}
{{- $errors = append $errors (printf "%s: every %s is less than the %d seconds from one run of the schedule to the next, so that the tier can never be full; run more often, or keep coarser tiers" $where $tier.every (int64 $.schedule.interval)) -}}
{{- else if and $finer (mod $every $finer) -}}
{{- $errors = append $errors (printf "%s: every %s is no multiple of the %s of the tier before; list tiers from fine to coarse" $where $tier.every (index $.tiers (sub $index 1 | int)).every) -}}
{{- else if and $final (hasKey $tier "until") -}}
{{- $errors = append $errors (printf "%s: the last tier has an until; leave it out, the last tier ends by count alone" $where) -}}
{{- else if and (not $final) (not (hasKey $tier "until")) -}}
{{- $errors = append $errors (printf "%s: until is missing; say at which age the next tier begins" $where) -}}
{{- else if not $final -}}
{{- $until := include "cnpg-backup.seconds" $tier.until | int64 -}}
{{- $span := div (sub $until $begin) $every -}}
{{- if or (lt $span 1) (mod (sub $until $begin) $every) -}}
{{- $errors = append $errors (printf "%s: from the end of the tier before until %s is not a whole number of %s, 1 or more" $where $tier.until $tier.every) -}}
{{- else if and (eq $index 0) (gt (int64 $tier.keep) $span) -}}
{{- $errors = append $errors (printf "%s: keep is %d, but until %s there are only %d slots of %s; keep less, or let the tier end later" $where (int64 $tier.keep) $tier.until $span $tier.every) -}}
{{- end -}}
{{- $begin = $until -}}
{{- end -}}
{{- $finer = $every -}}
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
yes
{{- end -}}
{{- end -}}

{{/* What is wrong with further environment variables, as a JSON list of sentences. */}}
{{- define "cnpg-backup.envErrors" -}}
{{- $errors := list -}}
{{- $names := dict -}}
{{- range .env -}}
{{- if or (has .name $.reserved) (hasPrefix "BACKUP_" .name) -}}
{{- $errors = append $errors (printf "%s.extraEnv: %s is set by the chart; take it out" $.where .name) -}}
{{- else if hasKey $names .name -}}
{{- $errors = append $errors (printf "%s.extraEnv: %s is there twice; keep one" $.where .name) -}}
{{- end -}}
{{- $_ := set $names .name true -}}
{{- end -}}
{{- toJson $errors -}}
{{- end -}}

{{/* What is wrong with further volumes and their mounts, as a JSON list of sentences. */}}
{{- define "cnpg-backup.volumeErrors" -}}
{{- $errors := list -}}
{{- $volumes := dict -}}
{{- range .Values.extraVolumes -}}
{{- if has .name (list "backups" "scripts" "config" "credentials" "run" "results") -}}
{{- $errors = append $errors (printf "extraVolumes: %s is a volume of the chart; choose another name" .name) -}}
{{- else if hasKey $volumes .name -}}
{{- $errors = append $errors (printf "extraVolumes: %s is there twice; keep one" .name) -}}
{{- end -}}
{{- $_ := set $volumes .name false -}}
{{- end -}}
{{- $own := list "/backups" "/opt/cnpg-backup" "/etc/cnpg-backup" "/etc/cnpg-backup-credentials" "/run/cnpg-backup" "/run/cnpg-backup-results" "/dev/termination-log" -}}
{{- range $where, $mounts := dict "dump" .Values.dump.extraVolumeMounts "retention" .Values.retention.extraVolumeMounts -}}
{{- $paths := dict -}}
{{- range $mount := $mounts -}}
{{- if not (hasKey $volumes .name) -}}
{{- $errors = append $errors (printf "%s.extraVolumeMounts: there is no volume %s; add it to extraVolumes" $where .name) -}}
{{- end -}}
{{- $_ := set $volumes .name true -}}
{{- range $own -}}
{{- if or (hasPrefix (printf "%s/" .) (printf "%s/" $mount.mountPath)) (hasPrefix (printf "%s/" $mount.mountPath) (printf "%s/" .)) -}}
{{- $errors = append $errors (printf "%s.extraVolumeMounts: %s would hide %s of the chart; choose another path" $where $mount.mountPath .) -}}
{{- end -}}
{{- end -}}
{{- if has ".." (splitList "/" (.subPath | default "")) -}}
{{- $errors = append $errors (printf "%s.extraVolumeMounts: subPath %s leads out of the volume; write it without .." $where .subPath) -}}
{{- end -}}
{{- if hasKey $paths .mountPath -}}
{{- $errors = append $errors (printf "%s.extraVolumeMounts: %s is there twice; keep one" $where .mountPath) -}}
{{- end -}}
{{- $_ := set $paths .mountPath true -}}
{{- end -}}
{{- end -}}
{{- range $name, $mounted := $volumes -}}
{{- if not $mounted -}}
{{- $errors = append $errors (printf "extraVolumes: no container mounts %s; add it to dump.extraVolumeMounts or retention.extraVolumeMounts" $name) -}}
{{- end -}}
{{- end -}}
{{- toJson $errors -}}
{{- end -}}

{{/* What is wrong with schedule and deadlines, as a JSON list of sentences. */}}
{{- define "cnpg-backup.scheduleErrors" -}}
{{- $errors := list -}}
{{- $schedule := include "cnpg-backup.schedule" . | fromJson -}}
{{- $deadlines := include "cnpg-backup.deadlines" . | fromJson -}}
{{- if not $schedule.possible -}}
{{- $errors = append $errors (printf "schedule %q: minutes are 0 to 59 and hours 0 to 23, and a range or step must hit one of them" .Values.schedule) -}}
{{- else if ge (int64 $deadlines.job) (int64 $schedule.interval) -}}
{{- $errors = append $errors (printf "activeDeadlineSeconds: a run may take %d seconds, but schedule %q starts one every %d; set a lower deadline, or run less often" (int64 $deadlines.job) .Values.schedule (int64 $schedule.interval)) -}}
{{- end -}}
{{- if ge (int64 $deadlines.dump) (int64 $deadlines.pod) -}}
{{- $errors = append $errors (printf "dump.timeoutSeconds: %d seconds leave nothing of the pod's %d (activeDeadlineSeconds less 60) to judge and publish; set less" (int64 $deadlines.dump) (int64 $deadlines.pod)) -}}
{{- end -}}
{{- toJson $errors -}}
{{- end -}}

{{/* What is wrong with the size budgets, as a JSON list of sentences. The size of an existing claim is not known here. */}}
{{- define "cnpg-backup.budgetErrors" -}}
{{- $errors := list -}}
{{- $sum := 0 -}}
{{- range $db := include "cnpg-backup.databases" . | fromJsonArray }}{{ $sum = add $sum (include "cnpg-backup.bytes" $db.maxBytes | int64) }}{{ end -}}
{{- if and (not .Values.persistence.existingClaim) (gt $sum (include "cnpg-backup.bytes" .Values.persistence.size | int64)) -}}
{{- $errors = append $errors (printf "maxBytes: all databases together may take %d bytes, but the claim has %s (persistence.size); lower maxBytes, or let the claim grow" $sum .Values.persistence.size) -}}
{{- end -}}
{{- toJson $errors -}}
{{- end -}}

{{/* Values that cannot work together, as a JSON list of sentences: what, where and the remedy. */}}
{{- define "cnpg-backup.errors" -}}
{{- $schedule := include "cnpg-backup.schedule" . | fromJson -}}
{{- $errors := include "cnpg-backup.scheduleErrors" . | fromJsonArray -}}
{{- with .Values.fullnameOverride -}}
{{- if gt (len .) 53 }}{{ $errors = append $errors (printf "fullnameOverride: %q has %d characters; the longest that fits all names is 53" . (len .)) }}{{ end -}}
{{- end -}}
{{- if and .Values.persistence.existingClaim .Values.persistence.nameOverride -}}
{{- $errors = append $errors "persistence: existingClaim and nameOverride exclude each other; the name of an existing claim goes into existingClaim" -}}
{{- end -}}
{{- range $where, $image := dict "image" .Values.image "retention.image" .Values.retention.image -}}
{{- if not (or $image.tag $image.digest) }}{{ $errors = append $errors (printf "%s: neither tag nor digest; give one" $where) }}{{ end -}}
{{- end -}}
{{- $errors = concat $errors (include "cnpg-backup.tierErrors" (dict "where" "retention" "tiers" .Values.retention.tiers "schedule" $schedule) | fromJsonArray) -}}
{{- $reserved := list "HOME" "PGUSER" "PGPASSWORD" "PGPASSFILE" "PGHOST" "PGHOSTADDR" "PGPORT" "PGDATABASE" "PGSERVICE" "PGSSLMODE" "PGSSLROOTCERT" -}}
{{- $errors = concat $errors (include "cnpg-backup.envErrors" (dict "where" "dump" "env" .Values.dump.extraEnv "reserved" $reserved) | fromJsonArray) -}}
{{- $reserved = list "PYTHONPATH" "PYTHONDONTWRITEBYTECODE" "PYTHONUNBUFFERED" -}}
{{- $errors = concat $errors (include "cnpg-backup.envErrors" (dict "where" "retention" "env" .Values.retention.extraEnv "reserved" $reserved) | fromJsonArray) -}}
{{- $errors = concat $errors (include "cnpg-backup.volumeErrors" . | fromJsonArray) -}}
{{- if and .Values.persistence.existingClaim (include "cnpg-backup.longhornLabels" . | fromJson) -}}
{{- $errors = append $errors (printf "persistence.longhorn: the chart does not label a claim that it does not make; label %s yourself, see docs/longhorn.md" .Values.persistence.existingClaim) -}}
{{- end -}}
{{- if has "source" .Values.persistence.longhorn.recurringJobs -}}
{{- $errors = append $errors "persistence.longhorn.recurringJobs: the label of a job called source has another meaning to Longhorn; rename the job" -}}
{{- end -}}
{{- range .Values.defaults.extraArgs -}}
{{- if not (include "cnpg-backup.allowedArgument" .) }}{{ $errors = append $errors (include "cnpg-backup.argumentError" (dict "where" "defaults" "argument" .)) }}{{ end -}}
{{- end -}}
{{- if hasSuffix ".key" .Values.defaults.caSecret.key }}{{ $errors = append $errors (include "cnpg-backup.keyError" (dict "where" "defaults" "key" .Values.defaults.caSecret.key)) }}{{ end -}}
{{- $names := dict -}}
{{- range $index, $db := .Values.databases -}}
{{- $where := printf "databases[%d] (%s)" $index $db.name -}}
{{- with ($db.caSecret | default dict).key -}}
{{- if hasSuffix ".key" . }}{{ $errors = append $errors (include "cnpg-backup.keyError" (dict "where" $where "key" .)) }}{{ end -}}
{{- end -}}
{{- if hasKey $names $db.name -}}
{{- $errors = append $errors (printf "%s: databases[%d] has the same name, and so the same directory; give one of them another name and its real one as database" $where (get $names $db.name)) -}}
{{- else -}}
{{- $_ := set $names $db.name $index -}}
{{- end -}}
{{- range ($db.extraArgs | default list) -}}
{{- if not (include "cnpg-backup.allowedArgument" .) }}{{ $errors = append $errors (include "cnpg-backup.argumentError" (dict "where" $where "argument" .)) }}{{ end -}}
{{- end -}}
{{- with ($db.retention | default dict).tiers -}}
{{- $errors = concat $errors (include "cnpg-backup.tierErrors" (dict "where" (printf "%s: retention" $where) "tiers" . "schedule" $schedule) | fromJsonArray) -}}
{{- end -}}
{{- end -}}
{{- $errors = concat $errors (include "cnpg-backup.budgetErrors" . | fromJsonArray) -}}
{{- $shards := list -}}
{{- range prepend .Values.databases .Values.defaults }}{{ with .shard }}{{ $shards = append $shards . }}{{ end }}{{ end -}}
{{- if and .Values.cronJob.perDatabase $shards -}}
{{- $errors = append $errors (printf "cronJob.perDatabase: each database has a CronJob of its own, so that shard %q says nothing; take out one of the two" (first $shards)) -}}
{{- end -}}
{{- $jobs := dict -}}
{{- range include "cnpg-backup.cronJobs" . | fromJsonArray -}}
{{- if gt (len .name) 52 -}}
{{- $errors = append $errors (printf "cronJob.nameOverride: %q has %d characters; a CronJob's name has at most 52" .name (len .name)) -}}
{{- end -}}
{{- if hasKey $jobs .name -}}
{{- $errors = append $errors (printf "databases: image or shard of %s and of %s give two CronJobs one name, %s; rename the shard" (get $jobs .name) (first .databases).name .name) -}}
{{- end -}}
{{- $_ := set $jobs .name (first .databases).name -}}
{{- end -}}
{{- toJson $errors -}}
{{- end -}}

{{- define "cnpg-backup.argumentError" -}}
{{ .where }}: extraArgs has {{ quote .argument }}, which pg_dump does not get here: only options written out in full, as --option or --option=value, that leave connection, output and row security alone
{{- end -}}

{{- define "cnpg-backup.keyError" -}}
{{ .where }}: caSecret.key is {{ quote .key }}, by its name a private key, which no backup needs; name the certificate's key, such as ca.crt
{{- end -}}
