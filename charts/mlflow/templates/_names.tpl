{{- /*
Names of this component's objects.  Input: the root context.
*/ -}}
{{- define "shoppe.mlflow.mlflow" -}}{{ include "shoppe.lib.fullname" (dict "root" . "suffix" "mlflow") }}{{- end -}}
{{- define "shoppe.mlflow.gc" -}}{{ include "shoppe.lib.fullname" (dict "root" . "suffix" "mlflow-gc") }}{{- end -}}
{{- define "shoppe.mlflow.secret" -}}{{ .Values.existingSecret | default (include "shoppe.mlflow.mlflow" .) }}{{- end -}}

{{- /*
shoppe.mlflow.databaseSecret: the Secret of the database; nothing where it is a file.  Input:
the root context.
*/ -}}
{{- define "shoppe.mlflow.databaseSecret" -}}{{ tpl (.Values.backendStore.existingDatabaseSecret | default "") . }}{{- end -}}

{{- /*
shoppe.mlflow.bucket: where the artifacts are; nothing where they are files.  Input: the root
context.
*/ -}}
{{- define "shoppe.mlflow.bucket" -}}{{ tpl (.Values.artifactRoot.s3.bucket | default "") . }}{{- end -}}

{{- /*
shoppe.mlflow.database: the address of the database; credentials are in the file that
PGSERVICEFILE names.  Input: the root context.
*/ -}}
{{- define "shoppe.mlflow.database" -}}
{{- if include "shoppe.mlflow.databaseSecret" . -}}
postgresql+psycopg2://?service={{ .Values.backendStore.service }}
{{- else -}}
sqlite:////data/mlflow.db
{{- end -}}
{{- end -}}

{{- /*
shoppe.mlflow.hosts: the accepted host names of the server.  Input: the root
context.
*/ -}}
{{- define "shoppe.mlflow.hosts" -}}
{{- $name := include "shoppe.mlflow.mlflow" . -}}
{{- $hosts := list -}}
{{- range $host := list $name (printf "%s.%s" $name .Release.Namespace) (printf "%s.%s.svc" $name .Release.Namespace) (printf "%s.%s.svc.cluster.local" $name .Release.Namespace) -}}
{{- $hosts = concat $hosts (list $host (printf "%s:%v" $host $.Values.service.port)) -}}
{{- end -}}
{{- join "," (concat $hosts (.Values.allowedHosts | default list)) -}}
{{- end -}}

{{- /*
shoppe.mlflow.onVolume: "true" where the database or the artifacts are files.  Input: the
root context.
*/ -}}
{{- define "shoppe.mlflow.onVolume" -}}
{{- if not (and (include "shoppe.mlflow.databaseSecret" .) (include "shoppe.mlflow.bucket" .)) }}true{{ end -}}
{{- end -}}
