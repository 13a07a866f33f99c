//! Frames that a bridge does not hand to the hooks of IPv4 and IPv6.

use policy_compiler::evaluate::NodeEgress;
use testbed::Network;

use super::packets::{CLOSED, OPEN, ip};
use super::passage::Guard;
use super::world::{Family, Known, World, address, pod};

#[test]
fn tagged_and_other_frames_leave_no_pod_of_a_bridge() {
    let world = World::new(Network::Bridged);
    let tagged: &[&str] = &["neither IP nor ARP, or tagged"];
    // Not IP, so that the other rules of the port would not pass them either.
    let other: &[&str] = &["neither IP nor ARP, or tagged", "forged source"];
    // Nor does a rule find the addresses behind two tags.
    let twice: &[&str] = &[
        "neither IP nor ARP, or tagged",
        "forged source",
        "link-local, multicast or broadcast",
    ];
    let plain = |name: String, from: &str, to: &str, family| {
        let (from, to) = (pod(from), pod(to));
        let ip = ip(address(&from, family), address(&to, family));
        world.packet(&name, &from, &to, &ip, CLOSED)
    };
    let mut attacks = Vec::new();
    for (family, (from, to)) in Family::ALL
        .into_iter()
        .flat_map(|family| [(family, ("a", "b")), (family, ("e", "c"))])
    {
        for (kind, tags) in [
            ("VLAN 0", &[0x81, 0x00, 0x00, 0x00][..]),
            ("VLAN 0 with priority", &[0x81, 0x00, 0xa0, 0x00]),
            ("VLAN 0 of 802.1ad", &[0x88, 0xa8, 0x00, 0x00]),
            (
                "VLAN 0 twice",
                &[0x81, 0x00, 0x00, 0x00, 0x81, 0x00, 0x00, 0x00],
            ),
            (
                "VLAN 0 of both kinds",
                &[0x88, 0xa8, 0x00, 0x00, 0x81, 0x00, 0x00, 0x00],
            ),
        ] {
            let name = format!("{kind} from {from} to {to} over {family:?}");
            let packet = plain(name, from, to, family).tagged(tags).at_socket();
            attacks.push((packet, if tags.len() == 4 { tagged } else { twice }));
        }
        let name = format!("VLAN 7 from {from} to {to} over {family:?}");
        attacks.push((
            plain(name, from, to, family).tagged(&[0x81, 0x00, 0x00, 0x07]),
            tagged,
        ));
    }
    for (kind, ethertype) in [
        ("an experiment", 0x88b5),
        ("MPLS", 0x8847),
        ("PPPoE", 0x8864),
        ("IPX", 0x8137),
        ("LLC", 46),
    ] {
        let name = format!("{kind} from a pod");
        attacks.push((
            plain(name, "a", "c", Family::V4).ethertype(ethertype),
            other,
        ));
    }
    let twins = vec![
        world.honest("a", "b", Family::V4, OPEN),
        world.honest("e", "c", Family::V6, OPEN),
        world.honest("a", "c", Family::V6, CLOSED).at_socket(),
    ];
    let known = Known::Ports;
    world.check(&Guard {
        known,
        node_egress: NodeEgress::Allow,
        attacks,
        twins,
    });
}

#[test]
fn tagged_frames_of_a_pod_whose_port_is_not_known_reach_no_isolated_pod() {
    let world = World::new(Network::Bridged);
    let (a, b) = (pod("a"), pod("b"));
    let tagged = |tags: &[u8], family| {
        let ip = ip(address(&a, family), address(&b, family));
        let name = format!("tagged {tags:02x?} over {family:?}");
        world
            .packet(&name, &a, &b, &ip, CLOSED)
            .tagged(tags)
            .at_socket()
    };
    let once: &[&str] = &["neither IP nor ARP, or tagged"];
    let twice: &[&str] = &[
        "neither IP nor ARP, or tagged",
        "link-local, multicast or broadcast",
    ];
    let attacks = Family::ALL.into_iter().flat_map(|family| {
        [
            (tagged(&[0x81, 0x00, 0x00, 0x00], family), once),
            (tagged(&[0x88, 0xa8, 0x00, 0x00], family), once),
            (
                tagged(&[0x81, 0x00, 0x00, 0x00, 0x81, 0x00, 0x00, 0x00], family),
                twice,
            ),
        ]
    });
    world.check(&Guard {
        known: Known::IsolatedPorts,
        node_egress: NodeEgress::Allow,
        attacks: attacks.collect(),
        twins: vec![
            world.honest("a", "b", Family::V4, OPEN),
            world.honest("a", "b", Family::V6, OPEN),
        ],
    });
}
