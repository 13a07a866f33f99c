//! Rulesets whose names are not stable: peer sets and classes are numbered, so that the same name stands for other
//! contents, keys or types in the next one. Picket's own names are stable; a plan must be right all the same.

use std::collections::BTreeMap;
use std::sync::Arc;

use policy_compiler::ruleset::{Operand, Ruleset, Statement, Table, Verdict};

/// The ruleset with numbers in place of names.
pub(crate) fn anonymous(mut ruleset: Ruleset, keep_comments: bool) -> Ruleset {
    for table in &mut ruleset.tables {
        of_table(table, keep_comments);
    }
    ruleset
}

fn of_table(table: &mut Table, keep_comments: bool) {
    let mut sets = BTreeMap::new();
    let mut classes = BTreeMap::new();
    for name in table.sets.keys().filter(|name| name.len() > 16) {
        // `peer4_...`, `ports4_...`: one family, any kind.
        let family = if name.contains("4_") { 4 } else { 6 };
        let new = format!("set{family}_{}", sets.len() / 2);
        if !sets.values().any(|taken| *taken == new) {
            sets.insert(name.clone(), new);
        } else {
            sets.insert(name.clone(), format!("set{family}_x{}", sets.len() / 2));
        }
    }
    for chain in table.chains.iter().filter(|chain| chain.name.len() > 16) {
        let prefix: String = chain.name.chars().take_while(|c| *c != '_').collect();
        classes.insert(
            chain.name.clone(),
            format!("{prefix}_{}", classes.len() / 2),
        );
    }
    // Two may have got the same number.
    for names in [&mut sets, &mut classes] {
        let mut taken = BTreeMap::<String, u32>::new();
        for name in names.values_mut() {
            let count = taken.entry(name.clone()).or_default();
            *count += 1;
            if *count > 1 {
                name.push_str(&format!("_{count}"));
            }
        }
    }
    let rename = |names: &BTreeMap<String, String>, name: &mut String| {
        if let Some(new) = names.get(name.as_str()) {
            name.clone_from(new);
        }
    };
    let verdict = |verdict: &mut Verdict| {
        if let Verdict::Goto(chain) | Verdict::Jump(chain) = verdict {
            rename(&classes, chain);
        }
    };
    let old = std::mem::take(&mut table.sets);
    for (mut name, mut set) in old {
        rename(&sets, &mut name);
        if !keep_comments {
            Arc::make_mut(&mut set).comment = "any".into();
        }
        table.sets.insert(name, set);
    }
    let old = std::mem::take(&mut table.maps);
    for (name, mut map) in old {
        let elements = &mut Arc::make_mut(&mut map).elements;
        for key in elements.keys().cloned().collect::<Vec<_>>() {
            verdict(&mut elements[&key].verdict);
        }
        table.maps.insert(name, map);
    }
    for chain in table.chains.iter_mut().map(Arc::make_mut) {
        rename(&classes, &mut chain.name);
        for rule in &mut chain.rules {
            for matches in &mut rule.matches {
                if let Operand::Set(set) = &mut matches.operand {
                    rename(&sets, set);
                }
            }
            if let Statement::Verdict(given) = &mut rule.statement {
                verdict(given);
            }
        }
    }
}
