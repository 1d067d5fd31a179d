{{/* From when on a backup is too old, by the schedule of its CronJob. */}}

{{/*
The most days between two days on which a schedule is due, given `fields`, and `days`, `months` and `week` as lists of numbers. It is never
too low. A day matches if either the day of the month or the weekday does, where both are restricted.
*/}}
{{- define "cnpg-backup.longestDayGap" -}}
{{- $every := "(^|,)[*?](/1)?(,|$)" -}}
{{- $anyDay := regexMatch $every (index .fields 2) -}}
{{- $anyWeekday := regexMatch $every (index .fields 4) -}}
{{- $byDay := 99999 -}}
{{- $byWeekday := 99999 -}}
{{- if and $anyDay $anyWeekday (eq (len .months) 12) -}}
  {{- $byDay = 1 -}}
{{- else if or $anyWeekday (not $anyDay) -}}
  {{- $byDay = 0 -}}
  {{- $last := -1 -}}
  {{- $passed := 0 -}}
  {{- /* Two leap cycles, so that the gap over the end of one is in them. */ -}}
  {{- range $month := until 96 -}}
    {{- $number := int (add1 (mod $month 12)) -}}
    {{- $length := index (list 31 28 31 30 31 30 31 31 30 31 30 31) (sub $number 1 | int) -}}
    {{- if and (eq $number 2) (eq (mod (div $month 12) 4) 0) -}}
      {{- $length = 29 -}}
    {{- end -}}
    {{- if has (float64 $number) $.months -}}
      {{- range $.days -}}
        {{- if le (int .) (int $length) -}}
          {{- $now := add $passed . | int -}}
          {{- if ge $last 0 -}}
            {{- $byDay = max $byDay (sub $now $last) -}}
          {{- end -}}
          {{- $last = $now -}}
        {{- end -}}
      {{- end -}}
    {{- end -}}
    {{- $passed = add $passed $length | int -}}
  {{- end -}}
  {{- $byDay = ternary $byDay 99999 (gt (int $byDay) 0) -}}
{{- end -}}
{{- if not $anyWeekday -}}
  {{- $byWeekday = sub (add 7 (first .week)) (last .week) -}}
  {{- range $index, $day := rest .week -}}
    {{- $byWeekday = max $byWeekday (sub $day (index $.week $index)) -}}
  {{- end -}}
  {{- if lt (len .months) 12 -}}
    {{- /* The months between two of its months, and a week of each. */ -}}
    {{- $monthGap := sub (add 12 (first .months)) (last .months) -}}
    {{- range $index, $month := rest .months -}}
      {{- $monthGap = max $monthGap (sub $month (index $.months $index)) -}}
    {{- end -}}
    {{- $byWeekday = add (mul 31 (sub $monthGap 1)) (mul 2 $byWeekday) -}}
  {{- end -}}
{{- end -}}
{{- /* Nobody can wait longer than 400 days to be alarmed. */ -}}
{{- min 400 $byDay $byWeekday -}}
{{- end -}}

{{/* The most seconds between two due times of a schedule, given `root` and `schedule`: never too few. */}}
{{- define "cnpg-backup.longestWait" -}}
{{- $fields := include "cnpg-backup.cron" .schedule | splitList " " -}}
{{- $weekdays := list "sun" "mon" "tue" "wed" "thu" "fri" "sat" -}}
{{- $months := list "jan" "feb" "mar" "apr" "may" "jun" "jul" "aug" "sep" "oct" "nov" "dec" -}}
{{- $all := list -}}
{{- range $index, $bounds := list
  (dict "min" 0 "max" 59) (dict "min" 0 "max" 23) (dict "min" 1 "max" 31)
  (dict "min" 1 "max" 12 "names" $months) (dict "min" 0 "max" 6 "names" $weekdays) -}}
  {{- $all = append $all (include "cnpg-backup.cronField" (set $bounds "field" (index $fields $index)) | fromJsonArray) -}}
{{- end -}}
{{- $days := include "cnpg-backup.longestDayGap" (dict
  "fields" $fields "days" (index $all 2) "months" (index $all 3) "week" (index $all 4)) | int -}}
{{- $minutes := index $all 0 -}}
{{- $hours := index $all 1 -}}
{{- $first := add (mul 60 (first $hours)) (first $minutes) -}}
{{- $last := add (mul 60 (last $hours)) (last $minutes) -}}
{{- $gap := sub (add (mul 1440 $days) $first) $last -}}
{{- /* Within a day: from one minute of an hour to the next, or from the last of one hour to the first of the next. */ -}}
{{- range $index, $minute := rest $minutes -}}
  {{- $gap = max $gap (sub $minute (index $minutes $index)) -}}
{{- end -}}
{{- range $index, $hour := rest $hours -}}
  {{- $gap = max $gap (sub (add (mul 60 (sub $hour (index $hours $index))) (first $minutes)) (last $minutes)) -}}
{{- end -}}
{{- /* Where clocks change, a gap can be an hour longer. */ -}}
{{- mul 60 (add $gap (ternary 0 60 (has .root.Values.timeZone (list "UTC" "Etc/UTC")))) -}}
{{- end -}}

