//! What only travels inside a bridge, and has no address of a pod in it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};
use std::time::Duration;

use policy_compiler::evaluate::NodeEgress;
use testbed::packet::{Ethernet, Ip};
use testbed::{Mac, Network};

use super::packets::{CLOSED, OPEN, Packet, datagram, ip, v4, v6};
use super::passage::{Guard, PATIENCE, receives};
use super::world::{BROADCAST, Family, Known, Stack, World, address, pod};

const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
const MDNS_V6: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0xfb);
const MDNS_V4: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 251);

/// The comments of the rules that guard a bridge whose ports are not known.
const BRIDGE: &[&str] = &[
    "link-local",
    "link-local or multicast",
    "broadcast or multicast",
    "broadcast",
];

/// The comments of the rules at an isolated pod's port, where no link-local address is known.
const AT_PORT: &[&str] = &["link-local, multicast or broadcast", "link-local"];

/// A frame to an Ethernet address that need not be the right one.
fn to_mac(world: &World, name: &str, (from, to): (&str, &str), mac: Mac, ip: &Ip) -> Packet {
    let (from, to) = (pod(from), pod(to));
    let way = Ethernet {
        destination: mac,
        ..world.way(&from, &to)
    };
    let name = &format!("{name}, for {to}");
    Packet::new(name, (&from, &to), &way, ip, datagram(CLOSED))
}

fn link_local(stack: Stack) {
    let world = World::with(Network::Bridged, stack);
    let (a, b, c, e) = ("a", "b", "c", "e");
    let [a_ll, b_ll, c_ll, e_ll] = [a, b, c, e].map(|name| world.link_local(name));
    let between = |name: &str, from: &str, to: &str, source: Ipv6Addr, destination: Ipv6Addr| {
        let ip = ip(source, destination);
        world
            .packet(name, &pod(from), &pod(to), &ip, CLOSED)
            .at_socket()
    };
    for known in Known::ALL {
        let (to, from): (&[&str], &[&str]) = match known {
            known if known.guards_ports() => (AT_PORT, &["link-local"]),
            _ => (BRIDGE, BRIDGE),
        };
        let mut attacks = vec![
            (
                between("link-local to an isolated pod", a, b, a_ll, b_ll),
                to,
            ),
            (
                between("link-local from an isolated pod", e, c, e_ll, c_ll),
                from,
            ),
        ];
        if stack == Stack::Dual {
            let (to, from): (&[&str], &[&str]) = match known {
                known if known.guards_ports() => (
                    &["link-local, multicast or broadcast", "routed link-local"],
                    &["link-local", "routed link-local"],
                ),
                _ => (BRIDGE, BRIDGE),
            };
            attacks.push((between("global to link-local", a, b, v6(&pod(a)), b_ll), to));
            attacks.push((
                between("link-local to global", e, c, e_ll, v6(&pod(c))),
                from,
            ));
        }
        let mut twins = vec![world.honest("a", "c", Family::V4, CLOSED).at_socket()];
        if stack == Stack::Dual {
            twins.push(world.honest("a", "b", Family::V6, OPEN));
        }
        if known.guards_ports() {
            twins.push(between("link-local between open pods", a, c, a_ll, c_ll));
        }
        world.check(&Guard {
            known,
            node_egress: NodeEgress::Allow,
            attacks,
            twins,
        });
    }
}

#[test]
fn link_local_packets_reach_no_isolated_pod_and_leave_none_on_a_bridge() {
    link_local(Stack::Dual);
}

#[test]
fn link_local_packets_reach_no_isolated_pod_and_leave_none_on_a_bridge_of_an_ipv4_cluster() {
    link_local(Stack::Ipv4Only);
}

