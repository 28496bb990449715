{{- /*
shoppe.jupyterhub.services: the hub's services, as YAML, without those that were removed
and those whose address is a template that yields nothing.  Input: the root context.
*/ -}}
{{- define "shoppe.jupyterhub.services" -}}
{{- $services := dict -}}
{{- range $name, $service := .Values.hub.services -}}
{{- if and $service (include "shoppe.lib.kept" (dict "root" $ "text" ($service.url | default ""))) -}}
{{- $expanded := deepCopy $service -}}
{{- range $key := list "url" "oauth_redirect_uri" -}}
{{- with get $service $key }}{{ $_ := set $expanded $key (tpl . $) }}{{ end -}}
{{- end -}}
{{- $_ := set $services $name $expanded -}}
{{- end -}}
{{- end -}}
{{- toYaml $services -}}
{{- end -}}

{{- /*
shoppe.jupyterhub.facilityUsers: "true" where each user becomes a FacilityUser.  Input: the
root context.
*/ -}}
{{- define "shoppe.jupyterhub.facilityUsers" -}}
{{- include "shoppe.lib.flag" (dict "root" . "value" (.Values.hub.facilityUsers.enabled | default "") "key" "jupyterhub.hub.facilityUsers.enabled") -}}
{{- end -}}

{{- /*
shoppe.jupyterhub.subdomainHost: the hub's address for browsers where users' servers have hosts of
their own; nothing otherwise.  Input: the root context.
*/ -}}
{{- define "shoppe.jupyterhub.subdomainHost" -}}
{{- tpl (.Values.hub.config.JupyterHub.subdomain_host | default "") . | trimSuffix "/" -}}
{{- end -}}

{{- /*
shoppe.jupyterhub.basePath: the path below which the hub is, without a slash at its end; nothing
for the root.  Input: the root context.
*/ -}}
{{- define "shoppe.jupyterhub.basePath" -}}
{{- .Values.hub.config.JupyterHub.base_url | default .Values.hub.baseUrl | default "/" | trimSuffix "/" -}}
{{- end -}}

{{- /*
shoppe.jupyterhub.values: the values that the hub reads, and that z2jh.get_config returns, as JSON:
YAML writes large numbers as 1e+06.  Input: the root context.
*/ -}}
{{- define "shoppe.jupyterhub.values" -}}
{{- $values := omit .Values "global" "shoppe-lib" "enabled" | deepCopy -}}
{{- $_ := set $values "proxy" (omit $values.proxy "chp") -}}
{{- with include "shoppe.jupyterhub.subdomainHost" . }}{{ $_ := set $values.hub.config.JupyterHub "subdomain_host" . }}{{ else }}{{ $_ := unset $values.hub.config.JupyterHub "subdomain_host" }}{{ end -}}
{{- $_ := include "shoppe.jupyterhub.services" . | fromYaml | set $values.hub "services" -}}
{{- $_ := set $values "Chart" (dict "Name" .Chart.Name "Version" .Chart.Version "AppVersion" .Chart.AppVersion) -}}
{{- $_ := set $values "Release" (pick .Release "Name" "Namespace" "Service") -}}
{{- toJson $values -}}
{{- end -}}

{{- /*
shoppe.jupyterhub.settings: what jupyterhub_config.py reads, as YAML: the values, what follows from
them, and the names of this release's objects.
Input: the root context.
*/ -}}
{{- define "shoppe.jupyterhub.settings" -}}
servicesLabel: {{ include "shoppe.lib.servicesLabel" . }}
names:
  hub: {{ include "shoppe.jupyterhub.hub" . }}
  proxyApi: {{ include "shoppe.jupyterhub.proxyApi" . }}
  proxyPublic: {{ include "shoppe.jupyterhub.proxyPublic" . }}
  instance: {{ .Release.Name }}
files: {{ include "shoppe.jupyterhub.userFiles" . }}
baseUrl: {{ include "shoppe.jupyterhub.basePath" . }}/
userLabels:
  {{- include "shoppe.lib.podLabels" (dict "root" . "component" "singleuser-server") | nindent 2 }}
userImage: {{ include "shoppe.lib.image" (dict "root" . "image" .Values.singleuser.image "key" "jupyterhub.singleuser.image") }}
imagePullSecrets:
  {{- include "shoppe.lib.pullSecrets" (dict "root" . "images" (dict "user" (include "shoppe.jupyterhub.image" (dict "root" . "image" .Values.singleuser.image) | fromYaml))) | nindent 2 }}
podSecurityContext:
  {{- include "shoppe.lib.podSecurityContext" . | nindent 2 }}
containerSecurityContext:
  {{- include "shoppe.lib.containerSecurityContext" . | nindent 2 }}
priorityClass: {{ if .Values.scheduling.podPriority.enabled }}{{ include "shoppe.jupyterhub.priority" . }}{{ else }}""{{ end }}
schedulerName: {{ include "shoppe.jupyterhub.schedulerName" . | quote }}
storageClass: {{ .Values.singleuser.storage.dynamic.storageClass | default .Values.singleuser.storage.storageClass | default .Values.global.storageClass | default "" | quote }}
environment:
  {{- include "shoppe.lib.environment" (dict "root" . "own" .Values.singleuser.environment) | nindent 2 }}
facilityUsers:
  enabled: {{ include "shoppe.jupyterhub.facilityUsers" . | default "false" }}
  timeout: {{ .Values.hub.facilityUsers.timeout | default 90 | int64 }}
values: {{ include "shoppe.jupyterhub.values" . }}
{{- end -}}
