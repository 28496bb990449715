{{- /*
Addresses and names that components need of one another: values.yaml fills their keys with these.
The first of each list is the root context of whichever chart asks.  Each yields nothing
where the facility has no such thing.
*/ -}}

{{- /*
shoppe.facility.over: a function of the library over the facility's catalogue.  Input: list
function, root, dict of its further inputs.
*/ -}}
{{- define "shoppe.facility.over" -}}
{{- $root := index . 1 -}}
{{- include "shoppe.facility.rows" (list $root) -}}
{{- $input := set (set (index . 2) "root" $root) "catalogue" $root.Values.global.catalogue -}}
{{- include (printf "shoppe.lib.%s" (first .)) $input -}}
{{- end -}}

{{- /*
shoppe.facility.rows: stores the catalogue in .Values.global.catalogue, because parsing it for
each address would take most of the time of a rendering.  Input: list root.
*/ -}}
{{- define "shoppe.facility.rows" -}}
{{- $global := (first .).Values.global -}}
{{- if not (hasKey $global "catalogue") }}{{ $_ := include "shoppe.facility.catalogue" . | fromYaml | set $global "catalogue" }}{{ end -}}
{{- end -}}

{{- /*
shoppe.facility.here: "true" where the release has the service.  Input: list root, service.
*/ -}}
{{- define "shoppe.facility.here" -}}
{{- include "shoppe.facility.over" (list "serviceHere" (index . 0) (dict "service" (index . 1))) -}}
{{- end -}}

{{- /*
shoppe.facility.url: an address of the service.  Input: list root, service, address ("url"
without one).
*/ -}}
{{- define "shoppe.facility.url" -}}
{{- $address := gt (len .) 2 | ternary (last .) "url" -}}
{{- include "shoppe.facility.over" (list "serviceUrl" (index . 0) (dict "service" (index . 1) "address" $address)) -}}
{{- end -}}

{{- /*
shoppe.facility.with: a text if there is such a service, in the release or external.
Input: list root, service, text.
*/ -}}
{{- define "shoppe.facility.with" -}}
{{- if include "shoppe.facility.url" (list (index . 0) (index . 1)) }}{{ index . 2 }}{{ end -}}
{{- end -}}

{{- /*
shoppe.facility.name: the name of the objects of a service of the release.
Input: list root, service.
*/ -}}
{{- define "shoppe.facility.name" -}}
{{- if include "shoppe.facility.here" . }}{{ include "shoppe.facility.over" (list "serviceName" (index . 0) (dict "service" (index . 1))) }}{{ end -}}
{{- end -}}

{{- /*
shoppe.facility.namespace: the namespace of a service of the release.  Input: list root, service.
*/ -}}
{{- define "shoppe.facility.namespace" -}}
{{- if include "shoppe.facility.here" . }}{{ include "shoppe.facility.over" (list "serviceNamespace" (index . 0) (dict "service" (index . 1))) }}{{ end -}}
{{- end -}}

{{- /*
shoppe.facility.secret: the Secret with a service's own credentials: the one that its values
name, or the one that its chart creates.  Input: list root, service.
*/ -}}
{{- define "shoppe.facility.secret" -}}
{{- tpl (get (index . 0).Values.global.services (index . 1)).existingSecret (index . 0) | default (include "shoppe.facility.name" .) -}}
{{- end -}}

{{- /*
shoppe.facility.issuer: the facility's name in its tokens.  Input: list root.
*/ -}}
{{- define "shoppe.facility.issuer" -}}
{{- $root := first . -}}
{{- tpl ($root.Values.global.services.operator.issuer | default "") $root | default (printf "coffea-shoppe:%s:%s" $root.Release.Namespace $root.Release.Name) -}}
{{- end -}}

{{- /*
shoppe.facility.connections: NAME: ADDRESS, as YAML, for users' pods.  Input: list root.
*/ -}}
{{- define "shoppe.facility.connections" -}}
{{- $connections := include "shoppe.facility.over" (list "connections" (first .) (dict)) | fromYaml -}}
{{- if not (include "shoppe.facility.accounts" .) }}{{ $connections = omit $connections "s3" }}{{ end -}}
{{- toYaml $connections -}}
{{- end -}}

{{- /*
shoppe.facility.caches: NAME=ADDRESS of users' cache, in the format of SHOPPE_XCACHE.  Input: list
root.
*/ -}}
{{- define "shoppe.facility.caches" -}}
{{- with include "shoppe.facility.url" (append . "xcache") }}xcache={{ . }}{{ end -}}
{{- end -}}

