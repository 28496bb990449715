{{- /*
shoppe.dask-gateway.configMounts and .configVolumes: the configuration files that
server and controller share, and a writable /tmp.  Input: the root context.
*/ -}}
{{- define "shoppe.dask-gateway.configMounts" -}}
- name: config
  mountPath: /etc/dask-gateway
  readOnly: true
- name: tmp
  mountPath: /tmp
{{- end -}}
{{- define "shoppe.dask-gateway.configVolumes" -}}
- name: config
  projected:
    sources:
      - configMap:
          name: {{ include "shoppe.dask-gateway.api" . }}
      - secret:
          name: {{ include "shoppe.dask-gateway.settingsSecret" . }}
- name: tmp
  emptyDir: {}
{{- end -}}

{{- /*
shoppe.dask-gateway.configChecksum: changes with these files.  Input: the root context.
*/ -}}
{{- define "shoppe.dask-gateway.configChecksum" -}}
{{- print (include (print .Template.BasePath "/gateway/configmap.yaml") .) (include (print .Template.BasePath "/gateway/secret-settings.yaml") .) | sha256sum -}}
{{- end -}}

{{- /*
shoppe.dask-gateway.image: a component's image, as YAML, with the pull secrets of the component.
Input: the component's values.
*/ -}}
{{- define "shoppe.dask-gateway.image" -}}
{{- toYaml (merge (dict "pullSecrets" (concat (.imagePullSecrets | default list) (.image.pullSecrets | default list))) .image) -}}
{{- end -}}

{{- /*
shoppe.dask-gateway.keys: a component's keys for shoppe.lib.pod, as YAML, with upstream's names of
some.  Input: dict keys (the component's values), rbac (upstream's of the component).
*/ -}}
{{- define "shoppe.dask-gateway.keys" -}}
{{- $keys := deepCopy .keys -}}
{{- $_ := set $keys "podAnnotations" (mergeOverwrite (dict) ($keys.annotations | default dict) ($keys.podAnnotations | default dict)) -}}
{{- with $keys.env -}}
{{- $_ := include "shoppe.lib.replaced" (dict "own" . "others" (include "shoppe.lib.env" $keys.extraEnv | fromYamlArray) "by" "name") | fromYamlArray | set $keys "extraEnv" -}}
{{- end -}}
{{- with .rbac.serviceAccountName -}}
{{- $_ := set $keys "serviceAccount" (mergeOverwrite (dict "name" . "create" false) ($keys.serviceAccount | default dict)) -}}
{{- end -}}
{{- toYaml $keys -}}
{{- end -}}

{{- /*
shoppe.dask-gateway.makesRoles: "true" where the chart creates the rights of a component.  Input:
dict root, component.
*/ -}}
{{- define "shoppe.dask-gateway.makesRoles" -}}
{{- $rbac := .root.Values.rbac -}}
{{- if and $rbac.enabled (not (get $rbac .component).serviceAccountName) }}true{{ end -}}
{{- end -}}

{{- /*
shoppe.dask-gateway.account: the name of a component's ServiceAccount.  Input: dict root,
component, name (the chart's own).
*/ -}}
{{- define "shoppe.dask-gateway.account" -}}
{{- $keys := include "shoppe.dask-gateway.keys" (dict "keys" (get .root.Values .component) "rbac" (get .root.Values.rbac .component)) | fromYaml -}}
{{- include "shoppe.lib.serviceAccountName" (dict "root" .root "keys" $keys "serviceAccount" .name) -}}
{{- end -}}

{{- /*
shoppe.dask-gateway.accountObject: that ServiceAccount, or nothing.  Further input: namespace
(optional).
*/ -}}
{{- define "shoppe.dask-gateway.accountObject" -}}
{{- if .root.Values.rbac.enabled -}}
{{- $keys := include "shoppe.dask-gateway.keys" (dict "keys" (get .root.Values .component) "rbac" (get .root.Values.rbac .component)) | fromYaml -}}
{{- include "shoppe.lib.serviceAccount" (merge (dict "keys" $keys "serviceAccount" .name) .) -}}
{{- end -}}
{{- end -}}
