//! Numbers of `linux/netfilter/nfnetlink_conntrack.h`.

/// `enum cntl_msg_types`
pub(super) mod msg {
    pub(in crate::conntrack) const NEW: u16 = 0;
    pub(in crate::conntrack) const GET: u16 = 1;
}

/// `NFPROTO_*` of `linux/netfilter.h`
pub(super) mod family {
    pub(in crate::conntrack) const UNSPEC: u8 = 0;
    pub(in crate::conntrack) const IPV4: u8 = 2;
    pub(in crate::conntrack) const IPV6: u8 = 10;
}

/// `enum ctattr_type`
pub(super) mod entry {
    pub(in crate::conntrack) const TUPLE_ORIG: u16 = 1;
    pub(in crate::conntrack) const TUPLE_REPLY: u16 = 2;
    pub(in crate::conntrack) const STATUS: u16 = 3;
    pub(in crate::conntrack) const TIMEOUT: u16 = 7;
    pub(in crate::conntrack) const MARK: u16 = 8;
    pub(in crate::conntrack) const ID: u16 = 12;
    pub(in crate::conntrack) const ZONE: u16 = 18;
    pub(in crate::conntrack) const MARK_MASK: u16 = 21;
    pub(in crate::conntrack) const FILTER: u16 = 25;
    pub(in crate::conntrack) const STATUS_MASK: u16 = 26;
}

/// `enum ctattr_tuple`
pub(super) mod tuple {
    pub(in crate::conntrack) const IP: u16 = 1;
    pub(in crate::conntrack) const PROTO: u16 = 2;
    pub(in crate::conntrack) const ZONE: u16 = 3;
}

/// `enum ctattr_ip`
pub(super) mod ip {
    pub(in crate::conntrack) const V4_SRC: u16 = 1;
    pub(in crate::conntrack) const V4_DST: u16 = 2;
    pub(in crate::conntrack) const V6_SRC: u16 = 3;
    pub(in crate::conntrack) const V6_DST: u16 = 4;
}

/// `enum ctattr_l4proto`
pub(super) mod proto {
    pub(in crate::conntrack) const NUM: u16 = 1;
    pub(in crate::conntrack) const SRC_PORT: u16 = 2;
    pub(in crate::conntrack) const DST_PORT: u16 = 3;
    pub(in crate::conntrack) const ICMP_ID: u16 = 4;
    pub(in crate::conntrack) const ICMP_TYPE: u16 = 5;
    pub(in crate::conntrack) const ICMP_CODE: u16 = 6;
    pub(in crate::conntrack) const ICMPV6_ID: u16 = 7;
    pub(in crate::conntrack) const ICMPV6_TYPE: u16 = 8;
    pub(in crate::conntrack) const ICMPV6_CODE: u16 = 9;
}

/// `enum ctattr_filter`, and its flags, which no header file has (`CTA_FILTER_F_*` of the kernel's `nf_internals.h`).
pub(super) mod filter {
    pub(in crate::conntrack) const ORIG_FLAGS: u16 = 1;
    pub(in crate::conntrack) const REPLY_FLAGS: u16 = 2;
    pub(in crate::conntrack) const F_IP_SRC: u32 = 1 << 0;
    pub(in crate::conntrack) const F_IP_DST: u32 = 1 << 1;
    pub(in crate::conntrack) const F_PROTO_NUM: u32 = 1 << 3;
    pub(in crate::conntrack) const F_PROTO_SRC_PORT: u32 = 1 << 4;
    pub(in crate::conntrack) const F_PROTO_DST_PORT: u32 = 1 << 5;
}

/// `IPPROTO_*` of `linux/in.h` and `linux/in6.h`
pub(super) mod protocol {
    pub(in crate::conntrack) const ICMP: u8 = 1;
    pub(in crate::conntrack) const TCP: u8 = 6;
    pub(in crate::conntrack) const UDP: u8 = 17;
    pub(in crate::conntrack) const ICMPV6: u8 = 58;
    pub(in crate::conntrack) const SCTP: u8 = 132;
}
