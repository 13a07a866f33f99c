//! Where packets of one direction come from and go to.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use super::constants::protocol;

/// Where packets of one direction come from and go to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tuple {
    /// The source address.
    pub source: IpAddr,
    /// The destination address, of the same family.
    pub destination: IpAddr,
    /// The protocol, and what tells its connections apart.
    pub transport: Transport,
}

/// A protocol, and what tells its connections apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Transport {
    /// TCP.
    Tcp(Ports),
    /// UDP.
    Udp(Ports),
    /// SCTP.
    Sctp(Ports),
    /// An ICMP query, as a ping is.
    Icmp(Icmp),
    /// An ICMPv6 query.
    Icmpv6(Icmp),
    /// Any other.
    Other {
        /// Its number, `IPPROTO_*`.
        protocol: u8,
        /// What the kernel keeps in the place of ports for those of which it knows more than their number (UDP-Lite,
        /// DCCP, GRE). Without it their entries would not be found again.
        ports: Option<Ports>,
    },
}

/// Ports, as one direction has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ports {
    /// The sender's.
    pub source: u16,
    /// The receiver's.
    pub destination: u16,
}

/// What tells queries apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Icmp {
    /// The type; of a query in the original direction, of its answer in the reply direction.
    pub kind: u8,
    /// The code.
    pub code: u8,
    /// The identifier.
    pub id: u16,
}

impl Transport {
    /// The protocol's number, `IPPROTO_*`.
    pub fn protocol(self) -> u8 {
        match self {
            Self::Tcp(_) => protocol::TCP,
            Self::Udp(_) => protocol::UDP,
            Self::Sctp(_) => protocol::SCTP,
            Self::Icmp(_) => protocol::ICMP,
            Self::Icmpv6(_) => protocol::ICMPV6,
            Self::Other { protocol, .. } => protocol,
        }
    }

    /// Its ports, if it has such.
    pub fn ports(self) -> Option<Ports> {
        match self {
            Self::Tcp(ports) | Self::Udp(ports) | Self::Sctp(ports) => Some(ports),
            Self::Icmp(_) | Self::Icmpv6(_) => None,
            Self::Other { ports, .. } => ports,
        }
    }

    /// The same protocol with other ports, if it has such.
    pub(super) fn with_ports(self, new: Ports) -> Self {
        match self {
            Self::Tcp(_) => Self::Tcp(new),
            Self::Udp(_) => Self::Udp(new),
            Self::Sctp(_) => Self::Sctp(new),
            Self::Icmp(_) | Self::Icmpv6(_) => self,
            Self::Other { protocol, ports } => Self::Other {
                protocol,
                ports: ports.map(|_| new),
            },
        }
    }
}

impl fmt::Display for Tuple {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.transport {
            Transport::Tcp(_) => f.write_str("TCP ")?,
            Transport::Udp(_) => f.write_str("UDP ")?,
            Transport::Sctp(_) => f.write_str("SCTP ")?,
            Transport::Icmp(_) => f.write_str("ICMP ")?,
            Transport::Icmpv6(_) => f.write_str("ICMPv6 ")?,
            Transport::Other { protocol, .. } => write!(f, "protocol {protocol} ")?,
        }
        match self.transport {
            Transport::Icmp(Icmp { kind, code, id })
            | Transport::Icmpv6(Icmp { kind, code, id }) => {
                let (source, destination) = (self.source, self.destination);
                write!(
                    f,
                    "{source} -> {destination} type {kind} code {code} id {id}"
                )
            }
            transport => match transport.ports() {
                Some(ports) => {
                    let source = SocketAddr::new(self.source, ports.source);
                    let destination = SocketAddr::new(self.destination, ports.destination);
                    write!(f, "{source} -> {destination}")
                }
                None => write!(f, "{} -> {}", self.source, self.destination),
            },
        }
    }
}
