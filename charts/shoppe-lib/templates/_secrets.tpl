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
