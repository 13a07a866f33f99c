//! How the kernel is asked for a feature.

use super::feature::Feature;
use crate::netlink::message::CONNTRACK;
use crate::nftables::constants::{base, ct, expr, family, fib, meta, set};
use crate::nftables::expression::{Comparison, Expression, Load, SetName};

/// The chain, set and map in the table in which a feature is tried.
pub(super) const NAME: &str = "probe";

/// `NFT_REG_1`
pub(super) const REGISTER: u32 = 1;
/// `NFT_TABLE_F_*` of `linux/netfilter/nf_tables.h`
pub(super) const DORMANT: u32 = 0x1;
const OWNER: u32 = 0x2;
const PERSIST: u32 = 0x4;
/// `NFT_META_IIFGROUP`, `NFT_CT_ZONE`, `NFT_CT_EVENTMASK`
const META_IIFGROUP: u32 = 21;
const CT_ZONE: u32 = 17;
const CT_EVENTMASK: u32 = 18;
/// `NF_INET_FORWARD`, and `NF_BR_FORWARD` too
const FORWARD: u32 = 2;
/// `NF_NETDEV_INGRESS`
const INGRESS: u32 = 0;

/// A question to the kernel.
#[derive(Debug)]
pub(super) enum Question {
    /// Opening a socket.
    Socket,
    /// A message of nfnetlink, whose subsystem answers this (0, or a positive errno) if it is there.
    Message { kind: u16, there: i32 },
    /// A table with something in it, in a batch that is never committed.
    Table {
        family: u8,
        flags: u32,
        parts: Vec<Part>,
    },
    /// A folder that is there.
    Folder(&'static str),
}

/// Something in a table.
#[derive(Debug)]
pub(super) enum Part {
    BaseChain {
        hook: u32,
        device: Option<&'static str>,
    },
    Set {
        flags: u32,
        /// Size of each part of its key.
        fields: &'static [u32],
    },
    /// A counter with the name.
    Counter,
    Rule(Vec<Step>),
}

/// An expression of a rule.
#[derive(Debug)]
pub(super) enum Step {
    /// One that rules of ours have.
    Known(Expression),
    /// `ct event set`: there is no other way to ask for it.
    SetConntrack(u32),
}

impl Feature {
    /// How the kernel is asked for it.
    pub(super) fn question(self) -> Question {
        let inet = |parts| Question::Table {
            family: family::INET,
            flags: DORMANT,
            parts,
        };
        let hooked = |family, hook, device| Question::Table {
            family,
            flags: DORMANT,
            parts: vec![Part::BaseChain { hook, device }],
        };
        let set = |flags, fields| inet(vec![Part::Set { flags, fields }]);
        let load = |what| {
            Step::Known(Expression::Load {
                what,
                register: REGISTER,
            })
        };
        let loads = |of, what| Question::Table {
            family: of,
            flags: DORMANT,
            parts: vec![Part::Rule(vec![load(what)])],
        };
        match self {
            Self::Nfnetlink => Question::Socket,
            // An empty table: `add table inet picket-probe { flags dormant; }`
            Self::NfTables => inet(Vec::new()),
            // chain probe { type filter hook forward priority 0; }
            Self::InetFamily => hooked(family::INET, FORWARD, None),
            Self::BridgeFamily => hooked(family::BRIDGE, FORWARD, None),
            // chain probe { type filter hook ingress device lo priority 0; }
            Self::NetdevFamily => hooked(family::NETDEV, INGRESS, Some("lo")),
            Self::Matches => inet(vec![Part::Rule(matches())]),
            // counter probe { }  counter name "probe"
            Self::NamedCounters => inet(vec![
                Part::Counter,
                Part::Rule(vec![Step::Known(Expression::NamedCounter(NAME.to_owned()))]),
            ]),
            // set probe { type ipv4_addr; }  ip saddr @probe
            Self::HashSets => inet(vec![
                Part::Set {
                    flags: 0,
                    fields: &[4],
                },
                Part::Rule(vec![
                    load(IPV4_SOURCE),
                    Step::Known(Expression::Lookup {
                        register: REGISTER,
                        set: SetName::Named(NAME.to_owned()),
                        inverted: true,
                    }),
                ]),
            ]),
            // set probe { type ipv6_addr . inet_proto . inet_service; }
            Self::ConcatenatedKeys => set(0, &[16, 1, 2]),
            // map probe { type ipv4_addr : verdict; }  ip saddr vmap @probe
            Self::VerdictMaps => inet(vec![
                Part::Set {
                    flags: set::F_MAP,
                    fields: &[4],
                },
                Part::Rule(vec![
                    load(IPV4_SOURCE),
                    Step::Known(Expression::VerdictMap {
                        register: REGISTER,
                        map: NAME.to_owned(),
                    }),
                ]),
            ]),
            // set probe { type ipv6_addr; flags interval; }
            Self::IntervalSets => set(set::F_INTERVAL, &[16]),
            // set probe { type ipv6_addr . inet_proto . inet_service; flags interval; }
            Self::ConcatenatedIntervalSets => set(set::F_INTERVAL | set::F_CONCAT, &[16, 1, 2]),
            // ct state
            Self::Conntrack => loads(family::INET, connection(ct::STATE)),
            Self::ConntrackMark => loads(family::INET, connection(ct::MARK)),
            Self::ConntrackZones => loads(family::INET, connection(CT_ZONE)),
            // ct event set meta mark
            Self::ConntrackEvents => inet(vec![Part::Rule(vec![
                load(Load::Meta(META_IIFGROUP)),
                Step::SetConntrack(CT_EVENTMASK),
            ])]),
            // IPCTNL_MSG_CT_GET_STATS: how many connections there are.
            Self::ConntrackNetlink => Question::Message {
                kind: CONNTRACK << 8 | 5,
                there: 0,
            },
            // fib saddr . iif oif exists
            Self::Fib => {
                let flags = fib::F_SADDR | fib::F_IIF | fib::F_PRESENT;
                let result = fib::OIF;
                loads(family::INET, Load::Route { result, flags })
            }
            // NFULNL_MSG_PACKET, which goes the other way: ENOTSUPP of `include/linux/errno.h`.
            Self::NfnetlinkLog => Question::Message {
                kind: 4 << 8,
                there: 524,
            },
            Self::Log => inet(vec![Part::Rule(vec![Step::Known(Expression::Log {
                group: 1,
                prefix: String::new(),
                snaplen: 0,
            })])]),
            // reject with icmpx admin-prohibited
            Self::Reject => inet(vec![Part::Rule(vec![Step::Known(Expression::Reject {
                kind: expr::REJECT_ICMPX,
                code: expr::REJECT_ADMIN_PROHIBITED,
            })])]),
            // The folder is the module's, in each network namespace since Linux 5.3.
            Self::BridgeNetfilter => Question::Folder("/proc/sys/net/bridge"),
            Self::BridgeConntrack => loads(family::BRIDGE, connection(ct::STATE)),
            Self::TableOwner => Question::Table {
                family: family::INET,
                flags: DORMANT | OWNER,
                parts: Vec::new(),
            },
            Self::TablePersist => Question::Table {
                family: family::INET,
                flags: DORMANT | OWNER | PERSIST,
                parts: Vec::new(),
            },
        }
    }
}

fn connection(key: u32) -> Load {
    Load::Connection {
        key,
        direction: None,
    }
}

const IPV4_SOURCE: Load = Load::Payload {
    base: base::NETWORK,
    offset: 12,
    length: 4,
};

/// What all rules of ours together load and compare, but for what has a feature of its own.
fn matches() -> Vec<Step> {
    let mut all: Vec<_> = [
        Load::Meta(meta::PROTOCOL),
        Load::Meta(meta::IIFNAME),
        Load::Meta(meta::OIFNAME),
        Load::Meta(META_IIFGROUP),
        Load::Meta(meta::NFPROTO),
        Load::Meta(meta::PKTTYPE),
        IPV4_SOURCE,
        Load::Payload {
            base: base::TRANSPORT,
            offset: 2,
            length: 2,
        },
        Load::Meta(meta::L4PROTO),
    ]
    .map(|what| Expression::Load {
        what,
        register: REGISTER,
    })
    .into();
    all.extend([
        Expression::Mask {
            register: REGISTER,
            mask: vec![0xff],
        },
        Expression::Range {
            register: REGISTER,
            outside: true,
            first: vec![1],
            last: vec![9],
        },
        Expression::Compare {
            register: REGISTER,
            operator: Comparison::NotEqual,
            data: vec![6],
        },
        Expression::Counter,
        Expression::Immediate(policy_compiler::ruleset::Verdict::Return),
    ]);
    all.into_iter().map(Step::Known).collect()
}
