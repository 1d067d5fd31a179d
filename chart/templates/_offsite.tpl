{{/* Copies outside the cluster: the programs are those of offsite/, and nothing here is rendered unless values enable them. */}}

{{- define "cnpg-backup.offsiteName" -}}
{{- include "cnpg-backup.operationName" (dict "root" . "suffix" "-offsite") -}}
{{- end -}}

{{- define "cnpg-backup.fetchName" -}}
{{- include "cnpg-backup.operationName" (dict "root" . "suffix" "-fetch") -}}
{{- end -}}

{{/* Name of the CronJob that drills the copies of a `group` of cnpg-backup.drills. */}}
{{- define "cnpg-backup.offsiteDrillName" -}}
{{- $suffix := printf "-offsite%s%s" .group.drillSuffix (.group.part | default "") -}}
{{- include "cnpg-backup.operationName" (dict "root" .root "suffix" $suffix) -}}
{{- end -}}

{{/* Names of all of these, as a JSON list; none unless values enable them. */}}
{{- define "cnpg-backup.offsiteDrillNames" -}}
{{- $names := list -}}
{{- if and .Values.offsite.enabled .Values.offsite.drill.enabled -}}
  {{- range $group := include "cnpg-backup.drills" . | fromJsonArray -}}
    {{- $names = append $names (include "cnpg-backup.offsiteDrillName" (dict "root" $ "group" $group)) -}}
  {{- end -}}
{{- end -}}
{{- toJson $names -}}
{{- end -}}

{{- define "cnpg-backup.identitySecretName" -}}
{{- .Values.offsite.identitySecretName | default (printf "%s-offsite-identity" (include "cnpg-backup.fullname" .)) -}}
{{- end -}}

{{/* The account of its pods. */}}
{{- define "cnpg-backup.offsiteAccount" -}}
{{- $its := .Values.offsite.serviceAccount -}}
{{- if $its.create -}}
  {{- $its.name | default (printf "%s-offsite" (include "cnpg-backup.fullname" .)) -}}
{{- else -}}
  {{- $its.name | default (include "cnpg-backup.serviceAccountName" .) -}}
{{- end -}}
{{- end -}}

{{/*
Labels and annotations of its pods, as for `cnpg-backup.podMetadata`. Where a cloud gives pods a token of its own, the container that sees
the volume gets none: the clouds' webhooks leave out the containers that these annotations name. `containers` are all of its pod but rclone.
*/}}
{{- define "cnpg-backup.offsitePodMetadata" -}}
{{- $more := dict -}}
{{- range $name, $_ := .root.Values.offsite.serviceAccount.annotations -}}
  {{- if hasPrefix "eks.amazonaws.com/" $name -}}
    {{- $_ := set $more "annotations" (dict "eks.amazonaws.com/skip-containers" (join "," $.containers)) -}}
  {{- else if eq $name "azure.workload.identity/client-id" -}}
    {{- $_ := set $more "labels" (dict "azure.workload.identity/use" "true") -}}
    {{- $_ := set $more "annotations" (dict "azure.workload.identity/skip-containers" (join ";" $.containers)) -}}
  {{- end -}}
{{- end -}}
{{- include "cnpg-backup.podMetadata" (merge (dict "root" .root "component" .component) $more) -}}
{{- end -}}

{{/* Seconds that a run may take: to copy, as JSON with those of its pod and its Job, which end after that. */}}
{{- define "cnpg-backup.offsiteDeadlines" -}}
{{- $seconds := .Values.offsite.timeout -}}
{{- if kindIs "string" $seconds -}}
  {{- $interval := (include "cnpg-backup.schedule" (dict "root" . "schedule" .Values.offsite.schedule) | fromJson).interval | int64 -}}
  {{- $seconds = max 120 (sub $interval 600) -}}
{{- end -}}
{{- toJson (dict "copy" (int64 $seconds) "pod" (add 240 (int64 $seconds)) "job" (add 300 (int64 $seconds))) -}}
{{- end -}}

