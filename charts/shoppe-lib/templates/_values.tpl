{{- /*
Values that may be templates, so that an umbrella chart can fill
them with what is known of the others.
*/ -}}

{{- /*
shoppe.lib.kept: "true" unless the text is a template that yields nothing; entries with such a
value are omitted.  Input: dict root, text.
*/ -}}
{{- define "shoppe.lib.kept" -}}
{{- if not (contains "{{" .text) }}true{{ else if tpl .text .root }}true{{ end -}}
{{- end -}}

{{- /*
shoppe.lib.flag: "true" or nothing, for a value that is true, false, or a template of one.
Input: dict root, value, key (of the value).
*/ -}}
{{- define "shoppe.lib.flag" -}}
{{- $text := tpl (toString .value) .root -}}
{{- if eq $text "true" -}}
true
{{- else if not (has $text (list "false" "")) -}}
{{- fail (printf "%s is %q: set it to true or false" .key $text) -}}
{{- end -}}
{{- end -}}

{{- /*
shoppe.lib.list: a list, as YAML, for a value that is one, of texts or templates, or a
template of the whole list.  Input: dict root, value.
*/ -}}
{{- define "shoppe.lib.list" -}}
{{- $entries := list -}}
{{- $value := .value | default list -}}
{{- if kindIs "string" $value }}{{ $value = tpl $value .root | fromYamlArray }}{{ end -}}
{{- range $value }}{{ $entries = append $entries (tpl . $.root) }}{{ end -}}
{{- toYaml $entries -}}
{{- end -}}

{{- /*
shoppe.lib.texts: NAME: TEXT, as YAML, for a value that is such a map, of texts or templates,
or a template of the whole map.  An empty text is left out.  Input: dict root, value.
*/ -}}
{{- define "shoppe.lib.texts" -}}
{{- $texts := dict -}}
{{- $value := .value | default dict -}}
{{- if kindIs "string" $value }}{{ $value = tpl $value .root | fromYaml }}{{ end -}}
{{- range $name, $text := $value -}}
{{- with tpl ($text | default "" | toString) $.root }}{{ $_ := set $texts $name . }}{{ end -}}
{{- end -}}
{{- toYaml $texts -}}
{{- end -}}

{{- /*
shoppe.lib.environment: NAME: VALUE, as YAML, of everything that runs users' code: global.environment,
overridden by the component's.  A variable whose template yields nothing is
omitted.  Input: dict root, own (a map).
*/ -}}
{{- define "shoppe.lib.environment" -}}
{{- $environment := dict -}}
{{- range $name, $value := merge (dict) (.own | default dict) ((.root.Values.global).environment | default dict) -}}
{{- if include "shoppe.lib.kept" (dict "root" $.root "text" $value) -}}
{{- $_ := set $environment $name (tpl $value $.root) -}}
{{- end -}}
{{- end -}}
{{- toYaml $environment -}}
{{- end -}}

{{- /*
shoppe.lib.fillMaps: puts an empty map wherever the values have none: Helm removes a key that is
null, and templates read below it.  Input: dict values, maps (the keys that are maps, nested).
*/ -}}
{{- define "shoppe.lib.fillMaps" -}}
{{- range $key, $inner := .maps -}}
{{- if not (hasKey $.values $key) }}{{ $_ := set $.values $key dict }}{{ end -}}
{{- $below := get $.values $key -}}
{{- if kindIs "map" $below }}{{ include "shoppe.lib.fillMaps" (dict "values" $below "maps" ($inner | default dict)) }}{{ end -}}
{{- end -}}
{{- end -}}

{{- /*
shoppe.lib.refused: the keys of an upstream chart that the values set and that are refused, one
problem a line.  Input: dict root, table (the text of the chart's upstream.yaml), chart.
*/ -}}
{{- define "shoppe.lib.refused" -}}
{{- $table := fromYaml .table -}}
{{- if $table.Error }}{{ fail (printf "upstream.yaml of %s is no YAML: %s" .chart $table.Error) }}{{ end -}}
{{- range $path, $entry := $table.refused -}}
{{- $value := $.root.Values -}}
{{- range splitList "." $path -}}
{{- if kindIs "map" $value }}{{ $value = get $value . }}{{ else }}{{ $value = "" }}{{ end -}}
{{- end -}}
{{- $harmless := empty $value -}}
{{- range $entry.unless }}{{ if eq (toJson .) (toJson $value) }}{{ $harmless = true }}{{ end }}{{ end -}}
{{- if and $entry.unlessFalse (kindIs "map" $value) }}{{ if eq (toString (get $value $entry.unlessFalse)) "false" }}{{ $harmless = true }}{{ end }}{{ end -}}
{{- if not $harmless }}
{{ printf "%s.%s is set, but %s: %s" $.chart $path $entry.reason $entry.remedy }}
{{- end -}}
{{- end -}}
{{- end -}}
