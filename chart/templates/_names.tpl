{{/*
Base of all names and value of the label `app`: the release's name. It has no suffix for the chart's name: the releases `a` and
`a-cnpg-backup` would then have the same names.
*/}}
{{- define "cnpg-backup.fullname" -}}
{{- if .Values.fullnameOverride -}}
  {{- .Values.fullnameOverride -}}
{{- else if or .Values.nameOverride (not .Chart.IsRoot) -}}
  {{- $name := printf "%s-%s" .Release.Name (.Values.nameOverride | default .Chart.Name) -}}
  {{- include "cnpg-backup.shorten" (dict "name" $name "max" 53) -}}
{{- else -}}
  {{- .Release.Name -}}
{{- end -}}
{{- end -}}

{{/* A name that fits `max`: as it is, or cut, with a hash of the full name, so that two long names stay different. */}}
{{- define "cnpg-backup.shorten" -}}
{{- if gt (len .name) (int .max) -}}
  {{- $start := .name | trunc (int (sub .max 9)) | trimSuffix "-" | trimSuffix "." -}}
  {{- printf "%s-%s" $start (.name | sha256sum | trunc 8) -}}
{{- else -}}
  {{- .name -}}
{{- end -}}
{{- end -}}

{{/*
Name of a CronJob that backs up, with a suffix. A CronJob's name has at most 52 characters, since its Jobs add 11.
The release `cnpg-backup` has a name that no other release can get: the others end in `-pg-dump` before the suffix.
*/}}
{{- define "cnpg-backup.cronJobName" -}}
{{- $fullname := include "cnpg-backup.fullname" .root -}}
{{- if .root.Values.cronJob.nameOverride -}}
  {{- printf "%s%s" .root.Values.cronJob.nameOverride .suffix -}}
{{- else if eq $fullname "cnpg-backup" -}}
  {{- printf "cnpg-pg-dump-backup%s" .suffix -}}
{{- else -}}
  {{- $start := include "cnpg-backup.shorten" (dict "name" $fullname "max" (sub 44 (len .suffix))) -}}
  {{- printf "%s-pg-dump%s" $start .suffix -}}
{{- end -}}
{{- end -}}

{{/*
The end of a CronJob's name that marks a shard or a database, at most 21 characters. It has a hash where the name does not fit, or
could be taken for something else: an image's major version, or the middle of another release's name.
*/}}
{{- define "cnpg-backup.shardSuffix" -}}
{{- $safe := regexReplaceAll "[^a-z0-9]+" . "-" -}}
{{- if or (ne $safe .) (gt (len $safe) 20) (regexMatch "^([0-9]|backup)|pg-dump" $safe) -}}
  {{- $safe = printf "%s-%s" ($safe | trunc 11 | trimSuffix "-") (. | sha256sum | trunc 8) -}}
{{- end -}}
{{- printf "-%s" $safe -}}
{{- end -}}

{{/*
The end of a CronJob's name that marks the shard and the schedule of its databases, at most 21 characters. A schedule that is not the
release's adds a hash, so that it renames no other CronJob.
*/}}
{{- define "cnpg-backup.groupSuffix" -}}
{{- if .ownSchedule -}}
  {{- $start := .shard | default "at" | trunc 11 | trimSuffix "-" -}}
  {{- printf "-%s-%s" $start (printf "%s %s" .shard .ownSchedule | sha256sum | trunc 8) -}}
{{- else -}}
  {{- include "cnpg-backup.shardSuffix" .shard -}}
{{- end -}}
{{- end -}}

{{/*
Name of the CronJob of a restore, a drill or an inspector: `<release>-restore` and so on, at most 52 characters. No CronJob that
backs up ends like that, so that no two releases have the same names.
*/}}
{{- define "cnpg-backup.operationName" -}}
{{- $max := sub 52 (len .suffix) -}}
{{- printf "%s%s" (include "cnpg-backup.shorten" (dict "name" (include "cnpg-backup.fullname" .root) "max" $max)) .suffix -}}
{{- end -}}

