//! What groups of ends may do together is what the evaluator says of each of them.

#[allow(dead_code, reason = "not every test compiles")]
mod support;

use std::collections::BTreeSet;
use std::net::IpAddr;

use policy_compiler::evaluate::{Connection, NodeEgress, Reason, Transport, Verdict, evaluate};
use policy_compiler::model::{
    Cluster, Family, IpBlock, Owner, Peer, Peers, Protocol, is_link_local,
};
use policy_compiler::reach::{Group, between, groups};
use proptest::prelude::*;

fn transports() -> Vec<Transport> {
    let ports = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 65535];
    let of = |protocol| ports.map(|port| Transport::Port(protocol, port));
    let mut all = Protocol::ALL.map(of).concat();
    all.push(Transport::Icmp);
    all
}

fn node_egress() -> impl Strategy<Value = NodeEgress> {
    prop_oneof![Just(NodeEgress::Allow), Just(NodeEgress::Policy)]
}

/// Every address that the generators use.
fn addresses() -> Vec<IpAddr> {
    let addresses = support::connections().into_iter().map(|c| c.destination);
    addresses.collect::<BTreeSet<_>>().into_iter().collect()
}

/// The addresses of all members; of outside ones those that the generators use.
fn members(cluster: &Cluster, group: &Group, addresses: &[IpAddr]) -> Vec<IpAddr> {
    match group {
        Group::Pods(pods) => pods
            .iter()
            .flat_map(|id| cluster.addresses_of(&cluster.pods[id]).collect::<Vec<_>>())
            // What a pod has on its link only interfaces say, of which groups know nothing.
            .filter(|address| !is_link_local(address))
            .collect(),
        Group::Nodes(nodes) => nodes
            .iter()
            .flat_map(|name| cluster.nodes[name].addresses.clone())
            .collect(),
        Group::Outside(outside) => {
            let outsiders = addresses.iter().filter(|address| {
                cluster.owner(**address) == Owner::External && {
                    let held: Vec<_> = all_blocks(cluster)
                        .into_iter()
                        .filter(|block| block.contains(**address))
                        .collect();
                    held == outside.blocks
                }
            });
            outsiders.chain(&outside.examples).copied().collect()
        }
    }
}

fn all_blocks(cluster: &Cluster) -> Vec<IpBlock> {
    let mut blocks = BTreeSet::new();
    for policy in cluster.policies.values() {
        for rule in policy.ingress.iter().chain(&policy.egress).flatten() {
            if let Peers::Of(peers) = &rule.peers {
                blocks.extend(peers.iter().filter_map(|peer| match peer {
                    Peer::Block(block) => Some(block.clone()),
                    Peer::Pods { .. } => None,
                }));
            }
        }
    }
    blocks.into_iter().collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn between_two_addresses_is_what_the_evaluator_says_of_each_port(
        cluster in support::cluster(),
        node_egress in node_egress(),
    ) {
        for connection in support::connections() {
            let Connection { source, destination, .. } = connection;
            let way = between(&cluster, source, destination, node_egress);
            for transport in transports() {
                let connection = Connection { source, destination, transport };
                let evaluated = evaluate(&cluster, connection, node_egress);
                let allows = |verdict| verdict == Verdict::Allow;
                prop_assert_eq!(way.allowed.contains(transport), allows(evaluated.verdict), "{:?} {:?}", connection, way);
                for (side, decision) in [(&way.egress, &evaluated.egress), (&way.ingress, &evaluated.ingress)] {
                    prop_assert_eq!(side.allowed.contains(transport), allows(decision.verdict));
                    let deciding: Vec<_> = match decision.reason {
                        Reason::RuleMatches => {
                            let grants = side.grants.iter().filter(|grant| grant.allowed.contains(transport));
                            grants.map(|grant| grant.policy.clone()).collect()
                        }
                        Reason::NoRuleMatches => side.isolated_by.clone(),
                        reason => {
                            prop_assert_eq!(side.reason, reason);
                            continue;
                        }
                    };
                    prop_assert_eq!(&deciding, &decision.policies);
                }
            }
        }
    }

    #[test]
    fn what_holds_for_one_of_a_group_holds_for_all(
        cluster in support::cluster(),
        node_egress in node_egress(),
    ) {
        let addresses = addresses();
        let groups = groups(&[&cluster]);
        for from in &groups {
            for to in &groups {
                for family in Family::ALL {
                    let Some((source, destination)) = from.pair(to, &cluster, family) else { continue };
                    let expected = between(&cluster, source, destination, node_egress);
                    for source in members(&cluster, from, &addresses) {
                        for destination in members(&cluster, to, &addresses) {
                            let owners = (cluster.owner(source), cluster.owner(destination));
                            let is_plain = match owners {
                                (Owner::Pod(pod), Owner::Node(node)) | (Owner::Node(node), Owner::Pod(pod)) => {
                                    pod.node.as_deref() != Some(node)
                                }
                                _ => source != destination,
                            };
                            if is_plain && [source, destination].iter().all(|a| Family::of(*a) == family) {
                                let way = between(&cluster, source, destination, node_egress);
                                prop_assert_eq!(&way, &expected, "{} -> {}", source, destination);
                            }
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn every_end_with_an_address_is_in_exactly_one_group(cluster in support::cluster()) {
        let groups = groups(&[&cluster]);
        let addresses = addresses();
        let is_on_link = |address: &&IpAddr| {
            is_link_local(address) && matches!(cluster.owner(**address), Owner::Pod(_))
        };
        for address in addresses.iter().filter(|address| !is_on_link(address)) {
            let mut holding = 0;
            for group in &groups {
                let members: BTreeSet<_> = members(&cluster, group, &addresses).into_iter().collect();
                holding += usize::from(members.contains(address));
            }
            prop_assert_eq!(holding, 1, "{}", address);
        }
    }
}
