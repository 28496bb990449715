{{- /*
shoppe.lib.ownsCrd: "true" where this release makes a resource kind: it is
not there yet, or this release made it.  Another release's is used as it is.
Input: dict root, name.
*/ -}}
{{- define "shoppe.lib.ownsCrd" -}}
{{- $there := lookup "apiextensions.k8s.io/v1" "CustomResourceDefinition" "" .name -}}
{{- $owner := ($there.metadata).annotations | default dict -}}
{{- $mine := and (eq (get $owner "meta.helm.sh/release-name") .root.Release.Name) (eq (get $owner "meta.helm.sh/release-namespace") .root.Release.Namespace) -}}
{{- if or (not $there) $mine }}true{{ end -}}
{{- end -}}
