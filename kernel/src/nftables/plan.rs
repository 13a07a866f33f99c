//! Plans, carried out: each transaction is a batch of its own, committed before the next.

use policy_compiler::delta::{Action, Plan, Step, Transaction};
use policy_compiler::ruleset::TABLE;

use super::Generation;
use super::operation::{Elements, Operation};
use super::socket::Nftables;
use super::watch::{Foreign, Watch};
use crate::error::Error;

/// How often a transaction is asked for again because others changed what is theirs in the meantime.
const ATTEMPTS: usize = 100;

/// Bytes beyond which a transaction that no packet comes to is cut: while the kernel works on a batch, all other
/// programs that change nftables wait.
const CUT: usize = 4 << 20;

/// A plan that was not carried out to its end. What was committed stays in force; every plan is made so that it leaks
/// nothing wherever it ends. Read back and plan again.
#[derive(Debug, thiserror::Error)]
#[error("the plan ended before its transaction {} ({step:?}): {error}", .committed + 1)]
pub struct Halted {
    /// How many of the plan's transactions are in force.
    pub committed: usize,
    /// The step of the one that is not. If it may be cut into several batches, a part of it may be in force, and all of
    /// it if the answer was lost ([`Error::Lost`], [`Error::Receive`], [`Error::Malformed`]).
    pub step: Step,
    /// Why it is not.
    #[source]
    pub error: Error,
}

impl Nftables {
    /// Carries the plan out, if nftables is at the generation that it was made for, and returns the generation that it
    /// ends with.
    ///
    /// Every change to nftables is a generation, also one that has nothing to do with our tables. With a `watch`, which
    /// has to be older than the plan, the plan goes on if only such changes came in between.
    ///
    /// # Errors
    /// [`Halted`] with [`Error::Stale`] if nftables changed since the plan was made, else as [`Nftables::apply`].
    pub fn execute(
        &mut self,
        plan: &Plan,
        mut watch: Option<&mut Watch>,
    ) -> Result<Generation, Halted> {
        let mut at = Generation(plan.generation);
        for (committed, transaction) in plan.transactions.iter().enumerate() {
            let halted = |error| Halted {
                committed,
                step: transaction.step,
                error,
            };
            at = self
                .transaction(transaction, at, watch.as_deref_mut())
                .map_err(halted)?;
        }
        Ok(at)
    }

    fn transaction(
        &mut self,
        transaction: &Transaction,
        at: Generation,
        watch: Option<&mut Watch>,
    ) -> Result<Generation, Error> {
        let operations = operations(transaction);
        let mut parts = Parts {
            nftables: self,
            watch,
            at,
            may_be_cut: transaction.step.is_unseen(),
        };
        parts.apply(&operations)?;
        Ok(parts.at)
    }
}

/// A transaction on its way to the kernel, in as many batches as it needs.
struct Parts<'a> {
    nftables: &'a mut Nftables,
    watch: Option<&'a mut Watch>,
    at: Generation,
    may_be_cut: bool,
}

