{{- /*
What the pods of this chart share: z2jh's keys as those of shoppe.lib.pod, images, files.
*/ -}}

{{- /*
shoppe.jupyterhub.image: an image, as YAML, with the pull secrets that all images of the chart
have.  Input: dict root, image, and optionally pullSecret (the Secret in place of the chart's).
*/ -}}
{{- define "shoppe.jupyterhub.image" -}}
{{- $values := .root.Values -}}
{{- $secrets := list -}}
{{- if and $values.imagePullSecret.create $values.imagePullSecret.automaticReferenceInjection -}}
{{- $secrets = append $secrets (.pullSecret | default (include "shoppe.jupyterhub.imagePull" .root)) -}}
{{- end -}}
{{- $secrets = concat $secrets ($values.imagePullSecrets | default list) (.image.pullSecrets | default list) -}}
{{- toYaml (merge (dict "pullSecrets" $secrets) .image) -}}
{{- end -}}

{{- /*
shoppe.jupyterhub.corePod: the template of the pod of the hub or of its proxy.  Input: that of
shoppe.lib.pod, where keys may also have z2jh's names, and annotations, labels (of the pod).
*/ -}}
{{- define "shoppe.jupyterhub.corePod" -}}
{{- $values := .root.Values -}}
{{- $keys := deepCopy .keys -}}
{{- $_ := set $keys "podAnnotations" (mergeOverwrite (dict) (.annotations | default dict) ($keys.podAnnotations | default dict)) -}}
{{- $_ := set $keys "podLabels" (mergeOverwrite (dict) (.labels | default dict) ($keys.podLabels | default dict)) -}}
{{- $_ := set $keys "securityContext" (mergeOverwrite (dict) ($keys.containerSecurityContext | default dict) ($keys.securityContext | default dict)) -}}
{{- $own := $keys.tolerations | default .root.Values.global.tolerations | default list -}}
{{- $_ := set $keys "tolerations" (concat ($values.scheduling.corePods.tolerations | default list) $own) -}}
{{- if $values.scheduling.podPriority.enabled -}}
{{- $_ := set $keys "priorityClassName" ($keys.priorityClassName | default (include "shoppe.jupyterhub.priority" .root)) -}}
{{- end -}}
{{- if not $keys.affinity -}}
{{- $_ := include "shoppe.jupyterhub.nodeAffinity" (dict "purpose" "core" "match" $values.scheduling.corePods.nodeAffinity.matchNodePurpose) | fromYaml | set $keys "affinity" -}}
{{- end -}}
{{- $pod := include "shoppe.lib.pod" (merge (dict "keys" $keys) .) | fromYaml -}}
{{- $_ := mergeOverwrite $pod.spec ($keys.extraPodSpec | default dict) -}}
{{- toYaml $pod -}}
{{- end -}}

{{- /*
shoppe.jupyterhub.nodeAffinity: an affinity, as YAML, to nodes with a purpose, or nothing.  Input:
dict purpose (core or user), match (prefer, require or ignore), and optionally required and
preferred (further terms).
*/ -}}
{{- define "shoppe.jupyterhub.nodeAffinity" -}}
{{- $term := dict "matchExpressions" (list (dict "key" "hub.jupyter.org/node-purpose" "operator" "In" "values" (list .purpose))) -}}
{{- $required := .required | default list -}}
{{- $preferred := .preferred | default list -}}
{{- if eq (toString .match) "require" }}{{ $required = append $required $term }}{{ end -}}
{{- if eq (toString .match) "prefer" }}{{ $preferred = append $preferred (dict "weight" 100 "preference" $term) }}{{ end -}}
{{- $affinity := dict -}}
{{- with $required }}{{ $_ := set $affinity "requiredDuringSchedulingIgnoredDuringExecution" (dict "nodeSelectorTerms" .) }}{{ end -}}
{{- with $preferred }}{{ $_ := set $affinity "preferredDuringSchedulingIgnoredDuringExecution" . }}{{ end -}}
{{- with $affinity }}{{ toYaml (dict "nodeAffinity" .) }}{{ end -}}
{{- end -}}

{{- /*
shoppe.jupyterhub.files: NAME: CONTENT in base64, as YAML, of files in values.  Input: extraFiles.
*/ -}}
{{- define "shoppe.jupyterhub.files" -}}
{{- $files := dict -}}
{{- range $name, $file := . -}}
{{- $content := $file.stringData | default "" | b64enc -}}
{{- with $file.binaryData }}{{ $content = . | nospace }}{{ end -}}
{{- with $file.data -}}
{{- $content = toYaml . | b64enc -}}
{{- if hasSuffix ".json" $file.mountPath }}{{ $content = toPrettyJson . | b64enc }}{{ end -}}
{{- if hasSuffix ".toml" $file.mountPath }}{{ $content = toToml . | b64enc }}{{ end -}}
{{- end -}}
{{- $_ := set $files $name $content -}}
{{- end -}}
{{- toYaml $files -}}
{{- end -}}

{{- /*
shoppe.jupyterhub.userAffinity: the affinity of users' servers, as YAML, for pods that run where
these do.  Input: the root context.
*/ -}}
{{- define "shoppe.jupyterhub.userAffinity" -}}
{{- $terms := .Values.singleuser.extraNodeAffinity -}}
{{- $affinity := include "shoppe.jupyterhub.nodeAffinity" (dict "purpose" "user" "match" .Values.scheduling.userPods.nodeAffinity.matchNodePurpose "required" $terms.required "preferred" $terms.preferred) | fromYaml -}}
{{- range $key, $of := dict "podAffinity" .Values.singleuser.extraPodAffinity "podAntiAffinity" .Values.singleuser.extraPodAntiAffinity -}}
{{- $rules := dict -}}
{{- with $of.required }}{{ $_ := set $rules "requiredDuringSchedulingIgnoredDuringExecution" . }}{{ end -}}
{{- with $of.preferred }}{{ $_ := set $rules "preferredDuringSchedulingIgnoredDuringExecution" . }}{{ end -}}
{{- with $rules }}{{ $_ := set $affinity $key . }}{{ end -}}
{{- end -}}
{{- toYaml $affinity -}}
{{- end -}}
