//! Which entries are asked for.
//!
//! The kernel leaves out what it can, so that its answer is smaller; every entry is compared here again, since kernels
//! can less than their messages say:
//! - before 5.8 none filters by tuples, and a filter that a kernel does not know it ignores;
//! - by ports it compares TCP and UDP only;
//! - by an IPv6 address it leaves out those that have it (`!ipv6_addr_cmp` in `ctnetlink_filter_match_tuple`, to 6.18
//!   at least), and so is never asked to.

use std::net::IpAddr;

use policy_compiler::model::Family;

use super::constants::{entry, family, filter, proto, tuple};
use super::encode::{family_number, write_destination, write_source};
use super::entry::{Entry, Status};
use super::tuple::Tuple;
use crate::netlink::attribute::Writer;

/// Which entries: those of which all that is given here is true. The default is every entry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Of this family.
    pub family: Option<Family>,
    /// Of the original direction.
    pub original: Ends,
    /// Of the reply direction.
    pub reply: Ends,
    /// The number of the zone, of whichever direction; 0 is the default one.
    pub zone: Option<u16>,
    /// Bits of the mark.
    pub mark: Option<Masked>,
    /// Bits of the status.
    pub status: Option<Masked>,
}

/// What is asked of one direction of an entry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ends {
    /// The source address.
    pub source: Option<IpAddr>,
    /// The destination address.
    pub destination: Option<IpAddr>,
    /// The protocol, `IPPROTO_*`.
    pub protocol: Option<u8>,
    /// The source port.
    pub source_port: Option<u16>,
    /// The destination port.
    pub destination_port: Option<u16>,
}

/// Some bits of a number, and what they are to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Masked {
    value: u32,
    mask: u32,
}

impl Masked {
    /// The bits of `mask` are as in `value`; its other bits do not count.
    pub fn new(value: u32, mask: u32) -> Self {
        Self {
            value: value & mask,
            mask,
        }
    }

    /// All of these bits are set.
    pub fn set(bits: u32) -> Self {
        Self::new(bits, bits)
    }

    /// All of these bits are clear.
    pub fn clear(bits: u32) -> Self {
        Self::new(0, bits)
    }

    /// Whether it is so in this number.
    pub fn matches(self, number: u32) -> bool {
        number & self.mask == self.value
    }
}

impl From<Status> for Masked {
    /// All of the status' bits are set.
    fn from(status: Status) -> Self {
        Self::set(status.0)
    }
}

impl Filter {
    /// Whether it is an entry that is asked for.
    pub fn matches(&self, entry: &Entry) -> bool {
        let of_family = Family::of(entry.original.source);
        let masked = |asked: Option<Masked>, is| asked.is_none_or(|asked| asked.matches(is));
        self.family.is_none_or(|asked| asked == of_family)
            && self.original.matches(&entry.original)
            && self.reply.matches(&entry.reply)
            && self.zone.is_none_or(|asked| asked == entry.zone.id())
            && masked(self.mark, entry.mark)
            && masked(self.status, entry.status.0)
    }

    /// `NFPROTO_*`, if it is of one family only.
    pub(super) fn family_number(&self) -> u8 {
        let given = self.family.map(|family| match family {
            Family::Ipv4 => family::IPV4,
            Family::Ipv6 => family::IPV6,
        });
        let Self {
            original, reply, ..
        } = self;
        let mut addresses = [
            original.source,
            original.destination,
            reply.source,
            reply.destination,
        ]
        .into_iter()
        .flatten();
        given
            .or_else(|| addresses.next().map(family_number))
            .unwrap_or(family::UNSPEC)
    }

