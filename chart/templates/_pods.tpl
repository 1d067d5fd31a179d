{{/* What is the same for every pod, and what a backup and its test have in common. */}}

{{/*
The number of `key`, a user or group of podSecurityContext; empty if the cluster chooses it. Helm 4.2 and newer drop a null of a parent
chart, or hand it on, so a word says the same.
*/}}
{{- define "cnpg-backup.podId" -}}
{{- $value := get .root.Values.podSecurityContext .key -}}
{{- if and $value (ne (toString $value) "auto") -}}
  {{- int64 $value -}}
{{- end -}}
{{- end -}}

{{/* Security context of every pod: the profile "restricted", with the user and groups of the values. */}}
{{- define "cnpg-backup.podSecurityContext" -}}
runAsNonRoot: true
{{- range $key := list "runAsUser" "runAsGroup" "fsGroup" }}
{{- with include "cnpg-backup.podId" (dict "root" $ "key" $key) }}
{{ $key }}: {{ . }}
{{- end }}
{{- end }}
{{- with .Values.podSecurityContext.supplementalGroups }}
supplementalGroups:
  {{- range . }}
  - {{ int64 . }}
  {{- end }}
{{- end }}
{{- /* The default would change the owner of every file on the volume at each run. */}}
fsGroupChangePolicy: OnRootMismatch
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{- define "cnpg-backup.imagePullSecrets" -}}
{{- with concat .Values.global.imagePullSecrets .Values.imagePullSecrets | uniq -}}
imagePullSecrets:
  {{- range . }}
  - name: {{ toYaml . }}
  {{- end }}
{{- end -}}
{{- end -}}

{{/* Labels and annotations of the pods of a CronJob; `component` is what it does, `labels` and `annotations` are further ones. */}}
{{- define "cnpg-backup.podMetadata" -}}
labels:
  {{- include "cnpg-backup.podLabels" . | nindent 2 }}
  {{- with .labels }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- with merge dict (.annotations | default dict) .root.Values.podAnnotations .root.Values.commonAnnotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/*
Where every pod runs, as whom (`account`, or else the release's account), and for at most `deadline` seconds: all of its specification but
volumes and containers.
*/}}
{{- define "cnpg-backup.podRest" -}}
restartPolicy: Never
activeDeadlineSeconds: {{ required "cnpg-backup.podRest needs deadline" .deadline | int64 }}
{{- with .root.Values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
serviceAccountName: {{ .account | default (include "cnpg-backup.serviceAccountName" .root) | toYaml }}
automountServiceAccountToken: false
securityContext:
  {{- include "cnpg-backup.podSecurityContext" .root | nindent 2 }}
{{- with include "cnpg-backup.imagePullSecrets" .root }}
{{ . }}
{{- end }}
{{- with .root.Values.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- else }}
affinity:
  {{- if has "ReadWriteMany" .root.Values.persistence.accessModes }}
  {{- /* Several nodes mount the volume at once: the load of several CronJobs is spread over them. */}}
  podAntiAffinity:
  {{- else }}
  {{- /* A volume of mode ReadWriteOnce is attached to one node: a pod elsewhere waits until it is detached. */}}
  podAffinity:
  {{- end }}
    preferredDuringSchedulingIgnoredDuringExecution:
      - weight: 100
        podAffinityTerm:
          labelSelector:
            matchLabels:
              {{- include "cnpg-backup.selectorLabels" .root | nindent 14 }}
          topologyKey: kubernetes.io/hostname
{{- end }}
{{- with .root.Values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .root.Values.priorityClassName }}
priorityClassName: {{ toYaml . }}
{{- end }}
enableServiceLinks: false
{{- end -}}

{{/* How long a Job stays after its end. Not for that of the first run: Argo CD and Flux would make it again. */}}
{{- define "cnpg-backup.jobLifetime" -}}
{{- if not (kindIs "string" .Values.ttlSecondsAfterFinished) -}}
ttlSecondsAfterFinished: {{ int64 .Values.ttlSecondsAfterFinished }}
{{- end -}}
{{- end -}}

{{/* When a Job of a program is at its end, and when its pod is replaced. */}}
{{- define "cnpg-backup.podFailurePolicy" -}}
rules:
  {{- /* The exit codes of the programs: a database failed, the configuration is wrong, a safety rule refused. */}}
  - action: FailJob
    onExitCodes:
      operator: In
      values: [1, 2, 3]
  {{- /* A drained or preempted pod is replaced, and does not count as a failure. */}}
  - action: Ignore
    onPodConditions:
      - type: DisruptionTarget
        status: "True"
{{- end -}}

{{/*
Volumes of a pod that backs up the databases of `group`, or with `check` of the pod that tests whether it could. The test, and
with `first` the first run, read what all CronJobs of their image read.
*/}}
{{- define "cnpg-backup.backupVolumes" -}}
{{ include "cnpg-backup.commonVolumes" . }}
{{- if or .check .first }}
{{ include "cnpg-backup.configsVolume" (dict "root" .root "groups" .group.cronJobs "policies" .first) }}
{{- else }}
{{ include "cnpg-backup.configVolume" . }}
{{- end }}
{{ include "cnpg-backup.credentialsVolume" (dict "root" .root "databases" .group.databases) }}
{{ include "cnpg-backup.workVolumes" (dict "results" "16Mi") }}
{{- /* A test has only the container that dumps, and so only the volumes of that one. */}}
{{- $mounted := list }}
{{- range .root.Values.dump.extraVolumeMounts }}
  {{- $mounted = append $mounted .name }}
{{- end }}
{{- if not .check }}
  {{- range .root.Values.retention.extraVolumeMounts }}
    {{- $mounted = append $mounted .name }}
  {{- end }}
{{- end }}
{{- range .root.Values.extraVolumes }}
{{- if has .name $mounted }}
- {{ toYaml . | nindent 2 | trim }}
{{- end }}
{{- end }}
{{- end -}}

{{/*
The container that dumps the databases of `group`, or with `check` tests whether it could, see docs/architecture.md. It needs
`volumes`, those of its pod.
*/}}
{{- define "cnpg-backup.dumpContainer" -}}
{{- $command := list "sh" "/opt/cnpg-backup/scripts/dump.sh" -}}
{{- if .first -}}
  {{- $command = list "sh" "/opt/cnpg-backup/scripts/first-run.sh" "--backup" -}}
{{- end -}}
{{- $dump := .root.Values.dump -}}
{{- include "cnpg-backup.postgresContainer" (dict
  "root" .root
  "group" .group
  "name" (ternary "check" "dump" .check)
  "command" (ternary (append $command "--check") $command .check)
  "env" (include "cnpg-backup.dumpEnv" .)
  "extraEnv" $dump.extraEnv
  "resources" $dump.resources
  "volumes" .volumes
  "alone" .check
  "mounts" (list "backups" "scripts:ro" "config:ro" "credentials:ro" "run" "results")
  "extraMounts" $dump.extraVolumeMounts) -}}
{{- end -}}

{{- define "cnpg-backup.dumpEnv" -}}
- name: BACKUP_PARALLEL
  value: {{ int64 .root.Values.dump.parallel | quote }}
- name: BACKUP_TIMEOUT
  value: {{ int64 .deadlines.dump | quote }}
- name: BACKUP_CHART_VERSION
  value: {{ .root.Chart.Version }}
- name: BACKUP_POD
  valueFrom:
    fieldRef:
      fieldPath: metadata.name
- name: HOME
  value: /run/cnpg-backup
{{- end -}}
