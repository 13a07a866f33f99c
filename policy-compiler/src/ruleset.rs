//! What the kernel is told: tables, sets, verdict maps, chains and rules, all ordered. A plain value that can
//! be compared, rendered ([`crate::render`]) and applied.
//!
//! Copies share what is the same in them, so that a copy is cheap, and so is to compare it with what it was made of.

mod chains;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use imbl::{OrdMap, OrdSet};

pub use self::chains::Chains;
pub(crate) use self::chains::{Name, References};
use crate::model::{AddressRange, Cidr, InterfaceName, PortRange, Protocol};

/// The name of every table of ours.
pub const TABLE: &str = "picket";

/// The tables of a node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ruleset {
    /// Tables, one per family.
    pub tables: Vec<Table>,
}

/// A table named [`TABLE`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// Its family.
    pub family: TableFamily,
    /// Names of the counters that rules count in.
    pub counters: OrdSet<String>,
    /// Sets by name.
    pub sets: OrdMap<String, Arc<Set>>,
    /// Verdict maps by name.
    pub maps: OrdMap<String, Arc<VerdictMap>>,
    /// Base chains, then others by name; names are unique.
    pub chains: Chains,
}

/// The families of tables that we use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TableFamily {
    /// IPv4 and IPv6.
    Inet,
    /// Frames that cross a bridge.
    Bridge,
    /// Frames that arrive on an interface.
    Netdev,
}

/// A set of keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Set {
    /// The parts of a key.
    pub key: Vec<KeyType>,
    /// Whether elements may be ranges.
    pub interval: bool,
    /// What it holds, at most 127 bytes.
    pub comment: String,
    /// Keys, each with as many values as `key` has parts.
    pub elements: OrdSet<Vec<Value>>,
}

/// A map from keys to verdicts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerdictMap {
    /// The parts of a key.
    pub key: Vec<KeyType>,
    /// What it holds, at most 127 bytes.
    pub comment: String,
    /// Keys with their verdict.
    pub elements: OrdMap<Vec<Value>, MapElement>,
}

/// What a verdict map holds for a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MapElement {
    /// The verdict.
    pub verdict: Verdict,
    /// Whose key it is, at most 127 bytes.
    pub comment: String,
}

/// The type of one part of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum KeyType {
    /// An IPv4 address.
    Ipv4Address,
    /// An IPv6 address.
    Ipv6Address,
    /// An IP protocol.
    Protocol,
    /// A transport port.
    Port,
    /// An interface's name.
    Interface,
}

/// A value in a key or in a comparison.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Value {
    /// An address.
    Address(IpAddr),
    /// A network, in comparisons.
    Network(Cidr),
    /// A range of addresses, in interval sets.
    Addresses(AddressRange),
    /// A transport protocol.
    Protocol(Protocol),
    /// A port or a range of ports.
    Ports(PortRange),
    /// A number, for example an ICMPv6 type.
    Number(u32),
    /// A symbol of nft, for example `broadcast`.
    Symbol(&'static str),
    /// An interface's name.
    Interface(String),
}

/// A chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain {
    /// Its name.
    pub name: String,
    /// Where it is hooked in; none for a chain that is only jumped to.
    pub base: Option<Base>,
    /// Its rules in order.
    pub rules: Vec<Rule>,
}

/// Where a base chain is hooked in. Its policy is accept: what no rule of ours names is not ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Base {
    /// The hook.
    pub hook: Hook,
    /// The interface, of [`Hook::Ingress`]. Before Linux 6.16 it has to be there, and the kernel deletes the chain with
    /// it.
    pub device: Option<InterfaceName>,
    /// The priority as a number; lower comes first.
    pub priority: i32,
}

/// A netfilter hook.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    /// Before routing.
    Prerouting,
    /// To this host.
    Input,
    /// Through this host.
    Forward,
    /// From this host.
    Output,
    /// Before it leaves, whoever sent it.
    Postrouting,
    /// From the interface, before anything else; of [`TableFamily::Netdev`].
    Ingress,
}

/// A rule: all matches hold, then the statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Matches in order.
    pub matches: Vec<Match>,
    /// Whether it counts packets.
    pub counter: bool,
    /// The counter of the table that it counts packets in.
    pub named_counter: Option<String>,
    /// Whether it reports packets.
    pub log: Option<Log>,
    /// What happens.
    pub statement: Statement,
    /// For a reader, at most 127 bytes.
    pub comment: Option<String>,
}

/// A report of a packet to whoever listens to an NFLOG group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// The group.
    pub group: u16,
    /// What the report starts with, at most 127 bytes without quotes.
    pub prefix: String,
    /// How many bytes of the packet it has; 0 for all.
    pub snaplen: u32,
}

/// A comparison.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Match {
    /// What is compared; several fields are concatenated.
    pub key: Vec<Field>,
    /// Bits of it that count.
    pub mask: Option<Mask>,
    /// Whether it must differ.
    pub negated: bool,
    /// With what.
    pub operand: Operand,
}

/// Bits of a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mask {
    /// A number.
    Bits(u32),
    /// Named flags.
    Flags(&'static [&'static str]),
}

/// The right side of a comparison.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Operand {
    /// The elements of a named set.
    Set(String),
    /// One of these.
    Values(BTreeSet<Value>),
}

