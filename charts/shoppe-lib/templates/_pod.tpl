{{- /*
Pods.  A component renders its pod as if there were no keys of Kubernetes in its values, and
shoppe.lib.pod merges them into it: shapes.yaml lists them.
*/ -}}

{{- /*
shoppe.lib.podSecurityContext: what the restricted Pod Security level requires of a
pod, with the keys of global.podSecurityContext in place of its own.  Input: the root context, or
dict root.
*/ -}}
{{- define "shoppe.lib.podSecurityContext" -}}
{{- $root := .root | default . -}}
{{- $own := dict "runAsNonRoot" true "runAsUser" 1000 "runAsGroup" 1000 "fsGroup" 1000 "fsGroupChangePolicy" "OnRootMismatch" "seccompProfile" (dict "type" "RuntimeDefault") -}}
{{- include "shoppe.lib.overridden" (dict "own" $own "keys" ($root.Values.global).podSecurityContext) -}}
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
Input: dict root, and optionally serviceAccount (a name; without one the pod has no
Kubernetes token).
*/ -}}
{{- define "shoppe.lib.podDefaults" -}}
{{- if .serviceAccount }}
serviceAccountName: {{ .serviceAccount | quote }}
automountServiceAccountToken: true
{{- else }}
automountServiceAccountToken: false
{{- end }}
enableServiceLinks: false
securityContext:
  {{- include "shoppe.lib.podSecurityContext" . | nindent 2 }}
{{- with include "shoppe.lib.pullSecrets" . | fromYamlArray }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- /*
shoppe.lib.pod: a pod template (metadata and spec), as YAML: the component's own, what is the
same everywhere, and the keys of Kubernetes.
Input: dict
  root, component
  keys            the map of values that has the keys, such as .Values
  pod             the component's own, as YAML: spec, and optionally metadata.annotations
  images          KEY OF THE VALUES: image, of the containers
  serviceAccount  optionally, the name of the chart's own; the pod talks to Kubernetes
  of              optionally, of a pod that ends by itself: the component that shares its keys
*/ -}}
{{- define "shoppe.lib.pod" -}}
{{- $pod := fromYaml .pod -}}
{{- if $pod.Error }}{{ fail (printf "shoppe.lib.pod: the pod of %s is no YAML: %s" .component $pod.Error) }}{{ end -}}
{{- $keys := .keys -}}
{{- $global := .root.Values.global | default dict -}}
{{- $spec := $pod.spec -}}

{{- /* --- the component's own containers */ -}}
{{- $extraEnv := include "shoppe.lib.env" $keys.extraEnv | fromYamlArray -}}
{{- range $container := concat $spec.containers ($spec.initContainers | default list) -}}
{{- $context := include "shoppe.lib.containerSecurityContext" $ | fromYaml -}}
{{- $context = include "shoppe.lib.overridden" (dict "own" $context "keys" $container.securityContext) | fromYaml -}}
{{- $_ := include "shoppe.lib.overridden" (dict "own" $context "keys" $keys.securityContext) | fromYaml | set $container "securityContext" -}}
{{- with $extraEnv }}{{ $_ := include "shoppe.lib.replaced" (dict "own" $container.env "others" . "by" "name") | fromYamlArray | set $container "env" }}{{ end -}}
{{- with $keys.extraVolumeMounts }}{{ $_ := include "shoppe.lib.replaced" (dict "own" $container.volumeMounts "others" . "by" "mountPath") | fromYamlArray | set $container "volumeMounts" }}{{ end -}}
{{- range $key, $image := $.images -}}
{{- if and $image.pullPolicy (eq $container.image (include "shoppe.lib.image" (dict "root" $.root "image" $image "key" $key))) -}}
{{- $_ := set $container "imagePullPolicy" $image.pullPolicy -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- /* --- containers and volumes beside them */ -}}
{{- with include "shoppe.lib.restricted" $keys.initContainers | fromYamlArray }}{{ $_ := set $spec "initContainers" (concat . ($spec.initContainers | default list)) }}{{ end -}}
{{- if not .of -}}
{{- with include "shoppe.lib.restricted" $keys.extraContainers | fromYamlArray }}{{ $_ := set $spec "containers" (concat $spec.containers .) }}{{ end -}}
{{- end -}}
{{- with $keys.extraVolumes }}{{ $_ := include "shoppe.lib.replaced" (dict "own" $spec.volumes "others" . "by" "name") | fromYamlArray | set $spec "volumes" }}{{ end -}}

