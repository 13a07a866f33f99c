//! Pods closed in a ruleset as it is in force, without a new one: when there can be no new one.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use super::{Dropped, class_chain, digit, dropped};
use crate::model::{Direction, Family, NamespacedName};
use crate::name::comment;
use crate::ruleset::{Chain, MapElement, Rule, Ruleset, Table, TableFamily, Value, Verdict};

/// The class of pods that are closed so. Names of others end with a digest.
const CLASS: &str = "newcomers";

/// The ruleset with these addresses closed, each with the pod of the node that has it now: nothing passes but what their
/// node and they exchange. The ruleset need not know them; if it does, what it allows them is taken away. Nobody else's verdicts
/// change. One without our tables stays as it is. Of what only travels inside a bridge (link-local, broadcast) nothing is
/// guarded before a pod of the node is isolated by a policy.
#[must_use]
pub fn close(ruleset: &Ruleset, addresses: &BTreeMap<IpAddr, NamespacedName>) -> Ruleset {
    let mut closed = ruleset.clone();
    for table in &mut closed.tables {
        if table.family == TableFamily::Inet {
            for (address, pod) in addresses {
                close_in(table, *address, pod);
            }
        }
    }
    closed
}

/// Whether the ruleset knows the address as that of a pod of the node. One that it does not know is open.
pub fn knows(ruleset: &Ruleset, address: IpAddr) -> bool {
    let name = format!("local{}", digit(Family::of(address)));
    let key = vec![Value::Address(address)];
    let mut tables = ruleset.tables.iter();
    tables.any(|table| {
        let set = table.sets.get(&name);
        table.family == TableFamily::Inet && set.is_some_and(|set| set.elements.contains(&key))
    })
}

fn close_in(table: &mut Table, address: IpAddr, pod: &NamespacedName) {
    let family = Family::of(address);
    let key = vec![Value::Address(address)];
    for name in ["local", "strict"] {
        if let Some(set) = table.sets.get_mut(&format!("{name}{}", digit(family))) {
            Arc::make_mut(set).elements.insert(key.clone());
        }
    }
    for direction in [Direction::Egress, Direction::Ingress] {
        let chain = class_chain(direction, family, CLASS);
        let Some(map) = table.maps.get_mut(&format!("{direction}{}", digit(family))) else {
            continue;
        };
        let element = MapElement {
            verdict: Verdict::Goto(chain.clone()),
            comment: comment(&pod.to_string()),
        };
        Arc::make_mut(map).elements.insert(key.clone(), element);
        if table.chains.named(&chain).is_none() {
            // counter name "dropped_egress_closed" drop
            let text = format!("{direction} closed: nobody knows yet what may pass");
            let reason = Dropped::Closed(direction);
            let drop = Rule::verdict([], Verdict::Drop).counted_in(reason.counter());
            let rules = vec![drop.comment(text)];
            // Tables of a version without counters are closed too.
            dropped::add(table, reason);
            let at = table.chains.partition_point(|other| {
                (other.base.is_none(), other.name.as_str()) < (true, chain.as_str())
            });
            let chain = Chain {
                name: chain,
                base: None,
                rules,
            };
            table.chains.insert(at, Arc::new(chain));
        }
    }
}
