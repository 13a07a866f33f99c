//! From a write to the API server to what becomes of packets, for each kind of change that a policy follows.

use std::collections::BTreeMap;
use std::net::UdpSocket;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use testbed::Namespace;

use crate::api_server::{ApiServer, apply, delete};
use crate::cluster::{RIGHTS, rules, start};
use crate::live::{Folder, get};

#[allow(dead_code, reason = "of another test program")]
#[path = "../agent_revoke/world.rs"]
mod world;

use world::{CLOSED, Family, PATIENCE, TIGHT, World, address, await_that, nodes, pod};

const ROUNDS: usize = 10;

/// So many packets in a row say that it has changed, and so many may still be on their way.
const SURE: usize = 20;

/// `b` may be asked by who has one of two labels: the namespace of the other, or the other.
const PEERS: &str = "
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {namespace: t, name: b-ingress}
spec:
  podSelector: {matchLabels: {app: b}}
  ingress:
  - from:
    - namespaceSelector: {matchLabels: {team: one}}
    - podSelector: {matchLabels: {group: one}}
";

/// It selects nobody yet.
const CLOSES: &str = "
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {namespace: t, name: closes}
spec:
  podSelector: {matchLabels: {closed: here}}
";

/// What was sent, and whether it came.
#[derive(Default)]
struct Packets {
    sent: Vec<Instant>,
    arrived: Vec<bool>,
}

impl Packets {
    /// How long after `since` packets began to arrive, or no longer did, if they have.
    fn changed(&self, since: Instant, arrive: bool) -> Option<Duration> {
        let settled = self.sent.len().checked_sub(SURE)?;
        let other = self.arrived[..settled]
            .iter()
            .rposition(|&one| one != arrive);
        let first = other.map_or(0, |last| last + 1);
        let first = first.max(self.sent.partition_point(|&sent| sent < since));
        (settled >= first + SURE).then(|| self.sent[first] - since)
    }
}

/// Sends one packet after the other from `a` to `b` while `work` goes on, each as the first of a connection.
fn under_packets<T>(world: &World, work: impl FnOnce(&Mutex<Packets>) -> T) -> T {
    /// So that the threads end too when something panics.
    struct Ending<'a>(&'a AtomicBool);
    impl Drop for Ending<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
    let (packets, is_over) = (Mutex::default(), AtomicBool::new(false));
    let ([from, to], port) = (["a", "b"].map(|pod| address(pod, Family::V4)), CLOSED);
    let receiver = world.namespace("b").run(|| UdpSocket::bind((to, port)));
    let receiver = receiver.unwrap().unwrap();
    let often = Duration::from_millis(20);
    receiver.set_read_timeout(Some(often)).unwrap();
    let receive = || {
        let mut number = [0; 8];
        while !is_over.load(Ordering::Relaxed) {
            if receiver.recv(&mut number).is_ok() {
                let number = usize::from_ne_bytes(number);
                let mut packets: std::sync::MutexGuard<'_, Packets> = packets.lock().unwrap();
                packets.arrived[number] = true;
            }
        }
    };
    let send = || {
        while !is_over.load(Ordering::Relaxed) {
            let socket = UdpSocket::bind((from, 0)).unwrap();
            let number = {
                let mut packets = packets.lock().unwrap();
                packets.sent.push(Instant::now());
                packets.arrived.push(false);
                packets.sent.len() - 1
            };
            socket.send_to(&number.to_ne_bytes(), (to, port)).unwrap();
            std::thread::sleep(Duration::from_micros(500));
        }
    };
    let source: &Namespace = world.namespace("a");
    std::thread::scope(|scope| {
        let _ending = Ending(&is_over);
        scope.spawn(receive);
        scope.spawn(|| source.run(send).unwrap());
        work(&packets)
    })
}

/// What is written, and whether packets pass afterwards.
enum Write {
    Apply(String),
    Delete(String),
}

