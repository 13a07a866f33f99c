//! A transaction of a plan as text for `nft -f`, which makes it one transaction of the kernel.

use super::text::{concatenation, family, hooked, key_type, map_element, rule_text};
use crate::delta::{Action, Key, Operation, Transaction};
use crate::ruleset::{MapElement, TABLE};

/// The commands, one per line.
pub fn transaction(transaction: &Transaction) -> String {
    let mut text = String::new();
    for operation in &transaction.operations {
        for command in commands(operation) {
            text.push_str(&command);
            text.push('\n');
        }
    }
    text
}

fn commands(operation: &Operation) -> Vec<String> {
    let within = format!("{} {TABLE}", family(operation.family));
    let keys = |keys: &mut dyn Iterator<Item = &Key>| {
        let keys: Vec<_> = keys.map(|key| concatenation(key)).collect();
        keys.join(", ")
    };
    let verdicts = |elements: &mut dyn Iterator<Item = (&Key, &MapElement)>| {
        let elements: Vec<_> = elements
            .map(|(key, element)| map_element(key, element))
            .collect();
        elements.join(", ")
    };
    match &operation.action {
        Action::AddTable => vec![format!("add table {within}")],
        Action::DeleteTable => vec![format!("delete table {within}")],
        Action::AddCounter(counter) => vec![format!("add counter {within} {counter}")],
        Action::DeleteCounter(counter) => vec![format!("delete counter {within} {counter}")],
        Action::AddSet {
            set,
            key,
            interval,
            comment,
        } => {
            let interval = if *interval { " flags interval;" } else { "" };
            let kind = key_type(key);
            vec![format!(
                "add set {within} {set} {{ type {kind};{interval} comment \"{comment}\"; }}"
            )]
        }
        Action::DeleteSet(set) => vec![format!("delete set {within} {set}")],
        Action::AddElements { set, elements, .. } => {
            let elements = keys(&mut elements.iter());
            vec![format!("add element {within} {set} {{ {elements} }}")]
        }
        Action::DeleteElements { set, elements, .. } => {
            let elements = keys(&mut elements.iter());
            vec![format!("delete element {within} {set} {{ {elements} }}")]
        }
        Action::AddMap { map, key, comment } => {
            let kind = key_type(key);
            vec![format!(
                "add map {within} {map} {{ type {kind} : verdict; comment \"{comment}\"; }}"
            )]
        }
        Action::DeleteMap(map) => vec![format!("delete map {within} {map}")],
        Action::AddVerdicts { map, elements, .. } => {
            let elements = verdicts(&mut elements.iter());
            vec![format!("add element {within} {map} {{ {elements} }}")]
        }
        Action::Retarget { map, elements, .. } => {
            let old = keys(&mut elements.keys());
            let new = verdicts(&mut elements.iter());
            vec![
                format!("delete element {within} {map} {{ {old} }}"),
                format!("add element {within} {map} {{ {new} }}"),
            ]
        }
        Action::DeleteVerdicts {
            map, keys: deleted, ..
        } => {
            let deleted = keys(&mut deleted.iter());
            vec![format!("delete element {within} {map} {{ {deleted} }}")]
        }
        Action::AddChain { chain, base: None } => vec![format!("add chain {within} {chain}")],
        Action::AddChain {
            chain,
            base: Some(base),
        } => {
            let hooked = hooked(operation.family, base);
            vec![format!("add chain {within} {chain} {{ {hooked} }}")]
        }
        Action::Refill { chain, rules } => {
            let mut commands = vec![format!("flush chain {within} {chain}")];
            let rules = rules.iter().map(rule_text);
            commands.extend(rules.map(|rule| format!("add rule {within} {chain} {rule}")));
            commands
        }
        Action::DeleteChain(chain) => vec![format!("delete chain {within} {chain}")],
    }
}
