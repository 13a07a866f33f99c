//! Sources that are not the sender's.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use policy_compiler::evaluate::NodeEgress;
use policy_compiler::ruleset::{Field, Ruleset};
use testbed::{Mac, Network, Place};

use super::packets::{CLOSED, OPEN, Packet, ip, v4};
use super::passage::Guard;
use super::world::{Family, Known, NETWORKS, World, address, node, pod};

const FORGED: &[&str] = &["forged source"];
const ITSELF: &str = "a pod to itself";
/// Nobody's.
const UNKNOWN: (IpAddr, IpAddr) = (
    IpAddr::V4(Ipv4Addr::new(192, 0, 2, 77)),
    IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0x77, 0, 0, 0, 0, 7)),
);
/// The port that pod `b` opens to pod `c` only.
const OF_C: u16 = 82;
/// The port that pod `b` opens to the outside only.
const OF_OUTSIDE: u16 = 83;

fn unknown(family: Family) -> IpAddr {
    match family {
        Family::V4 => UNKNOWN.0,
        Family::V6 => UNKNOWN.1,
    }
}

/// A packet whose source is said.
fn forged(
    world: &World,
    (from, to): (&Place, &Place),
    source: IpAddr,
    family: Family,
    port: u16,
) -> Packet {
    let name = format!("{from} as {source} to {to} port {port}");
    world.packet(&name, from, to, &ip(source, address(to, family)), port)
}

#[test]
fn a_pod_sends_only_from_its_own_addresses_where_its_interface_is_known() {
    for network in NETWORKS {
        let world = World::new(network);
        let [a, b, c, e, r] = ["a", "b", "c", "e", "r"].map(pod);
        let n = node("n1");
        let mut attacks = Vec::new();
        for family in Family::ALL {
            let of = |place: &Place| address(place, family);
            let mut add = |from, to, source, port| {
                attacks.push((forged(&world, (from, to), source, family, port), FORGED));
            };
            for source in [
                of(&a),
                of(&r),
                of(&node("n2")),
                of(&Place::External),
                unknown(family),
            ] {
                add(&e, &c, source, CLOSED);
            }
            add(&e, &r, of(&a), CLOSED);
            add(&e, &Place::External, of(&a), CLOSED);
            add(&e, &Place::External, unknown(family), CLOSED);
            add(&e, &n, of(&a), CLOSED);
            add(&e, &n, unknown(family), CLOSED);
            add(&a, &b, of(&c), OF_C);
            // A router takes no packet that claims to be its own; a bridge does not look.
            if network == Network::Bridged {
                add(&e, &c, of(&n), CLOSED);
            }
        }
        if network == Network::Bridged {
            let loopback = ip(Ipv4Addr::LOCALHOST, v4(&c));
            attacks.push((
                world.packet("e as 127.0.0.1", &e, &c, &loopback, CLOSED),
                FORGED,
            ));
        }
        let twins = Family::ALL.into_iter().flat_map(|family| {
            [
                ("a", "c", CLOSED),
                ("c", "b", OF_C),
                ("e", "c", OPEN),
                ("e", "r", OPEN),
            ]
            .map(|(from, to, port)| world.honest(from, to, family, port))
        });
        // The node's own switch does not matter: what is forged ends before.
        for node_egress in [NodeEgress::Allow, NodeEgress::Policy] {
            let (attacks, twins) = (attacks.clone(), twins.clone().collect());
            world.check(&Guard {
                known: Known::Ports,
                node_egress,
                attacks,
                twins,
            });
        }
    }
}

#[test]
fn no_source_of_a_local_pod_comes_from_elsewhere_though_no_interface_is_known() {
    for network in NETWORKS {
        let world = World::new(network);
        let [a, b, c, e] = ["a", "b", "c", "e"].map(pod);
        for known in Known::ALL {
            let mut attacks = Vec::new();
            for family in Family::ALL {
                let of = |place: &Place| address(place, family);
                let mut add = |from, to, source, port| {
                    attacks.push((forged(&world, (from, to), source, family, port), FORGED));
                };
                add(&Place::External, &b, of(&c), OF_C);
                add(&Place::External, &c, of(&a), CLOSED);
                if network == Network::Routed {
                    add(&a, &b, of(&c), OF_C);
                    add(&e, &c, of(&a), CLOSED);
                    add(&e, &Place::External, of(&a), CLOSED);
                }
            }
            let mut twins = Vec::new();
            for family in Family::ALL {
                twins.push(world.honest("c", "b", family, OF_C));
                twins.push(world.honest("a", "c", family, CLOSED));
                let source = address(&Place::External, family);
                twins.push(forged(
                    &world,
                    (&Place::External, &b),
                    source,
                    family,
                    OF_OUTSIDE,
                ));
            }
            world.check(&Guard {
                known,
                node_egress: NodeEgress::Allow,
                attacks,
                twins,
            });
        }
    }
}

