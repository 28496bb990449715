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
  configMap:
    name: {{ include "shoppe.dask-gateway.api" . }}
- name: tmp
  emptyDir: {}
{{- end -}}
