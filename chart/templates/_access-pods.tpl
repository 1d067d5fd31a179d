{{/*
Which pods of Jobs may mount the claim without a grant: those that hold what the chart put there. A webhook that others can steer
(a mutating policy of Kyverno's, the templates of a mesh) adds or changes containers after the Job was judged, and the requester is
still the Job's controller.
*/}}

{{/* Names in a regular expression: one of them, for texts without other special characters than a dot. */}}
{{- define "cnpg-backup.anyOf" -}}
({{ join "|" (uniq .) | replace "." "[.]" }})
{{- end -}}

{{/* The end of an image's name: its tag and digest may change, since an older Job can still get its pod after an upgrade. */}}
{{- define "cnpg-backup.anyTag" -}}
(:[A-Za-z0-9_.-]+)?(@[a-z0-9]+:[0-9a-f]+)?
{{- end -}}

{{/* A regular expression for name and image of a container of the chart. */}}
{{- define "cnpg-backup.ownContainer" -}}
{{- $images := list (include "cnpg-backup.image" (dict "root" . "image" .Values.retention.image)) -}}
{{- range concat (include "cnpg-backup.cronJobs" . | fromJsonArray) (include "cnpg-backup.operations" . | fromJsonArray) -}}
  {{- $images = append $images .image -}}
{{- end -}}
{{- $names := list "dump" "retention" "check" "choose" "restore" "inspect" "record" "open" "hand-over(-[0-9]+)?" "drill-[0-9]+" -}}
{{- if .Values.offsite.enabled -}}
  {{- $images = append $images (include "cnpg-backup.image" (dict "root" . "image" .Values.offsite.image)) -}}
  {{- $names = concat $names (list "rclone" "copy" "fetch") -}}
{{- end -}}
{{- $repositories := list -}}
{{- range uniq $images -}}
  {{- $repositories = append $repositories (regexReplaceAll "(:[^/@]*)?(@.*)?$" . "") -}}
{{- end -}}
({{ join "|" $names }}) {{ include "cnpg-backup.anyOf" $repositories }}
{{- end -}}

{{/* The same for the containers that values allow in addition; empty if there are none. */}}
{{- define "cnpg-backup.sidecars" -}}
{{- $sidecars := list -}}
{{- range .Values.accessPolicy.sidecars -}}
  {{- $sidecars = append $sidecars (printf "%s %s" .name .image) -}}
{{- end -}}
{{- with $sidecars -}}
  {{- include "cnpg-backup.anyOf" . -}}
{{- end -}}
{{- end -}}

{{/* Regular expressions for what a container of the chart runs, as `command|arguments`, ... */}}
{{- define "cnpg-backup.ownCommands" -}}
sh (/opt/cnpg-backup/scripts/((dump|drill|restore|open)[.]sh|first-run[.]sh( --backup)?)|-c trap .exit 0. TERM; sleep [0-9]+ & wait)[|]|
{{- print "sh -c [[] -n \"[$][(]ls /run/cnpg-backup-results/first 2>/dev/null[)]\" []] [|][|] exit 0; " -}}
{{- print "exec python3 -m retention finish " -}}
{{- print "--config /run/cnpg-backup-results/first \"[$]@\" finish[|]--results /run/cnpg-backup-results " -}}
--termination-log /dev/termination-log /backups|python3 -m retention[|](
{{- join "|" (list
  "(finish --config (/etc/cnpg-backup|/run/cnpg-backup-results/config)|drill --config /etc/cnpg-backup) --results /run/cnpg-backup-results"
  (print "choose (--drill /etc/cnpg-backup --per-entry [0-9]+|--database=[$][(]RESTORE_DATABASE[)] --backup=[$][(]RESTORE_BACKUP[)]) "
    "--requests /run/cnpg-backup-results")
  (print "hand-over --database=([a-z0-9._-]+ (--slot=[a-z0-9._-]+ )?|[$][(]RESTORE_DATABASE[)] --open )--config /etc/cnpg-backup "
    "--results /run/cnpg-backup-results --run /run/cnpg-backup --scratch /var/lib/cnpg-backup-drill "
    "--scratch-size [0-9A-Za-z.]+ --seconds [0-9]+"))
}}) --termination-log /dev/termination-log /backups
{{- if .Values.offsite.enabled -}}
  {{- $socket := "--config /etc/cnpg-backup --socket /run/cnpg-backup/rc[.]sock --termination-log /dev/termination-log" -}}
  {{- $fetch := print "fetch --database=[$][(]FETCH_DATABASE[)] --backup=[$][(]FETCH_BACKUP[)]"
    "( --identity /etc/cnpg-backup-identity/key[.]txt)?" -}}
  {{- $which := "( --database=[a-z0-9._-]+ --backup=[a-zA-Z0-9._: +-]+)?" -}}
  {{- printf "|python3 -m offsite[|]((copy|%s) %s /backups|(list( --format json)?|check|verify%s) %s)" $fetch $socket $which $socket -}}
  {{- printf "|rclone[|]%s" (include "cnpg-backup.offsiteCommand" . | fromJsonArray | join " " | replace "." "[.]") -}}
{{- end -}}
{{- end -}}

