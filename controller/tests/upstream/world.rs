//! One cluster of namespaces, of which the rules are changed from state to state and never loaded anew.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::atomic::AtomicBool;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use controller::flow::{Answer, Answered, End, FamilyName, Port, ProtocolName, Question};
use controller::verify::{Settings, compiled, options};
use ipnet::IpNet;
use kernel::Nftables;
use policy_compiler::delta::delta;
use policy_compiler::evaluate::{NodeEgress, Verdict};
use policy_compiler::model::Cluster;
use policy_compiler::ruleset::Ruleset;
use testbed::{
    Network, NodeSpec, Outcome, Place, PodSpec, Probe, ProbeOptions, Testbed, Topology, probe,
};

use super::case::Case;
use super::objects::Objects;
use super::table::{Matrix, PODS, Table};

const FAMILIES: [FamilyName; 2] = [FamilyName::Ipv4, FamilyName::Ipv6];

pub(crate) struct World {
    testbed: Testbed,
    settings: Settings,
    nodes: BTreeMap<String, Nftables>,
    /// In which state the rules are.
    state: String,
}

/// The one world of this network: building it takes longer than many cases. Whoever comes finds the rules that the
/// case before has left.
pub(crate) fn world(network: Network) -> MutexGuard<'static, World> {
    static ROUTED: OnceLock<Mutex<World>> = OnceLock::new();
    static BRIDGED: OnceLock<Mutex<World>> = OnceLock::new();
    let world = match network {
        Network::Routed => &ROUTED,
        Network::Bridged => &BRIDGED,
    };
    let world = world.get_or_init(|| Mutex::new(World::new(network)));
    world.lock().unwrap_or_else(PoisonError::into_inner)
}

impl World {
    fn new(network: Network) -> Self {
        let cluster = Objects::fixture().cluster().unwrap();
        let testbed = Testbed::build(&topology(&cluster, network)).unwrap_or_else(|error| {
            panic!("{error}\nThese tests need root, or: unshare --user --map-root-user cargo test")
        });
        let nodes = cluster.nodes.keys().map(|name| {
            let namespace = testbed.namespace(&Place::Node(name.clone())).unwrap();
            let nftables = namespace.run(Nftables::open).unwrap().unwrap();
            (name.clone(), nftables)
        });
        let settings = Settings {
            network,
            node_egress: NodeEgress::Allow,
            probes: ProbeOptions::default(),
        };
        Self {
            nodes: nodes.collect(),
            testbed,
            settings,
            state: "nothing at all".into(),
        }
    }

    /// Goes through the states of a case, the first of which is that there is no policy and everybody reaches
    /// everybody.
    pub(crate) fn run(&mut self, case: &Case) -> Result<(), String> {
        let mut objects = Objects::fixture();
        let mut states = vec![("no policy", objects.cluster()?, Vec::new())];
        for step in &case.steps {
            let failed = |error| format!("{}, {:?}: {error}", case.name, step.heading);
            objects.apply(step).map_err(failed)?;
            let cluster = objects.cluster().map_err(failed)?;
            states.push((&step.heading, cluster, step.tables().map_err(failed)?));
        }
        let open = Table {
            ports: ports(&states[1].2),
            expected: Matrix::of(|_, _| Verdict::Allow),
        };
        states[0].2.push(open);
        for (heading, cluster, tables) in &states {
            if ports(tables) != ports(&states[0].2) {
                return Err(format!("{}, {heading:?}: other ports", case.name));
            }
            let next = format!("{}, {heading:?}", case.name);
            let before = std::mem::replace(&mut self.state, next);
            let outcome = self.change(cluster);
            let outcome = outcome.and_then(|()| self.check(cluster, tables));
            let context = |error| {
                let network = self.settings.network;
                format!("{}, {network:?}, coming from {before}: {error}", self.state)
            };
            outcome.map_err(context)?;
        }
        Ok(())
    }

    /// Leads every node to the rules of this cluster, from those that the kernel has.
    fn change(&mut self, cluster: &Cluster) -> Result<(), String> {
        for (node, nftables) in &mut self.nodes {
            let options = options(cluster, node, &self.testbed, &self.settings).unwrap();
            let new = compiled(cluster, node, &options);
            let found = nftables.read().map_err(|error| error.to_string())?;
            let plan = delta(&found.ruleset, &new, found.generation.0);
            let end = nftables.execute(&plan, None);
            let end = end.map_err(|error| format!("{node}: {error}"))?;
            let found = nftables.read().map_err(|error| error.to_string())?;
            if found.generation != end || !found.unknown.is_empty() {
                return Err(format!("{node}: not what was made: {found:?}"));
            }
            if sorted(found.ruleset) != sorted(new) {
                return Err(format!("{node}: the rules are not those of the cluster"));
            }
        }
        // Each state is judged on new connections.
        let forgotten = self.testbed.forget_connections();
        forgotten.map_err(|error| error.to_string())
    }

