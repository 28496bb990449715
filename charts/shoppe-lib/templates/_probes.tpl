{{- /*
shoppe.lib.probe: a probe, as YAML, or nothing where values switch it off.  Input: dict default
(the chart's, as YAML), keys (the values' probe; may be nothing).
*/ -}}
{{- define "shoppe.lib.probe" -}}
{{- $keys := .keys | default dict -}}
{{- if ne (toString $keys.enabled) "false" -}}
{{- include "shoppe.lib.overridden" (dict "own" (fromYaml .default) "keys" (omit $keys "enabled")) -}}
{{- end -}}
{{- end -}}
