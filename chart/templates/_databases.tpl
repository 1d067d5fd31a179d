{{/*
All databases with their settings resolved, as a JSON list: the entry over `defaults` over `image`.
Fields hold what the configuration files of the pod say.
*/}}
{{- define "cnpg-backup.databases" -}}
{{- $list := list -}}
{{- range $entry := .Values.databases -}}
{{- $db := deepCopy $.Values.defaults -}}
{{- range $key, $value := $entry -}}
{{- if and (kindIs "map" $value) (hasKey $db $key) -}}
{{- range $inner, $innerValue := $value }}{{ $_ := set (get $db $key) $inner $innerValue }}{{ end -}}
{{- else -}}
{{- $_ := set $db $key $value -}}
{{- end -}}
{{- end -}}
{{- $_ := set $db "database" ($db.database | default $db.name) -}}
{{- $_ := set $db "namespace" ($db.namespace | default $.Release.Namespace) -}}
{{- $_ := set $db "host" ($db.host | default (printf "%s-rw.%s.svc" $db.cluster $db.namespace)) -}}
{{- $_ := set $db "standbyHost" (ternary ($db.standbyHost | default (printf "%s-ro.%s.svc" $db.cluster $db.namespace)) "" (eq $db.target "prefer-standby")) -}}
{{- $_ := set $db "username" ($db.username | default "") -}}
{{- $_ := set $db.secret "name" ($db.secret.name | default (printf "%s-app" $db.cluster)) -}}
{{- $_ := set $db.ownerSecret "name" ($db.ownerSecret.name | default (printf "%s-app" $db.cluster)) -}}
{{- $_ := set $db.superuserSecret "name" ($db.superuserSecret.name | default (printf "%s-superuser" $db.cluster)) -}}
{{- $_ := set $db.caSecret "name" ($db.caSecret.name | default (printf "%s-ca" $db.cluster)) -}}
{{- $image := deepCopy $.Values.image -}}
{{- range $key, $value := ($db.image | default dict) }}{{ $_ := set $image $key $value }}{{ end -}}
{{- /* A digest belongs to one tag: an entry with a tag of its own does not inherit it. */ -}}
{{- if and (hasKey ($db.image | default dict) "tag") (not (hasKey $db.image "digest")) }}{{ $_ := set $image "digest" "" }}{{ end -}}
{{- $_ := set $db "image" (include "cnpg-backup.image" (dict "root" $ "image" $image)) -}}
{{- $_ := set $db "pullPolicy" $image.pullPolicy -}}
{{- $_ := set $db "major" (regexFind "^[0-9]+" $image.tag) -}}
{{- $list = append $list $db -}}
{{- end -}}
{{- toJson $list -}}
{{- end -}}

{{/*
Part of a CronJob's name that says an image: nothing for the default one, `-<major>` for others. A further image of one
major has a hash besides, so that none renames another. As JSON: image to part, for all databases.
*/}}
{{- define "cnpg-backup.imageSuffixes" -}}
{{- $suffixes := dict (include "cnpg-backup.image" (dict "root" .root "image" .root.Values.image)) "" -}}
{{- $taken := dict -}}
{{- range .databases -}}
{{- if not (hasKey $suffixes .image) -}}
{{- $hash := .image | sha256sum | trunc 8 -}}
{{- $suffix := printf "-%s" (.major | default $hash) -}}
{{- if hasKey $taken $suffix }}{{ $suffix = printf "%s-%s" $suffix $hash }}{{ end -}}
{{- $_ := set $taken $suffix true -}}
{{- $_ := set $suffixes .image $suffix -}}
{{- end -}}
{{- end -}}
{{- toJson $suffixes -}}
{{- end -}}

