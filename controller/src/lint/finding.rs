//! What is found.

use super::code::{Code, Severity};
use crate::source::{ObjectRef, Place};

/// One thing that is found. Ordered by severity, code, place in the input, object and field.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// What it is; says why it matters and what to do.
    pub code: Code,
    /// Where the object was read; none for what no object says.
    pub place: Option<Place>,
    /// The object; none for the input as a whole.
    pub object: Option<ObjectRef>,
    /// The field in Kubernetes' notation, `spec.ingress[0].from[1]`; may be empty.
    pub field: String,
    /// What is found, with names.
    pub message: String,
}
