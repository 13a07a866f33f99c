//! What nft keeps with an object and the kernel does not look at: type and length of one byte each, and bytes
//! (libnftnl's `include/libnftnl/udata.h`). nft needs it to list objects as they were written.

use policy_compiler::model::Protocol;
use policy_compiler::ruleset::Field;

use super::expression::Load;
use super::field;

/// `NFTNL_UDATA_RULE_COMMENT` and `NFTNL_UDATA_SET_ELEM_COMMENT`
pub(crate) const COMMENT: u8 = 0;
/// `NFTNL_UDATA_SET_ELEM_FLAGS`
const ELEMENT_FLAGS: u8 = 1;
/// `SET_ELEM_F_INTERVAL_OPEN`: the last interval ends with the last value that there is.
const OPEN: u32 = 1;

/// `enum nftnl_udata_set_types`
const SET_KEY_ORDER: u8 = 0;
const SET_DATA_ORDER: u8 = 1;
const SET_MERGED: u8 = 2;
const SET_KEY_TYPEOF: u8 = 3;
const SET_DATA_INTERVAL: u8 = 6;
pub(crate) const SET_COMMENT: u8 = 7;

/// nftables' `enum byteorder`
const HOST_ORDER: u32 = 1;
const NETWORK_ORDER: u32 = 2;

/// nftables' `enum expr_types`
const PAYLOAD: u32 = 7;
const META: u32 = 9;
const CONNECTION: u32 = 12;
const ROUTE: u32 = 26;

fn put(out: &mut Vec<u8>, kind: u8, bytes: &[u8]) {
    // Comments are at most 127 bytes; nothing else is longer.
    out.extend_from_slice(&[kind, bytes.len() as u8]);
    out.extend_from_slice(bytes);
}

fn put_u32(out: &mut Vec<u8>, kind: u8, value: u32) {
    put(out, kind, &value.to_ne_bytes());
}

/// A comment of a rule or an element.
pub(crate) fn comment(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    put_comment(&mut out, COMMENT, text);
    out
}

fn put_comment(out: &mut Vec<u8>, kind: u8, text: &str) {
    let mut bytes = text.as_bytes().to_vec();
    bytes.push(0);
    put(out, kind, &bytes);
}

/// Of the last element of an interval set whose last interval has no end.
pub(crate) fn open_interval() -> Vec<u8> {
    let mut out = Vec::new();
    put_u32(&mut out, ELEMENT_FLAGS, OPEN);
    out
}

/// Of a named set; the order is that of a key with one part.
pub(crate) fn set(is_host_order: Option<bool>, map: bool, comment: &str) -> Vec<u8> {
    let mut out = Vec::new();
    put_u32(&mut out, SET_KEY_ORDER, is_host_order.map_or(0, order));
    if map {
        put_u32(&mut out, SET_DATA_ORDER, 0);
        put_u32(&mut out, SET_DATA_INTERVAL, 0);
    }
    put_comment(&mut out, SET_COMMENT, comment);
    out
}

fn order(is_host_order: bool) -> u32 {
    if is_host_order {
        HOST_ORDER
    } else {
        NETWORK_ORDER
    }
}

/// Of a set without a name: what its elements are values of.
pub(crate) fn anonymous_set(field: Field, interval: bool) -> Vec<u8> {
    let mut out = Vec::new();
    let of = field::data_type(field);
    put_u32(&mut out, SET_KEY_ORDER, order(of.is_host_order()));
    if interval {
        put_u32(&mut out, SET_MERGED, 1);
    }
    put(&mut out, SET_KEY_TYPEOF, &field_type(field));
    out
}

/// What `typeof` would name.
fn field_type(field: Field) -> Vec<u8> {
    let (kind, parts) = match field::load(field) {
        Load::Meta(key) => (META, vec![key]),
        // Both directions of the connection.
        Load::Connection { key, direction } => {
            (CONNECTION, vec![key, direction.map_or(u32::MAX, u32::from)])
        }
        Load::Route { result, flags } => (ROUTE, vec![result, flags]),
        Load::Payload { .. } => (PAYLOAD, payload_type(field)),
    };
    let mut inner = Vec::new();
    for (index, part) in (0..).zip(parts) {
        put_u32(&mut inner, index, part);
    }
    if field == Field::Ipv6HopLimit {
        // A number without a type of its own: its bits.
        put_u32(&mut inner, 4, 8);
    }
    let mut out = Vec::new();
    put_u32(&mut out, 0, kind);
    put(&mut out, 1, &inner);
    out
}

/// nftables' `enum proto_desc_id`, and the number of the field in its description of that protocol
/// (`include/proto.h`).
fn payload_type(field: Field) -> Vec<u32> {
    let (protocol, number) = match field {
        Field::DestinationPort(Protocol::Udp) => (6, 2),
        Field::DestinationPort(Protocol::Tcp) => (8, 2),
        Field::TcpFlags => (8, 7),
        Field::DestinationPort(Protocol::Sctp) => (10, 2),
        Field::TransportDestinationPort => (11, 2),
        Field::Ipv4Source => (12, 11),
        Field::Ipv4Destination => (12, 12),
        Field::Ipv6HopLimit => (13, 7),
        Field::Ipv6Source => (13, 8),
        Field::Ipv6Destination => (13, 9),
        Field::Icmpv6Type => (14, 1),
        Field::ArpSource => (15, 7),
        Field::EtherType => (17, 3),
        // Not loaded from a header.
        _ => (0, 0),
    };
    vec![protocol, number]
}

/// The text of an entry, if it is there.
pub(crate) fn text(userdata: &[u8], wanted: u8) -> Option<&str> {
    let mut rest = userdata;
    while let [kind, length, tail @ ..] = rest {
        let bytes = tail.get(..usize::from(*length))?;
        if *kind == wanted {
            return std::str::from_utf8(bytes.strip_suffix(&[0])?).ok();
        }
        rest = &tail[bytes.len()..];
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn userdata_is_as_nft_writes_it() {
        assert_eq!(comment("hi"), [0, 3, b'h', b'i', 0]);
        assert_eq!(
            set(Some(false), true, "mm"),
            [
                0, 4, 2, 0, 0, 0, 1, 4, 0, 0, 0, 0, 6, 4, 0, 0, 0, 0, 7, 3, b'm', b'm', 0
            ]
        );
        assert_eq!(
            anonymous_set(Field::Ipv6Destination, true),
            [
                0, 4, 2, 0, 0, 0, 2, 4, 1, 0, 0, 0, 3, 20, 0, 4, 7, 0, 0, 0, 1, 12, 0, 4, 13, 0, 0,
                0, 1, 4, 9, 0, 0, 0
            ]
        );
    }

    #[test]
    fn a_text_is_found_and_a_cut_one_is_not() {
        let userdata = set(Some(true), false, "abc");
        assert_eq!(text(&userdata, SET_COMMENT), Some("abc"));
        for length in 0..userdata.len() {
            assert_eq!(text(&userdata[..length], SET_COMMENT), None);
        }
    }
}
