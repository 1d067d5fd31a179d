{{/*
The address of a page below the repository's folder `docs`, as it was at this version: `page` of the release `root`. Who reads it has
only the package, which has no pages.
*/}}
{{- define "cnpg-backup.page" -}}
{{- $base := .root.Values.documentationUrl | default (printf "%s/blob/v%s/docs" .root.Chart.Home .root.Chart.Version) -}}
{{- printf "%s/%s" (trimSuffix "/" $base) .page -}}
{{- end -}}