{{- /* --- where the pod runs; what the chart needs itself stays */ -}}
{{- range $key := list "nodeSelector" "tolerations" "affinity" "priorityClassName" -}}
{{- with get $keys $key | default (get $global $key) }}{{ if not (hasKey $spec $key) }}{{ $_ := set $spec $key . }}{{ end }}{{ end -}}
{{- end -}}
{{- $selector := dict "labelSelector" (dict "matchLabels" (include "shoppe.lib.selectorLabels" . | fromYaml)) -}}
{{- range $keys.topologySpreadConstraints -}}
{{- $constraint := hasKey . "labelSelector" | ternary . (merge (deepCopy .) $selector) -}}
{{- $_ := append ($spec.topologySpreadConstraints | default list) $constraint | set $spec "topologySpreadConstraints" -}}
{{- end -}}

{{- /* --- the pod itself */ -}}
{{- $account := include "shoppe.lib.serviceAccountName" . -}}
{{- $spec = merge $spec (include "shoppe.lib.podDefaults" (dict "root" .root "images" .images "serviceAccount" (and .serviceAccount $account)) | fromYaml) -}}
{{- with $account }}{{ $_ := set $spec "serviceAccountName" . }}{{ end -}}
{{- $_ := include "shoppe.lib.overridden" (dict "own" $spec.securityContext "keys" $keys.podSecurityContext) | fromYaml | set $spec "securityContext" -}}
{{- $labels := include "shoppe.lib.podLabels" . | fromYaml -}}
{{- $metadata := dict "labels" (include "shoppe.lib.overridden" (dict "own" ($keys.podLabels | default dict) "keys" $labels) | fromYaml) -}}
{{- $annotations := include "shoppe.lib.overridden" (dict "own" (($pod.metadata).annotations | default dict) "keys" $keys.podAnnotations) | fromYaml -}}
{{- with $annotations }}{{ $_ := set $metadata "annotations" . }}{{ end -}}
{{- toYaml (dict "metadata" $metadata "spec" $spec) -}}
{{- end -}}

{{- /*
shoppe.lib.overridden: a map, as YAML: own, each key of keys in place of its own, those that are
null left out.  Input: dict own, keys (may be nothing).
*/ -}}
{{- define "shoppe.lib.overridden" -}}
{{- $map := deepCopy .own -}}
{{- range $key, $value := .keys -}}
{{- if kindIs "invalid" $value }}{{ $map = omit $map $key }}{{ else }}{{ $_ := set $map $key $value }}{{ end -}}
{{- end -}}
{{- toYaml $map -}}
{{- end -}}

{{- /*
shoppe.lib.replaced: a list of maps, as YAML: own without those that others have, then others.
Input: dict own (may be nothing), others, by (the key that tells them apart).
*/ -}}
{{- define "shoppe.lib.replaced" -}}
{{- $names := list -}}
{{- $entries := list -}}
{{- range .others }}{{ $names = append $names (get . $.by) }}{{ end -}}
{{- range .own }}{{ if not (has (get . $.by) $names) }}{{ $entries = append $entries . }}{{ end }}{{ end -}}
{{- toYaml (concat $entries .others) -}}
{{- end -}}

{{- /*
shoppe.lib.restricted: containers, as YAML; keys that their securityContext lacks are the
charts'.  Input: a list, or nothing.
*/ -}}
{{- define "shoppe.lib.restricted" -}}
{{- $default := include "shoppe.lib.containerSecurityContext" . | fromYaml -}}
{{- $containers := list -}}
{{- range . -}}
{{- $context := include "shoppe.lib.overridden" (dict "own" $default "keys" .securityContext) | fromYaml -}}
{{- $containers = append $containers (set (deepCopy .) "securityContext" $context) -}}
{{- end -}}
{{- toYaml $containers -}}
{{- end -}}

{{- /*
shoppe.lib.env: environment variables as a container has them, as YAML.  Input: a map NAME:
VALUE or NAME: {valueFrom}, a list, or nothing.  A variable that is null is left out.
*/ -}}
{{- define "shoppe.lib.env" -}}
{{- $variables := list -}}
{{- if kindIs "map" . -}}
{{- range $name, $value := . -}}
{{- if kindIs "map" $value -}}
{{- $variables = append $variables (merge (dict "name" $name) $value) -}}
{{- else if not (kindIs "invalid" $value) -}}
{{- $variables = append $variables (dict "name" $name "value" (kindIs "string" $value | ternary $value (toJson $value))) -}}
{{- end -}}
{{- end -}}
{{- else -}}
{{- $variables = . | default list -}}
{{- end -}}
{{- toYaml $variables -}}
{{- end -}}
