//! Connections are cut when they are forbidden, go on when they are allowed again, and those beside them never notice.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use controller::agent::revoke::{Mode, Options, Scope};

use super::flow::{Flow, PROTOCOLS, Protocol, Stream};
use super::world::{
    BIT, CLOSED, Family, LOOSE, OPEN, TIGHT, TIGHT_EGRESS, World, address, cluster, service,
};

/// What the Service's ports are above those behind them.
const SERVICE: u16 = 7000;

/// Two connections from `from` to `to` that the policy forbids are cut, go on, and are cut again.
#[track_caller]
fn follows(policy: &str, (from, to): (&str, &str), by_service: bool) {
    for family in Family::ALL {
        let mut world = World::revoking(Options::default());
        let ticket = world.commit(LOOSE);
        world.settle(ticket);
        let ends = (
            (from, address(from, family)),
            (to, address(to, family), CLOSED),
        );
        let by = |port: u16| match by_service {
            false => SocketAddr::new(address(to, family), port),
            true => SocketAddr::new(service(family), SERVICE + port),
        };
        let open = (to, address(to, family), OPEN);
        let stream = Stream::open(&world, ends.0, open, by(OPEN));
        let flows =
            PROTOCOLS.map(|protocol| Flow::open(&world, protocol, ends.0, ends.1, by(CLOSED)));
        for round in 1..3 {
            let ticket = world.commit(policy);
            flows.iter().for_each(|flow| flow.assert_cut("forbidden"));
            let status = world.settle(ticket);
            let cut = "forbidden, and nothing is left to do";
            flows.iter().for_each(|flow| flow.assert_cut(cut));
            assert_eq!((status.revoked, status.set_again), (2 * round, 0));
            let ticket = world.commit(LOOSE);
            flows
                .iter()
                .for_each(|flow| flow.assert_passes("allowed again"));
            let status = world.settle(ticket);
            assert_eq!((status.relaxed, status.failure), (2 * round, None));
        }
        stream.assert_lost_nothing();
    }
}

#[test]
fn a_connection_that_ingress_forbids_is_cut_both_ways_and_goes_on_when_allowed_again() {
    follows(TIGHT, ("a", "b"), false);
}

#[test]
fn a_connection_that_egress_forbids_is_cut_both_ways_and_goes_on_when_allowed_again() {
    follows(TIGHT_EGRESS, ("a", "r"), false);
}

#[test]
fn a_connection_from_another_node_is_cut_and_goes_on() {
    follows(TIGHT, ("r", "b"), false);
}

#[test]
fn a_connection_to_a_service_is_judged_by_the_pod_and_port_behind_it() {
    follows(TIGHT, ("a", "b"), true);
}

#[test]
fn what_the_other_nodes_pod_may_have_is_not_this_nodes_to_cut() {
    for family in Family::ALL {
        let mut world = World::revoking(Options::default());
        // It isolates `r`, which is not here.
        let policy = TIGHT.replace("app: b", "app: r");
        let ticket = world.commit(LOOSE);
        world.settle(ticket);
        let to = ("r", address("r", family), CLOSED);
        let from = ("a", address("a", family));
        let by = SocketAddr::new(to.1, CLOSED);
        let flow = Flow::open(&world, Protocol::Udp, from, to, by);
        let ticket = world.commit(&policy);
        world.settle(ticket);
        flow.assert_passes("not ours");
        assert_eq!(world.marks(CLOSED), [0]);
    }
}

#[test]
fn connections_that_were_open_before_any_rules_are_judged_at_first_apply() {
    for family in Family::ALL {
        for protocol in PROTOCOLS {
            let mut world = World::new();
            let from = ("a", address("a", family));
            let to = ("b", address("b", family), CLOSED);
            let by = SocketAddr::new(to.1, CLOSED);
            let flow = Flow::open(&world, protocol, from, to, by);
            let cluster = cluster(TIGHT, &["a", "b", "r"]);
            world.load(&cluster);
            flow.assert_passes("established, and nobody judged it");
            world.start(Options::default());
            world.commit(TIGHT);
            flow.assert_cut("judged");
        }
    }
}

