{{- /*
shoppe.toy.toy: the name of the service's objects.  Input: the root context.
*/ -}}
{{- define "shoppe.toy.toy" -}}{{ include "shoppe.lib.fullname" (dict "root" . "suffix" "toy") }}{{- end -}}
