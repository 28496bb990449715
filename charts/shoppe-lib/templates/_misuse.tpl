{{- /*
shoppe.lib.report: stop with all problems at once, if there are any.
Input: dict root, problems (a newline-separated string; empty lines are dropped).
*/ -}}
{{- define "shoppe.lib.report" -}}
{{- $lines := list -}}
{{- range splitList "\n" .problems -}}
{{- with trim . }}{{ $lines = append $lines (printf "  - %s" .) }}{{ end -}}
{{- end -}}
{{- if $lines -}}
{{- fail (printf "\nthe values of %s cannot work:\n%s" .root.Chart.Name (join "\n" $lines)) -}}
{{- end -}}
{{- end -}}
