{{- /*
shoppe.operator.services: SERVICE: SETTINGS, as YAML, of the services with an address.
Input: the root context.
*/ -}}
{{- define "shoppe.operator.services" -}}
{{- $services := dict -}}
{{- range $name, $settings := .Values.services -}}
{{- $settings = tpl (toYaml $settings) $ | fromYaml -}}
{{- if $settings.endpoint }}{{ $_ := set $services $name $settings }}{{ end -}}
{{- end -}}
{{- toYaml $services -}}
{{- end -}}

{{- /*
shoppe.operator.settings: what operator and API read, as YAML (`models.Settings`).
Input: the root context.
*/ -}}
{{- define "shoppe.operator.settings" -}}
issuer: {{ tpl (.Values.issuer | default "") . | default (printf "coffea-shoppe:%s:%s" .Release.Namespace .Release.Name) | quote }}
tokenLifetime: {{ .Values.tokens.lifetimeSeconds }}
namespace: {{ .Release.Namespace }}
userNamespaces:
  {{- include "shoppe.operator.namespaces" . | nindent 2 }}
keysSecret: {{ include "shoppe.operator.keys" . }}
published: {{ include "shoppe.operator.published" . }}
labels:
  {{- include "shoppe.lib.podLabels" (dict "root" . "component" "identity") | replace "managed-by: Helm" "managed-by: coffea-shoppe-operator" | nindent 2 }}
connections:
  {{- include "shoppe.lib.texts" (dict "root" . "value" .Values.connections) | nindent 2 }}
{{- with include "shoppe.operator.store" . }}
objectStore:
  endpoint: {{ . | quote }}
  {{- with $.Values.objectStore }}
  adminEndpoint: {{ tpl (.adminEndpoint | default "") $ | quote }}
  region: {{ .region }}
  keyLifetime: {{ .keyLifetimeSeconds | int }}
  services:
    {{- include "shoppe.lib.texts" (dict "root" $ "value" .services) | nindent 4 }}
  writers:
    {{- include "shoppe.lib.list" (dict "root" $ "value" .writers) | nindent 4 }}
  {{- end }}
{{- end }}
{{- with tpl (.Values.mlflow.endpoint | default "") . }}
mlflow:
  endpoint: {{ . | quote }}
  bucket: {{ tpl ($.Values.mlflow.bucket | default "") $ | quote }}
{{- end }}
{{- with tpl (.Values.triton.endpoint | default "") . }}
triton:
  endpoint: {{ . | quote }}
  {{- with $.Values.triton }}
  bucket: {{ tpl (.bucket | default "") $ | quote }}
  megabytes: {{ .megabytes }}
  backend: {{ .backend }}
  requireLandlock: {{ .requireLandlock }}
  deployment: {{ tpl (.deployment | default "") $ | quote }}
  {{- end }}
{{- end }}
{{- with tpl (.Values.servicex.endpoint | default "") . }}
servicex:
  endpoint: {{ . | quote }}
{{- end }}
services:
  {{- include "shoppe.operator.services" . | nindent 2 }}
dask:
  health: {{ tpl (.Values.dask.health | default "") . | quote }}
  {{- with include "shoppe.operator.daskNamespace" . }}
  pods:
    namespace: {{ . | quote }}
    labels:
      {{- tpl (toYaml $.Values.dask.pods.labels) $ | nindent 6 }}
  {{- end }}
{{- with include "shoppe.operator.hubUrl" . }}
hub:
  url: {{ . | quote }}
  serviceName: {{ $.Values.api.hub.serviceName }}
  publicUrl: {{ tpl ($.Values.api.hub.publicUrl | default "") $ | quote }}
  servicesUrl: {{ tpl ($.Values.api.hub.servicesUrl | default "") $ | quote }}
{{- end }}
quotas:
  default:
    {{- toYaml .Values.quotas.default | nindent 4 }}
  groups:
    {{- .Values.quotas.groups | default dict | toYaml | nindent 4 }}
{{- end -}}
