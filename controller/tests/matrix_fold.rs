//! What a cell says holds for every member of its ends, as the evaluator has it.

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up fails")]

#[path = "matrix/large.rs"]
mod large;

use std::collections::BTreeSet;
use std::net::IpAddr;

use controller::matrix::{End, EndKind, Report, report};
use controller::{cluster, source};
use policy_compiler::evaluate::{Connection, NodeEgress, Reason, Transport, Verdict, evaluate};
use policy_compiler::model::{Cluster, Family, NamespacedName, Owner, Protocol};
use policy_compiler::reach::groups;
use policy_compiler::validate::Options;

const TESTDATA: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../testdata");

fn matrix(name: &str, manifests: &str, node_egress: NodeEgress) -> (Cluster, Report) {
    let loaded = source::load_bytes([(name, manifests.as_bytes())]).unwrap();
    let cluster = cluster::build(&loaded, Options::default()).unwrap();
    let report = report(&cluster, &loaded.workloads, node_egress);
    (cluster, report)
}

/// The addresses of an end; of outside ones the first and the last of each range, and some that nobody names.
fn addresses(cluster: &Cluster, report: &Report, end: &End) -> Vec<IpAddr> {
    let bounds = |end: &End| -> Vec<(IpAddr, IpAddr)> {
        let bounds = end.members.iter().map(|member| {
            if let Some((first, last)) = member.split_once('-') {
                return (first.parse().unwrap(), last.parse().unwrap());
            }
            match member.parse::<ipnet::IpNet>() {
                Ok(network) => (network.network(), network.broadcast()),
                Err(_) => (member.parse().unwrap(), member.parse().unwrap()),
            }
        });
        bounds.collect()
    };
    match end.kind {
        EndKind::Pods => {
            let pods = end.members.iter().flat_map(|member| {
                let (namespace, name) = member.split_once('/').unwrap();
                let pod = &cluster.pods[&NamespacedName::new(namespace, name)];
                cluster.addresses_of(pod).collect::<Vec<_>>()
            });
            pods.collect()
        }
        EndKind::Nodes => {
            let nodes = end
                .members
                .iter()
                .map(|node| &cluster.nodes[node].addresses);
            nodes.flatten().copied().collect()
        }
        EndKind::Outside => {
            let outside = |address: &IpAddr| cluster.owner(*address) == Owner::External;
            let mut found: Vec<IpAddr> = bounds(end)
                .into_iter()
                .flat_map(|(first, last)| [first, last])
                .collect();
            if end.members.is_empty() {
                let others = report
                    .ends
                    .iter()
                    .filter(|end| end.kind == EndKind::Outside);
                let named: Vec<_> = others.flat_map(bounds).collect();
                found = [
                    "8.8.8.8",
                    "192.168.77.7",
                    "10.99.1.2",
                    "2001:4860::8",
                    "fd77::7",
                ]
                .map(|address| address.parse().unwrap())
                .into_iter()
                .filter(|address| {
                    !named.iter().any(|(first, last)| {
                        Family::of(*first) == Family::of(*address)
                            && (first..=last).contains(&address)
                    })
                })
                .collect();
            }
            found.into_iter().filter(outside).collect()
        }
    }
}

/// Where what is allowed begins and ends, and a neighbour on either side.
fn transports(report: &Report) -> Vec<Transport> {
    let mut ports = BTreeSet::new();
    for way in report.cells.iter().flat_map(|cell| &cell.ways) {
        for protocol in Protocol::ALL {
            for range in way.allowed.ranges(protocol) {
                let bounds = [
                    range.first().saturating_sub(1),
                    range.first(),
                    range.last(),
                    range.last().saturating_add(1),
                ];
                ports.extend(bounds.map(|port| Transport::Port(protocol, port)));
            }
        }
    }
    ports.into_iter().chain([Transport::Icmp]).collect()
}

/// Asks the evaluator about every pair of members; returns how many verdicts were compared.
fn holds(name: &str, manifests: &str, step: usize) -> usize {
    let mut compared = 0;
    for node_egress in [NodeEgress::Allow, NodeEgress::Policy] {
        let (cluster, report) = matrix(name, manifests, node_egress);
        let transports = transports(&report);
        let addresses: Vec<_> = report
            .ends
            .iter()
            .map(|end| addresses(&cluster, &report, end))
            .collect();
        let cells: BTreeSet<_> = report.cells.iter().map(|cell| cell.position).collect();
        for (row, from) in report.ends.iter().enumerate() {
            for (column, to) in report.ends.iter().enumerate() {
                let has_pod = [from.kind, to.kind].contains(&EndKind::Pods);
                let is_one_alone = row == column && from.members.len() == 1;
                assert_eq!(
                    cells.contains(&(row, column)),
                    has_pod && !is_one_alone,
                    "{name}: {} -> {}",
                    from.name,
                    to.name
                );
            }
        }
        for cell in &report.cells {
            let (from, to) = cell.position;
            let pairs = addresses[from]
                .iter()
                .flat_map(|from| addresses[to].iter().map(move |to| (*from, *to)));
            for (source, destination) in pairs.step_by(step) {
                if Family::of(source) != Family::of(destination) {
                    continue;
                }
                let family = match Family::of(source) {
                    Family::Ipv4 => "IPv4",
                    Family::Ipv6 => "IPv6",
                };
                let way = cell
                    .ways
                    .iter()
                    .find(|way| way.families.iter().any(|known| known.to_string() == family));
                let way = way.unwrap_or_else(|| {
                    panic!("{name}: {} -> {} over {family}", cell.from, cell.to)
                });
                match (cluster.owner(source), cluster.owner(destination)) {
                    (Owner::Pod(a), Owner::Pod(b)) if a.id == b.id => continue,
                    (Owner::Pod(pod), Owner::Node(node)) | (Owner::Node(node), Owner::Pod(pod))
                        if pod.node.as_deref() == Some(node)
                            && ![way.egress.reason, way.ingress.reason]
                                .contains(&Reason::OwnNode) =>
                    {
                        continue;
                    }
                    _ => {}
                }
                for transport in &transports {
                    let connection = Connection {
                        source,
                        destination,
                        transport: *transport,
                    };
                    let verdict = evaluate(&cluster, connection, node_egress).verdict;
                    assert_eq!(
                        way.allowed.contains(*transport),
                        verdict == Verdict::Allow,
                        "{name}: {} -> {}: {connection:?}",
                        cell.from,
                        cell.to
                    );
                    compared += 1;
                }
            }
        }
    }
    compared
}

