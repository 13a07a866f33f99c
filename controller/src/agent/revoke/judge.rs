//! Whether an entry is to have our bit.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;
use kernel::conntrack::{self, Entry, Status, Tuple};
use kernel::{LinkError, Links, RouteKind};
use policy_compiler::evaluate::{Connection, Enforced, Transport};
use policy_compiler::model::Protocol;

use super::{Judged, Mode};

/// Verdicts that are remembered, a few dozen bytes each.
const REMEMBERED: usize = 1 << 16;

/// What forward saw of a connection: source, destination, and the protocol and its port if it has one that policies know.
type Seen = (IpAddr, IpAddr, Option<(Protocol, u16)>);

/// Judges entries by one state, and remembers verdicts.
pub(super) struct Judge {
    state: Judged,
    mode: Mode,
    verdicts: HashMap<Seen, Enforced>,
    own: Option<Vec<IpNet>>,
}

impl Judge {
    pub(super) fn new(state: Judged, mode: Mode) -> Self {
        Self {
            state,
            mode,
            verdicts: HashMap::new(),
            own: None,
        }
    }

    /// Judges by another state from now on.
    pub(super) fn renew(&mut self, state: Judged) {
        self.state = state;
        self.verdicts.clear();
    }

    /// Our bit.
    pub(super) fn bit(&self) -> u32 {
        self.state.revoked.bits()
    }

    /// Whether an entry has our bit.
    pub(super) fn has_bit(&self, entry: &Entry) -> bool {
        entry.mark & self.bit() != 0
    }

    /// Asks for the node's own addresses again, once they are needed.
    pub(super) fn forget_own_addresses(&mut self) {
        self.own = None;
    }

    /// Whether an entry is to have our bit.
    ///
    /// # Errors
    /// The node's own addresses can not be listed.
    pub(super) fn forbids(&mut self, entry: &Entry, links: &mut Links) -> Result<bool, LinkError> {
        // What another connection announced passes as `ct state related`, whatever policy says.
        if self.mode == Mode::Keep || entry.status.contains(Status::EXPECTED) {
            return Ok(false);
        }
        match self.verdict(&entry.forwarded()) {
            Enforced::NotAtAll | Enforced::Allowed => Ok(false),
            Enforced::Forbidden => Ok(true),
            Enforced::ForbiddenUnlessOwn(address) => Ok(!self.is_own(address, links)?),
        }
    }

    fn verdict(&mut self, seen: &Tuple) -> Enforced {
        let port = match seen.transport {
            conntrack::Transport::Tcp(ports) => Some((Protocol::Tcp, ports.destination)),
            conntrack::Transport::Udp(ports) => Some((Protocol::Udp, ports.destination)),
            conntrack::Transport::Sctp(ports) => Some((Protocol::Sctp, ports.destination)),
            _ => None,
        };
        if self.verdicts.len() >= REMEMBERED {
            self.verdicts.clear();
        }
        let state = &self.state;
        *self
            .verdicts
            .entry((seen.source, seen.destination, port))
            .or_insert_with(|| {
                state.on_node().judge(Connection {
                    source: seen.source,
                    destination: seen.destination,
                    transport: port.map_or(Transport::Icmp, |(protocol, number)| {
                        Transport::Port(protocol, number)
                    }),
                })
            })
    }

