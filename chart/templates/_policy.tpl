{{/*
Kind of the Kyverno policy to render, or nothing. `auto` asks for the API that Helm sees: the kind where it is told kinds,
the group's version where it is told only those.
*/}}
{{- define "cnpg-backup.kyvernoKind" -}}
{{- $kyverno := .Values.accessPolicy.kyverno -}}
{{- $api := ternary "policies.kyverno.io/v1" "kyverno.io/v1" (eq $kyverno.kind "ValidatingPolicy") -}}
{{- $seen := or (.Capabilities.APIVersions.Has (printf "%s/%s" $api $kyverno.kind)) (.Capabilities.APIVersions.Has $api) -}}
{{- if or (eq (toString $kyverno.enabled) "true") (and (eq (toString $kyverno.enabled) "auto") $seen) -}}
{{- $kyverno.kind -}}
{{- end -}}
{{- end -}}

{{/*
CEL: the pods that an object `o` describes, itself or as a template, and whether one of them mounts the claim. A generic
ephemeral volume adopts an existing claim called `<pod>-<volume>`.
*/}}
{{- define "cnpg-backup.celTemplates" -}}
[optional.of(o), o.?spec.?template, o.?spec.?jobTemplate.?spec.?template, o.?template]
{{- end -}}

{{- define "cnpg-backup.celMounts" -}}
{{- $claim := include "cnpg-backup.claimName" . -}}
t.?spec.?volumes.orValue([]).exists(v,
  v.?persistentVolumeClaim.?claimName.orValue('') == '{{ $claim }}' ||
  (has(v.ephemeral) && o.?metadata.?name.orValue('') + '-' + v.name == '{{ $claim }}'))
{{- end -}}

{{/* CEL: the request mounts the claim. It goes into matchConditions, so that no other request meets the policy. */}}
{{- define "cnpg-backup.celMatch" -}}
[dyn(object)].exists(o,
  {{ include "cnpg-backup.celTemplates" . }}.exists(t,
    {{- include "cnpg-backup.celMounts" . | nindent 4 }}))
{{- end -}}

{{/*
CEL: the request makes something, or changes its labels or templates. All other updates (status, finalizers, deletion)
do not meet the policy: they go on for older objects, and a Job ends while Kyverno is out.
*/}}
{{- define "cnpg-backup.celChange" -}}
request.operation != 'UPDATE' || dyn(object).?spec != dyn(oldObject).?spec ||
dyn(object).?template != dyn(oldObject).?template || dyn(object).metadata.?labels != dyn(oldObject).metadata.?labels
{{- end -}}

{{/* CEL: every described pod that mounts the claim has the release's label. */}}
{{- define "cnpg-backup.celLabelled" -}}
[dyn(object)].all(o,
  {{ include "cnpg-backup.celTemplates" . }}.all(t,
    !{{ include "cnpg-backup.celMounts" . | nindent 4 | trim }} ||
    t.?metadata.?labels[?'app'].orValue('') == '{{ include "cnpg-backup.fullname" . }}'))
{{- end -}}

{{- define "cnpg-backup.policyMessage" -}}
The claim {{ include "cnpg-backup.claimName" . }} in namespace {{ .Release.Namespace }} holds database backups: only pods labelled
app={{ include "cnpg-backup.fullname" . }} may mount it. To read the backups, give the pod (or its template) that label; to use another volume, name another claim.
{{- end -}}
