{{/* Arguments of the agent. */}}
{{- define "polder.agent-arguments" -}}
- --bpffs=/bpf/polder
- --state={{ .Values.paths.state }}
- --socket={{ .Values.paths.run }}/agent.sock
- --lists={{ .Values.paths.run }}/lists
- --proxy={{ .Values.paths.run }}/proxy.sock
- --metrics={{ get (dict "loopback" "127.0.0.1" "node" "0.0.0.0" "node-ipv6" "[::]") .Values.metrics.listen }}:{{ .Values.metrics.port }}
- --hooks={{ .Values.agent.hooks }}
- --xdp={{ .Values.agent.xdp }}
- --mark-shift={{ .Values.agent.markShift }}
{{- range .Values.agent.uplinks }}
- --uplink={{ . }}
{{- end }}
{{- with .Values.agent.sizes }}
{{- with .flows }}
- --flows={{ int64 . }}
{{- end }}
{{- with .flowShare }}
- --flow-share={{ int64 . }}
{{- end }}
{{- with .addresses }}
- --addresses={{ int64 . }}
{{- end }}
{{- with .prefixes }}
- --prefixes={{ int64 . }}
{{- end }}
{{- with .rules }}
- --rules={{ int64 . }}
{{- end }}
{{- end }}
{{- range .Values.agent.extraArgs }}
- {{ . | quote }}
{{- end }}
{{- end -}}

{{/* The kubelet asks at the address where the agent listens; without a host it takes the pod's, which is the node's. */}}
{{- define "polder.probe" -}}
httpGet:
  {{- if eq .Values.metrics.listen "loopback" }}
  host: 127.0.0.1
  {{- end }}
  path: {{ .path }}
  port: {{ .Values.metrics.port }}
{{- end -}}

{{- define "polder.agent" -}}
- name: agent
  {{- include "polder.image-lines" . | nindent 2 }}
  command: [polder-agent]
  args:
    {{- include "polder.agent-arguments" . | nindent 4 }}
  env:
    - name: NODE_NAME
      valueFrom: {fieldRef: {fieldPath: spec.nodeName}}
    - name: POLDER_LOG
      value: {{ .Values.agent.log | quote }}
    {{- with .Values.apiServer.host }}
    - name: KUBERNETES_SERVICE_HOST
      value: {{ . | quote }}
    - name: KUBERNETES_SERVICE_PORT
      value: {{ $.Values.apiServer.port | quote }}
    {{- end }}
  ports:
    - {name: metrics, containerPort: {{ .Values.metrics.port }}, hostPort: {{ .Values.metrics.port }}, protocol: TCP}
  startupProbe:
    {{- include "polder.probe" (merge (dict "path" "/healthz") .) | nindent 4 }}
    periodSeconds: 2
    failureThreshold: 30
  livenessProbe:
    {{- include "polder.probe" (merge (dict "path" "/healthz") .) | nindent 4 }}
    periodSeconds: 10
    timeoutSeconds: 5
    failureThreshold: 6
  readinessProbe:
    {{- include "polder.probe" (merge (dict "path" "/readyz") .) | nindent 4 }}
    periodSeconds: 5
    timeoutSeconds: 5
  securityContext:
    {{- include "polder.security" (dict "capabilities" (list "BPF" "NET_ADMIN" "NET_BROADCAST" "PERFMON")) | nindent 4 }}
  resources:
    {{- toYaml .Values.resources | nindent 4 }}
  volumeMounts:
    # Not below /sys: the default AppArmor profile of container runtimes lets nobody write there.
    - {name: bpffs, mountPath: /bpf}
    - {name: run, mountPath: {{ .Values.paths.run | quote }}}
    - {name: state, mountPath: {{ .Values.paths.state | quote }}}
{{- end -}}
