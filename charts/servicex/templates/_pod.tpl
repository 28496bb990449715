{{- /*
shoppe.servicex.env: environment of clients of the database.  Input: none.
*/ -}}
{{- define "shoppe.servicex.env" -}}
- name: PGSERVICEFILE
  value: /run/secrets/database/service.conf
- name: HOME
  value: /tmp
{{- end -}}

{{- /*
shoppe.servicex.mounts: volumes of API, S3 gateway, controller and migrations.  Input: the root
context.
*/ -}}
{{- define "shoppe.servicex.mounts" -}}
- name: settings
  mountPath: /etc/coffea-shoppe
  readOnly: true
- name: database
  mountPath: /run/secrets/database
  readOnly: true
- name: keys
  mountPath: /run/secrets/servicex
  readOnly: true
- name: tmp
  mountPath: /tmp
{{- include "shoppe.servicex.codegensMount" . }}
{{- if include "shoppe.servicex.onVolume" . }}
- name: data
  mountPath: /data
{{- else }}
- name: s3
  mountPath: /run/secrets/s3
  readOnly: true
{{- end }}
{{- end -}}

{{- /*
shoppe.servicex.volumes: the volumes of these mounts.  Input: the root context.
*/ -}}
{{- define "shoppe.servicex.volumes" -}}
- name: settings
  configMap:
    name: {{ include "shoppe.servicex.app" . }}
- name: database
  secret:
    secretName: {{ tpl (.Values.postgres.existingDatabaseSecret | default "") . }}
    defaultMode: 0440
- name: keys
  secret:
    secretName: {{ include "shoppe.servicex.secret" . }}
    defaultMode: 0440
- name: tmp
  emptyDir: {}
{{- include "shoppe.servicex.codegensVolume" . }}
{{- if include "shoppe.servicex.onVolume" . }}
- name: data
  persistentVolumeClaim:
    claimName: {{ include "shoppe.lib.claimName" (dict "name" (include "shoppe.servicex.app" .) "keys" .Values.persistence) }}
{{- else }}
- name: s3
  secret:
    secretName: {{ tpl (.Values.objectStore.existingSecret | default "") . }}
    defaultMode: 0440
{{- end }}
{{- end -}}

{{- /*
shoppe.servicex.transformerContainer: the container of a transformer.  Input: dict root, memory
(MiB; 0 if the controller adds it).
*/ -}}
{{- define "shoppe.servicex.transformerContainer" -}}
{{- $root := .root -}}
name: transformer
image: {{ include "shoppe.lib.image" (dict "root" $root "image" $root.Values.transformer.image "key" "servicex.transformer.image") }}
args:
  - coffea-shoppe-servicex
  - transformer
  - --api={{ include "shoppe.servicex.url" $root }}
  - --key=/run/secrets/transformer/key
  - --scratch=/scratch
  {{- if include "shoppe.servicex.codegensMount" $root }}
  - --codegens=/etc/codegens
  {{- end }}
  {{- if .memory }}
  - --memory={{ .memory }}
  {{- else }}
  # A request's own: its files may be done before it looks again.
  - --until-idle=15
  {{- end }}
env:
  - name: HOME
    value: /scratch
  {{- if not .memory }}
  {{- range $name, $value := include "shoppe.lib.environment" (dict "root" $root "own" $root.Values.transformer.dedicated.environment) | fromYaml }}
  - name: {{ $name }}
    value: {{ $value | quote }}
  {{- end }}
  {{- end }}
livenessProbe:
  exec:
    command: [sh, -c, "test -n \"$(find /tmp/alive -mmin -3)\""]
  periodSeconds: 60
  timeoutSeconds: 20
  failureThreshold: 5
resources:
  requests:
    cpu: {{ $root.Values.transformer.cpuRequest | quote }}
    memory: 300Mi
  limits:
    cpu: {{ $root.Values.transformer.cpuLimit | quote }}
    memory: {{ add (.memory | default $root.Values.transformer.memoryMiB) 512 }}Mi
volumeMounts:
  - name: key
    mountPath: /run/secrets/transformer
    readOnly: true
  - name: scratch
    mountPath: /scratch
  - name: tmp
    mountPath: /tmp
  {{- include "shoppe.servicex.codegensMount" $root | nindent 2 }}
{{- end -}}