{{/*
The CronJobs, as a JSON list of `name`, `image`, `pullPolicy`, `suspend` and `databases`: one for each database, or one for each
shard and image, since dump and server must be of one major version, and an image that cannot be pulled then stops only
its own databases. Suspended databases are left out; a CronJob that has no others is suspended with all of them, so that
manual runs still work. A name depends on its own databases alone: others come and go without renaming it.
*/}}
{{- define "cnpg-backup.cronJobs" -}}
{{- $databases := include "cnpg-backup.databases" . | fromJsonArray -}}
{{- $images := include "cnpg-backup.imageSuffixes" (dict "root" . "databases" $databases) | fromJson -}}
{{- $groups := dict -}}
{{- $order := list -}}
{{- range $db := $databases -}}
{{- $suffix := "" -}}
{{- if $.Values.cronJob.perDatabase -}}
{{- $suffix = include "cnpg-backup.shardSuffix" $db.name -}}
{{- else -}}
{{- $suffix = get $images $db.image -}}
{{- with $db.shard }}{{ $suffix = printf "%s%s" $suffix (include "cnpg-backup.shardSuffix" .) }}{{ end -}}
{{- end -}}
{{- $key := printf "%s %s" $suffix $db.image -}}
{{- if not (hasKey $groups $key) -}}
{{- $name := include "cnpg-backup.cronJobName" (dict "root" $ "suffix" $suffix) -}}
{{- $_ := set $groups $key (dict "name" $name "image" $db.image "pullPolicy" $db.pullPolicy "active" list "suspended" list) -}}
{{- $order = append $order $key -}}
{{- end -}}
{{- $group := get $groups $key -}}
{{- $state := ternary "suspended" "active" $db.suspended -}}
{{- $_ := set $group $state (append (get $group $state) $db) -}}
{{- end -}}
{{- $list := list -}}
{{- range $order -}}
{{- $group := get $groups . -}}
{{- $_ := set $group "databases" ($group.active | default $group.suspended) -}}
{{- $_ := set $group "suspend" (or $.Values.suspend (empty $group.active)) -}}
{{- $list = append $list (omit $group "active" "suspended") -}}
{{- end -}}
{{- toJson $list -}}
{{- end -}}

{{/*
The pods of `helm test`, as a JSON list of `name`, `image`, `pullPolicy`, `databases` and the `cronJobs` whose configuration they
read: one for each image, however many CronJobs it has. What is suspended is not asked.
*/}}
{{- define "cnpg-backup.checks" -}}
{{- $images := include "cnpg-backup.imageSuffixes" (dict "root" . "databases" (include "cnpg-backup.databases" . | fromJsonArray)) | fromJson -}}
{{- $checks := dict -}}
{{- $order := list -}}
{{- range $cronJob := include "cnpg-backup.cronJobs" . | fromJsonArray -}}
{{- if not (first $cronJob.databases).suspended -}}
{{- if not (hasKey $checks $cronJob.image) -}}
{{- $name := printf "%s-test" (include "cnpg-backup.cronJobName" (dict "root" $ "suffix" (get $images $cronJob.image))) -}}
{{- $_ := set $checks $cronJob.image (dict "name" $name "image" $cronJob.image "pullPolicy" $cronJob.pullPolicy "databases" list "cronJobs" list) -}}
{{- $order = append $order $cronJob.image -}}
{{- end -}}
{{- $check := get $checks $cronJob.image -}}
{{- $_ := set $check "databases" (concat $check.databases $cronJob.databases) -}}
{{- $_ := set $check "cronJobs" (append $check.cronJobs $cronJob) -}}
{{- end -}}
{{- end -}}
{{- $list := list -}}
{{- range $order }}{{ $list = append $list (get $checks .) }}{{ end -}}
{{- toJson $list -}}
{{- end -}}

{{/* A quantity such as 1.5Gi in bytes, rounded up; 0 for an empty one. */}}
{{- define "cnpg-backup.bytes" -}}
{{- $units := dict "" 1.0 "k" 1e3 "M" 1e6 "G" 1e9 "T" 1e12 "P" 1e15 "Ki" 1024.0 "Mi" 1048576.0 "Gi" 1073741824.0 "Ti" 1099511627776.0 "Pi" 1125899906842624.0 -}}
{{- mulf (regexFind "^[0-9.]+" . | default "0" | float64) (get $units (regexFind "[A-Za-z]*$" .)) | ceil | int64 -}}
{{- end -}}

