{{/*
The watcher: one small pod that reads the release's CronJobs, Jobs and pods, and says how its backups are. It must never carry the label
`app` of the pods that back up: their NetworkPolicy, affinity and access policy go by it.
*/}}

{{- define "cnpg-backup.watchName" -}}
{{- printf "%s-status" (include "cnpg-backup.fullname" .) -}}
{{- end -}}

{{/* Whether the cluster serves the API of Prometheus' operator; empty if not. */}}
{{- define "cnpg-backup.prometheusSeen" -}}
{{- $versions := .Capabilities.APIVersions -}}
{{- if or ($versions.Has "monitoring.coreos.com/v1/PrometheusRule") ($versions.Has "monitoring.coreos.com/v1") -}}
  {{- print "yes" -}}
{{- end -}}
{{- end -}}

{{/* Whether `enabled`, true, false or auto, means yes: auto does where that API is served. Empty if not. */}}
{{- define "cnpg-backup.monitoringWants" -}}
{{- $enabled := toString .enabled -}}
{{- if or (eq $enabled "true") (and (eq $enabled "auto") (include "cnpg-backup.prometheusSeen" .root)) -}}
  {{- print "yes" -}}
{{- end -}}
{{- end -}}

{{/* Whom the watcher notifies, as a JSON list; healthchecks is the sign of life. */}}
{{- define "cnpg-backup.notified" -}}
{{- $found := list -}}
{{- range list "healthchecks" "webhook" "ntfy" "slack" "alertmanager" -}}
  {{- if (get $.Values.notify .).secret.name -}}
    {{- $found = append $found . -}}
  {{- end -}}
{{- end -}}
{{- toJson $found -}}
{{- end -}}

{{/* Whether there is a watcher; empty if not. */}}
{{- define "cnpg-backup.watched" -}}
{{- $enabled := .Values.monitoring.enabled -}}
{{- /* Who is to be notified needs somebody who does it. */ -}}
{{- if and (eq (toString $enabled) "auto") (include "cnpg-backup.notified" . | fromJsonArray) -}}
  {{- $enabled = true -}}
{{- end -}}
{{- include "cnpg-backup.monitoringWants" (dict "root" . "enabled" $enabled) -}}
{{- end -}}

{{/* The label by which its pod is selected. Two releases of a parent chart have one instance, but two names. */}}
{{- define "cnpg-backup.watchSelector" -}}
cnpg-backup/status-of: {{ include "cnpg-backup.fullname" . | toYaml }}
{{- end -}}

{{/* Labels of its pod. Neither podLabels nor commonLabels may add `app`. */}}
{{- define "cnpg-backup.watchPodLabels" -}}
{{- $own := dict
  "app.kubernetes.io/name" "cnpg-backup"
  "app.kubernetes.io/instance" .Release.Name
  "app.kubernetes.io/component" "status" -}}
{{- $own = merge $own (include "cnpg-backup.watchSelector" . | fromYaml) -}}
{{- toYaml (merge $own (omit .Values.podLabels "app") (omit .Values.commonLabels "app")) -}}
{{- end -}}

{{/* Paths of its own programs, as a JSON list. */}}
{{- define "cnpg-backup.watchPrograms" -}}
{{- $paths := list -}}
{{- range include "cnpg-backup.files" . | fromJsonArray -}}
  {{- if hasPrefix "watch/" . -}}
    {{- $paths = append $paths . -}}
  {{- end -}}
{{- end -}}
{{- toJson $paths -}}
{{- end -}}

