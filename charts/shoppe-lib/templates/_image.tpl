{{- /*
shoppe.lib.image: NAME:TAG, or NAME@DIGEST where a digest is set.  global.imageRegistry takes
the place of ghcr.io in the names of the facility's own images, and global.userImage that of the
facility's own images for users' code.
Input: dict root, image (name, tag, digest), key (where the values name it).
*/ -}}
{{- define "shoppe.lib.image" -}}
{{- $userImage := has .image.name (list "ghcr.io/coffea-shoppe/analysis" "ghcr.io/coffea-shoppe/notebook") | ternary (.root.Values.global).userImage "" -}}
{{- if $userImage -}}
{{- $userImage -}}
{{- else -}}
{{- include "shoppe.lib.ownImage" . -}}
{{- end -}}
{{- end -}}

{{- /*
shoppe.lib.ownImage: the image that a component's values name.  Input: that of shoppe.lib.image.
*/ -}}
{{- define "shoppe.lib.ownImage" -}}
{{- $name := required (printf "%s.name is missing: set it to the image's name" .key) .image.name -}}
{{- with (.root.Values.global).imageRegistry -}}
{{- if hasPrefix "ghcr.io/coffea-shoppe/" $name }}{{ $name = printf "%s/%s" (trimSuffix "/" .) (trimPrefix "ghcr.io/" $name) }}{{ end -}}
{{- end -}}
{{- if .image.digest -}}
{{- printf "%s@%s" $name .image.digest -}}
{{- else -}}
{{- printf "%s:%s" $name (required (printf "%s.tag is missing: set it to the image's tag" .key) .image.tag) -}}
{{- end -}}
{{- end -}}

{{- /*
shoppe.lib.pullSecrets: references to the Secrets of a pod's images, as YAML: the images' own,
or global.imagePullSecrets.  Input: dict root, and optionally images (KEY: image).
*/ -}}
{{- define "shoppe.lib.pullSecrets" -}}
{{- $secrets := list -}}
{{- range .images }}{{ $secrets = concat $secrets (.pullSecrets | default list) }}{{ end -}}
{{- $references := list -}}
{{- range $secrets | default (.root.Values.global).imagePullSecrets -}}
{{- $references = append $references (kindIs "string" . | ternary (dict "name" .) .) -}}
{{- end -}}
{{- uniq $references | toYaml -}}
{{- end -}}
