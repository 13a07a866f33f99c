//! The features of the kernel that picket uses.

use std::fmt;

/// A feature of the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Feature {
    /// netlink of netfilter.
    Nfnetlink,
    /// nftables itself.
    NfTables,
    /// Base chains of family inet.
    InetFamily,
    /// Base chains of family bridge.
    BridgeFamily,
    /// Base chains of family netdev, at the ingress of a link.
    NetdevFamily,
    /// What every rule is made of: headers, `meta`, comparisons, masks, ranges, counters.
    Matches,
    /// Counters with names.
    NamedCounters,
    /// Sets and their lookup.
    HashSets,
    /// Sets whose keys have several parts.
    ConcatenatedKeys,
    /// Maps from keys to verdicts.
    VerdictMaps,
    /// Sets of ranges.
    IntervalSets,
    /// Sets of ranges whose keys have several parts.
    ConcatenatedIntervalSets,
    /// `ct`, what is known of a packet's connection.
    Conntrack,
    /// `ct mark`
    ConntrackMark,
    /// `ct zone`
    ConntrackZones,
    /// Events of connections.
    ConntrackEvents,
    /// Connections over netlink.
    ConntrackNetlink,
    /// `fib`
    Fib,
    /// Records of packets over netlink.
    NfnetlinkLog,
    /// `log group N`
    Log,
    /// `reject`
    Reject,
    /// Bridges that hand packets to the hooks of IP.
    BridgeNetfilter,
    /// `ct` in tables of family bridge.
    BridgeConntrack,
    /// `flags owner` of a table.
    TableOwner,
    /// `flags owner, persist` of a table.
    TablePersist,
}

