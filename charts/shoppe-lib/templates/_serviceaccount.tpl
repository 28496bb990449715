{{- /*
shoppe.lib.serviceAccountName: the ServiceAccount of a component's pods; nothing for the
namespace's default.  Input: dict root, keys (the map of values that has `serviceAccount`), and
serviceAccount: the name of the chart's own, where the component talks to Kubernetes; or
component (and of, see shoppe.lib.pod), where it does not.
*/ -}}
{{- define "shoppe.lib.serviceAccountName" -}}
{{- $account := .keys.serviceAccount | default dict -}}
{{- if $account.name -}}
{{- $account.name -}}
{{- else if .serviceAccount -}}
{{- .serviceAccount -}}
{{- else if $account.create -}}
{{- include "shoppe.lib.fullname" (dict "root" .root "suffix" (.of | default .component)) -}}
{{- end -}}
{{- end -}}

{{- /*
shoppe.lib.serviceAccount: the object, or nothing where somebody else makes it.  Input: that of
shoppe.lib.serviceAccountName, component, and optionally namespace.
*/ -}}
{{- define "shoppe.lib.serviceAccount" -}}
{{- $account := .keys.serviceAccount | default dict -}}
{{- if kindIs "bool" $account.create | ternary $account.create (not (empty .serviceAccount)) -}}
apiVersion: v1
kind: ServiceAccount
metadata:
  name: {{ include "shoppe.lib.serviceAccountName" . | quote }}
  {{- with .namespace }}
  namespace: {{ . | quote }}
  {{- end }}
  labels:
    {{- include "shoppe.lib.labels" . | nindent 4 }}
  {{- with $account.annotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end -}}
{{- end -}}
