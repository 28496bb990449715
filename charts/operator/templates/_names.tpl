{{- /*
Names of this component's objects.  Input: the root context.
*/ -}}
{{- define "shoppe.operator.operator" -}}{{ include "shoppe.lib.fullname" (dict "root" . "suffix" "operator") }}{{- end -}}
{{- define "shoppe.operator.api" -}}{{ include "shoppe.lib.fullname" (dict "root" . "suffix" "api") }}{{- end -}}
{{- define "shoppe.operator.uninstall" -}}{{ include "shoppe.lib.fullname" (dict "root" . "suffix" "uninstall") }}{{- end -}}
{{- define "shoppe.operator.keys" -}}{{ include "shoppe.lib.fullname" (dict "root" . "suffix" "identity-keys") }}{{- end -}}
{{- define "shoppe.operator.published" -}}{{ include "shoppe.lib.fullname" (dict "root" . "suffix" "identity") }}{{- end -}}
{{- define "shoppe.operator.operatorAccount" -}}{{ include "shoppe.lib.serviceAccountName" (dict "keys" .Values.operator "serviceAccount" (include "shoppe.operator.operator" .)) }}{{- end -}}
{{- define "shoppe.operator.apiAccount" -}}{{ include "shoppe.lib.serviceAccountName" (dict "keys" .Values.api "serviceAccount" (include "shoppe.operator.api" .)) }}{{- end -}}

{{- /*
shoppe.operator.daskNamespace: the namespace of users' Dask clusters; nothing where the
operator does not manage them.  Input: the root context.
*/ -}}
{{- define "shoppe.operator.daskNamespace" -}}{{ tpl (.Values.dask.pods.namespace | default "") . }}{{- end -}}

{{- /*
shoppe.operator.namespaces: where users' pods run, as a YAML list, the release's first.
Input: the root context.
*/ -}}
{{- define "shoppe.operator.namespaces" -}}
{{- $others := include "shoppe.lib.list" (dict "root" . "value" .Values.userNamespaces) | fromYamlArray -}}
{{- concat (list .Release.Namespace (include "shoppe.operator.daskNamespace" .)) $others | compact | uniq | toYaml -}}
{{- end -}}

{{- /*
shoppe.operator.store: the address of the object store; nothing without one.  Input: the root
context.
*/ -}}
{{- define "shoppe.operator.store" -}}{{ tpl (.Values.objectStore.endpoint | default "") . }}{{- end -}}

{{- /*
shoppe.operator.hubUrl: the address of the hub's API; nothing without one.  Input: the root
context.
*/ -}}
{{- define "shoppe.operator.hubUrl" -}}{{ tpl (.Values.api.hub.url | default "") . }}{{- end -}}

{{- /*
shoppe.operator.scaled: the Deployment of Triton's replicas, which the operator may scale;
nothing without one.  Input: the root context.
*/ -}}
{{- define "shoppe.operator.scaled" -}}
{{- if tpl (.Values.triton.endpoint | default "") . }}{{ tpl (.Values.triton.deployment | default "") . }}{{ end -}}
{{- end -}}
