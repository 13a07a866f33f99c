//! The ruleset as single commands, for a kernel that takes only small transactions: nft needs CAP_NET_ADMIN outside
//! of user namespaces to enlarge its socket's buffer.

use super::text::{concatenation, family, hooked, key_type, map_element, rule_text};
use crate::ruleset::{Ruleset, TABLE, Table};

/// Elements that one command adds at most.
const ELEMENTS: usize = 500;

/// Whole commands of nft in an order in which each finds what it names. Together they are the same as
/// [`super::text`]; run one by one they are not atomic.
pub fn commands(ruleset: &Ruleset) -> Vec<String> {
    ruleset.tables.iter().flat_map(of_table).collect()
}

fn of_table(table: &Table) -> Vec<String> {
    let within = format!("{} {TABLE}", family(table.family));
    let mut commands = vec![format!("add table {within}")];
    // Chains that are only jumped to come first: a base chain is in force once it is there.
    for chain in table.chains.iter().filter(|chain| chain.base.is_none()) {
        commands.push(format!("add chain {within} {}", chain.name));
    }
    let add_elements = |name: &str, elements: Vec<String>| -> Vec<String> {
        let chunks = elements.chunks(ELEMENTS);
        chunks
            .map(|chunk| format!("add element {within} {name} {{ {} }}", chunk.join(", ")))
            .collect()
    };
    for (name, set) in &table.sets {
        let interval = if set.interval { " flags interval;" } else { "" };
        let (kind, comment) = (key_type(&set.key), &set.comment);
        commands.push(format!(
            "add set {within} {name} {{ type {kind};{interval} comment \"{comment}\"; }}"
        ));
        let elements = set.elements.iter().map(|element| concatenation(element));
        commands.extend(add_elements(name, elements.collect()));
    }
    for (name, map) in &table.maps {
        let (kind, comment) = (key_type(&map.key), &map.comment);
        commands.push(format!(
            "add map {within} {name} {{ type {kind} : verdict; comment \"{comment}\"; }}"
        ));
        let elements = map
            .elements
            .iter()
            .map(|(key, element)| map_element(key, element));
        commands.extend(add_elements(name, elements.collect()));
    }
    let (base, other): (Vec<_>, Vec<_>) =
        table.chains.iter().partition(|chain| chain.base.is_some());
    for chain in other.into_iter().chain(base) {
        if let Some(base) = chain.base {
            let hooked = hooked(table.family, base);
            commands.push(format!("add chain {within} {} {{ {hooked} }}", chain.name));
        }
        let rules = chain.rules.iter().map(rule_text);
        commands.extend(rules.map(|rule| format!("add rule {within} {} {rule}", chain.name)));
    }
    commands
}
