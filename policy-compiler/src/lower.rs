//! The rules of a node to what the kernel is told.
//!
//! ```text
//! forward ─▶ egress ──(verdict map by source address)──▶ egress class ─▶ accept | drop
//!            ingress ─(verdict map by destination)─────▶ ingress class ─▶ accept | drop
//! input   ─▶ a local pod to this node;   output ─▶ this node to a local pod
//! ```

mod base;
mod bridge;
mod class;
mod close;
mod dropped;
mod guards;
mod inside;
mod interfaces;
mod local;
mod sets;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

pub use class::Merging;
pub(crate) use class::{LoweredClass, classes_in_use, lower_class};
pub use close::{close, knows};
pub use dropped::Dropped;
pub use inside::{Inside, inside};
pub(crate) use local::LocalElements;
pub(crate) use sets::{lower_peer, named_port};

use crate::evaluate::NodeEgress;
use crate::ir::{NodeIr, PeerMatch};
use crate::model::{Direction, Family, InterfaceName};
use crate::ruleset::{Field, Ruleset, Table, TableFamily};

/// What lowering has to know besides the rules.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Whether isolated pods may reach their own node.
    pub node_egress: NodeEgress,
    /// The bit of a connection's mark that says it was revoked.
    pub revoked: RevokedBit,
    /// Which bridges carry pods. Guards against what only travels inside a bridge are bound to them.
    pub bridges: Bridges,
    /// The interfaces of pods on the host, by pod. Where none is known, its pod can forge its source.
    pub attachments: Attachments,
    /// When the rules of a class merge into sets.
    pub merging: Merging,
}

/// One bit of the connection mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RevokedBit(u32);

impl RevokedBit {
    /// The bit, if the number has exactly one.
    pub fn new(bit: u32) -> Option<Self> {
        bit.is_power_of_two().then_some(Self(bit))
    }

    /// The bit as a number.
    pub fn bits(self) -> u32 {
        self.0
    }
}

impl Default for RevokedBit {
    /// A bit that kube-proxy, flannel, Calico's and Cilium's defaults leave alone.
    fn default() -> Self {
        Self(0x0010_0000)
    }
}

/// Which bridges carry pods.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Bridges {
    /// Not known: every bridge is taken for one.
    #[default]
    Any,
    /// These; none at all if pods are routed.
    Named(BTreeSet<InterfaceName>),
}

/// How pods are attached to the host, by `namespace/name`.
pub type Attachments = BTreeMap<String, Vec<Attachment>>;

/// One way in which a pod is attached to the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attachment {
    /// The host's end of the pod's veth pair.
    pub interface: InterfaceName,
    /// Whether it is a port of a bridge.
    pub bridged: bool,
    /// Which of its addresses the pod has there; none where it has all of them there.
    pub addresses: Option<BTreeSet<IpAddr>>,
    /// Whether the pod may send from other addresses there, but those of other pods of the node.
    pub routes: bool,
}

/// Lowers a node's rules. The same rules and options give the same value.
pub fn lower(ir: &NodeIr, options: &Options) -> Ruleset {
    let mut tables = local_tables(ir, options);
    let mut chains = Vec::new();
    let mut named = BTreeMap::new();
    if let Some(inet) = tables.first_mut() {
        for (family, name) in classes_in_use(ir) {
            if let Some(class) = lower_class(ir, family, name, options.merging) {
                chains.extend(class.chains);
                inet.sets.extend(class.sets);
                named.extend(
                    class
                        .peers
                        .into_iter()
                        .map(|(set, peer)| (set, (family, peer))),
                );
            }
        }
        chains.sort_by(|one, other| one.name.cmp(&other.name));
        inet.chains.extend(chains);
        for (name, (family, peer)) in named {
            if let Some(set) = lower_peer(ir, family, &peer) {
                inet.add_set(name, set);
            }
        }
    }
    Ruleset { tables }
}

/// The tables without classes and peers: what depends on the node's own pods only. The first is of
/// [`TableFamily::Inet`]. Where no pod's attachment is known, all but [`LocalElements`] depends on nothing of the
/// pods but whether any is isolated.
pub(crate) fn local_tables(ir: &NodeIr, options: &Options) -> Vec<Table> {
    let mut inet = Table::new(TableFamily::Inet);
    dropped::add_all(&mut inet);
    base::add(&mut inet, ir, options);
    guards::add(&mut inet, ir, options);
    local::add(&mut inet, ir);
    let mut tables = vec![inet];
    tables.extend(bridge::table(ir, options));
    tables
}

/// Whether any pod of the node is isolated.
fn has_isolated_pod(ir: &NodeIr) -> bool {
    ir.pods.values().any(|pod| pod.is_isolated())
}

/// Suffix of a family's sets, maps and chains.
fn digit(family: Family) -> char {
    match family {
        Family::Ipv4 => '4',
        Family::Ipv6 => '6',
    }
}

fn source(family: Family) -> Field {
    match family {
        Family::Ipv4 => Field::Ipv4Source,
        Family::Ipv6 => Field::Ipv6Source,
    }
}

fn destination(family: Family) -> Field {
    match family {
        Family::Ipv4 => Field::Ipv4Destination,
        Family::Ipv6 => Field::Ipv6Destination,
    }
}

/// The subject's address in a direction.
fn subject(direction: Direction, family: Family) -> Field {
    match direction {
        Direction::Egress => source(family),
        Direction::Ingress => destination(family),
    }
}

/// The other end's address in a direction.
fn peer(direction: Direction, family: Family) -> Field {
    match direction {
        Direction::Egress => destination(family),
        Direction::Ingress => source(family),
    }
}

fn class_chain(direction: Direction, family: Family, class: &str) -> String {
    format!("{direction}{}_{class}", digit(family))
}

/// The name of the set of whom a rule matches, if there is one.
pub(crate) fn set_name(family: Family, peer: &PeerMatch) -> Option<String> {
    match peer {
        PeerMatch::Any => None,
        PeerMatch::Set(name) => Some(peer_set(family, name)),
        PeerMatch::NamedPorts(name) => Some(port_set(family, name)),
    }
}

fn peer_set(family: Family, peer: &str) -> String {
    format!("peer{}_{peer}", digit(family))
}

fn port_set(family: Family, named_port: &str) -> String {
    format!("ports{}_{named_port}", digit(family))
}

fn of_family(
    addresses: impl IntoIterator<Item = IpAddr>,
    family: Family,
) -> impl Iterator<Item = IpAddr> {
    let of_family = move |address: &IpAddr| Family::of(*address) == family;
    addresses.into_iter().filter(of_family)
}
