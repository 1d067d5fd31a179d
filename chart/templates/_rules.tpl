{{/*
The alerts, for Prometheus: a base set on kube-state-metrics alone, and the full set on the watcher's metrics. They look back for
timestamps (`last_over_time`), so that a gap between two scrapes or a pod that moves neither raises nor ends an alert. `max by` makes one
of two watchers. docs/runbooks has a page for each.
*/}}

{{/*
A metric of each database as it is now or, if it is not exported now, as it was last within `range`; by the labels `by`: those of a database
if there are none. What is exported now comes first: what a watcher said that is gone would else count for as long as `range`.
*/}}
{{- define "cnpg-backup.ruleMetric" -}}
{{- $series := printf "cnpg_backup_%s{%s%s}" .metric .selector (.more | default "") -}}
{{- $by := .by | default "namespace, release, database" -}}
{{- printf "(max by (%s) (%s)\n  or max by (%s) (last_over_time(%s[%s])))" $by $series $by $series (.range | default "30m") -}}
{{- end -}}

{{/* The databases whose schedule is on, or with `suspended` those whose schedule is off, among those with the labels `more`. */}}
{{- define "cnpg-backup.ruleInfo" -}}
{{- $series := printf "cnpg_backup_database_info{%s, suspended=\"%%t\"%s}" .selector (.more | default "") -}}
{{- $off := .suspended | default false -}}
{{- printf "(max by (namespace, release, database) (last_over_time(%s[1h]))\n  unless on (namespace, release, database) %s)"
  (printf $series $off) (printf $series (not $off)) -}}
{{- end -}}

{{/* The schedules of the CronJobs that back up, as a JSON list of `schedule`, `thresholds` and the `names` of the CronJobs. */}}
{{- define "cnpg-backup.ruleClasses" -}}
{{- $thresholds := include "cnpg-backup.thresholdsBySchedule" . | fromJson -}}
{{- $names := dict -}}
{{- range include "cnpg-backup.cronJobs" . | fromJsonArray -}}
  {{- $_ := set $names .schedule (append (get $names .schedule | default list) .name) -}}
{{- end -}}
{{- $classes := list -}}
{{- range $schedule, $its := $names -}}
  {{- $classes = append $classes (dict "schedule" $schedule "names" $its "thresholds" (get $thresholds $schedule)) -}}
{{- end -}}
{{- toJson $classes -}}
{{- end -}}

{{/* An alert with all that Prometheus wants of it, as JSON; nothing where values leave it out. */}}
{{- define "cnpg-backup.rule" -}}
{{- $root := .root -}}
{{- $rules := $root.Values.monitoring.rules -}}
{{- if not (has .alert $rules.exclude) -}}
  {{- $labels := dict
    "severity" (get $rules.severity .alert | default .severity)
    "namespace" $root.Release.Namespace
    "release" (include "cnpg-backup.fullname" $root) -}}
  {{- with .schedule -}}
    {{- $_ := set $labels "schedule" . -}}
  {{- end -}}
  {{- $runbooks := $rules.runbookUrl | default (include "cnpg-backup.page" (dict "root" $root "page" "runbooks")) -}}
  {{- $page := printf "%s/%s.md" (trimSuffix "/" $runbooks) .alert -}}
  {{- $annotations := dict
    "summary" .summary "description" (printf "%s\nRunbook: %s" .description $page) "runbook_url" $page -}}
  {{- toJson (dict
    "alert" .alert "expr" .expr "for" (printf "%ds" (int64 .lasting))
    "labels" (merge $labels $rules.alertLabels) "annotations" $annotations) -}}
{{- end -}}
{{- end -}}

{{/* The rules of the base set and, with a watcher, of the full one, as a JSON list. */}}
{{- define "cnpg-backup.rules" -}}
{{- $found := list -}}
{{- $rules := include "cnpg-backup.baseRules" . | fromJsonArray -}}
{{- if include "cnpg-backup.watched" . -}}
  {{- $rules = concat (include "cnpg-backup.watchRules" . | fromJsonArray) $rules -}}
{{- end -}}
{{- range $rules -}}
  {{- with include "cnpg-backup.rule" (set . "root" $) -}}
    {{- $found = append $found (fromJson .) -}}
  {{- end -}}
{{- end -}}
{{- toJson $found -}}
{{- end -}}

{{- define "cnpg-backup.ruleStatus" -}}
Next: kubectl cnpg-backup status -n {{ .Release.Namespace }} --release {{ include "cnpg-backup.fullname" . }}
{{- end -}}

