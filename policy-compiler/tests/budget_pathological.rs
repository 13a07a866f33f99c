//! Inputs that are made to cost much. Just within the budget they stay within stated bounds of memory and size; just
//! over it they are refused, and finding that out takes less than compiling.
//!
//! Memory is the measured peak as a ratio to what the objects take. Times are printed, and nothing depends on them:
//! `cargo test --release -p policy-compiler --test budget_pathological -- --nocapture`.

#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use peak_alloc::PeakAlloc;
use policy_compiler::budget::{Budgets, Exceeded, Resource, check};
use policy_compiler::compile::compile;
use policy_compiler::lower::{Options, lower};
use policy_compiler::model::*;
use policy_compiler::render;

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

static MEASURING: Mutex<()> = Mutex::new(());

/// Only one test at a time is measured, to its end: one that fails takes memory to say so.
fn alone() -> MutexGuard<'static, ()> {
    MEASURING.lock().unwrap_or_else(PoisonError::into_inner)
}

const NODE: &str = "n1";
const TENANT: &str = "tenant";

/// The objects of a tenant with pods on one node. Addresses are in order, and those of local pods come first.
#[derive(Default)]
struct Tenant {
    pods: Vec<Pod>,
    policies: Vec<NetworkPolicy>,
}

impl Tenant {
    /// Each pod has a label `pod` of its own.
    fn pods(mut self, node: &str, count: usize) -> Self {
        for _ in 0..count {
            let index = self.pods.len();
            self.pods.push(Pod {
                id: NamespacedName::new(TENANT, format!("pod-{index}")),
                labels: BTreeMap::from([("pod".to_owned(), index.to_string())]).into(),
                node: Some(node.into()),
                host_network: false,
                phase: Phase::Running,
                uid: None,
                presence: Presence::Listed,
                terminating: false,
                addresses: vec![address(index).into()],
                ports: [].into(),
            });
        }
        self
    }

    fn policy(mut self, selector: LabelSelector, egress: Vec<Rule>) -> Self {
        let index = self.policies.len();
        self.policies.push(NetworkPolicy {
            id: NamespacedName::new(TENANT, format!("policy-{index}")),
            selector,
            ingress: None,
            egress: Some(egress),
        });
        self
    }

    fn cluster(self) -> Cluster {
        let node = |name: &str| Node {
            name: name.into(),
            addresses: BTreeSet::new(),
            pod_cidrs: vec![],
        };
        Cluster::new([], [node(NODE), node("n2")], self.pods, self.policies)
    }
}

fn address(index: usize) -> Ipv4Addr {
    Ipv4Addr::from_bits(0x0a00_0000 + index as u32)
}

fn host(index: usize) -> Cidr {
    // Every second address, so that none touches the next.
    Cidr::host(Ipv4Addr::from_bits(0x6400_0000 + 2 * index as u32).into())
}

fn block(cidr: Cidr, except: Vec<Cidr>) -> Peer {
    Peer::Block(IpBlock::new(cidr, except).unwrap())
}

fn pods_labelled(key: &str, values: impl IntoIterator<Item = usize>) -> LabelSelector {
    let values = values.into_iter().map(|value| value.to_string()).collect();
    LabelSelector::new([Requirement::In(key.into(), values)])
}

fn own_pods(pods: LabelSelector) -> Peer {
    Peer::Pods {
        namespaces: NamespaceScope::Own(TENANT.into()),
        pods,
    }
}

fn rule(peers: Vec<Peer>, ports: impl IntoIterator<Item = (u16, u16)>) -> Rule {
    let ports = ports.into_iter().map(|(first, last)| PolicyPort {
        protocol: Protocol::Tcp,
        port: PortMatch::Range(PortRange::new(first, last).unwrap()),
    });
    let ports: Vec<_> = ports.collect();
    Rule {
        peers: Peers::Of(peers),
        ports: if ports.is_empty() {
            Ports::Any
        } else {
            Ports::Of(ports)
        },
    }
}

fn all() -> LabelSelector {
    LabelSelector::default()
}

/// What became of a cluster, memory and text in bytes.
struct Cost {
    objects: usize,
    check: usize,
    exceeded: Option<Exceeded>,
    /// The rest is of those that are within their budget.
    compile: usize,
    rules: usize,
    elements: usize,
    text: usize,
}

