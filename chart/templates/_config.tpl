{{/* What the pods read: the files of /etc/cnpg-backup. */}}

{{/* A quantity such as 1.5Gi, or a number, in bytes, rounded up; 0 for an empty one. */}}
{{- define "cnpg-backup.bytes" -}}
{{- $units := dict
  "" 1.0 "m" 1e-3 "k" 1e3 "M" 1e6 "G" 1e9 "T" 1e12 "P" 1e15
  "Ki" 1024.0 "Mi" 1048576.0 "Gi" 1073741824.0 "Ti" 1099511627776.0 "Pi" 1125899906842624.0 -}}
{{- $quantity := ternary . (. | int64 | toString) (kindIs "string" (. | default "")) -}}
{{- mulf (regexFind "^[0-9.]+" $quantity | default "0" | float64) (get $units (regexFind "[A-Za-z]*$" $quantity)) | ceil | int64 -}}
{{- end -}}

{{/*
The pod's `<database>.conf`, see docs/architecture.md: every key, so that its readers need no defaults. No database gets more
than `timeout`, the seconds of the whole dump.
*/}}
{{- define "cnpg-backup.databaseConf" -}}
{{- $timeout := required "cnpg-backup.databaseConf needs timeout" .timeout -}}
{{- $most := include "cnpg-backup.mostBackups" .policy -}}
{{- with required "cnpg-backup.databaseConf needs database" .database -}}
database={{ .name }}
cluster={{ .cluster }}
namespace={{ .namespace }}
dbname={{ .database }}
host={{ .host }}
standby_host={{ .standbyHost }}
port={{ int64 .port }}
sslmode={{ .sslmode }}
username={{ .username }}
{{- $own := .secret.uriKey | default .secret.usernameKey }}
{{- $owners := .ownerSecret.uriKey | default .ownerSecret.usernameKey }}
dumps_as_owner={{ and (not .username) (eq .secret.name .ownerSecret.name) (eq $own $owners) }}
compression={{ .compression }}
timeout={{ min (int64 .timeout) (int64 $timeout) }}
wait_timeout={{ int64 .waitTimeout }}
lock_timeout={{ int64 .lockTimeout }}
lock_wait_timeout={{ int64 .lockWaitTimeout }}
retries={{ int64 .retries }}
allow_empty={{ .allowEmpty }}
count_rows={{ .countRows }}
roles={{ .roles }}
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
{{- range .exclude }}
exclude={{ . }}
{{- end }}
{{ end -}}
{{- end -}}

{{/* Parameters of the server of a drill, as lines of postgresql.conf. */}}
{{- define "cnpg-backup.drillParameters" -}}
{{- range $name, $value := . -}}
{{- $text := kindIs "float64" $value | ternary (int64 $value | toString) (toString $value) -}}
{{ $name }} = '{{ $text | replace "\\" "\\\\" | replace "'" "''" }}'
{{ end -}}
{{- end -}}

{{/*
Files of the configuration of `cronJob`, as YAML: key and content. It is one CronJob that backs up, or the group of databases
of a restore and a drill, which has its `restore` and `drill`.
*/}}
{{- define "cnpg-backup.config" -}}
{{- include "cnpg-backup.once" (dict "root" .root "make" "cnpg-backup.makeConfig" "of" . "key" .cronJob.name) -}}
{{- end -}}

{{- define "cnpg-backup.makeConfig" -}}
{{- $common := include "cnpg-backup.schedule" .root | fromJson -}}
{{- $files := dict "policy.json" (include "cnpg-backup.retentionPolicy" (dict "root" .root "schedule" $common)) -}}
{{- $policy := get $files "policy.json" | fromJson -}}
{{- $timeout := (include "cnpg-backup.deadlines" .root | fromJson).dump -}}
{{- range $db := .cronJob.databases -}}
  {{- $its := dict "timeout" $timeout "policy" $policy "database" $db -}}
  {{- if $db.ownPolicy -}}
    {{- $schedule := dict "root" $.root "schedule" $db.schedule -}}
    {{- $_ := set $its "timeout" (include "cnpg-backup.deadlines" $schedule | fromJson).dump -}}
    {{- $json := include "cnpg-backup.retentionPolicy" (dict
      "root" $.root "database" $db "schedule" (include "cnpg-backup.schedule" $schedule | fromJson)) -}}
    {{- $_ := set $files (printf "%s.policy.json" $db.name) $json -}}
    {{- $_ := set $its "policy" (fromJson $json) -}}
  {{- end -}}
  {{- $conf := include "cnpg-backup.databaseConf" $its -}}
  {{- $_ := set $files $db.file $conf -}}
  {{- if and $.cronJob.restore $db.drillAssertions -}}
    {{- $_ := set $files (printf "%s.assertions" $db.name) (printf "%s\n" (join "\n" $db.drillAssertions)) -}}
  {{- end -}}
{{- end -}}
{{- if and .cronJob.drill .root.Values.drill.postgresql -}}
  {{- $_ := set $files "drill.parameters" (include "cnpg-backup.drillParameters" .root.Values.drill.postgresql) -}}
{{- end -}}
{{- /* PostgreSQL makes no database cluster for a user without a name, and its images know only their own. */ -}}
{{- with include "cnpg-backup.podId" (dict "root" .root "key" "runAsUser") -}}
  {{- if $.cronJob.drill -}}
    {{- $group := include "cnpg-backup.podId" (dict "root" $.root "key" "runAsGroup") | default . -}}
    {{- $_ := set $files "passwd" (printf "postgres:x:%d:%d::/run/cnpg-backup:/bin/sh\n" (int64 .) (int64 $group)) -}}
  {{- end -}}
{{- end -}}
{{- toYaml $files -}}
{{- end -}}

{{/* Name of the ConfigMap of that configuration; `config` is its content if the caller already has it. */}}
{{- define "cnpg-backup.configName" -}}
{{- $config := .config -}}
{{- if not $config -}}
  {{- $config = include "cnpg-backup.config" . -}}
{{- end -}}
{{- printf "%s-config-%s" .cronJob.name ($config | sha256sum | trunc 10) -}}
{{- end -}}