{{- define "cnpg-backup.baseRules" -}}
{{- $list := list -}}
{{- $namespace := .Release.Namespace -}}
{{- $selector := printf "namespace=%q, release=%q" $namespace (include "cnpg-backup.fullname" .) -}}
{{- $names := list -}}
{{- $classes := include "cnpg-backup.ruleClasses" . | fromJsonArray -}}
{{- range $class := $classes -}}
  {{- $names = concat $names .names -}}
  {{- $jobs := printf "namespace=%q, cronjob=~%q" $namespace (join "|" .names | replace "." "[.]") -}}
  {{- $parts := list -}}
  {{- range list "status_last_successful_time" "created" "spec_suspend" -}}
    {{- $range := ternary "3600" (int64 $class.thresholds.lookback | toString) (eq . "spec_suspend") -}}
    {{- $parts = append $parts (printf
      "max by (namespace, cronjob) (last_over_time(kube_cronjob_%s{%s}[%ss]))" . $jobs $range) -}}
  {{- end -}}
  {{- $list = append $list (dict
    "alert" "CnpgBackupRunsStale"
    "severity" "critical"
    "lasting" 300
    "schedule" (ternary .schedule "" (gt (len $classes) 1))
    "expr" (printf
      "(\n  time() - (\n    %s\n    or\n    %s\n  ) > %d\n)\nand on (namespace, cronjob) %s == 0\nand on () absent(%s{%s})"
      (index $parts 0) (index $parts 1) (int64 .thresholds.staleAfter) (index $parts 2)
      "cnpg_backup_status_read_timestamp_seconds" $selector)
    "summary" "CronJob {{ $labels.cronjob }} has had no run without complaint for {{ $value | humanizeDuration }}."
    "description" (printf
      "Its databases may have no new backup in namespace %s. %s" $namespace (include "cnpg-backup.ruleStatus" $))) -}}
{{- end -}}
{{- /* `absent` keeps the labels of equality alone. So each of a few CronJobs has its own; many of them are counted. */ -}}
{{- $missing := list -}}
{{- if le (len $names) 20 -}}
  {{- range sortAlpha $names -}}
    {{- $missing = append $missing (printf "absent(kube_cronjob_info{namespace=%q, cronjob=%q})" $namespace .) -}}
  {{- end -}}
{{- else -}}
  {{- $jobs := printf "kube_cronjob_info{namespace=%q, cronjob=~%q}" $namespace (join "|" $names | replace "." "[.]") -}}
  {{- $missing = list
    (printf "count by (namespace) (count by (namespace, cronjob) (%s)) < %d" $jobs (len $names)) (printf "absent(%s)" $jobs) -}}
{{- end -}}
{{- $list = append $list (dict
  "alert" "CnpgBackupCronJobMissing"
  "severity" "critical"
  "lasting" 900
  "expr" (printf "(\n%s\n)\nand on () count(kube_cronjob_info) > 0" (join "\nor\n" $missing))
  "summary" "{{ with $labels.cronjob }}CronJob {{ . }} does not exist.{{ else }}A CronJob that backs up does not exist.{{ end }}"
  "description" (printf
    "Nothing makes its backups in namespace %s. Upgrade the release again. Next: kubectl get cronjobs -n %s" $namespace
    $namespace)) -}}
{{- toJson $list -}}
{{- end -}}

