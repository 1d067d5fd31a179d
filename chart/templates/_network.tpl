{{/*
The rules of the release's NetworkPolicies. Their digests are in the record of the access policies, so that `doctor` sees a change.
*/}}

{{/* Names of the NetworkPolicies, as a JSON map to the templates of their rules; none where values want none. */}}
{{- define "cnpg-backup.networkPolicies" -}}
{{- $fullname := include "cnpg-backup.fullname" . -}}
{{- $policies := dict -}}
{{- if .Values.networkPolicy.enabled -}}
  {{- $policies = dict $fullname "runs" (printf "%s-isolated" $fullname) "isolated" -}}
  {{- if .Values.copies -}}
    {{- $_ := set $policies (printf "%s-copies" $fullname) "copies" -}}
  {{- end -}}
  {{- if include "cnpg-backup.watched" . -}}
    {{- $_ := set $policies (include "cnpg-backup.watchName" .) "watch" -}}
  {{- end -}}
  {{- if .Values.offsite.enabled -}}
    {{- $_ := set $policies (printf "%s-offsite" $fullname) "offsite" -}}
  {{- end -}}
{{- end -}}
{{- toJson $policies -}}
{{- end -}}

{{/*
The digests of the rules, as `name sha256, ...`. The API server drops empty lists, writes the protocol out, and sorts nothing: so
these are what it stores.
*/}}
{{- define "cnpg-backup.networkPolicyDigests" -}}
{{- $digests := list -}}
{{- range $name, $template := include "cnpg-backup.networkPolicies" . | fromJson -}}
  {{- $spec := include (printf "cnpg-backup.networkPolicy.%s" $template) $ | fromYaml -}}
  {{- range $spec.egress -}}
    {{- range .ports -}}
      {{- $_ := set . "protocol" (.protocol | default "TCP") -}}
    {{- end -}}
  {{- end -}}
  {{- $text := regexReplaceAll "\"[a-zA-Z]+\":(\\[\\]|null),?" (toJson $spec) "" | replace ",}" "}" -}}
  {{- $digests = append $digests (printf "%s %s" $name (sha256sum $text)) -}}
{{- end -}}
{{- join ", " $digests -}}
{{- end -}}

{{- define "cnpg-backup.networkPolicy.runs" -}}
# It selects only the pods of this release: a policy that selects database pods would cut them off from all other clients.
podSelector:
  matchLabels:
    {{- include "cnpg-backup.selectorLabels" . | nindent 4 }}
  # Policies add up: pods that need no database must not be selected here.
  matchExpressions:
    - key: app.kubernetes.io/component
      operator: NotIn
      values:
        - drill
        - inspect
        - open
        - copy
        - first-run
        {{- if .Values.offsite.enabled }}
        - offsite
        - fetch
        {{- if .Values.offsite.drill.enabled }}
        - offsite-drill
        {{- end }}
        {{- end }}
policyTypes:
  - Ingress
  - Egress
ingress: []
egress:
  {{- include "cnpg-backup.networkPolicy.nameServers" . | nindent 2 }}
  {{- /* One rule for each port, one peer for each cluster. */}}
  {{- $ports := dict }}
  {{- range $db := include "cnpg-backup.databases" . | fromJsonArray }}
    {{- if not $db.outside }}
      {{- $port := int64 $db.port | toString }}
      {{- $peers := get $ports $port | default dict }}
      {{- $_ := set $peers (printf "%s/%s" $db.namespace $db.cluster) $db }}
      {{- $_ := set $ports $port $peers }}
    {{- end }}
  {{- end }}
  {{- range $port, $peers := $ports }}
  # Database pods, but not poolers, which have the label of the cluster too.
  - ports:
      - protocol: TCP
        port: {{ $port }}
    to:
      {{- range $peers }}
      - podSelector:
          matchLabels:
            cnpg.io/cluster: {{ .cluster | toYaml }}
            cnpg.io/podRole: instance
        {{- if ne .namespace $.Release.Namespace }}
        namespaceSelector:
          matchLabels:
            kubernetes.io/metadata.name: {{ .namespace | toYaml }}
        {{- end }}
      {{- end }}
  {{- end }}
  {{- with .Values.networkPolicy.extraEgress }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end -}}

