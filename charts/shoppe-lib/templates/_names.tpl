{{- /*
shoppe.lib.fullname: the name of a component's objects, RELEASE-SUFFIX.
Input: dict root (.), suffix (string).  At most 52 characters, so that the
controllers' own endings still fit a label.
*/ -}}
{{- define "shoppe.lib.fullname" -}}
{{- $suffix := required "shoppe.lib.fullname: 'suffix' is missing" .suffix -}}
{{- printf "%s-%s" .root.Release.Name $suffix | trunc 52 | trimSuffix "-" -}}
{{- end -}}

{{- /*
shoppe.lib.selectorLabels: the stable labels of one component of one release.
Input: dict root, component.
*/ -}}
{{- define "shoppe.lib.selectorLabels" -}}
app.kubernetes.io/name: {{ .root.Chart.Name }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ required "shoppe.lib.selectorLabels: 'component' is missing" .component }}
{{- end -}}

{{- /*
shoppe.lib.podLabels: labels of a pod; no chart version, so an upgrade that
changes nothing restarts nothing.  Input: dict root, component.
*/ -}}
{{- define "shoppe.lib.podLabels" -}}
{{ include "shoppe.lib.selectorLabels" . }}
app.kubernetes.io/part-of: coffea-shoppe
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
{{- end -}}

{{- /*
shoppe.lib.labels: labels of any other object.  Input: dict root, component.
*/ -}}
{{- define "shoppe.lib.labels" -}}
{{ include "shoppe.lib.podLabels" . }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" }}
{{- end -}}
