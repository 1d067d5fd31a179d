{{/*
The access policies: who may mount the claim and reach what is on it, for the built-in engine (ValidatingAdmissionPolicy) and for
Kyverno. Both get the same rules from here. "Retention policy" is the other kind of policy: see _config.tpl.
*/}}

{{/*
Kind of the Kyverno policies to render, or nothing. `auto` looks for the API that Helm sees: for the kind if Helm was given kinds,
for the group's version if it was given only versions.
*/}}
{{- define "cnpg-backup.kyvernoKind" -}}
{{- $kyverno := .Values.accessPolicy.kyverno -}}
{{- $enabled := toString $kyverno.enabled -}}
{{- if .Values.accessPolicy.enabled -}}
  {{- if or (eq $enabled "true") (and (eq $enabled "auto") (include "cnpg-backup.kyvernoSeen" .)) -}}
    {{- $kyverno.kind -}}
  {{- end -}}
{{- end -}}
{{- end -}}

{{- define "cnpg-backup.kyvernoApi" -}}
{{- ternary "policies.kyverno.io/v1" "kyverno.io/v1" (eq .Values.accessPolicy.kyverno.kind "ValidatingPolicy") -}}
{{- end -}}

{{- define "cnpg-backup.kyvernoSeen" -}}
{{- $api := include "cnpg-backup.kyvernoApi" . -}}
{{- $versions := .Capabilities.APIVersions -}}
{{- if or ($versions.Has (printf "%s/%s" $api .Values.accessPolicy.kyverno.kind)) ($versions.Has $api) -}}
  {{- print "yes" -}}
{{- end -}}
{{- end -}}

{{/* The built-in engine's policies, as a JSON list of their names; see `cnpg-backup.accessRules`. */}}
{{- define "cnpg-backup.builtinAccessPolicies" -}}
{{- $policies := list -}}
{{- if and .Values.accessPolicy.enabled .Values.accessPolicy.builtin.enabled -}}
  {{- $byGrant := eq .Values.accessPolicy.mode "grant" -}}
  {{- $policies = ternary (list "access" "storage" "connect" "volume") (list "access") $byGrant -}}
{{- end -}}
{{- toJson $policies -}}
{{- end -}}

{{/* Kyverno's policies, likewise. */}}
{{- define "cnpg-backup.kyvernoAccessPolicies" -}}
{{- $policies := list -}}
{{- with include "cnpg-backup.kyvernoKind" . -}}
  {{- $policies = list "access" -}}
  {{- if and (eq $.Values.accessPolicy.mode "grant") (eq . "ValidatingPolicy") -}}
    {{- $policies = list "access" "storage" "connect" "volume" -}}
    {{- /* Kyverno judges `exec` by asking for the pod: while Kyverno is down, no pod of the namespace could be entered. */ -}}
    {{- if $.Values.accessPolicy.builtin.enabled -}}
      {{- $policies = without $policies "connect" -}}
    {{- end -}}
  {{- end -}}
{{- end -}}
{{- toJson $policies -}}
{{- end -}}

{{/* Whether an engine asks for the grant; empty if not. */}}
{{- define "cnpg-backup.accessByGrant" -}}
{{- $builtin := include "cnpg-backup.builtinAccessPolicies" . | fromJsonArray -}}
{{- $strong := or $builtin (eq (include "cnpg-backup.kyvernoKind" .) "ValidatingPolicy") -}}
{{- if and $strong (eq .Values.accessPolicy.mode "grant") -}}
  {{- print "yes" -}}
{{- end -}}
{{- end -}}

{{/*
Fails if the user who installs the chart may not read the access policies. Templates cannot catch an error, but Helm prints the call that
failed: its argument `otherwise` is the advice. Without a cluster nothing is looked up.
*/}}
{{- define "cnpg-backup.readAccessPolicies" -}}
{{- $name := include "cnpg-backup.accessPolicyName" (dict "root" .root "policy" "access") -}}
{{- if include "cnpg-backup.builtinAccessPolicies" .root | fromJsonArray -}}
  {{- $_ := lookup "admissionregistration.k8s.io/v1" "ValidatingAdmissionPolicy" "" $name -}}
{{- else if and (include "cnpg-backup.kyvernoKind" .root) (include "cnpg-backup.kyvernoSeen" .root) -}}
  {{- $_ := lookup (include "cnpg-backup.kyvernoApi" .root) .root.Values.accessPolicy.kyverno.kind "" $name -}}
{{- end -}}
{{- end -}}