#[test]
fn a_new_owner_of_an_address_gets_nothing_of_the_old_owners_connections() {
    for family in Family::ALL {
        let mut world = World::revoking(Options::default());
        let ticket = world.commit(LOOSE);
        world.settle(ticket);
        let from = ("a", address("a", family));
        let to = ("b", address("b", family), CLOSED);
        let by = SocketAddr::new(to.1, CLOSED);
        let flow = Flow::open(&world, Protocol::Udp, from, to, by);
        // The address is another pod's now, which policy isolates.
        let policy = TIGHT.replace("app: b", "app: new");
        let cluster = cluster(&policy, &["a", "new", "r"]);
        world.load(&cluster);
        flow.assert_passes("established");
        let scope = Scope::Addresses([to.1].into());
        let ticket = world.judge(&cluster, scope);
        world.await_status(|status| status.judged >= ticket);
        flow.assert_cut("the new owner's");
    }
}

#[test]
fn only_connections_of_the_addresses_that_are_named_are_judged() {
    for family in Family::ALL {
        let mut world = World::revoking(Options::default());
        let ticket = world.commit(LOOSE);
        world.settle(ticket);
        let from = ("a", address("a", family));
        let to = ("b", address("b", family), CLOSED);
        let by = SocketAddr::new(service(family), SERVICE + CLOSED);
        let flow = Flow::open(&world, Protocol::Udp, from, to, by);
        let cluster = cluster(TIGHT, &["a", "b", "r"]);
        world.load(&cluster);
        let ticket = world.judge(&cluster, Scope::Addresses([address("r", family)].into()));
        world.settle(ticket);
        flow.assert_passes("neither end is named");
        // Each of its addresses names it, also the one that forward does not see.
        for named in [from.1, to.1, by.ip()] {
            let loose = super::world::cluster(LOOSE, &["a", "b", "r"]);
            let ticket = world.judge(&loose, Scope::All);
            world.settle(ticket);
            flow.assert_passes("as if it were allowed");
            let ticket = world.judge(&cluster, Scope::Addresses([named].into()));
            world.settle(ticket);
            assert_eq!(world.marks(CLOSED), [BIT], "{named}");
            flow.assert_cut("an end is named");
        }
    }
}

#[test]
fn in_mode_keep_connections_go_on_and_what_was_cut_before_goes_on_too() {
    for family in Family::ALL {
        let mut world = World::revoking(Options::default());
        let ticket = world.commit(LOOSE);
        world.settle(ticket);
        let from = ("a", address("a", family));
        let to = ("b", address("b", family), CLOSED);
        let by = SocketAddr::new(to.1, CLOSED);
        let flow = Flow::open(&world, Protocol::Udp, from, to, by);
        let ticket = world.commit(TIGHT);
        world.settle(ticket);
        flow.assert_cut("in mode revoke");
        // The agent starts again in the other mode.
        world.start(Options {
            mode: Mode::Keep,
            ..Options::default()
        });
        let ticket = world.commit(TIGHT);
        let status = world.settle(ticket);
        assert_eq!((status.revoked, status.relaxed), (0, 1));
        flow.assert_passes("in mode keep");
        let passes = status.passes;
        let ticket = world.commit(TIGHT);
        let status = world.settle(ticket);
        assert_eq!((status.revoked, status.passes), (0, passes));
        flow.assert_passes("still");
        assert_eq!(world.marks(CLOSED), [0]);
    }
}

#[test]
fn no_mark_changes_while_rules_are_being_changed() {
    let mut world = World::revoking(Options {
        period: Duration::from_millis(50),
        ..Options::default()
    });
    let ticket = world.commit(LOOSE);
    world.settle(ticket);
    let family = Family::V4;
    let from = ("a", address("a", family));
    let to = ("b", address("b", family), CLOSED);
    let flow = Flow::open(
        &world,
        Protocol::Udp,
        from,
        to,
        SocketAddr::new(to.1, CLOSED),
    );
    let hold = world.handle().hold();
    let tight = cluster(TIGHT, &["a", "b", "r"]);
    let first = world.judge(&tight, Scope::All);
    // Far longer than it would take, were it not held.
    let end = Instant::now() + Duration::from_millis(300);
    while Instant::now() < end {
        assert!(world.status().judged < first);
        std::thread::sleep(Duration::from_millis(5));
    }
    // Whoever holds asks for something else before it lets go.
    let loose = cluster(LOOSE, &["a", "b", "r"]);
    let last = world.judge(&loose, Scope::All);
    drop(hold);
    let status = world.settle(last);
    assert!(first < last && status.revoked == 0, "{status:?}");
    flow.assert_passes("never cut");
}
