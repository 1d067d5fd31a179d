{{/* One field of a cron expression as a JSON object whose keys are its values, zero-padded to sort. */}}
{{- define "cnpg-backup.cronField" -}}
{{- $values := dict -}}
{{- range splitList "," .field -}}
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
    {{- $_ := set $values (printf "%04d" .) true -}}
  {{- end -}}
{{- end -}}
{{- toJson $values -}}
{{- end -}}

{{/*
What is known of the schedule without a calendar, as JSON: `minute`, the first minute of the hour at which it fires; `interval`, a
lower bound of the seconds between two runs (as if it fired on every day); and whether its minutes and hours are `possible`.
*/}}
{{- define "cnpg-backup.schedule" -}}
{{- $fields := regexSplit "\\s+" (trim .Values.schedule) -1 -}}
{{- if eq .Values.schedule "@hourly" -}}
  {{- $fields = list "0" "*" -}}
{{- else if hasPrefix "@" .Values.schedule -}}
  {{- $fields = list "0" "0" -}}
{{- end -}}
{{- $minutes := include "cnpg-backup.cronField" (dict "field" (index $fields 0) "min" 0 "max" 59) | fromJson | keys | sortAlpha -}}
{{- $hours := include "cnpg-backup.cronField" (dict "field" (index $fields 1) "min" 0 "max" 23) | fromJson | keys | sortAlpha -}}
{{- $inHour := lt (last $minutes | default "60" | atoi) 60 -}}
{{- $inDay := lt (last $hours | default "24" | atoi) 24 -}}
{{- $possible := and $minutes $hours $inHour $inDay | empty | not -}}
{{- $interval := 1440 -}}
{{- $first := -1 -}}
{{- $last := -1 -}}
{{- range $hour := $hours -}}
  {{- range $minute := $minutes -}}
    {{- $now := int (add (mul 60 (atoi $hour)) (atoi $minute)) -}}
    {{- if eq $first -1 -}}
      {{- $first = $now -}}
    {{- else -}}
      {{- $interval = min $interval (sub $now $last) -}}
    {{- end -}}
    {{- $last = $now -}}
  {{- end -}}
{{- end -}}
{{- if ne $first $last -}}
  {{- $interval = min $interval (sub (add 1440 $first) $last) -}}
{{- end -}}
{{- $minute := first $minutes | default "0" | atoi -}}
{{- toJson (dict "minute" (ternary 0 $minute (empty $minutes)) "interval" (mul 60 $interval) "possible" $possible) -}}
{{- end -}}

{{/*
Deadlines in seconds, as JSON, innermost first: dump.sh's own, the pod's, the Job's. The pod's comes before the Job's, since a Job
that runs out of time deletes its pod, and the log with it.
*/}}
{{- define "cnpg-backup.deadlines" -}}
{{- $job := .Values.activeDeadlineSeconds -}}
{{- if kindIs "string" $job -}}
  {{- $interval := (include "cnpg-backup.schedule" . | fromJson).interval | int64 -}}
  {{- $job = max 240 (sub $interval 300) -}}
{{- end -}}
{{- $pod := sub (int64 $job) 60 -}}
{{- $dump := .Values.dump.timeoutSeconds -}}
{{- if kindIs "string" $dump -}}
  {{- $dump = div (mul $pod 3) 4 -}}
{{- end -}}
{{- toJson (dict "job" (int64 $job) "pod" $pod "dump" (int64 $dump)) -}}
{{- end -}}
