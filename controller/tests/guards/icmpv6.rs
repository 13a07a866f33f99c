//! Neighbour discovery and multicast listener discovery: what keeps IPv6 alive, and nothing else.

use std::net::{Ipv6Addr, UdpSocket};

use policy_compiler::evaluate::NodeEgress;
use testbed::neighbour_discovery::{advertisement, solicitation};
use testbed::packet::{Ethernet, Transport};
use testbed::{Mac, Network};

use super::packets::{CLOSED, Packet, hops, v6};
use super::passage::{Guard, PATIENCE};
use super::world::{Known, World, pod};

const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
const ALL_ROUTERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2);
/// Where reports of listeners go.
const REPORTS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0x16);
/// A group that nobody else is in.
const GROUP: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0x1c, 0x7e57, 0x7e57, 0x7e57);

fn rules(known: Known) -> &'static [&'static str] {
    match known {
        known if known.guards_ports() => &[
            "link-local, multicast or broadcast",
            "link-local",
            "forged source",
        ],
        _ => &[
            "link-local",
            "link-local or multicast",
            "broadcast or multicast",
        ],
    }
}

fn solicited_node(address: Ipv6Addr) -> Ipv6Addr {
    let [.., a, b, c] = address.octets();
    Ipv6Addr::new(
        0xff02,
        0,
        0,
        0,
        0,
        1,
        0xff00 | u16::from(a),
        u16::from(b) << 8 | u16::from(c),
    )
}

/// An ICMPv6 message, in the frame that its destination asks for.
fn message(
    world: &World,
    name: &str,
    (from, to): (&str, &str),
    (source, destination): (Ipv6Addr, Ipv6Addr),
    hop_limit: u8,
    transport: impl FnOnce(&[u8]) -> Transport,
) -> Packet {
    let (from, to) = (pod(from), pod(to));
    let straight = world.way(&from, &to);
    let way = if destination.is_multicast() {
        Ethernet {
            destination: Mac::of_multicast(destination),
            ..straight
        }
    } else {
        straight
    };
    Packet::new(
        name,
        (&from, &to),
        &way,
        &hops(source, destination, hop_limit),
        transport,
    )
}

/// Every message of neighbour discovery that a host sends, with this hop limit.
fn discovery(world: &World, from: &str, to: &str, hop_limit: u8) -> Vec<Packet> {
    let (mac, own, target) = (world.attachment(from).mac, v6(&pod(from)), v6(&pod(to)));
    let (own_ll, target_ll) = (world.link_local(from), world.link_local(to));
    let packet = |kind: &str, source, destination, transport: &dyn Fn(&[u8]) -> Transport| {
        let name = format!("{kind} from {from} to {to} with hop limit {hop_limit}");
        message(
            world,
            &name,
            (from, to),
            (source, destination),
            hop_limit,
            transport,
        )
    };
    let ask = |token: &[u8]| solicitation(target, mac, token);
    let tell = |token: &[u8]| advertisement(own, mac, token);
    let routers = |token: &[u8]| Transport::Icmp {
        kind: 133,
        code: 0,
        body: [&[0; 4], token].concat(),
    };
    let group = solicited_node(target);
    vec![
        packet(
            "solicitation between link-local addresses",
            own_ll,
            target_ll,
            &ask,
        ),
        packet(
            "solicitation of the group from link-local",
            own_ll,
            group,
            &ask,
        ),
        packet(
            "solicitation from no address",
            Ipv6Addr::UNSPECIFIED,
            group,
            &ask,
        ),
        packet(
            "advertisement to a link-local address",
            own_ll,
            target_ll,
            &tell,
        ),
        packet("advertisement to everybody", own_ll, ALL_NODES, &tell),
        packet("solicitation of routers", own_ll, ALL_ROUTERS, &routers),
    ]
}

/// The same from global addresses, where the class judges what is not neighbour discovery.
fn global(world: &World, from: &str, to: &str, hop_limit: u8) -> Vec<Packet> {
    let (mac, own, target) = (world.attachment(from).mac, v6(&pod(from)), v6(&pod(to)));
    let packet = |kind: &str, destination, transport: &dyn Fn(&[u8]) -> Transport| {
        let name = format!("global {kind} from {from} to {to} with hop limit {hop_limit}");
        message(
            world,
            &name,
            (from, to),
            (own, destination),
            hop_limit,
            transport,
        )
    };
    let ask = |token: &[u8]| solicitation(target, mac, token);
    vec![
        packet("solicitation", target, &ask),
        packet("solicitation of the group", solicited_node(target), &ask),
        packet("advertisement", target, &|token| {
            advertisement(own, mac, token)
        }),
    ]
}

