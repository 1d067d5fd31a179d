{{/* Which tiers keep the backups of a database. The Python package turns the words of `keep` into tiers. */}}

{{/*
The words, finest first, as a JSON list; each with the seconds between two runs from which it is too fine for a schedule, since the
next word, or `last`, says the same; 0 for never. A month is 28 days.
*/}}
{{- define "cnpg-backup.words" -}}
{{- toJson (list
  (list "last" 0) (list "hourly" 3601) (list "daily" 604800) (list "weekly" 2419200) (list "monthly" 0) (list "yearly" 0)) -}}
{{- end -}}

{{/* Whether a word of that list is too fine for the seconds between two runs; empty if not. */}}
{{- define "cnpg-backup.tooFine" -}}
{{- $from := last .word | int64 -}}
{{- if and (gt $from 0) (ge (int64 .gap) $from) -}}
  {{- print "yes" -}}
{{- end -}}
{{- end -}}

{{/*
What to keep, as JSON with either `tiers` or `keep`: that of `retention` where it has one, or else of the release. Where that is `auto`
it follows from `schedule`, what cnpg-backup.schedule knows of it.
*/}}
{{- define "cnpg-backup.tiers" -}}
{{- $source := .root.Values.retention -}}
{{- with .retention -}}
  {{- if or .tiers .keep -}}
    {{- $source = . -}}
  {{- end -}}
{{- end -}}
{{- $keep := dict -}}
{{- range $word, $number := $source.keep -}}
  {{- if gt (int64 $number) 0 -}}
    {{- $_ := set $keep $word (int64 $number) -}}
  {{- end -}}
{{- end -}}
{{- if $keep -}}
  {{- toJson (dict "keep" $keep) -}}
{{- else if kindIs "slice" $source.tiers -}}
  {{- toJson (pick $source "tiers") -}}
{{- else -}}
  {{- include "cnpg-backup.automaticTiers" .schedule -}}
{{- end -}}
{{- end -}}

{{/* The tiers that fit a schedule: the default ones up to two hours between two runs, or else a day of runs, 7, 4 and 6. */}}
{{- define "cnpg-backup.automaticTiers" -}}
{{- $gap := int64 .gap -}}
{{- if le $gap 7200 -}}
  {{- toJson (dict "tiers" (list
    (dict "name" "Hourly" "every" "2h" "keep" 6 "until" "12h")
    (dict "name" "12-Hourly" "every" "12h" "keep" 4 "until" "48h")
    (dict "name" "Daily" "every" "24h" "keep" 5))) -}}
{{- else -}}
  {{- toJson (dict "keep" (include "cnpg-backup.fittingWords" (dict "schedule" . "keep" dict) | fromJson)) -}}
{{- end -}}
{{- end -}}

{{/* Those words of `keep` that `schedule` can fill, or else 7 daily, 4 weekly, 6 monthly, and the runs of a day, as JSON. */}}
{{- define "cnpg-backup.fittingWords" -}}
{{- $gap := int64 .schedule.gap -}}
{{- $fitting := dict -}}
{{- range $keep := list .keep (dict "daily" 7 "weekly" 4 "monthly" 6) -}}
  {{- if not $fitting -}}
    {{- range include "cnpg-backup.words" $ | fromJsonArray -}}
      {{- $number := get $keep (first .) | int64 -}}
      {{- if and (gt $number 0) (not (include "cnpg-backup.tooFine" (dict "word" . "gap" $gap))) -}}
        {{- $_ := set $fitting (first .) $number -}}
      {{- end -}}
    {{- end -}}
  {{- end -}}
{{- end -}}
{{- if and (lt $gap 86400) (not (hasKey $fitting "last")) (not (hasKey $fitting "hourly")) -}}
  {{- $_ := set $fitting "last" (int64 .schedule.runs) -}}
{{- end -}}
{{- toJson $fitting -}}
{{- end -}}

{{/* What is kept as a list such as `7 Daily`, finest first, as JSON. */}}
{{- define "cnpg-backup.tierList" -}}
{{- $list := list -}}
{{- range .tiers -}}
  {{- $list = append $list (printf "%d %s" (int64 .keep) .name) -}}
{{- end -}}
{{- range include "cnpg-backup.words" . | fromJsonArray -}}
  {{- $word := first . -}}
  {{- with get ($.keep | default dict) $word -}}
    {{- $list = append $list (printf "%d %s" (int64 .) $word) -}}
  {{- end -}}
{{- end -}}
{{- toJson $list -}}
{{- end -}}

