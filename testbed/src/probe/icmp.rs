//! Echo requests and replies, RFC 792 and RFC 4443 section 4.

use crate::packet::checksum;
use crate::probe::token;

const V4_REQUEST: u8 = 8;
const V4_REPLY: u8 = 0;
const V6_REQUEST: u8 = 128;
const V6_REPLY: u8 = 129;

/// An echo request. The kernel fills in the checksum of ICMPv6, which covers addresses.
pub(crate) fn request(ipv4: bool, identifier: u16, token: u64) -> Vec<u8> {
    let mut message = vec![if ipv4 { V4_REQUEST } else { V6_REQUEST }, 0, 0, 0];
    message.extend(identifier.to_be_bytes());
    message.extend(1u16.to_be_bytes());
    message.extend(token::encode(token));
    if ipv4 {
        let sum = checksum(&[&message]).to_be_bytes();
        message[2..4].copy_from_slice(&sum);
    }
    message
}

/// The token of an echo reply.
pub(crate) fn answered(ipv4: bool, message: &[u8]) -> Option<u64> {
    let reply = if ipv4 { V4_REPLY } else { V6_REPLY };
    message
        .strip_prefix(&[reply, 0])
        .and_then(|rest| token::decode(rest.get(6..)?))
}
