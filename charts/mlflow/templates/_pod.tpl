{{- /*
shoppe.mlflow.env: environment of the server and of the migrations.  Input: the root
context.
*/ -}}
{{- define "shoppe.mlflow.env" -}}
- name: HOME
  value: /tmp
- name: MLFLOW_BACKEND_STORE_URI
  value: {{ include "shoppe.mlflow.database" . | quote }}
{{- if include "shoppe.mlflow.databaseSecret" . }}
- name: PGSERVICEFILE
  value: /run/secrets/database/service.conf
# A server whose pod is replaced may not refuse connections: nothing answers.
- name: PGCONNECT_TIMEOUT
  value: "5"
{{- end }}
{{- if .Values.auth.enabled }}
- name: MLFLOW_AUTH_CONFIG_PATH
  value: /etc/mlflow/auth.ini
# The server reads the source of a model version with its own rights: only locations that
# it manages, for which it checks permissions.  The last two are those of prompts.
- name: MLFLOW_CREATE_MODEL_VERSION_SOURCE_VALIDATION_REGEX
  value: '^((runs|models|mlflow-artifacts):/|(dummy-source|prompt-template)$)'
{{- end }}
{{- end -}}

{{- /*
shoppe.mlflow.s3Env: environment of what reads and writes artifacts.  Input: the root context.
*/ -}}
{{- define "shoppe.mlflow.s3Env" -}}
{{- if include "shoppe.mlflow.bucket" . }}
- name: AWS_CONFIG_FILE
  value: /run/secrets/s3/aws-config
- name: AWS_SHARED_CREDENTIALS_FILE
  value: /run/secrets/s3/aws-credentials
- name: MLFLOW_BOTO_CLIENT_ADDRESSING_STYLE
  value: path
{{- end }}
{{- end -}}

{{- /*
shoppe.mlflow.artifacts: where the server stores artifacts.  Input: the root context.
*/ -}}
{{- define "shoppe.mlflow.artifacts" -}}
{{- with include "shoppe.mlflow.bucket" . }}s3://{{ . }}{{ else }}/data/artifacts{{ end -}}
{{- end -}}

{{- /*
shoppe.mlflow.mounts: volumes of the server, the migrations and the garbage collection.
Input: the root context.
*/ -}}
{{- define "shoppe.mlflow.mounts" -}}
- name: config
  mountPath: /etc/mlflow
  readOnly: true
- name: tmp
  mountPath: /tmp
{{- if include "shoppe.mlflow.databaseSecret" . }}
- name: database
  mountPath: /run/secrets/database
  readOnly: true
{{- end }}
{{- if include "shoppe.mlflow.onVolume" . }}
- name: data
  mountPath: /data
{{- end }}
{{- end -}}

{{- /*
shoppe.mlflow.s3Mount: in addition, of what reads and writes artifacts.  Input: the root
context.
*/ -}}
{{- define "shoppe.mlflow.s3Mount" -}}
{{- if include "shoppe.mlflow.bucket" . }}
- name: s3
  mountPath: /run/secrets/s3
  readOnly: true
{{- end }}
{{- end -}}

{{- /*
shoppe.mlflow.volumes: the volumes of these mounts.  Input: the root context.
*/ -}}
{{- define "shoppe.mlflow.volumes" -}}
- name: config
  configMap:
    name: {{ include "shoppe.mlflow.mlflow" . }}
- name: tmp
  emptyDir: {}
{{- with include "shoppe.mlflow.databaseSecret" . }}
- name: database
  secret:
    secretName: {{ . }}
{{- end }}
{{- if include "shoppe.mlflow.bucket" . }}
- name: s3
  secret:
    secretName: {{ tpl (.Values.artifactRoot.s3.existingSecret | default "") . }}
{{- end }}
{{- if include "shoppe.mlflow.onVolume" . }}
- name: data
  persistentVolumeClaim:
    claimName: {{ include "shoppe.lib.claimName" (dict "name" (include "shoppe.mlflow.mlflow" .) "keys" .Values.persistence) }}
{{- end }}
{{- end -}}
