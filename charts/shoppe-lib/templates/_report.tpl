{{- /*
shoppe.lib.report: stop with all problems at once, if there are any.  A component of a facility
stops nothing: the umbrella reports the problems of all (facility: true).
Input: dict root, problems (a newline-separated string; empty lines are dropped), and optionally
facility.
*/ -}}
{{- define "shoppe.lib.report" -}}
{{- $lines := list -}}
{{- range splitList "\n" .problems -}}
{{- with trim . }}{{ $lines = append $lines (printf "  - %s" .) }}{{ end -}}
{{- end -}}
{{- $component := (.root.Values.global).services | and (not .facility) -}}
{{- /* The schema allows the key, so that a facility can name what replaces it. */ -}}
{{- if and (hasKey .root.Values "enabled") (not $component) -}}
{{- $lines = append $lines "  - enabled is set, but a chart that is installed alone has no switch: remove the key" -}}
{{- end -}}
{{- if and $lines (not $component) -}}
{{- fail (printf "\ninvalid values of %s:\n%s" .root.Chart.Name (join "\n" $lines)) -}}
{{- end -}}
{{- end -}}