{{/*
The rule that asks for the grant, and its message for those who do not hold it. It needs `root`, `engine`, `what` (CEL for the
name of the object) and `does` (CEL for a verb whose object is the claim). `variables` are further ones as YAML; `condition` is CEL and
replaces the grant alone; `advice` is CEL for a text to Kubernetes' own controllers, which the grant is not for.
*/}}
{{- define "cnpg-backup.accessGrantRule" -}}
{{- $what := required "cnpg-backup.accessGrantRule needs what" .what -}}
{{- $does := required "cnpg-backup.accessGrantRule needs does" .does -}}
{{- $role := include "cnpg-backup.roleName" .root -}}
{{- $claim := include "cnpg-backup.claimName" .root -}}
{{- $namespace := .root.Release.Namespace -}}
{{- $users := .root.Values.accessPolicy.controllers -}}
{{- $advice := printf "'See %s'" (include "cnpg-backup.page" (dict "root" .root "page" "security.md")) -}}
{{- $controllers := concat $users.job $users.cronJob $users.namespace $users.volumeBinder | uniq -}}
variables:
  - name: granted
    expression: >-
      {{- include "cnpg-backup.celGranted" (pick . "root" "engine") | nindent 6 }}
  {{- with .variables }}
  {{- . | nindent 2 }}
  {{- end }}
validations:
  - expression: {{ .condition | default "variables.granted" }}
    message: >-
      The claim {{ $claim }} in namespace {{ $namespace }} holds database backups; this request needs the verb mount on it.
    messageExpression: >-
      request.userInfo.username + ' asks to ' + request.operation.lowerAscii() + ' ' + request.resource.resource +
      (request.?subResource.orValue('') == '' ? '' : '/' + request.subResource) + ' ' + {{ $what }} +
      ', which ' + ({{ $does | nindent 6 | trim }}) + ' the claim {{ $claim }} in namespace {{ $namespace }} with its database backups. ' +
      'That needs the verb mount on the claim, which ' + (request.userInfo.username in {{ include "cnpg-backup.celList" $controllers }} ||
      request.userInfo.username.matches('^system:(kube-|node:|serviceaccount:kube-system:' +
        '(.*-controller|persistent-volume-binder|generic-garbage-collector)$)')
      ? 'Kubernetes itself must never get. ' + ({{ .advice | default $advice | nindent 6 | trim }})
      : 'a cluster administrator grants: kubectl create rolebinding NAME --namespace={{ $namespace }} --role={{ $role }} --user=' +
      request.userInfo.username)
    {{- if eq .engine "builtin" }}
    reason: Forbidden
    {{- end }}
{{- end -}}

{{- define "cnpg-backup.roleName" -}}
{{- printf "%s-operator" (include "cnpg-backup.fullname" .) -}}
{{- end -}}

{{/*
What both engines have in common, for each policy: which requests it judges, and by which rule. It needs `root`, `engine` and
`policy`. The matchConditions hold everything that can be decided without asking another API: an engine that is out then refuses
only the requests about which it would have to ask.
*/}}
{{- define "cnpg-backup.accessRules" -}}
{{- $policy := required "cnpg-backup.accessRules needs policy" .policy -}}
{{- $_ := required "cnpg-backup.accessRules needs engine" .engine -}}
{{- $rule := ternary $policy "label" (eq .root.Values.accessPolicy.mode "grant") -}}
{{- include (printf "cnpg-backup.accessRules.%s" $rule) . -}}
{{- end -}}

{{- define "cnpg-backup.accessRuleNamespace" -}}
namespaceSelector:
  matchLabels:
    kubernetes.io/metadata.name: {{ .Release.Namespace | toYaml }}
{{- end -}}

{{- define "cnpg-backup.accessRuleResources" -}}
- apiGroups: [""]
  apiVersions: [v1]
  operations: [CREATE, UPDATE]
  resources: [pods{{ if . }}, pods/ephemeralcontainers{{ end }}, podtemplates, replicationcontrollers]
