{{/* What works, but deserves a second thought, as a JSON list of sentences. */}}
{{- define "cnpg-backup.warnings" -}}
{{- $warnings := list -}}
{{- if .Values.suspend -}}
  {{- $warnings = append $warnings "The schedule is suspended: nothing is backed up until you set `suspend: false`." -}}
{{- end -}}
{{- if not .Values.networkPolicy.enabled -}}
  {{- $warnings = append $warnings "There is no NetworkPolicy: the pods can reach everything." -}}
{{- end -}}
{{- $notified := include "cnpg-backup.notified" . | fromJsonArray -}}
{{- if and .Values.networkPolicy.enabled $notified (not .Values.notify.egress) -}}
  {{- $warnings = append $warnings (cat
    "notify.egress is empty: the NetworkPolicy of the watcher lets it reach only the ports of the API server, so what it sends arrives"
    "only if its URL has one of them and `monitoring.apiServer.peers` is empty. Try it: kubectl cnpg-backup notify --test") -}}
{{- end -}}
{{- $warnings = concat $warnings (include "cnpg-backup.accessWarnings" . | fromJsonArray) -}}
{{- $warnings = concat $warnings (include "cnpg-backup.volumeWarnings" . | fromJsonArray) -}}
{{- $warnings = concat $warnings (include "cnpg-backup.secretWarnings" . | fromJsonArray) -}}
{{- range $db := include "cnpg-backup.databases" . | fromJsonArray -}}
  {{- $warnings = concat $warnings (include "cnpg-backup.databaseWarnings" (dict "root" $ "database" $db) | fromJsonArray) -}}
{{- end -}}
{{- toJson $warnings -}}
{{- end -}}

{{- define "cnpg-backup.accessWarnings" -}}
{{- $warnings := list -}}
{{- $builtin := include "cnpg-backup.builtinAccessPolicies" . | fromJsonArray -}}
{{- if include "cnpg-backup.accessByGrant" . -}}
  {{- if not $builtin -}}
    {{- $warnings = append $warnings (cat
      "Kyverno alone guards the claim: scaled to 0 or uninstalled, it admits every request."
      "Set `accessPolicy.builtin.enabled: true` to add a guard that cannot be switched off this way.") -}}
  {{- end -}}
  {{- range .Values.accessPolicy.operators -}}
    {{- if and (eq .kind "ServiceAccount") (eq (.namespace | default "") $.Release.Namespace) -}}
      {{- $warnings = append $warnings (printf
        (cat
          "accessPolicy.operators: anyone who may edit namespace %s can take a token of its account %s, and with it the grant;"
          "name a user, a group, or an account of another namespace.")
        $.Release.Namespace .name) -}}
    {{- end -}}
  {{- end -}}
{{- else if or $builtin (include "cnpg-backup.kyvernoKind" .) -}}
  {{- $warnings = append $warnings (printf
    "The access policy only checks the label app=%s: it stops mistakes, not people who may create pods with that label."
    (include "cnpg-backup.fullname" .)) -}}
{{- else -}}
  {{- $warnings = append $warnings (printf
    "There is no access policy (ConfigMap %s-access says why): every pod of the namespace may mount the claim."
    (include "cnpg-backup.fullname" .)) -}}
{{- end -}}
{{- toJson $warnings -}}
{{- end -}}

{{- define "cnpg-backup.volumeWarnings" -}}
{{- $warnings := list -}}
{{- if not (or .Values.persistence.keep .Values.persistence.existingClaim) -}}
  {{- $warnings = append $warnings
    "`helm uninstall` will delete the claim and all backups with it, since `persistence.keep` is false." -}}
{{- end -}}
{{- $labelled := include "cnpg-backup.longhornLabels" . | fromJson -}}
{{- if $labelled -}}
  {{- $warnings = append $warnings (cat
    "Longhorn skips a detached volume without a message, and this one is attached only during runs: switch on Longhorn's setting"
    "allow-recurring-job-while-volume-detached, let its jobs start between two runs,"
    "and check in Longhorn that they do run:" (include "cnpg-backup.page" (dict "root" . "page" "longhorn.md"))) -}}
{{- end -}}
{{- $labels := .Values.persistence.labels -}}
{{- $byHand := regexMatch "recurring-job(-group)?[.]longhorn[.]io/" (toJson $labels) -}}
{{- if and $byHand (not (hasKey $labels "recurring-job.longhorn.io/source")) (not $labelled) -}}
  {{- $warnings = append $warnings (cat
    "persistence.labels names recurring jobs of Longhorn, which ignores them without the label"
    "recurring-job.longhorn.io/source: enabled; use persistence.longhorn, which sets all of them.") -}}
{{- end -}}
{{- $several := gt (len (include "cnpg-backup.cronJobs" . | fromJsonArray)) 1 -}}
{{- if has "ReadWriteOncePod" .Values.persistence.accessModes -}}
  {{- $warnings = append $warnings (cat
    "The volume has mode ReadWriteOncePod: one pod at a time mounts it. Runs, drills, restores and inspectors wait for each other"
    "even on the same node, and their deadlines go on: a run that is due during a long drill may be lost.") -}}
{{- else if and $several (not (has "ReadWriteMany" .Values.persistence.accessModes)) -}}
  {{- $warnings = append $warnings (printf
    (cat
      "Several CronJobs share a volume of mode %s, which one node mounts at a time: their pods prefer that node, and wait for"
      "each other if they run on different ones. ReadWriteMany lets them spread.")
    (first .Values.persistence.accessModes)) -}}
{{- end -}}
{{- toJson $warnings -}}
{{- end -}}