{{- define "cnpg-backup.watchRules" -}}
{{- $list := list -}}
{{- $namespace := .Release.Namespace -}}
{{- $release := include "cnpg-backup.fullname" . -}}
{{- $selector := printf "namespace=%q, release=%q" $namespace $release -}}
{{- $on := "on (namespace, release, database)" -}}
{{- $status := include "cnpg-backup.ruleStatus" . -}}
{{- $where := printf "in namespace %s" $namespace -}}
{{- $classes := include "cnpg-backup.ruleClasses" . | fromJsonArray -}}
{{- $lookback := 0 -}}
{{- range $classes -}}
  {{- $lookback = max $lookback (int64 .thresholds.lookback) -}}
{{- end -}}
{{- $lookback = printf "%ds" $lookback -}}
{{- $metric := dict "selector" $selector -}}
{{- $configured := include "cnpg-backup.ruleMetric" (dict "selector" $selector "metric" "database_info" "range" "1h") -}}
{{- $newest := include "cnpg-backup.ruleMetric" (merge (dict "metric" "newest_timestamp_seconds" "range" $lookback) $metric) -}}
{{- $limit := include "cnpg-backup.ruleMetric" (merge (dict "metric" "stale_after_seconds" "range" $lookback) $metric) -}}
{{- $bad := include "cnpg-backup.ruleMetric" (merge (dict "metric" "bad_archives") $metric) -}}
{{- $failed := include "cnpg-backup.ruleMetric" (merge (dict "metric" "last_run_result" "more" ", result=\"failed\"") $metric) -}}
{{- $refused := include "cnpg-backup.ruleMetric" (merge (dict "metric" "prune_refused") $metric) -}}
{{- $list = append $list (dict
  "alert" "CnpgBackupStale" "severity" "critical" "lasting" 300
  "expr" (printf "time() - %s\n> %s %s\nand %s %s" $newest $on $limit $on (include "cnpg-backup.ruleInfo" $metric))
  "summary" "The newest backup of {{ $labels.database }} is {{ $value | humanizeDuration }} old."
  "description" (printf "Data written since then would be lost %s. At least two runs left no backup. %s" $where $status)) -}}
{{- range $class := $classes -}}
  {{- $several := gt (len $classes) 1 -}}
  {{- $its := $metric -}}
  {{- $these := "" -}}
  {{- if $several -}}
    {{- $its = merge (dict "more" (printf ", cronjob=~%q" (join "|" .names | replace "." "[.]"))) $metric -}}
    {{- $these = printf "\nand %s %s" $on (include "cnpg-backup.ruleInfo" $its) -}}
  {{- end -}}
  {{- $common := dict "schedule" (ternary .schedule "" $several) -}}
  {{- $list = append $list (merge (dict
    "alert" "CnpgBackupNone" "severity" "critical" "lasting" .thresholds.staleAfter
    "expr" (printf "%s\nunless %s %s" (include "cnpg-backup.ruleInfo" $its) $on $newest)
    "summary" "{{ $labels.database }} has no backup."
    "description" (printf "It is configured %s, and no run has made a backup of it that is known. %s" $where $status)) $common) -}}
  {{- $list = append $list (merge (dict
    "alert" "CnpgBackupFailing" "severity" "warning" "lasting" .thresholds.failingFor
    "expr" (printf "%s == 1\nunless %s %s > 0%s" $failed $on $bad $these)
    "summary" "The backups of {{ $labels.database }} fail."
    "description" (printf "At least two runs in a row have failed %s. %s" $where $status)) $common) -}}
  {{- $list = append $list (merge (dict
    "alert" "CnpgBackupPruneRefused" "severity" "warning" "lasting" .thresholds.failingFor
    "expr" (printf "%s == 1%s" $refused $these)
    "summary" "The prune of {{ $labels.database }} is refused."
    "description" (printf
      "It would delete too much at once %s, so no backup is deleted and the volume fills. Next: kubectl cnpg-backup plan %s -n %s"
      $where "{{ $labels.database }}" $namespace)) $common) -}}
{{- end -}}
{{- $list = append $list (dict
  "alert" "CnpgBackupBadArchive" "severity" "critical" "lasting" 300
  "expr" (printf "%s > 0" $bad)
  "summary" "{{ $value }} archives of {{ $labels.database }} are bad or damaged."
  "description" (printf "They do not count as backups, and the storage may damage others %s. %s" $where $status)) -}}
{{- $volume := dict -}}
{{- range list "needed" "capacity" "growth" -}}
  {{- $name := printf "volume_%s_bytes%s" . (ternary "_per_second" "" (eq . "growth")) -}}
  {{- $_ := set $volume . (include "cnpg-backup.ruleMetric" (merge (dict "metric" $name "by" "namespace, release") $metric)) -}}
{{- end -}}
{{- $list = append $list (dict
  "alert" "CnpgBackupVolumeFull" "severity" "warning" "lasting" 3600
  "expr" (printf "%s\n> %s\nor\n(%s\n- %s)\n/ (%s > 0) < 604800"
    $volume.needed $volume.capacity $volume.capacity $volume.needed $volume.growth)
  "summary" "The volume of the backups is too small, or will be within a week."
  "description" (printf
    "Once it is full, no run makes a backup %s. Enlarge the claim, or keep fewer backups. %s" $where $status)) -}}
{{- $list = append $list (dict
  "alert" "CnpgBackupSuspended" "severity" "info" "lasting" 86400
  "expr" (include "cnpg-backup.ruleInfo" (merge (dict "suspended" true) $metric))
  "summary" "{{ $labels.database }} is not backed up: its schedule is suspended."
  "description" (printf "Unless this is meant, resume it %s. Next: kubectl cnpg-backup resume -n %s --release %s"
    $where $namespace $release)) -}}
{{- $read := printf "cnpg_backup_status_read_timestamp_seconds{%s}" $selector -}}
{{- $list = append $list (dict
  "alert" "CnpgBackupStatusDown" "severity" "warning" "lasting" 900
  "expr" (printf "absent(%s)\nor\ntime() - max by (namespace, release) (%s) > 900" $read $read)
  "summary" "The backups are not watched."
  "description" (printf "The watcher does not run, or cannot read the API server, %s. Next: kubectl describe deployment %s -n %s"
    $where (include "cnpg-backup.watchName" .) $namespace)) -}}
{{- if .Values.drill.enabled -}}
  {{- $list = concat $list (include "cnpg-backup.drillRules" (dict
    "root" . "metric" $metric "configured" $configured "where" $where "status" $status "lookback" $lookback) | fromJsonArray) -}}
{{- end -}}
{{- if .Values.offsite.enabled -}}
  {{- $list = append $list (include "cnpg-backup.offsiteRule" (dict
    "root" . "metric" $metric "configured" $configured "where" $where "status" $status "lookback" $lookback) | fromJson) -}}
{{- end -}}
{{- toJson $list -}}
{{- end -}}

