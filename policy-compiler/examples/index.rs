//! What an event costs the index: `cargo run --release -p policy-compiler --example index`.
//!
//! A node with 250 pods, in clusters of growing size. Pods come, go, get other labels and other addresses, on the node
//! and elsewhere. Of each event is timed what the agent does about it: `apply`, `update`, and `delta` from the ruleset
//! before to the one after; next to it the same from nothing, `compile`, `lower` and `delta`. Ratios carry further than
//! times. Memory is the process's resident set (/proc/self/statm) with the index in it and a second ruleset.

use std::collections::BTreeSet;
use std::error::Error;
use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::{Duration, Instant};

use policy_compiler::budget::Budgets;
use policy_compiler::compile::compile;
use policy_compiler::delta::{Plan, delta};
use policy_compiler::index::{Index, Object, ObjectId};
use policy_compiler::lower::{Options, lower};
use policy_compiler::model::{
    ContainerPort, IpBlock, LabelSelector, Labels, NAMESPACE_NAME_LABEL, Namespace, NamespaceScope,
    NamespacedName, NetworkPolicy, Peer, Peers, Phase, Pod, PolicyPort, PortMatch, PortRange,
    Ports, Presence, Protocol, Requirement, Rule,
};

const NODE: &str = "node-0";
const NAMESPACES: usize = 1_000;
const POLICIES: usize = 10_000;
const LOCAL_PODS: usize = 250;
/// Pods of the whole cluster.
const SIZES: [usize; 3] = [250, 10_000, 100_000];
const EVENTS: usize = 2_000;
/// How often everything is made from nothing.
const FROM_NOTHING: usize = 11;
const APPS: usize = 20;
const TIERS: [&str; 5] = ["frontend", "backend", "cache", "db", "worker"];
const STAGES: [&str; 3] = ["prod", "staging", "dev"];

fn main() -> Result<(), Box<dyn Error>> {
    println!("{NAMESPACES} namespaces, {POLICIES} policies, {LOCAL_PODS} pods of the node");
    let start = resident()?;
    for pods in SIZES {
        let (mut index, building) = timed(|| {
            let mut index = Index::new(NODE, Options::default(), Budgets::default());
            let all = namespaces().chain(policies()).chain((0..pods).map(pod));
            index.reset(all);
            index.update();
            index
        });
        let memory = resident()?;
        assert!(index.exceeded().is_empty(), "{:?}", index.exceeded());
        println!("{pods} pods: {}", describe(&index));
        let mut nothing: Vec<_> = (0..FROM_NOTHING).map(|_| from_nothing(&index).1).collect();
        let nothing = *percentile(&mut nothing, 50);
        println!(
            "  first build, with its objects: {:.1} ms, {:.2} times compile, lower and delta from nothing ({:.1} ms)",
            milliseconds(building),
            ratio(building, nothing),
            milliseconds(nothing)
        );
        for (what, events) in churns(pods) {
            let mut times: Vec<_> = events.map(|event| one(&mut index, event)).collect();
            let [half, most] = [50, 99].map(|percent| *percentile(&mut times, percent));
            println!(
                "  {what}: p50 {:.3} ms, p99 {:.3} ms; from nothing {:.0} and {:.0} times",
                milliseconds(half),
                milliseconds(most),
                ratio(nothing, half),
                ratio(nothing, most)
            );
        }
        let ir = compile(&index.effective(), NODE);
        assert!(
            *index.ruleset() == lower(&ir, &Options::default()),
            "it went wrong"
        );
        println!(
            "  resident: {} MB after the build, {} MB after the events, {start} MB before all",
            memory,
            resident()?
        );
    }
    Ok(())
}

/// What happens to the index at once.
enum Event {
    Apply(Pod),
    Delete(NamespacedName),
}

/// An event, and what is planned because of it.
fn one(index: &mut Index, event: Event) -> Duration {
    let before = index.ruleset().clone();
    let (plan, time) = timed(|| {
        match event {
            Event::Apply(pod) => index.apply(Object::Pod(pod)),
            Event::Delete(id) => index.delete(&ObjectId::Pod(id)),
        }
        index.update();
        delta(&before, index.ruleset(), 1)
    });
    drop(plan);
    time
}

/// The same without an index, after one pod has gone.
fn from_nothing(index: &Index) -> (Plan, Duration) {
    let cluster = index.effective();
    let before = lower(&compile(&cluster, NODE), &Options::default());
    let mut after = cluster.clone();
    after.remove_pod(&pod_of(LOCAL_PODS - 1).id);
    timed(|| {
        let ruleset = lower(&compile(&after, NODE), &Options::default());
        delta(&before, &ruleset, 1)
    })
}

