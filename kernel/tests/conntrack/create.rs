//! Entries without packets, many at once: what the crate itself never makes.

use std::net::IpAddr;

use kernel::conntrack::Entry;
use netlink_sys::constants::NETLINK_NETFILTER;
use netlink_sys::{Socket, SocketAddr};
use testbed::Namespace;

/// `NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_NEW`
const NEW: u16 = 1 << 8;
/// `NLM_F_REQUEST | NLM_F_CREATE | NLM_F_EXCL`, and `NLM_F_ACK`
const CREATE: u16 = 0x1 | 0x400 | 0x200;
const ACK: u16 = 0x4;
/// `IPS_SEEN_REPLY | IPS_ASSURED | IPS_CONFIRMED`
const STATUS: u32 = 0xe;

/// A connection that was answered, over TCP, UDP or SCTP by number.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted {
    pub(crate) source: (IpAddr, u16),
    pub(crate) destination: (IpAddr, u16),
    pub(crate) protocol: u8,
    pub(crate) zone: u16,
    pub(crate) mark: u32,
}

impl Wanted {
    pub(crate) fn is(&self, entry: &Entry) -> bool {
        let ports = entry.original.transport.ports();
        let port = |end: fn(kernel::conntrack::Ports) -> u16| ports.map(end);
        (entry.original.source, port(|ports| ports.source)) == (self.source.0, Some(self.source.1))
            && (entry.original.destination, port(|ports| ports.destination))
                == (self.destination.0, Some(self.destination.1))
            && entry.original.transport.protocol() == self.protocol
            && entry.zone.id() == self.zone
    }
}

/// Makes all of them, or fails.
pub(crate) fn create(namespace: &Namespace, wanted: &[Wanted]) {
    let open = || Socket::new(NETLINK_NETFILTER).unwrap();
    let mut socket = namespace.run(open).unwrap();
    socket.bind_auto().unwrap();
    socket.connect(&SocketAddr::new(0, 0)).unwrap();
    for chunk in wanted.chunks(256) {
        let mut bytes = Vec::new();
        for (index, wanted) in chunk.iter().enumerate() {
            let flags = if index + 1 == chunk.len() {
                CREATE | ACK
            } else {
                CREATE
            };
            bytes.extend(message(wanted, flags));
        }
        socket.send(&bytes, 0).unwrap();
        // The first answer is the last message's acknowledgement, or an error before it.
        let (answer, _) = socket.recv_from_full().unwrap();
        let errno = i32::from_ne_bytes(answer[16..20].try_into().unwrap());
        assert_eq!(errno, 0, "{:?}", std::io::Error::from_raw_os_error(-errno));
    }
}

fn message(wanted: &Wanted, flags: u16) -> Vec<u8> {
    let Wanted {
        source,
        destination,
        protocol,
        ..
    } = *wanted;
    let family = if source.0.is_ipv4() { 2 } else { 10 };
    let mut attributes = [
        attribute(1 | NESTED, &tuple(source, destination, protocol)),
        attribute(2 | NESTED, &tuple(destination, source, protocol)),
        attribute(3, &STATUS.to_be_bytes()),
        attribute(7, &600u32.to_be_bytes()),
        attribute(8, &wanted.mark.to_be_bytes()),
    ]
    .concat();
    if wanted.zone != 0 {
        attributes.extend(attribute(18, &wanted.zone.to_be_bytes()));
    }
    let length = 16 + 4 + attributes.len() as u32;
    [
        &length.to_ne_bytes()[..],
        &NEW.to_ne_bytes(),
        &flags.to_ne_bytes(),
        &[0; 8],
        &[family, 0, 0, 0],
        &attributes,
    ]
    .concat()
}

const NESTED: u16 = 0x8000;

fn tuple(source: (IpAddr, u16), destination: (IpAddr, u16), protocol: u8) -> Vec<u8> {
    let bytes = |address: IpAddr| match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    };
    let kind = if source.0.is_ipv4() { 1 } else { 3 };
    let ends = [
        attribute(kind, &bytes(source.0)),
        attribute(kind + 1, &bytes(destination.0)),
    ];
    let transport = [
        attribute(1, &[protocol]),
        attribute(2, &source.1.to_be_bytes()),
        attribute(3, &destination.1.to_be_bytes()),
    ];
    [
        attribute(1 | NESTED, &ends.concat()),
        attribute(2 | NESTED, &transport.concat()),
    ]
    .concat()
}

fn attribute(kind: u16, payload: &[u8]) -> Vec<u8> {
    let length = 4 + payload.len();
    let mut bytes = [
        &(length as u16).to_ne_bytes()[..],
        &kind.to_ne_bytes(),
        payload,
    ]
    .concat();
    bytes.resize(length.next_multiple_of(4), 0);
    bytes
}
