//! Entries as they are listed.

use std::collections::BTreeSet;

use kernel::conntrack::{Entry, Filter, MarkChange, Status, Transport, Tuple, Zone};

use super::world::{FAMILIES, PROTOCOLS, World, address, await_that, dump, line, listed};

/// The entries, each as `/proc` shows it.
fn lines(entries: &[Entry]) -> BTreeSet<String> {
    entries.iter().map(line).collect()
}

#[test]
fn connections_of_every_protocol_and_family_are_listed_as_the_kernel_shows_them() {
    let world = World::new();
    for port in [81, 85, 86, 87] {
        world.connect(port);
    }
    world.connect_to_service();
    let mut conntrack = world.conntrack();
    let entries = dump(&mut conntrack, &Filter::default());
    assert_eq!(lines(&entries), listed(world.node()));
    assert_eq!(entries.len(), 5 * PROTOCOLS.len() * FAMILIES.len());
    let ids: BTreeSet<_> = entries.iter().map(|entry| entry.id).collect();
    assert_eq!(ids.len(), entries.len());
    for entry in &entries {
        assert!(entry.status.contains(Status::CONFIRMED), "{entry:?}");
        assert!(entry.timeout.is_some(), "{entry:?}");
    }
    let in_zone = |zone| entries.iter().filter(|entry| entry.zone == zone).count();
    // Pings have no port, and so no zone.
    for (original, reply) in [(5, 5), (6, 0), (0, 7)] {
        assert_eq!(in_zone(Zone { original, reply }), 6);
    }
}

#[test]
fn a_rewritten_connection_shows_both_its_ends_and_what_forward_saw() {
    let world = World::new();
    // What forward sees, by the kernel's own account.
    let counting = "
table inet seen {
  set seen { type ipv4_addr . ipv4_addr . inet_proto . inet_service . inet_service; flags dynamic; size 64; }
  set seen6 { type ipv6_addr . ipv6_addr . inet_proto . inet_service . inet_service; flags dynamic; size 64; }
  chain forward {
    type filter hook forward priority filter
    ct direction original add @seen { ip saddr . ip daddr . meta l4proto . th sport . th dport }
    ct direction original add @seen6 { ip6 saddr . ip6 daddr . meta l4proto . th sport . th dport }
  }
}";
    world.node().nft(counting).unwrap();
    world.connect_to_service();
    let seen = world.node().nft("list table inet seen").unwrap();
    let entries = dump(&mut world.conntrack(), &Filter::default());
    assert_eq!(entries.len(), PROTOCOLS.len() * FAMILIES.len());
    for entry in entries {
        assert!(
            entry.status.contains(Status::SOURCE_NAT)
                && entry.status.contains(Status::DESTINATION_NAT)
        );
        let family = FAMILIES[usize::from(entry.original.source.is_ipv6())];
        assert_eq!(entry.original.source, address("a", family));
        assert_eq!(entry.original.destination, address("service", family));
        assert_eq!(entry.reply.source, address("b", family));
        assert_ne!(entry.reply.destination, address("a", family));
        let forwarded = entry.forwarded();
        let Tuple {
            source,
            destination,
            transport,
        } = forwarded;
        assert_eq!(
            (source, destination),
            (address("a", family), address("b", family))
        );
        let name = match transport {
            Transport::Tcp(_) => "tcp",
            Transport::Udp(_) => "udp",
            Transport::Sctp(_) => "sctp",
            _ => continue,
        };
        let ports = transport.ports().unwrap();
        assert_eq!(ports.destination, 8080);
        let element = format!(
            "{source} . {destination} . {name} . {} . {}",
            ports.source, ports.destination
        );
        assert!(seen.contains(&element), "{element}\n{seen}");
    }
}

#[test]
fn a_protocol_that_is_not_known_is_listed_by_its_number() {
    let world = World::new();
    world.send_other(253);
    let mut conntrack = world.conntrack();
    await_that(|| !dump(&mut conntrack, &Filter::default()).is_empty());
    let entries = dump(&mut conntrack, &Filter::default());
    assert_eq!(lines(&entries), listed(world.node()));
    let other = Transport::Other {
        protocol: 253,
        ports: None,
    };
    assert_eq!(entries[0].original.transport, other);
    let set = [(entries[0].connection(), MarkChange::set(4))];
    assert_eq!(conntrack.change_marks(set).unwrap().changed, 1);
    assert_eq!(dump(&mut conntrack, &Filter::default())[0].mark, 4);
}