#[test]
fn a_cell_holds_for_every_member_of_its_ends() {
    let mut compared = 0;
    for entry in std::fs::read_dir(format!("{TESTDATA}/cases")).unwrap() {
        let folder = entry.unwrap().path();
        let manifests = std::fs::read_to_string(folder.join("cluster.yaml")).unwrap();
        // Some show what is refused.
        if source::load_bytes([("x", manifests.as_bytes())]).is_ok() {
            compared += holds(&folder.display().to_string(), &manifests, 1);
        }
    }
    for name in ["forum", "kubectl-get"] {
        let manifests =
            std::fs::read_to_string(format!("{TESTDATA}/rendered/{name}.yaml")).unwrap();
        compared += holds(name, &manifests, 1);
    }
    assert!(compared > 100_000, "{compared}");
    assert!(holds("large", &large::cluster(), 5) > 100_000);
}

#[test]
fn two_hundred_pods_fold_by_workload_and_one_that_differs_stands_apart() {
    let (cluster, report) = matrix("large", &large::cluster(), NodeEgress::Allow);
    assert_eq!(cluster.pods.len(), 200);
    let pods = report.ends.iter().filter(|end| end.kind == EndKind::Pods);
    let names: Vec<&str> = pods.map(|end| end.name.as_str()).collect();
    assert_eq!(names.len(), 13 * large::NAMESPACES.len());
    let of_billing: Vec<&str> = names
        .into_iter()
        .filter(|name| name.starts_with("billing/"))
        .collect();
    let expected = [
        "billing/api (6 pods)",
        "billing/cache (3 pods)",
        "billing/cron",
        "billing/db (2 pods)",
        "billing/db-replica (3 pods)",
        "billing/gateway (4 pods)",
        "billing/mailer (2 pods)",
        "billing/queue (3 pods)",
        "billing/report (2 pods)",
        "billing/search (3 pods)",
        "billing/web (1 of 6 pods)",
        "billing/web (5 of 6 pods)",
        "billing/worker (5 pods)",
    ];
    assert_eq!(of_billing, expected);
    let members: Vec<&String> = report.ends.iter().flat_map(|end| &end.members).collect();
    let distinct: BTreeSet<&String> = members.iter().copied().collect();
    assert_eq!(members.len(), distinct.len(), "nobody is in two ends");
}

/// Policies tell the pods apart by labels, and yet what they do is the same.
#[test]
fn pods_that_policies_tell_apart_fold_if_nothing_comes_of_it() {
    let pod = |name: &str| {
        format!(
            "---\n{{apiVersion: v1, kind: Pod, metadata: {{name: {name}, namespace: shop, labels: {{app: {name}}}}}}}\n"
        )
    };
    let policy = |name: &str| {
        format!(
            "---\n{{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {{name: for-{name}, namespace: shop}}, \
         spec: {{podSelector: {{matchLabels: {{app: db}}}}, ingress: [{{from: [{{podSelector: {{matchLabels: {{app: {name}}}}}}}], \
         ports: [{{port: 5432}}]}}]}}}}\n"
        )
    };
    let manifests = [pod("a"), pod("b"), pod("c"), pod("db"), policy("x")].concat();
    let (cluster, report) = matrix("x", &manifests, NodeEgress::Allow);
    let names = |report: &Report| {
        report
            .ends
            .iter()
            .map(|end| end.name.clone())
            .collect::<Vec<_>>()
    };
    assert_eq!(
        names(&report),
        [
            "shop/a, b, c (3 pods)",
            "shop/db",
            "node node-1",
            "any other address"
        ]
    );
    assert_eq!(groups(&[&cluster]).len(), 4);

    // The rule of one policy is another's, so that the reason differs and they stay apart.
    let apart = [manifests.as_str(), &policy("a"), &policy("b")].concat();
    let (_, report) = matrix("x", &apart, NodeEgress::Allow);
    assert_eq!(
        names(&report),
        [
            "shop/a",
            "shop/b",
            "shop/c",
            "shop/db",
            "node node-1",
            "any other address"
        ]
    );

    // Two rules of one policy, by which a and b are told apart to no effect.
    let one = policy("a").replace(
        "ingress: [",
        "ingress: [{from: [{podSelector: {matchLabels: {app: b}}}], ports: [{port: 5432}]}, ",
    );
    let (cluster, report) = matrix(
        "x",
        &[&manifests, &one]
            .map(|text: &String| text.clone())
            .concat(),
        NodeEgress::Allow,
    );
    assert_eq!(
        names(&report),
        [
            "shop/a, b (2 pods)",
            "shop/c",
            "shop/db",
            "node node-1",
            "any other address"
        ]
    );
    assert_eq!(groups(&[&cluster]).len(), 6);
}
