{{/* Takes off programs and pins. It asks no API server. */}}
{{- define "polder.agent-remove" -}}
- name: agent-remove
  {{- include "polder.image-lines" . | nindent 2 }}
  command: [polder-agent, --uninstall]
  args:
    - --bpffs=/bpf/polder
    - --state={{ .Values.paths.state }}
    - --socket={{ .Values.paths.run }}/agent.sock
    - --lists={{ .Values.paths.run }}/lists
    - --proxy={{ .Values.paths.run }}/proxy.sock
  env:
    - name: NODE_NAME
      valueFrom: {fieldRef: {fieldPath: spec.nodeName}}
  securityContext:
    {{- include "polder.security" (dict "capabilities" (list "BPF" "NET_ADMIN" "PERFMON")) | nindent 4 }}
  resources:
    {{- include "polder.small" . | nindent 4 }}
  volumeMounts:
    - {name: bpffs, mountPath: /bpf}
    - {name: run, mountPath: {{ .Values.paths.run | quote }}}
    - {name: state, mountPath: {{ .Values.paths.state | quote }}}
{{- end -}}

{{/* Ready means: all of it is gone from this node. */}}
{{- define "polder.done" -}}
- name: done
  {{- include "polder.image-lines" . | nindent 2 }}
  command: [polder-cni, idle]
  securityContext:
    {{- include "polder.security" (dict) | nindent 4 }}
  resources:
    {{- include "polder.small" . | nindent 4 }}
{{- end -}}
