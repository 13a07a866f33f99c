//! What is known of a tracked connection.

use std::fmt;

use super::tuple::{Ports, Tuple};

/// One tracked connection. Where its addresses are rewritten, its tuples differ by more than their direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Entry {
    /// What its first packet was when it came, before any rewriting.
    pub original: Tuple,
    /// What an answer is when it comes, before any rewriting.
    pub reply: Tuple,
    /// Where it is unique.
    pub zone: Zone,
    /// How far it has come.
    pub status: Status,
    /// Its mark (`ct mark`).
    pub mark: u32,
    /// The kernel's name for it: a later entry with the same tuples has another.
    pub id: u32,
    /// Seconds until it is forgotten if no packet comes; none where the kernel does not say.
    pub timeout: Option<u32>,
}

impl Entry {
    /// What finds the entry again.
    pub fn connection(&self) -> Connection {
        Connection {
            original: self.original,
            zone: self.zone,
        }
    }

    /// What its first packet was in the forward hook, where policy judges it: after DNAT, so to where answers come
    /// from; before SNAT, so from where it came.
    pub fn forwarded(&self) -> Tuple {
        let transport = self.original.transport;
        // What has no ports says the same in all hooks, but for the id of an ICMP query, which nobody judges.
        let transport = match (transport.ports(), self.reply.transport.ports()) {
            (Some(original), Some(reply)) => transport.with_ports(Ports {
                source: original.source,
                destination: reply.source,
            }),
            _ => transport,
        };
        Tuple {
            source: self.original.source,
            destination: self.reply.source,
            transport,
        }
    }
}

/// What names an entry: no two have the same original tuple in the same zone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Connection {
    /// What its first packet was when it came.
    pub original: Tuple,
    /// Where it is unique.
    pub zone: Zone,
}

impl fmt::Display for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.original.fmt(f)?;
        match self.zone.id() {
            0 => Ok(()),
            zone => write!(f, " in zone {zone}"),
        }
    }
}

/// The conntrack zone of each direction; 0 is the default one. They are the same, or one of them is 0 (`ct original
/// zone set`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Zone {
    /// Of the original direction.
    pub original: u16,
    /// Of the reply direction.
    pub reply: u16,
}

impl Zone {
    /// The same zone in both directions.
    pub fn both(zone: u16) -> Self {
        Self {
            original: zone,
            reply: zone,
        }
    }

    /// The zone's number, whichever direction it is of.
    pub fn id(self) -> u16 {
        if self.original == 0 {
            self.reply
        } else {
            self.original
        }
    }
}

/// `enum ip_conntrack_status` of `linux/netfilter/nf_conntrack_common.h`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Status(pub u32);

impl Status {
    /// `IPS_EXPECTED`: another connection announced it, as FTP does; its first packet was `ct state related`.
    pub const EXPECTED: Self = Self(1 << 0);
    /// `IPS_SEEN_REPLY`: it was answered.
    pub const SEEN_REPLY: Self = Self(1 << 1);
    /// `IPS_ASSURED`: it is not given up early when the table is full.
    pub const ASSURED: Self = Self(1 << 2);
    /// `IPS_CONFIRMED`: its first packet passed.
    pub const CONFIRMED: Self = Self(1 << 3);
    /// `IPS_SRC_NAT`: its source is rewritten.
    pub const SOURCE_NAT: Self = Self(1 << 4);
    /// `IPS_DST_NAT`: its destination is rewritten.
    pub const DESTINATION_NAT: Self = Self(1 << 5);
    /// `IPS_OFFLOAD`: its packets skip the forward hook by a flowtable.
    pub const OFFLOAD: Self = Self(1 << 14);
    /// `IPS_HW_OFFLOAD`: its packets are not seen by the kernel.
    pub const HARDWARE_OFFLOAD: Self = Self(1 << 15);

    /// Whether all bits of the other are set.
    pub fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conntrack::{Icmp, Transport};

    fn tuple(source: &str, destination: &str, transport: Transport) -> Tuple {
        let address = |text: &str| text.parse().expect("an address");
        Tuple {
            source: address(source),
            destination: address(destination),
            transport,
        }
    }

    fn udp(source: u16, destination: u16) -> Transport {
        Transport::Udp(Ports {
            source,
            destination,
        })
    }

    fn entry(original: Tuple, reply: Tuple) -> Entry {
        Entry {
            original,
            reply,
            zone: Zone::default(),
            status: Status::default(),
            mark: 0,
            id: 1,
            timeout: None,
        }
    }

    #[test]
    fn forward_sees_a_plain_connection_as_it_came() {
        let original = tuple("10.1.0.11", "10.1.0.12", udp(4000, 80));
        let reply = tuple("10.1.0.12", "10.1.0.11", udp(80, 4000));
        assert_eq!(entry(original, reply).forwarded(), original);
    }

    #[test]
    fn forward_sees_the_pod_behind_a_service_and_who_really_asked() {
        // Rewritten to the pod's address and port, and from the node's address and another port.
        let original = tuple("10.1.0.11", "10.96.0.1", udp(4000, 80));
        let reply = tuple("10.2.0.12", "192.168.7.1", udp(8080, 61_234));
        assert_eq!(
            entry(original, reply).forwarded(),
            tuple("10.1.0.11", "10.2.0.12", udp(4000, 8080))
        );
    }

    #[test]
    fn forward_sees_the_query_and_not_the_answer_of_icmp() {
        let icmp = |kind, id| {
            let code = 0;
            Transport::Icmpv6(Icmp { kind, code, id })
        };
        let original = tuple("fd00:a::11", "fd00:96::1", icmp(128, 7));
        let reply = tuple("fd00:a::12", "fd00:7::1", icmp(129, 8));
        assert_eq!(
            entry(original, reply).forwarded(),
            tuple("fd00:a::11", "fd00:a::12", icmp(128, 7))
        );
        let other = |ports| {
            let protocol = 47;
            Transport::Other { protocol, ports }
        };
        let original = tuple("10.1.0.11", "10.96.0.1", other(None));
        let reply = tuple("10.1.0.12", "10.1.0.11", other(None));
        assert_eq!(
            entry(original, reply).forwarded(),
            tuple("10.1.0.11", "10.1.0.12", other(None))
        );
    }

    #[test]
    fn a_zone_of_one_direction_has_its_number() {
        for (original, reply, id) in [(0, 0, 0), (3, 3, 3), (3, 0, 3), (0, 3, 3)] {
            assert_eq!(Zone { original, reply }.id(), id);
        }
    }

    #[test]
    fn a_connection_is_named_with_its_zone() {
        let original = tuple("fd00::1", "fd00::2", udp(4000, 80));
        let connection = |zone| Connection { original, zone }.to_string();
        assert_eq!(
            connection(Zone::default()),
            "UDP [fd00::1]:4000 -> [fd00::2]:80"
        );
        assert_eq!(
            connection(Zone::both(5)),
            "UDP [fd00::1]:4000 -> [fd00::2]:80 in zone 5"
        );
    }
}
