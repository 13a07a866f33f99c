//! Services: rules see the pod behind a virtual address, and who really asked.

use std::fmt::Write as _;
use std::net::IpAddr;

use policy_compiler::evaluate::NodeEgress;
use testbed::Outcome::{Dropped, Passed};
use testbed::{Network, Outcome, Place, Probe, Protocol};

use super::packets::{OPEN, Packet, datagram, ip};
use super::passage::probe_from;
use super::sources::{believe_pods_to_themselves, believe_sources};
use super::world::{Family, Known, NETWORKS, World, address, node, pod};

/// Whether connections to Services are given the node's address (kube-proxy's `masquerade-all`).
pub(super) const MASQUERADE: [bool; 2] = [false, true];
/// The Services' ports, all of which their pods have under the same number.
const PORTS: [u16; 4] = [80, 81, 82, 83];
/// A node port is this above its Service's port.
pub(super) const NODE_PORT: u16 = 30_000;
/// Pods that have a Service, whose address ends in their position.
const BACKENDS: [&str; 4] = ["b", "c", "e", "r"];

/// The Service's address.
pub(super) fn virtual_address(backend: &str, family: Family) -> IpAddr {
    let number = 1 + BACKENDS.iter().position(|name| *name == backend).unwrap();
    let text = match family {
        Family::V4 => format!("10.96.0.{number}"),
        Family::V6 => format!("fd00:96::{number}"),
    };
    text.parse().unwrap()
}

/// What kube-proxy does, in a table of its own. The node ports are those of `b`.
pub(super) fn services(masquerade: bool) -> String {
    let mut rules = String::new();
    for family in Family::ALL {
        let (ip, of_node) = match family {
            Family::V4 => ("ip", address(&node("n1"), family)),
            Family::V6 => ("ip6", address(&node("n1"), family)),
        };
        for port in PORTS {
            let rewrite = |destination: IpAddr, to: u16, backend: &str| {
                let backend = std::net::SocketAddr::new(address(&pod(backend), family), port);
                format!(
                    "{ip} daddr {destination} meta l4proto {{ tcp, udp }} th dport {to} dnat {ip} to {backend}\n"
                )
            };
            for backend in BACKENDS {
                rules.push_str(&rewrite(virtual_address(backend, family), port, backend));
            }
            rules.push_str(&rewrite(of_node, NODE_PORT + port, "b"));
        }
    }
    let mut table = format!(
        "table inet services\ndelete table inet services\ntable inet services {{\n\
         chain services {{\n{rules}}}\n\
         chain prerouting {{\ntype nat hook prerouting priority -100\njump services\n}}\n\
         chain output {{\ntype nat hook output priority -100\njump services\n}}\n"
    );
    if masquerade {
        let chain = "chain postrouting {\ntype nat hook postrouting priority 100\nct status dnat masquerade\n}\n";
        let _ = table.write_str(chain);
    }
    table.push('}');
    table
}

/// The same question over TCP and UDP and both families.
fn ask(
    from: &Place,
    destination: impl Fn(Family) -> IpAddr,
    port: u16,
    backend: &str,
) -> Vec<Probe> {
    let to = pod(backend);
    let mut probes = Vec::new();
    for family in Family::ALL {
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            let listen = (address(&to, family), port % NODE_PORT);
            let ends = (destination(family), port, Some(listen));
            probes.push(probe_from(from, &to, family, protocol, ends));
        }
    }
    probes
}

/// To the Service of a pod.
fn service(from: &Place, backend: &str, port: u16) -> Vec<Probe> {
    ask(
        from,
        |family| virtual_address(backend, family),
        port,
        backend,
    )
}

/// To a node port, behind which is `b`.
fn node_port(from: &Place, port: u16) -> Vec<Probe> {
    ask(
        from,
        |family| address(&node("n1"), family),
        NODE_PORT + port,
        "b",
    )
}

