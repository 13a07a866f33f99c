//! What a transaction makes of a ruleset: the kernel as a value.

use std::sync::Arc;

use super::{Action, Transaction};
use crate::ruleset::{
    Chain, Operand, Rule, Ruleset, Set, Statement, Table, TableFamily, Verdict, VerdictMap,
};

/// The kernel would refuse the operation. The ruleset is as it was.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ApplyError {
    /// Something of that name, or that element, is there already.
    #[error("{0} exists already; read the tables back and plan again")]
    Exists(String),
    /// Nothing of that name, or no such element, is there.
    #[error("{0} does not exist; read the tables back and plan again")]
    Missing(String),
    /// Something still refers to it, or it is not empty.
    #[error("{0} is in use; read the tables back and plan again")]
    InUse(String),
}

use ApplyError::{Exists, InUse, Missing};

/// Applies a transaction, or nothing of it.
///
/// # Errors
/// The first operation that the kernel would refuse.
pub fn apply(ruleset: &mut Ruleset, transaction: &Transaction) -> Result<(), ApplyError> {
    let mut after = ruleset.clone();
    for operation in &transaction.operations {
        apply_one(&mut after, operation.family, &operation.action)?;
    }
    after.tables.iter().try_for_each(check_references)?;
    *ruleset = after;
    Ok(())
}

fn apply_one(
    ruleset: &mut Ruleset,
    family: TableFamily,
    action: &Action,
) -> Result<(), ApplyError> {
    let index = ruleset.tables.iter().position(|t| t.family == family);
    match (action, index) {
        (Action::AddTable, None) => {
            ruleset.tables.push(Table::new(family));
            ruleset.tables.sort_by_key(|table| table.family);
            Ok(())
        }
        (Action::AddTable, Some(_)) => Err(Exists("the table".into())),
        (_, None) => Err(Missing("the table".into())),
        (Action::DeleteTable, Some(index)) => {
            let table = &ruleset.tables[index];
            let objects = table.sets.len() + table.maps.len() + table.chains.len();
            if objects + table.counters.len() > 0 {
                return Err(InUse("the table".into()));
            }
            ruleset.tables.remove(index);
            Ok(())
        }
        (action, Some(index)) => in_table(&mut ruleset.tables[index], action),
    }
}

fn in_table(table: &mut Table, action: &Action) -> Result<(), ApplyError> {
    match action {
        Action::AddTable | Action::DeleteTable => {}
        Action::AddChain { .. } | Action::Refill { .. } | Action::DeleteChain(_) => {
            in_chain(table, action)?;
        }
        Action::AddCounter(counter) => {
            if table.counters.insert(counter.clone()).is_some() {
                return Err(Exists(counter.clone()));
            }
        }
        Action::DeleteCounter(counter) => {
            let gone = table.counters.remove(counter);
            gone.ok_or_else(|| Missing(counter.clone()))?;
        }
        Action::AddSet {
            set,
            key,
            interval,
            comment,
        } => {
            is_free(table, set)?;
            let value = Set {
                key: key.clone(),
                interval: *interval,
                comment: comment.clone(),
                elements: Default::default(),
            };
            table.add_set(set.clone(), value);
        }
        Action::DeleteSet(set) => {
            table.sets.remove(set).ok_or_else(|| Missing(set.clone()))?;
        }
        Action::AddElements { set, elements, .. } => {
            let value = table
                .sets
                .get_mut(set)
                .ok_or_else(|| Missing(set.clone()))?;
            let value = Arc::make_mut(value);
            for element in elements {
                if value.elements.insert(element.clone()).is_some() {
                    return Err(Exists(format!("{set}: {element:?}")));
                }
            }
        }
        Action::DeleteElements { set, elements, .. } => {
            let value = table
                .sets
                .get_mut(set)
                .ok_or_else(|| Missing(set.clone()))?;
            let value = Arc::make_mut(value);
            for element in elements {
                if value.elements.remove(element).is_none() {
                    return Err(Missing(format!("{set}: {element:?}")));
                }
            }
        }
        Action::AddMap { map, key, comment } => {
            is_free(table, map)?;
            let value = VerdictMap {
                key: key.clone(),
                comment: comment.clone(),
                elements: Default::default(),
            };
            table.add_map(map.clone(), value);
        }
        Action::DeleteMap(map) => {
            table.maps.remove(map).ok_or_else(|| Missing(map.clone()))?;
        }
        Action::AddVerdicts { map, elements, .. } => {
            let value = table
                .maps
                .get_mut(map)
                .ok_or_else(|| Missing(map.clone()))?;
            let value = Arc::make_mut(value);
            for (key, element) in elements {
                if value
                    .elements
                    .insert(key.clone(), element.clone())
                    .is_some()
                {
                    return Err(Exists(format!("{map}: {key:?}")));
                }
            }
        }
        Action::Retarget { map, elements, .. } => {
            let value = table
                .maps
                .get_mut(map)
                .ok_or_else(|| Missing(map.clone()))?;
            let value = Arc::make_mut(value);
            for (key, element) in elements {
                if value
                    .elements
                    .insert(key.clone(), element.clone())
                    .is_none()
                {
                    return Err(Missing(format!("{map}: {key:?}")));
                }
            }
        }
        Action::DeleteVerdicts { map, keys, .. } => {
            let value = table
                .maps
                .get_mut(map)
                .ok_or_else(|| Missing(map.clone()))?;
            let value = Arc::make_mut(value);
            for key in keys {
                if value.elements.remove(key).is_none() {
                    return Err(Missing(format!("{map}: {key:?}")));
                }
            }
        }
    }
    Ok(())
}

