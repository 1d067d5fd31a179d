{{/* What drills of the volume and drills of the copies in a store have in common. */}}

{{/*
The pairs of containers of a drill: for each database, and each slot of an entry, one that hands over and one that restores. `handOver` is
the former, with __NUMBER__, __DATABASE__ and __SLOT__ in it: only these differ, and so each is rendered once. `volumes` are the pod's.
*/}}
{{- define "cnpg-backup.drillPairs" -}}
{{- $passwd := list }}
{{- if include "cnpg-backup.podId" (dict "root" .root "key" "runAsUser") }}
  {{- $passwd = list (dict "name" "config" "mountPath" "/etc/passwd" "subPath" "passwd" "readOnly" true) }}
{{- end }}
{{- $folder := "/databases/__FOLDER__" }}
{{- $drill := include "cnpg-backup.postgresContainer" (dict
      "root" .root
      "group" .group
      "name" "drill-__NUMBER__"
      "command" (list "sh" "/opt/cnpg-backup/scripts/drill.sh")
      "env" (include "cnpg-backup.drillEnv" (dict "root" .root "group" .group))
      "resources" .root.Values.drill.resources
      "volumes" .volumes
      "mounts" (list (print "run" $folder) (print "results" $folder) (print "scratch" $folder) "scripts:ro")
      "extraMounts" $passwd
      "terminationMessagePath" "/root/termination-log") }}
{{- $number := 0 }}
{{- range $db := .group.databases }}
{{- range $place := include "cnpg-backup.drillSlots" (dict "root" $.root "database" $db) | fromJsonArray }}
{{- $number = add1 $number }}
{{- $slot := ternary "" $place (eq $place $db.name) }}
{{- range list $.handOver $drill }}
{{- $text := ternary (replace "__SLOT__" $slot .) (replace "  - --slot=__SLOT__\n" "" .) (not (empty $slot)) }}
{{- $text = $text | replace "__NUMBER__" (toString $number) | replace "__DATABASE__" $db.name }}
- {{ $text | replace "__FOLDER__" $place | nindent 2 | trim }}
{{- end }}
{{- end }}
{{- end }}
{{- end -}}

{{- define "cnpg-backup.drillEnv" -}}
- name: HOME
  value: /run/cnpg-backup
- name: DRILL_SCRATCH
  value: /var/lib/cnpg-backup-drill
- name: BACKUP_CONFIG
  value: /var/lib/cnpg-backup-drill/config
- name: DRILL_TIMEOUT
  value: {{ int64 .root.Values.drill.timeoutSeconds | quote }}
- name: DRILL_IMAGE
  value: {{ .group.image | quote }}
{{- end -}}