/// What a feature is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Need {
    /// No policy can be enforced without it.
    Required,
    /// Without it this can not be done, and all else can.
    For(&'static str),
    /// All can be done without it; with it this is better.
    Optional(&'static str),
}

impl Feature {
    /// All, each after those that it stands on.
    pub const ALL: [Self; 25] = [
        Self::Nfnetlink,
        Self::NfTables,
        Self::InetFamily,
        Self::BridgeFamily,
        Self::NetdevFamily,
        Self::Matches,
        Self::NamedCounters,
        Self::HashSets,
        Self::ConcatenatedKeys,
        Self::VerdictMaps,
        Self::IntervalSets,
        Self::ConcatenatedIntervalSets,
        Self::Conntrack,
        Self::ConntrackMark,
        Self::ConntrackZones,
        Self::ConntrackEvents,
        Self::ConntrackNetlink,
        Self::Fib,
        Self::NfnetlinkLog,
        Self::Log,
        Self::Reject,
        Self::BridgeNetfilter,
        Self::BridgeConntrack,
        Self::TableOwner,
        Self::TablePersist,
    ];

    /// What it is for.
    pub fn need(self) -> Need {
        match self {
            Self::Nfnetlink
            | Self::NfTables
            | Self::InetFamily
            | Self::Matches
            | Self::NamedCounters
            | Self::HashSets
            | Self::ConcatenatedKeys
            | Self::VerdictMaps
            | Self::IntervalSets
            | Self::Conntrack
            | Self::ConntrackMark
            | Self::ConntrackNetlink
            | Self::Fib => Need::Required,
            Self::BridgeFamily | Self::BridgeNetfilter => Need::For("pods on a bridge"),
            Self::NetdevFamily => Need::For("pods whose packets bypass this host's IP"),
            // The compiler has a limit for such sets, and does without if it is 0.
            Self::ConcatenatedIntervalSets => {
                Need::For("merging a class's rules with address blocks or port ranges")
            }
            Self::ConntrackZones => Need::For("connections that others put in zones"),
            Self::ConntrackEvents => Need::For("hearing of marks that others overwrite"),
            Self::NfnetlinkLog | Self::Log => Need::For("records of dropped packets"),
            Self::Reject => Need::For("answering what is denied instead of dropping it"),
            Self::BridgeConntrack => Need::Optional("policies inside the bridge itself"),
            Self::TableOwner => Need::Optional("nobody else can change our tables"),
            Self::TablePersist => {
                Need::Optional("nobody else can change our tables, also while the agent restarts")
            }
        }
    }

    /// The kernel's option, of the version that has the feature longest: later ones have some of it always.
    pub fn option(self) -> &'static str {
        match self {
            Self::Nfnetlink => "CONFIG_NETFILTER_NETLINK",
            Self::NfTables | Self::TableOwner | Self::TablePersist => "CONFIG_NF_TABLES",
            Self::InetFamily => "CONFIG_NF_TABLES_INET",
            Self::BridgeFamily => "CONFIG_NF_TABLES_BRIDGE",
            Self::NetdevFamily => "CONFIG_NF_TABLES_NETDEV",
            Self::Matches => "CONFIG_NF_TABLES, before Linux 5.18 CONFIG_NFT_COUNTER",
            Self::NamedCounters => "CONFIG_NF_TABLES, before Linux 6.2 CONFIG_NFT_OBJREF",
            Self::HashSets | Self::ConcatenatedKeys | Self::VerdictMaps | Self::IntervalSets => {
                "CONFIG_NF_TABLES, before Linux 5.5 CONFIG_NF_TABLES_SET"
            }
            Self::ConcatenatedIntervalSets => "CONFIG_NF_TABLES",
            Self::Conntrack => "CONFIG_NFT_CT",
            Self::ConntrackMark => "CONFIG_NF_CONNTRACK_MARK",
            Self::ConntrackZones => "CONFIG_NF_CONNTRACK_ZONES",
            Self::ConntrackEvents => "CONFIG_NF_CONNTRACK_EVENTS",
            Self::ConntrackNetlink => "CONFIG_NF_CT_NETLINK",
            Self::Fib => "CONFIG_NFT_FIB_INET",
            Self::NfnetlinkLog => "CONFIG_NETFILTER_NETLINK_LOG",
            Self::Log => "CONFIG_NFT_LOG",
            Self::Reject => "CONFIG_NFT_REJECT_INET",
            Self::BridgeNetfilter => "CONFIG_BRIDGE_NETFILTER",
            Self::BridgeConntrack => "CONFIG_NF_CONNTRACK_BRIDGE",
        }
    }

    /// The module that it is in where it is not built in. The kernel loads it by itself when it is asked for the
    /// feature, but for `br_netfilter`.
    pub fn module(self) -> Option<&'static str> {
        match self {
            Self::Nfnetlink => Some("nfnetlink"),
            Self::NfTables => Some("nf_tables"),
            Self::NamedCounters => Some("nft_objref"),
            Self::Conntrack => Some("nft_ct"),
            Self::ConntrackNetlink => Some("nf_conntrack_netlink"),
            Self::Fib => Some("nft_fib_inet"),
            Self::NfnetlinkLog => Some("nfnetlink_log"),
            Self::Log => Some("nft_log"),
            Self::Reject => Some("nft_reject_inet"),
            Self::BridgeNetfilter => Some("br_netfilter"),
            Self::BridgeConntrack => Some("nf_conntrack_bridge"),
            _ => None,
        }
    }

    /// The first version of Linux that has it, if that is after 5.0.
    pub fn since(self) -> Option<&'static str> {
        match self {
            Self::ConcatenatedIntervalSets => Some("5.6"),
            Self::BridgeConntrack => Some("5.3"),
            Self::TableOwner => Some("5.12"),
            Self::TablePersist => Some("6.9"),
            _ => None,
        }
    }

    /// What must be there to ask for it.
    pub(super) fn stands_on(self) -> &'static [Self] {
        match self {
            Self::Nfnetlink | Self::BridgeNetfilter => &[],
            Self::NfTables | Self::ConntrackNetlink | Self::NfnetlinkLog => &[Self::Nfnetlink],
            Self::ConntrackMark | Self::ConntrackZones | Self::ConntrackEvents => {
                &[Self::Conntrack]
            }
            Self::BridgeConntrack => &[Self::BridgeFamily, Self::Conntrack],
            Self::Log => &[Self::NfTables, Self::NfnetlinkLog],
            Self::TablePersist => &[Self::TableOwner],
            Self::VerdictMaps => &[Self::HashSets],
            _ => &[Self::NfTables],
        }
    }
}

impl fmt::Display for Feature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Nfnetlink => "nfnetlink",
            Self::NfTables => "nf_tables",
            Self::InetFamily => "tables of family inet",
            Self::BridgeFamily => "tables of family bridge",
            Self::NetdevFamily => "tables of family netdev",
            Self::Matches => "matches and counters",
            Self::NamedCounters => "counters with names",
            Self::HashSets => "sets",
            Self::ConcatenatedKeys => "sets with concatenated keys",
            Self::VerdictMaps => "verdict maps",
            Self::IntervalSets => "sets of intervals",
            Self::ConcatenatedIntervalSets => "sets of intervals with concatenated keys",
            Self::Conntrack => "ct, the state of connections, in rules",
            Self::ConntrackMark => "marks of connections",
            Self::ConntrackZones => "zones of connections",
            Self::ConntrackEvents => "events of connections",
            Self::ConntrackNetlink => "connections over netlink",
            Self::Fib => "fib, what the routing tables say, in rules",
            Self::NfnetlinkLog => "records of packets over netlink",
            Self::Log => "log in rules",
            Self::Reject => "reject in rules",
            Self::BridgeNetfilter => "bridges that hand packets to the inet hooks",
            Self::BridgeConntrack => "ct in tables of family bridge",
            Self::TableOwner => "tables with an owner",
            Self::TablePersist => "tables that outlive the program that owns them",
        })
    }
}

impl fmt::Display for Need {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Required => f.write_str("required"),
            Self::For(what) => write!(f, "needed for {what}"),
            Self::Optional(what) => write!(f, "would help: {what}"),
        }
    }
}
