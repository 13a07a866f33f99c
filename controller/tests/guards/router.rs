//! Router advertisements and redirects: never a pod's to send (CVE-2020-10749).

use std::net::Ipv6Addr;

use policy_compiler::evaluate::NodeEgress;
use testbed::neighbour_discovery::{advertisement, redirect, router_advertisement, solicitation};
use testbed::packet::{Ethernet, Ip, Transport, frame};
use testbed::{Mac, Network, Place};

use super::packets::{OPEN, Packet, hops, v6};
use super::passage::{Guard, PATIENCE, await_that, receives};
use super::world::{Known, NETWORKS, World, node, pod};

const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
const GUARD: &str = "router advertisement or redirect";
/// Of a pod that claims to route for everybody.
const ANYWHERE: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 9, 0, 0, 0, 0, 9);

/// Counts, behind picket's rules, what the node itself takes in.
const OBSERVER: &str = "
table inet observer
delete table inet observer
table inet observer {
  counter of_pods { }
  counter of_others { }
  counter solicitations { }
  chain input {
    type filter hook input priority 300
    iifname \"uplink\" icmpv6 type { 134, 137 } counter name of_others
    iifname != \"uplink\" icmpv6 type { 134, 137 } counter name of_pods
    iifname != \"uplink\" icmpv6 type 135 counter name solicitations
  }
}";

fn observed(world: &World, counter: &str) -> bool {
    let listing = format!("list counter inet observer {counter}");
    !world
        .namespace(&node("n1"))
        .nft(&listing)
        .unwrap()
        .contains("packets 0 ")
}

#[test]
fn no_pod_plays_a_router_for_other_pods_of_its_bridge() {
    let world = World::new(Network::Bridged);
    let (a, c) = (pod("a"), pod("c"));
    let straight = world.way(&a, &c);
    let everybody = Ethernet {
        destination: Mac::of_multicast(ALL_NODES),
        ..straight.clone()
    };
    let (own, target) = (world.link_local("a"), world.link_local("c"));
    let mac = world.attachment("a").mac;
    let advertise = |token: &[u8]| router_advertisement(mac, token);
    let mislead = |token: &[u8]| redirect(own, ANYWHERE, token);
    let packet = |name: &str, way: &Ethernet, ip: Ip, transport: &dyn Fn(&[u8]) -> Transport| {
        Packet::new(name, (&a, &c), way, &ip, transport)
    };
    for known in [Known::Ports, Known::Bridge, Known::Nothing] {
        let rules: &[&str] = match known {
            Known::Ports => &[GUARD],
            _ => &[
                GUARD,
                "link-local",
                "link-local or multicast",
                "broadcast or multicast",
            ],
        };
        let ask = |token: &[u8]| solicitation(target, mac, token);
        world.check(&Guard {
            known,
            node_egress: NodeEgress::Allow,
            attacks: vec![
                (
                    packet(
                        "advertisement",
                        &everybody,
                        hops(own, ALL_NODES, 255),
                        &advertise,
                    ),
                    rules,
                ),
                (
                    packet(
                        "unicast advertisement",
                        &straight,
                        hops(own, target, 255),
                        &advertise,
                    ),
                    rules,
                ),
                (
                    packet("redirect", &straight, hops(own, target, 255), &mislead),
                    rules,
                ),
                (
                    packet(
                        "global advertisement",
                        &straight,
                        hops(v6(&a), v6(&c), 255),
                        &advertise,
                    ),
                    rules,
                ),
                (
                    packet(
                        "global redirect",
                        &straight,
                        hops(v6(&a), v6(&c), 255),
                        &mislead,
                    ),
                    rules,
                ),
            ],
            twins: vec![packet(
                "solicitation",
                &straight,
                hops(own, target, 255),
                &ask,
            )],
        });
    }
}

