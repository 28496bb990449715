{{- /*
shoppe.jupyterhub.services: the hub's services, as YAML, without those that were removed
and those whose address is a template that yields nothing.  Input: the root context.
*/ -}}
{{- define "shoppe.jupyterhub.services" -}}
{{- $services := dict -}}
{{- range $name, $service := .Values.hub.services -}}
{{- if and $service (include "shoppe.lib.kept" (dict "root" $ "text" ($service.url | default ""))) -}}
{{- $_ := set $services $name $service -}}
{{- end -}}
{{- end -}}
{{- tpl (toYaml $services) . -}}
{{- end -}}

{{- /*
shoppe.jupyterhub.facilityUsers: "true" where each user becomes a FacilityUser.  Input: the
root context.
*/ -}}
{{- define "shoppe.jupyterhub.facilityUsers" -}}
{{- include "shoppe.lib.flag" (dict "root" . "value" .Values.hub.facilityUsers.enabled "key" "jupyterhub.hub.facilityUsers.enabled") -}}
{{- end -}}

{{- /*
shoppe.jupyterhub.subdomainHost: the hub's address for browsers where users' servers have hosts of
their own; nothing otherwise.  Input: the root context.
*/ -}}
{{- define "shoppe.jupyterhub.subdomainHost" -}}
{{- tpl ((.Values.hub.config.JupyterHub).subdomain_host | default "") . | trimSuffix "/" -}}
{{- end -}}

{{- /*
shoppe.jupyterhub.settings: what jupyterhub_config.py reads, as YAML: the values
with templates expanded, and the names of this release's objects.
Input: the root context.
*/ -}}
{{- define "shoppe.jupyterhub.settings" -}}
servicesLabel: {{ include "shoppe.lib.servicesLabel" . }}
names:
  hub: {{ include "shoppe.jupyterhub.hub" . }}
  proxyApi: {{ include "shoppe.jupyterhub.proxyApi" . }}
  proxyPublic: {{ include "shoppe.jupyterhub.proxyPublic" . }}
  instance: {{ .Release.Name }}
userLabels:
  {{- include "shoppe.lib.podLabels" (dict "root" . "component" "singleuser-server") | nindent 2 }}
userImage: {{ include "shoppe.lib.image" (dict "root" . "image" .Values.singleuser.image "key" "jupyterhub.singleuser.image") }}
imagePullSecrets:
  {{- toYaml .Values.global.imagePullSecrets | nindent 2 }}
podSecurityContext:
  {{- include "shoppe.lib.podSecurityContext" . | nindent 2 }}
hub:
  {{- tpl (toYaml (pick .Values.hub "config" "db" "loadRoles" "extraConfig" "concurrentSpawnLimit" "activeServerLimit" "allowNamedServers")) . | nindent 2 }}
  services:
    {{- include "shoppe.jupyterhub.services" . | nindent 4 }}
  facilityUsers:
    enabled: {{ include "shoppe.jupyterhub.facilityUsers" . | default "false" }}
    timeout: {{ .Values.hub.facilityUsers.timeout }}
singleuser:
  {{- tpl (toYaml (omit .Values.singleuser "image" "networkPolicy" "profileList" "extraEnv")) . | nindent 2 }}
  extraEnv:
    {{- include "shoppe.lib.environment" (dict "root" . "own" .Values.singleuser.extraEnv) | nindent 4 }}
  profileList:
    {{- toYaml .Values.singleuser.profileList | nindent 4 }}
cull:
  {{- toYaml .Values.cull | nindent 2 }}
{{- end -}}
