//! What is attached to the network, and the folder that says so: one record for each interface of a pod.
//!
//! Records are the truth: the plugin writes them, the agent lists and watches them, and no end of either loses one.

mod id;
mod record;
mod records;

use std::collections::BTreeSet;
use std::net::IpAddr;

pub use self::id::{AttachmentId, Invalid, LONGEST_CONTAINER_ID};
pub(crate) use self::record::object_name;
pub use self::record::{MOST_ADDRESSES, is_link_local, is_of_a_pod};
pub use self::records::{RecordError, Records};

/// An interface of a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attachment {
    /// Which.
    pub id: AttachmentId,
    /// The name of the network that it is attached to.
    pub network: String,
    /// The path of its network namespace.
    pub netns: String,
    /// The inode of its network namespace, which says whether the path still stands for it.
    pub netns_inode: u64,
    /// Whose it is.
    pub pod: PodIdentity,
    /// All of its addresses, with those of its link that no other attachment has ([`is_link_local`]).
    pub addresses: BTreeSet<IpAddr>,
    /// The way that its packets take.
    pub path: Path,
    /// Whether it may send from other addresses than its own, as who routes does.
    pub routes: bool,
}

/// A pod, as the runtime names it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PodIdentity {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its uid, if the runtime knows it.
    pub uid: Option<String>,
}

/// The way that an interface's packets take on their node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Path {
    /// Through an interface of the node, which routes them.
    Routed {
        /// That interface's name.
        host: String,
        /// Its number.
        index: u32,
    },
    /// Through a port of a bridge of the node.
    Bridged {
        /// The port's name.
        host: String,
        /// Its number.
        index: u32,
        /// The bridge's name.
        bridge: String,
    },
    /// Past the node's own network, as of a macvlan: only rules in the pod's network namespace see them.
    Bypass {
        /// The kind of the interface.
        link: String,
        /// The interface's number in the pod's network namespace.
        index: u32,
    },
}

impl Path {
    /// The number of the node's end, where there is one.
    pub fn index(&self) -> Option<u32> {
        match self {
            Self::Routed { index, .. } | Self::Bridged { index, .. } => Some(*index),
            Self::Bypass { .. } => None,
        }
    }

    /// The number of the interface that quarantine is about: in the node's namespace, or in the pod's where packets
    /// bypass the node's.
    pub(crate) fn index_held(&self) -> u32 {
        match self {
            Self::Routed { index, .. }
            | Self::Bridged { index, .. }
            | Self::Bypass { index, .. } => *index,
        }
    }

    /// The name of the node's end, where there is one.
    pub fn host(&self) -> Option<&str> {
        match self {
            Self::Routed { host, .. } | Self::Bridged { host, .. } => Some(host),
            Self::Bypass { .. } => None,
        }
    }
}
