//! Tuples as the kernel takes them.

use std::net::IpAddr;

use super::constants::{entry, family, ip, proto, tuple};
use super::entry::Connection;
use super::tuple::{Icmp, Ports, Transport};
use crate::netlink::attribute::Writer;

/// `NFPROTO_*` of an address.
pub(super) fn family_number(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => family::IPV4,
        IpAddr::V6(_) => family::IPV6,
    }
}

/// `CTA_IP_*_SRC`
pub(super) fn write_source(out: &mut Writer, address: IpAddr) {
    match address {
        IpAddr::V4(v4) => out.put(ip::V4_SRC, &v4.octets()),
        IpAddr::V6(v6) => out.put(ip::V6_SRC, &v6.octets()),
    }
}

/// `CTA_IP_*_DST`
pub(super) fn write_destination(out: &mut Writer, address: IpAddr) {
    match address {
        IpAddr::V4(v4) => out.put(ip::V4_DST, &v4.octets()),
        IpAddr::V6(v6) => out.put(ip::V6_DST, &v6.octets()),
    }
}

/// What the kernel needs to find an entry: its original tuple, and its zone if that is not 0.
pub(super) fn write_connection(out: &mut Writer, connection: &Connection) {
    let Connection { original, zone } = connection;
    out.nested(entry::TUPLE_ORIG, |out| {
        out.nested(tuple::IP, |out| {
            write_source(out, original.source);
            write_destination(out, original.destination);
        });
        out.nested(tuple::PROTO, |out| {
            write_transport(out, original.transport);
        });
        if zone.original != zone.reply && zone.original != 0 {
            out.put(tuple::ZONE, &zone.original.to_be_bytes());
        }
    });
    // A zone of the reply direction alone is not looked at where the original direction is looked up.
    if zone.original == zone.reply && zone.original != 0 {
        out.put(entry::ZONE, &zone.original.to_be_bytes());
    }
}

fn write_transport(out: &mut Writer, transport: Transport) {
    out.put(proto::NUM, &[transport.protocol()]);
    if let Some(Ports {
        source,
        destination,
    }) = transport.ports()
    {
        out.put(proto::SRC_PORT, &source.to_be_bytes());
        out.put(proto::DST_PORT, &destination.to_be_bytes());
    }
    let mut query = |[of_id, of_kind, of_code]: [u16; 3], Icmp { kind, code, id }| {
        out.put(of_id, &id.to_be_bytes());
        out.put(of_kind, &[kind]);
        out.put(of_code, &[code]);
    };
    match transport {
        Transport::Icmp(icmp) => query([proto::ICMP_ID, proto::ICMP_TYPE, proto::ICMP_CODE], icmp),
        Transport::Icmpv6(icmp) => query(
            [proto::ICMPV6_ID, proto::ICMPV6_TYPE, proto::ICMPV6_CODE],
            icmp,
        ),
        _ => {}
    }
}