{{/* Name of the claim that is mounted. */}}
{{- define "cnpg-backup.claimName" -}}
{{- $fullname := include "cnpg-backup.fullname" . -}}
{{- if .Values.persistence.existingClaim -}}
  {{- .Values.persistence.existingClaim -}}
{{- else if .Values.persistence.nameOverride -}}
  {{- .Values.persistence.nameOverride -}}
{{- else if eq $fullname "cnpg-backup" -}}
  {{- print "cnpg-backups-pvc" -}}
{{- else -}}
  {{- printf "%s-backups" $fullname -}}
{{- end -}}
{{- end -}}

{{/* Name of the volume that the claim names: one that exists, or the one that the chart makes of an NFS export; else empty. */}}
{{- define "cnpg-backup.volumeName" -}}
{{- if .Values.persistence.nfs.server -}}
  {{- $claim := include "cnpg-backup.claimName" . -}}
  {{- $start := printf "%s-%s" .Release.Namespace $claim | trunc 54 | trimSuffix "-" | trimSuffix "." -}}
  {{- printf "%s-%s" $start (printf "%s/%s" .Release.Namespace $claim | sha256sum | trunc 8) -}}
{{- else -}}
  {{- .Values.persistence.volumeName -}}
{{- end -}}
{{- end -}}

{{/*
Name of one of the access policies. They have no namespace and at most 63 characters. The hash is of namespace and release with
a separator that neither can hold.
*/}}
{{- define "cnpg-backup.accessPolicyName" -}}
{{- $fullname := include "cnpg-backup.fullname" .root -}}
{{- $namespace := .root.Release.Namespace -}}
{{- if and (eq $fullname "cnpg-backup") (eq $namespace "default") -}}
  {{- printf "restrict-cnpg-backup-pvc-%s" .policy -}}
{{- else -}}
  {{- $start := printf "%s-%s" $namespace $fullname | trunc 33 | trimSuffix "-" | trimSuffix "." -}}
  {{- $hash := printf "%s/%s" $namespace $fullname | sha256sum | trunc 8 -}}
  {{- printf "restrict-%s-%s-pvc-%s" $start $hash .policy -}}
{{- end -}}
{{- end -}}

{{- define "cnpg-backup.serviceAccountName" -}}
{{- if .Values.serviceAccount.name -}}
  {{- .Values.serviceAccount.name -}}
{{- else if .Values.serviceAccount.create -}}
  {{- include "cnpg-backup.fullname" . -}}
{{- else -}}
  {{- print "default" -}}
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

{{/* Labels by which Longhorn finds the volume for its recurring jobs, as JSON; without the label `source` it ignores the others. */}}
{{- define "cnpg-backup.longhornLabels" -}}
{{- $labels := dict -}}
{{- with .Values.persistence.longhorn -}}
  {{- range .recurringJobs -}}
    {{- $_ := set $labels (printf "recurring-job.longhorn.io/%s" .) "enabled" -}}
  {{- end -}}
  {{- range .recurringJobGroups -}}
    {{- $_ := set $labels (printf "recurring-job-group.longhorn.io/%s" .) "enabled" -}}
  {{- end -}}
{{- end -}}
{{- if $labels -}}
  {{- $_ := set $labels "recurring-job.longhorn.io/source" "enabled" -}}
{{- end -}}
{{- toJson $labels -}}
{{- end -}}

{{/* Labels of the pods. They hold no version: a new version of the chart changes only those pods that it has to. */}}
{{- define "cnpg-backup.podLabels" -}}
{{- $own := dict
  "app" (include "cnpg-backup.fullname" .root)
  "app.kubernetes.io/name" "cnpg-backup"
  "app.kubernetes.io/instance" .root.Release.Name
  "app.kubernetes.io/component" .component -}}
{{- toYaml (merge $own .root.Values.podLabels .root.Values.commonLabels) -}}
{{- end -}}

