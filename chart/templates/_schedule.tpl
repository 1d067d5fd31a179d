{{/* A cron expression as its five fields with one blank between them; `@daily` and the like are written out. */}}
{{- define "cnpg-backup.cron" -}}
{{- $macros := dict
  "@yearly" "0 0 1 1 *" "@annually" "0 0 1 1 *" "@monthly" "0 0 1 * *" "@weekly" "0 0 * * 0"
  "@daily" "0 0 * * *" "@midnight" "0 0 * * *" "@hourly" "0 * * * *" -}}
{{- get $macros (trim .) | default (regexSplit "\\s+" (trim .) -1 | join " ") -}}
{{- end -}}

{{/* The values of one field of a cron expression, as a sorted JSON list; -1 stands for one that is outside `min` and `max`. */}}
{{- define "cnpg-backup.cronField" -}}
{{- $values := dict -}}
{{- $field := lower .field -}}
{{- range $index, $name := .names -}}
  {{- $field = $field | replace $name (add $index $.min | toString) -}}
{{- end -}}
{{- range splitList "," $field -}}
  {{- $parts := splitList "/" . -}}
  {{- $range := first $parts -}}
  {{- $from := int $.min -}}
  {{- $to := int $.max -}}
  {{- if contains "-" $range -}}
    {{- $from = splitList "-" $range | first | atoi -}}
    {{- $to = splitList "-" $range | last | atoi -}}
  {{- else if not (has $range (list "*" "?")) -}}
    {{- $from = atoi $range -}}
    {{- if eq (len $parts) 1 -}}
      {{- $to = $from -}}
    {{- end -}}
  {{- end -}}
  {{- $step := ternary (last $parts | atoi) 1 (gt (len $parts) 1) -}}
  {{- range untilStep $from (int (add $to 1)) $step -}}
    {{- $inside := and (ge . (int $.min)) (le . (int $.max)) -}}
    {{- $_ := set $values (ternary (printf "%04d" .) "-001" $inside) true -}}
  {{- end -}}
{{- end -}}
{{- $list := list -}}
{{- range keys $values | sortAlpha -}}
  {{- $list = append $list (atoi .) -}}
{{- end -}}
{{- toJson $list -}}
{{- end -}}

{{/*
A lower bound of the days between two days on which a schedule fires, by its `days` of the month and of the `week`. With both, it
fires on either.
*/}}
{{- define "cnpg-backup.dayGap" -}}
{{- $gap := 1 -}}
{{- $every := "^[*?](/1)?$" -}}
{{- $cycles := list -}}
{{- $days := list -}}
{{- if and (regexMatch $every .dayField) (not (regexMatch $every .weekField)) -}}
  {{- $days = .week -}}
  {{- $cycles = list 7 -}}
{{- else if and (regexMatch $every .weekField) (not (regexMatch $every .dayField)) -}}
  {{- $days = .days -}}
  {{- $cycles = list 28 29 30 31 -}}
{{- end -}}
{{- if $cycles -}}
  {{- $gap = 31 -}}
  {{- range $cycle := $cycles -}}
    {{- $last := -1 -}}
    {{- range $day := $days -}}
      {{- if and (ge $last 0) (le $day $cycle) -}}
        {{- $gap = min $gap (sub $day $last) -}}
      {{- end -}}
      {{- if le $day $cycle -}}
        {{- $last = $day -}}
      {{- end -}}
    {{- end -}}
    {{- if ge $last 0 -}}
      {{- $gap = min $gap (sub (add $cycle (first $days)) $last) -}}
    {{- end -}}
  {{- end -}}
{{- end -}}
{{- $gap -}}
{{- end -}}

{{/*
What is known of a schedule without a calendar, as JSON: `interval`, a lower bound of the seconds between two runs as if it fired on
every day; `gap`, the same with its days; `longest`, an upper bound of it in whole days; `runs`, how many there are on a day;
`minutePhase` and `phase`, where slots of `tiers` and of
words begin by default; and whether it is `possible`. The caller gives `root`, and `schedule` if it is not that of the release.

A slot begins 15 minutes before the minute of the schedule. A slot of words, where runs are more than two hours apart, begins half an
interval later, so that neither a dump that begins an hour late nor a time zone moves a backup into another slot. Those of `tiers` do
not: slots that move under existing backups could cost one of them.
*/}}
{{- define "cnpg-backup.schedule" -}}
{{- $root := .root | default . -}}
{{- $cron := .schedule | default $root.Values.schedule -}}
{{- include "cnpg-backup.once" (dict "root" $root "make" "cnpg-backup.makeSchedule" "of" $cron "key" $cron) -}}
{{- end -}}

