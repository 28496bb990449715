{{- /*
shoppe.xcache.fullname: the name of one instance's objects.
Input: dict root, instance.
*/ -}}
{{- define "shoppe.xcache.fullname" -}}
{{- include "shoppe.lib.fullname" (dict "root" .root "suffix" .instance.name) -}}
{{- end -}}

{{- /*
shoppe.xcache.presets: the settings of each preset, as YAML.  CMS reads entire
baskets over large distances, hence the larger blocks.
*/ -}}
{{- define "shoppe.xcache.presets" -}}
atlas: {forwarding: true, origin: "", config: {}}
cms: {forwarding: false, origin: "cmsxrootd.fnal.gov:1094", config: {BlockSize: 1m}}
opendata: {forwarding: false, origin: "eospublic.cern.ch:1094", config: {BlockSize: 512k}}
generic: {forwarding: false, origin: "", config: {}}
{{- end -}}

{{- /*
shoppe.xcache.instance: one instance with its preset and the common settings
merged in, as YAML: name, preset, forwarding, origin, config.
Input: dict root, instance.
*/ -}}
{{- define "shoppe.xcache.instance" -}}
{{- $preset := get (include "shoppe.xcache.presets" . | fromYaml) .instance.preset -}}
{{- $config := mergeOverwrite (deepCopy .root.Values.XCacheConfig) $preset.config (.instance.XCacheConfig | default dict) -}}
name: {{ .instance.name }}
preset: {{ .instance.preset }}
forwarding: {{ $preset.forwarding }}
origin: {{ tpl (.instance.origin | default "") .root | default $preset.origin | quote }}
config:
  {{- toYaml $config | nindent 2 }}
{{- end -}}

{{- /*
shoppe.xcache.persistence: where an instance keeps its files, as YAML.  Input: dict root,
instance.
*/ -}}
{{- define "shoppe.xcache.persistence" -}}
{{- include "shoppe.lib.overridden" (dict "own" .root.Values.persistence "keys" .instance.persistence) -}}
{{- end -}}