/// Makes the cluster, checks it, and compiles it if it is within the budget.
fn cost(what: &str, budgets: &Budgets, tenant: impl FnOnce() -> Tenant) -> Cost {
    let before = MEMORY.current_usage();
    let cluster = tenant().cluster();
    let objects = MEMORY.current_usage() - before;
    let (exceeded, check, checking) = measured(|| check(&cluster, NODE, budgets));
    let mut cost = Cost {
        objects,
        check,
        exceeded: exceeded.into_values().next(),
        compile: 0,
        rules: 0,
        elements: 0,
        text: 0,
    };
    if let Some(exceeded) = &cost.exceeded {
        println!("{what}: {objects} B, check {check} B {checking:?}: {exceeded}");
        return cost;
    }
    let (ruleset, compile, compiling) =
        measured(|| lower(&compile(&cluster, NODE), &Options::default()));
    let table = &ruleset.tables[0];
    cost.compile = compile;
    cost.rules = table.chains.iter().map(|chain| chain.rules.len()).sum();
    cost.elements = table.sets.values().map(|set| set.elements.len()).sum();
    // What was counted is no less than what was made.
    let of_pods = ["local4", "local6", "self4", "self6", "strict4", "strict6"];
    let sets = table
        .sets
        .iter()
        .filter(|(name, _)| !of_pods.contains(&name.as_str()));
    let of_peers: usize = sets.map(|(_, set)| set.elements.len()).sum();
    let mut less = *budgets;
    less.set(Resource::Elements, of_peers.saturating_sub(1));
    let found = policy_compiler::budget::check(&cluster, NODE, &less);
    assert_eq!(
        found.is_empty(),
        of_peers == 0,
        "{what}: {of_peers} elements"
    );
    cost.text = render::text(&ruleset).len();
    println!(
        "{what}: {objects} B, check {check} B {checking:?}, compile and lower {compile} B {compiling:?}: \
         {} rules, {} elements, {} B of text",
        cost.rules, cost.elements, cost.text
    );
    cost
}

/// The peak above what was in use before.
fn measured<T>(work: impl FnOnce() -> T) -> (T, usize, std::time::Duration) {
    let before = MEMORY.current_usage();
    MEMORY.reset_peak_usage();
    let start = Instant::now();
    let done = work();
    let time = start.elapsed();
    (done, MEMORY.peak_usage().saturating_sub(before), time)
}

/// Asserts that it is within the budget, and in proportion.
fn within(cost: &Cost, times_the_objects: usize) {
    assert_eq!(cost.exceeded, None);
    let budgets = Budgets::default();
    // What the namespace may have, its pods in local and self sets, and the rules of base chains.
    assert!(
        cost.rules <= budgets.rules + budgets.classes + 100,
        "{}",
        cost.rules
    );
    assert!(
        cost.elements <= budgets.elements + 3 * 250,
        "{}",
        cost.elements
    );
    assert!(cost.text <= 64 << 20, "{} B of text", cost.text);
    let most = times_the_objects * cost.objects + (1 << 20);
    assert!(cost.compile <= most, "{} B of {most}", cost.compile);
}

/// Asserts that it is refused for that, and that no more memory is taken than for the objects.
fn over(cost: &Cost, resource: Resource) {
    let exceeded = cost.exceeded.as_ref().unwrap();
    assert_eq!(exceeded.resource, resource, "{exceeded}");
    assert!(exceeded.found > exceeded.limit, "{exceeded}");
    assert!(exceeded.policies.len() <= 3);
    let most = 4 * cost.objects + (1 << 20);
    assert!(cost.check <= most, "{} B of {most}", cost.check);
}

#[test]
fn everything_with_thousands_of_excepts() {
    let _alone = alone();
    let with = |excepts: usize| {
        move || {
            let everything = Cidr::parse_strict("0.0.0.0/0").unwrap();
            let except = (0..excepts).map(host).collect();
            let peer = block(everything, except);
            Tenant::default()
                .pods(NODE, 250)
                .policy(all(), vec![rule(vec![peer], [])])
        }
    };
    let budgets = Budgets::default();
    let most = budgets.ipblock_entries - 1;
    let cost_within = cost("a /0 with excepts", &budgets, with(most));
    within(&cost_within, 8);
    assert_eq!(cost_within.elements, most + 1 + 3 * 250);
    over(
        &cost("a /0 with excepts", &budgets, with(most + 1)),
        Resource::IpBlockEntries,
    );
    let many = with(100_000);
    over(
        &cost("a /0 with 100,000 excepts", &budgets, many),
        Resource::IpBlockEntries,
    );
}

