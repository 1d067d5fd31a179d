{{/*
What the template `make` gives, worked out once in each rendering, where `include` alone would do so for every reader: Helm remembers
nothing. It is kept in `root`, which is one for all templates of a chart, as text, so that no reader changes what another one gets.
`make` gets `root`, or else `of`; and then `key` tells that from others.
*/}}
{{- define "cnpg-backup.once" -}}
{{- $key := printf "%s %s" .make (.key | default "") -}}
{{- if not (hasKey .root "Once") -}}
  {{- $_ := set .root "Once" dict -}}
{{- end -}}
{{- if not (hasKey .root.Once $key) -}}
  {{- $_ := set .root.Once $key (include .make (.of | default .root)) -}}
{{- end -}}
{{- get .root.Once $key -}}
{{- end -}}
