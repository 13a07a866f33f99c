//! What others cover; the proof is the compiler's.

use policy_compiler::cover::{self, RuleId, Target};

use super::code::{Code, Severity};
use super::facts::{Facts, fields};
use super::finding::Finding;

pub(super) fn check(facts: &Facts<'_>) -> Vec<Finding> {
    let covered = cover::covered(facts.cluster);
    let findings = covered.into_iter().map(|covered| {
        let (severity, when) = if covered.in_every_cluster {
            (Severity::Warning, "always")
        } else {
            (Severity::Hint, "with the pods at hand")
        };
        let mut by: Vec<String> = covered.by.iter().map(named).collect();
        by.extend(covered.isolated_by.iter().filter_map(|policy| {
            let is_named = covered.by.iter().any(|rule| rule.policy == *policy);
            (!is_named).then(|| policy.to_string())
        }));
        let by = by.join(", ");
        match covered.target {
            Target::Rule(rule) => {
                let (list, _) = fields(rule.direction);
                let field = format!("spec.{list}[{}]", rule.index);
                let message = format!("is covered {when} by {by}");
                facts.finding(severity, Code::RuleCovered, &rule.policy, field, message)
            }
            Target::Policy(policy) => {
                let message = format!("the policy as a whole is covered {when} by {by}");
                facts.finding(severity, Code::PolicyCovered, &policy, "spec", message)
            }
        }
    });
    findings.collect()
}

fn named(rule: &RuleId) -> String {
    let (list, _) = fields(rule.direction);
    format!("{} spec.{list}[{}]", rule.policy, rule.index)
}
