{{/* What works, but deserves a second thought, as a JSON list of sentences. */}}
{{- define "cnpg-backup.warnings" -}}
{{- $warnings := list -}}
{{- if .Values.suspend -}}
{{- $warnings = append $warnings "The schedule is suspended: nothing is backed up until `suspend` is false." -}}
{{- end -}}
{{- if not .Values.networkPolicy.enabled -}}
{{- $warnings = append $warnings "There is no NetworkPolicy: the pods may reach everything." -}}
{{- end -}}
{{- $kind := include "cnpg-backup.kyvernoKind" . -}}
{{- $builtin := include "cnpg-backup.builtinAccessPolicies" . | fromJsonArray -}}
{{- if include "cnpg-backup.accessByGrant" . -}}
{{- if not $builtin -}}
{{- $warnings = append $warnings "Kyverno alone guards the claim: scaled to 0 or uninstalled, it admits everybody. `accessPolicy.builtin.enabled` adds a guard that cannot be switched off this way." -}}
{{- end -}}
{{- range .Values.accessPolicy.operators -}}
{{- if and (eq .kind "ServiceAccount") (eq (.namespace | default "") $.Release.Namespace) -}}
{{- $warnings = append $warnings (printf "accessPolicy.operators: whoever may edit namespace %s can take a token of its account %s, and with it the grant; name a user, a group, or an account elsewhere." $.Release.Namespace .name) -}}
{{- end -}}
{{- end -}}
{{- else if or $builtin $kind -}}
{{- $warnings = append $warnings (printf "The access policy goes by the label app=%s: it stops mistakes, not people who may create pods with that label." (include "cnpg-backup.fullname" .)) -}}
{{- else -}}
{{- $warnings = append $warnings (printf "There is no access policy (ConfigMap %s-access says why): every pod of the namespace may mount the claim." (include "cnpg-backup.fullname" .)) -}}
{{- end -}}
{{- if not (or .Values.persistence.keep .Values.persistence.existingClaim) -}}
{{- $warnings = append $warnings "`helm uninstall` will delete the claim and all backups with it, since `persistence.keep` is false." -}}
{{- end -}}
{{- if include "cnpg-backup.longhornLabels" . | fromJson -}}
{{- $warnings = append $warnings "Longhorn skips a detached volume without a word, and this one is attached only during runs: switch on its setting allow-recurring-job-while-volume-detached, let its jobs start between two runs, and see in Longhorn that they do run (docs/longhorn.md)." -}}
{{- end -}}
{{- if and (regexMatch "recurring-job(-group)?[.]longhorn[.]io/" (toJson .Values.persistence.labels)) (not (hasKey .Values.persistence.labels "recurring-job.longhorn.io/source")) (empty (include "cnpg-backup.longhornLabels" . | fromJson)) -}}
{{- $warnings = append $warnings "persistence.labels names recurring jobs of Longhorn, which it heeds only with the label recurring-job.longhorn.io/source: enabled; persistence.longhorn sets all of them." -}}
{{- end -}}
{{- $several := gt (len (include "cnpg-backup.cronJobs" . | fromJsonArray)) 1 -}}
{{- if and $several (not (has "ReadWriteMany" .Values.persistence.accessModes)) -}}
{{- $warnings = append $warnings (printf "Several CronJobs share a volume of mode %s, which one node mounts at a time: their pods wait for each other unless they run on the same node, which they prefer; ReadWriteMany lets them spread." (first .Values.persistence.accessModes)) -}}
{{- end -}}
{{- range $db := include "cnpg-backup.databases" . | fromJsonArray -}}
{{- if .suspended -}}
{{- $warnings = append $warnings (printf "%s is suspended: it is not backed up." .name) -}}
{{- end -}}
{{- with concat .excludeTables .excludeTableData -}}
{{- $warnings = append $warnings (printf "%s: the rows of tables %s are in no backup." $db.name (join ", " .)) -}}
{{- end -}}
{{- if ne .namespace $.Release.Namespace -}}
{{- $warnings = append $warnings (printf "%s: its cluster is in namespace %s; copy the Secrets %s and %s into %s." .name .namespace .secret.name .caSecret.name $.Release.Namespace) -}}
{{- end -}}
{{- if has .sslmode (list "require" "disable") -}}
{{- $warnings = append $warnings (printf "%s: with sslmode %s nobody proves that the server is the right one." .name .sslmode) -}}
{{- end -}}
{{- if eq .target "prefer-standby" -}}
{{- $warnings = append $warnings (printf "%s: a dump from a standby lacks the data of unlogged tables." .name) -}}
{{- end -}}
{{- $own := ne .host (printf "%s-rw.%s.svc" .cluster .namespace) -}}
{{- if and $own $.Values.networkPolicy.enabled (not $.Values.networkPolicy.extraEgress) -}}
{{- $warnings = append $warnings (printf "%s: the NetworkPolicy opens the way to pods of cluster %s; if host %s is none of them, add it to networkPolicy.extraEgress." .name .cluster .host) -}}
{{- end -}}
{{- end -}}
{{- toJson $warnings -}}
{{- end -}}
