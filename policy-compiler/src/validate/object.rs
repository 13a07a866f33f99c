//! Metadata, namespaces, nodes and pods.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::field::{Errors, Path};
use super::{FieldError, text};
use crate::api::{self, MIRROR, STATIC_POD_UID};
use crate::model::{
    Cidr, ContainerPort, Family, Labels, NAMESPACE_NAME_LABEL, Namespace, NamespacedName, Node,
    Phase, Pod, Presence, Protocol,
};

/// The namespace, with its `kubernetes.io/metadata.name` label.
///
/// # Errors
/// Every field that the API server would refuse.
pub fn namespace(namespace: &api::Namespace) -> Result<Namespace, Vec<FieldError>> {
    let mut errors = Errors::default();
    let name = name(&mut errors, &namespace.metadata, text::dns_label);
    let mut labels = labels(&mut errors, &namespace.metadata);
    if let Some(other) = labels.insert(NAMESPACE_NAME_LABEL.into(), name.clone())
        && other != name
    {
        let metadata = Path::Root("metadata");
        let labels = metadata.field("labels");
        let detail = format!("must be the namespace's name, {name}");
        errors.invalid(&labels.field(NAMESPACE_NAME_LABEL), other, detail);
    }
    errors.finish(Some(Namespace { name, labels }))
}

/// The node with its InternalIP and ExternalIP addresses.
///
/// # Errors
/// Every field that the API server would refuse.
pub fn node(node: &api::Node) -> Result<Node, Vec<FieldError>> {
    let mut errors = Errors::default();
    let name = name(&mut errors, &node.metadata, text::dns_subdomain);
    labels(&mut errors, &node.metadata);

    let status = Path::Root("status");
    let addresses_path = status.field("addresses");
    let given = node.status.iter().flat_map(|status| &status.addresses);
    let addresses = given
        .flatten()
        .enumerate()
        .filter(|(_, address)| ["InternalIP", "ExternalIP"].contains(&address.type_.as_str()))
        .filter_map(|(index, address)| {
            let path = addresses_path.index(index);
            ip(&mut errors, &path.field("address"), &address.address)
        })
        .collect();

    let spec = Path::Root("spec");
    let cidrs_path = spec.field("podCIDRs");
    let mut pod_cidrs = Vec::new();
    if let Some(spec) = &node.spec {
        let given = match &spec.pod_cidrs {
            Some(cidrs) if !cidrs.is_empty() => cidrs.clone(),
            _ => spec.pod_cidr.iter().cloned().collect(),
        };
        for (index, text) in given.iter().enumerate() {
            match Cidr::parse_lenient(text) {
                Ok(cidr) => pod_cidrs.push(cidr),
                Err(error) => errors.invalid(&cidrs_path.index(index), text, error.to_string()),
            }
        }
    }
    errors.finish(Some(Node {
        name,
        addresses,
        pod_cidrs,
    }))
}

/// The pod.
///
/// # Errors
/// Every field that picket uses and the API server would refuse.
pub fn pod(pod: &api::Pod) -> Result<Pod, Vec<FieldError>> {
    let mut errors = Errors::default();
    let name = name(&mut errors, &pod.metadata, text::dns_subdomain);
    let namespace = namespace_or_default(&mut errors, &pod.metadata);
    let labels = labels(&mut errors, &pod.metadata);
    let spec = pod.spec.as_ref();
    let status = pod.status.as_ref();

    let phase = match status.and_then(|status| status.phase.as_deref()) {
        None | Some("" | "Pending") => Phase::Pending,
        Some("Running") => Phase::Running,
        Some("Succeeded") => Phase::Succeeded,
        Some("Failed") => Phase::Failed,
        Some("Unknown") => Phase::Unknown,
        Some(other) => {
            let path = Path::Root("status");
            let known = ["Failed", "Pending", "Running", "Succeeded", "Unknown"];
            errors.not_supported(&path.field("phase"), other, &known);
            Phase::Pending
        }
    };
    let node = spec.and_then(|spec| spec.node_name.clone());
    let node = node.filter(|node| !node.is_empty());
    if let Some(node) = &node {
        let path = Path::Root("spec");
        for detail in text::dns_subdomain(node) {
            errors.invalid(&path.field("nodeName"), node, detail);
        }
    }
    let annotations = &pod.metadata.annotations;
    let mirrored = annotations.get(STATIC_POD_UID);
    let mirrored = mirrored.filter(|_| annotations.contains_key(MIRROR));
    let uid = mirrored.or(pod.metadata.uid.as_ref());
    let pod = Pod {
        id: NamespacedName::new(namespace, name),
        uid: uid.map(|uid| uid.as_str().into()),
        presence: Presence::Listed,
        labels: labels.into(),
        node,
        host_network: spec.and_then(|spec| spec.host_network) == Some(true),
        phase,
        terminating: pod.metadata.deletion_timestamp.is_some(),
        addresses: status.map_or_else(Vec::new, |status| pod_addresses(&mut errors, status)),
        ports: spec
            .map_or_else(Vec::new, |spec| ports(&mut errors, spec))
            .into(),
    };
    errors.finish(Some(pod))
}

