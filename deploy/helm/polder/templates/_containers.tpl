{{/*
What every container may do: nothing, but for the capabilities it is given (a list).
*/}}
{{- define "polder.security" -}}
privileged: false
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
  {{- with .capabilities }}
  add: {{ toJson . }}
  {{- end }}
{{- end -}}

{{- define "polder.image-lines" -}}
image: {{ include "polder.image" . | quote }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
terminationMessagePolicy: FallbackToLogsOnError
{{- end -}}

{{/* Small, and the same for requests and limits: these start, do one thing and end. */}}
{{- define "polder.small" -}}
requests: {cpu: 10m, memory: 16Mi}
{{- end -}}

{{- define "polder.mount-bpffs" -}}
- name: mount-bpffs
  {{- include "polder.image-lines" . | nindent 2 }}
  command: [polctl, preflight, --mount-bpffs, {{ .Values.paths.bpffs | quote }}]
  # A mount that reaches the node needs a privileged container; it has ended before the agent starts.
  securityContext:
    privileged: true
    readOnlyRootFilesystem: true
  resources:
    {{- include "polder.small" . | nindent 4 }}
  volumeMounts:
    - {name: sys-fs, mountPath: {{ dir .Values.paths.bpffs | quote }}, mountPropagation: Bidirectional}
{{- end -}}

{{- define "polder.preflight" -}}
- name: preflight
  {{- include "polder.image-lines" . | nindent 2 }}
  command: [polctl, preflight]
  args:
    - --bpffs={{ .Values.paths.bpffs }}
    - --mark-shift={{ .Values.agent.markShift }}
    - --cni-conf-dir={{ .Values.cni.confDir }}
    {{- range .Values.agent.uplinks }}
    - --uplink={{ . }}
    {{- end }}
  securityContext:
    {{- include "polder.security" (dict "capabilities" (list "BPF" "NET_ADMIN" "PERFMON")) | nindent 4 }}
  resources:
    {{- include "polder.small" . | nindent 4 }}
  volumeMounts:
    - {name: bpffs, mountPath: {{ .Values.paths.bpffs | quote }}, readOnly: true}
    - {name: cni-conf, mountPath: {{ .Values.cni.confDir | quote }}, readOnly: true}
{{- end -}}

{{/* Puts the plugin's file beside the others, then its configuration; and takes both away. */}}
{{- define "polder.cni-install" -}}
- name: cni-install
  {{- include "polder.image-lines" . | nindent 2 }}
  command: [polder-cni, install]
  args:
    {{- include "polder.cni-arguments" . | nindent 4 }}
  {{- include "polder.cni-rest" . | nindent 2 }}
{{- end -}}

{{- define "polder.cni-remove" -}}
- name: cni-remove
  {{- include "polder.image-lines" . | nindent 2 }}
  command: [polder-cni, uninstall]
  args:
    - --conf-dir={{ .Values.cni.confDir }}
    - --bin-dir={{ .Values.cni.binDir }}
  {{- include "polder.cni-rest" . | nindent 2 }}
{{- end -}}

{{/* Container runtimes and other CNIs' installers write these folders too: it follows what they do. */}}
{{- define "polder.cni-follow" -}}
- name: cni
  {{- include "polder.image-lines" . | nindent 2 }}
  command: [polder-cni, follow]
  args:
    {{- include "polder.cni-arguments" . | nindent 4 }}
  {{- include "polder.cni-rest" . | nindent 2 }}
{{- end -}}

{{- define "polder.cni-arguments" -}}
- --conf-dir={{ .Values.cni.confDir }}
- --bin-dir={{ .Values.cni.binDir }}
- --socket={{ .Values.paths.run }}/agent.sock
- --timeout={{ .Values.cni.timeoutSeconds }}
{{- end -}}

{{- define "polder.cni-rest" -}}
securityContext:
  {{- include "polder.security" (dict) | nindent 2 }}
resources:
  {{- include "polder.small" . | nindent 2 }}
volumeMounts:
  - {name: cni-conf, mountPath: {{ .Values.cni.confDir | quote }}}
  - {name: cni-bin, mountPath: {{ .Values.cni.binDir | quote }}}
{{- end -}}
