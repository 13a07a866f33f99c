//! The kernel's bytes as entries. Attributes that are not asked about are skipped, whatever they are.

use std::net::IpAddr;

use super::constants::{entry, family, ip, proto, protocol, tuple};
use super::entry::{Entry, Status, Zone};
use super::tuple::{Icmp, Ports, Transport, Tuple};
use crate::netlink::attribute::{Attribute, Attributes, Malformed};

/// The entry with these attributes.
pub(super) fn read(of_family: u8, attributes: &[u8]) -> Result<Entry, Malformed> {
    if !matches!(of_family, family::IPV4 | family::IPV6) {
        return Err(Malformed("conntrack entry's family"));
    }
    let (mut original, mut reply) = (None, None);
    let (mut status, mut mark, mut id, mut timeout, mut zone) = (0, 0, 0, None, 0);
    for attribute in Attributes(attributes) {
        let attribute = attribute?;
        match attribute.kind {
            entry::TUPLE_ORIG => original = Some(read_tuple(of_family, attribute)?),
            entry::TUPLE_REPLY => reply = Some(read_tuple(of_family, attribute)?),
            entry::STATUS => status = attribute.u32()?,
            // A mark of 0 is left out.
            entry::MARK => mark = attribute.u32()?,
            entry::ID => id = attribute.u32()?,
            entry::TIMEOUT => timeout = Some(attribute.u32()?),
            // The zone of both directions. One of a single direction is told with its tuple.
            entry::ZONE => zone = attribute.u16()?,
            _ => {}
        }
    }
    let missing = Malformed("conntrack entry without tuples");
    let (original, of_original) = original.ok_or(missing)?;
    let (reply, of_reply) = reply.ok_or(missing)?;
    Ok(Entry {
        original,
        reply,
        zone: Zone {
            original: of_original.unwrap_or(zone),
            reply: of_reply.unwrap_or(zone),
        },
        status: Status(status),
        mark,
        id,
        timeout,
    })
}

/// A tuple, and the zone of its direction alone, if that has one.
fn read_tuple(of_family: u8, nest: Attribute<'_>) -> Result<(Tuple, Option<u16>), Malformed> {
    let (mut ends, mut transport, mut zone) = (None, None, None);
    for attribute in nest.nested() {
        let attribute = attribute?;
        match attribute.kind {
            tuple::IP => ends = Some(read_addresses(of_family, attribute)?),
            tuple::PROTO => transport = Some(read_transport(attribute)?),
            tuple::ZONE => zone = Some(attribute.u16()?),
            _ => {}
        }
    }
    let (source, destination) = ends.ok_or(Malformed("tuple without addresses"))?;
    let transport = transport.ok_or(Malformed("tuple without a protocol"))?;
    let tuple = Tuple {
        source,
        destination,
        transport,
    };
    Ok((tuple, zone))
}

fn read_addresses(of_family: u8, nest: Attribute<'_>) -> Result<(IpAddr, IpAddr), Malformed> {
    let (mut source, mut destination) = (None, None);
    for attribute in nest.nested() {
        let attribute = attribute?;
        match (of_family, attribute.kind) {
            (family::IPV4, ip::V4_SRC) => source = Some(address::<4>(attribute)?),
            (family::IPV4, ip::V4_DST) => destination = Some(address::<4>(attribute)?),
            (family::IPV6, ip::V6_SRC) => source = Some(address::<16>(attribute)?),
            (family::IPV6, ip::V6_DST) => destination = Some(address::<16>(attribute)?),
            _ => {}
        }
    }
    let missing = Malformed("tuple without an address");
    Ok((source.ok_or(missing)?, destination.ok_or(missing)?))
}

fn address<const LENGTH: usize>(attribute: Attribute<'_>) -> Result<IpAddr, Malformed>
where
    IpAddr: From<[u8; LENGTH]>,
{
    let bytes: Result<[u8; LENGTH], _> = attribute.payload.try_into();
    bytes.map(IpAddr::from).map_err(|_| Malformed("address"))
}

fn read_transport(nest: Attribute<'_>) -> Result<Transport, Malformed> {
    let mut number = None;
    let (mut source, mut destination) = (None, None);
    let (mut kind, mut code, mut id) = (None, None, None);
    for attribute in nest.nested() {
        let attribute = attribute?;
        match attribute.kind {
            proto::NUM => number = Some(attribute.u8()?),
            proto::SRC_PORT => source = Some(attribute.u16()?),
            proto::DST_PORT => destination = Some(attribute.u16()?),
            proto::ICMP_ID | proto::ICMPV6_ID => id = Some(attribute.u16()?),
            proto::ICMP_TYPE | proto::ICMPV6_TYPE => kind = Some(attribute.u8()?),
            proto::ICMP_CODE | proto::ICMPV6_CODE => code = Some(attribute.u8()?),
            _ => {}
        }
    }
    let ports = match (source, destination) {
        (Some(source), Some(destination)) => Some(Ports {
            source,
            destination,
        }),
        _ => None,
    };
    let query = match (kind, code, id) {
        (Some(kind), Some(code), Some(id)) => Some(Icmp { kind, code, id }),
        _ => None,
    };
    let missing = Malformed("tuple without ports or ICMP type");
    Ok(match number.ok_or(Malformed("tuple without a protocol"))? {
        protocol::TCP => Transport::Tcp(ports.ok_or(missing)?),
        protocol::UDP => Transport::Udp(ports.ok_or(missing)?),
        protocol::SCTP => Transport::Sctp(ports.ok_or(missing)?),
        protocol::ICMP => Transport::Icmp(query.ok_or(missing)?),
        protocol::ICMPV6 => Transport::Icmpv6(query.ok_or(missing)?),
        protocol => Transport::Other { protocol, ports },
    })
}
