//! What was made of manifests, by name.

#![allow(dead_code, reason = "each test program uses a part")]

use std::collections::BTreeMap;

use controller::source::{Loaded, load_bytes};
use policy_compiler::api::{Namespace, Node, Object, Pod};

#[track_caller]
pub(crate) fn loaded(text: &str) -> Loaded {
    match load_bytes([("x.yaml", text.as_bytes())]) {
        Ok(loaded) => loaded,
        Err(errors) => panic!("{errors}"),
    }
}

pub(crate) fn pods(loaded: &Loaded) -> BTreeMap<String, Pod> {
    let pods = loaded
        .objects
        .iter()
        .filter_map(|sourced| match &sourced.object {
            Object::Pod(pod) => Some(pod.clone()),
            _ => None,
        });
    let name = |pod: &Pod| {
        format!(
            "{}/{}",
            pod.metadata.namespace.clone().unwrap(),
            pod.metadata.name.clone().unwrap()
        )
    };
    pods.map(|pod| (name(&pod), pod)).collect()
}

pub(crate) fn nodes(loaded: &Loaded) -> BTreeMap<String, Node> {
    let nodes = loaded
        .objects
        .iter()
        .filter_map(|sourced| match &sourced.object {
            Object::Node(node) => Some((node.metadata.name.clone().unwrap(), node.clone())),
            _ => None,
        });
    nodes.collect()
}

pub(crate) fn namespaces(loaded: &Loaded) -> BTreeMap<String, Namespace> {
    let namespaces = loaded
        .objects
        .iter()
        .filter_map(|sourced| match &sourced.object {
            Object::Namespace(namespace) => {
                Some((namespace.metadata.name.clone().unwrap(), namespace.clone()))
            }
            _ => None,
        });
    namespaces.collect()
}

pub(crate) fn names(loaded: &Loaded) -> Vec<String> {
    pods(loaded).into_keys().collect()
}

pub(crate) fn ips(pod: &Pod) -> Vec<String> {
    let status = pod.status.clone().unwrap_or_default();
    let all: Vec<String> = status
        .pod_ips
        .unwrap_or_default()
        .into_iter()
        .map(|ip| ip.ip)
        .collect();
    assert_eq!(
        all.first(),
        status.pod_ip.as_ref(),
        "podIP is the first of podIPs"
    );
    all
}

pub(crate) fn node_of(pod: &Pod) -> String {
    pod.spec.clone().unwrap().node_name.unwrap()
}

pub(crate) fn node_ips(node: &Node) -> Vec<String> {
    let addresses = node.status.clone().unwrap().addresses.unwrap();
    addresses
        .into_iter()
        .map(|address| address.address)
        .collect()
}

pub(crate) fn pod(name: &str, rest: &str) -> String {
    format!("---\napiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, namespace: ns}}\n{rest}\n")
}

pub(crate) fn node(name: &str, rest: &str) -> String {
    format!("---\napiVersion: v1\nkind: Node\nmetadata: {{name: {name}}}\n{rest}\n")
}

pub(crate) fn workload(kind: &str, name: &str, rest: &str) -> String {
    let version = if kind.ends_with("Job") {
        "batch/v1"
    } else {
        "apps/v1"
    };
    let spec = "template: {metadata: {labels: {app: web}}, spec: {hostNetwork: false, containers: [{name: c, ports: \
                [{name: http, containerPort: 80}]}], initContainers: [{name: i, restartPolicy: Always}]}}";
    let spec = if kind == "CronJob" {
        format!("schedule: '* * * * *', jobTemplate: {{spec: {{{spec}}}}}")
    } else {
        spec.to_owned()
    };
    format!(
        "---\napiVersion: {version}\nkind: {kind}\nmetadata: {{name: {name}, namespace: ns{rest}}}\nspec: {{{spec}}}\n"
    )
}
