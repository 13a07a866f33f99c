//! The node and its pods.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6, UdpSocket};
use std::time::Duration;

use policy_compiler::evaluate::NodeEgress;
use testbed::Outcome::{Dropped, Passed};
use testbed::{Network, POD_INTERFACE, Place, Probe, Protocol};

use super::packets::{CLOSED, OPEN, Packet, datagram, ip, v6};
use super::passage::{Guard, PATIENCE, await_that, probe_from, receives};
use super::world::{BRIDGE, BROADCAST, Family, Known, NETWORKS, World, address, node, pod};

const WITH_PORTS: [Protocol; 3] = [Protocol::Tcp, Protocol::Udp, Protocol::Sctp];

/// The question over these protocols and both families.
fn ask(from: &Place, to: &Place, protocols: &[Protocol], port: u16) -> Vec<Probe> {
    let over = |&protocol: &Protocol| {
        Family::ALL.map(|family| {
            let port = if protocol == Protocol::Icmp { 0 } else { port };
            probe_from(
                from,
                to,
                family,
                protocol,
                (address(to, family), port, None),
            )
        })
    };
    protocols.iter().flat_map(over).collect()
}

#[test]
fn a_node_reaches_its_own_pods_on_every_port_and_other_nodes_are_judged() {
    let (n, m, x) = (node("n1"), node("n2"), Place::External);
    let [b, c, e] = ["b", "c", "e"].map(pod);
    let icmp = &[Protocol::Icmp];
    let own = vec![
        (ask(&n, &b, &WITH_PORTS, CLOSED), Passed),
        (ask(&n, &b, icmp, 0), Passed),
        (ask(&n, &e, &WITH_PORTS, CLOSED), Passed),
    ];
    let others = vec![
        (ask(&m, &b, &[Protocol::Tcp, Protocol::Udp], OPEN), Passed),
        (ask(&m, &b, &WITH_PORTS, CLOSED), Dropped),
        (ask(&m, &b, &WITH_PORTS, 83), Dropped),
        (ask(&m, &b, icmp, 0), Dropped),
        (ask(&m, &c, &WITH_PORTS, CLOSED), Passed),
        (ask(&x, &b, &[Protocol::Tcp, Protocol::Udp], 83), Passed),
        (ask(&x, &b, &WITH_PORTS, CLOSED), Dropped),
    ];
    for network in NETWORKS {
        let world = World::new(network);
        for node_egress in [NodeEgress::Allow, NodeEgress::Policy] {
            for known in Known::ALL {
                world.load(known, node_egress);
                let all = [own.clone(), others.clone()].concat();
                world.assert_outcomes(&all, &format!("{known:?}, {node_egress:?}"));
            }
            // It is the rule for the own node that lets it in.
            world.load_without(Known::Ports, node_egress, &["this node to its pods"]);
            let refused = vec![(ask(&n, &b, &WITH_PORTS, CLOSED), Dropped)];
            world.assert_outcomes(&refused, "without the rule for the own node");
        }
    }
}

/// The scope of link-local addresses on an interface of a place.
pub(super) fn interface_index(world: &World, place: &Place, interface: &str) -> u32 {
    let shown = world
        .namespace(place)
        .ip(&["-o", "link", "show", "dev", interface])
        .unwrap();
    shown.split(':').next().unwrap().parse().unwrap()
}