{{/*
The pod's `<database>.conf`, see docs/architecture.md: every key, so that its readers need no defaults. No database gets more
than `timeout`, the seconds of the whole dump.
*/}}
{{- define "cnpg-backup.databaseConf" -}}
{{- $timeout := .timeout -}}
{{- $most := 0 -}}
{{- range .tiers }}{{ $most = add $most (int64 .keep) }}{{ end -}}
{{- with .database -}}
database={{ .name }}
cluster={{ .cluster }}
namespace={{ .namespace }}
dbname={{ .database }}
host={{ .host }}
standby_host={{ .standbyHost }}
port={{ int64 .port }}
sslmode={{ .sslmode }}
username={{ .username }}
compression={{ .compression }}
timeout={{ min (int64 .timeout) (int64 $timeout) }}
wait_timeout={{ int64 .waitTimeout }}
lock_timeout={{ int64 .lockTimeout }}
lock_wait_timeout={{ int64 .lockWaitTimeout }}
retries={{ int64 .retries }}
allow_empty={{ .allowEmpty }}
count_rows={{ .countRows }}
on_shrink={{ .onShrink }}
allow_large_prune={{ .allowLargePrune }}
large_prune_percent={{ int64 .largePrunePercent }}
max_bytes={{ include "cnpg-backup.bytes" .maxBytes }}
min_backups={{ int64 .minBackups }}
most_backups={{ $most }}
{{- range .excludeTables }}
extra_arg=--exclude-table={{ . }}
{{- end }}
{{- range .excludeTableData }}
extra_arg=--exclude-table-data={{ . }}
{{- end }}
{{- range .extraArgs }}
extra_arg={{ . }}
{{- end }}
{{ end -}}
{{- end -}}

{{/* The retention policy of all databases, with what `override` of one database replaces, as JSON. */}}
{{- define "cnpg-backup.policy" -}}
{{- $policy := merge dict (pick (.override | default dict) "phase" "tiers") (pick .root.Values.retention "phase" "tiers") -}}
{{- if kindIs "string" $policy.phase -}}
{{- $_ := set $policy "phase" (sub (mul 60 (int64 (include "cnpg-backup.schedule" .root | fromJson).minute)) 900) -}}
{{- end -}}
{{- toPrettyJson $policy }}
{{ end -}}

{{/* Files of one CronJob's configuration, as YAML: key and content. */}}
{{- define "cnpg-backup.config" -}}
{{- $timeout := (include "cnpg-backup.deadlines" .root | fromJson).dump -}}
{{- $files := dict "policy.json" (include "cnpg-backup.policy" (dict "root" .root)) -}}
{{- range $db := .cronJob.databases -}}
{{- $_ := set $files (printf "%s.conf" $db.name) (include "cnpg-backup.databaseConf" (dict "timeout" $timeout "tiers" (($db.retention | default dict).tiers | default $.root.Values.retention.tiers) "database" $db)) -}}
{{- if $.cronJob.restore -}}
{{- with $db.drillAssertions -}}
{{- $_ := set $files (printf "%s.assertions" $db.name) (printf "%s\n" (join "\n" .)) -}}
{{- end -}}
{{- end -}}
{{- with $db.retention -}}
{{- $_ := set $files (printf "%s.policy.json" $db.name) (include "cnpg-backup.policy" (dict "root" $.root "override" .)) -}}
{{- end -}}
{{- end -}}
{{- /* PostgreSQL makes no database cluster for a user without a name, and its images know only their own. */ -}}
{{- with .root.Values.podSecurityContext.runAsUser -}}
{{- if $.cronJob.drill }}{{ $_ := set $files "passwd" (printf "postgres:x:%d:%d::/run/cnpg-backup:/bin/sh\n" (int64 .) (int64 ($.root.Values.podSecurityContext.runAsGroup | default .))) }}{{ end -}}
{{- end -}}
{{- toYaml $files -}}
{{- end -}}

{{- define "cnpg-backup.configName" -}}
{{- printf "%s-config-%s" .cronJob.name (include "cnpg-backup.config" . | sha256sum | trunc 10) -}}
{{- end -}}
