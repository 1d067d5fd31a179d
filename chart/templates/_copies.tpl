{{/* Copies on a schedule, such as production to staging: see docs/copies.md. */}}

{{/*
The copies, as a JSON list of `copy` (the entry of values), `name` (of its CronJob), `group` (the databases of the same image), `database`
(with the Secrets of the cluster that gets the copy) and `elsewhere` (whether that is another cluster). Entries that name no database are
left out: cnpg-backup.copyErrors refuses them.
*/}}
{{- define "cnpg-backup.copies" -}}
{{- include "cnpg-backup.once" (dict "root" . "make" "cnpg-backup.makeCopies") -}}
{{- end -}}

{{- define "cnpg-backup.makeCopies" -}}
{{- $list := list -}}
{{- range $copy := .Values.copies -}}
  {{- range $group := include "cnpg-backup.operations" $ | fromJsonArray -}}
    {{- range $db := $group.databases -}}
      {{- if include "cnpg-backup.copiesFrom" (dict "copy" $copy "database" $db) -}}
        {{- $from := printf "%s/%s" $db.namespace $db.cluster -}}
        {{- $elsewhere := and $copy.cluster (ne (printf "%s/%s" $.Release.Namespace $copy.cluster) $from) -}}
        {{- $target := deepCopy $db -}}
        {{- if $elsewhere -}}
          {{- $login := dict "usernameKey" "username" "passwordKey" "password" "uriKey" "" -}}
          {{- $_ := set $target "ownerSecret" (merge (dict "name" (printf "%s-app" $copy.cluster)) $login) -}}
          {{- $_ := set $target "superuserSecret" (merge (dict "name" (printf "%s-superuser" $copy.cluster)) $login) -}}
          {{- $_ := set $target "caSecret" (dict "name" (printf "%s-ca" $copy.cluster) "key" "ca.crt") -}}
        {{- end -}}
        {{- $name := include "cnpg-backup.operationName" (dict "root" $ "suffix" (printf "-copy-%s" $copy.name)) -}}
        {{- $list = append $list (dict
          "copy" $copy "name" $name "group" $group "database" $target "elsewhere" ($elsewhere | empty | not)) -}}
      {{- end -}}
    {{- end -}}
  {{- end -}}
{{- end -}}
{{- toJson $list -}}
{{- end -}}

{{/* Whether a copy is one of a database; with `databases: "*"` a run names its databases `<entry>.<name>`. */}}
{{- define "cnpg-backup.copiesFrom" -}}
{{- if or (eq .copy.database .database.name) (and .database.databases (hasPrefix (print .database.name ".") .copy.database)) -}}
{{- print "yes" -}}
{{- end -}}
{{- end -}}

{{- define "cnpg-backup.copyErrors" -}}
{{- $errors := list -}}
{{- $names := dict -}}
{{- $databases := include "cnpg-backup.databases" . | fromJsonArray -}}
{{- range $index, $copy := .Values.copies -}}
  {{- $where := printf "copies[%d] (%s)" $index $copy.name -}}
  {{- if hasKey $names $copy.name -}}
    {{- $errors = append $errors (printf "%s: copies[%s] has the same name; rename one of them" $where (get $names $copy.name)) -}}
  {{- end -}}
  {{- $_ := set $names $copy.name (toString $index) -}}
  {{- if not (include "cnpg-backup.schedule" (dict "root" $ "schedule" $copy.schedule) | fromJson).possible -}}
    {{- $errors = append $errors (printf "%s: schedule %q can never fire; correct it" $where $copy.schedule) -}}
  {{- end -}}
  {{- if and (eq ($copy.backup | default "proved") "proved") (not $.Values.drill.enabled) -}}
    {{- $errors = append $errors (printf
      "%s: only drills prove backups, and drill.enabled is false; set backup: newest, or enable the drills" $where) -}}
  {{- end -}}
  {{- $source := dict -}}
  {{- range $db := $databases -}}
    {{- if include "cnpg-backup.copiesFrom" (dict "copy" $copy "database" $db) -}}
      {{- $source = $db -}}
    {{- end -}}
  {{- end -}}
  {{- if not $source -}}
    {{- $errors = append $errors (printf
      "%s: database %q is not in databases; name an entry, or <entry>.<database> of one with databases: \"*\"" $where $copy.database) -}}
  {{- else if and $source.databases (eq $copy.database $source.name) -}}
    {{- $errors = append $errors (printf
      "%s: %q means all databases of a cluster; name one of them, as `kubectl cnpg-backup list` shows it" $where $copy.database) -}}
  {{- else -}}
    {{- $cluster := printf "%s/%s" $.Release.Namespace $copy.cluster -}}
    {{- if not $copy.cluster -}}
      {{- $cluster = printf "%s/%s" $source.namespace $source.cluster -}}
    {{- end -}}
    {{- $into := $copy.into | default (ternary "" $source.database (empty $source.databases | not)) -}}
    {{- if and (not $copy.into) (eq $cluster (printf "%s/%s" $source.namespace $source.cluster)) -}}
      {{- $errors = append $errors (printf
        "%s: the copy would be in the place of the database itself; name another cluster, or another database in into" $where) -}}
    {{- end -}}
    {{- range $db := $databases -}}
      {{- if and $copy.into (not $db.databases) (eq $cluster (printf "%s/%s" $db.namespace $db.cluster)) (eq $into $db.database) -}}
        {{- $errors = append $errors (printf
          "%s: the copy would replace database %s, which is backed up; name another database in into" $where $db.name) -}}
      {{- end -}}
    {{- end -}}
  {{- end -}}
{{- end -}}
{{- toJson $errors -}}
{{- end -}}

{{- define "cnpg-backup.copyEnv" -}}
{{- $copy := .copy.copy -}}
- name: HOME
  value: /run/cnpg-backup
- name: RESTORE_CLUSTER
  value: {{ ternary (printf "%s/%s" .root.Release.Namespace $copy.cluster) "" .copy.elsewhere | quote }}
- name: RESTORE_INTO
  value: {{ $copy.into | default "" | quote }}
- name: RESTORE_COPY
  value: "yes"
- name: RESTORE_SQL
  value: {{ ternary "/etc/cnpg-backup-sql" "" ($copy.sqlConfigMap | empty | not) | quote }}
- name: RESTORE_WAY
  value: beside
- name: RESTORE_OWNER
  value: {{ $copy.owner | default "" | quote }}
- name: RESTORE_JOBS
  value: auto
- name: RESTORE_TERMINATION_LOG
  value: /dev/termination-log
{{- end -}}
