{{- /*
Functions over a catalogue of services, which is given to them: SERVICE: row.  What a row
may have: where the catalogue is.  What the release has of it: global.services, SERVICE:
{enabled, and what an external service needs}.  Inputs: dict root (of any chart of the
release), catalogue, and mostly service.
*/ -}}

{{- /*
shoppe.lib.serviceHere: "true" where the release has the service.
*/ -}}
{{- define "shoppe.lib.serviceHere" -}}
{{- if (get .root.Values.global.services .service).enabled }}true{{ end -}}
{{- end -}}

{{- /*
shoppe.lib.serviceName: the name of the service's objects.  Further input: ending (optional).
*/ -}}
{{- define "shoppe.lib.serviceName" -}}
{{- $row := get .catalogue .service | required (printf "the catalogue has no service %q" .service) -}}
{{- include "shoppe.lib.fullname" (dict "root" .root "suffix" (printf "%s%s" $row.suffix (.ending | default ""))) -}}
{{- end -}}

{{- /*
shoppe.lib.serviceNamespace: the namespace of the service's address: that of the values, else
the release's namespace with the row's suffix.
*/ -}}
{{- define "shoppe.lib.serviceNamespace" -}}
{{- $row := get .catalogue .service -}}
{{- with (get .root.Values.global.services .service).namespace -}}
{{- tpl . $.root -}}
{{- else -}}
{{- include "shoppe.lib.cut" (dict "text" (printf "%s%s" .root.Release.Namespace ($row.namespace | default "")) "most" 63) -}}
{{- end -}}
{{- end -}}

{{- /*
shoppe.lib.serviceUrl: an address of the service: in the release, external, or nothing.
Further input: address (a key of the row's addresses, and of the service's values).
*/ -}}
{{- define "shoppe.lib.serviceUrl" -}}
{{- $row := get .catalogue .service | required (printf "the catalogue has no service %q" .service) -}}
{{- $address := get $row.addresses .address | required (printf "the catalogue has no address %q of %s" .address .service) -}}
{{- if include "shoppe.lib.serviceHere" . -}}
{{- $host := printf "%s.%s" (include "shoppe.lib.serviceName" .) (include "shoppe.lib.serviceNamespace" .) -}}
{{- $port := ternary "" (printf ":%v" $address.port) (and (eq $address.scheme "http") (eq (int $address.port) 80)) -}}
{{- printf "%s://%s%s%s" $address.scheme $host $port ($address.path | default "") -}}
{{- else -}}
{{- tpl (get (get .root.Values.global.services .service) .address | default "") .root | trimSuffix "/" -}}
{{- end -}}
{{- end -}}

{{- /*
shoppe.lib.connections: NAME: ADDRESS, as YAML, of all available services.
*/ -}}
{{- define "shoppe.lib.connections" -}}
{{- $connections := dict -}}
{{- range $service, $row := .catalogue -}}
{{- range $key, $address := $row.addresses -}}
{{- with $address.connection -}}
{{- $url := include "shoppe.lib.serviceUrl" (dict "root" $.root "catalogue" $.catalogue "service" $service "address" $key) -}}
{{- if $url }}{{ $_ := set $connections . $url }}{{ end -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- toYaml $connections -}}
{{- end -}}

{{- /*
shoppe.lib.servicesWith: the services of the release whose row has a key, as a YAML list.
Input: dict root, catalogue, key.
*/ -}}
{{- define "shoppe.lib.servicesWith" -}}
{{- $services := list -}}
{{- range $service, $row := .catalogue -}}
{{- if and (get $row $.key) (include "shoppe.lib.serviceHere" (dict "root" $.root "service" $service)) -}}
{{- $services = append $services $service -}}
{{- end -}}
{{- end -}}
{{- toYaml $services -}}
{{- end -}}

{{- /*
shoppe.lib.externalServices: problems of the values of external services, one per line.  Input: dict root, catalogue.
*/ -}}
{{- define "shoppe.lib.externalServices" -}}
{{- range $service, $row := .catalogue -}}
{{- $values := get $.root.Values.global.services $service -}}
{{- $where := printf "global.services.%s" $service -}}
{{- if $values.url -}}
{{- if $row.noExternal }}
{{ printf "%s.url is set, but %s: remove the key" $where $row.noExternal }}
{{- else if $values.enabled }}
{{ printf "%s.url is set, and enabled is true: set enabled to false for an external service, or url to \"\"" $where }}
{{- else -}}
{{- range $need := $row.external -}}
{{- $given := list -}}
{{- range $need.keys }}{{ if get $values . }}{{ $given = append $given . }}{{ end }}{{ end -}}
{{- if not $given -}}
{{- $value := "" -}}
{{- with $need.value }}{{ $value = include . (list $.root) | printf " (%q)" }}{{ end }}
{{ printf "%s.url is set, but %s.%s is missing: set it to %s%s" $where $where (join (printf " or %s." $where) $need.keys) $need.what $value }}
{{- else if gt (len $given) 1 }}
{{ printf "%s.%s are both set: set one of them" $where (join (printf " and %s." $where) $given) }}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
