{{/*
The templates that people start Jobs from, as a JSON list of `restore`, `drill`, `inspect` (names), `image`, `pullPolicy` and
`databases`: one of each for each image, since the programs must be of the server's major version. Suspended databases are
in them too: what sleeps may have to be restored. `name` is what their common configuration goes by.
*/}}
{{- define "cnpg-backup.restores" -}}
{{- $databases := include "cnpg-backup.databases" . | fromJsonArray -}}
{{- $images := include "cnpg-backup.imageSuffixes" (dict "root" . "databases" $databases) | fromJson -}}
{{- $groups := dict -}}
{{- $order := list -}}
{{- range $db := $databases -}}
{{- if not (hasKey $groups $db.image) -}}
{{- $group := dict "image" $db.image "pullPolicy" $db.pullPolicy "databases" list -}}
{{- range $kind := list "restore" "drill" "inspect" -}}
{{- $_ := set $group $kind (include "cnpg-backup.templateName" (dict "root" $ "suffix" (printf "-%s%s" $kind (get $images $db.image)))) -}}
{{- end -}}
{{- $_ := set $group "name" $group.restore -}}
{{- $_ := set $groups $db.image $group -}}
{{- $order = append $order $db.image -}}
{{- end -}}
{{- $group := get $groups $db.image -}}
{{- $_ := set $group "databases" (append $group.databases $db) -}}
{{- end -}}
{{- $list := list -}}
{{- range $order }}{{ $list = append $list (get $groups .) }}{{ end -}}
{{- toJson $list -}}
{{- end -}}

{{/* `<release>-restore` and so on, at most 52 characters. No backup's CronJob ends like that, so that no two releases meet. */}}
{{- define "cnpg-backup.templateName" -}}
{{- $max := sub 52 (len .suffix) -}}
{{- printf "%s%s" (include "cnpg-backup.shorten" (dict "name" (include "cnpg-backup.fullname" .root) "max" $max)) .suffix -}}
{{- end -}}

{{/* Volumes of those pods: the claim, the programs, the configuration, and what the containers leave for each other. */}}
{{- define "cnpg-backup.restoreVolumes" -}}
- name: backups
  persistentVolumeClaim:
    claimName: {{ include "cnpg-backup.claimName" .root | toYaml }}
{{ include "cnpg-backup.scriptsVolume" . }}
- name: config
  {{- if .groups }}
  # What all runs decide by, also those of other images.
  projected:
    sources:
      {{- range $index, $group := .groups }}
      - configMap:
          name: {{ include "cnpg-backup.configName" (dict "root" $.root "cronJob" $group) }}
          items:
            {{- if not $index }}
            - key: policy.json
              path: policy.json
            {{- end }}
            {{- range $group.databases }}
            - key: {{ .name }}.conf
              path: {{ .name }}.conf
            {{- if .retention }}
            - key: {{ .name }}.policy.json
              path: {{ .name }}.policy.json
            {{- end }}
            {{- end }}
      {{- end }}
  {{- else }}
  configMap:
    name: {{ include "cnpg-backup.configName" (dict "root" .root "cronJob" .group) }}
  {{- end }}
- name: run
  emptyDir:
    medium: Memory
    sizeLimit: 16Mi
- name: results
  emptyDir:
    sizeLimit: 256Mi
{{- end -}}

{{/* Credentials of a restore: the owner's and, where there is one, the superuser's. All optional, as a backup's are. */}}
{{- define "cnpg-backup.restoreCredentials" -}}
- name: credentials
  projected:
    defaultMode: 0440
    sources:
      {{- range $db := .group.databases }}
      {{- range $role, $secret := dict "owner" $db.ownerSecret "superuser" $db.superuserSecret }}
      {{- include "cnpg-backup.loginSource" (dict "secret" $secret "path" (printf "%s/%s-" $db.name $role)) | nindent 6 }}
      {{- end }}
      {{- include "cnpg-backup.caSource" $db | nindent 6 }}
      {{- end }}
{{- end -}}

{{/* Mounts of every container of those pods; with `readOnly` the backups are read only. */}}
{{- define "cnpg-backup.restoreMounts" -}}
- name: backups
  mountPath: /backups
  {{- if .readOnly }}
  readOnly: true
  {{- end }}
- name: scripts
  mountPath: /opt/cnpg-backup
  readOnly: true
- name: config
  mountPath: /etc/cnpg-backup
  readOnly: true
- name: run
  mountPath: /run/cnpg-backup
- name: results
  mountPath: /run/cnpg-backup-results
{{- end -}}

{{/* A container of the package: `name`, `command`, `args`; `wishes` are further variables, name and value. */}}
{{- define "cnpg-backup.pythonContainer" -}}
name: {{ .name }}
image: {{ include "cnpg-backup.image" (dict "root" .root "image" .root.Values.retention.image) | toYaml }}
imagePullPolicy: {{ .root.Values.retention.image.pullPolicy }}
command:
  {{- toYaml .command | nindent 2 }}
{{- with .args }}
args:
  {{- toYaml . | nindent 2 }}
{{- end }}
env:
  {{- include "cnpg-backup.pythonEnv" . | nindent 2 }}
  {{- range .wishes }}
  - name: {{ first . }}
    value: {{ last . | quote }}
  {{- end }}
resources:
  {{- toYaml .root.Values.retention.resources | nindent 2 }}
volumeMounts:
  {{- include "cnpg-backup.restoreMounts" . | nindent 2 }}
securityContext:
  {{- include "cnpg-backup.containerSecurityContext" . | nindent 2 }}
{{- end -}}

{{/* A container of PostgreSQL: `name`, `command`, `resources`; `wishes` as above, `mounts` besides the common ones. */}}
{{- define "cnpg-backup.postgresContainer" -}}
name: {{ .name }}
image: {{ .group.image | toYaml }}
imagePullPolicy: {{ .group.pullPolicy }}
command:
  {{- toYaml .command | nindent 2 }}
env:
  - name: BACKUP_ROOT
    value: /backups
  - name: BACKUP_CONFIG
    value: /etc/cnpg-backup
  - name: BACKUP_RUN
    value: /run/cnpg-backup
  - name: BACKUP_RESULTS
    value: /run/cnpg-backup-results
  - name: HOME
    value: /run/cnpg-backup
  {{- range .wishes }}
  - name: {{ first . }}
    value: {{ last . | quote }}
  {{- end }}
resources:
  {{- toYaml .resources | nindent 2 }}
volumeMounts:
  {{- include "cnpg-backup.restoreMounts" (dict "readOnly" true) | nindent 2 }}
  {{- with .mounts }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- if ne .name "inspect" }}
terminationMessagePolicy: FallbackToLogsOnError
{{- end }}
securityContext:
  {{- include "cnpg-backup.containerSecurityContext" . | nindent 2 }}
{{- end -}}