#[test]
fn no_pod_reaches_its_node_with_the_source_of_another_that_is_routed() {
    let world = World::new(Network::Routed);
    let (a, e, n) = (pod("a"), pod("e"), node("n1"));
    for known in Known::ALL {
        let attacks = Family::ALL.map(|family| {
            (
                forged(&world, (&e, &n), address(&a, family), family, CLOSED),
                FORGED,
            )
        });
        let twins =
            Family::ALL.map(|family| forged(&world, (&a, &n), address(&a, family), family, CLOSED));
        let node_egress = NodeEgress::Policy;
        world.check(&Guard {
            known,
            node_egress,
            attacks: attacks.into(),
            twins: twins.into(),
        });
    }
}

/// Accepts each pod to itself however the packet came there.
pub(super) fn believe_pods_to_themselves(ruleset: &mut Ruleset) {
    let chains = ruleset
        .tables
        .iter_mut()
        .flat_map(|table| &mut table.chains);
    let rules = chains.flat_map(|chain| &mut Arc::make_mut(chain).rules);
    for rule in rules.filter(|rule| rule.comment.as_deref() == Some(ITSELF)) {
        let proof = [[Field::ConnectionStatus], [Field::ReturnRoute]];
        rule.matches
            .retain(|matches| proof.iter().all(|field| matches.key != field[..]));
    }
}

/// Takes the rules against forged sources away.
pub(super) fn believe_sources(ruleset: &mut Ruleset) {
    let chains = ruleset
        .tables
        .iter_mut()
        .flat_map(|table| &mut table.chains);
    chains.for_each(|chain| {
        Arc::make_mut(chain)
            .rules
            .retain(|rule| rule.comment.as_deref() != Some("forged source"));
    });
}

#[test]
fn a_packet_that_claims_to_be_its_receivers_own_is_dropped() {
    for network in NETWORKS {
        let world = World::new(network);
        let b = pod("b");
        for known in Known::ALL {
            let attacks: Vec<_> = [pod("a"), Place::External]
                .iter()
                .flat_map(|from| {
                    let itself = |family| address(&b, family);
                    Family::ALL
                        .map(|family| forged(&world, (from, &b), itself(family), family, CLOSED))
                })
                .collect();
            world.load(known, NodeEgress::Allow);
            world.assert_dropped(known, &attacks);
            // Each of the two guards is enough, save where a bridge hides who sent it.
            world.load_edited(known, NodeEgress::Allow, believe_sources);
            world.assert_dropped(known, &attacks);
            world.load_edited(known, NodeEgress::Allow, |ruleset| {
                believe_sources(ruleset);
                believe_pods_to_themselves(ruleset);
            });
            world.assert_arrive(known, &attacks);
        }
    }
}

/// An ARP message up to its last address.
fn arp(
    operation: u16,
    (mac, source): (Mac, Ipv4Addr),
    (target, destination): (Mac, Ipv4Addr),
) -> Vec<u8> {
    [
        &Mac::BROADCAST.0[..],
        &mac.0,
        &[0x08, 0x06],
        &[0, 1, 0x08, 0, 6, 4],
        &operation.to_be_bytes(),
        &mac.0,
        &source.octets(),
        &target.0,
        &destination.octets(),
    ]
    .concat()
}

#[test]
fn a_pod_of_a_bridge_speaks_arp_only_for_its_own_address() {
    let world = World::new(Network::Bridged);
    let (a, b) = (pod("a"), pod("b"));
    let gateway = world
        .attachment("a")
        .gateways
        .iter()
        .find_map(|gateway| match gateway {
            IpAddr::V4(v4) => Some(*v4),
            IpAddr::V6(_) => None,
        });
    let mac = world.attachment("a").mac;
    let nobody = Mac([0; 6]);
    let packet = |name: &str, operation, source, destination| {
        let message = arp(operation, (mac, source), (nobody, destination));
        Packet::raw(name, (&a, &b), &message)
    };
    world.check(&Guard {
        known: Known::Ports,
        node_egress: NodeEgress::Allow,
        attacks: vec![
            (
                packet("request as another pod", 1, v4(&pod("c")), v4(&b)),
                FORGED,
            ),
            (
                packet("answer as another pod", 2, v4(&pod("c")), v4(&b)),
                FORGED,
            ),
            (
                packet("answer as the gateway", 2, gateway.unwrap(), v4(&b)),
                FORGED,
            ),
            (
                packet(
                    "answer as nobody we know",
                    2,
                    Ipv4Addr::new(192, 0, 2, 77),
                    v4(&b),
                ),
                FORGED,
            ),
        ],
        twins: vec![
            packet("request", 1, v4(&a), v4(&b)),
            packet("answer", 2, v4(&a), v4(&b)),
            packet("announcement", 1, v4(&a), v4(&a)),
            packet("probe for a duplicate", 1, Ipv4Addr::UNSPECIFIED, v4(&a)),
        ],
    });
}
