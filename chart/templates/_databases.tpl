{{/*
All databases with their settings resolved, as a JSON list: the entry over `defaults` over `image`.
Their keys are those of values.yaml, and `file`, the name of its configuration; `major`, PostgreSQL's major version by the image's tag;
`outside`, whether no cluster is named; `ownSchedule`, its schedule if that is not the release's; and `ownPolicy`, whether it has a
retention policy of its own.
*/}}
{{- define "cnpg-backup.databases" -}}
{{- include "cnpg-backup.once" (dict "root" . "make" "cnpg-backup.makeDatabases") -}}
{{- end -}}

{{- define "cnpg-backup.makeDatabases" -}}
{{- $list := list -}}
{{- $cron := include "cnpg-backup.cron" .Values.schedule -}}
{{- range $entry := .Values.databases -}}
  {{- $db := deepCopy $.Values.defaults -}}
  {{- range $key, $value := $entry -}}
    {{- if and (kindIs "map" $value) (hasKey $db $key) -}}
      {{- range $inner, $innerValue := $value -}}
        {{- $_ := set (get $db $key) $inner $innerValue -}}
      {{- end -}}
    {{- else -}}
      {{- $_ := set $db $key $value -}}
    {{- end -}}
  {{- end -}}
  {{- $_ := set $db "file" (printf "%s.conf" $db.name) -}}
  {{- if $db.databases -}}
    {{- /* All databases of a cluster: what lists them connects to `postgres`, and they have no owner in common. */ -}}
    {{- $_ := set $db "file" (printf "%s.all" $db.name) -}}
    {{- $_ := set $db "database" ($db.database | default "postgres") -}}
    {{- $_ := set $db "exclude" (ternary $db.exclude (list "postgres") (hasKey $db "exclude")) -}}
    {{- $_ := set $db.superuserSecret "name" ($db.superuserSecret.name | default (printf "%s-superuser" $db.cluster)) -}}
    {{- if not $db.secret.name -}}
      {{- $_ := set $db "secret" (deepCopy $db.superuserSecret) -}}
    {{- end -}}
  {{- end -}}
  {{- $_ := set $db "database" ($db.database | default $db.name) -}}
  {{- $_ := set $db "namespace" ($db.namespace | default $.Release.Namespace) -}}
  {{- /* A server that is not one of CloudNativePG's: its Secrets have no default names. */ -}}
  {{- $_ := set $db "outside" (empty $db.cluster) -}}
  {{- $_ := set $db "cluster" ($db.cluster | default $db.name) -}}
  {{- $_ := set $db "host" ($db.host | default (printf "%s-rw.%s.svc" $db.cluster $db.namespace)) -}}
  {{- $standbyHost := $db.standbyHost | default (printf "%s-ro.%s.svc" $db.cluster $db.namespace) -}}
  {{- $_ := set $db "standbyHost" (ternary $standbyHost "" (eq $db.target "prefer-standby")) -}}
  {{- $_ := set $db "username" ($db.username | default "") -}}
  {{- $_ := set $db.secret "name" ($db.secret.name | default (printf "%s-app" $db.cluster)) -}}
  {{- $ownerSecret := ternary $db.secret.name (printf "%s-app" $db.cluster) $db.outside -}}
  {{- $_ := set $db.ownerSecret "name" ($db.ownerSecret.name | default $ownerSecret) -}}
  {{- $_ := set $db.superuserSecret "name" ($db.superuserSecret.name | default (printf "%s-superuser" $db.cluster)) -}}
  {{- $_ := set $db.caSecret "name" ($db.caSecret.name | default (printf "%s-ca" $db.cluster)) -}}
  {{- $image := deepCopy $.Values.image -}}
  {{- range $key, $value := ($db.image | default dict) -}}
    {{- $_ := set $image $key $value -}}
  {{- end -}}
  {{- /* A digest belongs to one tag: an entry with a tag of its own does not inherit it. */ -}}
  {{- if and (hasKey ($db.image | default dict) "tag") (not (hasKey $db.image "digest")) -}}
    {{- $_ := set $image "digest" "" -}}
  {{- end -}}
  {{- $_ := set $db "image" (include "cnpg-backup.image" (dict "root" $ "image" $image)) -}}
  {{- $_ := set $db "pullPolicy" $image.pullPolicy -}}
  {{- $_ := set $db "major" (regexFind "^[0-9]+" $image.tag) -}}
  {{- $own := $cron -}}
  {{- with $db.schedule -}}
    {{- $own = include "cnpg-backup.cron" . -}}
  {{- end -}}
  {{- $_ := set $db "ownSchedule" (ternary "" $own (eq $own $cron)) -}}
  {{- $_ := set $db "ownPolicy" (or $db.ownSchedule $db.retention | empty | not) -}}
  {{- $_ := set $db "schedule" (ternary $db.schedule $.Values.schedule (ne $own $cron)) -}}
  {{- $list = append $list $db -}}
{{- end -}}
{{- toJson $list -}}
{{- end -}}

