{{- /*
shoppe.servicex.generatedSecrets: see shoppe.lib.generatedSecrets.  Input: the root context.
*/ -}}
{{- define "shoppe.servicex.generatedSecrets" -}}
key: servicex.image
image:
  {{- toYaml .Values.image | nindent 2 }}
keys:
  {{- include "shoppe.lib.jobKeys" .Values.app | nindent 2 }}
secrets:
  {{- if not .Values.existingSecret }}
  - name: {{ include "shoppe.servicex.app" . }}
    labels:
      {{- include "shoppe.lib.labels" (dict "root" . "component" "servicex") | nindent 6 }}
    keys:
      session-key: {characters: 48}
      pool-key: {characters: 48}
  {{- end }}
{{- end -}}