#[test]
fn the_node_does_not_route_link_local_packets_back_into_the_bridge() {
    let world = World::new(Network::Bridged);
    let by_node = |name: &str, from: &str, to: &str, ip: &Ip| {
        to_mac(
            &world,
            name,
            (from, to),
            world.attachment(from).gateway_mac,
            ip,
        )
        .at_socket()
    };
    for known in Known::ALL {
        let (to, from): (&[&str], &[&str]) = match known {
            known if known.guards_ports() => (
                &["routed link-local", "link-local, multicast or broadcast"],
                &["routed link-local"],
            ),
            _ => (BRIDGE, BRIDGE),
        };
        let ip_to = ip(v6(&pod("a")), world.link_local("b"));
        let ip_from = ip(world.link_local("e"), v6(&pod("c")));
        world.check(&Guard {
            known,
            node_egress: NodeEgress::Allow,
            attacks: vec![
                (
                    by_node("by the node to a link-local address", "a", "b", &ip_to),
                    to,
                ),
                (
                    by_node("by the node from a link-local address", "e", "c", &ip_from),
                    from,
                ),
            ],
            twins: vec![by_node(
                "by the node",
                "a",
                "c",
                &ip(v6(&pod("a")), v6(&pod("c"))),
            )],
        });
    }
}

#[test]
fn multicast_reaches_no_isolated_pod_and_leaves_none_whatever_its_ethernet_address() {
    let world = World::new(Network::Bridged);
    let mac_of = |name: &str| world.attachment(name).mac;
    for known in Known::ALL {
        let (to, from): (&[&str], &[&str]) = match known {
            known if known.guards_ports() => (AT_PORT, &["link-local"]),
            _ => (BRIDGE, BRIDGE),
        };
        let of_group = |group| Mac::of_multicast(group);
        let (a_ll, e_ll) = (world.link_local("a"), world.link_local("e"));
        let mdns_mac = Mac([0x01, 0x00, 0x5e, 0, 0, 0xfb]);
        let [mut attacks, mut open] = [Vec::new(), Vec::new()];
        for source in [a_ll, v6(&pod("a"))] {
            let ip = ip(source, ALL_NODES);
            let name = |kind: &str| format!("ff02::1 from {source} in {kind}");
            for (to, list) in [("b", &mut attacks), ("c", &mut open)] {
                let frame =
                    |kind: &str, mac| to_mac(&world, &name(kind), ("a", to), mac, &ip).at_socket();
                list.push(frame("a multicast frame", of_group(ALL_NODES)));
                list.push(frame("a unicast frame", mac_of(to)));
            }
        }
        for (to, list) in [("b", &mut attacks), ("c", &mut open)] {
            let ip = ip(v4(&pod("a")), MDNS_V4);
            list.push(to_mac(
                &world,
                "mDNS in a multicast frame",
                ("a", to),
                mdns_mac,
                &ip,
            ));
            list.push(to_mac(
                &world,
                "mDNS in a unicast frame",
                ("a", to),
                mac_of(to),
                &ip,
            ));
        }
        let mut attacks: Vec<_> = attacks.into_iter().map(|packet| (packet, to)).collect();
        for (kind, mac) in [("multicast", of_group(ALL_NODES)), ("unicast", mac_of("c"))] {
            let name = format!("ff02::1 of an isolated pod in a {kind} frame");
            let packet = to_mac(&world, &name, ("e", "c"), mac, &ip(e_ll, ALL_NODES));
            attacks.push((packet.at_socket(), from));
        }
        // Where ports are not known, a bridge with an isolated pod carries no multicast at all.
        let twins = if known.guards_ports() {
            open
        } else {
            Vec::new()
        };
        world.check(&Guard {
            known,
            node_egress: NodeEgress::Allow,
            attacks,
            twins,
        });
    }
}

