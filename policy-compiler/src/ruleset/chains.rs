//! The chains of a table, and which of them refer to what.

use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, OnceLock};

use imbl::OrdMap;

use super::{Chain, Operand, Statement, Verdict};

/// Chains in order. A copy is cheap, and so is to find those that refer to something. Whoever changes them has what is
/// known of that found anew.
#[derive(Clone, Default)]
pub struct Chains {
    all: Arc<Vec<Arc<Chain>>>,
    references: OnceLock<References>,
}

impl Chains {
    /// With what they refer to, which was kept up to date.
    pub(crate) fn with_references(all: Vec<Arc<Chain>>, references: References) -> Self {
        debug_assert!(references == References::of(&all), "{references:?}");
        Self {
            all: Arc::new(all),
            references: OnceLock::from(references),
        }
    }

    /// The chain of this name.
    pub(crate) fn named(&self, name: &str) -> Option<&Arc<Chain>> {
        let mut chains = self.references().find(Name::Chain, name);
        chains.find(|chain| chain.name == name)
    }

    /// The chains that may refer to what has this name, and few others.
    pub(crate) fn referring_to(
        &self,
        kind: Name,
        name: &str,
    ) -> impl Iterator<Item = &Arc<Chain>> + use<'_> {
        self.references().find(kind, name)
    }

    fn references(&self) -> &References {
        let find = || References::of(self.all.iter());
        self.references.get_or_init(find)
    }
}

impl Deref for Chains {
    type Target = Vec<Arc<Chain>>;

    fn deref(&self) -> &Self::Target {
        &self.all
    }
}

impl DerefMut for Chains {
    fn deref_mut(&mut self) -> &mut Self::Target {
        self.references = OnceLock::new();
        Arc::make_mut(&mut self.all)
    }
}

impl PartialEq for Chains {
    fn eq(&self, other: &Self) -> bool {
        self.all == other.all
    }
}

impl Eq for Chains {}

impl fmt::Debug for Chains {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.all.fmt(f)
    }
}

impl From<Vec<Arc<Chain>>> for Chains {
    fn from(all: Vec<Arc<Chain>>) -> Self {
        Self {
            all: Arc::new(all),
            references: OnceLock::new(),
        }
    }
}

impl FromIterator<Arc<Chain>> for Chains {
    fn from_iter<I: IntoIterator<Item = Arc<Chain>>>(chains: I) -> Self {
        Vec::from_iter(chains).into()
    }
}

impl<'a> IntoIterator for &'a Chains {
    type Item = &'a Arc<Chain>;
    type IntoIter = std::slice::Iter<'a, Arc<Chain>>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl<'a> IntoIterator for &'a mut Chains {
    type Item = &'a mut Arc<Chain>;
    type IntoIter = std::slice::IterMut<'a, Arc<Chain>>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter_mut()
    }
}

/// What has a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Name {
    /// The chain itself.
    Chain,
    /// A chain to which its rules lead.
    Target,
    /// A set into which its rules look.
    Set,
    /// A map which its rules ask.
    Map,
}

/// Chains by what they refer to: by a digest of its name and, so that many may have one, by their places in memory, which
/// nobody else gets as long as they are here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct References(OrdMap<(u64, usize), Arc<Chain>>);

impl References {
    /// Of these chains.
    pub(crate) fn of<'a>(chains: impl IntoIterator<Item = &'a Arc<Chain>>) -> Self {
        let mut references = Self::default();
        chains.into_iter().for_each(|chain| references.add(chain));
        references
    }

    pub(crate) fn add(&mut self, chain: &Arc<Chain>) {
        for digest in digests(chain) {
            self.0.insert((digest, place(chain)), Arc::clone(chain));
        }
    }

    pub(crate) fn remove(&mut self, chain: &Arc<Chain>) {
        for digest in digests(chain) {
            self.0.remove(&(digest, place(chain)));
        }
    }

    fn find(&self, kind: Name, name: &str) -> impl Iterator<Item = &Arc<Chain>> + use<'_> {
        let digest = digest(kind, name);
        let found = self.0.range((digest, 0)..=(digest, usize::MAX));
        found.map(|(_, chain)| chain)
    }
}

fn place(chain: &Arc<Chain>) -> usize {
    Arc::as_ptr(chain).addr()
}

/// Of all that the chain refers to.
fn digests(chain: &Chain) -> impl Iterator<Item = u64> {
    let of_rules = chain.rules.iter().flat_map(|rule| {
        let sets = rule
            .matches
            .iter()
            .filter_map(|matches| match &matches.operand {
                Operand::Set(set) => Some(digest(Name::Set, set)),
                Operand::Values(_) => None,
            });
        let statement = match &rule.statement {
            Statement::Verdict(Verdict::Jump(chain) | Verdict::Goto(chain)) => {
                Some(digest(Name::Target, chain))
            }
            Statement::Lookup { map, .. } => Some(digest(Name::Map, map)),
            Statement::Verdict(_) | Statement::Reject(_) => None,
        };
        sets.chain(statement)
    });
    of_rules.chain([digest(Name::Chain, &chain.name)])
}

fn digest(kind: Name, name: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    (kind, name).hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ruleset::{Field, Match, Rule};

    fn chain(name: &str, rules: Vec<Rule>) -> Arc<Chain> {
        Arc::new(Chain {
            name: name.to_owned(),
            base: None,
            rules,
        })
    }

    fn found(chains: &Chains, kind: Name, name: &str) -> Vec<String> {
        let found = chains.referring_to(kind, name);
        let mut found: Vec<_> = found.map(|chain| chain.name.clone()).collect();
        found.sort();
        found
    }

    #[test]
    fn chains_are_found_by_what_they_refer_to_also_after_a_change() {
        let looks = |set: &str| {
            Rule::verdict(
                [Match::in_set([Field::Ipv4Source], set)],
                Verdict::Jump("b".into()),
            )
        };
        let mut chains: Chains = [
            chain("a", vec![looks("s"), looks("s"), looks("t")]),
            chain("b", vec![Rule::lookup([Field::Ipv4Source], "m")]),
            chain("c", vec![looks("s")]),
        ]
        .into_iter()
        .collect();
        assert_eq!(found(&chains, Name::Set, "s"), ["a", "c"]);
        assert_eq!(found(&chains, Name::Target, "b"), ["a", "c"]);
        assert_eq!(found(&chains, Name::Map, "m"), ["b"]);
        assert!(found(&chains, Name::Set, "m").is_empty());
        assert_eq!(chains.named("c").map(|chain| chain.rules.len()), Some(1));
        let before = chains.clone();
        Arc::make_mut(&mut chains[2]).rules = vec![looks("t")];
        assert_eq!(found(&chains, Name::Set, "s"), ["a"]);
        assert_eq!(found(&chains, Name::Set, "t"), ["a", "c"]);
        assert_eq!(found(&before, Name::Set, "s"), ["a", "c"]);
        let mut references = References::of(before.iter());
        before.iter().for_each(|chain| references.remove(chain));
        assert_eq!(references, References::default());
    }
}