- apiGroups: [apps]
  apiVersions: [v1]
  operations: [CREATE, UPDATE]
  resources: [deployments, replicasets, statefulsets, daemonsets]
- apiGroups: [batch]
  apiVersions: [v1]
  operations: [CREATE, UPDATE]
  resources: [jobs, cronjobs]
{{- end -}}

{{/*
Pods, and everything that pods are made of: what mounts the claim, and what could be taken for a run of the release. Both are one policy
with one condition, since an API server converts the pod anew for each policy that is asked about it: that costs more than the expression.
*/}}
{{- define "cnpg-backup.accessRules.access" -}}
{{- $imitates := include "cnpg-backup.celImitates" .root -}}
matchConstraints:
  {{- include "cnpg-backup.accessRuleNamespace" .root | nindent 2 }}
  resourceRules:
    {{- include "cnpg-backup.accessRuleResources" true | nindent 4 }}
matchConditions:
  - name: mounts-the-claim-or-passes-for-a-run
    expression: >-
      ((
        {{- include "cnpg-backup.celMatch" .root | nindent 8 }}) &&
      {{ include "cnpg-backup.celStranger" .root | nindent 6 | trim }}) || (
      {{- $imitates | nindent 6 }})
{{ include "cnpg-backup.accessGrantRule" (merge (dict
  "what" "dyn(object).metadata.name"
  "variables" (printf "- name: imitates\n  expression: >-%s" ($imitates | nindent 4))
  "does" "variables.imitates ? 'passes for a run on' : 'mounts'"
  "advice" (printf "variables.imitates\n? 'Give it another name, without the labels and owners of the runs of backups.'\n: %s"
    (include "cnpg-backup.celControllerAdvice" .root))) .) }}
{{- end -}}

{{/* The same requests judged by the label alone: the weak mode. */}}
{{- define "cnpg-backup.accessRules.label" -}}
matchConstraints:
  {{- include "cnpg-backup.accessRuleNamespace" .root | nindent 2 }}
  resourceRules:
    {{- include "cnpg-backup.accessRuleResources" false | nindent 4 }}
matchConditions:
  - name: mounts-the-claim
    expression: >-
      {{- include "cnpg-backup.celMatch" .root | nindent 6 }}
  - name: changes-a-pod
    expression: >-
      {{- include "cnpg-backup.celChange" .root | nindent 6 }}
validations:
  - expression: >-
      {{- include "cnpg-backup.celLabelled" .root | nindent 6 }}
    message: >-
      {{- include "cnpg-backup.accessLabelMessage" .root | nindent 6 }}
    {{- if eq .engine "builtin" }}
    reason: Forbidden
    {{- end }}
{{- end -}}

{{/* The claim itself, copies of it, the objects that the runs are made of, and Helm's records of the release. */}}
{{- define "cnpg-backup.accessRules.storage" -}}
matchConstraints:
  {{- include "cnpg-backup.accessRuleNamespace" .root | nindent 2 }}
  resourceRules:
    - apiGroups: [""]
      apiVersions: [v1]
      operations: [CREATE, UPDATE, DELETE]
      resources: [persistentvolumeclaims, configmaps, secrets]
    {{- range $group, $resources := dict
      "" "serviceaccounts" "batch" "cronjobs" "networking.k8s.io" "networkpolicies" "rbac.authorization.k8s.io" "roles, rolebindings" }}
    - apiGroups: [{{ quote $group }}]
      apiVersions: [v1]
      operations: [UPDATE, DELETE]
      resources: [{{ $resources }}]
    {{- end }}
    - apiGroups: [snapshot.storage.k8s.io]
      apiVersions: ["*"]
      operations: [CREATE]
      resources: [volumesnapshots]
    - apiGroups: [groupsnapshot.storage.k8s.io]
      apiVersions: ["*"]
      operations: [CREATE]
      resources: [volumegroupsnapshots]
matchConditions:
  - name: is-no-end-of-the-namespace
    expression: >-
      request.operation != 'DELETE' ||
      !(request.userInfo.username in {{ include "cnpg-backup.celList" .root.Values.accessPolicy.controllers.namespace }} ||
        (request.resource.resource == 'secrets' &&
          request.userInfo.username == 'system:serviceaccount:kube-system:generic-garbage-collector'))
  - name: touches-the-claim-or-the-runs
    expression: >-
      {{- include "cnpg-backup.celStorage" .root | nindent 6 }}
{{- $name := "(request.operation == 'DELETE' ? dyn(oldObject) : dyn(object)).metadata.name" }}
{{ include "cnpg-backup.accessGrantRule" (merge (dict "what" $name "does" "'is, copies or controls'") .) }}
{{- end -}}