fn steps() -> Vec<(&'static str, Write, bool)> {
    let labelled = |name: &str, label: &str| {
        let app = format!("{{app: {name}}}");
        let both = format!("{{app: {name}, {label}}}");
        Write::Apply(pod(name).replace(&app, &both))
    };
    let namespace = "apiVersion: v1\nkind: Namespace\n";
    let apply = |text: &str| Write::Apply(text.to_owned());
    let wide = TIGHT.replace("{port: 80, ", "{port: 80, endPort: 83, ");
    vec![
        ("policy created: closes", apply(TIGHT), false),
        ("policy updated: opens", Write::Apply(wide), true),
        ("policy updated: closes", apply(TIGHT), false),
        (
            "policy deleted: opens",
            Write::Delete(TIGHT.to_owned()),
            true,
        ),
        ("policy with peers created: closes", apply(PEERS), false),
        (
            "namespace label added: opens",
            Write::Apply(format!(
                "{namespace}metadata: {{name: t, labels: {{team: one}}}}\n"
            )),
            true,
        ),
        (
            "namespace label removed: closes",
            Write::Apply(format!("{namespace}metadata: {{name: t}}\n")),
            false,
        ),
        ("peer label added: opens", labelled("a", "group: one"), true),
        ("peer label removed: closes", Write::Apply(pod("a")), false),
        (
            "policy with peers deleted: opens",
            Write::Delete(PEERS.to_owned()),
            true,
        ),
        (
            "subject label added: closes",
            labelled("b", "closed: here"),
            false,
        ),
        ("subject label removed: opens", Write::Apply(pod("b")), true),
    ]
}

#[test]
fn packets_follow_each_kind_of_write_to_the_api_server() {
    let world = World::new();
    // Else half a million connections of one packet each would be tracked.
    let timeout = "/proc/sys/net/netfilter/nf_conntrack_udp_timeout";
    let write = || std::fs::write(timeout, "1");
    world.node().run(write).unwrap().unwrap();
    let server = ApiServer::start(world.node());
    server.apply(&nodes());
    for name in ["a", "b", "r"] {
        server.apply(&pod(name));
    }
    server.apply(CLOSES);
    let account = server.account("agent", &rules(&RIGHTS));
    let run_dir = Folder::new("run");
    let agent = start(world.node(), &account, run_dir.path());
    await_that(|| get(world.node(), "/readyz").is_some_and(|(status, _)| status == 200));

    let mut took: BTreeMap<&str, Vec<Duration>> = BTreeMap::new();
    let mut writes = Vec::new();
    under_packets(&world, |packets| {
        server.ask(async |client| {
            for _ in 0..ROUNDS {
                for (name, write, passes) in steps() {
                    let since = Instant::now();
                    match &write {
                        Write::Apply(text) => apply(&client, text).await,
                        Write::Delete(text) => delete(&client, text).await,
                    }
                    writes.push(since.elapsed());
                    let changed = || packets.lock().unwrap().changed(since, passes);
                    while changed().is_none() {
                        let late = since.elapsed() > PATIENCE;
                        assert!(!late, "not followed: {name}\n{}", agent.log());
                        tokio::time::sleep(Duration::from_millis(1)).await;
                    }
                    took.entry(name).or_default().extend(changed());
                }
            }
        });
    });
    println!("from the request to the first packet that follows it:");
    for (name, of) in &mut took {
        of.sort();
        let [middle, most] = [of[of.len() / 2], of[of.len() - 1]];
        println!("{name:36} median {middle:>10.1?}  most {most:>10.1?}");
    }
    histogram("writes answered", writes);
    histogram("packets follow", took.into_values().flatten().collect());
}

fn histogram(what: &str, mut took: Vec<Duration>) {
    took.sort();
    println!("{what}: {}", took.len());
    let mut done = 0;
    for exponent in 0.. {
        let below = Duration::from_millis(1 << exponent);
        let until = took.partition_point(|&one| one < below);
        if until > done {
            println!(
                "  < {below:>6?} {:4} {}",
                until - done,
                "#".repeat(until - done)
            );
        }
        done = until;
        if done == took.len() {
            return;
        }
    }
}