{{/*
What alerts compare with, in seconds, as JSON: `staleAfter`, the age of a newest backup after which two runs have left none, with some
slack; `failingFor`, longer than one failed run and shorter than two; `lookback`, how long a value counts that is no longer exported,
longer than `staleAfter`. The caller gives `root` and `schedule`, and `staleAfter` if values have one.
*/}}
{{- define "cnpg-backup.thresholds" -}}
{{- $gap := include "cnpg-backup.longestWait" . | int64 -}}
{{- $late := int64 .root.Values.startingDeadlineSeconds -}}
{{- $stale := add (div (add (mul 5 $gap) 1) 2) $late -}}
{{- $given := .staleAfter | default .root.Values.monitoring.staleAfter -}}
{{- if not (kindIs "string" $given) -}}
  {{- $stale = int64 $given -}}
{{- end -}}
{{- toJson (dict
  "staleAfter" $stale
  "failingFor" (add $gap $late 600)
  "lookback" (max 604800 (add (mul 3 $gap) $late) (add $stale $gap))) -}}
{{- end -}}

{{/*
How many seconds older than the newest backup the newest copy outside may be though nothing failed: the width of the slots of which one
backup each is copied, that of the first tier there; 0 where each run copies the newest backup.
*/}}
{{- define "cnpg-backup.offsiteSlot" -}}
{{- $slot := 0 -}}
{{- if eq .Values.offsite.copy "tiers" -}}
  {{- $retention := include "cnpg-backup.offsiteRetention" . | fromJson -}}
  {{- with $retention.keep -}}
    {{- $widths := dict "last" 1 "hourly" 3600 "daily" 86400 "weekly" 604800 "monthly" 2419200 "yearly" 31449600 -}}
    {{- range $word, $number := . -}}
      {{- if gt (int64 $number) 0 -}}
        {{- $width := get $widths $word -}}
        {{- $slot = ternary $width (min $slot $width) (eq (int64 $slot) 0) -}}
      {{- end -}}
    {{- end -}}
  {{- else -}}
    {{- $slot = include "cnpg-backup.seconds" (first $retention.tiers).every -}}
  {{- end -}}
{{- end -}}
{{- int64 $slot -}}
{{- end -}}

{{/*
From which age, in seconds, the newest copy outside is too old, and how long a value of it counts, as JSON: a copy is as old as the backup
that it is of, so the thresholds of both schedules and the slot add up.
*/}}
{{- define "cnpg-backup.offsiteThresholds" -}}
{{- $its := include "cnpg-backup.thresholds" (dict "root" . "schedule" .Values.offsite.schedule "staleAfter" "auto") | fromJson -}}
{{- $stale := 0 -}}
{{- range include "cnpg-backup.thresholdsBySchedule" . | fromJson -}}
  {{- $stale = max $stale (int64 .staleAfter) -}}
{{- end -}}
{{- $stale = add $stale (int64 $its.staleAfter) (include "cnpg-backup.offsiteSlot" . | int64) -}}
{{- $given := .Values.monitoring.offsiteStaleAfter -}}
{{- if not (kindIs "string" $given) -}}
  {{- $stale = int64 $given -}}
{{- end -}}
{{- toJson (dict "staleAfter" $stale "lookback" (max 604800 (add $stale $stale))) -}}
{{- end -}}

{{/* The same of the schedules of all CronJobs that back up, as JSON: by schedule. */}}
{{- define "cnpg-backup.thresholdsBySchedule" -}}
{{- include "cnpg-backup.once" (dict "root" . "make" "cnpg-backup.makeThresholdsBySchedule") -}}
{{- end -}}

{{- define "cnpg-backup.makeThresholdsBySchedule" -}}
{{- $found := dict -}}
{{- range include "cnpg-backup.cronJobs" . | fromJsonArray -}}
  {{- if not (hasKey $found .schedule) -}}
    {{- $_ := set $found .schedule (include "cnpg-backup.thresholds" (dict "root" $ "schedule" .schedule) | fromJson) -}}
  {{- end -}}
{{- end -}}
{{- toJson $found -}}
{{- end -}}
