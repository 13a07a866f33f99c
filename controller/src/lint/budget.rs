//! Namespaces that a node does not compile.

use policy_compiler::budget::check_all;

use super::code::{Code, Severity};
use super::facts::Facts;
use super::finding::Finding;
use crate::budget::report;

pub(super) fn check(facts: &Facts<'_>) -> Vec<Finding> {
    let exceeded = check_all(facts.cluster, &facts.budgets);
    let findings = exceeded.iter().map(|exceeded| {
        let report = report(exceeded);
        let policy = exceeded.policies.first().map(|(policy, _)| policy);
        Finding {
            severity: Severity::Error,
            code: Code::OverBudget,
            place: policy.and_then(|policy| facts.place(policy)),
            object: Some(report.object),
            field: report.field,
            message: report.message,
        }
    });
    findings.collect()
}