{{- define "cnpg-backup.offsiteRule" -}}
{{- $on := "on (namespace, release, database)" -}}
{{- $its := include "cnpg-backup.offsiteThresholds" .root | fromJson -}}
{{- $stale := int64 $its.staleAfter -}}
{{- $range := printf "%ds" (int64 $its.lookback) -}}
{{- $newest := include "cnpg-backup.ruleMetric" (merge (dict "metric" "offsite_newest_timestamp_seconds" "range" $range) .metric) -}}
{{- $oldest := include "cnpg-backup.ruleMetric" (merge (dict "metric" "oldest_timestamp_seconds" "range" .lookback) .metric) -}}
{{- toJson (dict
  "alert" "CnpgBackupOffsiteStale" "severity" "warning" "lasting" 3600
  "expr" (printf "(\n  time() - %s > %d\n  or\n  (%s unless %s %s)\n  and %s time() - %s > %d\n)\nand %s %s"
    $newest $stale .configured $on $newest $on $oldest $stale $on .configured)
  "summary" "No new backup of {{ $labels.database }} has been copied out of the cluster."
  "description" (printf
    "If the cluster or its volume is lost, so is what was written since the last copy, %s. %s" .where .status)) -}}
{{- end -}}

{{- define "cnpg-backup.drillRules" -}}
{{- $on := "on (namespace, release, database)" -}}
{{- $thresholds := include "cnpg-backup.thresholds" (dict
  "root" .root "schedule" .root.Values.drill.schedule "staleAfter" .root.Values.monitoring.drillStaleAfter) | fromJson -}}
{{- $stale := int64 $thresholds.staleAfter -}}
{{- $range := printf "%ds" (int64 $thresholds.lookback) -}}
{{- $failed := include "cnpg-backup.ruleMetric" (merge (dict "metric" "drill_result" "more" ", result=\"failed\"") .metric) -}}
{{- $proved := include "cnpg-backup.ruleMetric" (merge (dict "metric" "drill_proved_timestamp_seconds" "range" $range) .metric) -}}
{{- $oldest := include "cnpg-backup.ruleMetric" (merge (dict "metric" "oldest_timestamp_seconds" "range" .lookback) .metric) -}}
{{- toJson (list
  (dict
    "alert" "CnpgBackupDrillFailed" "severity" "warning" "lasting" 300
    "expr" (printf "%s == 1" $failed)
    "summary" "The last drill of {{ $labels.database }} failed."
    "description" (printf "A backup was restored into a server of its own, and that failed %s. %s" .where .status))
  (dict
    "alert" "CnpgBackupDrillStale" "severity" "warning" "lasting" 3600
    "expr" (printf "(\n  time() - %s > %d\n  or\n  (%s unless %s %s)\n  and %s time() - %s > %d\n)\nand %s %s"
      $proved $stale .configured $on $proved $on $oldest $stale $on .configured)
    "summary" "No drill has proved a backup of {{ $labels.database }} lately."
    "description" (printf "It is not known whether it restores %s. %s" .where .status))) -}}
{{- end -}}
