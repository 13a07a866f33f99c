//! Numbers of `linux/rtnetlink.h`, `linux/if_link.h`, `linux/if_addr.h`, `linux/net_namespace.h` and `linux/if.h`, by
//! the names that they have there.

/// `RTM_*`
pub(super) mod msg {
    pub(crate) const NEWLINK: u16 = 16;
    pub(crate) const DELLINK: u16 = 17;
    pub(crate) const GETLINK: u16 = 18;
    pub(crate) const SETLINK: u16 = 19;
    pub(crate) const NEWADDR: u16 = 20;
    pub(crate) const DELADDR: u16 = 21;
    pub(crate) const GETADDR: u16 = 22;
    pub(crate) const NEWROUTE: u16 = 24;
    pub(crate) const GETROUTE: u16 = 26;
    pub(crate) const NEWNSID: u16 = 88;
    pub(crate) const GETNSID: u16 = 90;
}

/// `AF_*`
pub(super) mod family {
    pub(crate) const UNSPEC: u8 = 0;
    pub(crate) const INET: u8 = 2;
    pub(crate) const BRIDGE: u8 = 7;
    pub(crate) const INET6: u8 = 10;
}

/// `RTNLGRP_*`
pub(super) mod group {
    pub(crate) const LINK: u32 = 1;
    pub(crate) const IPV4_IFADDR: u32 = 5;
    pub(crate) const IPV6_IFADDR: u32 = 9;
}

/// `struct ifinfomsg`, `IFLA_*`, `IFLA_INFO_*`, `IFLA_BR_*`
pub(super) mod link {
    /// Size of `struct ifinfomsg`.
    pub(crate) const HEADER: usize = 16;
    /// `IFF_UP`
    pub(crate) const UP: u32 = 0x1;
    pub(crate) const ADDRESS: u16 = 1;
    pub(crate) const IFNAME: u16 = 3;
    pub(crate) const LINK: u16 = 5;
    pub(crate) const MASTER: u16 = 10;
    pub(crate) const OPERSTATE: u16 = 16;
    pub(crate) const LINKINFO: u16 = 18;
    pub(crate) const IFALIAS: u16 = 20;
    pub(crate) const GROUP: u16 = 27;
    pub(crate) const EXT_MASK: u16 = 29;
    pub(crate) const LINK_NETNSID: u16 = 37;
    pub(crate) const TARGET_NETNSID: u16 = 46;
    pub(crate) const INFO_KIND: u16 = 1;
    pub(crate) const INFO_DATA: u16 = 2;
    pub(crate) const INFO_SLAVE_KIND: u16 = 4;
    /// `IFLA_IPVLAN_MODE`
    pub(crate) const IPVLAN_MODE: u16 = 1;
    /// `IPVLAN_MODE_L3S`
    pub(crate) const IPVLAN_L3S: u16 = 2;
    pub(crate) const BR_VLAN_FILTERING: u16 = 7;
    pub(crate) const BR_NF_CALL_IPTABLES: u16 = 36;
    pub(crate) const BR_NF_CALL_IP6TABLES: u16 = 37;
    pub(crate) const BR_NF_CALL_ARPTABLES: u16 = 38;
    /// `RTEXT_FILTER_SKIP_STATS`: no counters, which are most of a message.
    pub(crate) const SKIP_STATS: u32 = 1 << 3;
    /// The longest alias in bytes: `IFALIASZ` without its terminating zero.
    pub(crate) const ALIAS_LENGTH: usize = 255;
    /// The longest name in bytes: `IFNAMSIZ` without its terminating zero.
    pub(crate) const NAME_LENGTH: usize = 15;
}

/// `struct ifaddrmsg`, `IFA_*`
pub(super) mod address {
    /// Size of `struct ifaddrmsg`.
    pub(crate) const HEADER: usize = 8;
    pub(crate) const ADDRESS: u16 = 1;
    pub(crate) const LOCAL: u16 = 2;
    pub(crate) const FLAGS: u16 = 8;
    pub(crate) const TARGET_NETNSID: u16 = 10;
}

/// `struct rtmsg`, `RTA_*`
pub(super) mod route {
    /// Size of `struct rtmsg`.
    pub(crate) const HEADER: usize = 12;
    pub(crate) const DST: u16 = 1;
    pub(crate) const OIF: u16 = 4;
    pub(crate) const GATEWAY: u16 = 5;
    pub(crate) const PRIORITY: u16 = 6;
    pub(crate) const PREFSRC: u16 = 7;
    pub(crate) const MULTIPATH: u16 = 9;
    pub(crate) const TABLE: u16 = 15;
    pub(crate) const VIA: u16 = 18;
    pub(crate) const NH_ID: u16 = 30;
    /// Size of `struct rtnexthop`.
    pub(crate) const NEXT_HOP_HEADER: usize = 8;
    /// `RTM_F_LOOKUP_TABLE`: name the table that had the answer.
    pub(crate) const LOOKUP_TABLE: u32 = 0x1000;
}

/// `NETNSA_*`
pub(super) mod nsid {
    pub(crate) const NSID: u16 = 1;
    pub(crate) const FD: u16 = 3;
}