#[test]
fn a_node_reaches_its_own_isolated_pods_by_link_local_multicast_and_broadcast_too() {
    let world = World::new(Network::Bridged);
    let n = node("n1");
    let index = interface_index(&world, &n, BRIDGE);
    let all_nodes = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
    for node_egress in [NodeEgress::Allow, NodeEgress::Policy] {
        for known in Known::ALL.into_iter().chain([Known::LinkLocal]) {
            world.load(known, node_egress);
            for name in ["b", "e"] {
                let socket = world.listener(&pod(name), CLOSED);
                let in_scope = |to| SocketAddr::V6(SocketAddrV6::new(to, CLOSED, 0, index));
                for to in [
                    in_scope(world.link_local(name)),
                    in_scope(all_nodes),
                    SocketAddr::new(BROADCAST.into(), CLOSED),
                ] {
                    let content = format!("to {to}");
                    let send = || {
                        let any: IpAddr = match to {
                            SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
                            SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
                        };
                        let socket = UdpSocket::bind((any, 0))?;
                        socket.set_broadcast(true)?;
                        socket.send_to(content.as_bytes(), to)
                    };
                    world.namespace(&n).run(send).unwrap().unwrap();
                    let arrives = receives(&socket, content.as_bytes(), PATIENCE);
                    assert!(arrives, "{known:?}, {node_egress:?}: {name}, {content}");
                }
            }
        }
    }
}

#[test]
fn an_isolated_pod_answers_its_node_by_link_local_addresses_save_at_a_port_of_a_bridge() {
    let n = node("n1");
    for network in NETWORKS {
        let world = World::new(network);
        for (node_egress, known) in [NodeEgress::Allow, NodeEgress::Policy]
            .into_iter()
            .flat_map(|node_egress| {
                let all = Known::ALL.into_iter().chain([Known::LinkLocal]);
                all.map(move |known| (node_egress, known))
            })
        {
            world.load(known, node_egress);
            for name in ["b", "e"] {
                let interface = match network {
                    Network::Bridged => BRIDGE,
                    Network::Routed => &world.attachment(name).interface,
                };
                let scope = interface_index(&world, &n, interface);
                let to = SocketAddrV6::new(world.link_local(name), CLOSED, 0, scope);
                let pod = world.listener(&pod(name), CLOSED);
                let asking = world.bind(&n, || UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0)));
                asking.set_nonblocking(true).unwrap();
                asking.send_to(b"a question", to).unwrap();
                let mut from = None;
                await_that(|| {
                    from = from.or_else(|| pod.recv_from(&mut [0; 16]).ok());
                    from.is_some()
                });
                pod.send_to(b"an answer", from.unwrap().1).unwrap();
                // A port's guard knows no connections; addresses that are known as the pod's have none of this.
                let cut = network == Network::Bridged
                    && known != Known::LinkLocal
                    && (known.guards_ports(), node_egress, name) == (true, NodeEgress::Policy, "e");
                let what = format!("{network:?}, {known:?}, {node_egress:?}, {name}");
                if cut {
                    let fence = world.listener(&n, OPEN);
                    let (frame, token) = world.fence(&self::pod(name), &n);
                    world.send(&self::pod(name), &frame);
                    assert!(receives(&fence, &token, PATIENCE), "{what}");
                    assert!(!receives(&asking, b"an answer", Duration::ZERO), "{what}");
                } else {
                    assert!(receives(&asking, b"an answer", PATIENCE), "{what}");
                }
            }
        }
    }
}

/// Lets the pod forget where its gateway is, so that it must ask.
fn forget_gateway(world: &World, name: &str) {
    let attachment = world.attachment(name);
    let gateways = attachment
        .gateways
        .iter()
        .filter(|gateway| gateway.is_ipv6());
    let gateway = match gateways.copied().next() {
        Some(gateway) => gateway.to_string(),
        None => {
            // The next hop of a routed pod is nobody's address in the testbed.
            let n = world.namespace(&node("n1"));
            let add = [
                "addr",
                "replace",
                "fe80::1/64",
                "dev",
                &attachment.interface,
                "nodad",
            ];
            n.ip(&add).unwrap();
            "fe80::1".to_owned()
        }
    };
    let forget = ["neigh", "del", &gateway, "dev", POD_INTERFACE];
    world.namespace(&pod(name)).ip(&forget).unwrap();
}

