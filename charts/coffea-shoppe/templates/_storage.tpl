{{- /*
Where users and services store objects: in accounts and buckets that the operator creates, in
the release's store or in an external one with an admin API; in one external bucket for all; or,
without a store, on volumes.
*/ -}}

{{- /*
shoppe.facility.accounts: "true" if the operator creates accounts and buckets.  Input: list
root.
*/ -}}
{{- define "shoppe.facility.accounts" -}}
{{- if and (include "shoppe.facility.here" (append . "operator")) (include "shoppe.facility.url" (append . "objectstore")) -}}
{{- if include "shoppe.facility.url" (concat . (list "objectstore" "adminUrl")) }}true{{ end -}}
{{- end -}}
{{- end -}}

{{- /*
shoppe.facility.sharedBucket: the one external bucket, if it is for all.  Input: list
root.
*/ -}}
{{- define "shoppe.facility.sharedBucket" -}}
{{- with (first .).Values.global.services.objectstore -}}
{{- if and .url (not .enabled) }}{{ .bucket }}{{ end -}}
{{- end -}}
{{- end -}}

{{- /*
shoppe.facility.store: the store's address, for the operator (list root), or for a service
that keeps objects (list root, service).
*/ -}}
{{- define "shoppe.facility.store" -}}
{{- $root := first . -}}
{{- if or (include "shoppe.facility.accounts" (list $root)) (and (gt (len .) 1) (include "shoppe.facility.sharedBucket" (list $root))) -}}
{{- include "shoppe.facility.url" (list $root "objectstore") -}}
{{- end -}}
{{- end -}}

{{- /*
shoppe.facility.storeAdmin: the address of the store's admin API.  Input: list root.
*/ -}}
{{- define "shoppe.facility.storeAdmin" -}}
{{- if include "shoppe.facility.accounts" . }}{{ include "shoppe.facility.url" (concat . (list "objectstore" "adminUrl")) }}{{ end -}}
{{- end -}}

{{- /*
shoppe.facility.bucket: where a service keeps its own objects: its bucket, or its folder in
the one for all.  Input: list root, service.
*/ -}}
{{- define "shoppe.facility.bucket" -}}
{{- if include "shoppe.facility.accounts" (list (index . 0)) -}}
service-{{ index . 1 }}
{{- else -}}
{{- with include "shoppe.facility.sharedBucket" (list (index . 0)) }}{{ . }}/service-{{ index $ 1 }}{{ end -}}
{{- end -}}
{{- end -}}

{{- /*
shoppe.facility.bucketSecret: the Secret with its keys to that.  Input: list root, service.
*/ -}}
{{- define "shoppe.facility.bucketSecret" -}}
{{- $root := index . 0 -}}
{{- if include "shoppe.facility.accounts" (list $root) -}}
{{- include "shoppe.facility.over" (list "serviceName" $root (dict "service" (index . 1) "ending" "-s3")) -}}
{{- else if include "shoppe.facility.sharedBucket" (list $root) -}}
{{- include "shoppe.facility.secret" (list $root "objectstore") -}}
{{- end -}}
{{- end -}}

{{- /*
shoppe.facility.bucketSecrets: SERVICE: SECRET, as YAML, that the operator creates.  Input: list
root.
*/ -}}
{{- define "shoppe.facility.bucketSecrets" -}}
{{- $root := first . -}}
{{- $secrets := dict -}}
{{- if include "shoppe.facility.accounts" . -}}
{{- range include "shoppe.facility.over" (list "servicesWith" $root (dict "key" "bucket")) | fromYamlArray -}}
{{- $_ := set $secrets . (include "shoppe.facility.bucketSecret" (list $root .)) -}}
{{- end -}}
{{- end -}}
{{- toYaml $secrets -}}
{{- end -}}

{{- /*
shoppe.facility.writers: the services that may write to users' buckets, as a YAML list.
Input: list root.
*/ -}}
{{- define "shoppe.facility.writers" -}}
{{- include "shoppe.facility.over" (list "servicesWith" (first .) (dict "key" "writer")) -}}
{{- end -}}

{{- /*
shoppe.facility.workspaces: the address of an MLflow that accepts the facility's tokens, where
the operator creates users' workspaces.  Input: list root.
*/ -}}
{{- define "shoppe.facility.workspaces" -}}
{{- $root := first . -}}
{{- if include "shoppe.facility.here" (list $root "operator") -}}
{{- if or (include "shoppe.facility.here" (list $root "mlflow")) (eq $root.Values.global.services.mlflow.token "facility") -}}
{{- include "shoppe.facility.url" (list $root "mlflow") -}}
{{- end -}}
{{- end -}}
{{- end -}}
