{{/*
The expressions (CEL) that the rules of the access policy are made of: _access.tpl puts them together.
*/}}

{{/* CEL: a list of strings. None of them holds a quote or a backslash, see values.schema.json. */}}
{{- define "cnpg-backup.celList" -}}
[{{ range $index, $item := . }}{{ if $index }}, {{ end }}'{{ $item }}'{{ end }}]
{{- end -}}

{{/* CEL: the pods that an object `o` describes, itself or as a template. */}}
{{- define "cnpg-backup.celTemplates" -}}
[optional.of(o), o.?spec.?template, o.?spec.?jobTemplate.?spec.?template, o.?template]
{{- end -}}

{{/* CEL: a data source `d` is the claim, of which a copy would be made. */}}
{{- define "cnpg-backup.celIsClaim" -}}
d.?kind.orValue('') == 'PersistentVolumeClaim' && d.?name.orValue('') == '{{ include "cnpg-backup.claimName" . }}'
{{- end -}}

{{/*
CEL: what "mounts the claim" means, for a volume `v` of a pod that an object `o` describes. A generic ephemeral volume adopts an
existing claim called `<pod>-<volume>`, or is made as a copy of another claim.
*/}}
{{- define "cnpg-backup.celVolumeMounts" -}}
{{- $claim := include "cnpg-backup.claimName" . -}}
v.?persistentVolumeClaim.?claimName.orValue('') == '{{ $claim }}' ||
(has(v.ephemeral) && o.?metadata.?name.orValue('') + '-' + v.name == '{{ $claim }}') ||
[v.?ephemeral.?volumeClaimTemplate.?spec.?dataSource, v.?ephemeral.?volumeClaimTemplate.?spec.?dataSourceRef].exists(d,
  {{ include "cnpg-backup.celIsClaim" . }})
{{- end -}}

{{/* The same for a pod `t`. */}}
{{- define "cnpg-backup.celMounts" -}}
t.?spec.?volumes.orValue([]).exists(v,
  {{- include "cnpg-backup.celVolumeMounts" . | nindent 2 }})
{{- end -}}

{{/* CEL: a pod of an object `o` mounts the claim, or a StatefulSet copies it. */}}
{{- define "cnpg-backup.celReaches" -}}
{{ include "cnpg-backup.celTemplates" . }}.exists(t,
  {{- include "cnpg-backup.celMounts" . | nindent 2 }}) ||
o.?spec.?volumeClaimTemplates.orValue([]).exists(p, [p.?spec.?dataSource, p.?spec.?dataSourceRef].exists(d,
  {{ include "cnpg-backup.celIsClaim" . }}))
{{- end -}}

{{/* CEL: the request mounts the claim, or did so before. As a matchCondition it keeps all other requests away from the policy. */}}
{{- define "cnpg-backup.celMatch" -}}
(request.operation == 'UPDATE' ? [dyn(object), dyn(oldObject)] : [dyn(object)]).exists(o,
  {{- include "cnpg-backup.celReaches" . | nindent 2 }})
{{- end -}}

{{/*
CEL: the request makes something, or changes its labels or templates. The policy does not see any other update (status,
finalizers, deletion): older objects still get them, and a Job can end while Kyverno is out.
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

{{/* CEL: the names of the CronJobs whose Jobs may mount the claim. */}}
{{- define "cnpg-backup.celRunNames" -}}
{{- concat (include "cnpg-backup.runNames" . | fromJsonArray) .Values.accessPolicy.cronJobs | include "cnpg-backup.celList" -}}
{{- end -}}

