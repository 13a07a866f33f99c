//! Who reaches whom on which port, small enough to be read.
//!
//! ```text
//! Cluster -> reach::groups -> fold -> ends, cells -> report -+-> JSON
//!                                       ^                    +-> text   tables for a terminal
//!                              label ---+                    +-> page   HTML for a browser
//! ```

mod fold;
mod label;
mod page;
mod report;
mod select;
mod text;

pub use page::page;
pub use report::{
    Cell, CellVerdict, End, EndKind, FamilyWay, NodeEgressReport, Report, WorkloadPods, report,
};
pub use select::{EndPattern, select};
pub use text::{Style, text};
