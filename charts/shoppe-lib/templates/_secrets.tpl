{{- /*
shoppe.lib.missingSecret: a problem where the chart would generate a Secret, but must not
(global.generateSecrets: false); nothing otherwise.  Input: dict root, secret (the name that the
values have, or nothing), key (of that name), facilityKey (optional: the key that has it in a
facility), keys (what the Secret contains).
*/ -}}
{{- define "shoppe.lib.missingSecret" -}}
{{- $global := .root.Values.global | default dict -}}
{{- if and (hasKey $global "generateSecrets") (not $global.generateSecrets) (not .secret) -}}
{{- $key := empty $global.services | ternary .key (.facilityKey | default .key) -}}
{{- printf "global.generateSecrets is false, but %s is empty: set it to a Secret with %s, or global.generateSecrets to true" $key .keys -}}
{{- end -}}
{{- end -}}

{{- /*
shoppe.lib.generatedSecrets: the hooks that create a release's Secrets before each installation
and upgrade, and keep the keys that are there: a job, and what it needs.  Nothing where there are
no Secrets to create, or where the chart is a component of another one, which has them all.
Input: dict root, and charts: a list of what the template shoppe.CHART.generatedSecrets gives,
  image, key   the image in which the job may run, and its key of the values
  keys         the map of values with the keys of Kubernetes that the job shares
  secrets      a list of name, labels, and keys: see images/base/generate_secrets.py
*/ -}}
{{- define "shoppe.lib.generatedSecrets" -}}
{{- $secrets := list -}}
{{- range .charts }}{{ $secrets = concat $secrets (.secrets | default list) }}{{ end -}}
{{- if and .root.Chart.IsRoot $secrets -}}
{{- $name := include "shoppe.lib.fullname" (dict "root" .root "suffix" "secrets") -}}
{{- $head := dict "root" .root "component" "secrets" "name" $name -}}
{{- $names := list -}}
{{- range $secrets }}{{ $names = append $names .name }}{{ end -}}
{{- $first := first .charts -}}
{{- $pod := dict
  "root" .root
  "component" "secrets"
  "of" "secrets"
  "keys" $first.keys
  "images" (dict $first.key $first.image)
  "serviceAccount" $name
  "pod" (include "shoppe.lib.generatingPod" (dict "root" .root "chart" $first "name" $name)) -}}
apiVersion: v1
kind: ServiceAccount
metadata:
  {{- include "shoppe.lib.beforeInstall" (dict "head" $head "weight" -20) | nindent 2 }}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata:
  {{- include "shoppe.lib.beforeInstall" (dict "head" $head "weight" -20) | nindent 2 }}
rules:
  # Kubernetes cannot limit the creation of objects to some names.
  - apiGroups: [""]
    resources: [secrets]
    verbs: [create]
  - apiGroups: [""]
    resources: [secrets]
    resourceNames:
      {{- toYaml $names | nindent 6 }}
    verbs: [get, patch]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata:
  {{- include "shoppe.lib.beforeInstall" (dict "head" $head "weight" -20) | nindent 2 }}
roleRef:
  apiGroup: rbac.authorization.k8s.io
  kind: Role
  name: {{ $name }}
subjects:
  - kind: ServiceAccount
    name: {{ $name }}
    namespace: {{ .root.Release.Namespace }}
---
# What the values say of these Secrets is in it, so it is a Secret, too.
apiVersion: v1
kind: Secret
metadata:
  {{- include "shoppe.lib.beforeInstall" (dict "head" $head "weight" -20) | nindent 2 }}
type: Opaque
data:
  secrets.json: {{ toJson $secrets | b64enc }}
---
apiVersion: batch/v1
kind: Job
metadata:
  {{- include "shoppe.lib.beforeInstall" (dict "head" $head "weight" -10) | nindent 2 }}
spec:
  backoffLimit: 4
  activeDeadlineSeconds: 240
  template:
    {{- include "shoppe.lib.pod" $pod | nindent 4 }}
{{- end -}}
{{- end -}}

{{- /*
shoppe.lib.beforeInstall: metadata of a hook that runs before all else of an installation or
upgrade, and is removed afterwards.  Input: dict head (root, component, name), weight.
*/ -}}
{{- define "shoppe.lib.beforeInstall" -}}
name: {{ .head.name }}
labels:
  {{- include "shoppe.lib.labels" .head | nindent 2 }}
annotations:
  helm.sh/hook: pre-install,pre-upgrade
  helm.sh/hook-weight: {{ .weight | quote }}
  helm.sh/hook-delete-policy: before-hook-creation,hook-succeeded
{{- end -}}

{{- /*
shoppe.lib.generatingPod: the job's pod, without what all pods have.  Input: dict root, chart, name.
*/ -}}
{{- define "shoppe.lib.generatingPod" -}}
spec:
  restartPolicy: Never
  containers:
    - name: secrets
      image: {{ include "shoppe.lib.image" (dict "root" .root "image" .chart.image "key" .chart.key) }}
      args: [generate-secrets, /run/secrets.json]
      terminationMessagePolicy: FallbackToLogsOnError
      resources:
        {{- toYaml .chart.keys.resources | nindent 8 }}
      volumeMounts:
        - name: secrets
          mountPath: /run/secrets.json
          subPath: secrets.json
          readOnly: true
  volumes:
    - name: secrets
      secret:
        secretName: {{ .name }}
{{- end -}}

{{- /*
shoppe.lib.jobKeys: the keys of Kubernetes that a component's values have for its pods and that
a job in its image shares, as YAML.  Input: the map of values.
*/ -}}
{{- define "shoppe.lib.jobKeys" -}}
{{- pick . "nodeSelector" "tolerations" "affinity" "priorityClassName" "podSecurityContext" "securityContext" "resources" | toYaml -}}
{{- end -}}