{{/* The annotations of an object with their key, or nothing; `own` ones come before `extra` ones, and these before common ones. */}}
{{- define "cnpg-backup.annotations" -}}
{{- with merge dict (.own | default dict) (.extra | default dict) .root.Values.commonAnnotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
{{- end -}}
{{- end -}}

{{/* Whether the claim names its storage class, be it none at all; empty if the cluster's default class is wanted. */}}
{{- define "cnpg-backup.namesStorageClass" -}}
{{- $class := get .Values.persistence "storageClassName" -}}
{{- if .Values.persistence.nfs.server -}}
  {{- print "yes" -}}
{{- else if and (hasKey .Values.persistence "storageClassName") (kindIs "string" $class) (ne (toString $class) "auto") -}}
  {{- print "yes" -}}
{{- end -}}
{{- end -}}

{{/* Annotations of a CronJob that only is a template: Argo CD would show the application as suspended for it. */}}
{{- define "cnpg-backup.templateAnnotations" -}}
argocd.argoproj.io/ignore-healthcheck: "true"
{{- end -}}

{{/* Reference of an image: registry, repository, tag and digest. */}}
{{- define "cnpg-backup.image" -}}
{{- $registry := .root.Values.global.imageRegistry | default .image.registry -}}
{{- with $registry -}}{{ . }}/{{- end -}}
{{- .image.repository -}}
{{- /* A tag may bring its digest, as Renovate writes it; `digest` replaces it. */ -}}
{{- with ternary (regexReplaceAll "@.*" .image.tag "") .image.tag (empty .image.digest | not) }}:{{ . }}{{ end -}}
{{- with .image.digest }}@{{ . }}{{ end -}}
{{- end -}}

{{/*
Paths of all files of charts/programs, as a JSON list: the copies of the Python packages and of the pod scripts. Without one of them the
chart would install and never back up.
*/}}
{{- define "cnpg-backup.files" -}}
{{- include "cnpg-backup.once" (dict "root" . "make" "cnpg-backup.makeFiles") -}}
{{- end -}}

{{- define "cnpg-backup.makeFiles" -}}
{{- $there := dict -}}
{{- range $path, $_ := .Subcharts.programs.Files.Glob "files/**" -}}
  {{- $_ := set $there $path true -}}
{{- end -}}
{{- $paths := list -}}
{{- range prepend (.Subcharts.programs.Files.Lines "files/index") "index" -}}
  {{- if . -}}
    {{- if not (hasKey $there (printf "files/%s" .)) -}}
      {{- printf (cat
        "this copy of the chart is incomplete: charts/programs/files/%s is missing;"
        "take the packaged chart, or run make sync") . | fail -}}
    {{- end -}}
    {{- $paths = append $paths . -}}
  {{- end -}}
{{- end -}}
{{- rest $paths | toJson -}}
{{- end -}}

{{/* Paths of the programs of the pods that see backups: all of them but the watcher's, and those of copies only if there are any. */}}
{{- define "cnpg-backup.programs" -}}
{{- include "cnpg-backup.once" (dict "root" . "make" "cnpg-backup.makePrograms") -}}
{{- end -}}

{{- define "cnpg-backup.makePrograms" -}}
{{- $paths := list -}}
{{- range include "cnpg-backup.files" . | fromJsonArray -}}
  {{- if not (or (hasPrefix "watch/" .) (and (hasPrefix "offsite/" .) (not $.Values.offsite.enabled))) -}}
    {{- $paths = append $paths . -}}
  {{- end -}}
{{- end -}}
{{- toJson $paths -}}
{{- end -}}

{{/*
The key of a program in a ConfigMap, and its name in the folder that a pod mounts. A key contains no slash, and a list of keys and paths
in each of many CronJobs would not fit where Helm keeps a release; scripts/sitecustomize.py finds the modules by these names.
*/}}
{{- define "cnpg-backup.programKey" -}}
{{- trimPrefix "scripts/" . | replace "/" "." -}}
{{- end -}}

{{/* Name of their ConfigMap. The hash is that of the files and not of their YAML, which would take twenty times as long. */}}
{{- define "cnpg-backup.scriptsName" -}}
{{- include "cnpg-backup.once" (dict "root" . "make" "cnpg-backup.makeScriptsName") -}}
{{- end -}}

{{- define "cnpg-backup.makeScriptsName" -}}
{{- $hashes := list -}}
{{- range include "cnpg-backup.programs" . | fromJsonArray -}}
  {{- $hashes = append $hashes (printf "%s %s" . ($.Subcharts.programs.Files.Get (printf "files/%s" .) | sha256sum)) -}}
{{- end -}}
{{- printf "%s-scripts-%s" (include "cnpg-backup.fullname" .) (join "\n" $hashes | sha256sum | trunc 10) -}}
{{- end -}}
