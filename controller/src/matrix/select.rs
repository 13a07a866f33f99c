//! Parts of a matrix: some sources, some destinations, one port.

use std::net::IpAddr;

use policy_compiler::evaluate::Transport;
use policy_compiler::model::{PortRange, Protocol};
use policy_compiler::reach::Allowed;

use super::report::{End, EndKind, Report, verdict};
use crate::source::OneLine;

/// Which ends are shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EndPattern {
    /// The pods of a namespace.
    Namespace(String),
    /// A workload or a pod: namespace and name.
    Pods(String, String),
    /// A node.
    Node(String),
    /// Whoever has the address among the outside ends.
    Outside,
}

impl EndPattern {
    /// `NAMESPACE`, `NAMESPACE/NAME` of a workload or pod, `node/NAME`, or `outside`.
    ///
    /// # Errors
    /// What may be written instead.
    pub fn parse(text: &str) -> Result<Self, String> {
        match text.split('/').collect::<Vec<_>>().as_slice() {
            ["outside"] => Ok(Self::Outside),
            [namespace] if !namespace.is_empty() && namespace.parse::<IpAddr>().is_err() => {
                Ok(Self::Namespace((*namespace).to_owned()))
            }
            ["node", name] if !name.is_empty() => Ok(Self::Node((*name).to_owned())),
            [namespace, name] if !namespace.is_empty() && !name.is_empty() => {
                Ok(Self::Pods((*namespace).to_owned(), (*name).to_owned()))
            }
            _ => Err(format!(
                "{:?} names no ends: write NAMESPACE, NAMESPACE/WORKLOAD, NAMESPACE/POD, node/NAME or outside",
                OneLine(text).to_string()
            )),
        }
    }

    fn matches(&self, end: &End) -> bool {
        match self {
            Self::Namespace(namespace) => end.namespace.as_ref() == Some(namespace),
            Self::Pods(namespace, name) => {
                end.namespace.as_ref() == Some(namespace)
                    && (end.workloads.iter().any(|workload| workload.name == *name)
                        || end.members.contains(&format!("{namespace}/{name}")))
            }
            Self::Node(name) => end.kind == EndKind::Nodes && end.members.contains(name),
            Self::Outside => end.kind == EndKind::Outside,
        }
    }
}

/// Leaves the cells from and to ends that one of the patterns names (no pattern: all), and of them what `port` is.
///
/// # Errors
/// The pattern that names no end.
pub fn select(
    report: &mut Report,
    from: &[(String, EndPattern)],
    to: &[(String, EndPattern)],
    port: Option<Transport>,
) -> Result<(), String> {
    for (text, pattern) in from.iter().chain(to) {
        if !report.ends.iter().any(|end| pattern.matches(end)) {
            let text = OneLine(text).to_string();
            return Err(format!(
                "{text:?} is no end of this matrix: there is no such namespace with pods, workload, pod or node"
            ));
        }
    }
    let keeps = |patterns: &[(String, EndPattern)]| -> Vec<bool> {
        let keep = |end: &End| {
            patterns.is_empty() || patterns.iter().any(|(_, pattern)| pattern.matches(end))
        };
        report.ends.iter().map(keep).collect()
    };
    let (sources, destinations) = (keeps(from), keeps(to));
    report
        .cells
        .retain(|cell| sources[cell.position.0] && destinations[cell.position.1]);
    if let Some(port) = port {
        let asked = only(port);
        report.port = Some(port.to_string());
        for cell in &mut report.cells {
            for way in &mut cell.ways {
                way.allowed = way.allowed.intersection(&asked);
            }
            cell.verdict = verdict(&cell.ways, |allowed| *allowed == asked);
        }
    }
    Ok(())
}

fn only(transport: Transport) -> Allowed {
    match transport {
        Transport::Port(protocol, port) => Allowed::ports(protocol, [PortRange::single(port)]),
        Transport::Icmp => {
            let ports = Protocol::ALL.map(|protocol| Allowed::ports(protocol, [PortRange::ALL]));
            ports
                .iter()
                .fold(Allowed::everything(), |left, ports| left.minus(ports))
        }
    }
}