    /// As the rules' `fib saddr type local` has it, and the hook `input`, to which comes also what is for everybody on a
    /// link. Nobody answers from such an address, so no connection to it is ever established, and each packet is judged.
    fn is_own(&mut self, address: IpAddr, links: &mut Links) -> Result<bool, LinkError> {
        if address.is_multicast() || address == IpAddr::V4(Ipv4Addr::BROADCAST) {
            return Ok(true);
        }
        let own = match &mut self.own {
            Some(own) => own,
            none => {
                let routes = links.routes()?;
                let ends_here = [RouteKind::Local, RouteKind::Broadcast, RouteKind::Anycast];
                let local = routes
                    .iter()
                    .filter(|route| ends_here.contains(&route.kind))
                    .filter_map(|route| IpNet::new(route.destination, route.prefix_length).ok());
                none.insert(local.collect())
            }
        };
        Ok(own.iter().any(|net| net.contains(&address)))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use kernel::conntrack::{Icmp, Ports, Zone};
    use policy_compiler::model::{
        Cluster, LabelSelector, Labels, NamespacedName, NetworkPolicy, Peers, Phase, Pod,
        PolicyPort, PortMatch, Presence, Rule,
    };

    use super::super::tests::judged;
    use super::*;

    /// Nobody may ask the pod but over UDP, on any port.
    fn judge(mode: Mode) -> Judge {
        let id = NamespacedName::new("t", "pod");
        let pod = Pod {
            id: id.clone(),
            labels: Labels::new().into(),
            node: Some("n".to_owned()),
            host_network: false,
            phase: Phase::Running,
            uid: None,
            presence: Presence::Listed,
            terminating: false,
            addresses: vec!["10.1.0.11".parse().expect("an address")],
            ports: Vec::new().into(),
        };
        let udp = PolicyPort {
            protocol: Protocol::Udp,
            port: PortMatch::All,
        };
        let policy = NetworkPolicy {
            id,
            selector: LabelSelector::default(),
            ingress: Some(vec![Rule {
                peers: Peers::Any,
                ports: policy_compiler::model::Ports::Of(vec![udp]),
            }]),
            egress: None,
        };
        let state = Judged {
            cluster: Arc::new(Cluster::new([], [], [pod], [policy])),
            ..judged("n")
        };
        Judge::new(state, mode)
    }

    fn entry(transport: conntrack::Transport, status: Status) -> Entry {
        let tuple = |source: &str, destination: &str| Tuple {
            source: source.parse().expect("an address"),
            destination: destination.parse().expect("an address"),
            transport,
        };
        Entry {
            original: tuple("203.0.113.9", "10.1.0.11"),
            reply: tuple("10.1.0.11", "203.0.113.9"),
            zone: Zone::default(),
            status,
            mark: 0,
            id: 1,
            timeout: None,
        }
    }

    fn forbids(mode: Mode, transport: conntrack::Transport, status: Status) -> bool {
        let mut links = Links::open().expect("a socket");
        let forbidden = judge(mode).forbids(&entry(transport, status), &mut links);
        forbidden.expect("addresses are listed")
    }

    #[test]
    fn protocols_without_ports_that_policies_know_are_judged_as_icmp() {
        use conntrack::Transport::{Icmp as OfIcmp, Other, Sctp, Tcp, Udp};
        let ports = Ports {
            source: 80,
            destination: 80,
        };
        let icmp = Icmp {
            kind: 8,
            code: 0,
            id: 1,
        };
        for (transport, forbidden) in [
            (Udp(ports), false),
            (Tcp(ports), true),
            (Sctp(ports), true),
            (OfIcmp(icmp), true),
            (
                Other {
                    protocol: 136,
                    ports: Some(ports),
                },
                true,
            ),
            (
                Other {
                    protocol: 47,
                    ports: None,
                },
                true,
            ),
        ] {
            let judged = forbids(Mode::Revoke, transport, Status::CONFIRMED);
            assert_eq!(judged, forbidden, "{transport:?}");
            assert!(!forbids(Mode::Keep, transport, Status::CONFIRMED));
        }
    }

    #[test]
    fn what_another_connection_announced_passes_as_the_rules_let_it() {
        let ports = Ports {
            source: 20,
            destination: 4000,
        };
        let expected = Status(Status::EXPECTED.0 | Status::CONFIRMED.0);
        let transport = conntrack::Transport::Tcp(ports);
        assert!(forbids(Mode::Revoke, transport, Status::CONFIRMED));
        assert!(!forbids(Mode::Revoke, transport, expected));
    }
}
