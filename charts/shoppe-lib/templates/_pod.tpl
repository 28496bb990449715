{{- /*
shoppe.lib.image: NAME:TAG, or NAME@DIGEST where a digest is set.
Input: dict image (name, tag, digest), key (where the values name it).
*/ -}}
{{- define "shoppe.lib.image" -}}
{{- $name := required (printf "%s.name is missing: set it to the image's name" .key) .image.name -}}
{{- if .image.digest -}}
{{- printf "%s@%s" $name .image.digest -}}
{{- else -}}
{{- printf "%s:%s" $name (required (printf "%s.tag is missing: set it to the image's tag" .key) .image.tag) -}}
{{- end -}}
{{- end -}}

{{- /*
shoppe.lib.podSecurityContext: what the restricted Pod Security level asks of a
pod.  Input: none.
*/ -}}
{{- define "shoppe.lib.podSecurityContext" -}}
runAsNonRoot: true
runAsUser: 1000
runAsGroup: 1000
fsGroup: 1000
fsGroupChangePolicy: OnRootMismatch
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{- /*
shoppe.lib.containerSecurityContext: the same for a container, with a read-only
root.  Input: none.
*/ -}}
{{- define "shoppe.lib.containerSecurityContext" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end -}}

{{- /*
shoppe.lib.podDefaults: the part of a pod's spec that is the same everywhere.
Input: dict root, and optionally serviceAccount (a name; without one the pod
holds no Kubernetes token).
*/ -}}
{{- define "shoppe.lib.podDefaults" -}}
{{- if .serviceAccount }}
serviceAccountName: {{ .serviceAccount }}
automountServiceAccountToken: true
{{- else }}
automountServiceAccountToken: false
{{- end }}
enableServiceLinks: false
securityContext:
  {{- include "shoppe.lib.podSecurityContext" . | nindent 2 }}
{{- with .root.Values.global.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}