{{/* ... for variables that decide what programs run. */}}
{{- define "cnpg-backup.loadedVariables" -}}
{{- $rclone := ternary "|RCLONE_" "" .Values.offsite.enabled -}}
(LD_|PYTHON|PG|PSQL|BACKUP_|DRILL_|OPEN_|BASH|OPENSSL|KRB5|GSS|GCONV{{ $rclone }}).*|PATH|HOME|ENV|IFS|PS4|SHELLOPTS
{{- end -}}

{{/*
The variables that the chart sets, whose values are known, as `name=value`; and a regular expression for the others. Jobs of before an
upgrade from 0.1.0 have the programs in folders, and still get their pods.
*/}}
{{- define "cnpg-backup.ownVariables" -}}
{{- $variables := list -}}
{{- if .Values.offsite.enabled -}}
  {{- range include "cnpg-backup.offsiteEnv" . | fromYamlArray -}}
    {{- if hasPrefix "RCLONE_" .name -}}
      {{- $variables = append $variables (printf "%s=%s" .name (.value | default "")) -}}
    {{- end -}}
  {{- end -}}
{{- end -}}
{{- concat $variables (list
  "PYTHONPATH=/opt/cnpg-backup/scripts"
  "PYTHONPATH=/opt/cnpg-backup"
  "PYTHONDONTWRITEBYTECODE=1"
  "PYTHONUNBUFFERED=1"
  "HOME=/run/cnpg-backup"
  "BACKUP_ROOT=/backups"
  "BACKUP_CONFIG=/etc/cnpg-backup"
  "BACKUP_CONFIG=/var/lib/cnpg-backup-drill/config"
  "BACKUP_CREDENTIALS=/etc/cnpg-backup-credentials"
  "BACKUP_RUN=/run/cnpg-backup"
  "BACKUP_RESULTS=/run/cnpg-backup-results"
  "BACKUP_POD="
  "DRILL_SCRATCH=/var/lib/cnpg-backup-drill") | toJson -}}
{{- end -}}

{{- define "cnpg-backup.otherVariables" -}}
{{- $names := list "BACKUP_(PARALLEL|TIMEOUT|CHART_VERSION|POD|ONLY)" "DRILL_(TIMEOUT|IMAGE)" "OPEN_(SECONDS|WRITE)" -}}
{{- range concat .Values.dump.extraEnv .Values.retention.extraEnv -}}
  {{- $names = append $names .name -}}
{{- end -}}
({{ join "|" (uniq $names) }})=.*
{{- end -}}

{{/* What a container of the chart mounts, likewise as `volume path`. Certificates and tokens that webhooks bring replace no program. */}}
{{- define "cnpg-backup.ownMounts" -}}
{{- $mounts := list
  "backups /backups"
  "scripts /opt/cnpg-backup/scripts"
  "scripts /opt/cnpg-backup"
  "config /etc/cnpg-backup"
  "config /etc/passwd"
  "credentials /etc/cnpg-backup-credentials"
  "sql /etc/cnpg-backup-sql"
  "run /run/cnpg-backup"
  "results /run/cnpg-backup-results"
  "scratch /var/lib/cnpg-backup-drill" -}}
{{- if .Values.offsite.enabled -}}
  {{- $mounts = append $mounts "identity /etc/cnpg-backup-identity" -}}
{{- end -}}
{{- range concat .Values.dump.extraVolumeMounts .Values.retention.extraVolumeMounts -}}
  {{- $mounts = append $mounts (printf "%s %s" .name .mountPath) -}}
{{- end -}}
{{- toJson $mounts -}}
{{- end -}}

{{- define "cnpg-backup.otherMounts" -}}
/(etc/ssl/certs|etc/pki/ca-trust|usr(/local)?/share/ca-certificates|(var/)?run/secrets)(/.*)?
{{- end -}}

