//! A hundred thousand connections. What it takes is printed: `cargo test --release -p controller --test agent_revoke many
//! -- --nocapture`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::{Duration, Instant};

use controller::agent::revoke::{Options, Scope};
use kernel::conntrack::Filter;

use super::world::{CLOSED, Family, LOOSE, OPEN, PATIENCE, TIGHT, World, address, cluster};
use crate::create::{Wanted, create};

const COUNT: u32 = 100_000;

/// Each from another address outside, over UDP to `b`, every other one to a port that is closed.
fn wanted(index: u32) -> Wanted {
    let (source, family): (IpAddr, _) = if index % 4 < 2 {
        (Ipv4Addr::from_bits(0xcb00_0000 + index).into(), Family::V4)
    } else {
        let bits = (0x2001 << 112) + u128::from(index);
        (Ipv6Addr::from_bits(bits).into(), Family::V6)
    };
    Wanted {
        source: (source, 4000),
        destination: (
            address("b", family),
            if index.is_multiple_of(2) {
                OPEN
            } else {
                CLOSED
            },
        ),
        protocol: 17,
        zone: 0,
        mark: 0,
    }
}

#[test]
fn many_connections_of_as_many_addresses_are_judged_and_half_of_them_cut() {
    let mut world = World::revoking(Options::default());
    for start in (0..COUNT).step_by(1000) {
        let some: Vec<_> = (start..start + 1000).map(wanted).collect();
        create(world.node(), &some);
    }
    let mut conntrack = world.conntrack();
    let start = Instant::now();
    conntrack.dump(&Filter::default(), |_| {}).unwrap();
    println!("listed in {:?}", start.elapsed());

    let all = ["a", "b", "r"];
    let half = u64::from(COUNT / 2);
    for (policy, revoked, relaxed) in [(TIGHT, half, 0), (TIGHT, half, 0), (LOOSE, half, half)] {
        let cluster = cluster(policy, &all);
        let start = Instant::now();
        let ticket = world.judge(&cluster, Scope::All);
        let status = world.await_status(|status| status.judged >= ticket);
        println!("judged and marked in {:?}", start.elapsed());
        assert_eq!((status.revoked, status.relaxed), (revoked, relaxed));
        let status = world.settle(ticket);
        assert_eq!((status.revoked, status.relaxed), (revoked, relaxed));
        assert!(status.entries >= u64::from(COUNT));
    }
}

#[test]
fn requests_that_never_end_keep_no_connection_open() {
    let count = COUNT / 10;
    let mut world = World::revoking(Options::default());
    for start in (0..count).step_by(1000) {
        let some: Vec<_> = (start..start + 1000).map(wanted).collect();
        create(world.node(), &some);
    }
    let cluster = cluster(TIGHT, &["a", "b", "r"]);
    world.judge(&cluster, Scope::All);
    let deadline = Instant::now() + PATIENCE;
    while world.status().revoked < u64::from(count / 2) {
        assert!(Instant::now() < deadline, "{:?}", world.status());
        // Something elsewhere changes, in less time than entries are listed in, as the agent has it.
        let hold = world.handle().hold();
        world.judge(
            &cluster,
            Scope::Addresses([Ipv4Addr::new(10, 99, 0, 1).into()].into()),
        );
        drop(hold);
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn what_is_asked_right_before_the_end_is_done() {
    let mut world = World::revoking(Options::default());
    let some: Vec<_> = (0..1000).map(wanted).collect();
    create(world.node(), &some);
    let cluster = cluster(TIGHT, &["a", "b", "r"]);
    let ticket = world.judge(&cluster, Scope::All);
    let status = world.end();
    assert_eq!((status.judged, status.revoked), (ticket, 500));
}
