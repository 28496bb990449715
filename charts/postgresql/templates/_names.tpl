{{- /*
Names of this component's objects.  Input: the root context.
*/ -}}
{{- define "shoppe.postgresql.postgresql" -}}{{ include "shoppe.lib.fullname" (dict "root" . "suffix" "postgresql") }}{{- end -}}
{{- define "shoppe.postgresql.backup" -}}{{ include "shoppe.lib.fullname" (dict "root" . "suffix" "postgresql-backup") }}{{- end -}}

{{- /*
shoppe.postgresql.backupClaim: the claim of dumps.  Input: the root context.
*/ -}}
{{- define "shoppe.postgresql.backupClaim" -}}
{{- include "shoppe.lib.claimName" (dict "name" (include "shoppe.postgresql.backup" .) "keys" .Values.backup) -}}
{{- end -}}

{{- /*
shoppe.postgresql.databases: their names, as a YAML list.  Input: the root context.
*/ -}}
{{- define "shoppe.postgresql.databases" -}}
{{- include "shoppe.lib.list" (dict "root" . "value" .Values.databases) -}}
{{- end -}}

{{- /*
shoppe.postgresql.existingSecrets: DATABASE: SECRET, as YAML, of those that the chart does not
make.  Input: the root context.
*/ -}}
{{- define "shoppe.postgresql.existingSecrets" -}}
{{- include "shoppe.lib.texts" (dict "root" . "value" .Values.existingSecrets) -}}
{{- end -}}

{{- /*
shoppe.postgresql.secret: the Secret of one database.  Input: dict root, database.
*/ -}}
{{- define "shoppe.postgresql.secret" -}}
{{- with get (include "shoppe.postgresql.existingSecrets" .root | fromYaml) .database -}}
{{ . }}
{{- else -}}
{{ include "shoppe.lib.fullname" (dict "root" .root "suffix" (printf "postgresql-%s" (replace "_" "-" .database))) }}
{{- end -}}
{{- end -}}

{{- /*
shoppe.postgresql.service: the file by which a client finds one database.  Input: dict
root, database, password.
*/ -}}
{{- define "shoppe.postgresql.service" -}}
[{{ .database }}]
host={{ include "shoppe.postgresql.postgresql" .root }}.{{ .root.Release.Namespace }}
port={{ .root.Values.service.port }}
dbname={{ .database }}
user={{ .database }}
password={{ .password }}
{{ end -}}
