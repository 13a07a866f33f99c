//! Ethernet addresses.

use std::fmt;
use std::net::Ipv6Addr;

/// An Ethernet address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mac(pub [u8; 6]);

impl Mac {
    /// Where broadcasts go.
    pub const BROADCAST: Mac = Mac([0xff; 6]);

    /// A locally administered address, the same on every run: `kind` says what sort of interface carries it.
    pub(crate) fn numbered(kind: u8, index: usize) -> Mac {
        let index = u32::try_from(index).unwrap_or(u32::MAX).to_be_bytes();
        Mac([0x02, kind, index[0], index[1], index[2], index[3]])
    }

    /// The Ethernet address of an IPv6 multicast group (RFC 2464 section 7).
    pub fn of_multicast(group: Ipv6Addr) -> Mac {
        let [.., a, b, c, d] = group.octets();
        Mac([0x33, 0x33, a, b, c, d])
    }

    /// The link-local address that the kernel derives from this one (modified EUI-64, RFC 4291 appendix A).
    pub fn link_local(self) -> Ipv6Addr {
        let [a, b, c, d, e, f] = self.0;
        let pair = |high: u8, low: u8| u16::from_be_bytes([high, low]);
        Ipv6Addr::new(
            0xfe80,
            0,
            0,
            0,
            pair(a ^ 0x02, b),
            pair(c, 0xff),
            pair(0xfe, d),
            pair(e, f),
        )
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, f] = self.0;
        write!(out, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}")
    }
}
