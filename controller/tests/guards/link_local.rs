//! Link-local addresses that are known as those of pods: addresses like any other. Where they are not known, none passes to
//! or from an isolated pod.

use std::net::{Ipv6Addr, SocketAddr, SocketAddrV6, TcpListener, TcpStream};
use std::time::Duration;

use policy_compiler::evaluate::NodeEgress;
use testbed::neighbour_discovery::solicitation;
use testbed::packet::Ethernet;
use testbed::{Mac, Network, POD_INTERFACE};

use super::node::interface_index;
use super::packets::{CLOSED, OPEN, Packet, datagram, hops, ip, v6};
use super::passage::Guard;
use super::world::{BRIDGE, Known, NETWORKS, Stack, World, node, pod};

/// The port that pod `b` opens to pod `c` only.
const OF_C: u16 = 82;
/// Nobody's.
const NOBODY: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0x77, 7);
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
/// What a connection that is dropped is waited for: by then TCP has asked twice.
const UNANSWERED: Duration = Duration::from_millis(1500);

/// A datagram of a pod to another's link-local address.
fn from_address(world: &World, (from, to): (&str, &str), source: Ipv6Addr, port: u16) -> Packet {
    let name = format!("{from} as {source} to {to} port {port}");
    let ip = ip(source, world.link_local(to));
    world.packet(&name, &pod(from), &pod(to), &ip, port)
}

/// The same from its own.
fn own(world: &World, (from, to): (&str, &str), port: u16) -> Packet {
    from_address(world, (from, to), world.link_local(from), port)
}

#[test]
fn link_local_addresses_of_pods_are_judged_like_any_other() {
    for stack in [Stack::Dual, Stack::Ipv4Only] {
        let world = World::with(Network::Bridged, stack);
        if stack == Stack::Ipv4Only {
            // The node itself need not speak IPv6 there for its pods to do so.
            let setting = format!("/proc/sys/net/ipv6/conf/{BRIDGE}/disable_ipv6");
            let written = world
                .namespace(&node("n1"))
                .run(|| std::fs::write(setting, "1"));
            written.unwrap().unwrap();
        }
        let known = Known::LinkLocal;
        let denied = [
            ("a", "b", CLOSED),
            ("a", "b", OF_C),
            ("e", "b", CLOSED),
            ("e", "c", CLOSED),
            ("e", "c", OF_C),
        ];
        let denied = denied.map(|(from, to, port)| own(&world, (from, to), port));
        let allowed = [
            ("a", "b", OPEN),
            ("c", "b", OF_C),
            ("e", "b", OPEN),
            ("e", "c", OPEN),
            ("a", "c", CLOSED),
            ("b", "a", CLOSED),
        ];
        let allowed = allowed.map(|(from, to, port)| own(&world, (from, to), port));
        for node_egress in [NodeEgress::Allow, NodeEgress::Policy] {
            world.load(known, node_egress);
            world.assert_dropped(known, &denied);
            world.assert_arrive(known, &allowed);
            // It is the rules, and no fault of the packets.
            world.unload();
            world.assert_arrive(known, &denied);
        }
    }
}

/// Whether a connection to the pod's link-local address is made, as programs make it.
fn connects(world: &World, from: &str, to: &str, port: u16) -> bool {
    let listen = || TcpListener::bind((Ipv6Addr::UNSPECIFIED, port));
    let _listener = world.bind(&pod(to), listen);
    let scope = interface_index(world, &pod(from), POD_INTERFACE);
    let to = SocketAddrV6::new(world.link_local(to), port, 0, scope);
    let connect = || TcpStream::connect_timeout(&SocketAddr::V6(to), UNANSWERED);
    let connected = world.namespace(&pod(from)).run(connect).unwrap();
    connected.is_ok()
}

#[test]
fn tcp_between_link_local_addresses_is_open_where_policies_say_so() {
    let world = World::new(Network::Bridged);
    world.load(Known::LinkLocal, NodeEgress::Allow);
    for (from, to, port, expected) in [
        ("a", "b", OPEN, true),
        ("a", "b", CLOSED, false),
        ("c", "b", OF_C, true),
        ("a", "b", OF_C, false),
        ("e", "c", OPEN, true),
        ("e", "c", CLOSED, false),
        ("e", "b", OPEN, true),
        ("c", "e", CLOSED, true),
        ("b", "c", CLOSED, true),
        ("a", "c", CLOSED, true),
    ] {
        let connected = connects(&world, from, to, port);
        assert_eq!(connected, expected, "{from} to {to} port {port}");
    }
    world.unload();
    for (from, to) in [("a", "b"), ("e", "c")] {
        assert!(connects(&world, from, to, CLOSED), "{from} to {to}");
    }
}

