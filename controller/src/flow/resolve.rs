//! From names to a connection between addresses.

use std::net::IpAddr;

use policy_compiler::evaluate::{Connection, Transport};
use policy_compiler::model::{
    Cluster, Family, NamespacedName, Owner, Pod, Protocol, is_link_local,
};

use super::{End, Port, ProtocolName, Question};

/// A question whose names have become addresses.
#[derive(Clone, Debug, PartialEq)]
pub struct Asked {
    /// What was asked.
    pub question: Question,
    /// The connection that it is about.
    pub connection: Connection,
}

/// Finds the connection that a question is about.
///
/// # Errors
/// Why it cannot be asked: an end that does not exist or has no address, no common family, no such port.
pub fn resolve(cluster: &Cluster, question: &Question) -> Result<Asked, String> {
    let sources = addresses(cluster, &question.from)?;
    let destinations = addresses(cluster, &question.to)?;
    let wanted = question.family.map(Family::from);
    let common = Family::ALL
        .into_iter()
        .filter(|family| wanted.is_none_or(|wanted| wanted == *family))
        .find_map(|family| Some((of(&sources, family)?, of(&destinations, family)?)));
    let Some((source, destination)) = common else {
        let family = wanted.map_or("address family".to_owned(), |family| {
            format!("{family} address")
        });
        let (from, to) = (&question.from, &question.to);
        return Err(format!("{from} and {to} have no {family} in common"));
    };
    let connection = Connection {
        source,
        destination,
        transport: transport(cluster, question, destination)?,
    };
    Ok(Asked {
        question: question.clone(),
        connection,
    })
}

fn of(addresses: &[IpAddr], family: Family) -> Option<IpAddr> {
    let mut addresses = addresses.iter().copied();
    addresses.find(|address| Family::of(*address) == family)
}

fn addresses(cluster: &Cluster, end: &End) -> Result<Vec<IpAddr>, String> {
    match end {
        End::Ip(address) => Ok(vec![*address]),
        End::Node(name) => node_addresses(cluster, name),
        End::Pod(id) => {
            let pod = cluster.pods.get(id).ok_or_else(|| no_pod(cluster, id))?;
            if pod.phase.is_terminal() {
                return Err(format!(
                    "pod {id} has ended ({:?}): it has no network",
                    pod.phase
                ));
            }
            if pod.host_network {
                return host_network_addresses(cluster, pod);
            }
            // Of a link-local address only who names it itself can say on which link it is.
            let owned = cluster.addresses_of(pod);
            let owned: Vec<_> = owned.filter(|address| !is_link_local(address)).collect();
            let mut others = pod.addresses.iter();
            match (
                owned.is_empty(),
                others.find(|address| !is_link_local(address)),
            ) {
                (false, _) => Ok(owned),
                (true, Some(address)) => Err(format!(
                    "address {address} of pod {id} belongs to {}",
                    owner(cluster, *address)
                )),
                (true, None) => Err(format!("pod {id} has no address yet")),
            }
        }
    }
}

/// With the pods that may be meant: those of a workload of that name, or of that name in other namespaces.
fn no_pod(cluster: &Cluster, id: &NamespacedName) -> String {
    const SHOWN: usize = 3;
    let prefix = format!("{}-", id.name);
    let of_workload = |other: &&NamespacedName| {
        other.namespace == id.namespace && other.name.starts_with(&prefix)
    };
    let elsewhere = |other: &&NamespacedName| {
        other.name == id.name || (id.namespace == "default" && other.name.starts_with(&prefix))
    };
    let mut meant: Vec<_> = cluster.pods.keys().filter(of_workload).collect();
    if meant.is_empty() {
        meant = cluster.pods.keys().filter(elsewhere).collect();
    }
    let meant: Vec<_> = meant
        .into_iter()
        .take(SHOWN)
        .map(ToString::to_string)
        .collect();
    match meant.is_empty() {
        true => format!("there is no pod {id}"),
        false => format!("there is no pod {id}: is it {}?", meant.join(" or ")),
    }
}

fn host_network_addresses(cluster: &Cluster, pod: &Pod) -> Result<Vec<IpAddr>, String> {
    if !pod.addresses.is_empty() {
        return Ok(pod.addresses.clone());
    }
    match &pod.node {
        Some(node) => node_addresses(cluster, node),
        None => Err(format!("pod {} is not on a node yet", pod.id)),
    }
}

fn node_addresses(cluster: &Cluster, name: &str) -> Result<Vec<IpAddr>, String> {
    let node = cluster
        .nodes
        .get(name)
        .ok_or(format!("there is no node {name}"))?;
    if node.addresses.is_empty() {
        return Err(format!("node {name} has no address"));
    }
    Ok(node.addresses.iter().copied().collect())
}

fn owner(cluster: &Cluster, address: IpAddr) -> String {
    match cluster.owner(address) {
        Owner::Pod(pod) => format!("pod {}", pod.id),
        Owner::Node(node) => format!("node {node}"),
        Owner::External => "nobody".into(),
    }
}

fn transport(
    cluster: &Cluster,
    question: &Question,
    destination: IpAddr,
) -> Result<Transport, String> {
    let protocol = match question.protocol {
        ProtocolName::Tcp => Protocol::Tcp,
        ProtocolName::Udp => Protocol::Udp,
        ProtocolName::Sctp => Protocol::Sctp,
        ProtocolName::Icmp => {
            return match &question.port {
                None | Some(Port::Number(0)) => Ok(Transport::Icmp),
                Some(port) => Err(format!("ICMP has no ports, {port} was asked for")),
            };
        }
    };
    match &question.port {
        Some(Port::Number(number @ 1..)) => Ok(Transport::Port(protocol, *number)),
        Some(Port::Name(name)) => {
            let pod = destination_pod(cluster, &question.to, destination)
                .ok_or(format!("{}: only a pod has named ports", question.to))?;
            let number = pod.numbers_of(name, protocol).next();
            number
                .map(|number| Transport::Port(protocol, number))
                .ok_or(format!(
                    "pod {} has no {protocol} port named {name}",
                    pod.id
                ))
        }
        Some(Port::Number(0)) | None => Err(format!("{protocol} needs a port")),
    }
}

fn destination_pod<'a>(cluster: &'a Cluster, to: &End, address: IpAddr) -> Option<&'a Pod> {
    let by_name = |id: &NamespacedName| cluster.pods.get(id);
    match (to, cluster.owner(address)) {
        (End::Pod(id), _) => by_name(id),
        (_, Owner::Pod(pod)) => Some(pod),
        _ => None,
    }
}
