{{- /*
shoppe.mlflow.generatedSecrets: see shoppe.lib.generatedSecrets.  Input: the root context.
*/ -}}
{{- define "shoppe.mlflow.generatedSecrets" -}}
key: mlflow.image
image:
  {{- toYaml .Values.image | nindent 2 }}
keys:
  {{- include "shoppe.lib.jobKeys" .Values | nindent 2 }}
secrets:
  {{- if not .Values.existingSecret }}
  - name: {{ include "shoppe.mlflow.mlflow" . }}
    labels:
      {{- include "shoppe.lib.labels" (dict "root" . "component" "mlflow") | nindent 6 }}
    keys:
      admin-password: {characters: 48}
      flask-secret-key: {characters: 48}
  {{- end }}
{{- end -}}
