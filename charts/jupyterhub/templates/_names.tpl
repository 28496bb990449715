{{- /*
Names of this component's objects.  Input: the root context.
*/ -}}
{{- define "shoppe.jupyterhub.hub" -}}{{ include "shoppe.lib.fullname" (dict "root" . "suffix" "hub") }}{{- end -}}
{{- define "shoppe.jupyterhub.hubAccount" -}}{{ include "shoppe.lib.serviceAccountName" (dict "root" . "keys" .Values.hub "serviceAccount" (include "shoppe.jupyterhub.hub" .)) }}{{- end -}}
{{- define "shoppe.jupyterhub.hubSettings" -}}{{ include "shoppe.lib.fullname" (dict "root" . "suffix" "hub-settings") }}{{- end -}}
{{- define "shoppe.jupyterhub.proxy" -}}{{ include "shoppe.lib.fullname" (dict "root" . "suffix" "proxy") }}{{- end -}}
{{- define "shoppe.jupyterhub.proxyApi" -}}{{ include "shoppe.lib.fullname" (dict "root" . "suffix" "proxy-api") }}{{- end -}}
{{- define "shoppe.jupyterhub.proxyPublic" -}}{{ include "shoppe.lib.fullname" (dict "root" . "suffix" "proxy-public") }}{{- end -}}
{{- define "shoppe.jupyterhub.proxyHttp" -}}{{ include "shoppe.lib.fullname" (dict "root" . "suffix" "proxy-http") }}{{- end -}}
{{- define "shoppe.jupyterhub.autohttps" -}}{{ include "shoppe.lib.fullname" (dict "root" . "suffix" "autohttps") }}{{- end -}}
{{- define "shoppe.jupyterhub.proxyTls" -}}{{ include "shoppe.lib.fullname" (dict "root" . "suffix" "proxy-tls") }}{{- end -}}
{{- define "shoppe.jupyterhub.userFiles" -}}{{ include "shoppe.lib.fullname" (dict "root" . "suffix" "singleuser") }}{{- end -}}
{{- define "shoppe.jupyterhub.imagePull" -}}{{ include "shoppe.lib.fullname" (dict "root" . "suffix" "image-pull") }}{{- end -}}
{{- define "shoppe.jupyterhub.imagePuller" -}}{{ include "shoppe.lib.fullname" (dict "root" . "suffix" "image-puller") }}{{- end -}}
{{- define "shoppe.jupyterhub.hookImagePull" -}}{{ include "shoppe.lib.fullname" (dict "root" . "suffix" "hook-image-pull") }}{{- end -}}
{{- define "shoppe.jupyterhub.hookImagePuller" -}}{{ include "shoppe.lib.fullname" (dict "root" . "suffix" "hook-image-puller") }}{{- end -}}
{{- define "shoppe.jupyterhub.imageAwaiter" -}}{{ include "shoppe.lib.fullname" (dict "root" . "suffix" "hook-image-awaiter") }}{{- end -}}
{{- define "shoppe.jupyterhub.userScheduler" -}}{{ include "shoppe.lib.fullname" (dict "root" . "suffix" "user-scheduler") }}{{- end -}}
{{- define "shoppe.jupyterhub.userPlaceholder" -}}{{ include "shoppe.lib.fullname" (dict "root" . "suffix" "user-placeholder") }}{{- end -}}
{{- define "shoppe.jupyterhub.secret" -}}
{{ tpl (.Values.hub.existingSecret | default "") . | default (include "shoppe.jupyterhub.hub" .) }}
{{- end -}}

{{- /*
shoppe.jupyterhub.priority and those of pullers and placeholders: PriorityClasses, which belong to
the whole cluster.  Input: the root context.
*/ -}}
{{- define "shoppe.jupyterhub.priority" -}}{{ printf "%s-%s" .Release.Namespace (include "shoppe.lib.fullname" (dict "root" . "suffix" "default")) }}{{- end -}}
{{- define "shoppe.jupyterhub.imagePullerPriority" -}}{{ printf "%s-%s" .Release.Namespace (include "shoppe.jupyterhub.imagePuller" .) }}{{- end -}}
{{- define "shoppe.jupyterhub.userPlaceholderPriority" -}}{{ printf "%s-%s" .Release.Namespace (include "shoppe.jupyterhub.userPlaceholder" .) }}{{- end -}}
