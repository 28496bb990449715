{{- /*
shoppe.facility.replaced: keys of components that the facility fills, as YAML, KEY: the key
below global.services (or global) that says it for all components.
*/ -}}
{{- define "shoppe.facility.replaced" -}}
dask-gateway.gateway.backend.namespace: global.services.dask-gateway.namespace
dask-gateway.gateway.auth.jupyterhub.apiTokenFromSecretName: global.services.jupyterhub.existingSecret
jupyterhub.hub.existingSecret: global.services.jupyterhub.existingSecret
mlflow.auth.api: global.services.operator.enabled
mlflow.auth.issuer: global.services.operator.issuer
objectstore.existingSecret: global.services.objectstore.existingSecret
operator.api.hub.existingSecret: global.services.jupyterhub.existingSecret
operator.api.hub.publicUrl: global.services.jupyterhub.subdomainHost
operator.api.hub.servicesUrl: global.services.jupyterhub.subdomainHost
operator.api.hub.url: global.services.jupyterhub.enabled
operator.connections: global.services.NAME.url
operator.dask.health: global.services.dask-gateway.enabled
operator.dask.pods.namespace: global.services.dask-gateway.namespace
operator.issuer: global.services.operator.issuer
operator.mlflow.bucket: global.services.objectstore.bucket
operator.mlflow.endpoint: global.services.mlflow.url
operator.objectStore.adminEndpoint: global.services.objectstore.adminUrl
operator.objectStore.endpoint: global.services.objectstore.url
operator.objectStore.existingSecret: global.services.objectstore.existingSecret
operator.objectStore.services: global.services.NAME.enabled
operator.objectStore.writers: global.services.servicex.enabled
operator.servicex.endpoint: global.services.servicex.enabled
operator.triton.bucket: global.services.objectstore.url
operator.triton.deployment: global.services.triton.enabled
operator.triton.endpoint: global.services.triton.url
postgresql.existingSecrets: global.services.postgresql.existingSecrets
servicex.app.tokens.api: global.services.operator.enabled
servicex.app.tokens.issuer: global.services.operator.issuer
triton.modelRepository.s3.bucket: global.services.objectstore.url
triton.modelRepository.s3.endpoint: global.services.objectstore.url
triton.modelRepository.s3.existingSecret: global.services.objectstore.existingSecret
triton.proxy.api: global.services.operator.enabled
triton.proxy.issuer: global.services.operator.issuer
{{- end -}}

{{- /*
shoppe.facility.replacedProblems: those of them that are set all the same, and switches and
addresses of earlier versions, one problem a line.  Input: the umbrella's root context.
*/ -}}
{{- define "shoppe.facility.replacedProblems" -}}
{{- range $key, $replacement := include "shoppe.facility.replaced" . | fromYaml -}}
{{- $value := $.Values -}}
{{- range splitList "." $key -}}
{{- if kindIs "map" $value }}{{ $value = get $value . }}{{ else }}{{ $value = "" }}{{ end -}}
{{- end -}}
{{- $filled := and (kindIs "string" $value) (or (not $value) (contains "shoppe.facility." $value) (contains ".Values.global." $value)) -}}
{{- if not $filled }}
{{ printf "%s is set, but follows from global.services: set %s instead" $key $replacement }}
{{- end -}}
{{- end -}}
{{- range $service, $_ := .Values.global.services -}}
{{- if hasKey (get $.Values $service | default dict) "enabled" }}
{{ printf "%s.enabled is set: set global.services.%s.enabled instead" $service $service }}
{{- end -}}
{{- end -}}
{{- if .Values.servicex.external }}
servicex.external.url is set: set global.services.servicex.url and issuer instead, and enabled to false
{{- end -}}
{{- end -}}