{{/*
CEL: a container `c` is one of the chart's, and runs what the chart made it for. Code of a database's owner runs in a drill. What is as
the chart has it is found in a list, without an expression for texts: these cost most.
*/}}
{{- define "cnpg-backup.celOwnContainer" -}}
!has(c.lifecycle) && !has(c.livenessProbe) && !has(c.readinessProbe) && !has(c.startupProbe) && !has(c.envFrom) && !has(c.volumeDevices) &&
(c.name + ' ' + c.image).matches('^{{ include "cnpg-backup.ownContainer" . }}{{ include "cnpg-backup.anyTag" . }}$') &&
(c.?command.orValue([]).join(' ') + '|' + c.?args.orValue([]).join(' ')).matches('^({{ include "cnpg-backup.ownCommands" . }})$') &&
c.?env.orValue([]).all(e,
  e.name + '=' + e.?value.orValue('') in {{ include "cnpg-backup.ownVariables" . | fromJsonArray | include "cnpg-backup.celList" }} ||
  !e.name.matches('^({{ include "cnpg-backup.loadedVariables" . }})$') ||
  (e.name + '=' + e.?value.orValue('')).matches('(?s)^{{ include "cnpg-backup.otherVariables" . }}$')) &&
c.?volumeMounts.orValue([]).all(m,
  (m.name + ' ' + m.mountPath in {{ include "cnpg-backup.ownMounts" . | fromJsonArray | include "cnpg-backup.celList" }} ||
    m.mountPath.matches('^{{ include "cnpg-backup.otherMounts" . }}$')) &&
  (!(m.name in ['backups', 'config', 'credentials', 'run', 'results', 'scratch']) ||
    !c.?command.orValue([]).exists(w, w in ['/opt/cnpg-backup/scripts/drill.sh', '/opt/cnpg-backup/scripts/open.sh']) ||
    m.?subPath.orValue('') == 'passwd' || m.?subPath.orValue('').startsWith('databases/')))
{{- end -}}

{{/* CEL: what a container `c` loads and runs; with its arguments and mounts it is all that `cnpg-backup.celOwnContainer` judges. */}}
{{- define "cnpg-backup.celLoaded" -}}
[c.?image, c.?command, c.?env, c.?envFrom, c.?lifecycle, c.?livenessProbe, c.?readinessProbe, c.?startupProbe, c.?volumeDevices]
{{- end -}}

{{/* CEL: those arguments (as one text) and mounts of a container `c` of a drill that are the same for all databases. */}}
{{- define "cnpg-backup.celCommon" -}}
dyn(c.?args.orValue([]).filter(a, a != 'hand-over' && !a.startsWith('--database=') && !a.startsWith('--slot=')).join(' ')),
dyn(c.?volumeMounts.orValue([]).filter(m, !m.?subPath.orValue('').startsWith('databases/')))
{{- end -}}

{{/*
CEL: a container `c` of a drill is like the one of the first database, but for the database's name. A drill has two containers for each
database; only the `first` two are judged by themselves, since that costs much more. So is everything that differs in another way.
*/}}
{{- define "cnpg-backup.celRepeats" -}}
c.name.startsWith('drill-')
? {{ include "cnpg-backup.celLoaded" . }} == first[1][0] && !has(c.args) &&
  [string(c.?volumeMounts[?0].?subPath.orValue(''))].exists(folder, folder.startsWith('databases/') && c.volumeMounts == [
    {'name': 'run', 'mountPath': '/run/cnpg-backup', 'subPath': folder},
    {'name': 'results', 'mountPath': '/run/cnpg-backup-results', 'subPath': folder},
    {'name': 'scratch', 'mountPath': '/var/lib/cnpg-backup-drill', 'subPath': folder}] + first[1][2])
: c.name.startsWith('hand-over-') && {{ include "cnpg-backup.celLoaded" . }} == first[0][0] &&
  c.?volumeMounts.orValue([]) == first[0][2] && [c.?args.orValue([]).join(' ')].exists(text,
    text.endsWith(first[0][1]) && text.substring(0, text.size() - first[0][1].size())
      .matches('^hand-over --database=[a-z0-9._-]+ (--slot=[a-z0-9._-]+ )?$'))
{{- end -}}

{{/* CEL: a container `c` is one that values allow, and sees none of the chart's volumes. */}}
{{- define "cnpg-backup.celSidecar" -}}
{{- with include "cnpg-backup.sidecars" . -}}
(c.name + ' ' + c.image).matches('^{{ . }}{{ include "cnpg-backup.anyTag" $ }}$') &&
c.?volumeMounts.orValue([]).all(m,
  !(m.name in ['backups', 'scripts', 'config', 'credentials', 'run', 'results', 'scratch'
    {{- if $.Values.offsite.enabled }}, 'identity'{{ end }}]))
{{- else -}}
false
{{- end -}}
{{- end -}}

{{/* CEL: a volume `v` of a pod `o` is what the chart means by its name, or something else than the claim. `names` are the CronJobs'. */}}
{{- define "cnpg-backup.celOwnVolume" -}}
{{- $scripts := printf "%s-scripts-" (include "cnpg-backup.fullname" . | replace "." "[.]") -}}
v.name == 'backups' ? v.?persistentVolumeClaim.?claimName.orValue('') == '{{ include "cnpg-backup.claimName" . }}'
: v.name == 'scripts' ? v.?configMap.?name.orValue('').matches('^{{ $scripts }}[0-9a-f]{10}$')
: v.name == 'config' ? (has(v.projected)
    ? v.projected.sources.map(s, s.?configMap.?name.orValue(''))
    : [v.?configMap.?name.orValue('')]).all(n,
    n.matches('^.+-config-[0-9a-f]{10}$') && n.substring(0, n.size() - 18) in names)