{{/*
What is kept there, as `keep` or `tiers`. By default 7 daily and 8 weekly copies, without the words that are too fine for the schedule of
the runs.
*/}}
{{- define "cnpg-backup.offsiteRetention" -}}
{{- $own := .Values.offsite.retention -}}
{{- $keep := dict -}}
{{- if not (or $own.keep (kindIs "slice" $own.tiers)) -}}
  {{- $gap := (include "cnpg-backup.schedule" . | fromJson).gap -}}
  {{- range include "cnpg-backup.words" . | fromJsonArray -}}
    {{- $number := get (dict "daily" 7 "weekly" 8) (first .) -}}
    {{- if and $number (not (include "cnpg-backup.tooFine" (dict "word" . "gap" $gap))) -}}
      {{- $_ := set $keep (first .) $number -}}
    {{- end -}}
  {{- end -}}
  {{- $own = dict "phase" $own.phase "keep" ($keep | default (dict "monthly" 6)) -}}
{{- end -}}
{{- toJson $own -}}
{{- end -}}

{{/* Files of the configuration, as YAML: key and content. See offsite/settings.py. */}}
{{- define "cnpg-backup.offsiteConfig" -}}
{{- $offsite := .Values.offsite -}}
{{- $schedule := include "cnpg-backup.schedule" . | fromJson -}}
{{- $retention := include "cnpg-backup.offsiteRetention" . | fromJson -}}
{{- $policy := include "cnpg-backup.retentionPolicy" (dict "root" . "database" (dict "retention" $retention) "schedule" $schedule) -}}
{{- $files := dict "policy.json" $policy "offsite.conf" (include "cnpg-backup.offsiteConf" .) -}}
{{- with $offsite.caBundle -}}
  {{- $_ := set $files "ca.crt" . -}}
{{- end -}}
{{- toYaml $files -}}
{{- end -}}

{{- define "cnpg-backup.offsiteConf" -}}
{{- with .Values.offsite -}}
type={{ .remote.type }}
provider={{ .remote.provider | default "" }}
server_side_encryption={{ .remote.server_side_encryption | default "" }}
path={{ .path }}
cluster_id={{ .clusterId }}
owner={{ $.Release.Namespace }}/{{ include "cnpg-backup.fullname" $ }}
encryption={{ .encryption.type }}
recipients={{ join " " .encryption.recipients }}
verify={{ .verify }}
max_parts={{ int64 .maxParts }}
readback_every={{ .readbackEvery }}
copy={{ .copy }}
prune={{ .prune }}
allow_shrunk={{ .allowShrunk }}
allow_large_prune={{ .allowLargePrune }}
large_prune_percent={{ int64 .largePrunePercent }}
accept_loss_until={{ .acceptLossUntil }}
object_lock_mode={{ .objectLock.mode }}
object_lock_days={{ int64 .objectLock.days }}
timeout={{ (include "cnpg-backup.offsiteDeadlines" $ | fromJson).copy | int64 }}
chart_version={{ $.Chart.Version }}
{{ end -}}
{{- end -}}

{{/* Name of the ConfigMap of that configuration. */}}
{{- define "cnpg-backup.offsiteConfigName" -}}
{{- printf "%s-config-%s" (include "cnpg-backup.offsiteName" .) (include "cnpg-backup.offsiteConfig" . | sha256sum | trunc 10) -}}
{{- end -}}

{{- define "cnpg-backup.offsiteVolumes" -}}
{{ include "cnpg-backup.commonVolumes" . }}
- name: config
  configMap:
    name: {{ include "cnpg-backup.offsiteConfigName" .root }}
{{ include "cnpg-backup.runVolume" . }}
{{- end -}}

{{/* The volume of the secret key; nothing where the copies are not encrypted. */}}
{{- define "cnpg-backup.identityVolume" -}}
{{- if eq .Values.offsite.encryption.type "age" -}}
- name: identity
  projected:
    sources:
      - secret:
          name: {{ include "cnpg-backup.identitySecretName" . | toYaml }}
          # Without it the pod starts, and its log says what is missing.
          optional: true
          items:
            - key: key.txt
              path: key.txt
{{- end -}}
{{- end -}}

{{- define "cnpg-backup.offsiteCommand" -}}
{{- toJson (list "rcd" "--rc-serve" "--rc-addr" "unix:///run/cnpg-backup/rc.sock" "--rc-no-auth"
  "--retries" "1" "--low-level-retries" "2" "--contimeout" "10s" "--buffer-size" "0") -}}
{{- end -}}

