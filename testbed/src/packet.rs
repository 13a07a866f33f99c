//! Hand-made packets, with right lengths and checksums around whatever the caller wants to be wrong.

use std::net::{Ipv4Addr, Ipv6Addr};

use crate::mac::Mac;

/// `if_ether.h`.
const ETHERTYPE_VLAN: u16 = 0x8100;
const ETHERTYPE_IPV4: u16 = 0x0800;
const ETHERTYPE_IPV6: u16 = 0x86dd;
/// The next header that is a fragment header (RFC 8200 section 4.5).
const IPV6_FRAGMENT: u8 = 44;
/// IP protocol numbers.
const ICMP: u8 = 1;
const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMPV6: u8 = 58;

/// The head of a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ethernet {
    /// Who says it.
    pub source: Mac,
    /// To whom.
    pub destination: Mac,
    /// The tag control information of an 802.1Q tag: the VLAN, below the priority bits. 0 is a tag too.
    pub vlan: Option<u16>,
}

/// The head of a packet. The addresses need not be those of sender and receiver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ip {
    /// IPv4.
    V4 {
        /// The source address.
        source: Ipv4Addr,
        /// The destination address.
        destination: Ipv4Addr,
        /// How many hops it may take, the destination included.
        hop_limit: u8,
    },
    /// IPv6.
    V6 {
        /// The source address.
        source: Ipv6Addr,
        /// The destination address.
        destination: Ipv6Addr,
        /// How many hops it may take, the destination included.
        hop_limit: u8,
    },
}

/// [`Transport::Tcp`]'s flags: no more data.
pub const FIN: u8 = 0x01;
/// [`Transport::Tcp`]'s flags: opens a connection.
pub const SYN: u8 = 0x02;
/// [`Transport::Tcp`]'s flags: ends a connection at once.
pub const RST: u8 = 0x04;
/// [`Transport::Tcp`]'s flags: the acknowledgment number counts.
pub const ACK: u8 = 0x10;

/// What a packet carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Transport {
    /// A datagram.
    Udp {
        /// The sender's port.
        source_port: u16,
        /// The receiver's port.
        destination_port: u16,
        /// What it carries.
        payload: Vec<u8>,
    },
    /// A segment without options.
    Tcp {
        /// The sender's port.
        source_port: u16,
        /// The receiver's port.
        destination_port: u16,
        /// The number of its first byte.
        sequence: u32,
        /// The next byte that is expected.
        acknowledgment: u32,
        /// [`SYN`] and its like, added up.
        flags: u8,
        /// What it carries.
        payload: Vec<u8>,
    },
    /// An ICMP message, or an ICMPv6 message if the addresses are IPv6.
    Icmp {
        /// The type.
        kind: u8,
        /// The code.
        code: u8,
        /// Everything behind the checksum.
        body: Vec<u8>,
    },
    /// Anything else.
    Other {
        /// The IP protocol number.
        protocol: u8,
        /// Everything behind the IP header.
        bytes: Vec<u8>,
    },
}

/// A frame with one whole packet.
pub fn frame(ethernet: &Ethernet, ip: &Ip, transport: &Transport) -> Vec<u8> {
    [
        ethernet.header(ip),
        ip.packet(transport.protocol(ip), None, &transport.message(ip)),
    ]
    .concat()
}

/// The frames of a packet that is cut in two, behind `cut` bytes (a multiple of 8) of what the IP header carries.
///
/// `identification` tells the packet from others with the same addresses.
pub fn fragments(
    ethernet: &Ethernet,
    ip: &Ip,
    transport: &Transport,
    cut: u16,
    identification: u16,
) -> [Vec<u8>; 2] {
    let message = transport.message(ip);
    let (first, second) = message.split_at(usize::from(cut).min(message.len()));
    [(first, 0, true), (second, cut / 8, false)].map(|(part, offset, more)| {
        let fragment = Fragment {
            identification,
            offset,
            more,
        };
        [
            ethernet.header(ip),
            ip.packet(transport.protocol(ip), Some(fragment), part),
        ]
        .concat()
    })
}

/// A piece of a packet.
struct Fragment {
    identification: u16,
    /// In units of 8 bytes.
    offset: u16,
    more: bool,
}

impl Ethernet {
    fn header(&self, ip: &Ip) -> Vec<u8> {
        let mut bytes = [self.destination.0, self.source.0].concat();
        if let Some(tag) = self.vlan {
            bytes.extend(ETHERTYPE_VLAN.to_be_bytes());
            bytes.extend(tag.to_be_bytes());
        }
        let ethertype = if matches!(ip, Ip::V4 { .. }) {
            ETHERTYPE_IPV4
        } else {
            ETHERTYPE_IPV6
        };
        bytes.extend(ethertype.to_be_bytes());
        bytes
    }
}