{{/*
The part of a CronJob's name that marks its image: nothing for the default one, `-<major>` for others. A further image of the
same major version gets a hash as well, so that none renames another. As JSON: image to part, for all databases.
*/}}
{{- define "cnpg-backup.imageSuffixes" -}}
{{- $suffixes := dict (include "cnpg-backup.image" (dict "root" .root "image" .root.Values.image)) "" -}}
{{- $taken := dict -}}
{{- range .databases -}}
  {{- if not (hasKey $suffixes .image) -}}
    {{- $hash := .image | sha256sum | trunc 8 -}}
    {{- $suffix := printf "-%s" (.major | default $hash) -}}
    {{- if hasKey $taken $suffix -}}
      {{- $suffix = printf "%s-%s" $suffix $hash -}}
    {{- end -}}
    {{- $_ := set $taken $suffix true -}}
    {{- $_ := set $suffixes .image $suffix -}}
  {{- end -}}
{{- end -}}
{{- toJson $suffixes -}}
{{- end -}}

{{/*
The CronJobs that back up, as a JSON list of `name`, `image`, `pullPolicy`, `schedule`, `suspend` and `databases`. There is one for
each database, or one for each shard, image and schedule: dump and server must be of the same major version, and an image that cannot
be pulled then stops only its own databases. Suspended databases are left out; a CronJob that has no others is suspended with all of
them, so that manual runs still work. A name depends only on its own databases: others come and go without renaming it.
*/}}
{{- define "cnpg-backup.cronJobs" -}}
{{- include "cnpg-backup.once" (dict "root" . "make" "cnpg-backup.makeCronJobs") -}}
{{- end -}}

{{- define "cnpg-backup.makeCronJobs" -}}
{{- $databases := include "cnpg-backup.databases" . | fromJsonArray -}}
{{- $images := include "cnpg-backup.imageSuffixes" (dict "root" . "databases" $databases) | fromJson -}}
{{- $groups := dict -}}
{{- $order := list -}}
{{- range $db := $databases -}}
  {{- $suffix := "" -}}
  {{- if $.Values.cronJob.perDatabase -}}
    {{- $suffix = include "cnpg-backup.shardSuffix" $db.name -}}
  {{- else -}}
    {{- $suffix = get $images $db.image -}}
    {{- if or $db.shard $db.ownSchedule -}}
      {{- $suffix = printf "%s%s" $suffix (include "cnpg-backup.groupSuffix" $db) -}}
    {{- end -}}
  {{- end -}}
  {{- $key := printf "%s %s %s" $suffix $db.image $db.ownSchedule -}}
  {{- if not (hasKey $groups $key) -}}
    {{- $name := include "cnpg-backup.cronJobName" (dict "root" $ "suffix" $suffix) -}}
    {{- $group := dict "name" $name "image" $db.image "pullPolicy" $db.pullPolicy "active" list "suspended" list -}}
    {{- $_ := set $group "schedule" $db.schedule -}}
    {{- $_ := set $groups $key $group -}}
    {{- $order = append $order $key -}}
  {{- end -}}
  {{- $group := get $groups $key -}}
  {{- $state := ternary "suspended" "active" $db.suspended -}}
  {{- $_ := set $group $state (append (get $group $state) $db) -}}
{{- end -}}
{{- $list := list -}}
{{- range $order -}}
  {{- $group := get $groups . -}}
  {{- $_ := set $group "databases" ($group.active | default $group.suspended) -}}
  {{- $_ := set $group "suspend" (or $.Values.suspend (empty $group.active)) -}}
  {{- $list = append $list (omit $group "active" "suspended") -}}
{{- end -}}
{{- toJson $list -}}
{{- end -}}