    /// Whether packets, and the evaluator, do what the tables say.
    fn check(&self, cluster: &Cluster, tables: &[Table]) -> Result<(), String> {
        let mut asked = Vec::new();
        for table in tables {
            for &(protocol, port) in &table.ports {
                for family in FAMILIES {
                    asked.push((
                        &table.expected,
                        OnPort::new(cluster, protocol, port, family),
                    ));
                }
            }
        }
        let probes: Vec<_> = asked
            .iter()
            .flat_map(|(expected, asked)| asked.probes(expected))
            .collect();
        let never = AtomicBool::new(false);
        let outcomes = probe(
            &self.testbed,
            &probes,
            &self.settings.probes,
            &never,
            &mut |_, _| {},
        );
        let outcomes = outcomes.map_err(|error| error.to_string())?;
        let mut outcomes = outcomes.into_iter();
        let mut report = String::new();
        for (expected, asked) in &asked {
            let pairs = pairs().zip(outcomes.by_ref());
            let outcomes: BTreeMap<_, _> = pairs.collect();
            let packets = Matrix::of(|from, to| match outcomes[&(from, to)] {
                Outcome::Passed => Verdict::Allow,
                Outcome::Dropped => Verdict::Deny,
            });
            report += &asked.disagreements(expected, &packets);
        }
        match report.is_empty() {
            true => Ok(()),
            false => Err(report),
        }
    }
}

/// Every pair of different pods, by index.
fn pairs() -> impl Iterator<Item = (usize, usize)> {
    let all = 0..PODS.len();
    all.flat_map(|from| (0..PODS.len()).map(move |to| (from, to)))
        .filter(|(from, to)| from != to)
}

/// The ports that tables are about, in order.
fn ports(tables: &[Table]) -> Vec<(ProtocolName, u16)> {
    let mut ports: Vec<_> = tables
        .iter()
        .flat_map(|table| table.ports.clone())
        .collect();
    ports.sort_by_key(|(protocol, port)| (protocol.to_string(), *port));
    ports
}

/// Chains in the order of their names, since a plan may make them in any.
fn sorted(mut ruleset: Ruleset) -> Ruleset {
    for table in &mut ruleset.tables {
        table.chains.sort_by(|one, other| one.name.cmp(&other.name));
    }
    ruleset
}

/// What the evaluator says of every pair on a port.
struct OnPort {
    what: String,
    protocol: testbed::Protocol,
    port: u16,
    /// By pair: addresses, verdict and why.
    answers: BTreeMap<(usize, usize), ([IpAddr; 2], Verdict, String)>,
}

impl OnPort {
    fn new(cluster: &Cluster, protocol: ProtocolName, port: u16, family: FamilyName) -> Self {
        let answer = |(from, to)| {
            let pod = |index: usize| format!("pod/{}", PODS[index]).parse::<End>().unwrap();
            let question = Question {
                id: None,
                line: None,
                from: pod(from),
                to: pod(to),
                protocol,
                port: Some(Port::Number(port)),
                family: Some(family),
            };
            let (answer, asked) = Answer::to(cluster, &question, NodeEgress::Allow);
            let connection = asked.unwrap().connection;
            let addresses = [connection.source, connection.destination];
            match answer.answered {
                Answered::Evaluated {
                    evaluation, text, ..
                } => ((from, to), (addresses, evaluation.verdict, text)),
                Answered::Unaskable { error } => panic!("{error}"),
            }
        };
        Self {
            what: format!("{port}/{protocol} {family:?}"),
            protocol: match protocol {
                ProtocolName::Tcp => testbed::Protocol::Tcp,
                ProtocolName::Udp => testbed::Protocol::Udp,
                ProtocolName::Sctp => testbed::Protocol::Sctp,
                ProtocolName::Icmp => testbed::Protocol::Icmp,
            },
            port,
            answers: pairs().map(answer).collect(),
        }
    }

    /// A probe for each of [`pairs`].
    fn probes(&self, expected: &Matrix) -> impl Iterator<Item = Probe> {
        pairs().map(|(from, to)| {
            let ([source, destination], ..) = self.answers[&(from, to)];
            Probe {
                from: Place::Pod(PODS[from].to_owned()),
                source,
                to: Place::Pod(PODS[to].to_owned()),
                destination,
                protocol: self.protocol,
                port: self.port,
                listen: None,
                expect: expected.get(from, to).map(|verdict| match verdict {
                    Verdict::Allow => Outcome::Passed,
                    Verdict::Deny => Outcome::Dropped,
                }),
            }
        })
    }

    fn disagreements(&self, expected: &Matrix, packets: &Matrix) -> String {
        let evaluated = Matrix::of(|from, to| self.answers[&(from, to)].1);
        if expected == packets && *expected == evaluated {
            return String::new();
        }
        let what = &self.what;
        let mut report =
            format!("\n{what}: expected, packets, evaluated\n{expected}\n{packets}\n{evaluated}\n");
        for (from, to) in pairs() {
            let all = [expected, packets, &evaluated].map(|matrix| matrix.get(from, to));
            if all[0] != all[1] || all[0] != all[2] {
                report += &format!("{}\n", self.answers[&(from, to)].2);
            }
        }
        report
    }
}

/// Pods of a node are in one subnet per family.
fn topology(cluster: &Cluster, network: Network) -> Topology {
    let subnet = |address: &IpAddr| {
        let prefix = if address.is_ipv4() { 24 } else { 64 };
        IpNet::new(*address, prefix).unwrap()
    };
    let nodes = cluster.nodes.values().map(|node| NodeSpec {
        name: node.name.clone(),
        addresses: node.addresses.iter().copied().collect(),
    });
    let pods = cluster.pods.values().map(|pod| PodSpec {
        name: pod.id.to_string(),
        node: pod.node.clone().unwrap(),
        addresses: pod.addresses.iter().map(subnet).collect(),
    });
    Topology {
        network,
        nodes: nodes.collect(),
        pods: pods.collect(),
        externals: Vec::new(),
    }
}
