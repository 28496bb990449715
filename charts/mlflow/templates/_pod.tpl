{{- /*
shoppe.mlflow.env: environment of the server and of the migrations.  Input: the root
context.
*/ -}}
{{- define "shoppe.mlflow.env" -}}
- name: PYTHONPATH
  value: /etc/mlflow
- name: HOME
  value: /tmp
- name: MLFLOW_BACKEND_STORE_URI
  value: {{ include "shoppe.mlflow.database" . | quote }}
{{- if .Values.backendStore.existingDatabaseSecret }}
- name: PGSERVICEFILE
  value: /run/secrets/database/service.conf
{{- end }}
{{- if .Values.auth.enabled }}
- name: MLFLOW_AUTH_CONFIG_PATH
  value: /etc/mlflow/auth.ini
{{- end }}
{{- end -}}

{{- /*
shoppe.mlflow.mounts: volumes of the server and of the migrations.  Input: the root
context.
*/ -}}
{{- define "shoppe.mlflow.mounts" -}}
- name: config
  mountPath: /etc/mlflow
  readOnly: true
- name: tmp
  mountPath: /tmp
{{- if .Values.backendStore.existingDatabaseSecret }}
- name: database
  mountPath: /run/secrets/database
  readOnly: true
{{- end }}
{{- if include "shoppe.mlflow.onVolume" . }}
- name: data
  mountPath: /data
{{- end }}
{{- end -}}
