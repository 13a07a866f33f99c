//! What is said to open and close between two clusters is what the evaluator says of each connection.

#[path = "support/changes.rs"]
#[allow(clippy::unwrap_used)]
mod changes;
#[allow(dead_code, reason = "not every test compiles")]
mod support;

use std::net::IpAddr;

use policy_compiler::evaluate::{Connection, NodeEgress, Transport, Verdict, evaluate};
use policy_compiler::model::{Cluster, Family, NamespacedName, Owner, Protocol, is_link_local};
use policy_compiler::reach::{Change, Effect, Group, Role, Status, changes as difference, groups};
use proptest::prelude::*;

/// One end, which both clusters have.
#[derive(Clone, Debug, PartialEq)]
enum End {
    Pod(NamespacedName),
    Node(String),
    Outside(IpAddr),
}

impl End {
    fn address(&self, cluster: &Cluster, family: Family) -> Option<IpAddr> {
        let is_of = |address: &IpAddr| Family::of(*address) == family;
        match self {
            End::Pod(id) => cluster
                .addresses_of(cluster.pods.get(id)?)
                // What a pod has on its link only interfaces say, of which nothing is told here.
                .find(|address| is_of(address) && !is_link_local(address)),
            End::Node(name) => {
                let addresses = &cluster.nodes.get(name)?.addresses;
                addresses.iter().copied().find(is_of)
            }
            End::Outside(address) => {
                let is_outside = cluster.owner(*address) == Owner::External;
                Some(*address).filter(|address| is_outside && is_of(address))
            }
        }
    }

    fn is_in(&self, group: &Group) -> bool {
        match (self, group) {
            (End::Pod(id), Group::Pods(pods)) => pods.contains(id),
            (End::Node(name), Group::Nodes(nodes)) => nodes.contains(name),
            (End::Outside(address), Group::Outside(outside)) => outside.examples.contains(address),
            _ => false,
        }
    }
}

fn ends(old: &Cluster, new: &Cluster) -> Vec<End> {
    let outside = groups(&[old, new])
        .into_iter()
        .filter_map(|group| match group {
            Group::Outside(outside) => Some(outside.examples),
            _ => None,
        });
    let pods = old.pods.keys().cloned().map(End::Pod);
    let nodes = old.nodes.keys().cloned().map(End::Node);
    pods.chain(nodes)
        .chain(outside.flatten().map(End::Outside))
        .collect()
}

fn transports() -> Vec<Transport> {
    let tcp = [0, 1, 2, 3, 4, 5, 6, 9, 65535].map(|port| Transport::Port(Protocol::Tcp, port));
    let others = [(Protocol::Udp, 2), (Protocol::Udp, 4), (Protocol::Sctp, 3)];
    let others = others.map(|(protocol, port)| Transport::Port(protocol, port));
    [tcp.to_vec(), others.to_vec(), vec![Transport::Icmp]].concat()
}

fn is_own_node(cluster: &Cluster, a: IpAddr, b: IpAddr) -> bool {
    match (cluster.owner(a), cluster.owner(b)) {
        (Owner::Pod(pod), Owner::Node(node)) | (Owner::Node(node), Owner::Pod(pod)) => {
            pod.node.as_deref() == Some(node)
        }
        _ => false,
    }
}

fn told<'a>(
    changes: &'a [Change],
    from: &End,
    to: &End,
    family: Family,
    transport: Transport,
) -> Vec<&'a Change> {
    let is_told = |change: &&Change| {
        change.from.iter().any(|group| from.is_in(group))
            && change.to.iter().any(|group| to.is_in(group))
            && change.family.is_none_or(|only| only == family)
            && change.transports.contains(transport)
    };
    changes.iter().filter(is_told).collect()
}

fn check([old, new]: &[Cluster; 2], node_egress: NodeEgress) -> Result<(), TestCaseError> {
    let changes = difference(old, new, node_egress);
    let ends = ends(old, new);
    for (from, to) in ends
        .iter()
        .flat_map(|from| ends.iter().map(move |to| (from, to)))
        .filter(|(from, to)| from != to)
    {
        for family in Family::ALL {
            let addresses =
                |cluster| Some((from.address(cluster, family)?, to.address(cluster, family)?));
            let (Some(before), Some(after)) = (addresses(old), addresses(new)) else {
                continue;
            };
            if is_own_node(old, before.0, before.1) || is_own_node(new, after.0, after.1) {
                continue;
            }
            for transport in transports() {
                let verdict = |cluster, (source, destination)| {
                    let connection = Connection {
                        source,
                        destination,
                        transport,
                    };
                    evaluate(cluster, connection, node_egress).verdict
                };
                let expected = match (verdict(old, before), verdict(new, after)) {
                    (Verdict::Allow, Verdict::Deny) => vec![Effect::Closes],
                    (Verdict::Deny, Verdict::Allow) => vec![Effect::Opens],
                    _ => vec![],
                };
                let told = told(&changes, from, to, family, transport);
                let effects: Vec<_> = told.iter().map(|change| change.effect).collect();
                prop_assert_eq!(
                    effects,
                    expected,
                    "{:?} {:?} {:?} {:?}",
                    from,
                    to,
                    family,
                    transport
                );
            }
        }
    }
    for cause in changes.iter().flat_map(|change| &change.causes) {
        let is_impossible = matches!(
            (cause.role, cause.status),
            (Role::Isolates | Role::Allows, Status::Removed)
                | (Role::NoLongerIsolates | Role::NoLongerAllows, Status::Added)
        );
        prop_assert!(!is_impossible, "{:?}", cause);
        prop_assert!(!cause.transports.is_nothing(), "{:?}", cause);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn what_opens_and_closes_is_what_the_evaluator_says(clusters in changes::clusters(0.3)) {
        check(&clusters, NodeEgress::Allow)?;
        check(&clusters, NodeEgress::Policy)?;
    }

    #[test]
    fn an_edit_of_labels_and_rules_is_told_too(clusters in changes::edits()) {
        check(&clusters, NodeEgress::Allow)?;
    }

    #[test]
    fn a_policy_is_to_blame_where_only_policies_are_different(
        clusters in prop_oneof![changes::clusters(0.4), changes::edits()],
    ) {
        let [old, new] = clusters;
        let new = Cluster::new(
            old.namespaces.values().cloned(),
            old.nodes.values().cloned(),
            old.pods.values().cloned(),
            new.policies.into_values(),
        );
        for change in difference(&old, &new, NodeEgress::Allow) {
            prop_assert!(!change.causes.is_empty(), "{:?}", change);
            prop_assert!(change.causes.iter().all(|cause| cause.status != Status::Unchanged), "{:?}", change);
        }
    }

    #[test]
    fn nothing_changes_between_a_cluster_and_itself(cluster in support::cluster()) {
        prop_assert_eq!(difference(&cluster, &cluster, NodeEgress::Allow), vec![]);
    }
}
