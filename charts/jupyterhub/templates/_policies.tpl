{{- /*
z2jh's keys of NetworkPolicies.
*/ -}}

{{- /*
shoppe.jupyterhub.ingress: rules that values add to those of a chart, as YAML; nothing without any.
Input: dict policy, access (the last word of the label that gives access), ports (of the pods).
*/ -}}
{{- define "shoppe.jupyterhub.ingress" -}}
{{- $rules := list -}}
{{- with .policy.allowedIngressPorts -}}
{{- $ports := list -}}
{{- range . }}{{ $ports = append $ports (dict "port" .) }}{{ end -}}
{{- $rules = append $rules (dict "ports" $ports) -}}
{{- end -}}
{{- if eq (toString .policy.interNamespaceAccessLabels) "accept" -}}
{{- $labels := dict "matchLabels" (dict (printf "hub.jupyter.org/network-access-%s" .access) "true") -}}
{{- $peers := list (dict "podSelector" $labels "namespaceSelector" (dict)) (dict "namespaceSelector" $labels) -}}
{{- $rules = append $rules (dict "from" $peers "ports" .ports) -}}
{{- end -}}
{{- $rules = concat $rules (.policy.ingress | default list) -}}
{{- with $rules }}{{ toYaml . }}{{ end -}}
{{- end -}}

{{- /*
shoppe.jupyterhub.restrictsEgress: "true" where values say to where a component may connect.
Input: the policy.
*/ -}}
{{- define "shoppe.jupyterhub.restrictsEgress" -}}
{{- if or .egress .egressAllowRules }}true{{ end -}}
{{- end -}}

{{- /*
shoppe.jupyterhub.egress: rules of connections that pods open, as YAML: to the facility's pods, what
egressAllowRules allow, and egress.  Input: dict root, policy, privateIPs and
cloudMetadataServer (the rules' defaults; all others are true).
*/ -}}
{{- define "shoppe.jupyterhub.egress" -}}
{{- $defaults := dict "dnsPortsCloudMetadataServer" true "dnsPortsKubeSystemNamespace" true "dnsPortsPrivateIPs" true "nonPrivateIPs" true "privateIPs" .privateIPs "cloudMetadataServer" .cloudMetadataServer -}}
{{- $rule := mergeOverwrite $defaults (.policy.egressAllowRules | default dict) -}}
{{- $metadata := printf "%s/32" (.root.Values.singleuser.cloudMetadata.ip | default "169.254.169.254") -}}
{{- $private := list (dict "ipBlock" (dict "cidr" "10.0.0.0/8")) (dict "ipBlock" (dict "cidr" "172.16.0.0/12")) (dict "ipBlock" (dict "cidr" "192.168.0.0/16")) -}}
{{- $facility := dict "matchLabels" (dict "app.kubernetes.io/part-of" "coffea-shoppe" "app.kubernetes.io/instance" .root.Release.Name) -}}
{{- $rules := list (dict "to" (list (dict "namespaceSelector" (dict) "podSelector" $facility))) -}}
{{- $dns := list -}}
{{- if $rule.dnsPortsCloudMetadataServer }}{{ $dns = append $dns (dict "ipBlock" (dict "cidr" $metadata)) }}{{ end -}}
{{- if $rule.dnsPortsKubeSystemNamespace }}{{ $dns = append $dns (dict "namespaceSelector" (dict "matchLabels" (dict "kubernetes.io/metadata.name" "kube-system"))) }}{{ end -}}
{{- if $rule.dnsPortsPrivateIPs }}{{ $dns = concat $dns $private }}{{ end -}}
{{- with $dns }}{{ $rules = append $rules (dict "to" . "ports" (list (dict "port" 53 "protocol" "UDP") (dict "port" 53 "protocol" "TCP"))) }}{{ end -}}
{{- if $rule.nonPrivateIPs -}}
{{- $rules = append $rules (dict "to" (list (dict "ipBlock" (dict "cidr" "0.0.0.0/0" "except" (list "10.0.0.0/8" "172.16.0.0/12" "192.168.0.0/16" $metadata))))) -}}
{{- end -}}
{{- if $rule.privateIPs }}{{ $rules = append $rules (dict "to" $private) }}{{ end -}}
{{- if $rule.cloudMetadataServer }}{{ $rules = append $rules (dict "to" (list (dict "ipBlock" (dict "cidr" $metadata)))) }}{{ end -}}
{{- toYaml (concat $rules (.policy.egress | default list)) -}}
{{- end -}}
