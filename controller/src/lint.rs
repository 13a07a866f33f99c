//! Useless and surprising policies: what the API server accepts and its author probably did not mean.
//!
//! Each check reads the facts of an input and gives [`Finding`]s; another check is another function in [`run`] and
//! another [`Code`].

mod blocks;
mod budget;
mod code;
mod covered;
mod dns;
mod facts;
mod finding;
mod output;
mod ports;
mod selectors;
mod types;

use policy_compiler::budget::Budgets;
use policy_compiler::model::{Cidr, Cluster};

pub use code::{Code, Severity, UnknownCode, documentation};
pub use finding::Finding;
pub use output::{FindingLine, FoundObject, json, sarif, text};

use self::facts::Facts;
use crate::source::Loaded;

/// What to look for.
#[derive(Clone, Copy, Debug, Default)]
pub struct Scope<'a> {
    /// Only these codes; all if there are none.
    pub select: &'a [Code],
    /// Not these codes.
    pub ignore: &'a [Code],
    /// Ranges of Service addresses besides those of Services in the input.
    pub service_cidrs: &'a [Cidr],
    /// What a namespace's policies may need on a node.
    pub budgets: Budgets,
}

/// Everything that there is to say, in the order of severity, code and place in the input, nothing twice.
pub fn run(loaded: &Loaded, cluster: &Cluster, scope: &Scope<'_>) -> Vec<Finding> {
    let facts = Facts::of(loaded, cluster, scope);
    let checks = [
        types::check,
        selectors::check,
        ports::check,
        blocks::check,
        covered::check,
        dns::check,
        facts::check,
        budget::check,
    ];
    let mut findings: Vec<Finding> = checks.iter().flat_map(|check| check(&facts)).collect();
    findings.retain(|finding| {
        let code = finding.code;
        (scope.select.is_empty() || scope.select.contains(&code))
            && !scope.ignore.contains(&code)
            && !facts.is_silenced(finding)
    });
    findings.sort();
    findings.dedup();
    findings
}

/// A sentence for each annotation that silences something that does not exist.
pub fn unknown_ignores(loaded: &Loaded) -> Vec<String> {
    facts::unknown_ignores(loaded)
}