#[test]
fn no_pod_carries_data_out_in_redirects_and_advertisements() {
    for network in NETWORKS {
        let world = World::new(network);
        let (a, x) = (pod("a"), Place::External);
        let mac = world.attachment("a").mac;
        for known in Known::ALL {
            let packet = |name: &str, transport: &dyn Fn(&[u8]) -> Transport| {
                let ip = hops(v6(&a), v6(&x), 64);
                Packet::new(name, (&a, &x), &world.way(&a, &x), &ip, transport)
            };
            let echo = |token: &[u8]| Transport::Icmp {
                kind: 128,
                code: 0,
                body: [&[0; 4], token].concat(),
            };
            let mislead = |token: &[u8]| redirect(v6(&a), ANYWHERE, token);
            let rules: &[&str] = &[GUARD];
            world.check(&Guard {
                known,
                node_egress: NodeEgress::Allow,
                attacks: vec![
                    (
                        packet("advertisement", &|token| router_advertisement(mac, token)),
                        rules,
                    ),
                    (packet("redirect", &mislead), rules),
                ],
                twins: vec![packet("echo request", &echo)],
            });
        }
    }
}

#[test]
fn no_isolated_pod_carries_data_out_in_neighbour_discovery() {
    for network in NETWORKS {
        let world = World::new(network);
        let (e, x) = (pod("e"), Place::External);
        let mac = world.attachment("e").mac;
        let packets = [64, 255].map(|hop_limit| {
            let name = format!("advertisement with hop limit {hop_limit}");
            let (way, ip) = (world.way(&e, &x), hops(v6(&e), v6(&x), hop_limit));
            Packet::new(&name, (&e, &x), &way, &ip, |token| {
                advertisement(v6(&e), mac, token)
            })
        });
        for known in Known::ALL {
            world.load(known, NodeEgress::Allow);
            world.assert_dropped(known, &packets);
            world.unload();
            world.assert_arrive(known, &packets);
        }
    }
}

#[test]
fn no_pod_plays_a_router_for_its_node_and_a_real_one_does() {
    // Where nothing is known of interfaces, the node's own settings have to refuse advertisements.
    let cases = [
        (Network::Bridged, Known::Ports),
        (Network::Bridged, Known::Bridge),
        (Network::Routed, Known::Ports),
    ];
    for (network, known) in cases {
        let world = World::new(network);
        let (a, n) = (pod("a"), node("n1"));
        let (own, mac) = (world.link_local("a"), world.attachment("a").mac);
        let straight = world.way(&a, &n);
        let everybody = Ethernet {
            destination: Mac::of_multicast(ALL_NODES),
            ..straight.clone()
        };
        let attacks = [
            frame(
                &everybody,
                &hops(own, ALL_NODES, 255),
                &router_advertisement(mac, b""),
            ),
            frame(
                &straight,
                &hops(v6(&a), v6(&n), 255),
                &router_advertisement(mac, b""),
            ),
            frame(
                &straight,
                &hops(own, v6(&n), 255),
                &redirect(own, ANYWHERE, b""),
            ),
        ];
        for attack in attacks {
            for guarded in [true, false] {
                if guarded {
                    world.load(known, NodeEgress::Allow);
                } else {
                    world.load_without(known, NodeEgress::Allow, &[GUARD]);
                }
                world.namespace(&n).nft(OBSERVER).unwrap();
                let fence = world.listener(&n, OPEN);
                world.send(&a, &attack);
                let (frame, token) = world.fence(&a, &n);
                world.send(&a, &frame);
                assert!(receives(&fence, &token, PATIENCE), "{network:?}");
                if guarded {
                    assert!(!observed(&world, "of_pods"), "{network:?}, {known:?}");
                } else {
                    await_that(|| observed(&world, "of_pods"));
                }
            }
        }
        world.load(known, NodeEgress::Policy);
        world.namespace(&n).nft(OBSERVER).unwrap();
        let ask = solicitation(v6(&n), mac, b"");
        world.send(&a, &frame(&straight, &hops(own, v6(&n), 255), &ask));
        await_that(|| observed(&world, "solicitations"));
        let real = world.way(&Place::External, &n);
        let to_all = Ethernet {
            destination: Mac::of_multicast(ALL_NODES),
            ..real.clone()
        };
        let ip = hops(real.source.link_local(), ALL_NODES, 255);
        let advertisement = frame(&to_all, &ip, &router_advertisement(real.source, b""));
        world.send(&Place::External, &advertisement);
        await_that(|| observed(&world, "of_others"));
    }
}