{{/*
CEL: neither a Job that the controller makes of this release's CronJobs, nor a pod that it makes of a Job, nor an update that does
not change what runs. The Jobs and CronJobs were judged when they were made, so their pods need no second grant; but see
_access-pods.tpl.
*/}}
{{- define "cnpg-backup.celStranger" -}}
{{- $users := .Values.accessPolicy.controllers -}}
!(request.?subResource.orValue('') == '' && (request.operation == 'CREATE'
  ? [{{ include "cnpg-backup.celRunNames" . }}].exists(names,
      [dyn(object)].exists(o, o.metadata.?ownerReferences.orValue([]).exists(r, r.?controller.orValue(false) && (
      (request.resource.resource == 'jobs' && r.kind == 'CronJob' && r.name in names &&
        request.userInfo.username in {{ include "cnpg-backup.celList" $users.cronJob }}) ||
      (request.resource.resource == 'pods' && r.kind == 'Job' &&
        request.userInfo.username in {{ include "cnpg-backup.celList" $users.job }} && (
        {{- include "cnpg-backup.celOwnPod" . | nindent 8 }}))))))
  : request.resource.resource == 'pods'
  ? dyn(object).metadata.?labels == dyn(oldObject).metadata.?labels &&
    dyn(object).spec.containers.map(c, c.image) == dyn(oldObject).spec.containers.map(c, c.image) &&
    dyn(object).spec.?initContainers.orValue([]).map(c, c.image) == dyn(oldObject).spec.?initContainers.orValue([]).map(c, c.image)
  : dyn(object).?spec == dyn(oldObject).?spec && dyn(object).?template == dyn(oldObject).?template))
{{- end -}}

{{/*
CEL: makes, deletes or hands on what must stay as it is: the claim, a copy of it, the objects that the runs are made of, and Helm's own
records of the release, which decide what an administrator's next command does. With a controller reference on the claim a pod could
adopt it, with any other reference it could be collected as garbage; with another volume, the owner of that volume would get the dumps;
labels and annotations steer other tools. Helm finds its records by their labels, and reads a version by its name.
*/}}
{{- define "cnpg-backup.celStorage" -}}
{{- $claim := include "cnpg-backup.claimName" . -}}
{{- $fullname := include "cnpg-backup.fullname" . -}}
{{- $names := include "cnpg-backup.runNames" . | fromJsonArray -}}
{{- $maps := list (printf "%s-scripts" $fullname) -}}
{{- $role := include "cnpg-backup.roleName" . -}}
{{- $objects := list (printf "roles/%s" $role) (printf "rolebindings/%s" $role) -}}
{{- $objects = concat $objects (list (printf "networkpolicies/%s" $fullname) (printf "networkpolicies/%s-isolated" $fullname)) -}}
{{- if .Values.offsite.enabled -}}
  {{- $objects = append $objects (printf "networkpolicies/%s-offsite" $fullname) -}}
  {{- if .Values.offsite.serviceAccount.create -}}
    {{- $objects = append $objects (printf "serviceaccounts/%s" (include "cnpg-backup.offsiteAccount" .)) -}}
  {{- end -}}
{{- end -}}
{{- if .Values.serviceAccount.create -}}
  {{- $objects = append $objects (printf "serviceaccounts/%s" (include "cnpg-backup.serviceAccountName" .)) -}}
{{- end -}}
{{- range $names -}}
  {{- $maps = append $maps (printf "%s-config" .) -}}
  {{- $objects = append $objects (printf "cronjobs/%s" .) -}}
{{- end -}}
{{- range include "cnpg-backup.offsiteDrillNames" . | fromJsonArray -}}
  {{- $objects = append $objects (printf "cronjobs/%s" .) -}}
{{- end -}}
{{- $record := printf "(secrets|configmaps)/sh.helm.release.v1.%s.v[0-9]+" .Release.Name -}}
{{- $map := printf "configmaps/(%s-access|(%s)-[0-9a-f]{10})" $fullname (join "|" $maps) -}}
(request.operation == 'DELETE' ? [dyn(oldObject)] : [dyn(object)]).exists(o,
  request.resource.resource == 'persistentvolumeclaims' ? (o.metadata.name == '{{ $claim }}'
    ? request.operation != 'UPDATE' || o.metadata.?ownerReferences.orValue([]) != dyn(oldObject).metadata.?ownerReferences.orValue([]) ||
      o.metadata.?labels.orValue({}) != dyn(oldObject).metadata.?labels.orValue({}) ||
      [[o, dyn(oldObject)], [dyn(oldObject), o]].exists(p, p[0].metadata.?annotations.orValue({}).exists(k,
        p[0].metadata.?annotations[?k] != p[1].metadata.?annotations[?k] && !({{ include "cnpg-backup.celStorageKeys" . }}))) ||
      (o.spec.?volumeName.orValue('') != dyn(oldObject).spec.?volumeName.orValue('') &&
        !(request.userInfo.username in {{ include "cnpg-backup.celList" .Values.accessPolicy.controllers.volumeBinder }}))
    : request.operation == 'CREATE' && [o.?spec.?dataSource, o.?spec.?dataSourceRef].exists(d,
        {{ include "cnpg-backup.celIsClaim" . }}))
  : request.resource.resource in ['secrets', 'configmaps'] ? (
      (request.resource.resource + '/' + o.metadata.name).matches('^({{ printf "%s|%s" $record $map | replace "." "[.]" }})$') ||
      (o.metadata.?labels[?'owner'].orValue('') == 'helm' && o.metadata.?labels[?'name'].orValue('') == '{{ .Release.Name }}')) && (
      request.operation != 'UPDATE' || o.?data != dyn(oldObject).?data || o.?binaryData != dyn(oldObject).?binaryData ||
      o.?immutable.orValue(false) != dyn(oldObject).?immutable.orValue(false) ||
      [o.metadata.?labels.orValue({}), o.metadata.?ownerReferences.orValue([])] !=
        [dyn(oldObject).metadata.?labels.orValue({}), dyn(oldObject).metadata.?ownerReferences.orValue([])])
  : request.resource.resource == 'volumesnapshots' ? o.?spec.?source.?persistentVolumeClaimName.orValue('') == '{{ $claim }}'
  : request.resource.resource == 'volumegroupsnapshots' ||
      (request.resource.resource + '/' + o.metadata.name in {{ include "cnpg-backup.celList" $objects }} && (
      request.operation == 'DELETE' || o.metadata.?labels.orValue({}) != dyn(oldObject).metadata.?labels.orValue({}) ||
      o.metadata.?ownerReferences.orValue([]) != dyn(oldObject).metadata.?ownerReferences.orValue([]) ||
      (request.resource.resource != 'cronjobs' && [o.?spec, o.?rules, o.?subjects] !=
        [dyn(oldObject).?spec, dyn(oldObject).?rules, dyn(oldObject).?subjects]))))
{{- end -}}