{{/*
The groups of databases that are restored, drilled and inspected together, as a JSON list of `restore`, `drill`, `inspect`, `open`
(the names of their CronJobs), `image`, `pullPolicy` and `databases`. There is one group for each image, since the programs must be of
the server's major version. Suspended databases are in them too: they may have to be restored. `name` is the prefix of their
common configuration's name.
*/}}
{{- define "cnpg-backup.operations" -}}
{{- include "cnpg-backup.once" (dict "root" . "make" "cnpg-backup.makeOperations") -}}
{{- end -}}

{{- define "cnpg-backup.makeOperations" -}}
{{- $databases := include "cnpg-backup.databases" . | fromJsonArray -}}
{{- $images := include "cnpg-backup.imageSuffixes" (dict "root" . "databases" $databases) | fromJson -}}
{{- $groups := dict -}}
{{- $order := list -}}
{{- range $db := $databases -}}
  {{- if not (hasKey $groups $db.image) -}}
    {{- $group := dict "image" $db.image "pullPolicy" $db.pullPolicy "databases" list -}}
    {{- range $operation := list "restore" "drill" "inspect" "open" -}}
      {{- $suffix := printf "-%s%s" $operation (get $images $db.image) -}}
      {{- $_ := set $group $operation (include "cnpg-backup.operationName" (dict "root" $ "suffix" $suffix)) -}}
      {{- $_ := set $group (print $operation "Suffix") $suffix -}}
    {{- end -}}
    {{- $_ := set $group "name" $group.restore -}}
    {{- $_ := set $groups $db.image $group -}}
    {{- $order = append $order $db.image -}}
  {{- end -}}
  {{- $group := get $groups $db.image -}}
  {{- $_ := set $group "databases" (append $group.databases $db) -}}
{{- end -}}
{{- $list := list -}}
{{- range $order -}}
  {{- $list = append $list (get $groups .) -}}
{{- end -}}
{{- toJson $list -}}
{{- end -}}

{{/*
The groups of databases that are drilled together, as a JSON list like that of `cnpg-backup.operations`: its groups, each in parts
of at most 50 databases, since a drill's pod has two containers for each of them. A group of one part is as it was; otherwise each
part has its own `drill`, and a configuration whose name begins with that.
*/}}
{{- define "cnpg-backup.drills" -}}
{{- include "cnpg-backup.once" (dict "root" . "make" "cnpg-backup.makeDrills") -}}
{{- end -}}

{{- define "cnpg-backup.makeDrills" -}}
{{- $list := list -}}
{{- range $group := include "cnpg-backup.operations" . | fromJsonArray -}}
  {{- $parts := list -}}
  {{- $part := list -}}
  {{- $containers := 0 -}}
  {{- range $db := $group.databases -}}
    {{- $slots := include "cnpg-backup.drillSlots" (dict "root" $ "database" $db) | fromJsonArray | len -}}
    {{- if gt (add $containers $slots) 50 -}}
      {{- $parts = append $parts $part -}}
      {{- $part = list -}}
      {{- $containers = 0 -}}
    {{- end -}}
    {{- $part = append $part $db -}}
    {{- $containers = add $containers $slots -}}
  {{- end -}}
  {{- $parts = append $parts $part -}}
  {{- if eq (len $parts) 1 -}}
    {{- $list = append $list $group -}}
  {{- else -}}
    {{- range $index, $databases := $parts -}}
      {{- $name := $group.drill -}}
      {{- $part := "" -}}
      {{- if $index -}}
        {{- $part = printf "-part%d" (add1 $index) -}}
        {{- $suffix := printf "%s%s" $group.drillSuffix $part -}}
        {{- $name = include "cnpg-backup.operationName" (dict "root" $ "suffix" $suffix) -}}
      {{- end -}}
      {{- $list = append $list (merge (dict "name" $name "drill" $name "part" $part "databases" $databases) $group) -}}
    {{- end -}}
  {{- end -}}
{{- end -}}
{{- toJson $list -}}
{{- end -}}

