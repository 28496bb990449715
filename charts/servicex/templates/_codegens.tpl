{{- /*
shoppe.servicex.codegenSettings: JSON of the names of the code generators that are enabled, and
of the files (NAME.py: text) of those that values add.  Input: the root context.
*/ -}}
{{- define "shoppe.servicex.codegenSettings" -}}
{{- $names := list -}}
{{- $files := dict -}}
{{- range $name, $codegen := .Values.codeGen -}}
{{- if hasKey $codegen "enabled" | ternary $codegen.enabled true -}}
{{- $names = append $names $name -}}
{{- with $codegen.source -}}{{- $_ := set $files (printf "%s.py" $name) . -}}{{- end -}}
{{- end -}}
{{- end -}}
{{- dict "names" $names "files" $files | toJson -}}
{{- end -}}

{{- /*
shoppe.servicex.codegensMount, shoppe.servicex.codegensVolume: the files' volume in each pod
that parses selections; empty without files.  Input: the root context.
*/ -}}
{{- define "shoppe.servicex.codegensMount" -}}
{{- if (include "shoppe.servicex.codegenSettings" . | fromJson).files }}
- name: codegens
  mountPath: /etc/codegens
  readOnly: true
{{- end }}
{{- end -}}
{{- define "shoppe.servicex.codegensVolume" -}}
{{- if (include "shoppe.servicex.codegenSettings" . | fromJson).files }}
- name: codegens
  configMap:
    name: {{ include "shoppe.servicex.codegens" . }}
{{- end }}
{{- end -}}