{{/*
CEL: would pass for a run of the release without mounting the claim: a Job with a name that the CronJob's controller is about to use
(`<CronJob>-<minutes since 1970>`, and then that run never starts), a Job that names one of the release's CronJobs as its owner (the
controller looks at the name alone), a Job or CronJob with the labels by which the plugin and alarms find runs, or a pod with the label
by which a Job adopts its pods. None of them is anybody's by these marks alone, so only those with the grant may write them.
*/}}
{{- define "cnpg-backup.celImitates" -}}
{{- $users := .Values.accessPolicy.controllers -}}
{{- $adopts := "metadata.?labels[?'batch.kubernetes.io/controller-uid'].orValue('')" -}}
request.resource.resource in ['pods', 'jobs', 'cronjobs'] && request.?subResource.orValue('') == '' &&
!(request.userInfo.username in (request.resource.resource == 'pods'
  ? {{ include "cnpg-backup.celList" $users.job }} : {{ include "cnpg-backup.celList" $users.cronJob }})) &&
[[dyn(object), request.operation == 'UPDATE' ? dyn(oldObject) : dyn({})]].exists(p, request.resource.resource == 'pods'
  ? p[0].?{{ $adopts }} != '' && p[0].?{{ $adopts }} != p[1].?{{ $adopts }}
  : [p.map(o, [optional.of(o), o.?spec.?jobTemplate].exists(t,
      t.?metadata.?labels[?'app'].orValue('') == '{{ include "cnpg-backup.fullname" . }}' &&
      t.?metadata.?labels[?'app.kubernetes.io/name'].orValue('') == 'cnpg-backup'))].exists(m,
        m[0] != m[1] && (m[0] || request.resource.resource == 'jobs')) ||
    (request.resource.resource == 'jobs' && [{{ include "cnpg-backup.celRunNames" . }}].exists(names,
      p.map(o, o.?metadata.?ownerReferences.orValue([]).exists(r, r.name in names)) == [true, false] ||
      (request.operation == 'CREATE' && p[0].metadata.name.matches('-[0-9]+$') &&
        p[0].metadata.name.substring(0, p[0].metadata.name.lastIndexOf('-')) in names))))
{{- end -}}

