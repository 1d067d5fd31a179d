{{/*
The one place that makes containers: what each kind of them shares, the folders that they mount, and the volumes behind these.
*/}}

{{/* Security context of every container: the profile "restricted", and no writable file except on volumes. */}}
{{- define "cnpg-backup.containerSecurityContext" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop:
    - ALL
{{- end -}}

{{/*
A container that runs the Python package, or `command` if there is one. It needs `root`, `name` and `mounts` (see
cnpg-backup.mounts). `env` is YAML; `args`, `extraEnv` and `extraMounts` are lists. `resources` are those of retention by default. With
`port` it is ready while that port answers.
*/}}
{{- define "cnpg-backup.pythonContainer" -}}
{{- $retention := (required "cnpg-backup.pythonContainer needs root" .root).Values.retention -}}
name: {{ required "cnpg-backup.pythonContainer needs name" .name }}
image: {{ include "cnpg-backup.image" (dict "root" .root "image" $retention.image) | toYaml }}
imagePullPolicy: {{ $retention.image.pullPolicy }}
command:
  {{- .command | default (list "python3" "-m" "retention") | toYaml | nindent 2 }}
{{- with .args }}
args:
  {{- toYaml . | nindent 2 }}
{{- end }}
env:
  - name: PYTHONPATH
    value: /opt/cnpg-backup/scripts
  - name: PYTHONDONTWRITEBYTECODE
    value: "1"
  - name: PYTHONUNBUFFERED
    value: "1"
  - name: BACKUP_POD
    valueFrom:
      fieldRef:
        fieldPath: metadata.name
  {{- with .env }}
  {{- . | nindent 2 }}
  {{- end }}
  {{- with .extraEnv }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
resources:
  {{- toYaml (.resources | default $retention.resources) | nindent 2 }}
{{- with .port }}
ports:
  - name: http
    containerPort: {{ . }}
    protocol: TCP
readinessProbe:
  # How the backups are is not how the watcher is: a bad night must not stop a rollout.
  httpGet:
    path: /healthz
    port: http
{{- end }}
volumeMounts:
  {{- include "cnpg-backup.mounts" (dict "root" .root "mounts" (required "cnpg-backup.pythonContainer needs mounts" .mounts)) | nindent 2 }}
  {{- with .extraMounts }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
securityContext:
  {{- include "cnpg-backup.containerSecurityContext" . | nindent 2 }}
{{- end -}}

{{/*
A container that runs PostgreSQL's programs. It needs `root`, `group` (whose `image` and `pullPolicy` it takes), `name`, `command`,
`resources`, `volumes` (those of its pod, as YAML) and `mounts` (see cnpg-backup.mounts). `env` is YAML; `extraEnv` and
`extraMounts` are lists. With `shell` it waits for somebody to enter it, and its log is not a termination message; with `alone` its
pod has no other container. `terminationMessagePath` is where Kubernetes looks for a termination message, if not in /dev.
*/}}
{{- define "cnpg-backup.postgresContainer" -}}
{{- $group := required "cnpg-backup.postgresContainer needs group" .group -}}
{{- $mounts := required "cnpg-backup.postgresContainer needs mounts" .mounts -}}
name: {{ required "cnpg-backup.postgresContainer needs name" .name }}
image: {{ $group.image | toYaml }}
imagePullPolicy: {{ $group.pullPolicy }}
command:
  {{- required "cnpg-backup.postgresContainer needs command" .command | toYaml | nindent 2 }}
env:
  {{- if or (has "backups" $mounts) (has "backups:ro" $mounts) }}
  - name: BACKUP_ROOT
    value: /backups
  - name: BACKUP_CONFIG
    value: /etc/cnpg-backup
  {{- end }}
  {{- if has "credentials:ro" $mounts }}
  - name: BACKUP_CREDENTIALS
    value: /etc/cnpg-backup-credentials
  {{- end }}
  - name: BACKUP_RUN
    value: /run/cnpg-backup
  - name: BACKUP_RESULTS
    value: /run/cnpg-backup-results
  {{- with .env }}
  {{- . | nindent 2 }}
  {{- end }}
  {{- with .extraEnv }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
resources:
  {{- $neighbour := (required "cnpg-backup.postgresContainer needs root" .root).Values.retention.resources }}
  {{- include "cnpg-backup.resourcesForVolumes" (dict
    "resources" (required "cnpg-backup.postgresContainer needs resources" .resources)
    "neighbour" (ternary dict $neighbour (.alone | default false))
    "volumes" (required "cnpg-backup.postgresContainer needs volumes" .volumes)) | nindent 2 }}
volumeMounts:
  {{- include "cnpg-backup.mounts" (dict "root" .root "mounts" $mounts) | nindent 2 }}
  {{- with .extraMounts }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- if not .shell }}
{{- with .terminationMessagePath }}
terminationMessagePath: {{ . }}
{{- end }}
terminationMessagePolicy: FallbackToLogsOnError
{{- end }}
securityContext:
  {{- include "cnpg-backup.containerSecurityContext" . | nindent 2 }}
{{- end -}}

{{/*
The container that carries what is encrypted, and holds the keys of the store. It runs beside the others of its pod, and sees neither the
volume nor the programs. `config` is the volume of its pod that has the certificate of the store's authority, if that is not `config`.
*/}}
{{- define "cnpg-backup.offsiteCarrier" -}}
{{- $offsite := .root.Values.offsite -}}
name: rclone
image: {{ include "cnpg-backup.image" (dict "root" .root "image" $offsite.image) | toYaml }}
imagePullPolicy: {{ $offsite.image.pullPolicy }}
restartPolicy: Always
command:
  - rclone
args:
  {{- include "cnpg-backup.offsiteCommand" . | fromJsonArray | toYaml | nindent 2 }}
env:
  {{- include "cnpg-backup.offsiteEnv" .root | nindent 2 }}
resources:
  {{- toYaml $offsite.resources | nindent 2 }}
volumeMounts:
  {{- if $offsite.caBundle }}
  - name: {{ .config | default "config" }}
    mountPath: /etc/cnpg-backup
    readOnly: true
  {{- end }}
  {{- include "cnpg-backup.mounts" (dict "root" .root "mounts" (list "run")) | nindent 2 }}
securityContext:
  {{- include "cnpg-backup.containerSecurityContext" . | nindent 2 }}
{{- end -}}

{{/*
Resources of the container that fills the volumes of its pod. The kubelet evicts a pod whose volumes on the node's disk, logs and
ConfigMaps together exceed the sum of its containers' limits of ephemeral storage; a container without such a limit adds nothing
to it. So this container's limit is never less than the sizes of these volumes, and only these sizes decide. `neighbour` are the
resources of the other container. Where neither has any limit, the pod has none either.
*/}}
{{- define "cnpg-backup.resourcesForVolumes" -}}
{{- $resources := deepCopy .resources -}}
{{- $limits := $resources.limits | default dict -}}
{{- if or $limits (hasKey (.neighbour.limits | default dict) "ephemeral-storage") -}}
  {{- $needed := include "cnpg-backup.diskBytes" .volumes | int64 | add (include "cnpg-backup.bytes" "64Mi") -}}
  {{- if lt (include "cnpg-backup.bytes" (get $limits "ephemeral-storage") | int64) $needed -}}
    {{- $_ := set $limits "ephemeral-storage" (printf "%dMi" (div (add $needed 1048575) 1048576)) -}}
    {{- $_ := set $resources "limits" $limits -}}
    {{- /* Kubernetes would copy the limit into a request that is missing, and so ask for a node with that much free space. */ -}}
    {{- $requests := $resources.requests | default dict -}}
    {{- if not (hasKey $requests "ephemeral-storage") -}}
      {{- $_ := set $requests "ephemeral-storage" "64Mi" -}}
      {{- $_ := set $resources "requests" $requests -}}
    {{- end -}}
  {{- end -}}
{{- end -}}
{{- toYaml $resources -}}
{{- end -}}

{{/* How many bytes a pod's volumes may take on the node's disk: all emptyDirs that are not in memory and have a limit. */}}
{{- define "cnpg-backup.diskBytes" -}}
{{- $sum := 0 -}}
{{- range fromYamlArray . -}}
  {{- with .emptyDir -}}
    {{- if ne (.medium | default "") "Memory" -}}
      {{- $sum = add $sum (include "cnpg-backup.bytes" .sizeLimit | int64) -}}
    {{- end -}}
  {{- end -}}
{{- end -}}
{{- $sum -}}
{{- end -}}

{{/*
Mounts of `mounts`, a list of volumes by name; `<name>:ro` is mounted read-only, and of `<name>/<folder>` only that folder. What a
container may see and change is therefore one line in the pod that has it. Of the claim it is the folder persistence.subPath.
*/}}
{{- define "cnpg-backup.mounts" -}}
{{- $paths := dict
  "backups" "/backups"
  "scripts" "/opt/cnpg-backup/scripts"
  "config" "/etc/cnpg-backup"
  "store" "/etc/cnpg-backup-store"
  "watch" "/opt/cnpg-backup/scripts"
  "notify" "/etc/cnpg-backup-notify"
  "account" "/var/run/secrets/cnpg-backup"
  "credentials" "/etc/cnpg-backup-credentials"
  "sql" "/etc/cnpg-backup-sql"
  "identity" "/etc/cnpg-backup-identity"
  "run" "/run/cnpg-backup"
  "results" "/run/cnpg-backup-results"
  "scratch" "/var/lib/cnpg-backup-drill" -}}
{{- range $index, $mount := .mounts }}
  {{- $parts := trimSuffix ":ro" $mount | splitn "/" 2 }}
  {{- $volume := $parts._0 }}
  {{- if $index }}{{ print "\n" }}{{ end }}- name: {{ $volume }}
  mountPath: {{ get $paths $volume | required (printf "cnpg-backup.mounts has no path for %s" $volume) }}
  {{- with eq $volume "backups" | ternary $.root.Values.persistence.subPath $parts._1 }}
  subPath: {{ . | quote }}
  {{- end }}
  {{- if hasSuffix ":ro" $mount }}
  readOnly: true
  {{- end }}
{{- end -}}
{{- end -}}

{{/* The volumes of every pod: the claim and the programs. `scripts` is the name of the programs' ConfigMap, hashed once. */}}
{{- define "cnpg-backup.commonVolumes" -}}
- name: backups
  persistentVolumeClaim:
    claimName: {{ include "cnpg-backup.claimName" .root | toYaml }}
- name: scripts
  configMap:
    name: {{ required "cnpg-backup.commonVolumes needs scripts" .scripts }}
{{- end -}}

{{/* The volume of the configuration of one `group` of databases: a CronJob of backups, or the operations of one image. */}}
{{- define "cnpg-backup.configVolume" -}}
- name: config
  configMap:
    name: {{ include "cnpg-backup.configName" (dict "root" .root "cronJob" .group) }}
{{- end -}}

{{/* The same for several `groups` at once; their retention policies are in it with `policies`. */}}
{{- define "cnpg-backup.configsVolume" -}}
- name: config
  projected:
    sources:
      {{- range $index, $group := .groups }}
      - configMap:
          name: {{ include "cnpg-backup.configName" (dict "root" $.root "cronJob" $group) }}
          items:
            {{- if and $.policies (not $index) }}
            - key: policy.json
              path: policy.json
            {{- end }}
            {{- range $group.databases }}
            - {key: {{ .file }}, path: {{ .file }}}
            {{- if and $.policies .ownPolicy }}
            - {key: {{ .name }}.policy.json, path: {{ .name }}.policy.json}
            {{- end }}
            {{- end }}
      {{- end }}
{{- end -}}

{{/*
The volume of the credentials of `databases`: those of the role that backs up, or with `restore` those of owner and superuser.
All of them are optional: what is missing fails its own database, not the whole pod.
*/}}
{{- define "cnpg-backup.credentialsVolume" -}}
- name: credentials
  projected:
    # Without a group of its own for the volumes (fsGroup), root owns the files.
    defaultMode: {{ ternary "0440" "0444" (include "cnpg-backup.podId" (dict "root" .root "key" "fsGroup") | empty | not) }}
    sources:
      {{- range $db := .databases }}
      {{- if $.restore }}
      {{- include "cnpg-backup.loginSource" (dict "secret" $db.ownerSecret "path" (printf "%s/owner-" $db.name)) | nindent 6 }}
      {{- include "cnpg-backup.loginSource" (dict "secret" $db.superuserSecret "path" (printf "%s/superuser-" $db.name)) | nindent 6 }}
      {{- else }}
      {{- include "cnpg-backup.loginSource" (dict "secret" $db.secret "path" (printf "%s/" $db.name)) | nindent 6 }}
      {{- end }}
      {{- include "cnpg-backup.caSource" $db | nindent 6 }}
      {{- end }}
{{- end -}}

{{/* A source of that volume: name and password of `secret`, or its URI, as files whose paths begin with `path`. */}}
{{- define "cnpg-backup.loginSource" -}}
- secret:
    name: {{ .secret.name | toYaml }}
    optional: true
    items:
      {{- if .secret.uriKey }}
      - key: {{ .secret.uriKey | toYaml }}
        path: {{ .path }}uri
      {{- else }}
      - key: {{ .secret.usernameKey | toYaml }}
        path: {{ .path }}username
      - key: {{ .secret.passwordKey | toYaml }}
        path: {{ .path }}password
      {{- end }}
{{- end -}}

{{/* A source of that volume: the certificate of a database's authority, and nothing else of its Secret. */}}
{{- define "cnpg-backup.caSource" -}}
- secret:
    name: {{ .caSecret.name | toYaml }}
    optional: true
    items:
      - key: {{ .caSecret.key | toYaml }}
        path: {{ .name }}/ca.crt
{{- end -}}

{{/* What a container writes for itself, in memory. */}}
{{- define "cnpg-backup.runVolume" -}}
- name: run
  emptyDir:
    medium: Memory
    sizeLimit: 16Mi
{{- end -}}

{{/* The same, and `results`, which the containers of a pod write for each other, at most `results` large. */}}
{{- define "cnpg-backup.workVolumes" -}}
{{ include "cnpg-backup.runVolume" . }}
- name: results
  emptyDir:
    sizeLimit: {{ required "cnpg-backup.workVolumes needs results" .results }}
{{- end -}}

{{/* Volumes that a restore and a drill of one `group` of databases share. */}}
{{- define "cnpg-backup.operationVolumes" -}}
{{ include "cnpg-backup.commonVolumes" . }}
{{ include "cnpg-backup.configVolume" . }}
{{ include "cnpg-backup.workVolumes" (dict "results" "256Mi") }}
{{- end -}}
