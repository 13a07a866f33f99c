{{- /* What values must not say together, and what must not be in the cluster. */ -}}
{{- define "picket.check" -}}
{{- if and .Values.agent.setBridgeNetfilter (not .Values.agent.bridges) }}
{{- fail "agent.setBridgeNetfilter: name the bridges in agent.bridges" }}
{{- end }}
{{- $isLoopback := or (hasPrefix "127." .Values.metrics.bindAddress) (eq "::1" .Values.metrics.bindAddress) }}
{{- if and .Values.metrics.podMonitor.enabled $isLoopback }}
{{- fail (printf "metrics.podMonitor.enabled: Prometheus can not reach %s of a node: set metrics.bindAddress to 0.0.0.0 or ::" .Values.metrics.bindAddress) }}
{{- end }}
{{- if and .Values.cni.install (not (include "picket.confDir" .)) }}
{{- fail (printf "platform %s: there is no configuration into which the CNI plugin can be put: set cni.install=false; a pod's policies are in force then as soon as the agent knows the pod, and not before the pod starts" .Values.platform) }}
{{- end }}
{{- if and (not .Values.serviceAccount.create) .Values.rbac.create (not .Values.serviceAccount.name) }}
{{- fail "serviceAccount.name: name the account that is there, or every pod of the namespace that names none would have the agent's rights" }}
{{- end }}
{{- range $of := list "cleanup" "test" }}
{{- if eq $.Values.serviceAccount.name (printf "%s-%s" (include "picket.fullname" $) $of) }}
{{- fail (printf "serviceAccount.name: %s is the account of a hook, which makes and deletes it: name another" $.Values.serviceAccount.name) }}
{{- end }}
{{- end }}
{{- $given := list }}
{{- range (include "picket.agentArgs" . | fromYamlArray) }}
{{- $given = append $given (splitList "=" . | first) }}
{{- end }}
{{- range $index, $argument := .Values.extraArgs }}
{{- $option := splitList "=" $argument | first }}
{{- if and (has $option $given) (not (has $option (list "--bridge" "--budget"))) }}
{{- fail (printf "extraArgs[%d]: %s is given by a value of its own, and the agent takes it once" $index $option) }}
{{- end }}
{{- end }}
{{- $folders := dict .Values.agent.runDir "agent.runDir" }}
{{- $others := list }}
{{- if .Values.agent.podNamespaces.enabled }}
{{- $others = append $others (list "agent.podNamespaces.path" .Values.agent.podNamespaces.path) }}
{{- end }}
{{- if or .Values.cni.install (include "picket.uninstallsCni" .) }}
{{- $others = append $others (list "cni.binDir" (include "picket.binDir" .)) }}
{{- $others = append $others (list "cni.confDir" (include "picket.confDir" .)) }}
{{- range $index, $folder := .Values.cni.extraConfDirs }}
{{- $others = append $others (list (printf "cni.extraConfDirs[%d]" $index) $folder) }}
{{- end }}
{{- end }}
{{- range $others }}
{{- $name := first . }}
{{- $folder := last . }}
{{- with get $folders $folder }}
{{- fail (printf "%s: %s is %s too: each needs a folder of its own" $name $folder .) }}
{{- end }}
{{- $_ := set $folders $folder $name }}
{{- end }}
{{- $unit := get (dict "s" 1 "m" 60 "h" 3600) (trimAll "0123456789" .Values.cleanup.timeout) }}
{{- $seconds := mul $unit (trimAll "smh" .Values.cleanup.timeout | int) }}
{{- /* Agents end before, and rules are removed after that: half a minute is little for both and the start of a pod. */ -}}
{{- $needed := add .Values.cleanup.purgeAfterSeconds .Values.terminationGracePeriodSeconds 30 }}
{{- if and .Values.cni.install (include "picket.uninstallsCni" .) (gt $needed $seconds) }}
{{- fail (printf "cleanup.timeout: %s is too little where each node waits %d seconds (cleanup.purgeAfterSeconds) beside all else: set it to %ds or more" .Values.cleanup.timeout (int .Values.cleanup.purgeAfterSeconds) $needed) }}
{{- end }}
{{- if eq .Values.checks.otherRelease "fail" }}
{{- range (include "picket.otherReleases" . | fromYamlArray) }}
{{- fail (printf "picket is in this cluster already: DaemonSet %s. Two agents can not be on one node: upgrade that release, or uninstall it first. If the two have different nodes (nodeSelector), set checks.otherRelease=warn." .) }}
{{- end }}
{{- end }}
{{- if eq .Values.checks.otherEngines "fail" }}
{{- range (include "picket.otherEngines" . | fromYamlArray) }}
{{- fail (printf "%s is in this cluster. A connection passes only if both it and picket allow it. Let one of them enforce NetworkPolicy, or set checks.otherEngines=warn." .) }}
{{- end }}
{{- end }}
{{- end }}

{{- /* DaemonSets of agents that are not this release's, as NAMESPACE/NAME of release NAMESPACE/NAME. */ -}}
{{- define "picket.otherReleases" -}}
{{- $found := list }}
{{- if ne .Values.checks.otherRelease "ignore" }}
{{- range (lookup "apps/v1" "DaemonSet" "" "").items }}
{{- $labels := default (dict) .metadata.labels }}
{{- if and (eq (get $labels "app.kubernetes.io/part-of") "picket") (eq (get $labels "app.kubernetes.io/component") "agent") }}
{{- $annotations := default (dict) .metadata.annotations }}
{{- $name := get $annotations "meta.helm.sh/release-name" }}
{{- $namespace := get $annotations "meta.helm.sh/release-namespace" }}
{{- if not (and (eq $name $.Release.Name) (eq $namespace $.Release.Namespace)) }}
{{- $found = append $found (printf "%s/%s of the release %s/%s" .metadata.namespace .metadata.name $namespace $name) }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}
{{- $found | toYaml }}
{{- end }}

{{- /* Programs that enforce NetworkPolicy, by their DaemonSets. Others than these are found by the agent, in the kernel. */ -}}
{{- define "picket.otherEngines" -}}
{{- $engines := dict
  "antrea-agent" "Antrea"
  "azure-npm" "Azure NPM"
  "anetd" "GKE Dataplane V2"
  "calico-node" "Calico"
  "canal" "Calico (canal)"
  "cilium" "Cilium"
  "kindnet" "kindnet"
  "kube-network-policies" "kube-network-policies"
  "kube-ovn-cni" "kube-ovn"
  "kube-router" "kube-router"
  "ovnkube-node" "OVN-Kubernetes"
  "romana-agent" "Romana"
  "weave-net" "Weave Net"
}}
{{- $found := list }}
{{- if ne .Values.checks.otherEngines "ignore" }}
{{- range (lookup "apps/v1" "DaemonSet" "" "").items }}
{{- with get $engines .metadata.name }}
{{- $found = append $found . }}
{{- end }}
{{- end }}
{{- end }}
{{- $found | uniq | sortAlpha | toYaml }}
{{- end }}