/// A part of a packet, or what is known of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Field {
    /// IPv4 source address.
    Ipv4Source,
    /// IPv4 destination address.
    Ipv4Destination,
    /// IPv6 source address.
    Ipv6Source,
    /// IPv6 destination address.
    Ipv6Destination,
    /// IPv6 hop limit.
    Ipv6HopLimit,
    /// The protocol above IP, past extension headers.
    TransportProtocol,
    /// The destination port, whatever the protocol.
    TransportDestinationPort,
    /// The destination port of a protocol; implies the protocol.
    DestinationPort(Protocol),
    /// TCP flags; implies TCP.
    TcpFlags,
    /// ICMPv6 type; implies ICMPv6.
    Icmpv6Type,
    /// Connection state.
    ConnectionState,
    /// Connection mark.
    ConnectionMark,
    /// Marks of what happened to a connection, for example that its destination was rewritten.
    ConnectionStatus,
    /// Whether the source address is this host's.
    SourceAddressType,
    /// Whether the destination address is a broadcast address of this host's networks.
    DestinationAddressType,
    /// Whether replies to the source would leave by the interface that the packet came in by.
    ReturnRoute,
    /// unicast, broadcast, multicast.
    PacketType,
    /// Name of the interface that the packet came in by.
    InputInterface,
    /// Name of the interface that the packet will leave by.
    OutputInterface,
    /// Group of the interface that the packet came in by.
    InputInterfaceGroup,
    /// Group of the interface that the packet will leave by.
    OutputInterfaceGroup,
    /// EtherType of a frame.
    EtherType,
    /// Sender's IPv4 address of an ARP message.
    ArpSource,
    /// Whether the packet goes the connection's way, `original`, or is a `reply`.
    ConnectionDirection,
    /// IPv4 source address of the connection's first packet, before it was rewritten.
    OriginalIpv4Source,
    /// IPv4 destination address of the connection's first packet, before it was rewritten.
    OriginalIpv4Destination,
    /// IPv6 source address of the connection's first packet, before it was rewritten.
    OriginalIpv6Source,
    /// IPv6 destination address of the connection's first packet, before it was rewritten.
    OriginalIpv6Destination,
}

/// What a rule does.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Statement {
    /// A verdict.
    Verdict(Verdict),
    /// The verdict that a map holds for the key, if it holds one.
    Lookup {
        /// The key's fields.
        key: Vec<Field>,
        /// The map's name.
        map: String,
    },
    /// Drops the packet and tells its sender.
    Reject(Reject),
}

/// What the sender of a packet is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reject {
    /// ICMP or ICMPv6: administratively prohibited.
    AdminProhibited,
    /// TCP: reset. Of a rule that matches TCP only.
    TcpReset,
}

/// A verdict.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// End this base chain; the packet goes on to the next.
    Accept,
    /// Drop the packet for good.
    Drop,
    /// Go on after the jump.
    Return,
    /// Go on in a chain, and come back at its end.
    Jump(String),
    /// Go on in a chain for good.
    Goto(String),
}

impl Table {
    /// An empty table.
    pub fn new(family: TableFamily) -> Self {
        Self {
            family,
            counters: OrdSet::new(),
            sets: OrdMap::new(),
            maps: OrdMap::new(),
            chains: Chains::default(),
        }
    }

    /// Adds a set, in place of another of its name.
    pub fn add_set(&mut self, name: impl Into<String>, set: Set) {
        self.sets.insert(name.into(), Arc::new(set));
    }

    /// Adds a verdict map, in place of another of its name.
    pub fn add_map(&mut self, name: impl Into<String>, map: VerdictMap) {
        self.maps.insert(name.into(), Arc::new(map));
    }

    /// Adds a chain behind the others.
    pub fn add_chain(&mut self, chain: Chain) {
        self.chains.push(Arc::new(chain));
    }
}

impl Match {
    /// The field is one of the values.
    pub fn is(field: Field, values: impl IntoIterator<Item = Value>) -> Self {
        Self {
            key: vec![field],
            mask: None,
            negated: false,
            operand: Operand::Values(values.into_iter().collect()),
        }
    }

    /// The concatenated fields are in the set.
    pub fn in_set(key: impl IntoIterator<Item = Field>, set: impl Into<String>) -> Self {
        Self {
            key: key.into_iter().collect(),
            mask: None,
            negated: false,
            operand: Operand::Set(set.into()),
        }
    }

    /// The opposite.
    #[must_use]
    pub fn negated(mut self) -> Self {
        self.negated = !self.negated;
        self
    }

    /// Only these bits of the field.
    #[must_use]
    pub fn masked(mut self, mask: Mask) -> Self {
        self.mask = Some(mask);
        self
    }
}

impl Rule {
    /// A rule that gives a verdict.
    pub fn verdict(matches: impl IntoIterator<Item = Match>, verdict: Verdict) -> Self {
        Self {
            matches: matches.into_iter().collect(),
            counter: false,
            named_counter: None,
            log: None,
            statement: Statement::Verdict(verdict),
            comment: None,
        }
    }

    /// A rule that looks its verdict up.
    pub fn lookup(key: impl IntoIterator<Item = Field>, map: impl Into<String>) -> Self {
        Self {
            matches: Vec::new(),
            counter: false,
            named_counter: None,
            log: None,
            statement: Statement::Lookup {
                key: key.into_iter().collect(),
                map: map.into(),
            },
            comment: None,
        }
    }

    /// The rule with a comment.
    #[must_use]
    pub fn comment(mut self, comment: impl Into<String>) -> Self {
        self.comment = Some(comment.into());
        self
    }

    /// The rule with a report.
    #[must_use]
    pub fn logged(mut self, log: Log) -> Self {
        self.log = Some(log);
        self
    }

    /// The rule with a packet counter.
    #[must_use]
    pub fn counted(mut self) -> Self {
        self.counter = true;
        self
    }

    /// The rule with a counter of the table.
    #[must_use]
    pub fn counted_in(mut self, counter: impl Into<String>) -> Self {
        self.named_counter = Some(counter.into());
        self
    }
}
