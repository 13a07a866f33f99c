//! Two states of a node, and flows that both deny or both allow.

use std::net::IpAddr;

use controller::{cluster, source};
use kernel::Generation;
use policy_compiler::compile::compile;
use policy_compiler::delta::{Plan, delta};
use policy_compiler::evaluate::{Connection, NodeEgress, Transport, Verdict, evaluate};
use policy_compiler::lower::{Options, lower};
use policy_compiler::model::{Cluster, Protocol};
use policy_compiler::ruleset::Ruleset;
use policy_compiler::validate;

use crate::world::{Counts, World, frame};

/// States that follow each other, there and back.
pub(crate) struct Scenario {
    pub(crate) states: [Ruleset; 2],
    pub(crate) frames: Vec<Vec<u8>>,
}

/// A pod of node `here`.
pub(crate) fn pod(name: &str, address: &str, labels: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\n\
         metadata: {{namespace: x, name: {name}, labels: {{{labels}}}}}\n\
         spec: {{nodeName: here, containers: [{{name: c, image: i}}]}}\n\
         status: {{phase: Running, podIP: {address}, podIPs: [{{ip: {address}}}]}}\n---\n"
    )
}

/// A policy with this spec.
pub(crate) fn policy(name: &str, spec: &str) -> String {
    format!(
        "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\n\
         metadata: {{namespace: x, name: {name}}}\nspec: {spec}\n---\n"
    )
}

fn read(text: &str) -> Cluster {
    let loaded = source::load_bytes([("state.yaml", text.as_bytes())]);
    let loaded = loaded.unwrap_or_else(|errors| panic!("{errors}\n{text}"));
    let cluster = cluster::build(&loaded, validate::Options::default());
    cluster.unwrap_or_else(|errors| panic!("{errors}\n{text}"))
}

/// TCP from one address to a port of another.
pub(crate) fn tcp(source: &str, destination: &str, port: u16) -> Connection {
    let address = |text: &str| text.parse::<IpAddr>().unwrap();
    Connection {
        source: address(source),
        destination: address(destination),
        transport: Transport::Port(Protocol::Tcp, port),
    }
}

impl Scenario {
    /// Two states as manifests; what each of them says of the flows is checked.
    pub(crate) fn new(states: [String; 2], denied: &[Connection], allowed: &[Connection]) -> Self {
        let clusters = states.map(|state| read(&state));
        for cluster in &clusters {
            for (connections, expected) in [(denied, Verdict::Deny), (allowed, Verdict::Allow)] {
                for connection in connections {
                    let found = evaluate(cluster, *connection, NodeEgress::Allow);
                    assert_eq!(found.verdict, expected, "{connection:?}");
                }
            }
        }
        let states = clusters.map(|cluster| lower(&compile(&cluster, "here"), &Options::default()));
        assert_ne!(states[0], states[1]);
        Self::of(states, denied, allowed)
    }

    pub(crate) fn of(states: [Ruleset; 2], denied: &[Connection], allowed: &[Connection]) -> Self {
        let denied = denied.iter().map(|connection| frame(*connection, false));
        let allowed = allowed.iter().map(|connection| frame(*connection, true));
        Self {
            states,
            frames: denied.chain(allowed).collect(),
        }
    }

    /// The right plans from each state to the other.
    pub(crate) fn plans(&self) -> [Plan; 2] {
        let [one, other] = &self.states;
        [delta(one, other, 0), delta(other, one, 0)]
    }

    /// A world in the first state, which has been seen to judge the flows as expected; and so does the second.
    pub(crate) fn world(&self) -> World {
        let mut world = World::new();
        for state in self.states.iter().rev() {
            let found = world.nftables.read().unwrap();
            carry_out(&mut world, &delta(&found.ruleset, state, 0));
            world.flood(&self.frames, |_| {});
            let counts = world.counts();
            assert!(counts.denied > 0 && counts.allowed > 0, "{counts:?}");
            assert_eq!((counts.leaked, counts.lost), (0, 0), "{counts:?}");
        }
        world
    }

    /// Goes there and back under the flood, so often or until a packet leaks or is lost.
    pub(crate) fn toggle(&self, world: &mut World, plans: &[Plan; 2], times: usize) -> Counts {
        let mut counts = Counts::default();
        for _ in 0..times.div_ceil(BETWEEN_COUNTS) {
            let mut generation = world.nftables.generation().unwrap();
            world.flood(&self.frames, |nftables| {
                for _ in 0..BETWEEN_COUNTS {
                    for plan in plans {
                        let plan = Plan {
                            generation: generation.0,
                            ..plan.clone()
                        };
                        generation = nftables.execute(&plan, None).unwrap();
                    }
                }
            });
            let more = world.counts();
            counts.denied += more.denied;
            counts.leaked += more.leaked;
            counts.allowed += more.allowed;
            counts.lost += more.lost;
            if counts.leaked > 0 || counts.lost > 0 {
                break;
            }
        }
        counts
    }
}

/// How often a scenario goes there and back before anybody counts.
const BETWEEN_COUNTS: usize = 25;

/// Carries a plan out from wherever nftables is.
pub(crate) fn carry_out(world: &mut World, plan: &Plan) -> Generation {
    let plan = Plan {
        generation: world.nftables.generation().unwrap().0,
        ..plan.clone()
    };
    world.nftables.execute(&plan, None).unwrap()
}
