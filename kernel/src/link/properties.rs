//! What a link is.

use std::fmt;

use super::bridge::Bridge;
use super::constants::link;
use crate::netlink::attribute::{Attribute, Attributes, Malformed, find};

/// A network interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Its number (`ifindex`), which no other link of its namespace has while it is there.
    pub index: u32,
    /// Its name. The kernel takes any bytes: what is not UTF-8 is replaced by U+FFFD, here and in `alias`.
    pub name: String,
    /// What drives it.
    pub kind: Kind,
    /// Whether somebody has set it up (`IFF_UP`).
    pub up: bool,
    /// Whether it carries packets.
    pub operational: OperationalState,
    /// Its group (`IFLA_GROUP`), 0 unless somebody has set one.
    pub group: u32,
    /// A text that somebody has set for it (`IFLA_IFALIAS`).
    pub alias: Option<String>,
    /// Its Ethernet address.
    pub mac: Option<LinkMac>,
    /// The link that it is a part of.
    pub master: Option<Master>,
    /// The other end, of a veth or netkit only: whatever is sent into one comes out of the other.
    pub peer: Option<Other>,
    /// The link that another kind of link stands on: of a macvlan, the interface that it shares.
    pub parent: Option<Other>,
    /// What a bridge does with the packets that cross it; of a bridge only.
    pub bridge: Option<Bridge>,
}

/// What drives a link (`IFLA_INFO_KIND`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A device, or the loopback: the kernel names no kind.
    Device,
    /// One end of a pair.
    Veth,
    /// One end of a pair (Linux 6.7).
    Netkit,
    /// A bridge.
    Bridge,
    /// An ipvlan in mode L3S: what comes in passes the hooks of its parent's namespace, and not those of its own before
    /// routing (`ipvlan_l3_rcv`).
    IpvlanL3s,
    /// Another, by its name, for example `macvlan`.
    Other(String),
}

/// Whether a link carries packets (`IF_OPER_*`, RFC 2863).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OperationalState {
    /// The driver does not say. The loopback.
    Unknown,
    /// A part of it is missing.
    NotPresent,
    /// It does not.
    Down,
    /// The link below does not: of a veth, the other end.
    LowerLayerDown,
    /// It is being tested.
    Testing,
    /// It waits for something, for example to be allowed in.
    Dormant,
    /// It does.
    Up,
}

/// An Ethernet address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkMac(pub [u8; 6]);

/// The link that another is a part of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Master {
    /// Its number.
    pub index: u32,
    /// Whether the part is a port of a bridge.
    pub bridge: bool,
}

/// A link that another stands in relation to, perhaps in another namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Other {
    /// Its number in its own namespace.
    pub index: u32,
    /// Its namespace.
    pub namespace: Place,
}

/// Where a link is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// In the same namespace as the link that names it.
    Same,
    /// In another, by the number that the namespace in which was asked has for it.
    Numbered(NamespaceId),
    /// In another, which has no number.
    Unknown,
}

/// A namespace's number in another namespace (`nsid`). It stays as long as the namespace that it stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NamespaceId(pub u32);

