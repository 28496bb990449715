{{- /*
Names of this component's objects.  Input: the root context.
*/ -}}
{{- define "shoppe.operator.operator" -}}{{ include "shoppe.lib.fullname" (dict "root" . "suffix" "operator") }}{{- end -}}
{{- define "shoppe.operator.api" -}}{{ include "shoppe.lib.fullname" (dict "root" . "suffix" "api") }}{{- end -}}
{{- define "shoppe.operator.keys" -}}{{ include "shoppe.lib.fullname" (dict "root" . "suffix" "identity-keys") }}{{- end -}}
{{- define "shoppe.operator.published" -}}{{ include "shoppe.lib.fullname" (dict "root" . "suffix" "identity") }}{{- end -}}

{{- /*
shoppe.operator.namespaces: where users' pods run, as a YAML list, the release's first.
*/ -}}
{{- define "shoppe.operator.namespaces" -}}
{{- $all := list .Release.Namespace -}}
{{- range .Values.userNamespaces }}{{ $all = append $all (tpl . $) }}{{ end -}}
{{- toYaml (uniq $all) -}}
{{- end -}}