fn pod_addresses(errors: &mut Errors, status: &api::PodStatus) -> Vec<IpAddr> {
    let path = Path::Root("status");
    let list_path = path.field("podIPs");
    let mut addresses = Vec::new();
    for (index, given) in status.pod_ips.iter().flatten().enumerate() {
        let path = list_path.index(index);
        let path = path.field("ip");
        let Some(address) = ip(errors, &path, &given.ip) else {
            continue;
        };
        if addresses
            .iter()
            .any(|other| Family::of(*other) == Family::of(address))
        {
            let detail = "may specify no more than one IP for each IP family";
            errors.invalid(&path, &given.ip, detail);
        } else {
            addresses.push(address);
        }
    }
    if let Some(first) = status.pod_ip.as_deref().filter(|first| !first.is_empty()) {
        let path = path.field("podIP");
        match (ip(errors, &path, first), addresses.first()) {
            (Some(address), None) => addresses.push(address),
            (Some(address), Some(listed)) if address != *listed => {
                errors.invalid(&path, first, "must be the first of podIPs");
            }
            _ => {}
        }
    }
    addresses
}

/// Ports of containers and of restartable init containers (sidecars); those of other init containers are
/// closed again before the pod serves, but they are checked all the same (validateContainerPorts).
fn ports(errors: &mut Errors, spec: &api::PodSpec) -> Vec<ContainerPort> {
    let path = Path::Root("spec");
    let containers = spec.containers.iter().flatten().enumerate();
    let inits = spec.init_containers.iter().flatten().enumerate();
    let all = containers
        .map(|(index, container)| ("containers", index, container))
        .chain(inits.map(|(index, container)| ("initContainers", index, container)));
    let mut serving = Vec::new();
    for (field, index, container) in all {
        let list_path = path.field(field);
        let container_path = list_path.index(index);
        let ports = container_ports(errors, &container_path.field("ports"), container);
        if field == "containers" || container.restart_policy.as_deref() == Some("Always") {
            serving.extend(ports);
        }
    }
    serving
}

/// A name is unique in its container whatever the protocol; two containers may share one.
fn container_ports(
    errors: &mut Errors,
    path: &Path<'_>,
    container: &api::Container,
) -> Vec<ContainerPort> {
    let mut names = BTreeSet::new();
    let mut ports = Vec::new();
    for (index, port) in container.ports.iter().flatten().enumerate() {
        let path = path.index(index);
        ports.extend(container_port(errors, &path, port));
        if let Some(name) = port.name.as_deref().filter(|name| !name.is_empty())
            && text::port_name(name).is_empty()
            && !names.insert(name)
        {
            errors.duplicate(&path.field("name"), name);
        }
    }
    ports
}

fn container_port(
    errors: &mut Errors,
    path: &Path<'_>,
    port: &api::ContainerPort,
) -> Option<ContainerPort> {
    let name = port.name.clone().filter(|name| !name.is_empty());
    for wrong in name.as_deref().map(text::port_name).unwrap_or_default() {
        errors.invalid(&path.field("name"), &name, wrong);
    }
    let protocol = match port.protocol.as_deref() {
        // The defaulting turns "" into TCP here, unlike in a NetworkPolicy.
        None | Some("" | "TCP") => Some(Protocol::Tcp),
        Some("UDP") => Some(Protocol::Udp),
        Some("SCTP") => Some(Protocol::Sctp),
        Some(other) => {
            errors.not_supported(&path.field("protocol"), other, &["SCTP", "TCP", "UDP"]);
            None
        }
    };
    let number = u16::try_from(port.container_port).ok().filter(|n| *n > 0);
    if number.is_none() {
        errors.invalid(
            &path.field("containerPort"),
            port.container_port,
            "must be between 1 and 65535, inclusive",
        );
    }
    Some(ContainerPort {
        name,
        protocol: protocol?,
        port: number?,
    })
}

/// An address; the IPv4-mapped form that the API server tolerates means the IPv4 address, as it does on the wire.
fn ip(errors: &mut Errors, path: &Path<'_>, text: &str) -> Option<IpAddr> {
    let parsed: Option<IpAddr> = text.parse().ok();
    if parsed.is_none() {
        let detail = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";
        errors.invalid(path, text, detail);
    }
    parsed.map(|address| address.to_canonical())
}

/// The name, checked; empty after an error.
pub(super) fn name(
    errors: &mut Errors,
    metadata: &api::ObjectMeta,
    check: fn(&str) -> Vec<String>,
) -> String {
    let path = Path::Root("metadata");
    let path = path.field("name");
    let name = metadata.name.clone().unwrap_or_default();
    if name.is_empty() {
        errors.required(&path, "name or generateName is required");
    } else {
        for wrong in check(&name) {
            errors.invalid(&path, &name, wrong);
        }
    }
    name
}

/// The namespace, checked; `default` if absent, as kubectl does.
pub(super) fn namespace_or_default(errors: &mut Errors, metadata: &api::ObjectMeta) -> String {
    let path = Path::Root("metadata");
    match metadata.namespace.as_deref() {
        None | Some("") => "default".into(),
        Some(namespace) => {
            for wrong in text::dns_label(namespace) {
                errors.invalid(&path.field("namespace"), namespace, wrong);
            }
            namespace.into()
        }
    }
}

fn labels(errors: &mut Errors, metadata: &api::ObjectMeta) -> Labels {
    let path = Path::Root("metadata");
    validate_labels(errors, &path.field("labels"), metadata.labels.as_ref());
    metadata.labels.clone().unwrap_or_default()
}

pub(super) fn validate_labels(
    errors: &mut Errors,
    path: &Path<'_>,
    labels: Option<&BTreeMap<String, String>>,
) {
    for (key, value) in labels.into_iter().flatten() {
        for wrong in text::qualified_name(key) {
            errors.invalid(path, key, wrong);
        }
        for wrong in text::label_value(value) {
            errors.invalid(path, value, wrong);
        }
    }
}