impl Parts<'_> {
    fn apply(&mut self, operations: &[Operation<'_>]) -> Result<(), Error> {
        let halves = match self.may_be_cut {
            true => halves(operations),
            false => None,
        };
        let limit = if halves.is_some() { CUT } else { usize::MAX };
        match (self.batch(limit, operations), halves) {
            (Err(Error::TooLarge { .. }), Some([first, second])) => {
                self.apply(&first)?;
                self.apply(&second)
            }
            (outcome, _) => outcome,
        }
    }

    fn batch(&mut self, limit: usize, operations: &[Operation<'_>]) -> Result<(), Error> {
        for _ in 0..ATTEMPTS {
            match self
                .nftables
                .apply_within(limit, TABLE, operations, Some(self.at))
            {
                Ok(true) => {
                    self.at = self.at.next();
                    return Ok(());
                }
                Ok(false) => return Ok(()),
                Err(Error::Stale { expected }) => match self.foreign()? {
                    Foreign::Elsewhere(generation) => self.at = generation,
                    Foreign::Ours | Foreign::Unknown => return Err(Error::Stale { expected }),
                },
                Err(other) => return Err(other),
            }
        }
        Err(Error::Changing(ATTEMPTS))
    }

    fn foreign(&mut self) -> Result<Foreign, Error> {
        let own = self.nftables.port();
        match &mut self.watch {
            Some(watch) => watch.foreign_since(self.at, own),
            None => Ok(Foreign::Unknown),
        }
    }
}

/// The operations in two parts, each in its order; elements of one operation are cut too.
fn halves<'a>(operations: &[Operation<'a>]) -> Option<[Vec<Operation<'a>>; 2]> {
    match operations {
        [] => None,
        [one] => one.halves().map(|halves| halves.map(|half| vec![half])),
        several => {
            let (first, second) = several.split_at(several.len() / 2);
            Some([first.to_vec(), second.to_vec()])
        }
    }
}

/// What the kernel is asked for a transaction.
fn operations(transaction: &Transaction) -> Vec<Operation<'_>> {
    let operations = transaction.operations.iter();
    operations
        .flat_map(|operation| of_action(operation.family, &operation.action))
        .collect()
}

fn of_action(family: policy_compiler::ruleset::TableFamily, action: &Action) -> Vec<Operation<'_>> {
    match action {
        Action::AddTable => vec![Operation::AddTable(family)],
        Action::DeleteTable => vec![Operation::DeleteTable(family)],
        Action::AddCounter(name) => vec![Operation::AddCounter { family, name }],
        Action::DeleteCounter(name) => vec![Operation::DeleteCounter { family, name }],
        Action::AddSet {
            set,
            key,
            interval,
            comment,
        } => vec![Operation::AddSet {
            family,
            name: set,
            key,
            interval: *interval,
            comment,
        }],
        Action::AddMap { map, key, comment } => vec![Operation::AddMap {
            family,
            name: map,
            key,
            comment,
        }],
        Action::DeleteSet(name) | Action::DeleteMap(name) => {
            vec![Operation::DeleteSet { family, name }]
        }
        Action::AddElements {
            set,
            key,
            interval,
            elements,
        } => vec![Operation::AddElements(Elements {
            family,
            set,
            key,
            interval: *interval,
            keys: elements.iter().map(Vec::as_slice).collect(),
        })],
        Action::DeleteElements {
            set,
            key,
            interval,
            elements,
        } => vec![Operation::DeleteElements(Elements {
            family,
            set,
            key,
            interval: *interval,
            keys: elements.iter().map(Vec::as_slice).collect(),
        })],
        Action::AddVerdicts { map, key, elements } => {
            vec![Operation::add_verdicts(family, map, key, elements)]
        }
        Action::Retarget { map, key, elements } => vec![
            Operation::DeleteElements(Elements {
                family,
                set: map,
                key,
                interval: false,
                keys: elements.keys().map(Vec::as_slice).collect(),
            }),
            Operation::add_verdicts(family, map, key, elements),
        ],
        Action::DeleteVerdicts { map, key, keys } => vec![Operation::DeleteElements(Elements {
            family,
            set: map,
            key,
            interval: false,
            keys: keys.iter().map(Vec::as_slice).collect(),
        })],
        Action::AddChain { chain, base } => vec![Operation::AddChain {
            family,
            name: chain,
            base: base.as_ref(),
        }],
        Action::Refill { chain, rules } => {
            let append = |rule| Operation::AppendRule {
                family,
                chain,
                rule,
            };
            let flush = Operation::FlushChain {
                family,
                name: chain,
            };
            [flush]
                .into_iter()
                .chain(rules.iter().map(append))
                .collect()
        }
        Action::DeleteChain(name) => vec![Operation::DeleteChain { family, name }],
    }
}
