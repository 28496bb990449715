{{- /*
shoppe.jupyterhub.settings: what jupyterhub_config.py reads, as YAML: the values
with templates expanded, and the names of this release's objects.
Input: the root context.
*/ -}}
{{- define "shoppe.jupyterhub.settings" -}}
names:
  hub: {{ include "shoppe.jupyterhub.hub" . }}
  proxyApi: {{ include "shoppe.jupyterhub.proxyApi" . }}
  proxyPublic: {{ include "shoppe.jupyterhub.proxyPublic" . }}
  instance: {{ .Release.Name }}
userLabels:
  {{- include "shoppe.lib.podLabels" (dict "root" . "component" "singleuser-server") | nindent 2 }}
userImage: {{ include "shoppe.lib.image" (dict "image" .Values.singleuser.image "key" "jupyterhub.singleuser.image") }}
imagePullSecrets:
  {{- toYaml .Values.global.imagePullSecrets | nindent 2 }}
podSecurityContext:
  {{- include "shoppe.lib.podSecurityContext" . | nindent 2 }}
hub:
  {{- tpl (toYaml (pick .Values.hub "config" "db" "services" "loadRoles" "facilityUsers" "extraConfig" "concurrentSpawnLimit" "activeServerLimit" "allowNamedServers")) . | nindent 2 }}
singleuser:
  {{- tpl (toYaml (omit .Values.singleuser "image" "networkPolicy" "profileList")) . | nindent 2 }}
  profileList:
    {{- toYaml .Values.singleuser.profileList | nindent 4 }}
cull:
  {{- toYaml .Values.cull | nindent 2 }}
{{- end -}}
