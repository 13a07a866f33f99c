//! Namespaces over their budget, as commands tell of them.

use std::io::{self, Write};

use policy_compiler::budget::Exceeded;

use crate::source::{self, ObjectRef};

/// What [`Exceeded`] says of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The policy that needs the most; the namespace if none was counted.
    pub object: ObjectRef,
    /// The field, in Kubernetes' notation; empty for a namespace.
    pub field: String,
    /// What is found, with names and the remedy.
    pub message: String,
}

/// What there is to report of a namespace that is over its budget: at its largest policy, since that is whose author
/// can help.
pub fn report(exceeded: &Exceeded) -> Report {
    let message = exceeded.to_string();
    match exceeded.policies.first() {
        Some((policy, _)) => Report {
            object: ObjectRef {
                kind: "NetworkPolicy".into(),
                namespace: Some(policy.namespace.clone()),
                name: Some(policy.name.clone()),
            },
            field: "spec".into(),
            message,
        },
        None => Report {
            object: ObjectRef {
                kind: "Namespace".into(),
                namespace: None,
                name: Some(exceeded.namespace.clone()),
            },
            field: String::new(),
            message,
        },
    }
}

/// A line on stderr for each of the first few, and one for what follows from it.
pub(crate) fn tell<'a>(
    exceeded: impl IntoIterator<Item = &'a Exceeded>,
    consequence: &str,
) -> io::Result<()> {
    let mut stderr = io::stderr().lock();
    for line in source::few(exceeded.into_iter().map(Exceeded::to_string)) {
        writeln!(stderr, "error: {line}")?;
    }
    writeln!(
        stderr,
        "error: {consequence}; --budget RESOURCE=N sets another budget"
    )
}
