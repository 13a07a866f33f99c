//! Behind flannel's plugin, which has another make the interface.

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up fails")]

mod support;

use std::fs;

use cni_chain::attachment::Path;
use cni_chain::quarantine::ACTIVE;
use serde_json::json;
use support::agent::{Agent, Manner};
use support::chain::Network;
use support::{Container, Node};

#[test]
fn a_pod_of_flannel_is_on_the_bridge_that_flannel_has_made_for_it() {
    let node = Node::new("flannel");
    let _agent = Agent::start(&node, Manner::Healthy);
    let environment = node.state().join("subnet.env");
    let subnet = "FLANNEL_NETWORK=10.244.0.0/16\nFLANNEL_SUBNET=10.244.3.1/24\nFLANNEL_MTU=1450\nFLANNEL_IPMASQ=false\n";
    fs::write(&environment, subnet).unwrap();
    // As kube-flannel's manifest has it.
    let flannel = json!({
        "type": "flannel",
        "subnetFile": environment,
        "dataDir": node.state(),
        "delegate": {"hairpinMode": true, "isDefaultGateway": true},
        "ipam": {"type": "host-local", "dataDir": node.state()},
    });
    let portmap = json!({"type": "portmap", "capabilities": {"portMappings": true}});
    let mut network = Network::new("0.3.1", flannel, json!({}));
    network.name = "cbr0".into();
    network.plugins.insert(1, portmap);
    let pod = Container::new("web-0");
    let added = network.add(&node, &pod, "eth0");
    let [result, before] = added.done();
    assert_eq!(result, before, "byte for byte");
    let host = node.host_end(&pod, "eth0");
    assert_eq!(host.group, ACTIVE);
    let record = node.record(&pod, "eth0").unwrap();
    let Path::Bridged { bridge, .. } = &record.path else {
        panic!("{record:?}");
    };
    assert_eq!(bridge, "cni0");
    let four = record.addresses.iter().filter(|address| address.is_ipv4());
    let four: Vec<_> = four.map(ToString::to_string).collect();
    assert_eq!(four, ["10.244.3.2"]);
    network.del(&node, &pod, "eth0", None);
    assert_eq!(node.record(&pod, "eth0"), None);
}
