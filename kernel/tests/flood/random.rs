//! Random changes, one after the other.
//!
//! `PICKET_FLOOD_CHANGES` says how many; more than CI has time for are for an afternoon.

use std::collections::BTreeSet;

use policy_compiler::delta::{Step, delta};
use policy_compiler::evaluate::{Connection, Decision, NodeEgress, evaluate};
use policy_compiler::lower::{Options, lower};
use policy_compiler::model::{Cluster, is_link_local};
use policy_compiler::ruleset::Ruleset;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

use crate::changes::{clusters, edits};
use crate::in_flight::{Packet, Path, State, sorted, verdict};
use crate::support::{NODES, compile_all, connections};
use crate::world::{Counts, World, frame};

/// How many changes, where nobody says.
const CHANGES: usize = 600;
/// Flows of each kind in a flood.
const FLOWS: usize = 24;

fn of(cluster: &Cluster) -> Ruleset {
    lower(&compile_all(cluster)[NODES[0]], &Options::default())
}

fn packet(connection: Connection) -> Packet {
    Packet {
        source: connection.source,
        destination: connection.destination,
        transport: connection.transport,
        path: Path::Routed,
        input: "n0".into(),
        output: "n0".into(),
        dnat: false,
        return_route: true,
        bare_syn: true,
        icmpv6: (128, 64),
    }
}

/// Flows that both states deny, and flows that both accept: first those for which the two have other reasons.
fn steady(
    [before, after]: [(&Cluster, &Ruleset); 2],
    connections: &[Connection],
) -> [Vec<Connection>; 2] {
    let reasons = |cluster, connection| {
        let found = evaluate(cluster, connection, NodeEgress::Allow);
        let reason = |decision: &Decision| (decision.reason, decision.policies.clone());
        [reason(&found.egress), reason(&found.ingress)]
    };
    let states = [State::new(before.1), State::new(after.1)];
    let mut flows = [vec![], vec![]];
    for connection in connections {
        let [old, new] = [&states[0], &states[1]].map(|state| verdict(state, &packet(*connection)));
        if old == new {
            let same = reasons(before.0, *connection) == reasons(after.0, *connection);
            flows[usize::from(new)].push((same, *connection));
        }
    }
    flows.map(|mut flows| {
        flows.sort_by_key(|(same, _)| *same);
        let flows = flows.into_iter().map(|(_, connection)| connection);
        // As many of each kind, whatever there is.
        let flows: Vec<_> = flows.take(FLOWS).collect();
        flows.iter().cycle().take(FLOWS).copied().collect()
    })
}

#[test]
fn random_changes_leak_and_lose_nothing_and_end_in_the_new_ruleset() {
    let wanted = std::env::var("PICKET_FLOOD_CHANGES");
    let wanted = wanted.map_or(CHANGES, |text| text.parse().expect("a number of changes"));
    let mut runner = TestRunner::deterministic();
    let strategy = (
        prop_oneof![clusters(0.1), clusters(0.6), edits()],
        any::<u64>(),
    );
    let mut all = connections();
    // A router forwards no packet from a link to itself, whatever rules say.
    all.retain(|connection| !is_link_local(&connection.source));
    let mut world = World::new();
    let (mut now_cluster, mut now) = (Cluster::default(), Ruleset::default());
    let (mut total, mut steps) = (Counts::default(), BTreeSet::new());
    let mut changes = 0;
    while changes < wanted {
        let (pair, seed) = strategy.new_tree(&mut runner).unwrap().current();
        for next_cluster in pair {
            let next = of(&next_cluster);
            let generation = world.nftables.generation().unwrap();
            let plan = delta(&now, &next, generation.0);
            if plan.transactions.is_empty() {
                continue;
            }
            // Other flows each time.
            let start = seed as usize % all.len();
            let some: Vec<_> = all
                .iter()
                .cycle()
                .skip(start)
                .step_by(7)
                .take(500)
                .copied()
                .collect();
            let [denied, allowed] = steady([(&now_cluster, &now), (&next_cluster, &next)], &some);
            let denied = denied
                .into_iter()
                .map(|connection| frame(connection, false));
            let allowed = allowed
                .into_iter()
                .map(|connection| frame(connection, true));
            let frames: Vec<_> = denied.chain(allowed).collect();
            let outcome = world.flood(&frames, |nftables| nftables.execute(&plan, None));
            outcome.unwrap_or_else(|error| panic!("change {changes}: {error}"));
            let counts = world.counts();
            assert_eq!(
                (counts.leaked, counts.lost),
                (0, 0),
                "change {changes}: {counts:?} {plan:#?}"
            );
            let found = world.nftables.read().unwrap();
            assert_eq!(found.unknown, [], "change {changes}");
            assert!(
                sorted(found.ruleset) == sorted(next.clone()),
                "change {changes}"
            );
            total.denied += counts.denied;
            total.allowed += counts.allowed;
            steps.extend(plan.transactions.iter().map(|transaction| transaction.step));
            (now_cluster, now) = (next_cluster, next);
            changes += 1;
        }
    }
    println!("{changes} changes: of {total:?} packets none leaked and none was lost");
    assert!(total.denied > 1_000 && total.allowed > 1_000, "{total:?}");
    for step in [
        Step::DecoupleKeys,
        Step::DecoupleChains,
        Step::CopyBase,
        Step::Loosen,
    ] {
        assert!(steps.contains(&step), "{step:?} was not taken: {steps:?}");
    }
}