{{/* Clusters of one name in several namespaces: the Secrets that CloudNativePG makes for them have one name, too. */}}
{{- define "cnpg-backup.secretWarnings" -}}
{{- $warnings := list -}}
{{- $namespaces := dict -}}
{{- range $db := include "cnpg-backup.databases" . | fromJsonArray -}}
  {{- range $secret, $key := dict (printf "%s-app" $db.cluster) "secret" (printf "%s-ca" $db.cluster) "caSecret" -}}
    {{- if eq (get $db $key).name $secret -}}
      {{- $_ := set $namespaces $secret (append (get $namespaces $secret | default list) $db.namespace | uniq) -}}
    {{- end -}}
  {{- end -}}
{{- end -}}
{{- range $secret, $every := $namespaces -}}
  {{- if gt (len $every) 1 -}}
    {{- $warnings = append $warnings (printf
      (cat
        "Secret %s stands for clusters of the same name in namespaces %s, but %s can have only one of this name:"
        "copy them under names of their own, and set secret.name, ownerSecret.name and caSecret.name of these databases.")
      $secret (join ", " $every) $.Release.Namespace) -}}
  {{- end -}}
{{- end -}}
{{- toJson $warnings -}}
{{- end -}}

{{- define "cnpg-backup.databaseWarnings" -}}
{{- $warnings := list -}}
{{- $root := .root -}}
{{- $values := .root.Values -}}
{{- $release := .root.Release.Namespace -}}
{{- with .database -}}
  {{- $name := .name -}}
  {{- if .suspended -}}
    {{- $warnings = append $warnings (printf "%s is suspended: it is not backed up." $name) -}}
  {{- end -}}
  {{- with concat .excludeTables .excludeTableData -}}
    {{- $warnings = append $warnings (printf "%s: no backup contains the rows of tables %s." $name (join ", " .)) -}}
  {{- end -}}
  {{- if and (ne .namespace $release) (not .outside) -}}
    {{- $needed := printf "%s: its cluster is in namespace %s; copy its Secret %s into %s" $name .namespace .secret.name $release -}}
    {{- if hasPrefix "verify-" .sslmode -}}
      {{- $needed = printf "%s, and of %s only the key %s: next to it is the private key" $needed .caSecret.name .caSecret.key -}}
    {{- end -}}
    {{- $page := include "cnpg-backup.page" (dict "root" $root "page" "namespaces.md") -}}
    {{- $warnings = append $warnings (printf "%s: %s" $needed $page) -}}
  {{- end -}}
  {{- if has .sslmode (list "require" "disable") -}}
    {{- $warnings = append $warnings (printf "%s: sslmode %s does not verify the server's identity." $name .sslmode) -}}
  {{- end -}}
  {{- if eq .target "prefer-standby" -}}
    {{- $warnings = append $warnings (printf "%s: a dump from a standby lacks the data of unlogged tables." $name) -}}
  {{- end -}}
  {{- $service := printf "%s-rw.%s.svc" .cluster .namespace -}}
  {{- $ownHost := not (or (eq .host $service) (hasPrefix (printf "%s." $service) .host)) -}}
  {{- if and $ownHost $values.networkPolicy.enabled (not $values.networkPolicy.extraEgress) -}}
    {{- $warnings = append $warnings (printf
      (ternary
        (cat "%s: the NetworkPolicy admits %s; if host %s is not one of them," "add it to networkPolicy.extraEgress.")
        "%s: the NetworkPolicy admits %s; add host %s to networkPolicy.extraEgress."
        (not .outside))
      $name (ternary "no server outside" (printf "only the pods of cluster %s" .cluster) .outside) .host) -}}
  {{- end -}}
{{- end -}}
{{- toJson $warnings -}}
{{- end -}}

{{/* Who will not hear of it when backups stop, as a sentence; nothing once a sign of life is expected outside of the cluster. */}}
{{- define "cnpg-backup.unwatchedNote" -}}
{{- if not (include "cnpg-backup.watched" .) -}}
Nothing tells you when backups stop. Set monitoring.enabled: true, and in notify who is to be told:
{{ include "cnpg-backup.page" (dict "root" . "page" "monitoring.md") }}
{{- else if not (has "healthchecks" (include "cnpg-backup.notified" . | fromJsonArray)) -}}
If the whole cluster or its monitoring is down, no message is sent. Set notify.healthchecks:
{{ include "cnpg-backup.page" (dict "root" . "page" "monitoring.md") }}
{{- end -}}
{{- end -}}
