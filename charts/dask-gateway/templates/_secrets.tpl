{{- /*
shoppe.dask-gateway.generatedSecrets: see shoppe.lib.generatedSecrets.  Input: the root context.
*/ -}}
{{- define "shoppe.dask-gateway.generatedSecrets" -}}
{{- $auth := .Values.gateway.auth -}}
{{- $key := "" -}}
{{- $value := "" -}}
{{- if eq (toString $auth.type) "simple" -}}
{{- if not $auth.simple.passwordFromSecretName -}}
{{- $key = $auth.simple.passwordFromSecretKey | default "password" -}}
{{- $value = $auth.simple.password -}}
{{- end -}}
{{- else if and (eq (toString $auth.type) "jupyterhub") $auth.jupyterhub.apiToken -}}
{{- $key = "jupyterhub-api-token" -}}
{{- $value = $auth.jupyterhub.apiToken -}}
{{- end -}}
key: dask-gateway.gateway.image
image:
  {{- toYaml .Values.gateway.image | nindent 2 }}
keys:
  {{- include "shoppe.lib.jobKeys" .Values.gateway | nindent 2 }}
secrets:
  {{- if $key }}
  - name: {{ include "shoppe.dask-gateway.secret" . }}
    labels:
      {{- include "shoppe.lib.labels" (dict "root" . "component" "gateway") | nindent 6 }}
    keys:
      {{ $key }}: {characters: 32, value: {{ $value | default "" | toString | toJson }}}
  {{- end }}
{{- end -}}
