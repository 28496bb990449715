{{- /*
shoppe.objectstore.generatedSecrets: see shoppe.lib.generatedSecrets.  Input: the root context.
*/ -}}
{{- define "shoppe.objectstore.generatedSecrets" -}}
key: objectstore.image
image:
  {{- toYaml .Values.image | nindent 2 }}
keys:
  {{- include "shoppe.lib.jobKeys" .Values | nindent 2 }}
secrets:
  {{- if not (tpl (.Values.existingSecret | default "") .) }}
  - name: {{ include "shoppe.objectstore.objectstore" . }}
    labels:
      {{- include "shoppe.lib.labels" (dict "root" . "component" "objectstore") | nindent 6 }}
    keys:
      root-access-key: {characters: 24}
      root-secret-key: {characters: 48}
  {{- end }}
{{- end -}}
