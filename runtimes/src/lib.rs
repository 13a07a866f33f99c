//! Real container runtimes for tests of CNI plugins: containerd and podman, each test with its own.
//!
//! ```text
//!   Node: a network, a process and a mount namespace              /run, /var/lib, /var/tmp: in memory, empty at first
//!     containerd ── pods ──┐                                      /run/cni/NETWORK.d/NETWORK.conflist  for containerd
//!     podman ── containers ┴─▶ network's plugins ─▶ the plugin    /run/cni/all/NETWORK.conflist        for podman
//!                                                                 /run/cni/bin                         plugins
//! ```
//!
//! - [`Runtimes::start`] makes a node with networks that a plugin under test is chained to, and starts both runtimes.
//! - [`Containerd`] is what the kubelet sees: pods come and go, and containers run in them.
//! - [`Podman`] is what a person uses.
//! - [`Node`] is where the plugin sees itself: its path in there is another one here, and processes can be started.
//!
//! No registry is asked: both runtimes have one image, with busybox. It all runs as root only, as plugins do.
//!
//! **Nothing is left behind.** What runs and what is mounted ends with this process, however that ends, and nothing
//! was on a disk. Only cgroups outlive their processes: they are removed at the end, or by the next that starts.

mod cgroups;
mod containerd;
mod cri;
mod error;
mod image;
mod network;
mod node;
mod output;
mod pod;
mod podman;

use std::sync::Arc;

pub use containerd::Containerd;
pub use error::Error;
pub use network::{Kind, Network, PLUGINS, Plugin};
pub use node::Node;
pub use output::Output;
pub use pod::{Container, Pod, PodStatus};
pub use podman::Podman;

/// A node with both runtimes. All of it ends when this is dropped, or with this process.
#[derive(Debug)]
pub struct Runtimes {
    containerd: Containerd,
    podman: Podman,
    // The order in which they are dropped: who is waited for, then the namespaces of all others, then what is left.
    node: Arc<Node>,
    _cgroup: cgroups::Cgroup,
}

impl Runtimes {
    /// Makes a node with these networks, with the plugin at the end of each, and starts both runtimes.
    pub fn start(networks: &[Network], plugin: &Plugin) -> Result<Runtimes, Error> {
        let cgroup = cgroups::Cgroup::new();
        let node = Arc::new(Node::new()?);
        network::install(&node, networks, plugin)?;
        node.write(image::FILE, image::archive()?)?;
        let containerd = Containerd::start(&node, networks, cgroup.path())?;
        let podman = Podman::start(&node, networks, cgroup.path())?;
        Ok(Runtimes {
            containerd,
            podman,
            node,
            _cgroup: cgroup,
        })
    }

    /// containerd.
    pub fn containerd(&self) -> &Containerd {
        &self.containerd
    }

    /// podman.
    pub fn podman(&self) -> &Podman {
        &self.podman
    }

    /// Where they run.
    pub fn node(&self) -> &Node {
        &self.node
    }
}