/// Kinds of events, each as often.
fn churns(pods: usize) -> Vec<(&'static str, Box<dyn Iterator<Item = Event>>)> {
    let picked = move |range: std::ops::Range<usize>| {
        let length = range.len();
        (0..EVENTS).map(move |number| range.start + scattered(number) % length)
    };
    let local = || picked(0..LOCAL_PODS);
    let remote = || picked(LOCAL_PODS.min(pods - 1)..pods);
    // A pod that goes comes again with the next event.
    let gone = |indices: Box<dyn Iterator<Item = usize>>| {
        indices
            .step_by(2)
            .flat_map(|index| [Event::Delete(pod_of(index).id), Event::Apply(pod_of(index))])
    };
    let relabelled = |(number, index): (usize, usize)| {
        let mut pod = pod_of(index);
        pod.labels = labels(number % APPS, number % 3).into();
        Event::Apply(pod)
    };
    let readdressed = move |(number, index): (usize, usize)| {
        let mut pod = pod_of(index);
        pod.addresses = addresses(1_000_000 + number);
        Event::Apply(pod)
    };
    let mut churns: Vec<(_, Box<dyn Iterator<Item = Event>>)> = vec![
        (
            "pods of the node go and come",
            Box::new(gone(Box::new(local()))),
        ),
        (
            "pods of the node get other labels",
            Box::new(local().enumerate().map(relabelled)),
        ),
        (
            "pods of the node get other addresses",
            Box::new(local().enumerate().map(readdressed)),
        ),
    ];
    if pods > LOCAL_PODS {
        churns.extend([
            (
                "other pods go and come",
                Box::new(gone(Box::new(remote()))) as Box<dyn Iterator<Item = Event>>,
            ),
            (
                "other pods get other labels",
                Box::new(remote().enumerate().map(relabelled)),
            ),
            (
                "other pods get other addresses",
                Box::new(remote().enumerate().map(readdressed)),
            ),
        ]);
    }
    churns
}

fn namespace_of(tenant: usize) -> String {
    format!("tenant-{tenant}")
}

fn namespaces() -> impl Iterator<Item = Object> {
    (0..NAMESPACES).map(|tenant| {
        let name = namespace_of(tenant);
        let labels = [
            (NAMESPACE_NAME_LABEL.to_owned(), name.clone()),
            ("team".to_owned(), format!("team-{}", tenant % 20)),
            ("stage".to_owned(), STAGES[tenant % STAGES.len()].to_owned()),
        ];
        Object::Namespace(Namespace {
            name,
            labels: labels.into(),
        })
    })
}

fn labels(app: usize, version: usize) -> Labels {
    Labels::from([
        ("app".to_owned(), format!("app-{app}")),
        ("tier".to_owned(), TIERS[app % TIERS.len()].to_owned()),
        ("version".to_owned(), format!("v{version}")),
        (
            "pod-template-hash".to_owned(),
            format!("{:x}", scattered(app * 10 + version) & 0xffff_ffff),
        ),
    ])
}

fn addresses(index: usize) -> Vec<IpAddr> {
    let index = index as u32;
    let six = Ipv6Addr::from_bits((0xfd00 << 112) + u128::from(index));
    vec![Ipv4Addr::from_bits(0x0a00_0100 + index).into(), six.into()]
}

fn pod(index: usize) -> Object {
    Object::Pod(pod_of(index))
}

/// The first pods are the node's.
fn pod_of(index: usize) -> Pod {
    let tenant = scattered(index) % NAMESPACES;
    let app = scattered(index + 7) % APPS;
    let port = |name: &str, port| ContainerPort {
        name: Some(name.to_owned()),
        protocol: Protocol::Tcp,
        port,
    };
    let node = if index < LOCAL_PODS {
        0
    } else {
        1 + index / 100
    };
    Pod {
        id: NamespacedName::new(namespace_of(tenant), format!("app-{app}-{index:x}")),
        labels: labels(app, app % 3).into(),
        node: Some(format!("node-{node}")),
        host_network: false,
        phase: Phase::Running,
        uid: None,
        presence: Presence::Listed,
        terminating: false,
        addresses: addresses(index),
        ports: [
            port("http", 8080 + (index % 2) as u16),
            port("metrics", 9090),
            port("admin", 9901),
        ]
        .into(),
    }
}

fn is(key: &str, value: String) -> LabelSelector {
    LabelSelector::new([Requirement::In(key.to_owned(), BTreeSet::from([value]))])
}

fn tcp(port: PortMatch) -> Ports {
    Ports::Of(vec![PolicyPort {
        protocol: Protocol::Tcp,
        port,
    }])
}

fn policies() -> impl Iterator<Item = Object> {
    (0..POLICIES).map(|index| Object::NetworkPolicy(policy(index)))
}

