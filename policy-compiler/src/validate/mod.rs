//! From [`crate::api`] objects to [`crate::model`] types: what the API server refuses is refused here, with the
//! same field path and in its words (pkg/apis/networking/validation, apimachinery's validation of names, labels
//! and selectors; Kubernetes 1.37). What is odd but valid passes.

mod field;
mod object;
mod policy;
mod text;

pub use field::{FieldError, FieldErrorKind};
pub use object::{namespace, node, pod};
pub use policy::network_policy;

/// How strictly to read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Accept CIDRs as clusters from before StrictIPCIDRValidation hold them: host bits, leading zeros,
    /// IPv4-mapped IPv6.
    pub lenient_cidr: bool,
}
