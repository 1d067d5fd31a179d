{{/* Security context of every container: the profile "restricted", and no writable file but those on volumes. */}}
{{- define "cnpg-backup.containerSecurityContext" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop:
    - ALL
{{- end -}}

{{/* Security context of every pod: the profile "restricted", with the user and groups of the values. */}}
{{- define "cnpg-backup.podSecurityContext" -}}
runAsNonRoot: true
{{- range $key := list "runAsUser" "runAsGroup" "fsGroup" }}
{{- if hasKey $.Values.podSecurityContext $key }}
{{ $key }}: {{ get $.Values.podSecurityContext $key | int64 }}
{{- end }}
{{- end }}
# The default would change the owner of every file on the volume at each run.
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

{{/* The volume of the programs; `scripts` is the ConfigMap's name, hashed once. */}}
{{- define "cnpg-backup.scriptsVolume" -}}
- name: scripts
  configMap:
    name: {{ .scripts }}
    items:
      # A key holds no slash, so the path has dots in it there.
      {{- range include "cnpg-backup.programs" .root | fromJsonArray }}
      - key: {{ . | replace "/" "." }}
        path: {{ . }}
      {{- end }}
{{- end -}}

{{/* What every container of the package needs to know, as environment variables. */}}
{{- define "cnpg-backup.pythonEnv" -}}
- name: PYTHONPATH
  value: /opt/cnpg-backup
- name: PYTHONDONTWRITEBYTECODE
  value: "1"
- name: PYTHONUNBUFFERED
  value: "1"
- name: BACKUP_POD
  valueFrom:
    fieldRef:
      fieldPath: metadata.name
{{- end -}}

{{/* A source of a credentials volume: name and password of `secret`, as files whose paths begin with `path`. */}}
{{- define "cnpg-backup.loginSource" -}}
- secret:
    name: {{ .secret.name | toYaml }}
    optional: true
    items:
      - key: {{ .secret.usernameKey | toYaml }}
        path: {{ .path }}username
      - key: {{ .secret.passwordKey | toYaml }}
        path: {{ .path }}password
{{- end -}}

{{/* A source of a credentials volume: the certificate of a database's authority, and nothing else of its Secret. */}}
{{- define "cnpg-backup.caSource" -}}
- secret:
    name: {{ .caSecret.name | toYaml }}
    optional: true
    items:
      - key: {{ .caSecret.key | toYaml }}
        path: {{ .name }}/ca.crt
{{- end -}}

{{/* Volumes of a pod that backs up: names here and in the containers must agree. */}}
{{- define "cnpg-backup.volumes" -}}
- name: backups
  persistentVolumeClaim:
    claimName: {{ include "cnpg-backup.claimName" .root | toYaml }}
{{ include "cnpg-backup.scriptsVolume" . }}
- name: config
  {{- if hasKey . "check" }}
  # A test reads what all CronJobs of its image read.
  projected:
    sources:
      {{- range .check.cronJobs }}
      - configMap:
          name: {{ include "cnpg-backup.configName" (dict "root" $.root "cronJob" .) }}
          items:
            {{- range .databases }}
            - key: {{ .name }}.conf
              path: {{ .name }}.conf
            {{- end }}
      {{- end }}
  {{- else }}
  configMap:
    name: {{ include "cnpg-backup.configName" . }}
  {{- end }}
- name: credentials
  projected:
    defaultMode: 0440
    # All optional: what is missing fails its own database, not the pod and with it every backup.
    sources:
      {{- range (.check | default .cronJob).databases }}
      {{- include "cnpg-backup.loginSource" (dict "secret" .secret "path" (printf "%s/" .name)) | nindent 6 }}
      {{- include "cnpg-backup.caSource" . | nindent 6 }}
      {{- end }}
- name: run
  emptyDir:
    medium: Memory
    sizeLimit: 16Mi
- name: results
  emptyDir:
    sizeLimit: 16Mi
{{- /* A test has the container that dumps alone, and so only its volumes. */}}
{{- $mounts := concat .root.Values.dump.extraVolumeMounts (ternary list .root.Values.retention.extraVolumeMounts (hasKey . "check")) }}
{{- $mounted := list }}
{{- range $mounts }}{{ $mounted = append $mounted .name }}{{ end }}
{{- range .root.Values.extraVolumes }}
{{- if has .name $mounted }}
- {{ toYaml . | nindent 2 | trim }}
{{- end }}
{{- end }}
{{- end -}}

{{/* The container that dumps for a CronJob, or for a `check` says whether it could, see docs/architecture.md. */}}
{{- define "cnpg-backup.dumpContainer" -}}
name: {{ ternary "check" "dump" (hasKey . "check") }}
{{- with .check | default .cronJob }}
image: {{ .image | toYaml }}
imagePullPolicy: {{ .pullPolicy }}
{{- end }}
command:
  - sh
  - /opt/cnpg-backup/scripts/dump.sh
  {{- if hasKey . "check" }}
  - --check
  {{- end }}
env:
  - name: BACKUP_ROOT
    value: /backups
  - name: BACKUP_CONFIG
    value: /etc/cnpg-backup
  - name: BACKUP_CREDENTIALS
    value: /etc/cnpg-backup-credentials
  - name: BACKUP_RUN
    value: /run/cnpg-backup
  - name: BACKUP_RESULTS
    value: /run/cnpg-backup-results
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
  {{- with .root.Values.dump.extraEnv }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
resources:
  {{- toYaml .root.Values.dump.resources | nindent 2 }}
volumeMounts:
  - name: backups
    mountPath: /backups
  - name: scripts
    mountPath: /opt/cnpg-backup
    readOnly: true
  - name: config
    mountPath: /etc/cnpg-backup
    readOnly: true
  - name: credentials
    mountPath: /etc/cnpg-backup-credentials
    readOnly: true
  - name: run
    mountPath: /run/cnpg-backup
  - name: results
    mountPath: /run/cnpg-backup-results
  {{- with .root.Values.dump.extraVolumeMounts }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
terminationMessagePolicy: FallbackToLogsOnError
securityContext:
  {{- include "cnpg-backup.containerSecurityContext" . | nindent 2 }}
{{- end -}}

{{/* The container that judges, publishes, prunes and reports. It sees no credentials. */}}
{{- define "cnpg-backup.retentionContainer" -}}
name: retention
image: {{ include "cnpg-backup.image" (dict "root" .root "image" .root.Values.retention.image) | toYaml }}
imagePullPolicy: {{ .root.Values.retention.image.pullPolicy }}
command:
  - python3
  - -m
  - retention
args:
  - finish
  - --config
  - /etc/cnpg-backup
  - --results
  - /run/cnpg-backup-results
  - --termination-log
  - /dev/termination-log
  - /backups
env:
  {{- include "cnpg-backup.pythonEnv" . | nindent 2 }}
  {{- with .root.Values.retention.extraEnv }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
resources:
  {{- toYaml .root.Values.retention.resources | nindent 2 }}
volumeMounts:
  - name: backups
    mountPath: /backups
  - name: scripts
    mountPath: /opt/cnpg-backup
    readOnly: true
  - name: config
    mountPath: /etc/cnpg-backup
    readOnly: true
  - name: results
    mountPath: /run/cnpg-backup-results
    readOnly: true
  {{- with .root.Values.retention.extraVolumeMounts }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
securityContext:
  {{- include "cnpg-backup.containerSecurityContext" . | nindent 2 }}
{{- end -}}

{{/* What is the same for all pods: where they run, as whom, and for how long. */}}
{{- define "cnpg-backup.podRest" -}}
restartPolicy: Never
activeDeadlineSeconds: {{ int64 .deadline }}
{{- with .root.Values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
serviceAccountName: {{ include "cnpg-backup.serviceAccountName" .root | toYaml }}
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
  # Several nodes mount the volume at once: the load of several CronJobs is spread over them.
  podAntiAffinity:
  {{- else }}
  # A volume of mode ReadWriteOnce is attached to one node: a pod elsewhere waits until it is detached.
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

{{/* A pod that backs up for a CronJob, or for a `check` says whether it could. `scripts` is the ConfigMap's name, hashed once. */}}
{{- define "cnpg-backup.podSpec" -}}
volumes:
  {{- include "cnpg-backup.volumes" . | nindent 2 }}
{{- if hasKey . "check" }}
containers:
  - {{ include "cnpg-backup.dumpContainer" . | nindent 4 | trim }}
{{- else }}
initContainers:
  - {{ include "cnpg-backup.dumpContainer" . | nindent 4 | trim }}
containers:
  - {{ include "cnpg-backup.retentionContainer" . | nindent 4 | trim }}
{{- end }}
{{ include "cnpg-backup.podRest" (dict "root" .root "deadline" .deadlines.pod) }}
{{- end -}}