#[test]
fn connections_to_services_are_judged_by_who_asks_and_who_answers() {
    let (x, n) = (Place::External, node("n1"));
    let [a, b, c, e] = ["a", "b", "c", "e"].map(pod);
    let expected: Vec<(Vec<Probe>, Outcome)> = vec![
        (node_port(&x, 80), Passed),
        (node_port(&x, 81), Dropped),
        (node_port(&x, 82), Dropped),
        (node_port(&x, 83), Passed),
        (service(&a, "b", 80), Passed),
        (service(&a, "b", 81), Dropped),
        (service(&a, "b", 82), Dropped),
        (service(&c, "b", 82), Passed),
        (service(&a, "c", 81), Passed),
        (service(&b, "c", 81), Passed),
        (service(&e, "c", 80), Passed),
        (service(&e, "c", 81), Dropped),
        (service(&e, "r", 80), Passed),
        (service(&e, "r", 81), Dropped),
        (service(&e, "b", 82), Dropped),
        // The own node reaches its pods, also by way of a Service.
        (service(&n, "b", 81), Passed),
        (service(&n, "e", 81), Passed),
        (service(&n, "r", 81), Passed),
        (node_port(&n, 81), Passed),
        // A pod by the node's port: behind it is another pod, not the node.
        (node_port(&a, 81), Dropped),
        (node_port(&c, 82), Passed),
        (node_port(&e, 80), Passed),
        (node_port(&e, 82), Dropped),
    ];
    for network in NETWORKS {
        let world = World::new(network);
        for known in Known::ALL {
            for masquerade in MASQUERADE {
                world.namespace(&n).nft(&services(masquerade)).unwrap();
                world.load(known, NodeEgress::Allow);
                world.assert_outcomes(&expected, &format!("{known:?}, masquerade {masquerade}"));
            }
        }
        world.unload();
        let all = expected
            .iter()
            .map(|(probes, _)| (probes.clone(), Passed))
            .collect::<Vec<_>>();
        world.assert_outcomes(&all, "without rules");
    }
}

#[test]
fn a_pod_reaches_itself_by_its_own_service() {
    for network in NETWORKS {
        let world = World::new(network);
        if network == Network::Bridged {
            // The bridge sends nothing back out by the port that it came from, unless told to.
            for name in ["b", "e"] {
                let port = &world.attachment(name).interface;
                let hairpin = ["link", "set", port, "type", "bridge_slave", "hairpin", "on"];
                world.namespace(&node("n1")).ip(&hairpin).unwrap();
            }
        }
        world.namespace(&node("n1")).nft(&services(true)).unwrap();
        let expected = |closed| {
            vec![
                (service(&pod("b"), "b", OPEN), Passed),
                (service(&pod("b"), "b", 81), closed),
                (service(&pod("e"), "e", OPEN), Passed),
                (service(&pod("e"), "e", 81), closed),
            ]
        };
        for known in Known::ALL {
            world.load(known, NodeEgress::Allow);
            world.assert_outcomes(&expected(Passed), &format!("{known:?}"));
        }
        world.load_without(Known::Ports, NodeEgress::Allow, &["a pod to itself"]);
        world.assert_outcomes(&expected(Dropped), "without the rule");
    }
}

#[test]
fn a_forged_request_of_a_pod_to_its_own_service_is_dropped() {
    for network in NETWORKS {
        let world = World::new(network);
        let b = pod("b");
        world.namespace(&node("n1")).nft(&services(false)).unwrap();
        for known in Known::ALL {
            let mut attacks = Vec::new();
            for family in Family::ALL {
                let ip = ip(address(&b, family), virtual_address("b", family));
                let mut add = |from: &Place| {
                    // To a Service by way of the node, as from anywhere beyond it.
                    let way = world.way(from, &node("n1"));
                    let name = format!("{from} as {b} over {family:?}");
                    attacks.push(Packet::new(&name, (from, &b), &way, &ip, datagram(81)));
                };
                add(&Place::External);
                // On a bridge whose ports are not known, nothing tells one pod from another.
                if network == Network::Routed || known == Known::Ports {
                    add(&pod("a"));
                }
            }
            world.load(known, NodeEgress::Allow);
            world.assert_dropped(known, &attacks);
            world.load_edited(known, NodeEgress::Allow, |ruleset| {
                believe_sources(ruleset);
                believe_pods_to_themselves(ruleset);
            });
            world.assert_arrive(known, &attacks);
        }
    }
}