{{/* How many backups are kept at most. */}}
{{- define "cnpg-backup.mostBackups" -}}
{{- $most := 0 -}}
{{- range .tiers -}}
  {{- $most = add $most (int64 .keep) -}}
{{- end -}}
{{- range .keep -}}
  {{- $most = add $most (int64 .) -}}
{{- end -}}
{{- $most -}}
{{- end -}}

{{/*
The retention policy as JSON: that of `database`, or of the release. `schedule` is what cnpg-backup.schedule knows of its schedule.
*/}}
{{- define "cnpg-backup.retentionPolicy" -}}
{{- $own := (.database | default dict).retention | default dict -}}
{{- $policy := include "cnpg-backup.tiers" (dict "root" .root "retention" $own "schedule" .schedule) | fromJson -}}
{{- $phase := ternary $own.phase .root.Values.retention.phase (hasKey $own "phase") -}}
{{- $automatic := ternary .schedule.minutePhase .schedule.phase (hasKey $policy "tiers") -}}
{{- $_ := set $policy "phase" (ternary $automatic $phase (kindIs "string" $phase) | int64) -}}
{{- toPrettyJson $policy }}
{{ end -}}

{{/* A duration such as 90m in seconds. */}}
{{- define "cnpg-backup.seconds" -}}
{{- $units := dict "s" 1 "m" 60 "h" 3600 "d" 86400 "w" 604800 -}}
{{- mul (regexFind "^[0-9]+" . | int64) (get $units (regexFind "[smhdw]$" .)) -}}
{{- end -}}

{{/* Seconds as a duration, in the largest whole unit. */}}
{{- define "cnpg-backup.duration" -}}
{{- $text := printf "%ds" (int64 .) -}}
{{- range list (list "m" 60) (list "h" 3600) (list "d" 86400) -}}
  {{- if not (mod (int64 $) (last .)) -}}
    {{- $text = printf "%d%s" (div (int64 $) (last .)) (first .) -}}
  {{- end -}}
{{- end -}}
{{- $text -}}
{{- end -}}

{{/* Words as values are written: {daily: 7, weekly: 4}. */}}
{{- define "cnpg-backup.wordsAsValue" -}}
{{- $parts := list -}}
{{- range include "cnpg-backup.words" . | fromJsonArray -}}
  {{- $word := first . -}}
  {{- with get $ $word -}}
    {{- $parts = append $parts (printf "%s: %d" $word (int64 .)) -}}
  {{- end -}}
{{- end -}}
{{- printf "keep: {%s}" (join ", " $parts) -}}
{{- end -}}

{{/*
What is wrong with `retention`, that of the release or of one database, found at `where`, for a `schedule` that is written as `cron`.
The rules are those of the Python package, which would refuse the policy only in the pod, too late.
*/}}
{{- define "cnpg-backup.retentionErrors" -}}
{{- $errors := list -}}
{{- $keep := .retention.keep | default dict -}}
{{- $total := include "cnpg-backup.mostBackups" (dict "keep" $keep) | int64 -}}
{{- if and $keep (kindIs "slice" .retention.tiers) -}}
  {{- $errors = append $errors (printf "%s: keep and tiers exclude each other; remove one of them" .where) -}}
{{- else if and $keep (eq $total 0) -}}
  {{- $errors = append $errors (printf
    "%s.keep: every number is 0, so that nothing would be kept; set one above 0, or remove keep" .where) -}}
{{- else if kindIs "slice" .retention.tiers -}}
  {{- $errors = include "cnpg-backup.tierErrors" (set . "tiers" .retention.tiers) | fromJsonArray -}}
{{- else if .schedule.possible -}}
  {{- range include "cnpg-backup.words" . | fromJsonArray -}}
    {{- $word := first . -}}
    {{- if and (get $keep $word | int64) (include "cnpg-backup.tooFine" (dict "word" . "gap" $.schedule.gap)) -}}
      {{- $errors = append $errors (printf
        "%s.keep.%s: schedule %q starts a run every %s at most; run more often, or write %s"
        $.where $word $.cron (include "cnpg-backup.duration" $.schedule.gap) (include "cnpg-backup.fit" $)) -}}
    {{- end -}}
  {{- end -}}
{{- end -}}
{{- toJson $errors -}}
{{- end -}}

