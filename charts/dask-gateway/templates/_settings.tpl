{{- /*
shoppe.dask-gateway.settings: what dask_gateway_config.py reads, as YAML.
Input: the root context.
*/ -}}
{{- define "shoppe.dask-gateway.settings" -}}
instance: {{ include "shoppe.dask-gateway.instance" . }}
namespace: {{ include "shoppe.dask-gateway.namespace" . }}
apiUrl: http://{{ include "shoppe.dask-gateway.api" . }}.{{ .Release.Namespace }}:8000/api
image: {{ include "shoppe.lib.image" (dict "root" . "image" .Values.gateway.backend.image "key" "dask-gateway.gateway.backend.image") }}
labels:
  {{- include "shoppe.lib.podLabels" (dict "root" . "component" "dask") | nindent 2 }}
imagePullSecrets:
  {{- toYaml .Values.global.imagePullSecrets | nindent 2 }}
podSecurityContext:
  {{- include "shoppe.lib.podSecurityContext" . | nindent 2 }}
containerSecurityContext:
  {{- include "shoppe.lib.containerSecurityContext" . | nindent 2 }}
facilityUsers: {{ ternary .Release.Namespace "" (eq (include "shoppe.dask-gateway.facilityUsers" .) "true") | quote }}
gateway:
  {{- tpl (toYaml (omit .Values.gateway "image" "resources" "networkPolicy" "limits" "backend")) . | nindent 2 }}
  limits:
    {{- toYaml (omit .Values.gateway.limits "facilityUsers") | nindent 4 }}
  backend:
    {{- tpl (toYaml (omit .Values.gateway.backend "environment" "userSecrets")) . | nindent 4 }}
    userSecrets: {{ include "shoppe.dask-gateway.userSecrets" . | default "false" }}
    environment:
      {{- include "shoppe.lib.environment" (dict "root" . "own" .Values.gateway.backend.environment) | nindent 6 }}
controller:
  {{- toYaml (omit .Values.controller "resources") | nindent 2 }}
{{- end -}}