{{- /*
shoppe.facility.usersCaches: the caches that users' pods know, which ServiceX reads through, too.
Input: list root.
*/ -}}
{{- define "shoppe.facility.usersCaches" -}}
{{- $root := first . -}}
{{- with ($root.Values.global.environment | default dict).SHOPPE_XCACHE -}}
{{- if kindIs "string" . }}{{ tpl . $root }}{{ end -}}
{{- end -}}
{{- end -}}

{{- /*
shoppe.facility.login: "true" where a browser can log in to see services' pages.  Input: list
root.
*/ -}}
{{- define "shoppe.facility.login" -}}
{{- if and (include "shoppe.facility.here" (append . "jupyterhub")) (include "shoppe.facility.here" (append . "operator")) -}}
{{- include "shoppe.facility.here" (append . "dask-gateway") -}}
{{- end -}}
{{- end -}}

{{- /*
shoppe.facility.authorize: the address of the ForwardAuth server, which authorizes browsers for pages.
Input: list root.
*/ -}}
{{- define "shoppe.facility.authorize" -}}
{{- if include "shoppe.facility.login" . }}{{ include "shoppe.facility.url" (append . "operator") }}/authorize{{ end -}}
{{- end -}}

{{- /*
shoppe.facility.pages: SERVICE: ADDRESS, as YAML, of the services whose pages Traefik shows.
Input: list root.
*/ -}}
{{- define "shoppe.facility.pages" -}}
{{- $root := first . -}}
{{- $pages := dict -}}
{{- if include "shoppe.facility.login" . -}}
{{- range $service := include "shoppe.facility.over" (list "servicesWith" $root (dict "key" "page")) | fromYamlArray -}}
{{- $path := (get $root.Values.global.catalogue $service).page | trimSuffix "/" -}}
{{- $_ := set $pages $service (printf "%s%s" (include "shoppe.facility.url" (list $root $service)) $path) -}}
{{- end -}}
{{- end -}}
{{- toYaml $pages -}}
{{- end -}}

{{- /*
shoppe.facility.page: where the hub finds a service's pages: Traefik.  Input: list root,
service.
*/ -}}
{{- define "shoppe.facility.page" -}}
{{- if get (include "shoppe.facility.pages" (list (index . 0)) | fromYaml) (index . 1) -}}
{{- include "shoppe.facility.url" (list (index . 0) "dask-gateway") -}}
{{- end -}}
{{- end -}}

{{- /*
shoppe.facility.databases: the databases that are created, as a YAML list.  Input: list root.
*/ -}}
{{- define "shoppe.facility.databases" -}}
{{- include "shoppe.facility.over" (list "servicesWith" (first .) (dict "key" "database")) -}}
{{- end -}}

{{- /*
shoppe.facility.databaseClients: the components that connect to them, as a YAML list.
Input: list root.
*/ -}}
{{- define "shoppe.facility.databaseClients" -}}
{{- $root := first . -}}
{{- $components := list -}}
{{- range include "shoppe.facility.databases" . | fromYamlArray -}}
{{- $components = concat $components (get $root.Values.global.catalogue .).database -}}
{{- end -}}
{{- toYaml $components -}}
{{- end -}}

{{- /*
shoppe.facility.databaseSecrets: SERVICE: SECRET, as YAML, that values name for databases.
Input: list root.
*/ -}}
{{- define "shoppe.facility.databaseSecrets" -}}
{{- (first .).Values.global.services.postgresql.existingSecrets | toYaml -}}
{{- end -}}

{{- /*
shoppe.facility.database: the Secret of a service's database.  Input: list root, service.
*/ -}}
{{- define "shoppe.facility.database" -}}
{{- if include "shoppe.facility.here" (list (index . 0) "postgresql") -}}
{{- with get (include "shoppe.facility.databaseSecrets" . | fromYaml) (index . 1) -}}
{{- tpl . (index $ 0) -}}
{{- else -}}
{{- include "shoppe.facility.over" (list "serviceName" (index . 0) (dict "service" "postgresql" "ending" (printf "-%s" (index . 1)))) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- /*
shoppe.facility.browserHub: the hub's address for browsers where users' servers have hosts of
their own; nothing where browsers have all on one host.  Input: list root.
*/ -}}
{{- define "shoppe.facility.browserHub" -}}
{{- (first .).Values.global.services.jupyterhub.subdomainHost | trimSuffix "/" -}}
{{- end -}}

{{- /*
shoppe.facility.browserServices: the address of all services for browsers then.
Input: list root.
*/ -}}
{{- define "shoppe.facility.browserServices" -}}
{{- include "shoppe.facility.browserHub" . | replace "://" (printf "://%s." (include "shoppe.lib.servicesLabel" .)) -}}
{{- end -}}
