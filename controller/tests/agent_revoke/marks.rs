//! Our bit, and what others do with marks.

use std::net::SocketAddr;
use std::time::Duration;

use controller::agent::revoke::{Options, Scope};
use kernel::conntrack::{Entry, MarkChange};

use super::flow::{Flow, PROTOCOLS, Protocol};
use super::world::{BIT, CLOSED, Family, LOOSE, TIGHT, World, address, await_that, cluster};

/// So long that nothing is seen by looking.
const NEVER: Duration = Duration::from_secs(100_000);

fn by_events() -> Options {
    Options {
        period: NEVER,
        ..Options::default()
    }
}

/// A connection that policy is to forbid.
#[track_caller]
fn open(world: &World, protocol: Protocol, family: Family) -> Flow {
    let from = ("a", address("a", family));
    let to = ("b", address("b", family), CLOSED);
    let by = SocketAddr::new(to.1, CLOSED);
    Flow::open(world, protocol, from, to, by)
}

fn change_all(world: &World, change: MarkChange) {
    let entries = world.entries(CLOSED);
    assert!(!entries.is_empty());
    let changes = entries.iter().map(|entry| (entry.connection(), change));
    world.conntrack().change_marks(changes).unwrap();
}

#[test]
fn our_bit_comes_back_when_somebody_takes_it_off() {
    for family in Family::ALL {
        let mut world = World::revoking(by_events());
        let ticket = world.commit(LOOSE);
        world.settle(ticket);
        for protocol in PROTOCOLS {
            let flow = open(&world, protocol, family);
            let ticket = world.commit(TIGHT);
            world.settle(ticket);
            flow.assert_cut("forbidden");
            for times in 1..4 {
                let before = world.status().set_again;
                change_all(&world, MarkChange::new(0, !0));
                world.await_status(|status| status.set_again > before);
                flow.assert_cut("set again");
                assert_eq!(world.marks(CLOSED).pop(), Some(BIT), "{times}");
            }
            let ticket = world.commit(LOOSE);
            world.settle(ticket);
        }
    }
}

#[test]
fn our_bit_comes_back_where_the_kernel_tells_nobody() {
    let mut world = World::new();
    let path = "/proc/sys/net/netfilter/nf_conntrack_events";
    world
        .node()
        .run(|| std::fs::write(path, "0"))
        .unwrap()
        .unwrap();
    world.start(Options {
        period: Duration::from_millis(300),
        ..Options::default()
    });
    let ticket = world.commit(LOOSE);
    world.settle(ticket);
    let flow = open(&world, Protocol::Udp, Family::V4);
    let ticket = world.commit(TIGHT);
    world.settle(ticket);
    let before = world.status();
    change_all(&world, MarkChange::clear(BIT));
    let after = world.await_status(|status| status.set_again > before.set_again);
    assert!(after.passes > before.passes, "{after:?}");
    flow.assert_cut("seen by looking");
}

#[test]
fn other_bits_of_a_mark_stay() {
    for family in Family::ALL {
        let mut world = World::revoking(Options::default());
        let ticket = world.commit(LOOSE);
        world.settle(ticket);
        let flow = open(&world, Protocol::Udp, family);
        change_all(&world, MarkChange::new(0x4001, !0));
        for _ in 0..2 {
            let ticket = world.commit(TIGHT);
            world.settle(ticket);
            assert_eq!(world.marks(CLOSED), [0x4001 | BIT]);
            flow.assert_cut("forbidden");
            let ticket = world.commit(LOOSE);
            world.settle(ticket);
            assert_eq!(world.marks(CLOSED), [0x4001]);
            flow.assert_passes("allowed again");
        }
    }
}

