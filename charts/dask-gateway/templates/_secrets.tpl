{{- /*
shoppe.dask-gateway.generatedSecrets: see shoppe.lib.generatedSecrets.  Input: the root context.
*/ -}}
{{- define "shoppe.dask-gateway.generatedSecrets" -}}
{{- $simple := .Values.gateway.auth.simple -}}
key: dask-gateway.gateway.image
image:
  {{- toYaml .Values.gateway.image | nindent 2 }}
keys:
  {{- include "shoppe.lib.jobKeys" .Values.gateway | nindent 2 }}
secrets:
  {{- if and (eq (toString .Values.gateway.auth.type) "simple") (not $simple.password) (not $simple.passwordFromSecretName) }}
  - name: {{ include "shoppe.dask-gateway.secret" . }}
    labels:
      {{- include "shoppe.lib.labels" (dict "root" . "component" "gateway") | nindent 6 }}
    keys:
      {{ $simple.passwordFromSecretKey | default "password" }}: {characters: 32}
  {{- end }}
{{- end -}}
