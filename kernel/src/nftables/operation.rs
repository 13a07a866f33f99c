//! Changes, as the parts of a batch.

use policy_compiler::ruleset::{
    Chain, KeyType, MapElement, Rule, Ruleset, Set, TableFamily, Value, VerdictMap,
};

use super::object::Object;

/// One change of one of our tables.
///
/// What is added must not be there yet (EEXIST) and what is deleted or flushed must be (ENOENT), so that a plan which
/// starts from another state than the kernel's is refused.
#[derive(Clone, Debug)]
pub enum Operation<'a> {
    /// A new table.
    AddTable(TableFamily),
    /// A table, new or not: before [`Operation::DeleteTable`], where it is not known whether it is there.
    EnsureTable(TableFamily),
    /// A table with all that is in it.
    DeleteTable(TableFamily),
    /// A chain without its rules.
    AddChain {
        /// Its table.
        family: TableFamily,
        /// Name and hook; its rules are not looked at.
        chain: &'a Chain,
    },
    /// A chain that nothing jumps to (EBUSY), with its rules.
    DeleteChain {
        /// Its table.
        family: TableFamily,
        /// Its name.
        name: &'a str,
    },
    /// The rules of a chain.
    FlushChain {
        /// Its table.
        family: TableFamily,
        /// Its name.
        name: &'a str,
    },
    /// A rule at the end of its chain. Its sets, and the chains that it jumps to, are there, or earlier in the batch.
    AppendRule {
        /// The chain's table.
        family: TableFamily,
        /// The chain's name.
        chain: &'a str,
        /// The rule.
        rule: &'a Rule,
    },
    /// A set without its elements.
    AddSet {
        /// Its table.
        family: TableFamily,
        /// Its name.
        name: &'a str,
        /// Its type; its elements are not looked at.
        set: &'a Set,
    },
    /// A verdict map without its elements.
    AddMap {
        /// Its table.
        family: TableFamily,
        /// Its name.
        name: &'a str,
        /// Its type; its elements are not looked at.
        map: &'a VerdictMap,
    },
    /// A set or a map that no rule uses (EBUSY), with its elements.
    DeleteSet {
        /// Its table.
        family: TableFamily,
        /// Its name.
        name: &'a str,
    },
    /// The elements of a set or a map.
    FlushSet {
        /// Its table.
        family: TableFamily,
        /// Its name.
        name: &'a str,
    },
    /// Elements of a set.
    AddElements(Elements<'a>),
    /// Elements of a set or a map, by their keys.
    DeleteElements(Elements<'a>),
    /// Elements of a map. The chains that they name are there, or earlier in the batch.
    AddMapElements {
        /// The map's table.
        family: TableFamily,
        /// The map's name.
        map: &'a str,
        /// The parts of a key.
        key: &'a [KeyType],
        /// The elements.
        elements: Vec<(&'a [Value], &'a MapElement)>,
    },
}

/// Elements of one set, or keys of one map.
#[derive(Clone, Debug)]
pub struct Elements<'a> {
    /// The table of the set.
    pub family: TableFamily,
    /// The set's name.
    pub set: &'a str,
    /// The parts of a key.
    pub key: &'a [KeyType],
    /// Whether elements are ranges.
    pub interval: bool,
    /// The elements; those of an interval set in ascending order.
    pub keys: Vec<&'a [Value]>,
}

impl Elements<'_> {
    /// Whether the kernel has starts and ends as elements of their own (`nft_set_rbtree.c`). Ranges of a key with several
    /// parts are one element each (`nft_set_pipapo.c`).
    pub(crate) fn is_rbtree(&self) -> bool {
        self.interval && self.key.len() == 1
    }
}

impl Operation<'_> {
    /// What it changes. Of elements, all of them.
    pub fn object(&self) -> Object {
        let chain = |family: &TableFamily, name: &str| Object::Chain {
            family: *family,
            name: name.to_owned(),
        };
        let set = |family: &TableFamily, name: &str| Object::Set {
            family: *family,
            name: name.to_owned(),
        };
        let elements = |family: &TableFamily, set: &str| Object::Element {
            family: *family,
            set: set.to_owned(),
            key: None,
        };
        match self {
            Self::AddTable(family) | Self::EnsureTable(family) | Self::DeleteTable(family) => {
                Object::Table(*family)
            }
            Self::AddChain { family, chain: new } => chain(family, &new.name),
            Self::DeleteChain { family, name } | Self::FlushChain { family, name } => {
                chain(family, name)
            }
            Self::AppendRule {
                family,
                chain,
                rule,
            } => Object::Rule {
                family: *family,
                chain: (*chain).to_owned(),
                index: None,
                comment: rule.comment.clone(),
            },
            Self::AddSet { family, name, .. }
            | Self::DeleteSet { family, name }
            | Self::FlushSet { family, name } => set(family, name),
            Self::AddMap { family, name, .. } => Object::Map {
                family: *family,
                name: (*name).to_owned(),
            },
            Self::AddElements(of) | Self::DeleteElements(of) => elements(&of.family, of.set),
            Self::AddMapElements { family, map, .. } => elements(family, map),
        }
    }

    /// The key of one of its elements.
    pub(crate) fn key(&self, index: usize) -> Option<&[Value]> {
        match self {
            Self::AddElements(of) | Self::DeleteElements(of) => of.keys.get(index).copied(),
            Self::AddMapElements { elements, .. } => elements.get(index).map(|(key, _)| *key),
            _ => None,
        }
    }
}

/// All that makes the ruleset where there is nothing of it: chains, sets and maps, elements, then rules, as nft does.
pub fn load(ruleset: &Ruleset) -> Vec<Operation<'_>> {
    let mut operations = Vec::new();
    for table in &ruleset.tables {
        let family = table.family;
        operations.push(Operation::AddTable(family));
        let chains = table.chains.iter();
        operations.extend(chains.map(|chain| Operation::AddChain { family, chain }));
        for (name, set) in &table.sets {
            operations.push(Operation::AddSet { family, name, set });
            if !set.elements.is_empty() {
                operations.push(Operation::AddElements(Elements {
                    family,
                    set: name,
                    key: &set.key,
                    interval: set.interval,
                    keys: set.elements.iter().map(Vec::as_slice).collect(),
                }));
            }
        }
        for (name, map) in &table.maps {
            operations.push(Operation::AddMap { family, name, map });
            if !map.elements.is_empty() {
                let elements = map.elements.iter();
                operations.push(Operation::AddMapElements {
                    family,
                    map: name,
                    key: &map.key,
                    elements: elements
                        .map(|(key, element)| (key.as_slice(), element))
                        .collect(),
                });
            }
        }
        for chain in &table.chains {
            let rules = chain.rules.iter();
            operations.extend(rules.map(|rule| Operation::AppendRule {
                family,
                chain: &chain.name,
                rule,
            }));
        }
    }
    operations
}
