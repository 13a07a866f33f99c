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
mod guards;
mod sets;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

pub use class::Merging;

use crate::evaluate::NodeEgress;
use crate::ir::NodeIr;
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
    /// The interfaces of pods on the host, by pod. Where one is not known, its pod can forge its source.
    pub attachments: BTreeMap<String, Attachment>,
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

/// How a pod is attached to the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attachment {
    /// The host's end of the pod's veth pair.
    pub interface: InterfaceName,
    /// Whether it is a port of a bridge.
    pub bridged: bool,
}

/// Lowers a node's rules. The same rules and options give the same value.
pub fn lower(ir: &NodeIr, options: &Options) -> Ruleset {
    let mut inet = Table::new(TableFamily::Inet);
    base::add(&mut inet, ir, options);
    guards::add(&mut inet, ir, options);
    class::add(&mut inet, ir, options.merging);
    sets::add(&mut inet, ir);
    let mut tables = vec![inet];
    tables.extend(bridge::table(ir, options));
    Ruleset { tables }
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