: v.name in ['run', 'results', 'scratch'] ? has(v.emptyDir)
: !({{ include "cnpg-backup.celVolumeMounts" . | nindent 4 | trim }})
{{- end -}}

{{/* CEL: a pod `o` has the release's account; those that copy have their own, which a cloud knows, and no other pod has that one. */}}
{{- define "cnpg-backup.celOwnAccount" -}}
{{- $account := include "cnpg-backup.serviceAccountName" . -}}
{{- $offsite := ternary (include "cnpg-backup.offsiteAccount" .) $account .Values.offsite.enabled -}}
o.spec.?serviceAccountName.orValue('default') ==
{{- if eq $account $offsite }} '{{ $account }}'
{{- else }} (o.spec.?initContainers.orValue([]).exists(c, c.name == 'rclone') ? '{{ $offsite }}' : '{{ $account }}')
{{- end -}}
{{- end -}}

{{/* CEL: a pod `o` of a Job mounts the claim for the release, or for an account that values name. */}}
{{- define "cnpg-backup.celOwnPod" -}}
o.spec.?serviceAccountName.orValue('default') in {{ include "cnpg-backup.celList" .Values.accessPolicy.jobAccounts }} ||
({{ include "cnpg-backup.celOwnAccount" . }}
{{- if .Values.accessPolicy.ownContainers }} &&
o.metadata.?labels[?'app'].orValue('') == '{{ include "cnpg-backup.fullname" . }}' &&
![o.spec.?hostPID, o.spec.?hostIPC, o.spec.?hostNetwork, o.spec.?shareProcessNamespace].exists(f, f.orValue(false)) &&
o.spec.?volumes.orValue([]).all(v,
  {{- include "cnpg-backup.celOwnVolume" . | nindent 2 }}) &&
[o.spec.?initContainers.orValue([])].all(init,
  [init.size() > 4 && init[1].name == 'hand-over-1' && init[2].name == 'drill-1' ? [init[1], init[2]] : []].all(pair,
  [pair.map(c, [dyn({{ include "cnpg-backup.celLoaded" . }}), {{ include "cnpg-backup.celCommon" . }}])].all(first,
    [dyn(o.spec.containers), dyn(pair), dyn(pair.size() == 0 ? init : init.filter(c, !(
      {{- include "cnpg-backup.celRepeats" . | nindent 6 }})))].all(l, l.all(c,
      ({{ include "cnpg-backup.celOwnContainer" . | nindent 6 | trim }}) ||
      ({{ include "cnpg-backup.celSidecar" . | nindent 6 | trim }}))))))
{{- end }})
{{- end -}}

{{/* CEL: what to do about a pod, or what makes pods, of a controller's; the grant is for people and tools. */}}
{{- define "cnpg-backup.celControllerAdvice" -}}
{{- $account := include "cnpg-backup.serviceAccountName" . -}}
{{- $accounts := uniq (list $account (ternary (include "cnpg-backup.offsiteAccount" .) $account .Values.offsite.enabled)) -}}
request.resource.resource != 'pods' || !dyn(object).metadata.?ownerReferences.orValue([]).exists(r, r.kind == 'Job')
? 'Only pods and Jobs may mount it: use a Job instead.'
: !(dyn(object).spec.?serviceAccountName.orValue('default') in {{ include "cnpg-backup.celList" $accounts }})
? 'Name the service account ' + dyn(object).spec.?serviceAccountName.orValue('default') +
  ' of its Job in accessPolicy.jobAccounts, or let the Job use {{ $account }} and the containers of the release.'
: 'The pod must be as the chart made it, but has ' + [[dyn(object).spec.containers, dyn(object).spec.?initContainers.orValue([])].map(l,
    l.filter(c, !(c.name + ' ' + c.image).matches('^({{ include "cnpg-backup.ownContainer" . }}
      {{- with include "cnpg-backup.sidecars" . }}|{{ . }}{{ end }}){{ include "cnpg-backup.anyTag" . }}$'))
    .map(c, c.name + ' (' + c.image + ')').join(', '))].map(l, l.filter(s, s != '').join(', '))
  .map(s, s == '' ? 'another command, variable, mount, volume or label' : 'the container ' + s)[0] +
  '. Find the webhook or policy that changes it; if you want its container, name it in accessPolicy.sidecars.'
{{- end -}}
