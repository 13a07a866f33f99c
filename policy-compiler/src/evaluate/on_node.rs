//! What one node enforces of a connection: the sides of its own pods, and nobody else's.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::{Connection, NodeEgress, OtherEnd, Verdict, decide, exempts_own_node};
use crate::model::{Cluster, Direction, NamespacedName, Owner};

/// A node, and what is in force there.
#[derive(Clone, Copy, Debug)]
pub struct OnNode<'a> {
    /// The objects as they are in force.
    pub cluster: &'a Cluster,
    /// The node.
    pub node: &'a str,
    /// The own-node egress switch.
    pub node_egress: NodeEgress,
    /// Its pods that are closed ([`crate::compile::compile_closed`]): isolated in both directions, and no rule allows.
    pub closed: &'a BTreeSet<NamespacedName>,
}

/// What a node's rules say of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Enforced {
    /// No pod of the node is at an end.
    NotAtAll,
    /// It passes.
    Allowed,
    /// It is dropped.
    Forbidden,
    /// It is dropped, unless this address, that of the end that is no pod, is the node's own: the kernel knows more of
    /// these than the Node object does (bridges, loopback), and the rules ask the kernel.
    ForbiddenUnlessOwn(IpAddr),
}

impl OnNode<'_> {
    /// Judges a connection as the forward hook sees it: after DNAT, before SNAT.
    pub fn judge(&self, connection: Connection) -> Enforced {
        let egress = self.side(connection, Direction::Egress);
        let ingress = self.side(connection, Direction::Ingress);
        // Of two pods neither address is the node's own.
        match (egress, ingress) {
            (Enforced::Forbidden, _) | (_, Enforced::Forbidden) => Enforced::Forbidden,
            (Enforced::NotAtAll, side) | (side, Enforced::NotAtAll) => side,
            (Enforced::Allowed, side) | (side, Enforced::Allowed) => side,
            _ => Enforced::Forbidden,
        }
    }

    fn side(&self, connection: Connection, direction: Direction) -> Enforced {
        let (subject, other) = match direction {
            Direction::Egress => (connection.source, connection.destination),
            Direction::Ingress => (connection.destination, connection.source),
        };
        let Owner::Pod(subject) = self.cluster.owner(subject) else {
            return Enforced::NotAtAll;
        };
        if subject.node.as_deref() != Some(self.node) {
            return Enforced::NotAtAll;
        }
        let verdict = if self.closed.contains(&subject.id) {
            let other = OtherEnd::at(self.cluster, other);
            let to_itself = matches!(other.owner, Owner::Pod(pod) if pod.id == subject.id);
            if to_itself || exempts_own_node(subject, &other, direction, self.node_egress) {
                Verdict::Allow
            } else {
                Verdict::Deny
            }
        } else {
            decide(self.cluster, connection, direction, self.node_egress).verdict
        };
        let may_exempt = direction == Direction::Ingress || self.node_egress == NodeEgress::Allow;
        match (verdict, self.cluster.owner(other)) {
            (Verdict::Allow, _) => Enforced::Allowed,
            (Verdict::Deny, Owner::Node(_) | Owner::External) if may_exempt => {
                Enforced::ForbiddenUnlessOwn(other)
            }
            (Verdict::Deny, _) => Enforced::Forbidden,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evaluate::Transport;
    use crate::model::{
        LabelSelector, Labels, Namespace, NetworkPolicy, Node, Peers, Phase, Pod, Ports, Presence,
        Protocol, Rule,
    };

    const LOCAL: &str = "10.1.0.11";
    const CLOSED: &str = "10.1.0.12";
    const ISOLATED: &str = "10.1.0.13";
    const REMOTE: &str = "10.2.0.11";
    const GATEWAY: &str = "10.1.0.1";
    const NODE: &str = "192.168.7.1";
    const OTHER_NODE: &str = "192.168.7.2";
    const OUTSIDE: &str = "203.0.113.9";

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    /// `isolated` is on the node, and so is its twin `remote`, isolated alike, not: nothing may reach either, and they
    /// may reach nothing, but what the tests' rules allow.
    fn cluster() -> Cluster {
        let pod = |name: &str, node: &str, address: &str| Pod {
            id: NamespacedName::new(name.to_owned(), name),
            labels: Labels::new().into(),
            node: Some(node.to_owned()),
            host_network: false,
            phase: Phase::Running,
            uid: None,
            presence: Presence::Listed,
            terminating: false,
            addresses: vec![ip(address)],
            ports: Vec::new().into(),
        };
        let node = |name: &str, address: &str| Node {
            name: name.to_owned(),
            addresses: [ip(address)].into(),
            pod_cidrs: Vec::new(),
        };
        let isolating = |namespace: &str| NetworkPolicy {
            id: NamespacedName::new(namespace.to_owned(), "all"),
            selector: LabelSelector::default(),
            ingress: Some(Vec::new()),
            egress: Some(Vec::new()),
        };
        let namespaces = ["local", "closed", "isolated", "remote"];
        let open_to_all = NetworkPolicy {
            ingress: Some(vec![Rule {
                peers: Peers::Any,
                ports: Ports::Any,
            }]),
            ..isolating("closed")
        };
        Cluster::new(
            namespaces.map(|name| Namespace {
                name: name.to_owned(),
                labels: Labels::new(),
            }),
            [node("n1", NODE), node("n2", OTHER_NODE)],
            [
                pod("local", "n1", LOCAL),
                pod("closed", "n1", CLOSED),
                pod("isolated", "n1", ISOLATED),
                pod("remote", "n2", REMOTE),
            ],
            [isolating("isolated"), isolating("remote"), open_to_all],
        )
    }

    fn judged(node_egress: NodeEgress, from: &str, to: &str) -> Enforced {
        let closed = [NamespacedName::new("closed".to_owned(), "closed")].into();
        let on_node = OnNode {
            cluster: &cluster(),
            node: "n1",
            node_egress,
            closed: &closed,
        };
        on_node.judge(Connection {
            source: ip(from),
            destination: ip(to),
            transport: Transport::Port(Protocol::Tcp, 80),
        })
    }

    #[test]
    fn a_node_enforces_the_sides_of_its_own_pods() {
        use Enforced::{Allowed, Forbidden, NotAtAll};
        for (from, to, expected) in [
            (LOCAL, OUTSIDE, Allowed),
            (OUTSIDE, LOCAL, Allowed),
            (LOCAL, ISOLATED, Forbidden),
            (ISOLATED, LOCAL, Forbidden),
            // What the other node's pod may have is the other node's to say.
            (LOCAL, REMOTE, Allowed),
            (REMOTE, LOCAL, Allowed),
            (REMOTE, ISOLATED, Forbidden),
            (REMOTE, OUTSIDE, NotAtAll),
            (OUTSIDE, REMOTE, NotAtAll),
            (NODE, OUTSIDE, NotAtAll),
        ] {
            let judged = judged(NodeEgress::Allow, from, to);
            assert_eq!(judged, expected, "{from} to {to}");
        }
    }

    #[test]
    fn a_closed_pod_has_only_itself_and_its_node() {
        use Enforced::{Allowed, Forbidden, ForbiddenUnlessOwn};
        for (from, to, expected) in [
            (CLOSED, LOCAL, Forbidden),
            (LOCAL, CLOSED, Forbidden),
            (REMOTE, CLOSED, Forbidden),
            (CLOSED, CLOSED, Allowed),
            (NODE, CLOSED, Allowed),
            (CLOSED, NODE, Allowed),
            (OUTSIDE, CLOSED, ForbiddenUnlessOwn(ip(OUTSIDE))),
        ] {
            let judged = judged(NodeEgress::Allow, from, to);
            assert_eq!(judged, expected, "{from} to {to}");
        }
        assert_eq!(judged(NodeEgress::Policy, CLOSED, NODE), Forbidden);
    }

    #[test]
    fn an_address_that_only_the_kernel_knows_as_the_nodes_is_left_to_it() {
        use Enforced::{Allowed, Forbidden, ForbiddenUnlessOwn};
        for (switch, from, to, expected) in [
            (NodeEgress::Allow, NODE, ISOLATED, Allowed),
            (
                NodeEgress::Allow,
                GATEWAY,
                ISOLATED,
                ForbiddenUnlessOwn(ip(GATEWAY)),
            ),
            (
                NodeEgress::Allow,
                ISOLATED,
                GATEWAY,
                ForbiddenUnlessOwn(ip(GATEWAY)),
            ),
            (
                NodeEgress::Allow,
                OTHER_NODE,
                ISOLATED,
                ForbiddenUnlessOwn(ip(OTHER_NODE)),
            ),
            // With this switch what a pod says to its node is judged as all else, whatever the address.
            (NodeEgress::Policy, ISOLATED, GATEWAY, Forbidden),
            (NodeEgress::Policy, ISOLATED, NODE, Forbidden),
            (NodeEgress::Policy, NODE, ISOLATED, Allowed),
            (
                NodeEgress::Policy,
                GATEWAY,
                ISOLATED,
                ForbiddenUnlessOwn(ip(GATEWAY)),
            ),
        ] {
            assert_eq!(
                judged(switch, from, to),
                expected,
                "{switch:?}, {from} to {to}"
            );
        }
    }
}
