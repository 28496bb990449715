{{- /*
Volumes that outlive pods.  A chart has its claims itself, since the claims of a StatefulSet
never change, and a claim can grow.
*/ -}}

{{- /*
shoppe.lib.claimName: the claim that pods mount.  Input: dict name (of the chart's own), keys
(the map of values that has size and storageClass).
*/ -}}
{{- define "shoppe.lib.claimName" -}}{{ .keys.existingClaim | default .name }}{{- end -}}

{{- /*
shoppe.lib.storageClass: the class that values name for a claim; nothing for the cluster's
default.  Input: dict root, keys.
*/ -}}
{{- define "shoppe.lib.storageClass" -}}
{{- .keys.storageClass | default (.root.Values.global).storageClass | default "" -}}
{{- end -}}

{{- /*
shoppe.lib.claim: the object, or nothing where values name another claim.  A claim that is there
keeps the class that the cluster chose for it.
Input: dict root, component, name, keys.
*/ -}}
{{- define "shoppe.lib.claim" -}}
{{- if not .keys.existingClaim -}}
{{- $there := lookup "v1" "PersistentVolumeClaim" .root.Release.Namespace .name | default dict -}}
apiVersion: v1
kind: PersistentVolumeClaim
metadata:
  name: {{ .name }}
  labels:
    {{- include "shoppe.lib.labels" . | nindent 4 }}
  annotations:
    helm.sh/resource-policy: keep
    {{- with .keys.annotations }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  accessModes:
    {{- .keys.accessModes | default (list "ReadWriteOnce") | toYaml | nindent 4 }}
  {{- with include "shoppe.lib.storageClass" . | default ($there.spec).storageClassName }}
  storageClassName: {{ . }}
  {{- end }}
  resources:
    requests:
      storage: {{ .keys.size }}
{{- end -}}
{{- end -}}

{{- /*
shoppe.lib.claimProblems: what a claim that is there cannot do, one problem a line; nothing
without a cluster.  The class is read only where the claim grows, since not everybody may.
Input: dict root, name, keys, where (the path of keys in the values).
*/ -}}
{{- define "shoppe.lib.claimProblems" -}}
{{- $claim := dict -}}
{{- if not .keys.existingClaim }}{{ $claim = lookup "v1" "PersistentVolumeClaim" .root.Release.Namespace .name | default dict }}{{ end -}}
{{- with $claim.spec -}}
{{- $class := .storageClassName | default "" -}}
{{- $chosen := include "shoppe.lib.storageClass" $ -}}
{{- $remedy := "or move the data to another claim (docs/how-to/volumes.md)" -}}
{{- if and $chosen (ne $chosen $class) }}
{{ printf "%s.storageClass (or global.storageClass) is %q, but the claim %s is of the class %q, and a claim keeps its class: set %q, %s" $.where $chosen $.name $class $class $remedy }}
{{- end -}}
{{- $modes := $.keys.accessModes | default (list "ReadWriteOnce") -}}
{{- if ne (toJson $modes) (toJson .accessModes) }}
{{ printf "%s.accessModes are %s, but the claim %s has %s, and a claim keeps them: set these, %s" $.where (join ", " $modes) $.name (join ", " .accessModes) $remedy }}
{{- end -}}
{{- $request := .resources.requests.storage -}}
{{- $size := include "shoppe.lib.bytes" $.keys.size | float64 -}}
{{- $bytes := include "shoppe.lib.bytes" $request | float64 -}}
{{- /* A request that was never met may go down to what the volume has. */ -}}
{{- $capacity := (($claim.status).capacity).storage | default $request -}}
{{- if and (lt $size $bytes) (lt $size (include "shoppe.lib.bytes" $capacity | float64)) }}
{{ printf "%s.size is %v, but the claim %s has %v, and volumes do not shrink: set %v, %s" $.where $.keys.size $.name $request $request $remedy }}
{{- else if gt $size $bytes -}}
{{- $definition := lookup "storage.k8s.io/v1" "StorageClass" "" $class -}}
{{- if not ($definition | default dict).allowVolumeExpansion }}
{{ printf "%s.size is %v, but the claim %s has %v of the class %q, which does not allow expansion: set %v, %s" $.where $.keys.size $.name $request $class $request $remedy }}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- /*
shoppe.lib.bytes: a quantity of Kubernetes, in bytes.  Input: the quantity.
*/ -}}
{{- define "shoppe.lib.bytes" -}}
{{- $units := dict "m" 1e-3 "" 1 "k" 1e3 "M" 1e6 "G" 1e9 "T" 1e12 "P" 1e15 "E" 1e18 "Ki" 1024 "Mi" 1048576 "Gi" 1073741824 "Ti" 1099511627776 "Pi" 1125899906842624 "Ei" 1152921504606846976 -}}
{{- $number := toString . | regexFind "^[0-9.]+([eE][0-9]+)?" -}}
{{- mulf (float64 $number) (get $units (trimPrefix $number (toString .)) | float64) -}}
{{- end -}}