fn in_chain(table: &mut Table, action: &Action) -> Result<(), ApplyError> {
    let position = |table: &Table, name: &String| {
        let position = table.chains.iter().position(|chain| &chain.name == name);
        position.ok_or_else(|| Missing(name.clone()))
    };
    match action {
        Action::AddChain { chain, base } => {
            if position(table, chain).is_ok() {
                return Err(Exists(chain.clone()));
            }
            table.add_chain(Chain {
                name: chain.clone(),
                base: base.clone(),
                rules: Vec::new(),
            });
        }
        Action::Refill { chain, rules } => {
            let index = position(table, chain)?;
            let chain = Arc::make_mut(&mut table.chains[index]);
            chain.rules.clone_from(rules);
        }
        Action::DeleteChain(chain) => {
            let index = position(table, chain)?;
            if !table.chains[index].rules.is_empty() {
                return Err(InUse(chain.clone()));
            }
            table.chains.remove(index);
        }
        _ => {}
    }
    Ok(())
}

/// Sets and maps share their names.
fn is_free(table: &Table, name: &str) -> Result<(), ApplyError> {
    if table.sets.contains_key(name) || table.maps.contains_key(name) {
        return Err(Exists(name.to_owned()));
    }
    Ok(())
}

fn check_references(table: &Table) -> Result<(), ApplyError> {
    let chains: std::collections::BTreeSet<_> = table
        .chains
        .iter()
        .map(|chain| chain.name.as_str())
        .collect();
    let check_verdict = |verdict: &Verdict| match verdict {
        Verdict::Jump(chain) | Verdict::Goto(chain) if !chains.contains(chain.as_str()) => {
            Err(Missing(chain.clone()))
        }
        _ => Ok(()),
    };
    let check_rule = |rule: &Rule| {
        if let Some(counter) = &rule.named_counter
            && !table.counters.contains(counter)
        {
            return Err(Missing(counter.clone()));
        }
        for matches in &rule.matches {
            if let Operand::Set(set) = &matches.operand
                && !table.sets.contains_key(set)
            {
                return Err(Missing(set.clone()));
            }
        }
        match &rule.statement {
            Statement::Verdict(verdict) => check_verdict(verdict),
            Statement::Lookup { map, .. } if !table.maps.contains_key(map) => {
                Err(Missing(map.clone()))
            }
            Statement::Lookup { .. } | Statement::Reject(_) => Ok(()),
        }
    };
    let mut elements = table.maps.values().flat_map(|map| map.elements.values());
    elements.try_for_each(|element| check_verdict(&element.verdict))?;
    let mut rules = table.chains.iter().flat_map(|chain| &chain.rules);
    rules.try_for_each(check_rule)
}
