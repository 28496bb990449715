{{- /*
Names of this component's objects.  Input: the root context.
*/ -}}
{{- define "shoppe.triton.triton" -}}{{ include "shoppe.lib.fullname" (dict "root" . "suffix" "triton") }}{{- end -}}

{{- define "shoppe.triton.replicas" -}}{{ include "shoppe.lib.fullname" (dict "root" . "suffix" "triton-replicas") }}{{- end -}}

{{- /*
shoppe.triton.serverImage: Triton's own image, or the chart's.  Input: the root context.
*/ -}}
{{- define "shoppe.triton.serverImage" -}}
{{- if .Values.server.image.name -}}
{{- include "shoppe.lib.image" (dict "root" . "image" .Values.server.image "key" "triton.server.image") -}}
{{- else -}}
{{- include "shoppe.lib.image" (dict "root" . "image" .Values.image "key" "triton.image") -}}
{{- end -}}
{{- end -}}

{{- /*
shoppe.triton.store: the address of the store of the models; nothing where they are in the
pod.  Input: the root context.
*/ -}}
{{- define "shoppe.triton.store" -}}{{ tpl (.Values.modelRepository.s3.endpoint | default "") . }}{{- end -}}

{{- /*
shoppe.triton.repository: where the models are.  Input: the root context.
*/ -}}
{{- define "shoppe.triton.repository" -}}
{{- with include "shoppe.triton.store" . -}}
s3://{{ . }}/{{ tpl ($.Values.modelRepository.s3.bucket | default "") $ }}
{{- else -}}
/models
{{- end -}}
{{- end -}}
