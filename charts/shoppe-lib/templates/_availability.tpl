{{- /*
What users notice while pods are replaced: PodDisruptionBudgets, which say how many pods of a
component a drain of nodes may stop at once, and how a container stops.
*/ -}}

{{- /*
shoppe.lib.lifecycle: how a server's container stops, as YAML: it serves until no node sends it new
connections.  One that is sent to a pod which is gone waits for the client's timeout.  Input: none.
*/ -}}
{{- define "shoppe.lib.lifecycle" -}}
preStop:
  exec:
    command: [sleep, "10"]
{{- end -}}

{{- /*
shoppe.lib.podDisruptionBudget: the object, or nothing without pdb.enabled.  As in z2jh,
maxUnavailable comes before minAvailable, which is 1 by default.  Input: dict root, component,
name, keys (the map of values that has `pdb`), namespace (that of the pods, if it is another one
than the release's).
*/ -}}
{{- define "shoppe.lib.podDisruptionBudget" -}}
{{- $budget := .keys.pdb | default dict -}}
{{- if $budget.enabled -}}
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  name: {{ .name }}
  {{- with .namespace }}
  namespace: {{ . | quote }}
  {{- end }}
  labels:
    {{- include "shoppe.lib.labels" . | nindent 4 }}
spec:
  {{- if kindIs "invalid" $budget.maxUnavailable }}
  minAvailable: {{ kindIs "invalid" $budget.minAvailable | ternary 1 $budget.minAvailable }}
  {{- else }}
  maxUnavailable: {{ $budget.maxUnavailable }}
  {{- end }}
  selector:
    matchLabels:
      {{- include "shoppe.lib.selectorLabels" . | nindent 6 }}
{{- end -}}
{{- end -}}

{{- /*
shoppe.lib.budgetProblem: what Kubernetes would refuse; nothing otherwise.  Input: dict keys, where
(the path of `pdb` in the values).
*/ -}}
{{- define "shoppe.lib.budgetProblem" -}}
{{- $budget := .keys.pdb | default dict -}}
{{- if and $budget.enabled (eq (hasKey $budget "minAvailable") (hasKey $budget "maxUnavailable")) -}}
{{- printf "%s.enabled is true: set one of %s.minAvailable and %s.maxUnavailable" .where .where .where -}}
{{- end -}}
{{- end -}}
