//! What a node enforces follows from its own Node and no other, so that an agent need not watch all of them.

#![allow(clippy::unwrap_used)]

mod support;

use std::collections::BTreeSet;
use std::net::IpAddr;

use policy_compiler::compile::compile;
use policy_compiler::lower::{Options, lower};
use policy_compiler::model::Cluster;
use proptest::prelude::*;

/// The cluster without the other nodes.
fn seen_from(cluster: &Cluster, node: &str) -> Cluster {
    let mut seen = cluster.clone();
    for name in cluster.nodes.keys().filter(|name| *name != node) {
        seen.remove_node(name);
    }
    seen
}

/// Addresses that a Node and a pod on the pod network both claim: nothing but a mistake, or a lie.
fn disputed(cluster: &Cluster) -> bool {
    let nodes = cluster.nodes.values();
    let of_nodes: BTreeSet<IpAddr> = nodes.flat_map(|node| node.addresses.clone()).collect();
    let pods = cluster.pods.values().filter(|pod| !pod.host_network);
    let mut of_pods = pods.flat_map(|pod| &pod.addresses);
    of_pods.any(|address| of_nodes.contains(address))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_rules_of_a_node_do_not_depend_on_other_nodes(cluster in support::cluster()) {
        prop_assume!(!disputed(&cluster));
        for node in cluster.nodes.keys() {
            let options = Options::default();
            let all = lower(&compile(&cluster, node), &options);
            let own = lower(&compile(&seen_from(&cluster, node), node), &options);
            prop_assert_eq!(all, own);
        }
    }
}
