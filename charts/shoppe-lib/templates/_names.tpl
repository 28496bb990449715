{{- /*
shoppe.lib.cut: a text of at most `most` characters.  A longer one is cut and ends in eight
digits of its digest, so that different texts stay different.  Input: dict text, most (10 or more).
*/ -}}
{{- define "shoppe.lib.cut" -}}
{{- if gt (len .text) (int .most) -}}
{{- printf "%s-%s" (.text | trunc (int (sub .most 9)) | trimSuffix "-") (.text | sha256sum | trunc 8) -}}
{{- else -}}
{{- .text -}}
{{- end -}}
{{- end -}}

{{- /*
shoppe.lib.fullname: the name of a component's objects, RELEASE-SUFFIX.
Input: dict root (.), suffix (string, at most 41 characters).  At most 52 characters, so
that labels can contain suffixes of controllers; the release's part is cut.
*/ -}}
{{- define "shoppe.lib.fullname" -}}
{{- $suffix := required "shoppe.lib.fullname: 'suffix' is missing" .suffix -}}
{{- $release := .root.Release.Name -}}
{{- if not (regexMatch "^[a-z][-a-z0-9]*$" $release) -}}
{{- fail (printf "the release name %q is invalid, because Services are named after it: use lower-case letters, digits and hyphens, beginning with a letter" $release) -}}
{{- end -}}
{{- printf "%s-%s" (include "shoppe.lib.cut" (dict "text" $release "most" (sub 51 (len $suffix)))) $suffix -}}
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

{{- /*
shoppe.lib.servicesLabel: the first part of the services' host name where the hub has a
subdomain_host.  JupyterHub never encodes a user's name with this `--`.  Input: none.
*/ -}}
{{- define "shoppe.lib.servicesLabel" -}}all--services{{- end -}}
