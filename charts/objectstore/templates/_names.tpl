{{- /*
Names of this component's objects.  Input: the root context.
*/ -}}
{{- define "shoppe.objectstore.objectstore" -}}{{ include "shoppe.lib.fullname" (dict "root" . "suffix" "objectstore") }}{{- end -}}
{{- define "shoppe.objectstore.secret" -}}{{ tpl (.Values.existingSecret | default "") . | default (include "shoppe.objectstore.objectstore" .) }}{{- end -}}
