{{- /*
shoppe.jupyterhub.generatedSecrets: see shoppe.lib.generatedSecrets.  Input: the root context.
*/ -}}
{{- define "shoppe.jupyterhub.generatedSecrets" -}}
key: jupyterhub.hub.image
image:
  {{- toYaml .Values.hub.image | nindent 2 }}
keys:
  {{- include "shoppe.lib.jobKeys" .Values.hub | nindent 2 }}
secrets:
  {{- if not (tpl (.Values.hub.existingSecret | default "") .) }}
  - name: {{ include "shoppe.jupyterhub.hub" . }}
    labels:
      {{- include "shoppe.lib.labels" (dict "root" . "component" "hub") | nindent 6 }}
    keys:
      {{- include "shoppe.jupyterhub.generatedKeys" . | nindent 6 }}
  {{- end }}
{{- end -}}

{{- /*
shoppe.jupyterhub.generatedKeys: the keys of the hub's Secret, and what the values say of them.
Input: the root context.
*/ -}}
{{- define "shoppe.jupyterhub.generatedKeys" -}}
{{- $config := .Values.hub.config -}}
{{- $keys := ($config.CryptKeeper).keys | default "" -}}
hub.config.CryptKeeper.keys: {hex: 32, value: {{ kindIs "slice" $keys | ternary (join ";" $keys) (toString $keys) | toJson }}}
hub.config.ConfigurableHTTPProxy.auth_token: {hex: 32, value: {{ ($config.ConfigurableHTTPProxy).auth_token | default .Values.proxy.secretToken | default "" | toString | toJson }}}
hub.config.JupyterHub.cookie_secret: {hex: 32, value: {{ $config.JupyterHub.cookie_secret | default .Values.hub.cookieSecret | default "" | toString | toJson }}}
hub.config.SharedPasswordAuthenticator.user_password: {characters: 24}
hub.config.SharedPasswordAuthenticator.admin_password: {characters: 40}
{{- $services := include "shoppe.jupyterhub.services" . | fromYaml -}}
{{- if .Values.hub.monitoring.enabled }}{{ $services = merge $services (dict "monitoring" dict) }}{{ end -}}
{{- range $service, $fields := $services }}
{{ printf "hub.services.%s.apiToken" $service }}: {hex: 32, value: {{ $fields.apiToken | default $fields.api_token | default "" | toString | toJson }}}
{{- end }}
{{- end -}}
