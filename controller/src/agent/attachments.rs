//! The interfaces of this node's pods, as the CNI plugin records them.
//!
//! ```text
//! plugin ─▶ records ─▶ registry: which are there, which are accepted ─▶ engine: joined with pods ─▶ Snapshot
//! plugin ◀─ socket ◀── gate: in force and judged? then out of quarantine ◀──────────────────────────────┘
//! ```
//!
//! Where packets do not pass the node's rules, as with a macvlan, the same rules are in force in the pod's own network
//! namespace (`bypass`), and the gate asks there.
//!
//! The folder of records is the truth: an agent that starts lists it. An interface passes nothing (group
//! [`QUARANTINE`](cni_chain::quarantine::QUARANTINE)) until what its pod may do is in the kernel and connections that
//! its addresses had before are judged, and again when nobody knows its pod any more.

mod bypass;
mod gate;
pub mod joined;
mod registry;
mod running;
mod socket;

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::Arc;

use cni_chain::attachment::{Attachment, AttachmentId};
use tokio::sync::watch;

pub use self::bypass::{Bypass, InForce};
pub use self::gate::{Gate, Passage, quarantine};
use self::registry::Registry;
pub use self::running::Running;

/// Interfaces that may belong to a pod.
pub type Accepted = BTreeMap<AttachmentId, Arc<Attachment>>;

/// The interfaces that are there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attached {
    /// Those that may belong to a pod.
    pub accepted: Accepted,
    /// Those that may not, and pass nothing.
    pub refused: BTreeMap<AttachmentId, Refusal>,
    /// Records that can not be read, a line each.
    pub unreadable: Vec<String>,
}

/// Why an interface may not belong to a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The interface.
    pub attachment: Arc<Attachment>,
    /// What is wrong with it.
    pub message: String,
    /// What to do.
    pub details: String,
}

/// Watches the records below a directory for running, on a thread of its own, in the network namespace of the calling
/// thread. What is there now is in what is returned; the sender is gone when the thread has failed.
///
/// # Errors
/// The folder of records cannot be made, or there can be no thread.
pub fn watch(run_dir: &Path) -> io::Result<watch::Receiver<Arc<Attached>>> {
    Registry::start(run_dir)
}
