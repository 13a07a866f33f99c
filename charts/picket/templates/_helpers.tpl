{{- define "picket.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- /* Names of pods that a DaemonSet and a Job make of it are longer: at most 63 with `-cleanup` and what they add. */ -}}
{{- define "picket.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 46 | trimSuffix "-" -}}
{{- else if contains (include "picket.name" .) .Release.Name -}}
{{- .Release.Name | trunc 46 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "picket.name" .) | trunc 46 | trimSuffix "-" -}}
{{- end -}}
{{- end }}

{{- /* Of objects without a namespace: releases of one name in two namespaces have two. */ -}}
{{- define "picket.clusterName" -}}
{{- printf "%s:%s" .Release.Namespace (include "picket.fullname" .) -}}
{{- end }}

{{- define "picket.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "picket.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end }}

{{- /* These never change: a selector can not. Give a dict with `root` and `component`. */ -}}
{{- define "picket.selectorLabels" -}}
app.kubernetes.io/name: {{ include "picket.name" .root }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{- /* Labels of an object, a dict with `root`, `component` and, of pods, `more`. Those of the chart go before those of values. */ -}}
{{- define "picket.labels" -}}
{{- $chart := dict
  "helm.sh/chart" (printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" | trunc 63)
  "app.kubernetes.io/version" .root.Chart.AppVersion
  "app.kubernetes.io/managed-by" .root.Release.Service
  "app.kubernetes.io/part-of" "picket"
-}}
{{- $selector := include "picket.selectorLabels" . | fromYaml -}}
{{- merge (dict) $selector $chart (default (dict) .more) .root.Values.commonLabels | toYaml -}}
{{- end }}

{{- define "picket.image" -}}
{{- $name := .Values.image.repository -}}
{{- if .Values.image.registry -}}
{{- $name = printf "%s/%s" .Values.image.registry $name -}}
{{- end -}}
{{- if .Values.image.digest -}}
{{- printf "%s@%s" $name .Values.image.digest -}}
{{- else -}}
{{- printf "%s:%s" $name (default .Chart.AppVersion .Values.image.tag) -}}
{{- end -}}
{{- end }}

{{- define "picket.container" -}}
image: {{ include "picket.image" . | quote }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
{{- end }}

{{- /* Where the API server is, if not at its Service. */ -}}
{{- define "picket.apiServer" -}}
{{- if .Values.k8sServiceHost }}
- name: KUBERNETES_SERVICE_HOST
  value: {{ .Values.k8sServiceHost | quote }}
- name: KUBERNETES_SERVICE_PORT
  value: {{ .Values.k8sServicePort | quote }}
{{- end }}
{{- end }}

{{- /* What all pods have. */ -}}
{{- define "picket.pod" -}}
{{- with .Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
automountServiceAccountToken: false
enableServiceLinks: false
{{- end }}

{{- /* What pods in the node's network namespace have. */ -}}
{{- define "picket.nodePod" -}}
{{- include "picket.pod" . }}
hostNetwork: true
dnsPolicy: ClusterFirstWithHostNet
{{- with .Values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .Values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- /* UID 0, without which the folders of the node are closed, and these capabilities (a list, may be empty) alone. */ -}}
{{- define "picket.rootSecurity" -}}
runAsUser: 0
runAsGroup: 0
runAsNonRoot: false
privileged: false
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop:
    - ALL
  {{- with .add }}
  add:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- with .root.Values.seLinuxOptions }}
seLinuxOptions:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- /* Nobody in particular, who may nothing. */ -}}
{{- define "picket.userSecurity" -}}
runAsUser: 65532
runAsGroup: 65532
runAsNonRoot: true
privileged: false
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop:
    - ALL
{{- end }}

{{- /* The account's token, for the container that mounts it and no other: what `automountServiceAccountToken` would mount in all. */ -}}
{{- define "picket.tokenVolume" -}}
- name: api-access
  projected:
    defaultMode: 0444
    sources:
      - serviceAccountToken:
          path: token
          expirationSeconds: 3607
      - configMap:
          name: kube-root-ca.crt
          items:
            - key: ca.crt
              path: ca.crt
      - downwardAPI:
          items:
            - path: namespace
              fieldRef:
                apiVersion: v1
                fieldPath: metadata.namespace
{{- end }}

{{- define "picket.tokenMount" -}}
- name: api-access
  mountPath: /var/run/secrets/kubernetes.io/serviceaccount
  readOnly: true
{{- end }}

{{- /* Where the kubelet asks for health. */ -}}
{{- define "picket.probeHost" -}}
{{- get (dict "0.0.0.0" "127.0.0.1" "::" "::1") .Values.metrics.bindAddress | default .Values.metrics.bindAddress -}}
{{- end }}

{{- define "picket.metricsBind" -}}
{{- $address := .Values.metrics.bindAddress -}}
{{- if contains ":" $address -}}{{- $address = printf "[%s]" $address -}}{{- end -}}
{{- printf "%s:%d" $address (int .Values.metrics.port) -}}
{{- end }}

{{- /* The agent's folder on the node. */ -}}
{{- define "picket.runVolume" -}}
- name: run
  hostPath:
    path: {{ .Values.agent.runDir }}
    type: DirectoryOrCreate
{{- end }}

{{- /* What it takes to hold rules of the node, and those of pods where they are wanted. */ -}}
{{- define "picket.enforcerSecurity" -}}
{{- $add := list "NET_ADMIN" -}}
{{- if .Values.agent.podNamespaces.enabled -}}
{{- $add = append $add "SYS_ADMIN" -}}
{{- end -}}
{{- include "picket.rootSecurity" (dict "root" . "add" $add) }}
{{- end }}

{{- define "picket.namespacesVolume" -}}
{{- if .Values.agent.podNamespaces.enabled -}}
- name: pod-namespaces
  hostPath:
    path: {{ .Values.agent.podNamespaces.path }}
    type: DirectoryOrCreate
{{- end }}
{{- end }}

{{- /* A namespace that comes later is mounted there on the node, and is seen here. */ -}}
{{- define "picket.namespacesMount" -}}
{{- if .Values.agent.podNamespaces.enabled -}}
- name: pod-namespaces
  mountPath: {{ .Values.agent.podNamespaces.path }}
  mountPropagation: HostToContainer
  readOnly: true
{{- end }}
{{- end }}

{{- define "picket.testHook" -}}
helm.sh/hook: test
helm.sh/hook-delete-policy: before-hook-creation,hook-succeeded
{{- end }}

{{- define "picket.deleteHook" -}}
helm.sh/hook: pre-delete
helm.sh/hook-delete-policy: before-hook-creation,hook-succeeded
{{- end }}

{{- /* What values say to the agent. */ -}}
{{- define "picket.agentArgs" -}}
- agent
- --node=$(NODE_NAME)
- --run-dir={{ .Values.agent.runDir }}
- --metrics-bind={{ include "picket.metricsBind" . }}
- --node-egress={{ .Values.agent.nodeEgress }}
{{- range .Values.agent.bridges }}
- --bridge={{ . }}
{{- end }}
{{- if .Values.agent.setBridgeNetfilter }}
- --set-bridge-netfilter
{{- end }}
- --revocation={{ .Values.agent.revocation }}
- --mark-bit={{ .Values.agent.markBit }}
- --own-tables={{ .Values.agent.ownTables }}
{{- range $resource, $limit := .Values.agent.budget }}
- --budget={{ $resource }}={{ int $limit }}
{{- end }}
- --log-level={{ .Values.log.level }}
- --log-format={{ .Values.log.format }}
{{- end }}