{{- define "cnpg-backup.makeSchedule" -}}
{{- $fields := include "cnpg-backup.cron" . | splitList " " -}}
{{- $weekdays := list "sun" "mon" "tue" "wed" "thu" "fri" "sat" -}}
{{- $months := list "jan" "feb" "mar" "apr" "may" "jun" "jul" "aug" "sep" "oct" "nov" "dec" -}}
{{- $all := list -}}
{{- range $index, $bounds := list
  (dict "min" 0 "max" 59) (dict "min" 0 "max" 23) (dict "min" 1 "max" 31)
  (dict "min" 1 "max" 12 "names" $months) (dict "min" 0 "max" 6 "names" $weekdays) -}}
  {{- $values := include "cnpg-backup.cronField" (set $bounds "field" (index $fields $index)) | fromJsonArray -}}
  {{- $ints := list -}}
  {{- range $values -}}
    {{- $ints = append $ints (int .) -}}
  {{- end -}}
  {{- $all = append $all $ints -}}
{{- end -}}
{{- $possible := true -}}
{{- range $all -}}
  {{- $possible = and $possible . (ge (first .) 0) | empty | not -}}
{{- end -}}
{{- $interval := 1440 -}}
{{- $first := -1 -}}
{{- $last := -1 -}}
{{- if $possible -}}
  {{- range $hour := index $all 1 -}}
    {{- range $minute := index $all 0 -}}
      {{- $now := int (add (mul 60 $hour) $minute) -}}
      {{- if eq $first -1 -}}
        {{- $first = $now -}}
      {{- else -}}
        {{- $interval = min $interval (sub $now $last) -}}
      {{- end -}}
      {{- $last = $now -}}
    {{- end -}}
  {{- end -}}
{{- end -}}
{{- $gap := int64 $interval -}}
{{- $days := dict "days" (index $all 2) "week" (index $all 4) "dayField" (index $fields 2) "weekField" (index $fields 4) -}}
{{- if ne $first $last -}}
  {{- $interval = min $interval (sub (add 1440 $first) $last) -}}
  {{- $gap = $interval -}}
{{- else if $possible -}}
  {{- $gap = include "cnpg-backup.dayGap" $days | int64 | mul 1440 -}}
{{- end -}}
{{- $longest := 1 -}}
{{- if $possible -}}
  {{- $longest = dict "fields" $fields "days" (index $all 2) "months" (index $all 3) "week" (index $all 4)
      | toJson | fromJson | include "cnpg-backup.longestDayGap" | int64 -}}
{{- end -}}
{{- $minutePhase := sub (mod $first 60) 15 -}}
{{- $phase := $minutePhase -}}
{{- if gt $interval 120 -}}
  {{- $phase = add (sub $first 15) (div $interval 2) -}}
{{- end -}}
{{- toJson (dict
  "interval" (mul 60 $interval)
  "gap" (mul 60 $gap)
  "longest" (mul 86400 $longest)
  "runs" (mul (len (index $all 0)) (len (index $all 1)))
  "minutePhase" (mul 60 (ternary $minutePhase -15 $possible))
  "phase" (mul 60 (ternary $phase -15 $possible))
  "possible" $possible) -}}
{{- end -}}

{{/*
Deadlines in seconds, as JSON, innermost first: dump.sh's own, the pod's, the Job's. The pod's comes before the Job's, since a Job
that runs out of time deletes its pod, and the log with it. The caller gives what cnpg-backup.schedule needs.
*/}}
{{- define "cnpg-backup.deadlines" -}}
{{- $values := (.root | default .).Values -}}
{{- $job := $values.activeDeadlineSeconds -}}
{{- if kindIs "string" $job -}}
  {{- $interval := (include "cnpg-backup.schedule" . | fromJson).interval | int64 -}}
  {{- $job = max 240 (sub $interval 300) -}}
{{- end -}}
{{- $pod := sub (int64 $job) 60 -}}
{{- $dump := $values.dump.timeoutSeconds -}}
{{- if kindIs "string" $dump -}}
  {{- $dump = div (mul $pod 3) 4 -}}
{{- end -}}
{{- toJson (dict "job" (int64 $job) "pod" $pod "dump" (int64 $dump)) -}}
{{- end -}}
