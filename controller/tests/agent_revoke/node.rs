//! What a pod and its own node say to each other.

use std::net::{IpAddr, SocketAddr, SocketAddrV6, UdpSocket};

use controller::agent::revoke::Options;
use kernel::Links;
use policy_compiler::evaluate::NodeEgress;
use testbed::{POD_INTERFACE, UPLINK_INTERFACE};

use super::flow::{Flow, PROTOCOLS};
use super::world::{BIT, CLOSED, Family, LOOSE, TIGHT, TIGHT_EGRESS, World, address, await_that};

/// An address of the node that its object does not have, as those of bridges and of DNS caches.
const OTHER: (&str, &str) = ("169.254.20.10", "fd00:20::10");

fn world(node_egress: NodeEgress) -> World {
    let mut world = World::revoking(Options::default());
    world.node_egress = node_egress;
    let (v4, v6) = OTHER;
    let lines = format!(
        "address add {v4}/32 dev {UPLINK_INTERFACE}\n\
         address add {v6}/128 dev {UPLINK_INTERFACE} nodad\n"
    );
    world.node().ip_batch(&lines).unwrap();
    let ticket = world.commit(LOOSE);
    world.settle(ticket);
    world
}

#[test]
fn a_node_reaches_its_own_pods_by_whatever_address_it_has() {
    for family in Family::ALL {
        let mut world = world(NodeEgress::Allow);
        let to = ("b", address("b", family), CLOSED);
        let by = SocketAddr::new(to.1, CLOSED);
        for own in [address("n1", family), family.of(OTHER.0, OTHER.1)] {
            for protocol in PROTOCOLS {
                let flow = Flow::open(&world, protocol, ("n1", own), to, by);
                let ticket = world.commit(TIGHT);
                let status = world.settle(ticket);
                assert_eq!(status.revoked, 0, "{own}");
                flow.assert_passes("its own node's");
                let ticket = world.commit(LOOSE);
                world.settle(ticket);
            }
        }
    }
}

#[test]
fn a_pod_reaches_its_own_node_as_the_switch_says() {
    for switch in [NodeEgress::Allow, NodeEgress::Policy] {
        for family in Family::ALL {
            let mut world = world(switch);
            for own in [address("n1", family), family.of(OTHER.0, OTHER.1)] {
                for protocol in PROTOCOLS {
                    let from = ("a", address("a", family));
                    let by = SocketAddr::new(own, CLOSED);
                    let flow = Flow::open(&world, protocol, from, ("n1", own, CLOSED), by);
                    let ticket = world.commit(TIGHT_EGRESS);
                    world.settle(ticket);
                    let marks = world.marks(CLOSED);
                    match switch {
                        NodeEgress::Allow => {
                            assert!(marks.iter().all(|mark| mark & BIT == 0), "{own}");
                            flow.assert_passes("its own node");
                        }
                        NodeEgress::Policy => flow.assert_cut("as policy says"),
                    }
                    let ticket = world.commit(LOOSE);
                    world.settle(ticket);
                    flow.assert_passes("allowed again");
                }
            }
        }
    }
}

#[test]
fn what_a_pod_says_to_all_on_its_link_is_its_nodes_to_hear_as_the_switch_says() {
    for (switch, marks) in [(NodeEgress::Allow, [0]), (NodeEgress::Policy, [BIT])] {
        for family in Family::ALL {
            let mut world = world(switch);
            let all = match family.of("224.0.0.1", "ff02::1") {
                IpAddr::V6(all) => {
                    let links = world.namespace("a").run(Links::open).unwrap();
                    let link = links.unwrap().by_name(POD_INTERFACE).unwrap().unwrap();
                    SocketAddrV6::new(all, CLOSED, 0, link.index).into()
                }
                all => SocketAddr::new(all, CLOSED),
            };
            let own = (address("a", family), 0);
            let bound = world.namespace("a").run(|| UdpSocket::bind(own));
            bound.unwrap().unwrap().send_to(b"hello", all).unwrap();
            await_that(|| world.entries(CLOSED).len() == 1);
            let ticket = world.commit(TIGHT_EGRESS);
            world.settle(ticket);
            assert_eq!(world.marks(CLOSED), marks, "{switch:?}, {family:?}");
        }
    }
}