#[test]
fn a_hundred_thousand_blocks() {
    let _alone = alone();
    let with = |blocks: usize| {
        move || {
            let peers = (0..blocks)
                .map(|index| block(host(index), vec![]))
                .collect();
            Tenant::default()
                .pods(NODE, 1)
                .policy(all(), vec![rule(peers, [(443, 443)])])
        }
    };
    let budgets = Budgets::default();
    let most = budgets.ipblock_entries;
    within(&cost("ipBlocks", &budgets, with(most)), 48);
    over(
        &cost("ipBlocks", &budgets, with(most + 1)),
        Resource::IpBlockEntries,
    );
    over(
        &cost("100,000 ipBlocks", &budgets, with(100_000)),
        Resource::IpBlockEntries,
    );
}

#[test]
fn ten_thousand_policies_on_pods_that_all_differ() {
    let _alone = alone();
    // Each pod is left out by two policies, by no two pods the same, and each policy has a rule of its own.
    let with = |policies: usize, pods: usize| {
        move || {
            let mut tenant = Tenant::default().pods(NODE, pods);
            for index in 0..policies {
                let is_left_out =
                    |pod: &usize| pod % policies == index || pod / policies + policies / 2 == index;
                let left_out = (0..pods).filter(is_left_out).map(|pod| pod.to_string());
                let selector = match left_out.collect::<BTreeSet<_>>() {
                    none if none.is_empty() => LabelSelector::default(),
                    some => LabelSelector::new([Requirement::NotIn("pod".into(), some)]),
                };
                let port = index as u16 + 1;
                let peer = own_pods(pods_labelled("pod", [index]));
                tenant = tenant.policy(selector, vec![rule(vec![peer], [(port, port)])]);
            }
            tenant
        }
    };
    let budgets = Budgets::default();
    // 250 classes of 79 policies each.
    let cost_within = cost("81 policies on 250 pods", &budgets, with(81, 250));
    within(&cost_within, 150);
    assert!(cost_within.rules > 500, "250 classes");
    let cost_over = cost("84 policies on 250 pods", &budgets, with(84, 250));
    over(&cost_over, Resource::Rules);
    let cost_over = cost("10,000 policies on 250 pods", &budgets, with(10_000, 250));
    over(&cost_over, Resource::Rules);
}

#[test]
fn ten_thousand_policies_that_select_nobody() {
    let _alone = alone();
    let with = |policies: usize, requirements: usize| {
        move || {
            let mut tenant = Tenant::default().pods(NODE, 250);
            // Only the last requirement fails.
            let passing = (0..requirements - 1).map(|n| Requirement::DoesNotExist(format!("a{n}")));
            let selector =
                LabelSelector::new(passing.chain([Requirement::DoesNotExist("pod".into())]));
            for _ in 0..policies {
                tenant = tenant.policy(selector.clone(), vec![]);
            }
            tenant
        }
    };
    let budgets = Budgets::default();
    within(
        &cost("10,000 policies for nobody", &budgets, with(10_000, 2)),
        4,
    );
    over(
        &cost("10,000 policies for nobody", &budgets, with(10_000, 3)),
        Resource::Steps,
    );
}

#[test]
fn peers_that_select_nobody() {
    let _alone = alone();
    let with = |peers: usize| {
        move || {
            let nobody = Requirement::DoesNotExist("pod".into());
            let peers = (0..peers).map(|index| {
                // No two are the same.
                let other = Requirement::DoesNotExist(format!("a{index}"));
                own_pods(LabelSelector::new([nobody.clone(), other]))
            });
            let rules = vec![rule(peers.collect(), [])];
            Tenant::default()
                .pods(NODE, 1)
                .pods("n2", 2_000)
                .policy(all(), rules)
        }
    };
    let budgets = Budgets::default();
    within(&cost("1,200 peers for nobody", &budgets, with(1_200)), 8);
    over(
        &cost("1,300 peers for nobody", &budgets, with(1_300)),
        Resource::Steps,
    );
}

