//! A packet, and what an expression reads of it.

use std::net::{IpAddr, Ipv4Addr};

use policy_compiler::model::Protocol;
use policy_compiler::ruleset::{Field, TableFamily};

use super::Stop;
use super::value::{address, interface, protocol};

/// What a frame carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Content {
    /// IPv4 or IPv6, by the addresses' family.
    Ip {
        source: IpAddr,
        destination: IpAddr,
        hop_limit: u8,
        transport: Header,
    },
    /// ARP, with its sender's address.
    Arp(Ipv4Addr),
    /// Another EtherType.
    Other(u16),
}

/// What follows the IP header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Header {
    /// TCP with its flags, UDP or SCTP.
    Port {
        protocol: Protocol,
        port: u16,
        flags: u8,
    },
    /// ICMP or ICMPv6, by the addresses' family. Where a port would be it has its checksum.
    Icmp { kind: u8, checksum: u16 },
    /// Another protocol's number, and what it has where a port would be.
    Other { number: u8, port: u16 },
}

/// What connection tracking says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    New,
    Established,
    Related,
    Invalid,
    Untracked,
}

#[derive(Clone, Debug)]
pub(crate) struct Packet {
    pub(crate) content: Content,
    /// Whether the frame has a VLAN tag in front of its content.
    pub(crate) tagged: bool,
    pub(crate) state: State,
    pub(crate) mark: u32,
    /// Whether the destination was rewritten.
    pub(crate) dnat: bool,
    /// Whether it goes the other way than the connection's first packet.
    pub(crate) reply: bool,
    /// The addresses of the connection's first packet, before they were rewritten.
    pub(crate) original: Option<[IpAddr; 2]>,
    /// Whether the source address is this host's.
    pub(crate) from_here: bool,
    /// unicast 0, broadcast 1, multicast 2: of the frame.
    pub(crate) kind: u8,
    /// The routing table's type of the destination: unicast 1, local 2, broadcast 3, multicast 5.
    pub(crate) destination_type: u8,
    /// Whether a reply would leave by the interface that the packet came in by.
    pub(crate) return_route: bool,
}

pub(crate) const SYN: u8 = 2;
pub(crate) const RST: u8 = 4;
pub(crate) const ACK: u8 = 16;

impl Packet {
    /// The first packet of a connection: unicast, and nothing special.
    pub(crate) fn new(content: Content) -> Self {
        Self {
            content,
            tagged: false,
            state: State::New,
            mark: 0,
            dnat: false,
            reply: false,
            original: None,
            from_here: false,
            kind: 0,
            destination_type: 1,
            return_route: true,
        }
    }

    pub(super) fn is_plain_ip(&self) -> bool {
        !self.tagged && self.ip().is_some()
    }

    fn ip(&self) -> Option<(IpAddr, IpAddr, u8, Header)> {
        match self.content {
            Content::Ip {
                source,
                destination,
                hop_limit,
                transport,
            } => Some((source, destination, hop_limit, transport)),
            Content::Arp(_) | Content::Other(_) => None,
        }
    }

    fn is_tracked(&self) -> bool {
        !matches!(self.state, State::Invalid | State::Untracked)
    }

    /// The number of the protocol above IP.
    fn protocol(&self) -> Option<u128> {
        let (source, .., transport) = self.ip()?;
        Some(match transport {
            Header::Port { protocol: of, .. } => protocol(of),
            Header::Icmp { .. } if source.is_ipv4() => 1,
            Header::Icmp { .. } => 58,
            Header::Other { number, .. } => number.into(),
        })
    }

    /// What the field holds; none if the packet has no such field, or the hook does not know it.
    pub(crate) fn field(&self, field: Field, stop: &Stop) -> Option<u128> {
        let four = |value: IpAddr| value.is_ipv4().then(|| address(value));
        let six = |value: IpAddr| value.is_ipv6().then(|| address(value));
        let ip = self.ip();
        let original = || {
            let ip = ip.map(|(source, destination, ..)| match self.reply {
                true => [destination, source],
                false => [source, destination],
            });
            let known = self.is_tracked().then_some(());
            known.and(self.original.or(ip))
        };
        match field {
            Field::Ipv4Source => four(ip?.0),
            Field::Ipv4Destination => four(ip?.1),
            Field::Ipv6Source => six(ip?.0),
            Field::Ipv6Destination => six(ip?.1),
            Field::Ipv6HopLimit => six(ip?.0).map(|_| ip.map(|ip| ip.2.into()))?,
            Field::TransportProtocol => self.protocol(),
            Field::TransportDestinationPort => Some(match ip?.3 {
                Header::Port { port, .. } | Header::Other { port, .. } => port.into(),
                Header::Icmp { checksum, .. } => checksum.into(),
            }),
            Field::DestinationPort(of) => match ip?.3 {
                Header::Port { protocol, port, .. } if protocol == of => Some(port.into()),
                _ => None,
            },
            Field::TcpFlags => match ip?.3 {
                Header::Port {
                    protocol: Protocol::Tcp,
                    flags,
                    ..
                } => Some(flags.into()),
                _ => None,
            },
            Field::Icmpv6Type => match ip?.3 {
                Header::Icmp { kind, .. } if ip?.0.is_ipv6() => Some(kind.into()),
                _ => None,
            },
            Field::ConnectionState => Some(match self.state {
                State::Invalid => 1,
                State::Established => 2,
                State::Related => 4,
                State::New => 8,
                State::Untracked => 64,
            }),
            Field::ConnectionMark => self.is_tracked().then(|| self.mark.into()),
            Field::ConnectionStatus => self.is_tracked().then_some(if self.dnat { 32 } else { 0 }),
            Field::ConnectionDirection => self.is_tracked().then(|| self.reply.into()),
            Field::OriginalIpv4Source => four(original()?[0]),
            Field::OriginalIpv4Destination => four(original()?[1]),
            Field::OriginalIpv6Source => six(original()?[0]),
            Field::OriginalIpv6Destination => six(original()?[1]),
            Field::SourceAddressType => ip.map(|_| if self.from_here { 2 } else { 1 }),
            Field::DestinationAddressType => ip.map(|_| self.destination_type.into()),
            Field::ReturnRoute => ip.map(|_| self.return_route.into()),
            Field::PacketType => Some(self.kind.into()),
            Field::InputInterface => Some(interface(stop.input.as_deref().unwrap_or_default())),
            Field::OutputInterface => Some(interface(stop.output.as_deref().unwrap_or_default())),
            // Of no ruleset that is compiled.
            Field::InputInterfaceGroup | Field::OutputInterfaceGroup => Some(0),
            Field::EtherType => {
                assert_ne!(stop.family, TableFamily::Inet, "no frame is seen there");
                Some(match (&self.content, ip) {
                    _ if self.tagged => 0x8100,
                    (Content::Arp(_), _) => 0x0806,
                    (Content::Other(kind), _) => (*kind).into(),
                    (Content::Ip { source, .. }, _) if source.is_ipv4() => 0x0800,
                    (Content::Ip { .. }, _) => 0x86dd,
                })
            }
            Field::ArpSource => match self.content {
                Content::Arp(sender) => Some(address(sender.into())),
                _ => None,
            },
        }
    }
}