{{/*
The way into a running pod. The built-in engine is given each pod of the namespace, Kyverno asks for the one. To the API server's
proxy a pod is also called `<pod>:<port>` and `<scheme>:<pod>:<port>`.
*/}}
{{- define "cnpg-backup.accessRules.connect" -}}
matchConstraints:
  {{- include "cnpg-backup.accessRuleNamespace" .root | nindent 2 }}
  resourceRules:
    - apiGroups: [""]
      apiVersions: [v1]
      operations: [CONNECT]
      resources: [pods/exec, pods/attach, pods/portforward, pods/proxy]
{{- $rule := dict "what" "request.?name.orValue('')" "does" "'reaches into a pod with'" }}
{{- if eq .engine "builtin" }}
matchConditions:
  # One condition, not two: it is evaluated for each pod of the namespace.
  - name: mounts-the-claim
    expression: >-
      params.metadata.name in request.?name.orValue('').split(':') && [dyn(params)].exists(o,
        {{- include "cnpg-backup.celReaches" .root | nindent 8 }})
{{ include "cnpg-backup.accessGrantRule" (merge $rule .) }}
{{- else }}
{{- $_ := set $rule "variables" (include "cnpg-backup.connectVariables" .root) }}
{{- $_ := set $rule "condition" (quote "!variables.mounts || variables.granted") }}
{{ include "cnpg-backup.accessGrantRule" (merge $rule .) }}
{{- end }}
{{- end -}}

{{- define "cnpg-backup.connectVariables" -}}
- name: mounts
  expression: >-
    [dyn(resource.Get('v1', 'pods', request.namespace,
      request.name.split(':').size() == 3 ? request.name.split(':')[1] : request.name.split(':')[0]))].exists(o,
      {{- include "cnpg-backup.celReaches" . | nindent 6 }})
{{- end -}}

{{/*
Other ways to the same volume, from any namespace: a claim that names the volume, or the volume handed to another claim. What else
administrators of storage could do is judged only by the built-in engine: Kyverno would have to be asked about every new volume of
the cluster.
*/}}
{{- define "cnpg-backup.accessRules.volume" -}}
{{- $claim := include "cnpg-backup.claimName" .root -}}
{{- $namespace := .root.Release.Namespace -}}
{{- $binders := include "cnpg-backup.celList" .root.Values.accessPolicy.controllers.volumeBinder -}}
matchConstraints:
  resourceRules:
    - apiGroups: [""]
      apiVersions: [v1]
      operations: [CREATE, UPDATE]
      resources: [persistentvolumeclaims]
    - apiGroups: [""]
      apiVersions: [v1]
      operations: [{{ if eq .engine "builtin" }}CREATE, {{ end }}UPDATE]
      resources: [persistentvolumes]
    {{- if eq .engine "builtin" }}
    - apiGroups: [snapshot.storage.k8s.io]
      apiVersions: ["*"]
      operations: [CREATE]
      resources: [volumesnapshotcontents]
    {{- end }}
matchConditions:
  - name: hands-out-a-volume
    expression: >-
      !(request.userInfo.username in {{ $binders }}) && [dyn(object)].exists(o,
        request.resource.resource == 'persistentvolumeclaims' ? (
          (o.spec.?volumeName.orValue('') != '' && (request.operation == 'CREATE' || dyn(oldObject).spec.?volumeName.orValue('') == '')) ||
          (o.spec.?dataSourceRef.?namespace.orValue('') == '{{ $namespace }}' && [o.spec.?dataSourceRef].exists(d,
            {{ include "cnpg-backup.celIsClaim" .root }})))
        : request.resource.resource == 'persistentvolumes' && request.operation == 'UPDATE' ? (
            dyn(oldObject).spec.?claimRef.?namespace.orValue('') == '{{ $namespace }}' &&
            dyn(oldObject).spec.?claimRef.?name.orValue('') == '{{ $claim }}' &&
            (o.spec.?claimRef.?namespace.orValue('') != '{{ $namespace }}' || o.spec.?claimRef.?name.orValue('') != '{{ $claim }}'))
        : true)
{{- $rule := dict
  "what" "dyn(object).metadata.name"
  "does" "'hands out the volume of'"
  "variables" (include "cnpg-backup.volumeVariables" .)
  "condition" "variables.elsewhere || variables.granted" }}
{{ include "cnpg-backup.accessGrantRule" (merge $rule .) }}
{{- end -}}