#[test]
fn merged_rules_of_both_families_are_counted_for_each_class() {
    let _alone = alone();
    let tenant = || {
        let mut tenant = Tenant::default().pods(NODE, 3).pods("n2", 573);
        for (index, pod) in tenant.pods.iter_mut().enumerate() {
            pod.addresses
                .push(std::net::Ipv6Addr::from_bits(index as u128 + 1).into());
        }
        // As many addresses as nine rules with the same ports may have to be merged.
        let peers = (0..9).map(|n| own_pods(pods_labelled("pod", 64 * n..64 * (n + 1))));
        let mut tenant = tenant.policy(all(), vec![rule(peers.collect(), [(80, 80)])]);
        for index in 0..3 {
            tenant = tenant.policy(pods_labelled("pod", [index]), vec![]);
        }
        tenant
    };
    let cost = cost("3 classes of merged rules", &Budgets::default(), tenant);
    within(&cost, 8);
    assert_eq!(cost.elements, 3 * 2 * 576 + 3 * 2 * 3);
}

#[test]
fn selectors_with_thousands_of_values() {
    let _alone = alone();
    let with = |peers: usize, values: usize| {
        move || {
            let peers = (0..peers).map(|n| own_pods(pods_labelled("pod", n..n + values)));
            let rules = vec![rule(peers.collect(), [(80, 80)])];
            let mut tenant = Tenant::default()
                .pods(NODE, 100)
                .pods("n2", 5_000)
                .policy(all(), rules);
            // Every pod is in a class of its own, with all the peers.
            for index in 0..100 {
                tenant = tenant.policy(pods_labelled("pod", [index]), vec![]);
            }
            tenant
        }
    };
    let budgets = Budgets::default();
    let cost_within = cost("10 selectors of 2,000 values", &budgets, with(10, 2_000));
    within(&cost_within, 40);
    let cost_over = cost("40 selectors of 500 values", &budgets, with(40, 500));
    over(&cost_over, Resource::Elements);
    let cost_over = cost("50 selectors of 5,000 values", &budgets, with(50, 5_000));
    over(&cost_over, Resource::Steps);
}

#[test]
fn a_policy_with_tens_of_thousands_of_ports() {
    let _alone = alone();
    // Every second port, so that none touches the next.
    let with = |peers: usize, ports: u16| {
        move || {
            let peers = (0..peers).map(|index| block(host(index), vec![])).collect();
            let ports = (0..ports).map(|index| (1 + 2 * index, 1 + 2 * index));
            Tenant::default()
                .pods(NODE, 250)
                .policy(all(), vec![rule(peers, ports)])
        }
    };
    let budgets = Budgets::default();
    within(
        &cost("8 peers with 6,250 ports", &budgets, with(8, 6_250)),
        16,
    );
    over(
        &cost("8 peers with 6,251 ports", &budgets, with(8, 6_251)),
        Resource::Ports,
    );
    over(
        &cost(
            "1,000 peers with 30,000 ports",
            &budgets,
            with(1_000, 30_000),
        ),
        Resource::Ports,
    );
}

#[test]
fn ranges_of_ports_that_overlap_deeply() {
    let _alone = alone();
    // Each range lies in the one before, and each rule is for an address of its own.
    let with = |classes: usize, rules: usize| {
        move || {
            let mut tenant = Tenant::default().pods(NODE, classes);
            for class in 0..classes {
                let rules = (0..rules).map(|index| {
                    let (first, last) = (1 + index as u16, 60_000 - index as u16);
                    rule(
                        vec![block(host(class * rules + index), vec![])],
                        [(first, last)],
                    )
                });
                tenant = tenant.policy(pods_labelled("pod", [class]), rules.collect());
            }
            tenant
        }
    };
    let budgets = Budgets::default();
    within(
        &cost("10 classes of 150 ranges", &budgets, with(10, 150)),
        200,
    );
    over(
        &cost("100 classes of 100 ranges", &budgets, with(100, 100)),
        Resource::Elements,
    );
    over(
        &cost("1 class of 10,000 ranges", &budgets, with(1, 10_000)),
        Resource::Steps,
    );
}