{{/* What it watches, as JSON: see watch/settings.py. */}}
{{- define "cnpg-backup.watchSettings" -}}
{{- $cronJobs := dict -}}
{{- $thresholds := include "cnpg-backup.thresholdsBySchedule" . | fromJson -}}
{{- range include "cnpg-backup.cronJobs" . | fromJsonArray -}}
  {{- $config := include "cnpg-backup.configName" (dict "root" $ "cronJob" .) -}}
  {{- $its := dict "component" "backup" "staleAfter" (int64 (get $thresholds .schedule).staleAfter) "config" $config -}}
  {{- $_ := set $cronJobs .name (merge $its (include "cnpg-backup.watchDatabases" . | fromJson)) -}}
{{- end -}}
{{- if .Values.drill.enabled -}}
  {{- range include "cnpg-backup.drills" . | fromJsonArray -}}
    {{- $_ := set $cronJobs .drill (merge (dict "component" "drill") (include "cnpg-backup.watchDatabases" . | fromJson)) -}}
  {{- end -}}
{{- end -}}
{{- $drillStaleAfter := 0 -}}
{{- if .Values.drill.enabled -}}
  {{- $drills := dict "root" . "schedule" .Values.drill.schedule "staleAfter" .Values.monitoring.drillStaleAfter -}}
  {{- $drillStaleAfter = int64 (include "cnpg-backup.thresholds" $drills | fromJson).staleAfter -}}
{{- end -}}
{{- $ping := ternary (int64 .Values.notify.healthchecks.every) 0 (empty .Values.notify.healthchecks.secret.name | not) -}}
{{- $outside := 0 -}}
{{- if .Values.offsite.enabled -}}
  {{- $outside = (include "cnpg-backup.offsiteThresholds" . | fromJson).staleAfter -}}
{{- end -}}
{{- toJson (dict
  "outsideStaleAfter" (int64 $outside)
  "pingEvery" $ping
  "drillStaleAfter" $drillStaleAfter
  "events" .Values.monitoring.events
  "targets" (without (include "cnpg-backup.notified" . | fromJsonArray) "healthchecks")
  "remindAfter" (int64 .Values.notify.remindAfter)
  "clusterName" .Values.monitoring.clusterName
  "url" .Values.monitoring.url
  "runbookUrl" .Values.monitoring.rules.runbookUrl
  "namespace" .Release.Namespace
  "release" (include "cnpg-backup.fullname" .)
  "version" .Chart.Version
  "memory" (include "cnpg-backup.watchName" .)
  "timeZone" .Values.timeZone
  "cronjobs" $cronJobs) -}}
{{- end -}}

{{- define "cnpg-backup.watchDatabases" -}}
{{- $found := dict "databases" dict "entries" dict -}}
{{- range .databases -}}
  {{- $kind := ternary "entries" "databases" (hasSuffix ".all" .file) -}}
  {{- $_ := set (get $found $kind) .name (dict "cluster" .cluster "namespace" .namespace "dbname" .database) -}}
{{- end -}}
{{- toJson $found -}}
{{- end -}}

{{/* The volume of the URLs of those who are notified, which are credentials; nothing if there are none. */}}
{{- define "cnpg-backup.notifyVolume" -}}
{{- with include "cnpg-backup.notified" . | fromJsonArray -}}
- name: notify
  projected:
    sources:
      {{- range . }}
      {{- $secret := (get $.Values.notify .).secret }}
      - secret:
          name: {{ $secret.name | toYaml }}
          # Without it the watcher still gives metrics, and says what is missing.
          optional: true
          items:
            - key: {{ $secret.key | toYaml }}
              path: {{ . }}
      {{- end }}
      {{- with $.Values.notify.caSecret }}
      {{- if .name }}
      - secret:
          name: {{ .name | toYaml }}
          optional: true
          items:
            - key: {{ .key | toYaml }}
              path: ca.crt
      {{- end }}
      {{- end }}
{{- end -}}
{{- end -}}

{{/* Data of its ConfigMap. */}}
{{- define "cnpg-backup.watchData" -}}
watch.json: {{ include "cnpg-backup.watchSettings" . | quote }}
{{- range include "cnpg-backup.watchPrograms" . | fromJsonArray }}
{{ include "cnpg-backup.programKey" . }}: |
  {{- $.Subcharts.programs.Files.Get (printf "files/%s" .) | trimSuffix "\n" | nindent 2 | replace "  \n" "\n" }}
{{- end }}
{{- end -}}

{{/* Name of that ConfigMap; a hash of its content, so that each change of it restarts the watcher. */}}
{{- define "cnpg-backup.watchConfigName" -}}
{{- printf "%s-%s" (include "cnpg-backup.watchName" .root) (sha256sum .data | trunc 10) -}}
{{- end -}}
