//! From one ruleset to another, without a packet that both deny passing on the way, and without one that both
//! accept being lost.
//!
//! A transaction is atomic for rules, but a packet on its way through it reads rules at the start of each base
//! chain and sets and maps when it comes to them (design.md 3). It can meet every mixture of the old and the new,
//! so a transaction must be right in each of them. It is, if every change in it goes the same way: **tightening**
//! (whatever the rest, what was denied stays denied) or **loosening**. The whole plan first goes down from the old
//! ruleset to the *meet*, in which every base chain accepts exactly what it accepts in both, and then up to the
//! new one:
//!
//! ```text
//! create ─▶ decouple ─▶ tighten ─▶ close │ open ─▶ loosen ─▶ recouple ─▶ delete
//!   nothing     └── only removes permission ┘   └── only adds permission ──┘    nothing sees it
//!   sees it                          the meet
//! ```
//!
//! On the way down a packet that the old ruleset denies stays denied, and one that the meet accepts is accepted;
//! on the way up likewise with the new one. Both directions and all tables share the steps.
//!
//! What reaches the meet in place (`place`): membership of sets, by its elements; rules of a class that only
//! gain or only lose, by a refill; a pod that changes its class, by a retarget. What gains and loses at once, so
//! that the meet is not a ruleset of the same shape, goes through a temporary chain that asks the old rules and
//! then the new ones (`temporary`). A change that is not recognised is made beside (`beside`): the old base
//! chains, under temporary names, stay until the new ones judge too, since the kernel lets a packet pass only
//! where all do.

mod apply;
mod beside;
mod chains;
mod class;
mod elements;
mod objects;
mod permits;
mod place;
mod roles;
mod temporary;
mod verdicts;

use std::collections::{BTreeMap, BTreeSet};

pub use apply::{ApplyError, apply};

use self::temporary::Names;
use crate::ruleset::{Base, KeyType, MapElement, Rule, Ruleset, Set, Table, TableFamily, Value};

/// A key of a set or map.
pub type Key = Vec<Value>;

/// Transactions that lead from one ruleset to another. Each has to be committed before the next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The generation of the kernel's ruleset that the plan was made for. The caller refuses the plan if the
    /// kernel's is another.
    pub generation: u32,
    /// In order; empty if nothing changes.
    pub transactions: Vec<Transaction>,
}

/// Changes that the kernel makes at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transaction {
    /// Why it is a transaction of its own.
    pub step: Step,
    /// In an order in which each finds what it names.
    pub operations: Vec<Operation>,
}

/// The steps of a plan, in order. A plan has at most one transaction of each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// Copies of what is replaced as a whole. Nothing refers to them.
    Copy,
    /// The copies of base chains judge too, and say the same.
    CopyBase,
    /// The originals of copied base chains go.
    Vacate,
    /// What the originals referred to goes.
    Free,
    /// New sets, maps and chains. Nothing refers to them.
    Create,
    /// Elements that no packet comes to yet, since no pod's address or interface leads there.
    Early,
    /// Tightens: pods that change between classes that change themselves.
    DecoupleKeys,
    /// Tightens: classes that gain and lose at once.
    DecoupleChains,
    /// Tightens: what only removes permission.
    Tighten,
    /// Tightens: addresses and interfaces become known, after all that is said of them.
    Close,
    /// Loosens: addresses and interfaces are forgotten, before what is said of them.
    Open,
    /// Loosens: what only adds permission.
    Loosen,
    /// Loosens: the end of [`Step::DecoupleChains`].
    RecoupleChains,
    /// Loosens: the end of [`Step::DecoupleKeys`].
    RecoupleKeys,
    /// Elements that no packet comes to any more.
    Late,
    /// What nothing refers to any more.
    Delete,
}

impl Step {
    /// Whether the transaction touches nothing that a packet comes to, so that it may be cut into several.
    pub fn is_unseen(self) -> bool {
        use Step::{Copy, Create, Delete, Early, Free, Late};
        matches!(self, Copy | Free | Create | Early | Late | Delete)
    }
}

/// A change in a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation {
    /// The table's family.
    pub family: TableFamily,
    /// What happens in it.
    pub action: Action,
}

