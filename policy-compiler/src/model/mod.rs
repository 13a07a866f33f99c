//! Typed cluster state that can only hold valid values.
//!
//! [`crate::validate`] makes these from [`crate::api`] objects; nothing else parses text.

mod address;
mod cluster;
mod interface;
mod name;
mod object;
mod objects;
mod policy;
mod port;
mod selector;

pub(crate) use address::bits_of;
pub use address::{AddressRange, AddressRanges, Cidr, CidrError, Family, is_link_local};
pub use cluster::{Cluster, Owner};
pub use interface::{InterfaceName, InterfaceNameError};
pub use name::{NamespacedName, PolicyId};
pub use object::{ContainerPort, NAMESPACE_NAME_LABEL, Namespace, Node, Phase, Pod, Presence};
pub use objects::{Named, Objects};
pub use policy::{
    Direction, IpBlock, NamespaceScope, NetworkPolicy, Peer, Peers, PolicyPort, Ports, Rule,
};
pub use port::{PortMatch, PortName, PortRange, PortRanges, Protocol};
pub use selector::{LabelSelector, Labels, Requirement};
