{{- /*
Names of this component's objects.  Input: the root context.
*/ -}}
{{- define "shoppe.dask-gateway.api" -}}{{ include "shoppe.lib.fullname" (dict "root" . "suffix" "dask-gateway") }}{{- end -}}
{{- define "shoppe.dask-gateway.controller" -}}{{ include "shoppe.lib.fullname" (dict "root" . "suffix" "dask-controller") }}{{- end -}}
{{- define "shoppe.dask-gateway.traefik" -}}{{ include "shoppe.lib.fullname" (dict "root" . "suffix" "dask-traefik") }}{{- end -}}
{{- define "shoppe.dask-gateway.settingsSecret" -}}{{ include "shoppe.lib.fullname" (dict "root" . "suffix" "dask-gateway-settings") }}{{- end -}}
{{- define "shoppe.dask-gateway.secret" -}}{{ include "shoppe.lib.fullname" (dict "root" . "suffix" "dask-gateway") }}{{- end -}}

{{- /*
shoppe.dask-gateway.namespace: the namespace of Traefik and of the Dask clusters.
*/ -}}
{{- define "shoppe.dask-gateway.namespace" -}}
{{ tpl (.Values.gateway.backend.namespace | default "") . | default (include "shoppe.lib.cut" (dict "text" (printf "%s-dask" .Release.Namespace) "most" 63)) }}
{{- end -}}

{{- /*
shoppe.dask-gateway.instance: the label value of this gateway's clusters.
*/ -}}
{{- define "shoppe.dask-gateway.instance" -}}
{{ include "shoppe.lib.cut" (dict "text" (printf "%s-%s" .Release.Namespace .Release.Name) "most" 63) }}
{{- end -}}

{{- /*
shoppe.dask-gateway.userSecrets, .facilityUsers: "true" where the values say so.
Input: the root context.
*/ -}}
{{- define "shoppe.dask-gateway.userSecrets" -}}
{{- include "shoppe.lib.flag" (dict "root" . "value" (.Values.gateway.backend.userSecrets | default "") "key" "dask-gateway.gateway.backend.userSecrets") -}}
{{- end -}}
{{- define "shoppe.dask-gateway.facilityUsers" -}}
{{- include "shoppe.lib.flag" (dict "root" . "value" (.Values.gateway.limits.facilityUsers | default "") "key" "dask-gateway.gateway.limits.facilityUsers") -}}
{{- end -}}
