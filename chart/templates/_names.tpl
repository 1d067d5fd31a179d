{{/*
Base of all names and value of the label `app`: the release's name. No suffix for the chart's name, since the releases
`a` and `a-cnpg-backup` would then meet.
*/}}
{{- define "cnpg-backup.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride -}}
{{- else if or .Values.nameOverride (not .Chart.IsRoot) -}}
{{- include "cnpg-backup.shorten" (dict "name" (printf "%s-%s" .Release.Name (.Values.nameOverride | default .Chart.Name)) "max" 53) -}}
{{- else -}}
{{- .Release.Name -}}
{{- end -}}
{{- end -}}

{{/* A name that fits `max`: as it is, or cut, with a hash of the whole, so that two long names stay two. */}}
{{- define "cnpg-backup.shorten" -}}
{{- if gt (len .name) (int .max) -}}
{{- printf "%s-%s" (.name | trunc (int (sub .max 9)) | trimSuffix "-" | trimSuffix ".") (.name | sha256sum | trunc 8) -}}
{{- else -}}
{{- .name -}}
{{- end -}}
{{- end -}}

{{/*
Name of the CronJob with a suffix. A CronJob's name has at most 52 characters, since its Jobs add 11.
The release `cnpg-backup` has the name that no other can get: others end in `-pg-dump` before the suffix.
*/}}
{{- define "cnpg-backup.cronJobName" -}}
{{- $fullname := include "cnpg-backup.fullname" .root -}}
{{- if .root.Values.cronJob.nameOverride -}}
{{- printf "%s%s" .root.Values.cronJob.nameOverride .suffix -}}
{{- else if eq $fullname "cnpg-backup" -}}
{{- printf "cnpg-pg-dump-backup%s" .suffix -}}
{{- else -}}
{{- printf "%s-pg-dump%s" (include "cnpg-backup.shorten" (dict "name" $fullname "max" (sub 44 (len .suffix)))) .suffix -}}
{{- end -}}
{{- end -}}

{{/*
The end of a CronJob's name that says a shard or a database, at most 21 characters. What could be read as something else
(an image's major, the middle of another release's name) or does not fit has a hash.
*/}}
{{- define "cnpg-backup.shardSuffix" -}}
{{- $safe := regexReplaceAll "[^a-z0-9]+" . "-" -}}
{{- if or (ne $safe .) (gt (len $safe) 20) (regexMatch "^([0-9]|backup)|pg-dump" $safe) -}}
{{- $safe = printf "%s-%s" ($safe | trunc 11 | trimSuffix "-") (. | sha256sum | trunc 8) -}}
{{- end -}}
{{- printf "-%s" $safe -}}
{{- end -}}

{{/* Name of the claim that is mounted. */}}
{{- define "cnpg-backup.claimName" -}}
{{- $fullname := include "cnpg-backup.fullname" . -}}
{{- if .Values.persistence.existingClaim -}}
{{- .Values.persistence.existingClaim -}}
{{- else if .Values.persistence.nameOverride -}}
{{- .Values.persistence.nameOverride -}}
{{- else if eq $fullname "cnpg-backup" -}}
cnpg-backups-pvc
{{- else -}}
{{- printf "%s-backups" $fullname -}}
{{- end -}}
{{- end -}}

{{/*
Name of one of the access policies, which have no namespace and at most 63 characters. Namespace and release are hashed with
a separator that neither can hold.
*/}}
{{- define "cnpg-backup.policyName" -}}
{{- $fullname := include "cnpg-backup.fullname" .root -}}
{{- $namespace := .root.Release.Namespace -}}
{{- if and (eq $fullname "cnpg-backup") (eq $namespace "default") -}}
restrict-cnpg-backup-pvc-{{ .policy }}
{{- else -}}
{{- $hash := printf "%s/%s" $namespace $fullname | sha256sum | trunc 8 -}}
{{- printf "restrict-%s-%s-pvc-%s" (printf "%s-%s" $namespace $fullname | trunc 33 | trimSuffix "-" | trimSuffix ".") $hash .policy -}}
{{- end -}}
{{- end -}}

{{- define "cnpg-backup.serviceAccountName" -}}
{{- if .Values.serviceAccount.name -}}
{{- .Values.serviceAccount.name -}}
{{- else if .Values.serviceAccount.create -}}
{{- include "cnpg-backup.fullname" . -}}
{{- else -}}
default
{{- end -}}
{{- end -}}

{{/* Labels that selectors use; they never change between versions of the chart. */}}
{{- define "cnpg-backup.selectorLabels" -}}
{{- toYaml (dict "app" (include "cnpg-backup.fullname" .)) -}}
{{- end -}}

{{/* Labels of an object; neither `extra` nor the common ones replace the chart's own. */}}
{{- define "cnpg-backup.labels" -}}
{{- $own := dict
  "app" (include "cnpg-backup.fullname" .root)
  "app.kubernetes.io/name" "cnpg-backup"
  "app.kubernetes.io/instance" .root.Release.Name
  "app.kubernetes.io/version" .root.Chart.AppVersion
  "app.kubernetes.io/managed-by" .root.Release.Service
  "helm.sh/chart" (printf "cnpg-backup-%s" .root.Chart.Version | replace "+" "_") -}}
{{- toYaml (merge $own (.extra | default dict) .root.Values.commonLabels) -}}
{{- end -}}

{{/* Labels by which Longhorn finds the volume for its recurring jobs, as JSON; it heeds none of them without the first. */}}
{{- define "cnpg-backup.longhornLabels" -}}
{{- $labels := dict -}}
{{- with .Values.persistence.longhorn -}}
{{- range .recurringJobs }}{{ $_ := set $labels (printf "recurring-job.longhorn.io/%s" .) "enabled" }}{{ end -}}
{{- range .recurringJobGroups }}{{ $_ := set $labels (printf "recurring-job-group.longhorn.io/%s" .) "enabled" }}{{ end -}}
{{- end -}}
{{- if $labels }}{{ $_ := set $labels "recurring-job.longhorn.io/source" "enabled" }}{{ end -}}
{{- toJson $labels -}}
{{- end -}}

{{/* Labels of the pods: no version in them, so that a new version of the chart changes no pod that it need not. */}}
{{- define "cnpg-backup.podLabels" -}}
{{- $own := dict
  "app" (include "cnpg-backup.fullname" .root)
  "app.kubernetes.io/name" "cnpg-backup"
  "app.kubernetes.io/instance" .root.Release.Name
  "app.kubernetes.io/component" .component -}}
{{- toYaml (merge $own .root.Values.podLabels .root.Values.commonLabels) -}}
{{- end -}}

{{/* The annotations of an object, with their key, or nothing: `own` first, then `extra` and the common ones. */}}
{{- define "cnpg-backup.annotations" -}}
{{- with merge dict (.own | default dict) (.extra | default dict) .root.Values.commonAnnotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
{{- end -}}
{{- end -}}

{{/* Reference of an image: registry, repository, tag and digest. */}}
{{- define "cnpg-backup.image" -}}
{{- $registry := .root.Values.global.imageRegistry | default .image.registry -}}
{{- with $registry -}}{{ . }}/{{- end -}}
{{- .image.repository -}}
{{- with .image.tag }}:{{ . }}{{ end -}}
{{- with .image.digest }}@{{ . }}{{ end -}}
{{- end -}}

{{/*
Paths of the programs below `files/`, as a JSON list: the copies of the Python package and of the pod scripts. Without one of
them the chart would install and never back up.
*/}}
{{- define "cnpg-backup.programs" -}}
{{- $paths := list -}}
{{- range prepend (.Files.Lines "files/index") "index" -}}
  {{- if . -}}
    {{- if not ($.Files.Glob (printf "files/%s" .)) -}}
      {{- printf "this copy of the chart is incomplete: files/%s is missing; take the packaged chart, or run make sync" . | fail -}}
    {{- end -}}
    {{- $paths = append $paths . -}}
  {{- end -}}
{{- end -}}
{{- rest $paths | toJson -}}
{{- end -}}

{{/* Name of their ConfigMap. The hash is that of the files and not of their YAML, which would take twenty times as long. */}}
{{- define "cnpg-backup.scriptsName" -}}
{{- $hashes := list -}}
{{- range include "cnpg-backup.programs" . | fromJsonArray -}}
  {{- $hashes = append $hashes (printf "%s %s" . ($.Files.Get (printf "files/%s" .) | sha256sum)) -}}
{{- end -}}
{{- printf "%s-scripts-%s" (include "cnpg-backup.fullname" .) (join "\n" $hashes | sha256sum | trunc 10) -}}
{{- end -}}
