//! Real packets through the rules of random clusters, which come as manifests as from a user: what arrives is what
//! the specification says.
//!
//! `PICKET_AGREEMENT_PACKET_CLUSTERS` says how many clusters are tried, `PICKET_AGREEMENT_SEED` which.

#![allow(clippy::unwrap_used)]

#[allow(dead_code, reason = "the compiler's tests use the rest")]
#[path = "../../policy-compiler/tests/support/interactions.rs"]
mod interactions;
#[path = "../../policy-compiler/tests/support/manifests.rs"]
mod manifests;
#[path = "../../policy-compiler/tests/support/parts.rs"]
mod parts;
#[path = "../../policy-compiler/tests/support/random.rs"]
mod random;
mod support;

use std::cell::Cell;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use controller::flow::{End, Port, ProtocolName, Question};
use controller::verify::{Settings, Summary, compiled, table, verify};
use policy_compiler::evaluate::{Connection, NodeEgress, Reason, Transport, evaluate};
use policy_compiler::model::{Cluster, Protocol};
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner};
use testbed::Network;

/// As many as take a quarter of a minute.
const CLUSTERS: u64 = 150;
/// Connections of a cluster that are decided for the same reason.
const CONNECTIONS: usize = 60;
/// Connections that these are chosen from.
const LOOKED_AT: usize = 3000;
/// Most of the time goes by waiting for packets that do not come.
const AT_ONCE: usize = 4;

fn variable(name: &str, default: u64) -> u64 {
    let text = std::env::var(name);
    text.map_or(default, |text| text.parse().expect("a number"))
}

/// Connections that rules allow, that none allows, and that no rule is asked about, as many of each.
fn questions(cluster: &Cluster) -> Vec<Question> {
    let connections = interactions::connections(cluster, LOOKED_AT);
    let connections = connections.into_iter().filter(|connection| {
        // A pod meets itself only by way of a Service, and IPv4 in IPv6 is on no wire.
        let mapped = |address| matches!(address, IpAddr::V6(six) if six.to_ipv4_mapped().is_some());
        let (source, destination) = (connection.source, connection.destination);
        source != destination && !mapped(source) && !mapped(destination)
    });
    let mut chosen: BTreeMap<Reason, Vec<Connection>> = BTreeMap::new();
    for connection in connections {
        let evaluation = evaluate(cluster, connection, NodeEgress::Allow);
        // The one that decides is the last of the list of reasons.
        let reason = evaluation.egress.reason.max(evaluation.ingress.reason);
        let of_reason = chosen.entry(reason).or_default();
        if of_reason.len() < CONNECTIONS {
            of_reason.push(connection);
        }
    }
    let connections = chosen.into_values().flatten();
    connections.zip(1_usize..).map(question).collect()
}

fn question((connection, number): (Connection, usize)) -> Question {
    let (protocol, port) = match connection.transport {
        Transport::Port(Protocol::Tcp, port) => (ProtocolName::Tcp, Some(port)),
        Transport::Port(Protocol::Udp, port) => (ProtocolName::Udp, Some(port)),
        Transport::Port(Protocol::Sctp, port) => (ProtocolName::Sctp, Some(port)),
        Transport::Icmp => (ProtocolName::Icmp, None),
    };
    Question {
        id: Some(number.into()),
        line: None,
        from: End::Ip(connection.source),
        to: End::Ip(connection.destination),
        protocol,
        port: port.map(Port::Number),
        family: None,
    }
}

/// Verifies the cluster, and says what disagrees.
fn check(given: &Cluster, number: u64) -> Result<Summary, String> {
    let cluster = support::load(&manifests::manifests(given))?;
    // A namespace that is not given is made up.
    let mut known = given.namespaces.iter();
    let known = known.all(|(name, namespace)| cluster.namespaces.get(name) == Some(namespace));
    let same = cluster.pods == given.pods
        && cluster.nodes == given.nodes
        && cluster.policies == given.policies;
    if !(same && known) {
        return Err(format!("read as another: {cluster:#?}\n{given:#?}"));
    }
    let questions = questions(&cluster);
    let network = [Network::Routed, Network::Bridged];
    let settings = Settings {
        network: network[(number % 2) as usize],
        node_egress: [NodeEgress::Allow, NodeEgress::Policy][(number / 2 % 2) as usize],
        ..support::settings(Network::Routed)
    };
    let answers = verify(&cluster, &questions, &settings, &compiled, &mut |_, _| {});
    let answers = answers.map_err(|error| format!("{error:?}"))?;
    let summary = Summary::of(&answers);
    match summary.disagree + summary.unaskable {
        0 => Ok(summary),
        _ => Err(format!("{settings:?}\n{}", table(&questions, &answers))),
    }
}

/// Tries the cluster of this number. One that disagrees is shrunk.
fn one(seed: u64, number: u64) -> Result<Summary, String> {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_be_bytes());
    bytes[8..16].copy_from_slice(&number.to_be_bytes());
    let config = Config {
        cases: 1,
        failure_persistence: None,
        max_shrink_iters: 300,
        ..Config::default()
    };
    let random = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let mut runner = TestRunner::new_with_rng(config, random);
    let found = Cell::new(Summary::default());
    let result = runner.run(&interactions::cluster(), |cluster| {
        let summary = check(&cluster, number);
        found.set(summary.map_err(TestCaseError::fail)?);
        Ok(())
    });
    match result {
        Ok(()) => Ok(found.get()),
        Err(TestError::Fail(reason, cluster)) => Err(format!(
            "cluster {number} of seed {seed}: {reason}\n{}",
            manifests::manifests(&cluster)
        )),
        Err(error) => Err(error.to_string()),
    }
}

#[test]
fn packets_do_what_the_specification_says_in_random_clusters() {
    let clusters = variable("PICKET_AGREEMENT_PACKET_CLUSTERS", CLUSTERS);
    let seed = variable("PICKET_AGREEMENT_SEED", 1);
    let next = AtomicU64::new(0);
    let (allowed, denied) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let failure = Mutex::new(None);
    let work = || {
        while failure.lock().unwrap().is_none() {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= clusters {
                return;
            }
            match one(seed, number) {
                Ok(summary) => {
                    allowed.fetch_add(summary.allowed, Ordering::Relaxed);
                    denied.fetch_add(summary.denied, Ordering::Relaxed);
                }
                Err(error) => *failure.lock().unwrap() = Some(error),
            }
        }
    };
    std::thread::scope(|scope| {
        (0..AT_ONCE).for_each(|_| drop(scope.spawn(work)));
    });
    if let Some(failure) = failure.into_inner().unwrap() {
        panic!("{failure}");
    }
    let (allowed, denied) = (allowed.into_inner(), denied.into_inner());
    println!("{clusters} clusters of seed {seed}: {allowed} flows allowed, {denied} denied");
    // Neither side may be rare, else nothing is shown.
    assert!(allowed > denied / 10 && denied > allowed / 10);
}