/// A policy of one of the usual kinds; some name every pod of the cluster.
fn policy(index: usize) -> NetworkPolicy {
    let (tenant, of_tenant) = (index % NAMESPACES, index / NAMESPACES);
    let app = |number: usize| is("app", format!("app-{}", number % APPS));
    let own = || NamespaceScope::Own(namespace_of(tenant));
    let single = |port| tcp(PortMatch::Range(PortRange::single(port)));
    let from = |peers, ports| Rule {
        peers: Peers::Of(peers),
        ports,
    };
    let pods = |namespaces, pods| Peer::Pods { namespaces, pods };
    let block = |text: String| {
        let cidr = policy_compiler::model::Cidr::parse_strict(&text).ok()?;
        IpBlock::new(cidr, vec![]).ok().map(Peer::Block)
    };
    let every = || NamespaceScope::Matching(LabelSelector::default());
    let everything = LabelSelector::default;
    let (selector, ingress, egress) = match of_tenant % 8 {
        0 => (
            everything(),
            Some(vec![from(vec![pods(own(), everything())], Ports::Any)]),
            None,
        ),
        1 => (
            everything(),
            Some(vec![from(vec![pods(every(), everything())], single(9090))]),
            None,
        ),
        2 => {
            let dns = pods(
                NamespaceScope::Matching(is(NAMESPACE_NAME_LABEL, namespace_of(0))),
                app(0),
            );
            (everything(), None, Some(vec![from(vec![dns], single(53))]))
        }
        3 => {
            let scope = NamespaceScope::Matching(is("stage", "prod".to_owned()));
            let frontend = pods(scope, is("tier", "frontend".to_owned()));
            (
                everything(),
                Some(vec![from(
                    vec![frontend],
                    tcp(PortMatch::Named("http".into())),
                )]),
                None,
            )
        }
        4 => {
            let blocks = block(format!("172.{}.0.0/16", tenant % 200))
                .into_iter()
                .collect();
            (app(tenant), None, Some(vec![from(blocks, single(443))]))
        }
        5 => {
            let scope = NamespaceScope::Matching(is("team", format!("team-{}", tenant % 20)));
            let peer = pods(scope, app(tenant + 7));
            (
                everything(),
                None,
                Some(vec![from(
                    vec![peer],
                    tcp(PortMatch::Named("metrics".into())),
                )]),
            )
        }
        6 => (
            app(tenant + 1),
            Some(vec![from(vec![pods(own(), app(tenant + 2))], single(8080))]),
            None,
        ),
        _ => {
            let peers = (0..3).map(|more| pods(own(), app(tenant + more))).collect();
            (everything(), Some(vec![from(peers, single(8443))]), None)
        }
    };
    NetworkPolicy {
        id: NamespacedName::new(namespace_of(tenant), format!("policy-{of_tenant}")),
        selector,
        ingress,
        egress,
    }
}

fn describe(index: &Index) -> String {
    let ruleset = index.ruleset();
    let sets = || ruleset.tables.iter().flat_map(|table| table.sets.values());
    let rules = ruleset.tables.iter().flat_map(|table| &table.chains);
    let largest = sets().map(|set| set.elements.len()).max();
    format!(
        "{} sets of {} elements, the largest of {}; {} rules",
        sets().count(),
        sets().map(|set| set.elements.len()).sum::<usize>(),
        largest.unwrap_or_default(),
        rules.map(|chain| chain.rules.len()).sum::<usize>(),
    )
}

fn timed<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let start = Instant::now();
    let result = black_box(work());
    (result, start.elapsed())
}

fn percentile(times: &mut [Duration], percent: usize) -> &Duration {
    times.sort_unstable();
    &times[(times.len() - 1) * percent / 100]
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

fn ratio(one: Duration, other: Duration) -> f64 {
    one.as_secs_f64() / other.as_secs_f64()
}

/// The process's resident memory in megabytes.
fn resident() -> Result<u64, Box<dyn Error>> {
    let text = std::fs::read_to_string("/proc/self/statm")?;
    let pages: u64 = text.split(' ').nth(1).ok_or("no resident set")?.parse()?;
    // Pages of 4 KiB.
    Ok(pages * 4096 / 1_000_000)
}

/// A number that looks like chance (the finalizer of MurmurHash3).
fn scattered(index: usize) -> usize {
    let mut bits = index as u64 + 1;
    for multiplier in [0xff51_afd7_ed55_8ccd_u64, 0xc4ce_b9fe_1a85_ec53] {
        bits ^= bits >> 33;
        bits = bits.wrapping_mul(multiplier);
    }
    ((bits ^ (bits >> 33)) >> 1) as usize
}