    /// Appends what the kernel can leave out by itself.
    pub(super) fn write(&self, out: &mut Writer) {
        if let Some(Masked { value, mask }) = self.mark {
            out.put_u32(entry::MARK, value);
            out.put_u32(entry::MARK_MASK, mask);
        }
        // It refuses a mask of none.
        if let Some(Masked { value, mask }) = self.status.filter(|asked| asked.mask != 0) {
            out.put_u32(entry::STATUS, value);
            out.put_u32(entry::STATUS_MASK, mask);
        }
        if let Some(zone) = self.zone {
            out.put(entry::ZONE, &zone.to_be_bytes());
        }
        let number = self.family_number();
        // It refuses tuples of no family.
        if number == family::UNSPEC {
            return;
        }
        let (original, reply) = (self.original.told(number), self.reply.told(number));
        if original.flags() | reply.flags() == 0 {
            return;
        }
        original.write(out, entry::TUPLE_ORIG);
        reply.write(out, entry::TUPLE_REPLY);
        out.nested(entry::FILTER, |out| {
            // In the machine's order, unlike everything else.
            out.put(filter::ORIG_FLAGS, &original.flags().to_ne_bytes());
            out.put(filter::REPLY_FLAGS, &reply.flags().to_ne_bytes());
        });
    }
}

impl Ends {
    fn matches(&self, tuple: &Tuple) -> bool {
        let ports = tuple.transport.ports();
        let protocol = tuple.transport.protocol();
        let port = |asked: Option<u16>, is: Option<u16>| asked.is_none() || asked == is;
        self.source.is_none_or(|asked| asked == tuple.source)
            && self
                .destination
                .is_none_or(|asked| asked == tuple.destination)
            && self.protocol.is_none_or(|asked| asked == protocol)
            && port(self.source_port, ports.map(|ports| ports.source))
            && port(self.destination_port, ports.map(|ports| ports.destination))
    }

    /// What of it the kernel is told, among entries of a family.
    fn told(&self, number: u8) -> Self {
        let address = |address: Option<IpAddr>| {
            address.filter(|address| number == family::IPV4 && address.is_ipv4())
        };
        // Ports without a protocol, or of one that has none, it refuses.
        let has_ports = self.protocol.is_some_and(|protocol| {
            use super::constants::protocol::{SCTP, TCP, UDP};
            [TCP, UDP, SCTP].contains(&protocol)
        });
        Self {
            source: address(self.source),
            destination: address(self.destination),
            protocol: self.protocol,
            source_port: self.source_port.filter(|_| has_ports),
            destination_port: self.destination_port.filter(|_| has_ports),
        }
    }

    fn flags(&self) -> u32 {
        let flag = |asked: bool, flag| if asked { flag } else { 0 };
        flag(self.source.is_some(), filter::F_IP_SRC)
            | flag(self.destination.is_some(), filter::F_IP_DST)
            | flag(self.protocol.is_some(), filter::F_PROTO_NUM)
            | flag(self.source_port.is_some(), filter::F_PROTO_SRC_PORT)
            | flag(self.destination_port.is_some(), filter::F_PROTO_DST_PORT)
    }

