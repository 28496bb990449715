{{- /*
shoppe.postgresql.generatedSecrets: see shoppe.lib.generatedSecrets.  Input: the root context.
*/ -}}
{{- define "shoppe.postgresql.generatedSecrets" -}}
{{- $existing := include "shoppe.postgresql.existingSecrets" . | fromYaml -}}
key: postgresql.image
image:
  {{- toYaml .Values.image | nindent 2 }}
keys:
  {{- include "shoppe.lib.jobKeys" .Values | nindent 2 }}
secrets:
  {{- range $database := include "shoppe.postgresql.databases" . | fromYamlArray }}
  {{- if not (get $existing $database) }}
  - name: {{ include "shoppe.postgresql.secret" (dict "root" $ "database" $database) }}
    labels:
      {{- include "shoppe.lib.labels" (dict "root" $ "component" "postgresql") | nindent 6 }}
    keys:
      password: {characters: 32}
      service.conf: {text: {{ include "shoppe.postgresql.service" (dict "root" $ "database" $database "password" "{password}") | toJson }}}
  {{- end }}
  {{- end }}
{{- end -}}