#[test]
fn an_isolated_pod_reaches_its_own_node_always_or_as_its_policies_say() {
    let (n, m) = (node("n1"), node("n2"));
    let [a, e] = ["a", "e"].map(pod);
    let both = [Protocol::Tcp, Protocol::Udp];
    for network in NETWORKS {
        let world = World::new(network);
        for known in Known::ALL {
            for (node_egress, closed) in
                [(NodeEgress::Allow, Passed), (NodeEgress::Policy, Dropped)]
            {
                world.load(known, node_egress);
                let expected = vec![
                    (ask(&e, &n, &both, OPEN), Passed),
                    (ask(&e, &n, &WITH_PORTS, CLOSED), closed),
                    (ask(&e, &n, &[Protocol::Icmp], 0), closed),
                    (ask(&a, &n, &WITH_PORTS, CLOSED), Passed),
                    (ask(&a, &n, &[Protocol::Icmp], 0), Passed),
                    // Other nodes never are the own one.
                    (ask(&e, &m, &both, OPEN), Passed),
                    (ask(&e, &m, &both, CLOSED), Dropped),
                ];
                world.assert_outcomes(&expected, &format!("{known:?}, {node_egress:?}"));
            }
        }
    }
}

#[test]
fn an_isolated_pod_finds_its_gateway_also_where_its_node_is_judged() {
    let [c, e, r] = ["c", "e", "r"].map(pod);
    for network in NETWORKS {
        for known in Known::ALL.into_iter().chain([Known::LinkLocal]) {
            for guarded in [false, true] {
                let world = World::new(network);
                if guarded {
                    world.load(known, NodeEgress::Policy);
                } else {
                    // Its solicitation comes from a global address, which the class judges.
                    world.load_without(known, NodeEgress::Policy, &["neighbour discovery"]);
                }
                forget_gateway(&world, "e");
                let outcome = if guarded { Passed } else { Dropped };
                let probes = |to| ask(&e, to, &[Protocol::Tcp, Protocol::Udp], OPEN);
                let v6 = |probe: &Probe| probe.destination.is_ipv6();
                let n = node("n1");
                let to_node: Vec<_> = probes(&n).into_iter().filter(v6).collect();
                let beyond = if network == Network::Routed {
                    probes(&c)
                } else {
                    probes(&r)
                };
                let beyond: Vec<_> = beyond.into_iter().filter(v6).collect();
                let expected = vec![(to_node, outcome), (beyond, outcome)];
                world.assert_outcomes(&expected, &format!("{known:?}, guarded {guarded}"));
            }
        }
    }
}

#[test]
fn an_isolated_pod_does_not_reach_its_node_by_link_local_addresses_where_its_node_is_judged() {
    // Nothing known: not told from the link-local traffic of the node's own links.
    let cases = [
        (Network::Bridged, Known::Ports),
        (Network::Bridged, Known::Bridge),
        (Network::Routed, Known::Ports),
    ];
    for (network, known) in cases {
        let world = World::new(network);
        let n = node("n1");
        let gateway = world.attachment("e").gateway_mac;
        let packet = |from: &str, name: &str, destination| {
            let (place, own) = (pod(from), world.link_local(from));
            let way = world.way(&place, &n);
            let ip = ip(own, destination);
            Packet::new(name, (&place, &n), &way, &ip, datagram(CLOSED))
        };
        let rules: &[&str] = &["link-local"];
        let of_node = v6(&n);
        let open = world.attachment("a").gateway_mac.link_local();
        world.check(&Guard {
            known,
            node_egress: NodeEgress::Policy,
            attacks: vec![
                (
                    packet(
                        "e",
                        "to the node's link-local address",
                        gateway.link_local(),
                    ),
                    rules,
                ),
                (packet("e", "to the node's global address", of_node), rules),
            ],
            twins: match known {
                Known::Ports => vec![packet("a", "of an open pod", open)],
                _ => Vec::new(),
            },
        });
    }
}
