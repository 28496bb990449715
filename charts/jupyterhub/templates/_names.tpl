{{- /*
Names of this component's objects.  Input: the root context.
*/ -}}
{{- define "shoppe.jupyterhub.hub" -}}{{ include "shoppe.lib.fullname" (dict "root" . "suffix" "hub") }}{{- end -}}
{{- define "shoppe.jupyterhub.proxy" -}}{{ include "shoppe.lib.fullname" (dict "root" . "suffix" "proxy") }}{{- end -}}
{{- define "shoppe.jupyterhub.proxyApi" -}}{{ include "shoppe.lib.fullname" (dict "root" . "suffix" "proxy-api") }}{{- end -}}
{{- define "shoppe.jupyterhub.proxyPublic" -}}{{ include "shoppe.lib.fullname" (dict "root" . "suffix" "proxy-public") }}{{- end -}}
{{- define "shoppe.jupyterhub.secret" -}}
{{ tpl .Values.hub.existingSecret . | default (include "shoppe.jupyterhub.hub" .) }}
{{- end -}}