{{/* CEL: an annotation `k` that only Kubernetes' accounts and storage drivers write, and the requester is one of them. */}}
{{- define "cnpg-backup.celStorageKeys" -}}
k.matches('^(pv|volume|volume[.]beta)[.]kubernetes[.]io/') &&
(request.userInfo.username in {{ include "cnpg-backup.celList" .Values.accessPolicy.controllers.volumeBinder }} ||
(request.userInfo.username.startsWith('system:') &&
!request.userInfo.username.startsWith('system:serviceaccount:{{ .Release.Namespace }}:')))
{{- end -}}

{{/* CEL: the requester holds the verb `mount` on the claim, or is an exception by name. */}}
{{- define "cnpg-backup.celGranted" -}}
{{- $claim := include "cnpg-backup.claimName" .root -}}
{{- $namespace := .root.Release.Namespace -}}
request.userInfo.username in {{ include "cnpg-backup.celList" .root.Values.accessPolicy.exceptions }} ||
{{ if eq .engine "builtin" -}}
authorizer.group('').resource('persistentvolumeclaims').namespace('{{ $namespace }}').name('{{ $claim }}').check('mount').allowed()
{{- else -}}
resource.Post('authorization.k8s.io/v1', 'subjectaccessreviews', {
  'apiVersion': dyn('authorization.k8s.io/v1'),
  'kind': dyn('SubjectAccessReview'),
  'spec': dyn({
    'user': dyn(request.userInfo.username),
    'groups': dyn(request.userInfo.?groups.orValue([])),
    'resourceAttributes': dyn({
      'verb': 'mount', 'group': '', 'resource': 'persistentvolumeclaims',
      'namespace': '{{ $namespace }}', 'name': '{{ $claim }}'})})}).?status.?allowed.orValue(false)
{{- end -}}
{{- end -}}

{{/* CEL: the name of the claim's volume, or nothing. */}}
{{- define "cnpg-backup.celVolume" -}}
{{- if eq .engine "builtin" -}}
dyn(params).spec.?volumeName.orValue('')
{{- else -}}
{{- $claim := include "cnpg-backup.claimName" .root -}}
{{- $one := printf "filter(c, c.metadata.name == '%s').map(c, c.spec.?volumeName.orValue('')).join('')" $claim -}}
[dyn(resource.List('v1', 'persistentvolumeclaims', '{{ .root.Release.Namespace }}'))].map(l, l.?items.orValue([]).{{ $one }})[0]
{{- end -}}
{{- end -}}

{{/* CEL: what is handed out is not the claim's volume. */}}
{{- define "cnpg-backup.celElsewhere" -}}
request.resource.resource == 'persistentvolumeclaims'
  ? dyn(object).spec.?volumeName.orValue('') != '' && dyn(object).spec.?volumeName.orValue('') != variables.volume
{{- if eq .engine "builtin" }}
  : request.resource.resource == 'volumesnapshotcontents'
  ? variables.volume == '' || dyn(object).spec.?source.?volumeHandle.orValue('') != variables.volume ||
    dyn(object).spec.?volumeSnapshotRef.?namespace.orValue('') == '{{ .root.Release.Namespace }}'
  : request.operation == 'CREATE' && (variables.volume == '' || dyn(object).spec.?csi.?volumeHandle.orValue('') != variables.volume)
{{- else }}
  : false
{{- end }}
{{- end -}}
