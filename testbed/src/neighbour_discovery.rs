//! Neighbour discovery messages, RFC 4861 section 4. Only a hop limit of 255 makes them valid.

use std::net::Ipv6Addr;

use crate::mac::Mac;
use crate::packet::Transport;

/// Who has `target`?
pub fn solicitation(target: Ipv6Addr, sender: Mac, token: &[u8]) -> Transport {
    let body = [
        &[0; 4][..],
        &target.octets(),
        &link_layer_option(1, sender),
        &option(token),
    ]
    .concat();
    Transport::Icmp {
        kind: 135,
        code: 0,
        body,
    }
}

/// `owner` has `target`; unasked, to be believed over what is known.
pub fn advertisement(target: Ipv6Addr, owner: Mac, token: &[u8]) -> Transport {
    let body = [
        &[0x20, 0, 0, 0][..],
        &target.octets(),
        &link_layer_option(2, owner),
        &option(token),
    ]
    .concat();
    Transport::Icmp {
        kind: 136,
        code: 0,
        body,
    }
}

/// The sender is a router for half an hour.
pub fn router_advertisement(router: Mac, token: &[u8]) -> Transport {
    let head = [64, 0, 0x07, 0x08, 0, 0, 0, 0, 0, 0, 0, 0];
    Transport::Icmp {
        kind: 134,
        code: 0,
        body: [&head[..], &link_layer_option(1, router), &option(token)].concat(),
    }
}

/// `destination` is better reached through `target`.
pub fn redirect(target: Ipv6Addr, destination: Ipv6Addr, token: &[u8]) -> Transport {
    let body = [
        &[0; 4][..],
        &target.octets(),
        &destination.octets(),
        &option(token),
    ]
    .concat();
    Transport::Icmp {
        kind: 137,
        code: 0,
        body,
    }
}

fn link_layer_option(kind: u8, mac: Mac) -> [u8; 8] {
    let [a, b, c, d, e, f] = mac.0;
    [kind, 1, a, b, c, d, e, f]
}

/// An option for experiments (RFC 4727), which receivers skip; lengths are in units of 8 bytes.
fn option(token: &[u8]) -> Vec<u8> {
    let units = (token.len() + 2).div_ceil(8);
    let mut bytes = vec![253, units as u8];
    bytes.extend(token);
    bytes.resize(units * 8, 0);
    bytes
}
