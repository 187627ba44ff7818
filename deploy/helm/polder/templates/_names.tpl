{{/* Names are fixed: two Polders on one node would be one too many, whatever their releases are called. */}}
{{- define "polder.name" -}}polder{{- end -}}

{{- define "polder.selector" -}}
app.kubernetes.io/name: polder
app.kubernetes.io/component: agent
{{- end -}}

{{- define "polder.proxy-selector" -}}
app.kubernetes.io/name: polder
app.kubernetes.io/component: proxy
{{- end -}}

{{- define "polder.labels" -}}
{{ include "polder.selector" . }}
{{ include "polder.release-labels" . }}
{{- end -}}

{{- define "polder.proxy-labels" -}}
{{ include "polder.proxy-selector" . }}
{{ include "polder.release-labels" . }}
{{- end -}}

{{- define "polder.release-labels" -}}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{- define "polder.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}
{{- end -}}