{{/* What rclone knows of the destination, as YAML of variables: its own options, and the keys of the Secret. */}}
{{- define "cnpg-backup.offsiteEnv" -}}
{{- $offsite := .Values.offsite -}}
{{- $remote := $offsite.remote -}}
{{- if eq (toString $remote.type) "s3" -}}
  {{- /* Otherwise rclone would try to make the bucket. */ -}}
  {{- $remote = merge (dict "no_check_bucket" "true") $remote -}}
{{- end -}}
- name: RCLONE_CONFIG
  value: /dev/null
# Together with the size of the parts of an object, they keep it below 80 MiB.
- name: GOMEMLIMIT
  value: 64MiB
- name: GOGC
  value: "50"
{{- with $offsite.bandwidth }}
- name: RCLONE_BWLIMIT
  value: {{ . | quote }}
{{- end }}
{{- if $offsite.caBundle }}
- name: RCLONE_CA_CERT
  value: /etc/cnpg-backup/ca.crt
{{- end }}
{{- range $name, $value := $remote }}
- name: RCLONE_CONFIG_OFFSITE_{{ upper $name }}
  value: {{ kindIs "float64" $value | ternary (int64 $value) $value | toString | quote }}
{{- end }}
{{- if $offsite.secretName }}
{{- range $offsite.secretKeys }}
- name: RCLONE_CONFIG_OFFSITE_{{ upper . }}
  valueFrom:
    secretKeyRef:
      name: {{ $offsite.secretName | toYaml }}
      key: {{ . }}
      # Without it the store refuses, and the run says what is missing.
      optional: true
{{- end }}
{{- end }}
{{- end -}}

{{/* What is wrong with its values. */}}
{{- define "cnpg-backup.offsiteErrors" -}}
{{- $errors := list -}}
{{- $offsite := .Values.offsite -}}
{{- if $offsite.enabled -}}
  {{- if not $offsite.remote.type -}}
    {{- $errors = append $errors (cat
      "offsite.remote.type: it is missing; set it to the kind of store as rclone calls it, such as s3, azureblob, gcs, sftp or webdav,"
      "next to the other options of that kind; see" (include "cnpg-backup.page" (dict "root" $ "page" "object-store.md"))) -}}
  {{- end -}}
  {{- range $name, $_ := $offsite.remote -}}
    {{- if has $name $offsite.secretKeys -}}
      {{- $errors = append $errors (printf
        "offsite.remote.%s: it is in offsite.secretKeys as well; remove it from one of them" $name) -}}
    {{- else if regexMatch "secret|pass|token|credentials$|^key$|key_pem|customer_key|sas_url|connection_string" $name -}}
      {{- $errors = append $errors (printf
        (cat
          "offsite.remote.%s: a secret in values is in Helm's records and in the CronJob;"
          "put it into the Secret of offsite.secretName, and name its key in offsite.secretKeys")
        $name) -}}
    {{- end -}}
  {{- end -}}
  {{- if not $offsite.path -}}
    {{- $errors = append $errors "offsite.path: it is empty; set it to bucket and prefix, or to a folder" -}}
  {{- end -}}
  {{- if not $offsite.clusterId -}}
    {{- $errors = append $errors (cat
      "offsite.clusterId: it is empty; set it to a name of this release that no other release, in no other cluster, uses below"
      "offsite.path: its copies are in the folder of that name") -}}
  {{- end -}}
  {{- $recipients := $offsite.encryption.recipients -}}
  {{- if and (eq $offsite.encryption.type "age") (not $recipients) -}}
    {{- $errors = append $errors (cat
      "offsite.encryption.recipients: there is none, so the copies could never be decrypted;"
      "make a key with age-keygen, keep it outside the cluster, and name its public key (age1…) here") -}}
  {{- else if and (eq $offsite.encryption.type "none") $recipients -}}
    {{- $errors = append $errors
      "offsite.encryption: with type none the recipients have no effect; remove them, or set type: age" -}}
  {{- end -}}
  {{- if and .Values.networkPolicy.enabled (not $offsite.egress) -}}
    {{- $errors = append $errors (cat
      "offsite.egress: it is empty, so that the NetworkPolicy lets the copies out to no store;"
      "name the addresses of the store, such as [{to: [{ipBlock: {cidr: 192.0.2.0/24}}], ports: [{port: 443}]}]") -}}
  {{- end -}}
  {{- if ne (empty $offsite.objectLock.mode) (eq (int64 $offsite.objectLock.days) 0) -}}
    {{- $errors = append $errors "offsite.objectLock: set both mode and days, or neither of them" -}}
  {{- end -}}
  {{- if not (or $offsite.image.tag $offsite.image.digest) -}}
    {{- $errors = append $errors "offsite.image: tag and digest are both empty; set one of them" -}}
  {{- end -}}
  {{- $schedule := include "cnpg-backup.schedule" (dict "root" . "schedule" $offsite.schedule) | fromJson -}}
  {{- $job := (include "cnpg-backup.offsiteDeadlines" . | fromJson).job | int64 -}}
  {{- if not $schedule.possible -}}
    {{- $errors = append $errors (printf
      "offsite.schedule: %q can never fire; see the ranges of its fields in %s"
      $offsite.schedule (include "cnpg-backup.page" (dict "root" $ "page" "retention.md"))) -}}
  {{- else if ge $job (int64 $schedule.interval) -}}
    {{- $errors = append $errors (printf
      "offsite.timeout: a run may take %d seconds, but offsite.schedule %q starts one every %d; set a lower timeout, or copy less often"
      $job $offsite.schedule (int64 $schedule.interval)) -}}
  {{- end -}}
  {{- $errors = concat $errors (include "cnpg-backup.offsiteDrillErrors" . | fromJsonArray) -}}
  {{- $errors = concat $errors (include "cnpg-backup.retentionErrors" (dict
    "retention" $offsite.retention "where" "offsite.retention" "cron" .Values.schedule
    "schedule" (include "cnpg-backup.schedule" . | fromJson)) | fromJsonArray) -}}
{{- else if $offsite.drill.enabled -}}
  {{- $errors = append $errors
    "offsite.drill.enabled: there are no copies that it could restore; set offsite.enabled too, or leave it false" -}}
{{- end -}}
{{- toJson $errors -}}
{{- end -}}