{{/*
The folders of one database's containers in a drill's pod, as a JSON list. All databases of a cluster share a few, the slots; the
first container of the pod decides whose turn it is.
*/}}
{{- define "cnpg-backup.drillSlots" -}}
{{- $slots := list .database.name -}}
{{- if hasSuffix ".all" .database.file -}}
  {{- $slots = list -}}
  {{- range $number := until (int .root.Values.drill.perEntry) -}}
    {{- $slots = append $slots (printf "%s.slot-%d" $.database.name (add1 $number)) -}}
  {{- end -}}
{{- end -}}
{{- toJson $slots -}}
{{- end -}}

{{/* Names of all CronJobs of the release, whose runs mount the claim, as a JSON list. */}}
{{- define "cnpg-backup.runNames" -}}
{{- include "cnpg-backup.once" (dict "root" . "make" "cnpg-backup.makeRunNames") -}}
{{- end -}}

{{- define "cnpg-backup.makeRunNames" -}}
{{- $names := list -}}
{{- range include "cnpg-backup.cronJobs" . | fromJsonArray -}}
  {{- $names = append $names .name -}}
{{- end -}}
{{- range include "cnpg-backup.operations" . | fromJsonArray -}}
  {{- $names = concat $names (list .restore .drill .inspect .open) -}}
{{- end -}}
{{- range include "cnpg-backup.drills" . | fromJsonArray -}}
  {{- $names = append $names .drill -}}
{{- end -}}
{{- range include "cnpg-backup.copies" . | fromJsonArray -}}
  {{- $names = append $names .name -}}
{{- end -}}
{{- if .Values.offsite.enabled -}}
  {{- $names = concat $names (list (include "cnpg-backup.offsiteName" .) (include "cnpg-backup.fetchName" .)) -}}
{{- end -}}
{{- $names = uniq $names -}}
{{- toJson $names -}}
{{- end -}}

{{/*
The pods of `helm test`, as a JSON list of `name`, `image`, `pullPolicy`, `databases` and the `cronJobs` whose configuration they
read. There is one for each image, however many CronJobs it has. Suspended databases are not tested.
*/}}
{{- define "cnpg-backup.checks" -}}
{{- $databases := include "cnpg-backup.databases" . | fromJsonArray -}}
{{- $images := include "cnpg-backup.imageSuffixes" (dict "root" . "databases" $databases) | fromJson -}}
{{- $checks := dict -}}
{{- $order := list -}}
{{- range $cronJob := include "cnpg-backup.cronJobs" . | fromJsonArray -}}
  {{- if not (first $cronJob.databases).suspended -}}
    {{- $image := $cronJob.image -}}
    {{- if not (hasKey $checks $image) -}}
      {{- $name := printf "%s-test" (include "cnpg-backup.cronJobName" (dict "root" $ "suffix" (get $images $image))) -}}
      {{- $check := dict "name" $name "image" $image "pullPolicy" $cronJob.pullPolicy "databases" list "cronJobs" list -}}
      {{- $_ := set $check "suffix" (get $images $image) -}}
      {{- $_ := set $checks $image $check -}}
      {{- $order = append $order $image -}}
    {{- end -}}
    {{- $check := get $checks $image -}}
    {{- $_ := set $check "databases" (concat $check.databases $cronJob.databases) -}}
    {{- $_ := set $check "cronJobs" (append $check.cronJobs $cronJob) -}}
  {{- end -}}
{{- end -}}
{{- $list := list -}}
{{- range $order -}}
  {{- $list = append $list (get $checks .) -}}
{{- end -}}
{{- toJson $list -}}
{{- end -}}
