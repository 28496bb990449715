{{- /*
Names of this component's objects.  Input: the root context.
*/ -}}
{{- define "shoppe.dask-gateway.api" -}}{{ include "shoppe.lib.fullname" (dict "root" . "suffix" "dask-gateway") }}{{- end -}}
{{- define "shoppe.dask-gateway.controller" -}}{{ include "shoppe.lib.fullname" (dict "root" . "suffix" "dask-controller") }}{{- end -}}
{{- define "shoppe.dask-gateway.traefik" -}}{{ include "shoppe.lib.fullname" (dict "root" . "suffix" "dask-traefik") }}{{- end -}}
{{- define "shoppe.dask-gateway.secret" -}}{{ include "shoppe.lib.fullname" (dict "root" . "suffix" "dask-gateway") }}{{- end -}}

{{- /*
shoppe.dask-gateway.namespace: where Traefik and the Dask clusters live.
*/ -}}
{{- define "shoppe.dask-gateway.namespace" -}}
{{ tpl .Values.gateway.backend.namespace . | default (printf "%s-dask" .Release.Namespace) }}
{{- end -}}

{{- /*
shoppe.dask-gateway.instance: tells this gateway's clusters from another's.
*/ -}}
{{- define "shoppe.dask-gateway.instance" -}}
{{ printf "%s-%s" .Release.Namespace .Release.Name | trunc 63 | trimSuffix "-" }}
{{- end -}}
