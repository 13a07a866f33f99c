//! What others put into our tables, taken out again, so that a plan may start from what is left.

use std::collections::BTreeSet;

use policy_compiler::ruleset::{Table, TableFamily};

use super::Generation;
use super::found::Found;
use super::object::Object;
use super::operation::Operation;
use super::socket::Nftables;
use crate::error::Error;

impl Nftables {
    /// Removes everything from our tables that was read and not understood, so that exactly the ruleset that was read
    /// is in force, and returns the generation since. Chains with a strange rule keep their own rules, in one
    /// transaction; then strange chains and sets go, and sleeping tables wake.
    ///
    /// It can not be known which way a strange rule went, so this is a repair, not a plan: connections that opened
    /// until now are to be judged again. A table named as ours of a family that we have not stays.
    ///
    /// # Errors
    /// As [`Nftables::apply`], with [`Error::Stale`] if nftables changed since it was read.
    pub fn remove_unknown(&mut self, found: &Found) -> Result<Generation, Error> {
        let mut at = found.generation;
        for operations in [rules(found), objects(found)] {
            self.apply(&operations, Some(at))?;
            // To flush a chain without rules is no change, and makes no generation.
            let now = self.generation()?;
            if now != at && now != at.next() {
                return Err(Error::Stale {
                    expected: at.next(),
                });
            }
            at = now;
        }
        Ok(at)
    }
}

/// Flushes strange chains, and fills those of ours anew that have strange rules.
fn rules(found: &Found) -> Vec<Operation<'_>> {
    let (mut operations, mut filled) = (Vec::new(), BTreeSet::new());
    for unknown in &found.unknown {
        match &unknown.object {
            Object::Chain { family, name } => operations.push(Operation::FlushChain {
                family: *family,
                name,
            }),
            Object::Rule { family, chain, .. } if filled.insert((*family, chain)) => {
                operations.extend(refill(found, *family, chain));
            }
            _ => {}
        }
    }
    operations
}

fn refill<'a>(found: &'a Found, family: TableFamily, name: &'a str) -> Vec<Operation<'a>> {
    let chains = table(found, family)
        .into_iter()
        .flat_map(|table| &table.chains);
    let Some(chain) = chains.into_iter().find(|chain| chain.name == name) else {
        return Vec::new();
    };
    let append = |rule| Operation::AppendRule {
        family,
        chain: name,
        rule,
    };
    let flush = Operation::FlushChain { family, name };
    [flush]
        .into_iter()
        .chain(chain.rules.iter().map(append))
        .collect()
}

fn table(found: &Found, family: TableFamily) -> Option<&Table> {
    let mut tables = found.ruleset.tables.iter();
    tables.find(|table| table.family == family)
}

/// Deletes strange chains, which are base chains that nothing leads to, and sets that no rule uses any more; wakes
/// tables.
fn objects(found: &Found) -> Vec<Operation<'_>> {
    let unknown = || found.unknown.iter().map(|unknown| &unknown.object);
    let chains = unknown().filter_map(|object| match object {
        Object::Chain { family, name } => Some(Operation::DeleteChain {
            family: *family,
            name,
        }),
        _ => None,
    });
    let others = unknown().filter_map(|object| match object {
        Object::Set { family, name } | Object::Map { family, name } => Some(Operation::DeleteSet {
            family: *family,
            name,
        }),
        Object::Table(family) => Some(Operation::EnsureTable(*family)),
        _ => None,
    });
    chains.chain(others).collect()
}