{{- define "cnpg-backup.networkPolicy.isolated" -}}
# Drills, inspectors and the check of the volume need no network at all.
podSelector:
  matchLabels:
    {{- include "cnpg-backup.selectorLabels" . | nindent 4 }}
  matchExpressions:
    - key: app.kubernetes.io/component
      operator: In
      values:
        - drill
        - inspect
        - open
        - first-run
policyTypes:
  - Ingress
  - Egress
ingress: []
egress: []
{{- end -}}

{{- define "cnpg-backup.networkPolicy.copies" -}}
# A copy reaches the clusters that get copies, and not those of all databases.
podSelector:
  matchLabels:
    {{- include "cnpg-backup.selectorLabels" . | nindent 4 }}
    app.kubernetes.io/component: copy
policyTypes:
  - Ingress
  - Egress
ingress: []
egress:
  {{- include "cnpg-backup.networkPolicy.nameServers" . | nindent 2 }}
  {{- range $copy := include "cnpg-backup.copies" . | fromJsonArray }}
  {{- if or .elsewhere (not .database.outside) }}
  - ports:
      - protocol: TCP
        port: {{ ternary 5432 (int64 .database.port) .elsewhere }}
    to:
      - podSelector:
          matchLabels:
            cnpg.io/cluster: {{ ternary .copy.cluster .database.cluster .elsewhere | toYaml }}
            cnpg.io/podRole: instance
        {{- if and (not .elsewhere) (ne .database.namespace $.Release.Namespace) }}
        namespaceSelector:
          matchLabels:
            kubernetes.io/metadata.name: {{ .database.namespace | toYaml }}
        {{- end }}
  {{- end }}
  {{- end }}
  {{- with .Values.networkPolicy.extraEgress }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end -}}

{{- define "cnpg-backup.networkPolicy.nameServers" -}}
# Name servers.
- ports:
    {{- range .Values.networkPolicy.dns.ports }}
    - protocol: UDP
      port: {{ int64 . }}
    - protocol: TCP
      port: {{ int64 . }}
    {{- end }}
  {{- with .Values.networkPolicy.dns.peers }}
  to:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end -}}

{{- define "cnpg-backup.networkPolicy.offsite" -}}
# Copies go to the store alone, and to no database.
podSelector:
  matchLabels:
    {{- include "cnpg-backup.selectorLabels" . | nindent 4 }}
  matchExpressions:
    - key: app.kubernetes.io/component
      operator: In
      values:
        - offsite
        - fetch
        {{- if .Values.offsite.drill.enabled }}
        - offsite-drill
        {{- end }}
policyTypes:
  - Ingress
  - Egress
ingress: []
egress:
  {{- include "cnpg-backup.networkPolicy.nameServers" . | nindent 2 }}
  {{- with .Values.offsite.egress }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end -}}

{{- define "cnpg-backup.networkPolicy.watch" -}}
# The watcher answers, reads the API server, and notifies whom values name. It reaches no database.
podSelector:
  matchLabels:
    {{- include "cnpg-backup.watchSelector" . | nindent 4 }}
policyTypes:
  - Ingress
  - Egress
ingress:
  - from:
      {{- toYaml .Values.monitoring.ingress.peers | nindent 6 }}
    ports:
      - protocol: TCP
        port: 8080
egress:
  {{- include "cnpg-backup.networkPolicy.nameServers" . | nindent 2 }}
  # The API server: networks see the address of its machine, which no label selects.
  - ports:
      {{- range .Values.monitoring.apiServer.ports }}
      - protocol: TCP
        port: {{ int64 . }}
      {{- end }}
    {{- with .Values.monitoring.apiServer.peers }}
    to:
      {{- toYaml . | nindent 6 }}
    {{- end }}
  {{- with .Values.notify.egress }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end -}}
