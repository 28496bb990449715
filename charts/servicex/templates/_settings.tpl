{{- /*
shoppe.servicex.settings: what API, S3 gateway and controller read, as YAML
(`settings.Settings`).  Input: the root context.
*/ -}}
{{- define "shoppe.servicex.settings" -}}
database: postgresql+psycopg2://?service={{ .Values.postgres.service }}
auth:
  enabled: {{ .Values.app.auth }}
  api: {{ tpl (.Values.app.tokens.api | default "") . | quote }}
  issuer: {{ tpl .Values.app.tokens.issuer . | quote }}
objects:
  {{- if include "shoppe.servicex.onVolume" . }}
  folder: /data/results
  {{- else }}
  endpoint: {{ tpl (.Values.objectStore.endpoint | default "") . | quote }}
  region: {{ .Values.objectStore.region }}
  bucket: {{ tpl (.Values.objectStore.bucket | default "") . | quote }}
  {{- end }}
s3Gateway:
  endpoint: {{ printf "%s.%s:%v" (include "shoppe.servicex.app" .) .Release.Namespace .Values.service.s3Port | quote }}
  publicEndpoint: {{ .Values.objectStore.publicURL | default "" | quote }}
  publicSecure: {{ .Values.objectStore.publicClientUseTLS }}
prefix: {{ .Values.app.prefix | quote }}
pages: {{ .Values.app.pages | quote }}
cachePrefix: {{ tpl (.Values.transformer.cachePrefix | default "") . | quote }}
image: {{ include "shoppe.lib.image" (dict "root" . "image" .Values.transformer.image "key" "servicex.transformer.image") | quote }}
failClosed: {{ .Values.app.failClosed }}
requireLandlock: {{ .Values.requireLandlock }}
resultCache: {{ .Values.app.resultCache }}
{{- with include "shoppe.servicex.codegenSettings" . | fromJson }}
codegens: {{ toJson .names }}
{{- if .files }}
codegensFolder: /etc/codegens
{{- end }}
{{- end }}
limits:
  deadlineS: {{ .Values.transformer.deadline }}
  attempts: {{ .Values.transformer.attempts }}
  memoryMiB: {{ .Values.transformer.memoryMiB }}
  memoryMaxMiB: {{ .Values.transformer.memoryMaxMiB }}
  retentionS: {{ mulf .Values.retention.days 86400 }}
  bytesPerUser: {{ mulf .Values.retention.gigabytesPerUser 1e9 | int64 }}
finders:
  cernopendata: {{ ternary .Values.didFinder.CERNOpenData.url "" .Values.didFinder.CERNOpenData.enabled | quote }}
  xrootd: {{ .Values.didFinder.xrootd.enabled }}
  {{- with .Values.didFinder.rucio }}
  {{- if .enabled }}
  rucio:
    host: {{ .rucio_host | quote }}
    rseExpression: {{ .rseExpression | quote }}
    token: /run/secrets/rucio/token
  {{- end }}
  {{- end }}
dedicatedPods:
  namespace: {{ include "shoppe.servicex.dedicatedNamespace" . }}
  maxPods: {{ .Values.transformer.dedicated.maxPods }}
  userSecrets: {{ include "shoppe.servicex.userSecrets" . | default "false" }}
sharedPool:
  {{- with .Values.transformer.autoscaler }}
  {{- if .enabled }}
  namespace: {{ $.Release.Namespace }}
  deployment: {{ include "shoppe.servicex.transformer" $ }}
  minReplicas: {{ .minReplicas }}
  maxReplicas: {{ .maxReplicas }}
  filesPerReplica: {{ .filesPerReplica }}
  idleS: {{ .idleSeconds }}
  {{- end }}
  {{- end }}
{{- end -}}