/// What happens to a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Creates the table.
    AddTable,
    /// Deletes the table, which is empty.
    DeleteTable,
    /// Creates a counter at 0.
    AddCounter(String),
    /// Deletes a counter.
    DeleteCounter(String),
    /// Creates an empty set.
    AddSet {
        /// Its name.
        set: String,
        /// The parts of a key.
        key: Vec<KeyType>,
        /// Whether elements may be ranges.
        interval: bool,
        /// What it holds.
        comment: String,
    },
    /// Deletes a set with its elements.
    DeleteSet(String),
    /// Adds elements that the set does not have.
    AddElements {
        /// The set.
        set: String,
        /// The parts of a key.
        key: Vec<KeyType>,
        /// Whether elements may be ranges.
        interval: bool,
        /// The keys.
        elements: BTreeSet<Key>,
    },
    /// Deletes elements that the set has.
    DeleteElements {
        /// The set.
        set: String,
        /// The parts of a key.
        key: Vec<KeyType>,
        /// Whether elements may be ranges.
        interval: bool,
        /// The keys.
        elements: BTreeSet<Key>,
    },
    /// Creates an empty verdict map.
    AddMap {
        /// Its name.
        map: String,
        /// The parts of a key.
        key: Vec<KeyType>,
        /// What it holds.
        comment: String,
    },
    /// Deletes a verdict map with its elements.
    DeleteMap(String),
    /// Adds elements whose keys the map does not have.
    AddVerdicts {
        /// The map.
        map: String,
        /// The parts of a key.
        key: Vec<KeyType>,
        /// What it holds for the keys.
        elements: BTreeMap<Key, MapElement>,
    },
    /// Deletes and adds elements whose keys the map has.
    Retarget {
        /// The map.
        map: String,
        /// The parts of a key.
        key: Vec<KeyType>,
        /// What it holds for the keys from now on.
        elements: BTreeMap<Key, MapElement>,
    },
    /// Deletes elements that the map has.
    DeleteVerdicts {
        /// The map.
        map: String,
        /// The parts of a key.
        key: Vec<KeyType>,
        /// The keys.
        keys: BTreeSet<Key>,
    },
    /// Creates a chain without rules.
    AddChain {
        /// Its name.
        chain: String,
        /// Where it is hooked in.
        base: Option<Base>,
    },
    /// Flushes a chain and appends rules.
    Refill {
        /// The chain.
        chain: String,
        /// All its rules.
        rules: Vec<Rule>,
    },
    /// Deletes a chain, which has no rules.
    DeleteChain(String),
}

/// The plan that leads from one ruleset to the other. The same rulesets give the same plan.
///
/// An empty `from` is a kernel without our tables: base chains come last, when all is there that they ask. An
/// empty `to` removes everything, base chains first.
pub fn delta(from: &Ruleset, to: &Ruleset, generation: u32) -> Plan {
    let mut steps = Steps::default();
    let mut families: Vec<_> = [from, to]
        .iter()
        .flat_map(|ruleset| &ruleset.tables)
        .map(|table| table.family)
        .collect();
    families.sort_unstable();
    families.dedup();
    for family in families {
        let one = of_table(table(from, family), table(to, family));
        for (step, actions) in one.actions {
            let operations = actions
                .into_iter()
                .map(|action| Operation { family, action });
            steps.operations.entry(step).or_default().extend(operations);
        }
    }
    let transactions = steps.operations.into_iter();
    Plan {
        generation,
        transactions: transactions
            .map(|(step, operations)| Transaction { step, operations })
            .collect(),
    }
}

fn table(ruleset: &Ruleset, family: TableFamily) -> Option<&Table> {
    ruleset.tables.iter().find(|table| table.family == family)
}

fn of_table(from: Option<&Table>, to: Option<&Table>) -> TableSteps {
    let mut steps = TableSteps::default();
    match (from, to) {
        (Some(from), Some(to)) if from != to => {
            let names = || Names::new([from, to]);
            return place::steps(from, to, names())
                .unwrap_or_else(|| beside::steps(from, to, names()));
        }
        (None, Some(to)) => {
            steps.push(Step::Create, Action::AddTable);
            beside::add(&mut steps, Step::Create, Step::Tighten, to);
        }
        (Some(from), None) => {
            beside::delete(&mut steps, Step::Loosen, Step::Delete, from);
            steps.push(Step::Delete, Action::DeleteTable);
        }
        _ => {}
    }
    steps
}

/// The operations of all tables.
#[derive(Default)]
struct Steps {
    operations: BTreeMap<Step, Vec<Operation>>,
}

/// The actions of one table.
#[derive(Default)]
struct TableSteps {
    actions: BTreeMap<Step, Vec<Action>>,
}

impl TableSteps {
    fn push(&mut self, step: Step, action: Action) {
        self.actions.entry(step).or_default().push(action);
    }

    /// `of` is the set, of which only the type matters.
    fn add_elements(
        &mut self,
        step: Step,
        set: &str,
        of: &Set,
        elements: impl IntoIterator<Item = Key>,
    ) {
        let elements: BTreeSet<_> = elements.into_iter().collect();
        if !elements.is_empty() {
            let action = Action::AddElements {
                set: set.to_owned(),
                key: of.key.clone(),
                interval: of.interval,
                elements,
            };
            self.push(step, action);
        }
    }

    /// `of` is the set, of which only the type matters.
    fn delete_elements(&mut self, step: Step, set: &str, of: &Set, elements: BTreeSet<Key>) {
        if !elements.is_empty() {
            let action = Action::DeleteElements {
                set: set.to_owned(),
                key: of.key.clone(),
                interval: of.interval,
                elements,
            };
            self.push(step, action);
        }
    }

    fn refill(&mut self, step: Step, chain: &str, rules: Vec<Rule>) {
        let chain = chain.to_owned();
        self.push(step, Action::Refill { chain, rules });
    }
}