{{/* What is wrong with the values of drills of the copies. */}}
{{- define "cnpg-backup.offsiteDrillErrors" -}}
{{- $errors := list -}}
{{- $offsite := .Values.offsite -}}
{{- if $offsite.drill.enabled -}}
  {{- if and (eq $offsite.encryption.type "age") (not $offsite.identitySecretName) -}}
    {{- $errors = append $errors (printf
      (cat
        "offsite.drill.enabled: the copies are encrypted, and a drill needs a secret key in the cluster, with which anyone who gets it can"
        "read every copy; if that is meant, name its Secret in offsite.identitySecretName, and see %s")
      (include "cnpg-backup.page" (dict "root" . "page" "object-store.md"))) -}}
  {{- end -}}
  {{- /* All containers of a pod share its network. A cloud's metadata server gives the pod's identity to each of them that asks. */ -}}
  {{- $gke := hasKey $offsite.serviceAccount.annotations "iam.gke.io/gcp-service-account" -}}
  {{- if or $gke (regexMatch "\"cidr\":\"169[.]254[.]" (toJson $offsite.egress)) -}}
    {{- $errors = append $errors (cat
      "offsite.drill.enabled: code of a database's owner may run in a drill, and a cloud's metadata server, as on GKE, gives the identity"
      "of the copies to every container of the pod; leave it false, or give rclone keys in offsite.secretName instead of that identity"
      "and remove 169.254.… from offsite.egress") -}}
  {{- end -}}
  {{- $schedule := include "cnpg-backup.schedule" (dict "root" . "schedule" $offsite.drill.schedule) | fromJson -}}
  {{- $job := add 660 (int64 .Values.drill.timeoutSeconds) -}}
  {{- if not $schedule.possible -}}
    {{- $errors = append $errors (printf
      "offsite.drill.schedule: %q can never fire; see the ranges of its fields in %s"
      $offsite.drill.schedule (include "cnpg-backup.page" (dict "root" . "page" "retention.md"))) -}}
  {{- else if ge $job (int64 $schedule.interval) -}}
    {{- $errors = append $errors (printf
      (cat
        "offsite.drill.schedule: a drill may take %d seconds, but %q starts one every %d;"
        "lower drill.timeoutSeconds, or drill less often")
      $job $offsite.drill.schedule (int64 $schedule.interval)) -}}
  {{- end -}}
{{- end -}}
{{- toJson $errors -}}
{{- end -}}
