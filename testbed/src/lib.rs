//! Network namespaces as nodes and pods, and probes with real packets between them.
//!
//! ```text
//!                        fabric: routes between nodes, owns the external addresses
//!                     node0 |                         | node1
//!                    uplink |                         | uplink
//!                        node "a"                  node "b"          <- rules under test are loaded here
//!            veth0 | veth1 |  Routed: a host route per pod
//!                  |       |  Bridged: ports of br0, which hands frames to the inet hooks
//!             eth0 | eth0  |
//!              pod "x"   pod "y"
//! ```
//!
//! - [`enter`] makes a process without privileges able to do this, in a user namespace of its own.
//! - [`Topology`] says which nodes, pods and external addresses there are; [`Testbed::build`] makes them.
//! - [`probe`] sends requests and tells which were answered.
//! - [`Namespace`] runs code, `nft` and `ip` inside; [`frames`] sends what no socket would and sees what arrives.
//!
//! It knows nothing of Kubernetes or of policy: whoever calls it loads the rules and judges the outcome.
//!
//! **Nothing is left behind.** A namespace has no name and no file: it is an open descriptor of this process, and
//! so are its sockets. However the process ends, also by SIGKILL, the kernel takes all of it away.

mod conntrack;
mod error;
pub mod frames;
mod layout;
mod mac;
mod namespace;
pub mod neighbour_discovery;
pub mod packet;
mod parallel;
mod privileges;
mod probe;
mod program;
mod scripts;
mod settings;
mod testbed;
mod topology;

pub use error::{Error, TopologyError};
pub use mac::Mac;
pub use namespace::Namespace;
pub use privileges::{Privileges, enter};
pub use probe::{Outcome, Probe, ProbeOptions, Protocol, probe};
pub use scripts::{POD_INTERFACE, UPLINK_INTERFACE};
pub use testbed::{Attachment, Testbed};
pub use topology::{Network, NodeSpec, Place, PodSpec, Topology};