#[test]
fn an_entry_whose_bit_is_right_is_not_touched() {
    let mut world = World::revoking(Options::default());
    let ticket = world.commit(LOOSE);
    world.settle(ticket);
    let flow = open(&world, Protocol::Udp, Family::V4);
    let watch = || kernel::conntrack::Watch::open(1 << 20).unwrap();
    let mut watch = world.node().run(watch).unwrap();
    flow.assert_passes("while somebody listens");
    watch.events().unwrap();
    let marked = |events: Vec<kernel::conntrack::Event>| {
        let of_ours = |event: &kernel::conntrack::Event| {
            let kernel::conntrack::Event::Updated { entry, port } = event else {
                panic!("the buffer is large");
            };
            let ports = entry.forwarded().transport.ports();
            *port != 0 && ports.is_some_and(|ports| ports.destination == CLOSED)
        };
        events.iter().filter(|event| of_ours(event)).count()
    };
    let ticket = world.commit(LOOSE);
    world.settle(ticket);
    assert_eq!(marked(watch.events().unwrap()), 0, "it is allowed");
    let ticket = world.commit(TIGHT);
    world.settle(ticket);
    assert_eq!(marked(watch.events().unwrap()), 1, "it is forbidden");
    let ticket = world.commit(TIGHT);
    world.settle(ticket);
    assert_eq!(marked(watch.events().unwrap()), 0, "it has the bit");
}

#[test]
fn our_bit_on_what_concerns_no_pod_of_the_node_is_taken_off() {
    let mut world = World::revoking(Options::default());
    let flow = open(&world, Protocol::Udp, Family::V4);
    change_all(&world, MarkChange::set(BIT));
    // Neither end is known.
    let ticket = world.commit_pods(LOOSE, &["r"]);
    let status = world.settle(ticket);
    assert_eq!(status.relaxed, 1);
    assert_eq!(world.marks(CLOSED), [0]);
    flow.assert_passes("nobody's");
}

#[test]
fn a_rule_that_rewrites_marks_with_each_packet_is_told_of_and_not_fought() {
    let mut world = World::revoking(by_events());
    let ticket = world.commit(LOOSE);
    world.settle(ticket);
    let flow = open(&world, Protocol::Udp, Family::V4);
    let ticket = world.commit(TIGHT);
    world.settle(ticket);
    flow.assert_cut("forbidden");
    let rule = format!(
        "table inet rewriting {{\nchain prerouting {{\ntype filter hook prerouting priority mangle\n\
         udp dport {CLOSED} ct mark set meta mark\nudp sport {CLOSED} ct mark set meta mark\n}}\n}}"
    );
    world.node().nft(&rule).unwrap();
    let before = world.status().set_again;
    await_that(|| {
        flow.assert_passes("it passes, as the bit is gone before it is looked at");
        world.status().overwritten.is_some()
    });
    let status = world.status();
    let forwarded = status.overwritten.unwrap().original;
    assert_eq!(forwarded.destination, address("b", Family::V4));
    let warning = status.warning().unwrap();
    assert!(
        warning.contains("UDP 10.1.0.11:") && warning.contains("picket preflight"),
        "{warning}"
    );
    let fought = status.set_again - before;
    let tight = cluster(TIGHT, &["a", "b", "r"]);
    for _ in 0..20 {
        flow.assert_passes("it still does");
        // When nobody's connections were judged, all that was heard before is dealt with.
        let ticket = world.judge(&tight, Scope::Addresses([].into()));
        world.settle(ticket);
    }
    let again = world.status().set_again - before;
    assert!(again <= fought + 1, "{fought} and then {again}");
}

#[test]
fn a_zone_of_its_own_is_a_connection_of_its_own() {
    for family in Family::ALL {
        let mut world = World::new();
        let zones = format!(
            "table inet zones {{\nchain prerouting {{\ntype filter hook prerouting priority raw\n\
             meta l4proto {{ tcp, udp }} th dport {CLOSED} ct zone set 5\n\
             meta l4proto {{ tcp, udp }} th sport {CLOSED} ct zone set 5\n}}\n}}"
        );
        world.node().nft(&zones).unwrap();
        world.start(Options::default());
        let ticket = world.commit(LOOSE);
        world.settle(ticket);
        let flow = open(&world, Protocol::Udp, family);
        let zone = |entry: &Entry| entry.zone.id();
        assert_eq!(
            world.entries(CLOSED).iter().map(zone).collect::<Vec<_>>(),
            [5]
        );
        let ticket = world.commit(TIGHT);
        world.settle(ticket);
        flow.assert_cut("in its zone");
    }
}