#[test]
fn broadcasts_reach_no_isolated_pod_whatever_their_ethernet_address() {
    let world = World::new(Network::Bridged);
    for known in Known::ALL {
        let rules: &[&str] = match known {
            known if known.guards_ports() => &["link-local, multicast or broadcast"],
            _ => BRIDGE,
        };
        let [mut attacks, mut open] = [Vec::new(), Vec::new()];
        for everyone in [BROADCAST, Ipv4Addr::BROADCAST] {
            let ip = ip(v4(&pod("a")), everyone);
            for (kind, unicast) in [("a broadcast", false), ("a unicast", true)] {
                for (to, list) in [("b", &mut attacks), ("c", &mut open)] {
                    let mac = if unicast {
                        world.attachment(to).mac
                    } else {
                        Mac::BROADCAST
                    };
                    let name = format!("{everyone} in {kind} frame");
                    list.push(to_mac(&world, &name, ("a", to), mac, &ip).at_socket());
                }
            }
        }
        let attacks = attacks.into_iter().map(|packet| (packet, rules)).collect();
        let twins = if known.guards_ports() {
            open
        } else {
            Vec::new()
        };
        world.check(&Guard {
            known,
            node_egress: NodeEgress::Allow,
            attacks,
            twins,
        });
    }
}

#[test]
fn a_packet_to_a_pod_in_a_frame_for_everybody_is_judged_as_one_to_the_pod() {
    let world = World::new(Network::Bridged);
    for known in Known::ALL {
        let in_broadcast = |port| {
            let (a, b) = (pod("a"), pod("b"));
            let way = Ethernet {
                destination: Mac::BROADCAST,
                ..world.way(&a, &b)
            };
            let name = format!("to everybody, port {port}");
            Packet::new(&name, (&a, &b), &way, &ip(v4(&a), v4(&b)), datagram(port))
        };
        let closed = [in_broadcast(CLOSED)];
        world.load(known, NodeEgress::Allow);
        world.assert_dropped(known, &closed);
        if known.guards_ports() {
            world.assert_arrive(known, &[in_broadcast(OPEN)]);
        }
        world.unload();
        world.assert_arrive(known, &closed);
    }
}

/// Sends to an mDNS group as a program does.
fn announce(world: &World, from: &str, family: Family, content: &[u8]) {
    let source = address(&pod(from), family);
    let group: IpAddr = match family {
        Family::V4 => MDNS_V4.into(),
        Family::V6 => MDNS_V6.into(),
    };
    let sent = world.namespace(&pod(from)).run(|| {
        let socket = UdpSocket::bind((source, 0))?;
        socket.send_to(content, (group, CLOSED))
    });
    sent.unwrap().unwrap();
}

/// A socket that has joined the mDNS group.
fn member(world: &World, name: &str, family: Family) -> UdpSocket {
    let own = v4(&pod(name));
    let join = || match family {
        Family::V4 => {
            let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, CLOSED))?;
            socket.join_multicast_v4(&MDNS_V4, &own)?;
            Ok(socket)
        }
        Family::V6 => {
            let socket = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, CLOSED))?;
            // By the interface that the group is routed to.
            socket.join_multicast_v6(&MDNS_V6, 0)?;
            Ok::<_, std::io::Error>(socket)
        }
    };
    let socket = world.bind(&pod(name), join);
    socket.set_nonblocking(true).unwrap();
    socket
}

#[test]
fn open_pods_hear_each_others_mdns_beside_isolated_pods_where_ports_are_known() {
    let world = World::new(Network::Bridged);
    for family in Family::ALL {
        world.load(Known::Ports, NodeEgress::Allow);
        let (hears, isolated) = (member(&world, "c", family), member(&world, "b", family));
        let fence = world.listener(&pod("b"), OPEN);
        announce(&world, "a", family, b"an announcement");
        assert!(receives(&hears, b"an announcement", PATIENCE), "{family:?}");
        let (frame, token) = world.fence(&pod("a"), &pod("b"));
        world.send(&pod("a"), &frame);
        assert!(receives(&fence, &token, PATIENCE));
        assert!(
            !receives(&isolated, b"an announcement", Duration::ZERO),
            "{family:?}"
        );
        world.unload();
        announce(&world, "a", family, b"another");
        assert!(receives(&isolated, b"another", PATIENCE), "{family:?}");
    }
}
