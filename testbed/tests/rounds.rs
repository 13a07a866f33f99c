//! Rules that change between two rounds of probes, and connections that nodes remember.
#![allow(clippy::unwrap_used, reason = "a test that cannot be set up fails")]

mod common;

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use common::*;
use testbed::Outcome::{Dropped, Passed};
use testbed::{Error, Namespace, ProbeOptions, Protocol, probe};

const OPEN: &str = "
table inet test
delete table inet test
table inet test {
  chain forward {
    type filter hook forward priority 0
    ct state established,related accept
  }
}";

const CLOSED: &str = "
table inet test
delete table inet test
table inet test {
  chain forward {
    type filter hook forward priority 0
    ct state established,related accept
    drop
  }
}";

#[test]
fn rules_that_are_loaded_between_two_rounds_take_effect_though_the_node_remembers_the_first() {
    for network in NETWORKS {
        let testbed = cluster(network);
        let namespace = testbed.namespace(&node("a")).unwrap();
        let probes = || {
            [
                ask_all(&pod("a1"), &pod("a2")),
                ask_all(&pod("b1"), &pod("a1")),
            ]
            .concat()
        };
        for _ in 0..3 {
            namespace.nft(OPEN).unwrap();
            assert_all(&testbed, probes(), Passed);
            namespace.nft(CLOSED).unwrap();
            assert_all(&testbed, probes(), Dropped);
        }
    }
}

/// Sends one datagram and says whether it has arrived.
fn passes(sender: &UdpSocket, receiver: &UdpSocket) -> bool {
    sender.send(b"once").unwrap();
    match receiver.recv_from(&mut [0; 16]) {
        Ok((_, from)) => {
            // Answered, the connection counts as established.
            receiver.send_to(b"back", from).unwrap();
            sender.recv(&mut [0; 16]).unwrap();
            true
        }
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => false,
        Err(error) => panic!("{error}"),
    }
}

fn socket(namespace: &Namespace, address: SocketAddr) -> UdpSocket {
    let socket = namespace.run(|| UdpSocket::bind(address)).unwrap().unwrap();
    socket
        .set_read_timeout(Some(Duration::from_millis(200)))
        .unwrap();
    socket
}

#[test]
fn a_connection_outlives_the_rules_that_allowed_it_until_it_is_forgotten() {
    for (network, family) in NETWORKS
        .into_iter()
        .flat_map(|network| FAMILIES.map(|family| (network, family)))
    {
        let testbed = cluster(network);
        let rules = testbed.namespace(&node("a")).unwrap();
        let open = |name, port| {
            let place = pod(name);
            socket(
                testbed.namespace(&place).unwrap(),
                SocketAddr::new(address(&place, family), port),
            )
        };
        let (sender, receiver) = (open("a1", 4000), open("a2", 4001));
        sender.connect(receiver.local_addr().unwrap()).unwrap();
        rules.nft(OPEN).unwrap();
        assert!(passes(&sender, &receiver));
        rules.nft(CLOSED).unwrap();
        assert!(
            passes(&sender, &receiver),
            "an established connection passes"
        );
        testbed.forget_connections().unwrap();
        assert!(!passes(&sender, &receiver), "a forgotten connection is new");
    }
}

#[test]
fn a_request_that_was_lost_is_sent_again_before_its_silence_counts() {
    for network in NETWORKS {
        let testbed = cluster(network);
        for question in ask_all(&pod("a1"), &pod("a2")) {
            let lossy = "
                table inet test
                delete table inet test
                table inet test {
                  chain forward {
                    type filter hook forward priority 0
                    ct state new numgen inc mod 2 == 0 drop
                  }
                }";
            let outcome = |attempts| {
                testbed.namespace(&node("a")).unwrap().nft(lossy).unwrap();
                let options = ProbeOptions {
                    attempts,
                    ..ProbeOptions::default()
                };
                let question = std::slice::from_ref(&question);
                probe(
                    &testbed,
                    question,
                    &options,
                    &AtomicBool::new(false),
                    &mut |_, _| {},
                )
                .unwrap()
            };
            assert_eq!(
                [outcome(1), outcome(2)],
                [[Dropped], [Passed]],
                "{question:?}"
            );
        }
    }
}

#[test]
fn silence_that_is_unexpected_is_tried_again_until_rules_let_it_pass() {
    let testbed = cluster(NETWORKS[1]);
    let rules = testbed.namespace(&node("a")).unwrap();
    rules.nft(CLOSED).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            std::thread::sleep(Duration::from_millis(900));
            rules.nft(OPEN).unwrap();
        });
        assert_all(&testbed, ask_all(&pod("a1"), &pod("a2")), Passed);
    });
}

#[test]
fn silence_that_is_expected_is_not_waited_for_longer_than_needed() {
    let testbed = cluster(NETWORKS[0]);
    testbed.namespace(&node("a")).unwrap().nft(CLOSED).unwrap();
    let start = Instant::now();
    assert_all(&testbed, ask_all(&pod("a1"), &pod("a2")), Dropped);
    assert!(
        start.elapsed() < Duration::from_secs(1),
        "{:?}",
        start.elapsed()
    );
}

#[test]
fn progress_ends_with_all_and_a_cancelled_round_ends_early() {
    let testbed = cluster(NETWORKS[0]);
    let probes = ask_all(&pod("a1"), &pod("b1"));
    let mut reports = Vec::new();
    let options = ProbeOptions {
        in_flight: 3,
        ..ProbeOptions::default()
    };
    probe(
        &testbed,
        &probes,
        &options,
        &AtomicBool::new(false),
        &mut |done, all| reports.push((done, all)),
    )
    .unwrap();
    assert_eq!(reports.first(), Some(&(0, 8)));
    assert_eq!(reports.last(), Some(&(8, 8)));
    assert!(reports.is_sorted());
    let result = probe(
        &testbed,
        &probes,
        &options,
        &AtomicBool::new(true),
        &mut |_, _| {},
    );
    assert!(matches!(result, Err(Error::Cancelled)));
}

#[test]
fn a_probe_that_cannot_be_sent_is_an_error_that_says_why() {
    let testbed = cluster(NETWORKS[0]);
    let good = ask(pod("a1"), pod("b1"), Protocol::Udp, Family::V4);
    let fails = |probe_: &testbed::Probe| {
        let probes = std::slice::from_ref(probe_);
        let result = probe(
            &testbed,
            probes,
            &ProbeOptions::default(),
            &AtomicBool::new(false),
            &mut |_, _| {},
        );
        result.unwrap_err().to_string()
    };
    let mut other = good.clone();
    other.from = pod("nobody");
    assert_eq!(fails(&other), "the testbed has no pod nobody");
    let mut other = good.clone();
    other.source = "10.9.9.9".parse().unwrap();
    assert!(
        fails(&other).starts_with("cannot bind to 10.9.9.9:"),
        "{}",
        fails(&other)
    );
    let mut other = good.clone();
    other.destination = "fd00::1".parse().unwrap();
    assert!(fails(&other).contains("different families"));
    let mut other = good.clone();
    other.port = 0;
    assert!(fails(&other).contains("is 0"));
    testbed
        .namespace(&pod("a1"))
        .unwrap()
        .ip(&["route", "del", "default"])
        .unwrap();
    assert!(fails(&good).starts_with(
        "pod a1 cannot send from 10.1.0.11 to 10.2.0.11:8080: Network is unreachable"
    ));
}
