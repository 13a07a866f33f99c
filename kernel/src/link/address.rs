//! The addresses of links.

use std::net::IpAddr;

use super::constants::{address, family};
use crate::netlink::attribute::{Attribute, Attributes, Malformed};

/// An address of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LinkAddress {
    /// The link's number.
    pub link: u32,
    /// The address.
    pub address: IpAddr,
    /// How many of its bits, from the first, name the network that is reached by the link.
    pub prefix_length: u8,
    /// How far it can be used.
    pub scope: Scope,
    /// What else the kernel says of it.
    pub flags: AddressFlags,
}

/// How far an address or a route can be used (`enum rt_scope_t`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    /// Everywhere.
    Global,
    /// In the site.
    Site,
    /// On the link.
    Link,
    /// In this namespace.
    Host,
    /// Nowhere.
    Nowhere,
    /// As somebody has defined.
    Other(u8),
}

/// `IFA_F_*` of `linux/if_addr.h`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct AddressFlags(pub u32);

impl AddressFlags {
    /// `IFA_F_SECONDARY`: not the first IPv4 address of its network. Of IPv6, made up for privacy.
    pub fn is_secondary(self) -> bool {
        self.0 & 0x01 != 0
    }

    /// `IFA_F_DADFAILED`: another host has it, so it is not used.
    pub fn is_duplicate(self) -> bool {
        self.0 & 0x08 != 0
    }

    /// `IFA_F_DEPRECATED`: not used for new connections.
    pub fn is_deprecated(self) -> bool {
        self.0 & 0x20 != 0
    }

    /// `IFA_F_TENTATIVE`: not used yet, until it is known that nobody else has it.
    pub fn is_tentative(self) -> bool {
        self.0 & 0x40 != 0
    }

    /// `IFA_F_PERMANENT`: stays until somebody takes it away.
    pub fn is_permanent(self) -> bool {
        self.0 & 0x80 != 0
    }
}

impl LinkAddress {
    /// A message's address; none if it is of another protocol than IP.
    pub(super) fn read(payload: &[u8]) -> Result<Option<Self>, Malformed> {
        let header = payload.first_chunk::<{ address::HEADER }>();
        let [of, prefix_length, flags, scope, link @ ..] =
            *header.ok_or(Malformed("address's header"))?;
        let (mut local, mut network, mut flags) = (None, None, u32::from(flags));
        for attribute in Attributes(&payload[address::HEADER..]) {
            let attribute = attribute?;
            match attribute.kind {
                // Between two points ADDRESS is the other end's; IPv6 has no LOCAL where there is no other end.
                address::LOCAL => local = ip(of, attribute.payload),
                address::ADDRESS => network = ip(of, attribute.payload),
                address::FLAGS => flags = attribute.host_u32().unwrap_or(flags),
                _ => {}
            }
        }
        Ok(local.or(network).map(|address| Self {
            link: u32::from_ne_bytes(link),
            address,
            prefix_length,
            scope: Scope::from(scope),
            flags: AddressFlags(flags),
        }))
    }
}

impl From<u8> for Scope {
    fn from(number: u8) -> Self {
        match number {
            0 => Self::Global,
            200 => Self::Site,
            253 => Self::Link,
            254 => Self::Host,
            255 => Self::Nowhere,
            other => Self::Other(other),
        }
    }
}

/// The bytes as an address of the family.
pub(super) fn ip(of: u8, bytes: &[u8]) -> Option<IpAddr> {
    match of {
        family::INET => <[u8; 4]>::try_from(bytes).ok().map(IpAddr::from),
        family::INET6 => <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from),
        _ => None,
    }
}

/// A value that is an address, of whatever family.
pub(super) fn ip_of(attribute: Attribute<'_>) -> Option<IpAddr> {
    ip(family::INET, attribute.payload).or_else(|| ip(family::INET6, attribute.payload))
}
