{{- /*
shoppe.dask-gateway.settings: what dask_gateway_config.py reads, as YAML: the values, what follows
from them, and names of objects.  Input: the root context.
*/ -}}
{{- define "shoppe.dask-gateway.settings" -}}
{{- $hub := .Values.gateway.auth.jupyterhub -}}
instance: {{ include "shoppe.dask-gateway.instance" . }}
namespace: {{ include "shoppe.dask-gateway.namespace" . | quote }}
apiUrl: http://{{ include "shoppe.dask-gateway.api" . }}.{{ .Release.Namespace }}:8000/api
hubUrl: {{ tpl ($hub.apiUrl | default "") . | quote }}
hubService: {{ $hub.jupyterhubServiceName | default (tpl ($hub.serviceName | default "") .) | quote }}
prefix: {{ include "shoppe.dask-gateway.prefix" . | quote }}
tcpEntrypoint: {{ include "shoppe.dask-gateway.tcpEntrypoint" . }}
image: {{ include "shoppe.lib.image" (dict "root" . "image" .Values.gateway.backend.image "key" "dask-gateway.gateway.backend.image") | quote }}
notebookImage: {{ if .Values.gateway.options.notebookImage.name }}{{ include "shoppe.lib.image" (dict "root" . "image" .Values.gateway.options.notebookImage "key" "dask-gateway.gateway.options.notebookImage") | quote }}{{ else }}""{{ end }}
labels:
  {{- include "shoppe.lib.podLabels" (dict "root" . "component" "dask") | nindent 2 }}
imagePullSecrets:
  {{- include "shoppe.lib.pullSecrets" (dict "root" . "images" (dict "dask" (include "shoppe.dask-gateway.image" .Values.gateway.backend | fromYaml))) | nindent 2 }}
podSecurityContext:
  {{- include "shoppe.lib.podSecurityContext" . | nindent 2 }}
containerSecurityContext:
  {{- include "shoppe.lib.containerSecurityContext" . | nindent 2 }}
facilityUsers: {{ ternary .Release.Namespace "" (eq (include "shoppe.dask-gateway.facilityUsers" .) "true") | quote }}
userSecrets: {{ include "shoppe.dask-gateway.userSecrets" . | default "false" }}
environment:
  {{- include "shoppe.lib.environment" (dict "root" . "own" dict) | nindent 2 }}
{{- /* JSON, because YAML writes large numbers as 1e+06. */}}
values: {{ pick .Values "gateway" "controller" | toJson }}
{{- end -}}

{{- /*
shoppe.dask-gateway.prefix: the path of the gateway's URL without a slash at its end; nothing for the
root.  Input: the root context.
*/ -}}
{{- define "shoppe.dask-gateway.prefix" -}}
{{- with .Values.gateway.prefix | default "" | trimAll "/" }}/{{ . }}{{ end -}}
{{- end -}}

{{- /*
shoppe.dask-gateway.tcpEntrypoint: Traefik's entry point for connections to schedulers.  Input: the
root context.
*/ -}}
{{- define "shoppe.dask-gateway.tcpEntrypoint" -}}
{{- if has (toString (.Values.traefik.service.ports.tcp.port | default "web")) (list "web" "") }}web{{ else }}tcp{{ end -}}
{{- end -}}