#[test]
fn no_pod_sends_from_a_link_local_address_that_is_not_its_own_where_its_own_is_known() {
    let world = World::new(Network::Bridged);
    let (a, c) = (pod("a"), pod("c"));
    let [a_ll, c_ll] = ["a", "c"].map(|name| world.link_local(name));
    let discovery = |name: &str, source| {
        let way = Ethernet {
            destination: Mac::of_multicast(ALL_NODES),
            ..world.way(&a, &c)
        };
        let ask = |token: &[u8]| solicitation(v6(&c), world.attachment("a").mac, token);
        Packet::new(name, (&a, &c), &way, &hops(source, ALL_NODES, 255), ask)
    };
    // Where a side is isolated, the guard of its port drops it too.
    let twice: &[&str] = &["forged source", "link-local"];
    let once: &[&str] = &["forged source"];
    world.check(&Guard {
        known: Known::LinkLocal,
        node_egress: NodeEgress::Allow,
        attacks: vec![
            (from_address(&world, ("a", "b"), c_ll, OF_C), twice),
            (from_address(&world, ("a", "b"), NOBODY, OPEN), twice),
            (from_address(&world, ("e", "c"), a_ll, CLOSED), twice),
            (from_address(&world, ("e", "c"), NOBODY, CLOSED), twice),
            (from_address(&world, ("a", "c"), NOBODY, CLOSED), once),
            (discovery("discovery as another", c_ll), once),
        ],
        twins: vec![
            own(&world, ("c", "b"), OF_C),
            own(&world, ("e", "c"), OPEN),
            own(&world, ("a", "c"), CLOSED),
            discovery("discovery", a_ll),
        ],
    });
}

#[test]
fn what_is_known_by_no_link_local_address_passes_for_nobody_who_is() {
    let world = World::new(Network::Bridged);
    let e_ll = world.link_local("e");
    world.check(&Guard {
        known: Known::SomeLinkLocal,
        node_egress: NodeEgress::Allow,
        attacks: vec![
            // Of one port no address is known, of another nothing.
            (own(&world, ("a", "b"), OPEN), &["link-local"]),
            (own(&world, ("c", "b"), OPEN), &["link-local"]),
            (
                from_address(&world, ("a", "b"), e_ll, OPEN),
                &["link-local"],
            ),
            (
                from_address(&world, ("c", "b"), e_ll, OPEN),
                &["link-local"],
            ),
        ],
        twins: vec![
            own(&world, ("e", "b"), OPEN),
            own(&world, ("e", "a"), OPEN),
            own(&world, ("a", "c"), CLOSED),
            own(&world, ("c", "a"), CLOSED),
        ],
    });
    let denied = [
        own(&world, ("e", "a"), CLOSED),
        own(&world, ("e", "b"), CLOSED),
    ];
    world.load(Known::SomeLinkLocal, NodeEgress::Allow);
    world.assert_dropped(Known::SomeLinkLocal, &denied);
    world.unload();
    world.assert_arrive(Known::SomeLinkLocal, &denied);
}

#[test]
fn a_link_local_address_on_one_side_only_is_for_no_router_though_it_is_known() {
    let world = World::new(Network::Bridged);
    let packet = |name: &str, (from, to), source: Ipv6Addr, destination: Ipv6Addr| {
        let (from, to) = (pod(from), pod(to));
        let ip = ip(source, destination);
        world.packet(name, &from, &to, &ip, OPEN)
    };
    let (to_b, from_e) = (world.link_local("b"), world.link_local("e"));
    let rules: &[&str] = &["routed link-local"];
    world.check(&Guard {
        known: Known::LinkLocal,
        node_egress: NodeEgress::Allow,
        attacks: vec![
            (
                packet("to link-local", ("a", "b"), v6(&pod("a")), to_b),
                rules,
            ),
            (
                packet("from link-local", ("e", "c"), from_e, v6(&pod("c"))),
                rules,
            ),
        ],
        twins: vec![own(&world, ("a", "b"), OPEN), own(&world, ("e", "c"), OPEN)],
    });
}

#[test]
fn a_pod_reaches_its_node_by_link_local_addresses_as_its_policies_say_where_its_own_is_known() {
    for network in NETWORKS {
        let world = World::new(network);
        let n = node("n1");
        let of_node = world.attachment("e").gateway_mac.link_local();
        let packet = |from: &str, source: Ipv6Addr, port| {
            let from = pod(from);
            let name = format!("{from} as {source} to its node, port {port}");
            let way = world.way(&from, &n);
            Packet::new(
                &name,
                (&from, &n),
                &way,
                &ip(source, of_node),
                datagram(port),
            )
        };
        let own = world.link_local("e");
        let (open, closed) = (packet("e", own, OPEN), packet("e", own, CLOSED));
        let forged = [packet("e", NOBODY, OPEN), packet("e", NOBODY, CLOSED)];
        let known = Known::LinkLocal;
        world.load(known, NodeEgress::Policy);
        // What is open arrives at another socket than what is looked for: nothing drops it.
        world.assert_dropped(known, &[closed.clone(), forged[1].clone()]);
        assert!(world.arrives_open(&open), "{network:?}");
        assert!(!world.arrives_open(&forged[0]), "{network:?}");
        world.load(known, NodeEgress::Allow);
        world.assert_arrive(known, std::slice::from_ref(&closed));
        world.assert_dropped(known, &forged[1..]);
        world.unload();
        world.assert_arrive(known, &forged[1..]);
        assert!(world.arrives_open(&forged[0]), "{network:?}");
    }
}
