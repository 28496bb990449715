{{- /*
What `helm test` looks at (coffea_shoppe_preflight.settings).  Input: list root.
*/ -}}
{{- define "shoppe.facility.preflight" -}}{{ include "shoppe.lib.fullname" (dict "root" (first .) "suffix" "preflight") }}{{- end -}}

{{- /*
shoppe.facility.preflightClusterRole: the name of its rights in the cluster.  Input: list root.
*/ -}}
{{- define "shoppe.facility.preflightClusterRole" -}}{{ printf "%s-%s" (first .).Release.Namespace (include "shoppe.facility.preflight" .) }}{{- end -}}

{{- /*
shoppe.facility.preflightNamespaces: namespaces with pods of the release, as a YAML list.
Input: list root.
*/ -}}
{{- define "shoppe.facility.preflightNamespaces" -}}
{{- list (first .).Release.Namespace (include "shoppe.facility.namespace" (append . "dask-gateway")) | compact | uniq | toYaml -}}
{{- end -}}

{{- /*
shoppe.facility.preflightDatabases: DATABASE: SECRET, as YAML, of the release's PostgreSQL.
Input: list root.
*/ -}}
{{- define "shoppe.facility.preflightDatabases" -}}
{{- $root := first . -}}
{{- $databases := dict -}}
{{- if include "shoppe.facility.here" (list $root "postgresql") -}}
{{- range include "shoppe.facility.databases" . | fromYamlArray }}{{ $_ := include "shoppe.facility.database" (list $root .) | set $databases . }}{{ end -}}
{{- end -}}
{{- toYaml $databases -}}
{{- end -}}

{{- /*
shoppe.facility.preflightBuckets: BUCKET: SECRET, as YAML, of the release's services.
Input: list root.
*/ -}}
{{- define "shoppe.facility.preflightBuckets" -}}
{{- $root := first . -}}
{{- $buckets := dict -}}
{{- range include "shoppe.facility.over" (list "servicesWith" $root (dict "key" "bucket")) | fromYamlArray -}}
{{- $bucket := include "shoppe.facility.bucket" (list $root .) -}}
{{- if $bucket }}{{ $_ := include "shoppe.facility.bucketSecret" (list $root .) | set $buckets $bucket }}{{ end -}}
{{- end -}}
{{- toYaml $buckets -}}
{{- end -}}

{{- /*
shoppe.facility.logins: what the hub's classes say of logins, as YAML: providers (addresses of
the identity provider) and callbacks (where it sends browsers back).  Input: list root.
*/ -}}
{{- define "shoppe.facility.logins" -}}
{{- $root := first . -}}
{{- $providers := list -}}
{{- $callbacks := list -}}
{{- if include "shoppe.facility.here" (append . "jupyterhub") -}}
{{- range $class, $traits := ($root.Values.jupyterhub.hub).config -}}
{{- if kindIs "map" $traits -}}
{{- range $key := list "token_url" "userdata_url" }}{{ $providers = append $providers (get $traits $key) }}{{ end -}}
{{- $callbacks = append $callbacks (get $traits "oauth_callback_url") -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- toYaml (dict "providers" (compact $providers | uniq) "callbacks" (compact $callbacks | uniq)) -}}
{{- end -}}

{{- /*
shoppe.facility.externalUrls: where browsers find the hub, as a YAML list.  Input: list root.
*/ -}}
{{- define "shoppe.facility.externalUrls" -}}
{{- $root := first . -}}
{{- $urls := list (include "shoppe.facility.browserHub" .) -}}
{{- range (include "shoppe.facility.logins" . | fromYaml).callbacks -}}
{{- $urls = append $urls (regexReplaceAll "/hub/oauth_callback/?$" . "") -}}
{{- end -}}
{{- compact $urls | uniq | toYaml -}}
{{- end -}}