{{/* What would fit the schedule, as values are written. */}}
{{- define "cnpg-backup.fit" -}}
{{- $fitting := include "cnpg-backup.fittingWords" (dict "schedule" .schedule "keep" (.retention.keep | default dict)) -}}
{{- include "cnpg-backup.wordsAsValue" ($fitting | fromJson) -}}
{{- end -}}

{{/* What is wrong with a list of tiers, beside what cnpg-backup.retentionErrors needs. */}}
{{- define "cnpg-backup.tierErrors" -}}
{{- $errors := list -}}
{{- $names := dict -}}
{{- $finer := 0 -}}
{{- $begin := 0 -}}
{{- range $index, $tier := .tiers -}}
  {{- $where := printf "%s.tiers[%d] (%s)" $.where $index $tier.name -}}
  {{- $every := include "cnpg-backup.seconds" $tier.every | int64 -}}
  {{- $final := eq $index (sub (len $.tiers) 1 | int) -}}
  {{- if has $tier.name (list "newest" "oldest" "pinned" "future") -}}
    {{- $errors = append $errors (printf
      "%s: this name is reserved for backups outside the tiers; choose another name" $where) -}}
  {{- end -}}
  {{- if hasKey $names $tier.name -}}
    {{- $errors = append $errors (printf "%s: the name is used twice; give each tier a name of its own" $where) -}}
  {{- end -}}
  {{- $_ := set $names $tier.name true -}}
  {{- if eq $every 0 -}}
    {{- $errors = append $errors (printf "%s: every is 0; set it to the time between two backups" $where) -}}
  {{- /* A tier without an end keeps its number of backups whatever their distance, and so can be finer than the schedule. */ -}}
  {{- else if and (eq $index 0) (not $final) (lt $every (int64 $.schedule.interval)) $.schedule.possible -}}
    {{- $errors = append $errors (printf
      (cat
        "%s: every %s is less than the %d seconds between two runs of the schedule, so the tier can never be full;"
        "run more often, set a longer every, or replace tiers by %s")
      $where $tier.every (int64 $.schedule.interval) (include "cnpg-backup.fit" $)) -}}
  {{- else if and $finer (mod $every $finer) -}}
    {{- $errors = append $errors (printf
      "%s: every %s is not a multiple of %s, the every of the tier before; write %s, or list the tiers from fine to coarse"
      $where $tier.every (index $.tiers (sub $index 1 | int)).every
      (max $finer (sub $every (mod $every $finer)) | include "cnpg-backup.duration")) -}}
  {{- else if and $final (hasKey $tier "until") -}}
    {{- $errors = append $errors (printf
      "%s: the last tier has an until; remove it, since the last tier ends only by keep" $where) -}}
  {{- else if and (not $final) (not (hasKey $tier "until")) -}}
    {{- $errors = append $errors (printf
      "%s: until is missing; set it to the age at which the next tier begins" $where) -}}
  {{- else if not $final -}}
    {{- $until := include "cnpg-backup.seconds" $tier.until | int64 -}}
    {{- $span := div (sub $until $begin) $every -}}
    {{- if or (lt $span 1) (mod (sub $until $begin) $every) -}}
      {{- $errors = append $errors (printf
        "%s: until %s must be one or more times %s after the end of the tier before; change until or every"
        $where $tier.until $tier.every) -}}
    {{- else if and (eq $index 0) (gt (int64 $tier.keep) $span) -}}
      {{- $errors = append $errors (printf
        "%s: keep is %d, but until %s there are only %d slots of %s; lower keep, or set a later until"
        $where (int64 $tier.keep) $tier.until $span $tier.every) -}}
    {{- end -}}
    {{- $begin = $until -}}
  {{- end -}}
  {{- $finer = $every -}}
{{- end -}}
{{- toJson $errors -}}
{{- end -}}
