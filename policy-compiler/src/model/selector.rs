//! Label selectors.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// Labels of an object.
pub type Labels = BTreeMap<String, String>;

/// A label selector as a conjunction of requirements, in canonical order: two selectors that were written
/// differently but require the same are equal. Without requirements it selects everything.
///
/// They are in order and differ. Most selectors have one or none, for which a set takes ten times as much memory.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LabelSelector(Box<[Requirement]>);

/// One requirement. Comparisons are of bytes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Requirement {
    /// The key is there with one of the values. `matchLabels` is this with one value.
    In(String, BTreeSet<String>),
    /// The key is missing, or has none of the values.
    NotIn(String, BTreeSet<String>),
    /// The key is there, with any value.
    Exists(String),
    /// The key is missing.
    DoesNotExist(String),
}

impl Requirement {
    /// labels.Requirement.Matches of apimachinery.
    pub fn matches(&self, labels: &Labels) -> bool {
        match self {
            Requirement::In(key, values) => {
                labels.get(key).is_some_and(|value| values.contains(value))
            }
            Requirement::NotIn(key, values) => {
                labels.get(key).is_none_or(|value| !values.contains(value))
            }
            Requirement::Exists(key) => labels.contains_key(key),
            Requirement::DoesNotExist(key) => !labels.contains_key(key),
        }
    }
}

impl fmt::Display for Requirement {
    /// As kubectl prints selectors.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |values: &BTreeSet<String>| values.iter().cloned().collect::<Vec<_>>().join(",");
        match self {
            Requirement::In(key, values) if values.len() == 1 => {
                write!(f, "{key}={}", list(values))
            }
            Requirement::In(key, values) => write!(f, "{key} in ({})", list(values)),
            Requirement::NotIn(key, values) => write!(f, "{key} notin ({})", list(values)),
            Requirement::Exists(key) => f.write_str(key),
            Requirement::DoesNotExist(key) => write!(f, "!{key}"),
        }
    }
}

impl LabelSelector {
    /// The selector with these requirements.
    pub fn new(requirements: impl IntoIterator<Item = Requirement>) -> Self {
        let in_order: BTreeSet<_> = requirements.into_iter().collect();
        Self(in_order.into_iter().collect())
    }

    /// Whether all requirements hold.
    pub fn matches(&self, labels: &Labels) -> bool {
        self.0.iter().all(|requirement| requirement.matches(labels))
    }

    /// The requirements in order.
    pub fn requirements(&self) -> impl Iterator<Item = &Requirement> {
        self.0.iter()
    }
}

impl fmt::Display for LabelSelector {
    /// The requirements joined by commas; `*` if there are none.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("*");
        }
        for (index, requirement) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str(",")?;
            }
            requirement.fmt(f)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        pairs
            .iter()
            .map(|(key, value)| ((*key).into(), (*value).into()))
            .collect()
    }

    fn values(values: &[&str]) -> BTreeSet<String> {
        values.iter().map(|value| (*value).into()).collect()
    }

    #[test]
    fn not_in_matches_a_missing_key_and_in_does_not() {
        let missing = labels(&[]);
        let empty = labels(&[("a", "")]);
        let is_empty = Requirement::In("a".into(), values(&[""]));
        let is_not_empty = Requirement::NotIn("a".into(), values(&[""]));
        assert!(!is_empty.matches(&missing) && is_empty.matches(&empty));
        assert!(is_not_empty.matches(&missing) && !is_not_empty.matches(&empty));
        assert!(Requirement::Exists("a".into()).matches(&empty));
        assert!(Requirement::DoesNotExist("a".into()).matches(&missing));
        assert!(!Requirement::In("a".into(), values(&["x"])).matches(&labels(&[("a", "X")])));
    }

    #[test]
    fn selectors_that_require_the_same_are_equal() {
        let requirement = |key: &str| Requirement::Exists(key.into());
        let one = LabelSelector::new(["a", "b"].map(requirement));
        assert_eq!(one, LabelSelector::new(["b", "a", "b"].map(requirement)));
        assert_ne!(one, LabelSelector::new(["b"].map(requirement)));
    }

    #[test]
    fn all_requirements_must_hold() {
        let selector = LabelSelector::new([
            Requirement::In("a".into(), values(&["1", "2"])),
            Requirement::DoesNotExist("b".into()),
        ]);
        assert!(selector.matches(&labels(&[("a", "2")])));
        assert!(!selector.matches(&labels(&[("a", "2"), ("b", "")])));
        assert!(LabelSelector::default().matches(&labels(&[])));
        assert_eq!(selector.to_string(), "a in (1,2),!b");
        assert_eq!(LabelSelector::default().to_string(), "*");
    }
}