{{- /*
shoppe.facility.origins: HOST:PORT, as a YAML list, of the caches' origins that everybody may read.
The others demand a login, for which only their cache has a credential.  Input: list root.
*/ -}}
{{- define "shoppe.facility.origins" -}}
{{- $root := first . -}}
{{- $origins := list -}}
{{- with get $root.Subcharts "xcache" -}}
{{- $cache := . -}}
{{- range .Values.instances -}}
{{- if not .credentials }}{{ $origins = append $origins (include "shoppe.xcache.instance" (dict "root" $cache "instance" .) | fromYaml).origin }}{{ end -}}
{{- end -}}
{{- range .Values.metrics.origins }}{{ $origins = append $origins (tpl . $cache) }}{{ end -}}
{{- end -}}
{{- compact $origins | uniq | toYaml -}}
{{- end -}}

{{- /*
shoppe.facility.preflightSettings: the file.  Input: list root.
*/ -}}
{{- define "shoppe.facility.preflightSettings" -}}
{{- $root := first . -}}
{{- include "shoppe.facility.rows" . -}}
{{- $components := list -}}
{{- $addresses := dict -}}
{{- range $service, $row := $root.Values.global.catalogue -}}
{{- if include "shoppe.facility.here" (list $root $service) }}{{ $components = append $components $service }}{{ end -}}
{{- $urls := list -}}
{{- range $key, $_ := $row.addresses -}}
{{- /* The store's admin API is for the operator alone. */ -}}
{{- if ne $key "adminUrl" }}{{ $urls = append $urls (include "shoppe.facility.url" (list $root $service $key)) }}{{ end -}}
{{- end -}}
{{- with compact $urls }}{{ $_ := set $addresses $service . }}{{ end -}}
{{- end -}}
{{- $databases := dict -}}
{{- range $database, $_ := include "shoppe.facility.preflightDatabases" . | fromYaml }}{{ $_ := printf "/run/databases/%s/service.conf" $database | set $databases $database }}{{ end -}}
{{- $buckets := dict -}}
{{- range $bucket, $_ := include "shoppe.facility.preflightBuckets" . | fromYaml }}{{ $_ := printf "/run/buckets/%s" $bucket | set $buckets $bucket }}{{ end -}}
{{- $accounts := list -}}
{{- with get $root.Subcharts "operator" -}}
{{- $operator := . -}}
{{- $rules := dict -}}
{{- range include "shoppe.facility.preflightNamespaces" (list $root) | fromYamlArray -}}
{{- $_ := include "shoppe.operator.userRules" (dict "root" $operator "namespace" .) | fromYamlArray | set $rules . -}}
{{- end -}}
{{- $_ := include "shoppe.operator.rules" . | fromYamlArray | concat (get $rules .Release.Namespace) | set $rules .Release.Namespace -}}
{{- $accounts = append $accounts (dict "component" "operator" "name" (include "shoppe.operator.operatorAccount" .) "rules" $rules) -}}
{{- end -}}
release: {{ $root.Release.Name }}
namespace: {{ $root.Release.Namespace }}
namespaces:
  {{- include "shoppe.facility.preflightNamespaces" . | nindent 2 }}
components:
  {{- toYaml $components | nindent 2 }}
clusterWide: {{ $root.Values.preflight.rbac.clusterWide }}
definitions:
  {{- eq (include "shoppe.facility.here" (list $root "operator")) "true" | ternary (list "facilityusers.coffea-shoppe.dev" "servedmodels.coffea-shoppe.dev") list | toYaml | nindent 2 }}
addresses:
  {{- toYaml $addresses | nindent 2 }}
databases:
  {{- toYaml $databases | nindent 2 }}
buckets:
  {{- toYaml $buckets | nindent 2 }}
origins:
  {{- include "shoppe.facility.origins" . | nindent 2 }}
identityProviders:
  {{- (include "shoppe.facility.logins" . | fromYaml).providers | toYaml | nindent 2 }}
externalUrls:
  {{- $root.Values.preflight.externalUrl | ternary (include "shoppe.facility.externalUrls" . | fromYamlArray) list | toYaml | nindent 2 }}
accounts:
  {{- toYaml $accounts | nindent 2 }}
{{- end -}}
