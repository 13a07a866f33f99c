//! What is made, and what is read of pods.

use std::collections::BTreeMap;
use std::net::IpAddr;

use anyhow::Context;
use k8s_openapi::api::core::v1::{Pod, PodStatus};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use serde_json::{Value, json};

use super::Server;

/// Where the server listens.
pub(super) const PORT: u16 = 8080;

/// This pod, which connects.
pub(super) struct Client {
    name: String,
    uid: String,
    labels: BTreeMap<String, String>,
    node: String,
    addresses: Vec<IpAddr>,
    image: String,
    pull_policy: Option<String>,
    pull_secrets: Value,
    /// Where it may be: there are agents there, so the server is to be there too.
    placement: Value,
    /// The server's, the same in each run of this pod.
    server: String,
}

impl Client {
    /// What is needed of it.
    pub(super) fn new(pod: Pod, image: Option<&str>) -> anyhow::Result<Self> {
        let name = pod.metadata.name.unwrap_or_default();
        let spec = pod.spec.unwrap_or_default();
        anyhow::ensure!(
            spec.host_network != Some(true),
            "Pod {name} is on its node's network, which no policy is about: start it without hostNetwork"
        );
        let labels = pod.metadata.labels.unwrap_or_default();
        anyhow::ensure!(
            !labels.is_empty(),
            "Pod {name} has no labels, so that no policy can allow it alone: give it one"
        );
        let own = spec.containers.into_iter().next().unwrap_or_default();
        let image = image.map(str::to_owned).or(own.image);
        let mut selector = spec.node_selector.unwrap_or_default();
        let os = selector.entry("kubernetes.io/os".to_owned());
        os.or_insert_with(|| "linux".to_owned());
        let uid = pod.metadata.uid.unwrap_or_default();
        Ok(Self {
            image: image.context("name the image with --image")?,
            pull_policy: own.image_pull_policy,
            placement: json!({
                "nodeSelector": selector,
                "affinity": {"nodeAffinity": spec.affinity.and_then(|of| of.node_affinity)},
                "tolerations": spec.tolerations,
            }),
            node: spec.node_name.unwrap_or_default(),
            pull_secrets: serde_json::to_value(spec.image_pull_secrets.unwrap_or_default())?,
            addresses: pod.status.as_ref().map(addresses).unwrap_or_default(),
            server: format!("picket-selftest-{uid}"),
            name,
            uid,
            labels,
        })
    }

    pub(super) fn node(&self) -> &str {
        &self.node
    }

    pub(super) fn server_name(&self) -> &str {
        &self.server
    }

    /// Those of the families that this pod has; all, if that is not known.
    pub(super) fn reachable(&self, addresses: &[IpAddr]) -> Vec<IpAddr> {
        let own = &self.addresses;
        let has = |of: &IpAddr| own.iter().any(|own| own.is_ipv4() == of.is_ipv4());
        let addresses = addresses.iter().filter(|of| own.is_empty() || has(of));
        addresses.copied().collect()
    }

    pub(super) fn policies(&self) -> [String; 2] {
        ["deny", "allow"].map(|what| format!("{}-{what}", self.server))
    }

    /// Only the server has them.
    fn server_labels(&self) -> Value {
        json!({"app.kubernetes.io/component": "selftest", "app.kubernetes.io/instance": self.uid})
    }

    fn metadata(&self, name: &str) -> Value {
        json!({
            "name": name,
            "labels": self.server_labels(),
            "ownerReferences": [{"apiVersion": "v1", "kind": "Pod", "name": self.name, "uid": self.uid}],
        })
    }

    /// A pod that the Pod Security Standard `restricted` takes.
    pub(super) fn server(&self) -> anyhow::Result<Pod> {
        let port = PORT.to_string();
        let container = json!({
            "name": "server",
            "image": self.image,
            "imagePullPolicy": self.pull_policy,
            "args": ["probe", "listen", "--port", port],
            "ports": [{"containerPort": PORT}],
            "resources": {
                "requests": {"cpu": "10m", "memory": "16Mi"},
                "limits": {"memory": "64Mi"},
            },
            "securityContext": {
                "allowPrivilegeEscalation": false,
                "readOnlyRootFilesystem": true,
                "capabilities": {"drop": ["ALL"]},
            },
        });
        Ok(serde_json::from_value(json!({
            "metadata": self.metadata(&self.server),
            "spec": {
                "containers": [container],
                "imagePullSecrets": self.pull_secrets,
                "nodeSelector": self.placement["nodeSelector"],
                "affinity": self.placement["affinity"],
                "tolerations": self.placement["tolerations"],
                "restartPolicy": "Never",
                "terminationGracePeriodSeconds": 1,
                "automountServiceAccountToken": false,
                "enableServiceLinks": false,
                "securityContext": {
                    "runAsNonRoot": true,
                    "runAsUser": 65532,
                    "runAsGroup": 65532,
                    "seccompProfile": {"type": "RuntimeDefault"},
                },
            },
        }))?)
    }

    /// Nobody reaches the server.
    pub(super) fn deny(&self) -> anyhow::Result<NetworkPolicy> {
        let [deny, _] = self.policies();
        Ok(self.policy(&deny, json!([]))?)
    }

    /// This pod does, on its port.
    pub(super) fn allow(&self) -> anyhow::Result<NetworkPolicy> {
        let [_, allow] = self.policies();
        let from = json!([{"podSelector": {"matchLabels": self.labels}}]);
        let ports = json!([{"protocol": "TCP", "port": PORT}]);
        Ok(self.policy(&allow, json!([{"from": from, "ports": ports}]))?)
    }

    fn policy(&self, name: &str, ingress: Value) -> serde_json::Result<NetworkPolicy> {
        serde_json::from_value(json!({
            "metadata": self.metadata(name),
            "spec": {
                "podSelector": {"matchLabels": self.server_labels()},
                "policyTypes": ["Ingress"],
                "ingress": ingress,
            },
        }))
    }
}

fn addresses(status: &PodStatus) -> Vec<IpAddr> {
    let all = status.pod_ips.iter().flatten();
    all.filter_map(|of| of.ip.parse().ok()).collect()
}

/// The server, once it is ready.
pub(super) fn server(pod: &Pod) -> Option<Server> {
    let status = pod.status.as_ref()?;
    let mut conditions = status.conditions.iter().flatten();
    let is_ready = conditions.any(|of| of.type_ == "Ready" && of.status == "True");
    let addresses = addresses(status);
    let node = pod.spec.as_ref()?.node_name.clone()?;
    (is_ready && !addresses.is_empty()).then_some(Server { node, addresses })
}

/// Why the server is not ready, as well as its status says it.
pub(super) fn unready(pod: &Pod) -> String {
    let status = pod.status.clone().unwrap_or_default();
    let phase = status.phase.unwrap_or_else(|| "Pending".to_owned());
    let containers = status.container_statuses.unwrap_or_default().into_iter();
    let waiting = containers.filter_map(|of| of.state?.waiting);
    let waiting = waiting.map(|of| (of.reason, of.message));
    // Of a pod that has no node yet the scheduler says why.
    let conditions = status.conditions.unwrap_or_default().into_iter();
    let refused = conditions.filter(|of| of.status == "False");
    let refused = refused.map(|of| (of.reason, of.message));
    let told = waiting
        .chain(refused)
        .filter(|(reason, _)| reason.is_some());
    let told = told.map(|(reason, message)| {
        let words = [reason, message].into_iter().flatten();
        words.collect::<Vec<_>>().join(": ")
    });
    [phase]
        .into_iter()
        .chain(told)
        .collect::<Vec<_>>()
        .join("; ")
}