impl Ip {
    fn packet(&self, protocol: u8, fragment: Option<Fragment>, carried: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        match self {
            Ip::V4 {
                source,
                destination,
                hop_limit,
            } => {
                let Fragment {
                    identification,
                    offset,
                    more,
                } = fragment.unwrap_or(Fragment {
                    identification: 0,
                    offset: 0,
                    more: false,
                });
                bytes.extend([0x45, 0]);
                bytes.extend((20 + carried.len() as u16).to_be_bytes());
                bytes.extend(identification.to_be_bytes());
                bytes.extend((u16::from(more) << 13 | offset).to_be_bytes());
                bytes.extend([*hop_limit, protocol, 0, 0]);
                bytes.extend(source.octets());
                bytes.extend(destination.octets());
                let sum = checksum(&[&bytes]).to_be_bytes();
                bytes[10..12].copy_from_slice(&sum);
            }
            Ip::V6 {
                source,
                destination,
                hop_limit,
            } => {
                let extension = fragment.map_or(
                    Vec::new(),
                    |Fragment {
                         identification,
                         offset,
                         more,
                     }| {
                        let mut header = vec![protocol, 0];
                        header.extend((offset << 3 | u16::from(more)).to_be_bytes());
                        header.extend(u32::from(identification).to_be_bytes());
                        header
                    },
                );
                let next = if extension.is_empty() {
                    protocol
                } else {
                    IPV6_FRAGMENT
                };
                bytes.extend([0x60, 0, 0, 0]);
                bytes.extend(((extension.len() + carried.len()) as u16).to_be_bytes());
                bytes.extend([next, *hop_limit]);
                bytes.extend(source.octets());
                bytes.extend(destination.octets());
                bytes.extend(extension);
            }
        }
        bytes.extend(carried);
        bytes
    }

    /// What the checksum of the transport covers besides (RFC 9293 section 3.1, RFC 8200 section 8.1).
    fn pseudo_header(&self, protocol: u8, length: usize) -> Vec<u8> {
        let addresses = match self {
            Ip::V4 {
                source,
                destination,
                ..
            } => [source.octets(), destination.octets()].concat(),
            Ip::V6 {
                source,
                destination,
                ..
            } => [source.octets(), destination.octets()].concat(),
        };
        // The families order these differently, which a sum does not notice.
        [
            &addresses[..],
            &(length as u32).to_be_bytes(),
            &[0, protocol],
        ]
        .concat()
    }
}

impl Transport {
    fn protocol(&self, ip: &Ip) -> u8 {
        match (self, ip) {
            (Transport::Udp { .. }, _) => UDP,
            (Transport::Tcp { .. }, _) => TCP,
            (Transport::Icmp { .. }, Ip::V4 { .. }) => ICMP,
            (Transport::Icmp { .. }, Ip::V6 { .. }) => ICMPV6,
            (Transport::Other { protocol, .. }, _) => *protocol,
        }
    }

    /// Header and payload.
    fn message(&self, ip: &Ip) -> Vec<u8> {
        let mut bytes = Vec::new();
        let checksum_at = match self {
            Transport::Udp {
                source_port,
                destination_port,
                payload,
            } => {
                bytes.extend(source_port.to_be_bytes());
                bytes.extend(destination_port.to_be_bytes());
                bytes.extend((8 + payload.len() as u16).to_be_bytes());
                bytes.extend([0; 2]);
                bytes.extend(payload);
                6
            }
            Transport::Tcp {
                source_port,
                destination_port,
                sequence,
                acknowledgment,
                flags,
                payload,
            } => {
                bytes.extend(source_port.to_be_bytes());
                bytes.extend(destination_port.to_be_bytes());
                bytes.extend(sequence.to_be_bytes());
                bytes.extend(acknowledgment.to_be_bytes());
                // Five words of header; a window of 64 kB; no checksum yet; nothing urgent.
                bytes.extend([0x50, *flags, 0xff, 0xff, 0, 0, 0, 0]);
                bytes.extend(payload);
                16
            }
            Transport::Icmp { kind, code, body } => {
                bytes.extend([*kind, *code, 0, 0]);
                bytes.extend(body);
                2
            }
            Transport::Other { bytes, .. } => return bytes.clone(),
        };
        let pseudo = match self.protocol(ip) {
            ICMP => Vec::new(),
            protocol => ip.pseudo_header(protocol, bytes.len()),
        };
        let sum = match checksum(&[&pseudo, &bytes]) {
            // 0 would say that there is no checksum (RFC 768).
            0 if self.protocol(ip) == UDP => 0xffff,
            sum => sum,
        };
        bytes[checksum_at..checksum_at + 2].copy_from_slice(&sum.to_be_bytes());
        bytes
    }
}

/// The Internet checksum (RFC 1071) of these parts in a row; each but the last has an even length.
pub(crate) fn checksum(parts: &[&[u8]]) -> u16 {
    let word = |pair: &[u8]| u32::from(pair[0]) << 8 | pair.get(1).map_or(0, |&low| u32::from(low));
    let mut sum: u32 = parts.iter().flat_map(|part| part.chunks(2)).map(word).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}
