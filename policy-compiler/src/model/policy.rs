//! NetworkPolicy.

use std::fmt;
use std::net::IpAddr;

use schemars::JsonSchema;

use super::{AddressRanges, Cidr, LabelSelector, Named, PolicyId, PortMatch, Protocol};

/// A direction, as seen from the pod that a policy selects.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// From the selected pod.
    Egress,
    /// To the selected pod.
    Ingress,
}

impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Direction::Egress => "egress",
            Direction::Ingress => "ingress",
        })
    }
}

/// A valid NetworkPolicy with its defaults applied: `policyTypes` has become the presence of the rule lists,
/// and rules of a type that is left out are gone.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct NetworkPolicy {
    /// Namespace and name.
    pub id: PolicyId,
    /// The pods of its namespace that it selects.
    pub selector: LabelSelector,
    /// Present if the policy isolates for ingress; the rules that allow.
    pub ingress: Option<Vec<Rule>>,
    /// Present if the policy isolates for egress; the rules that allow.
    pub egress: Option<Vec<Rule>>,
}

impl Named<PolicyId> for NetworkPolicy {
    fn name(&self) -> &PolicyId {
        &self.id
    }
}

impl NetworkPolicy {
    /// The rules of a direction, if the policy isolates for it.
    pub fn rules(&self, direction: Direction) -> Option<&[Rule]> {
        match direction {
            Direction::Egress => self.egress.as_deref(),
            Direction::Ingress => self.ingress.as_deref(),
        }
    }
}

/// A rule: it allows what matches both its peers and its ports.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Rule {
    /// `from` or `to`.
    pub peers: Peers,
    /// `ports`.
    pub ports: Ports,
}

/// The peers of a rule.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Peers {
    /// Absent or empty: pods, nodes, external addresses, every family.
    Any,
    /// One of these.
    Of(Vec<Peer>),
}

/// The ports of a rule.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Ports {
    /// Absent or empty: every port and every protocol.
    Any,
    /// One of these.
    Of(Vec<PolicyPort>),
}

/// One entry of `ports`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PolicyPort {
    /// The protocol, TCP if it was absent.
    pub protocol: Protocol,
    /// The port.
    pub port: PortMatch,
}

/// One entry of `from` or `to`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Peer {
    /// Pods by their labels and their namespace's.
    Pods {
        /// In which namespaces.
        namespaces: NamespaceScope,
        /// Which pods of them.
        pods: LabelSelector,
    },
    /// Addresses.
    Block(IpBlock),
}

/// The namespaces in which a peer selects pods.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NamespaceScope {
    /// No `namespaceSelector`: the policy's own namespace, by name.
    Own(String),
    /// The namespaces with matching labels.
    Matching(LabelSelector),
}

/// An ipBlock: one network without its excepts. All are of one family, each except inside the network.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IpBlock {
    cidr: Cidr,
    except: Vec<Cidr>,
}

impl IpBlock {
    /// The block, if every except is a strict subset of `cidr`; else the index of the first that is not.
    ///
    /// # Errors
    /// The index of the first except that is not a strict subset.
    pub fn new(cidr: Cidr, except: Vec<Cidr>) -> Result<Self, usize> {
        match except.iter().position(|e| !cidr.strictly_contains(e)) {
            Some(index) => Err(index),
            None => {
                let mut except = except;
                except.sort_unstable();
                except.dedup();
                Ok(Self { cidr, except })
            }
        }
    }

    /// The network.
    pub fn cidr(&self) -> Cidr {
        self.cidr
    }

    /// The excepts, in order, without duplicates.
    pub fn except(&self) -> &[Cidr] {
        &self.except
    }

    /// Whether the address is in the network and in no except.
    pub fn contains(&self, address: IpAddr) -> bool {
        self.cidr.contains(address) && !self.except.iter().any(|except| except.contains(address))
    }

    /// The addresses of the block: the excepts subtracted exactly, the rest merged.
    pub fn ranges(&self) -> AddressRanges {
        AddressRanges::union([&self.cidr]).minus(&AddressRanges::union(&self.except))
    }
}

impl fmt::Display for IpBlock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.cidr.fmt(f)?;
        if !self.except.is_empty() {
            let list: Vec<_> = self.except.iter().map(ToString::to_string).collect();
            write!(f, " except {}", list.join(","))?;
        }
        Ok(())
    }
}

impl fmt::Display for Peer {
    /// `pods NAMESPACES / PODS`, or the block.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Peer::Pods {
                namespaces: NamespaceScope::Own(namespace),
                pods,
            } => write!(f, "pods {pods} in namespace {namespace}"),
            Peer::Pods {
                namespaces: NamespaceScope::Matching(namespaces),
                pods,
            } => write!(f, "pods {pods} in namespaces {namespaces}"),
            Peer::Block(block) => block.fmt(f),
        }
    }
}