    fn write(&self, out: &mut Writer, kind: u16) {
        if self.flags() == 0 {
            return;
        }
        out.nested(kind, |out| {
            if self.source.is_some() || self.destination.is_some() {
                out.nested(tuple::IP, |out| {
                    if let Some(address) = self.source {
                        write_source(out, address);
                    }
                    if let Some(address) = self.destination {
                        write_destination(out, address);
                    }
                });
            }
            if let Some(protocol) = self.protocol {
                out.nested(tuple::PROTO, |out| {
                    out.put(proto::NUM, &[protocol]);
                    if let Some(port) = self.source_port {
                        out.put(proto::SRC_PORT, &port.to_be_bytes());
                    }
                    if let Some(port) = self.destination_port {
                        out.put(proto::DST_PORT, &port.to_be_bytes());
                    }
                });
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use testbed::Namespace;

    use super::*;
    use crate::conntrack::Conntrack;
    use crate::conntrack::constants::msg;
    use crate::conntrack::samples::{connections, create};
    use crate::netlink::message::{CONNTRACK, DUMP, Header};
    use crate::netlink::request::Ended;
    use crate::netlink::socket::{NETLINK_NETFILTER, Socket};

    /// How many entries the kernel sends.
    fn sent(socket: &mut Socket, filter: &Filter) -> usize {
        let header = Header {
            kind: CONNTRACK << 8 | msg::GET,
            flags: DUMP,
            sequence: 0,
            family: filter.family_number(),
            resource: 0,
        };
        let mut count = 0;
        let count_one = |_, _, _: &[u8]| {
            count += 1;
            Ok(())
        };
        let ended = socket.request(header, |out| filter.write(out), count_one);
        assert_eq!(ended.expect("answered"), Ended::Whole);
        count
    }

    #[test]
    fn the_kernel_leaves_out_what_it_can() {
        let namespace = Namespace::new().expect("these tests need root");
        let open = || Socket::open(NETLINK_NETFILTER, 1 << 20).expect("a socket");
        let mut socket = namespace.run(open).expect("entered");
        for connection in connections() {
            create(&mut socket, &connection);
        }
        let mut conntrack = Conntrack { socket };
        let all = Filter::default();
        let original = |original| Filter { original, ..all };
        let address = |text: &str| text.parse::<IpAddr>().ok();
        let of_v4 = Ends {
            source: address("10.0.0.2"),
            destination: address("10.0.0.1"),
            protocol: Some(17),
            source_port: Some(4000),
            destination_port: Some(80),
        };
        let of_v6 = Ends {
            source: address("fd00::2"),
            ..of_v4
        };
        let none = Ends::default();
        let with_port = |protocol, port| Filter {
            family: Some(Family::Ipv4),
            ..original(Ends {
                protocol: Some(protocol),
                destination_port: Some(port),
                ..none
            })
        };
        // Each with what it asks for, and what the kernel sends besides.
        for (filter, wanted, more) in [
            (all, 56, 0),
            (original(of_v4), 1, 0),
            (
                original(Ends {
                    source: address("10.0.0.2"),
                    ..none
                }),
                7,
                0,
            ),
            (
                original(Ends {
                    destination: address("10.0.0.2"),
                    ..none
                }),
                0,
                0,
            ),
            (
                Filter {
                    reply: Ends {
                        destination: address("10.0.0.3"),
                        ..none
                    },
                    ..all
                },
                7,
                0,
            ),
            (with_port(17, 80), 4, 0),
            (with_port(6, 81), 0, 0),
            (
                Filter {
                    family: Some(Family::Ipv6),
                    ..all
                },
                28,
                0,
            ),
            (
                Filter {
                    zone: Some(6),
                    ..all
                },
                14,
                0,
            ),
            (
                Filter {
                    mark: Some(Masked::set(0x10_0000)),
                    ..all
                },
                56,
                0,
            ),
            (
                Filter {
                    mark: Some(Masked::clear(0x10_0000)),
                    ..all
                },
                0,
                0,
            ),
            (
                Filter {
                    status: Some(Status::SEEN_REPLY.into()),
                    ..all
                },
                56,
                0,
            ),
            (
                Filter {
                    status: Some(Status::ASSURED.into()),
                    ..all
                },
                0,
                0,
            ),
            // It compares neither ports of SCTP nor, in its own way, addresses of IPv6.
            (with_port(132, 81), 0, 4),
            (
                original(Ends {
                    destination: None,
                    ..of_v6
                }),
                1,
                3,
            ),
            // Without a family it is told nothing of tuples.
            (
                original(Ends {
                    protocol: Some(17),
                    ..none
                }),
                8,
                48,
            ),
        ] {
            let mut found = 0;
            conntrack.dump(&filter, |_| found += 1).expect("dumped");
            assert_eq!(found, wanted, "{filter:?}");
            assert_eq!(
                sent(&mut conntrack.socket, &filter),
                wanted + more,
                "{filter:?}"
            );
        }
    }
}
