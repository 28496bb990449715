{{- /*
shoppe.operator.settings: what operator and API read, as YAML (`models.Settings`).
Input: the root context.
*/ -}}
{{- define "shoppe.operator.settings" -}}
issuer: {{ .Values.issuer | default (printf "coffea-shoppe:%s:%s" .Release.Namespace .Release.Name) | quote }}
tokenLifetime: {{ .Values.tokens.lifetimeSeconds }}
namespace: {{ .Release.Namespace }}
userNamespaces:
  {{- include "shoppe.operator.namespaces" . | nindent 2 }}
keysSecret: {{ include "shoppe.operator.keys" . }}
published: {{ include "shoppe.operator.published" . }}
labels:
  {{- include "shoppe.lib.podLabels" (dict "root" . "component" "identity") | replace "managed-by: Helm" "managed-by: coffea-shoppe-operator" | nindent 2 }}
{{- $connections := dict }}
{{- range $service, $address := .Values.connections }}
{{- if $address }}{{ $_ := set $connections $service (tpl $address $) }}{{ end }}
{{- end }}
connections:
  {{- toYaml $connections | nindent 2 }}
{{- with .Values.objectStore }}
{{- if .endpoint }}
objectStore:
  endpoint: {{ tpl .endpoint $ | quote }}
  adminEndpoint: {{ tpl .adminEndpoint $ | quote }}
  region: {{ .region }}
  keyLifetime: {{ .keyLifetimeSeconds | int }}
  {{- $services := dict }}
  {{- range $service, $secret := .services }}
  {{- if $secret }}{{ $_ := set $services $service (tpl $secret $) }}{{ end }}
  {{- end }}
  services:
    {{- toYaml $services | nindent 4 }}
  writers:
    {{- toYaml .writers | nindent 4 }}
{{- end }}
{{- end }}
{{- with .Values.mlflow }}
{{- if .endpoint }}
mlflow:
  endpoint: {{ tpl .endpoint $ | quote }}
  bucket: {{ tpl .bucket $ | quote }}
{{- end }}
{{- end }}
{{- with .Values.triton }}
{{- if .endpoint }}
triton:
  endpoint: {{ tpl .endpoint $ | quote }}
  bucket: {{ tpl .bucket $ | quote }}
  megabytes: {{ .megabytes }}
  backend: {{ .backend }}
  deployment: {{ tpl .deployment $ | quote }}
{{- end }}
{{- end }}
{{- with .Values.servicex.endpoint }}
servicex:
  endpoint: {{ tpl . $ | quote }}
{{- end }}
{{- with .Values.dask }}
dask:
  health: {{ tpl .health $ | quote }}
  {{- with .pods }}
  {{- if .namespace }}
  pods:
    namespace: {{ tpl .namespace $ | quote }}
    labels:
      {{- tpl (toYaml .labels) $ | nindent 6 }}
  {{- end }}
  {{- end }}
{{- end }}
{{- with .Values.api.hub }}
{{- if .url }}
hub:
  url: {{ tpl .url $ | quote }}
  serviceName: {{ .serviceName }}
{{- end }}
{{- end }}
quotas:
  {{- toYaml .Values.quotas | nindent 2 }}
{{- end -}}