impl Link {
    /// A message's link. An attribute whose value is odd counts as absent, so that one odd link hides no other.
    pub(super) fn read(payload: &[u8]) -> Result<Self, Malformed> {
        let header = payload.first_chunk::<{ link::HEADER }>();
        let header = header.ok_or(Malformed("link's header"))?;
        let word = |at: usize| {
            u32::from_ne_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]])
        };
        let (index, flags) = (word(4), word(8));
        let mut read = Self {
            index,
            name: String::new(),
            kind: Kind::Device,
            up: flags & link::UP != 0,
            operational: OperationalState::Unknown,
            group: 0,
            alias: None,
            mac: None,
            master: None,
            peer: None,
            parent: None,
            bridge: None,
        };
        let (mut master, mut of_bridge) = (None, false);
        let (mut other, mut namespace) = (None, Place::Same);
        for attribute in Attributes(&payload[link::HEADER..]) {
            let attribute = attribute?;
            match attribute.kind {
                link::IFNAME => read.name = text(attribute),
                link::IFALIAS => read.alias = Some(text(attribute)),
                link::ADDRESS => read.mac = attribute.payload.try_into().ok().map(LinkMac),
                link::OPERSTATE => read.operational = operational(attribute),
                link::GROUP => read.group = attribute.host_u32().unwrap_or(0),
                link::MASTER => master = number(attribute),
                link::LINK => other = number(attribute),
                link::LINK_NETNSID => namespace = place(attribute),
                link::LINKINFO => of_bridge = read.info(attribute)?,
                _ => {}
            }
        }
        if index == 0 || read.name.is_empty() {
            return Err(Malformed("link"));
        }
        read.master = master.map(|index| Master {
            index,
            bridge: of_bridge,
        });
        let other = other.map(|index| Other { index, namespace });
        match read.kind {
            Kind::Veth | Kind::Netkit => read.peer = other,
            // A device may name itself.
            _ => read.parent = other.filter(|o| (o.index, o.namespace) != (index, Place::Same)),
        }
        Ok(read)
    }

    /// Reads what belongs to a kind of link, and returns whether it is a port of a bridge.
    fn info(&mut self, info: Attribute<'_>) -> Result<bool, Malformed> {
        let (mut data, mut of_bridge) = (None, false);
        for attribute in info.nested() {
            let attribute = attribute?;
            match attribute.kind {
                link::INFO_KIND => self.kind = Kind::from(text(attribute)),
                link::INFO_DATA => data = Some(attribute),
                link::INFO_SLAVE_KIND => of_bridge = text(attribute) == "bridge",
                _ => {}
            }
        }
        match (&self.kind, data) {
            (Kind::Bridge, Some(data)) => self.bridge = Some(Bridge::read(data)?),
            (Kind::Other(kind), Some(data)) if kind == "ipvlan" => {
                let mode = find(data.payload, link::IPVLAN_MODE)?;
                if mode.is_some_and(|mode| mode.payload == link::IPVLAN_L3S.to_ne_bytes()) {
                    self.kind = Kind::IpvlanL3s;
                }
            }
            _ => {}
        }
        Ok(of_bridge)
    }
}

impl From<String> for Kind {
    fn from(name: String) -> Self {
        match name.as_str() {
            "veth" => Self::Veth,
            "netkit" => Self::Netkit,
            "bridge" => Self::Bridge,
            _ => Self::Other(name),
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Device => "device",
            Self::Veth => "veth",
            Self::Netkit => "netkit",
            Self::Bridge => "bridge",
            Self::IpvlanL3s => "ipvlan-l3s",
            Self::Other(name) => name,
        })
    }
}

impl fmt::Display for LinkMac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Display for NamespaceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// `veth0 (link 7)`
impl fmt::Display for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (link {})", self.name, self.index)
    }
}

/// Names and aliases are any bytes but zero.
fn text(attribute: Attribute<'_>) -> String {
    let bytes = attribute.payload.split(|byte| *byte == 0).next();
    String::from_utf8_lossy(bytes.unwrap_or_default()).into_owned()
}

/// A link's number; 0 is none.
fn number(attribute: Attribute<'_>) -> Option<u32> {
    attribute.host_u32().ok().filter(|index| *index != 0)
}

fn place(attribute: Attribute<'_>) -> Place {
    namespace_id(attribute).map_or(Place::Unknown, Place::Numbered)
}

/// `NETNSA_NSID_NOT_ASSIGNED` is -1.
pub(super) fn namespace_id(attribute: Attribute<'_>) -> Option<NamespaceId> {
    let id = attribute.host_u32().ok();
    id.filter(|id| id.cast_signed() >= 0).map(NamespaceId)
}

fn operational(attribute: Attribute<'_>) -> OperationalState {
    match attribute.payload {
        [1] => OperationalState::NotPresent,
        [2] => OperationalState::Down,
        [3] => OperationalState::LowerLayerDown,
        [4] => OperationalState::Testing,
        [5] => OperationalState::Dormant,
        [6] => OperationalState::Up,
        _ => OperationalState::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netlink::attribute::Writer;

    #[test]
    fn an_ipvlan_whose_own_namespace_does_not_see_what_comes_in_is_told_apart() {
        for (mode, kind) in [
            (0_u16, Kind::Other("ipvlan".into())),
            (1, Kind::Other("ipvlan".into())),
            (2, Kind::IpvlanL3s),
        ] {
            // As `ipvlan_nl_fillinfo` writes it.
            let mut out = Writer::default();
            out.bytes.resize(link::HEADER, 1);
            out.put_text(link::IFNAME, "net1");
            out.nested(link::LINKINFO, |out| {
                out.put_text(link::INFO_KIND, "ipvlan");
                out.nested(link::INFO_DATA, |out| {
                    out.put(link::IPVLAN_MODE, &mode.to_ne_bytes());
                    out.put(2, &[0, 0]);
                });
            });
            assert_eq!(Link::read(&out.bytes).expect("a link").kind, kind);
        }
    }
}
