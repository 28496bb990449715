{{- /*
Names of this component's objects.  Input: the root context.
*/ -}}
{{- define "shoppe.servicex.app" -}}{{ include "shoppe.lib.fullname" (dict "root" . "suffix" "servicex") }}{{- end -}}
{{- define "shoppe.servicex.controller" -}}{{ include "shoppe.lib.fullname" (dict "root" . "suffix" "servicex-controller") }}{{- end -}}
{{- define "shoppe.servicex.transformer" -}}{{ include "shoppe.lib.fullname" (dict "root" . "suffix" "servicex-transformer") }}{{- end -}}
{{- define "shoppe.servicex.codegens" -}}{{ include "shoppe.lib.fullname" (dict "root" . "suffix" "servicex-codegens") }}{{- end -}}
{{- define "shoppe.servicex.secret" -}}{{ .Values.existingSecret | default (include "shoppe.servicex.app" .) }}{{- end -}}
{{- define "shoppe.servicex.controllerAccount" -}}{{ include "shoppe.lib.serviceAccountName" (dict "keys" .Values.controller "serviceAccount" (include "shoppe.servicex.controller" .)) }}{{- end -}}

{{- /*
shoppe.servicex.dedicatedNamespace: where users' functions run.  Input: the root context.
*/ -}}
{{- define "shoppe.servicex.dedicatedNamespace" -}}
{{ tpl (.Values.transformer.dedicated.namespace | default "") . | default .Release.Namespace }}
{{- end -}}

{{- /*
shoppe.servicex.userSecrets: "true" where users' functions get their user's tokens.  Input:
the root context.
*/ -}}
{{- define "shoppe.servicex.userSecrets" -}}
{{- include "shoppe.lib.flag" (dict "root" . "value" .Values.transformer.dedicated.userSecrets "key" "servicex.transformer.dedicated.userSecrets") -}}
{{- end -}}

{{- /*
shoppe.servicex.url: the API as transformers reach it.  Input: the root context.
*/ -}}
{{- define "shoppe.servicex.url" -}}
http://{{ include "shoppe.servicex.app" . }}.{{ .Release.Namespace }}:{{ .Values.service.port }}
{{- end -}}

{{- /*
shoppe.servicex.onVolume: "true" where results are files.  Input: the root context.
*/ -}}
{{- define "shoppe.servicex.onVolume" -}}
{{- if not (tpl (.Values.objectStore.endpoint | default "") .) }}true{{ end -}}
{{- end -}}
