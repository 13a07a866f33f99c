//! Lists of rules that `policyTypes` makes void.

use super::code::{Code, Severity};
use super::facts::Facts;
use super::finding::Finding;

pub(super) fn check(facts: &Facts<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (policy, read) in facts.policies() {
        let Some(spec) = &read.spec else { continue };
        let types = spec.policy_types.as_deref().unwrap_or_default();
        let ingress = spec.ingress.as_ref().map(Vec::len);
        let egress = spec.egress.as_ref().map(Vec::len);
        let lists = [
            ("Ingress", "spec.ingress", ingress, policy.ingress.is_some()),
            ("Egress", "spec.egress", egress, policy.egress.is_some()),
        ];
        for (kind, field, rules, isolates) in lists {
            let Some(rules) = rules.filter(|_| !isolates) else {
                continue;
            };
            let listed = if types.is_empty() {
                "without policyTypes the policy isolates for Ingress only".to_owned()
            } else {
                format!("policyTypes is [{}], without {kind}", types.join(", "))
            };
            let message = match rules {
                0 => format!("denies nothing: {listed}"),
                1 => format!("its rule is ignored: {listed}"),
                _ => format!("its {rules} rules are ignored: {listed}"),
            };
            let (code, severity) = match rules {
                // With a type written out, the other empty list is more likely a template's than a mistake.
                0 if !types.is_empty() => (Code::EmptyListWithoutType, Severity::Warning),
                0 => (Code::EmptyListWithoutType, Severity::Error),
                _ => (Code::RulesWithoutType, Severity::Error),
            };
            findings.push(facts.finding(severity, code, &policy.id, field, message));
        }
    }
    findings
}