{{- define "cnpg-backup.volumeVariables" -}}
- name: volume
  expression: >-
    {{- include "cnpg-backup.celVolume" . | nindent 4 }}
- name: elsewhere
  expression: >-
    {{- include "cnpg-backup.celElsewhere" . | nindent 4 }}
{{- end -}}

{{- define "cnpg-backup.accessLabelMessage" -}}
The claim {{ include "cnpg-backup.claimName" . }} in namespace {{ .Release.Namespace }} holds database backups: only pods labelled
app={{ include "cnpg-backup.fullname" . }} may mount it. To read the backups, give the pod (or its template) that label;
to use another volume, name another claim.
{{- end -}}

{{/*
Which policies were made, and why others were not, as a JSON object: for people (NOTES) and for programs (a ConfigMap).
*/}}
{{- define "cnpg-backup.accessRecord" -}}
{{- include "cnpg-backup.once" (dict "root" . "make" "cnpg-backup.makeAccessRecord") -}}
{{- end -}}

{{- define "cnpg-backup.makeAccessRecord" -}}
{{- $access := .Values.accessPolicy -}}
{{- $builtin := include "cnpg-backup.builtinAccessPolicies" . | fromJsonArray -}}
{{- $kyverno := include "cnpg-backup.kyvernoAccessPolicies" . | fromJsonArray -}}
{{- $builtinMissing := "not made: accessPolicy.builtin.enabled is false" -}}
{{- $kyvernoMissing := "not made: accessPolicy.kyverno.enabled is false" -}}
{{- if not $access.enabled -}}
  {{- $builtinMissing = "not made: accessPolicy.enabled is false" -}}
  {{- $kyvernoMissing = $builtinMissing -}}
{{- else if eq (toString $access.kyverno.enabled) "auto" -}}
  {{- $api := include "cnpg-backup.kyvernoApi" . -}}
  {{- $kyvernoMissing = printf "not made: the cluster, as Helm saw it, does not serve %s %s" $api $access.kyverno.kind -}}
{{- end -}}
{{- $grant := "none: every pod of the namespace may mount the claim" -}}
{{- if include "cnpg-backup.accessByGrant" . -}}
  {{- $grant = printf "verb mount on the claim; Role %s" (include "cnpg-backup.roleName" .) -}}
{{- else if or $builtin $kyverno -}}
  {{- $grant = printf "none: the label app=%s is enough" (include "cnpg-backup.fullname" .) -}}
{{- end -}}
{{- $record := dict
  "claim" (printf "%s/%s" .Release.Namespace (include "cnpg-backup.claimName" .))
  "mode" (ternary $access.mode "none" (or $builtin $kyverno | empty | not))
  "grant" $grant
  "networkPolicies" (include "cnpg-backup.networkPolicyDigests" .)
  "builtin" $builtinMissing
  "kyverno" $kyvernoMissing -}}
{{- with $builtin -}}
  {{- $names := include "cnpg-backup.accessPolicyNames" (dict "root" $ "policies" .) -}}
  {{- $_ := set $record "builtin" (printf "ValidatingAdmissionPolicy %s" $names) -}}
{{- end -}}
{{- with $kyverno -}}
  {{- $names := include "cnpg-backup.accessPolicyNames" (dict "root" $ "policies" .) -}}
  {{- $_ := set $record "kyverno" (printf "%s %s" $access.kyverno.kind $names) -}}
{{- end -}}
{{- toJson $record -}}
{{- end -}}

{{- define "cnpg-backup.accessPolicyNames" -}}
{{- $names := list -}}
{{- range .policies -}}
  {{- $names = append $names (include "cnpg-backup.accessPolicyName" (dict "root" $.root "policy" .)) -}}
{{- end -}}
{{- join ", " $names -}}
{{- end -}}
