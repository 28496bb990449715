{{- /*
shoppe.lib.ownsCrd: "true" if this release creates a CRD: if it does
not exist yet, or this release created it.  That of another release is used unchanged.
Input: dict root, name.
*/ -}}
{{- define "shoppe.lib.ownsCrd" -}}
{{- $there := lookup "apiextensions.k8s.io/v1" "CustomResourceDefinition" "" .name -}}
{{- $owner := ($there.metadata).annotations | default dict -}}
{{- $mine := and (eq (get $owner "meta.helm.sh/release-name") .root.Release.Name) (eq (get $owner "meta.helm.sh/release-namespace") .root.Release.Namespace) -}}
{{- if or (not $there) $mine }}true{{ end -}}
{{- end -}}
