{{- /* The folders of `docs/cni-install.md`. */ -}}
{{- define "picket.platforms" -}}
"":
  confDir: /etc/cni/net.d
  binDir: /opt/cni/bin
rke2:
  confDir: /etc/cni/net.d
  binDir: /opt/cni/bin
k3s:
  confDir: /var/lib/rancher/k3s/agent/etc/cni/net.d
  binDir: /var/lib/rancher/k3s/data/cni
k3d:
  confDir: /var/lib/rancher/k3s/agent/etc/cni/net.d
  binDir: /bin
microk8s:
  confDir: /var/snap/microk8s/current/args/cni-network
  binDir: /var/snap/microk8s/current/opt/cni/bin
gke:
  confDir: /etc/cni/net.d
  binDir: /home/kubernetes/bin
# Multus has a configuration there that nobody else may edit.
openshift:
  confDir: ""
  binDir: /var/lib/cni/bin
{{- end }}

{{- define "picket.confDir" -}}
{{- $of := get (include "picket.platforms" . | fromYaml) .Values.platform -}}
{{- .Values.cni.confDir | default $of.confDir -}}
{{- end }}

{{- define "picket.binDir" -}}
{{- $of := get (include "picket.platforms" . | fromYaml) .Values.platform -}}
{{- .Values.cni.binDir | default $of.binDir -}}
{{- end }}

{{- /* Which folders, and which file. */ -}}
{{- define "picket.cniFolderArgs" -}}
- --conf-dir={{ include "picket.confDir" . }}
{{- range .Values.cni.extraConfDirs }}
- --conf-dir={{ . }}
{{- end }}
- --bin-dir={{ include "picket.binDir" . }}
{{- with .Values.cni.confName }}
- --cni-conf-name={{ . }}
{{- end }}
{{- end }}

{{- /* And what is put there. */ -}}
{{- define "picket.cniEntryArgs" -}}
{{- include "picket.cniFolderArgs" . }}
- --run-dir={{ .Values.agent.runDir }}
- --on-agent-unavailable={{ .Values.cni.onAgentUnavailable }}
- --timeout-seconds={{ .Values.cni.timeoutSeconds }}
{{- range .Values.cni.excludeNamespaces }}
- --exclude-namespace={{ . }}
{{- end }}
{{- range .Values.cni.routingNamespaces }}
- --routing-namespace={{ . }}
{{- end }}
{{- end }}

{{- /* At the node's own paths: configurations name each other by these. */ -}}
{{- define "picket.cniMounts" -}}
- name: cni-conf
  mountPath: {{ include "picket.confDir" . }}
{{- range $index, $folder := .Values.cni.extraConfDirs }}
- name: cni-conf-{{ $index }}
  mountPath: {{ $folder }}
{{- end }}
- name: cni-bin
  mountPath: {{ include "picket.binDir" . }}
{{- end }}

{{- define "picket.cniVolumes" -}}
- name: cni-conf
  hostPath:
    path: {{ include "picket.confDir" . }}
    type: DirectoryOrCreate
{{- range $index, $folder := .Values.cni.extraConfDirs }}
- name: cni-conf-{{ $index }}
  hostPath:
    path: {{ $folder }}
    type: DirectoryOrCreate
{{- end }}
- name: cni-bin
  hostPath:
    path: {{ include "picket.binDir" . }}
    type: DirectoryOrCreate
{{- end }}

{{- /* Whether the hook takes the plugin out of the lists: also if it is no longer installed, as nodes may have it still. */ -}}
{{- define "picket.uninstallsCni" -}}
{{- if and .Values.cni.uninstall (include "picket.confDir" .) -}}true{{- end -}}
{{- end }}

{{- define "picket.hasCleanup" -}}
{{- if or .Values.cleanup.enabled (include "picket.uninstallsCni" .) -}}true{{- end -}}
{{- end }}
