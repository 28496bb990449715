{{- /*
Names of this component's objects.  Input: the root context.
*/ -}}
{{- define "shoppe.postgresql.postgresql" -}}{{ include "shoppe.lib.fullname" (dict "root" . "suffix" "postgresql") }}{{- end -}}
{{- define "shoppe.postgresql.backup" -}}{{ include "shoppe.lib.fullname" (dict "root" . "suffix" "postgresql-backup") }}{{- end -}}

{{- /*
shoppe.postgresql.secret: the Secret of one database.  Input: dict root, database.
*/ -}}
{{- define "shoppe.postgresql.secret" -}}
{{ include "shoppe.lib.fullname" (dict "root" .root "suffix" (printf "postgresql-%s" (replace "_" "-" .database))) }}
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