#[test]
fn neighbour_discovery_passes_on_a_bridge_only_with_the_hop_limit_that_makes_it_valid() {
    let world = World::new(Network::Bridged);
    let pairs = [("a", "b"), ("e", "c")];
    for known in Known::ALL {
        let with = |hop_limit, packets: fn(&World, &str, &str, u8) -> Vec<Packet>| {
            let of_pair = |(from, to)| packets(&world, from, to, hop_limit);
            pairs.into_iter().flat_map(of_pair).collect::<Vec<_>>()
        };
        let attacks = [with(64, discovery), with(254, discovery)].concat();
        world.check(&Guard {
            known,
            node_egress: NodeEgress::Allow,
            attacks: attacks
                .into_iter()
                .map(|packet| (packet, rules(known)))
                .collect(),
            twins: [with(255, discovery), with(255, global)].concat(),
        });
        world.load(known, NodeEgress::Allow);
        world.assert_dropped(known, &with(64, global));
        world.load_without(known, NodeEgress::Allow, &["neighbour discovery"]);
        world.assert_dropped(known, &with(255, global));
    }
    let with = |hop_limit| {
        let of_pair = |(from, to)| discovery(&world, from, to, hop_limit);
        pairs.into_iter().flat_map(of_pair).collect::<Vec<_>>()
    };
    world.load(Known::LinkLocal, NodeEgress::Allow);
    world.assert_arrive(Known::LinkLocal, &with(255));
    world.assert_dropped(Known::LinkLocal, &[with(64), with(254)].concat());
}

#[test]
fn listener_reports_pass_on_a_bridge_only_with_the_hop_limit_that_keeps_them_there() {
    let world = World::new(Network::Bridged);
    let report = |from: &str, to: &str, hop_limit: u8| {
        let name = format!("report from {from} to {to} with hop limit {hop_limit}");
        let ends = (world.link_local(from), REPORTS);
        message(&world, &name, (from, to), ends, hop_limit, |token| {
            Transport::Icmp {
                kind: 143,
                code: 0,
                body: [&[0; 4], token].concat(),
            }
        })
    };
    for known in Known::ALL {
        let attacks = [
            ("a", "b", 2),
            ("a", "b", 64),
            ("e", "c", 2),
            ("e", "c", 255),
        ];
        let attacks = attacks.map(|(from, to, hops)| (report(from, to, hops), rules(known)));
        let twins = vec![report("a", "b", 1), report("e", "c", 1)];
        let node_egress = NodeEgress::Allow;
        world.check(&Guard {
            known,
            node_egress,
            attacks: attacks.into(),
            twins,
        });

        world.load(known, node_egress);
        assert_reports(&world, known);
    }
    // Where who reports is known by its address, its class does not judge what it reports.
    world.load(Known::LinkLocal, NodeEgress::Allow);
    world.assert_arrive(
        Known::LinkLocal,
        &[report("a", "b", 1), report("e", "c", 1)],
    );
    world.assert_dropped(
        Known::LinkLocal,
        &[report("a", "b", 2), report("e", "c", 2)],
    );
    assert_reports(&world, Known::LinkLocal);
}

/// The kernel's own report, which has a hop-by-hop header before ICMPv6.
#[track_caller]
fn assert_reports(world: &World, known: Known) {
    for (from, to) in [("a", "b"), ("e", "c")] {
        let mut capture = world.capture(&pod(to));
        let _member = member(world, from);
        let arrives = capture.arrives(&GROUP.octets(), PATIENCE).unwrap();
        assert!(arrives, "{known:?}: {from}");
    }
}

/// A socket that has joined [`GROUP`], of which the kernel tells the link at once.
fn member(world: &World, name: &str) -> UdpSocket {
    let socket = world.listener(&pod(name), CLOSED);
    let join = || {
        let interval = "/proc/sys/net/ipv6/conf/eth0/mldv2_unsolicited_report_interval";
        std::fs::write(interval, "1")?;
        // By the interface that the group is routed to.
        socket.join_multicast_v6(&GROUP, 0)
    };
    world.namespace(&pod(name)).run(join).unwrap().unwrap();
    socket
}
