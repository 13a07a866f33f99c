//! Numbers of `linux/netfilter/nf_tables.h`, by the names that they have there without the prefixes `NFT_` and `NFTA_`.

/// `enum nf_tables_msg_types`
pub(crate) mod msg {
    pub(crate) const NEWTABLE: u16 = 0;
    pub(crate) const GETTABLE: u16 = 1;
    pub(crate) const DELTABLE: u16 = 2;
    pub(crate) const NEWCHAIN: u16 = 3;
    pub(crate) const GETCHAIN: u16 = 4;
    pub(crate) const DELCHAIN: u16 = 5;
    pub(crate) const NEWRULE: u16 = 6;
    pub(crate) const GETRULE: u16 = 7;
    pub(crate) const DELRULE: u16 = 8;
    pub(crate) const NEWSET: u16 = 9;
    pub(crate) const GETSET: u16 = 10;
    pub(crate) const DELSET: u16 = 11;
    pub(crate) const NEWSETELEM: u16 = 12;
    pub(crate) const GETSETELEM: u16 = 13;
    pub(crate) const DELSETELEM: u16 = 14;
    pub(crate) const NEWGEN: u16 = 15;
    pub(crate) const GETGEN: u16 = 16;
    pub(crate) const NEWOBJ: u16 = 18;
    pub(crate) const GETOBJ: u16 = 19;
    pub(crate) const DELOBJ: u16 = 20;
}

/// `enum nft_table_attributes`
pub(crate) mod table {
    pub(crate) const NAME: u16 = 1;
    pub(crate) const FLAGS: u16 = 2;
    /// The netlink port of the socket that has it.
    pub(crate) const OWNER: u16 = 7;
    /// `NFT_TABLE_F_OWNER`: only the socket that made it may change it.
    pub(crate) const F_OWNER: u32 = 0x2;
    /// `NFT_TABLE_F_PERSIST`: it stays when that socket is closed.
    pub(crate) const F_PERSIST: u32 = 0x4;
}

/// `enum nft_chain_attributes` and `enum nft_hook_attributes`
pub(crate) mod chain {
    pub(crate) const TABLE: u16 = 1;
    pub(crate) const NAME: u16 = 3;
    pub(crate) const HOOK: u16 = 4;
    pub(crate) const POLICY: u16 = 5;
    pub(crate) const TYPE: u16 = 7;
    pub(crate) const FLAGS: u16 = 10;
    /// `NFT_CHAIN_BASE`
    pub(crate) const F_BASE: u32 = 0x1;
    /// `NFT_CHAIN_BINDING`: it belongs to the one rule that jumps there, and goes with it.
    pub(crate) const F_BINDING: u32 = 0x4;
    pub(crate) const HOOK_NUMBER: u16 = 1;
    pub(crate) const HOOK_PRIORITY: u16 = 2;
    pub(crate) const HOOK_DEVICE: u16 = 3;
    pub(crate) const HOOK_DEVICES: u16 = 4;
    /// `NF_ACCEPT`
    pub(crate) const ACCEPT: u32 = 1;
}

/// `enum nft_rule_attributes`
pub(crate) mod rule {
    pub(crate) const TABLE: u16 = 1;
    pub(crate) const CHAIN: u16 = 2;
    pub(crate) const EXPRESSIONS: u16 = 4;
    pub(crate) const USERDATA: u16 = 7;
}

/// `enum nft_set_attributes`, `enum nft_set_flags`, `enum nft_set_desc_attributes`
pub(crate) mod set {
    pub(crate) const TABLE: u16 = 1;
    pub(crate) const NAME: u16 = 2;
    pub(crate) const FLAGS: u16 = 3;
    pub(crate) const KEY_TYPE: u16 = 4;
    pub(crate) const KEY_LEN: u16 = 5;
    pub(crate) const DATA_TYPE: u16 = 6;
    pub(crate) const DATA_LEN: u16 = 7;
    pub(crate) const DESC: u16 = 9;
    pub(crate) const ID: u16 = 10;
    pub(crate) const USERDATA: u16 = 13;
    pub(crate) const TIMEOUT: u16 = 11;
    pub(crate) const GC_INTERVAL: u16 = 12;
    pub(crate) const OBJ_TYPE: u16 = 15;
    pub(crate) const EXPR: u16 = 17;
    pub(crate) const EXPRESSIONS: u16 = 18;
    pub(crate) const COUNT: u16 = 20;
    pub(crate) const DESC_SIZE: u16 = 1;
    pub(crate) const DESC_CONCAT: u16 = 2;
    /// `NFTA_SET_FIELD_LEN` of `enum nft_set_field_attributes`
    pub(crate) const FIELD_LEN: u16 = 1;
    pub(crate) const F_ANONYMOUS: u32 = 0x1;
    pub(crate) const F_CONSTANT: u32 = 0x2;
    pub(crate) const F_INTERVAL: u32 = 0x4;
    pub(crate) const F_MAP: u32 = 0x8;
    pub(crate) const F_CONCAT: u32 = 0x80;
    /// `NFT_DATA_VERDICT`
    pub(crate) const VERDICTS: u32 = 0xffff_ff00;
}

/// `enum nft_object_attributes`, and `enum nft_counter_attributes` in its data
pub(crate) mod object {
    pub(crate) const TABLE: u16 = 1;
    pub(crate) const NAME: u16 = 2;
    pub(crate) const TYPE: u16 = 3;
    pub(crate) const DATA: u16 = 4;
    /// `NFT_OBJECT_COUNTER`
    pub(crate) const COUNTER: u32 = 1;
    pub(crate) const COUNTER_BYTES: u16 = 1;
    pub(crate) const COUNTER_PACKETS: u16 = 2;
}

/// `enum nft_set_elem_list_attributes`, `enum nft_set_elem_attributes`, `enum nft_set_elem_flags`
pub(crate) mod element {
    pub(crate) const LIST_TABLE: u16 = 1;
    pub(crate) const LIST_SET: u16 = 2;
    pub(crate) const LIST_ELEMENTS: u16 = 3;
    pub(crate) const LIST_SET_ID: u16 = 4;
    /// `NFTA_LIST_ELEM`
    pub(crate) const LIST_ELEMENT: u16 = 1;
    pub(crate) const KEY: u16 = 1;
    pub(crate) const DATA: u16 = 2;
    pub(crate) const FLAGS: u16 = 3;
    pub(crate) const TIMEOUT: u16 = 4;
    pub(crate) const USERDATA: u16 = 6;
    pub(crate) const EXPIRATION: u16 = 5;
    pub(crate) const EXPR: u16 = 7;
    pub(crate) const OBJREF: u16 = 9;
    pub(crate) const KEY_END: u16 = 10;
    pub(crate) const EXPRESSIONS: u16 = 11;
    pub(crate) const F_INTERVAL_END: u32 = 0x1;
}

/// `enum nft_data_attributes`, `enum nft_verdict_attributes`, `enum nft_verdicts`
pub(crate) mod data {
    pub(crate) const VALUE: u16 = 1;
    pub(crate) const VERDICT: u16 = 2;
    pub(crate) const VERDICT_CODE: u16 = 1;
    pub(crate) const VERDICT_CHAIN: u16 = 2;
    /// `NF_DROP`
    pub(crate) const DROP: i32 = 0;
    /// `NF_ACCEPT`
    pub(crate) const ACCEPT: i32 = 1;
    pub(crate) const JUMP: i32 = -3;
    pub(crate) const GOTO: i32 = -4;
    pub(crate) const RETURN: i32 = -5;
}

/// Attributes of expressions, each enum by its expression's name.
pub(crate) mod expr {
    /// `NFTA_EXPR_NAME`
    pub(crate) const NAME: u16 = 1;
    /// `NFTA_EXPR_DATA`
    pub(crate) const DATA: u16 = 2;
    pub(crate) const META_DREG: u16 = 1;
    pub(crate) const META_KEY: u16 = 2;
    pub(crate) const PAYLOAD_DREG: u16 = 1;
    pub(crate) const PAYLOAD_BASE: u16 = 2;
    pub(crate) const PAYLOAD_OFFSET: u16 = 3;
    pub(crate) const PAYLOAD_LEN: u16 = 4;
    pub(crate) const CT_DREG: u16 = 1;
    pub(crate) const CT_KEY: u16 = 2;
    pub(crate) const CT_DIRECTION: u16 = 3;
    pub(crate) const FIB_DREG: u16 = 1;
    pub(crate) const FIB_RESULT: u16 = 2;
    pub(crate) const FIB_FLAGS: u16 = 3;
    pub(crate) const CMP_SREG: u16 = 1;
    pub(crate) const CMP_OP: u16 = 2;
    pub(crate) const CMP_DATA: u16 = 3;
    pub(crate) const RANGE_SREG: u16 = 1;
    pub(crate) const RANGE_OP: u16 = 2;
    pub(crate) const RANGE_FROM: u16 = 3;
    pub(crate) const RANGE_TO: u16 = 4;
    pub(crate) const BITWISE_SREG: u16 = 1;
    pub(crate) const BITWISE_DREG: u16 = 2;
    pub(crate) const BITWISE_LEN: u16 = 3;
    pub(crate) const BITWISE_MASK: u16 = 4;
    pub(crate) const BITWISE_XOR: u16 = 5;
    pub(crate) const BITWISE_OP: u16 = 6;
    pub(crate) const BYTEORDER_LEN: u16 = 4;
    pub(crate) const LOOKUP_SET: u16 = 1;
    pub(crate) const LOOKUP_SREG: u16 = 2;
    pub(crate) const LOOKUP_DREG: u16 = 3;
    pub(crate) const LOOKUP_SET_ID: u16 = 4;
    pub(crate) const LOOKUP_FLAGS: u16 = 5;
    /// `NFT_LOOKUP_F_INV`
    pub(crate) const LOOKUP_INVERTED: u32 = 1;
    pub(crate) const LOG_GROUP: u16 = 1;
    pub(crate) const LOG_PREFIX: u16 = 2;
    pub(crate) const LOG_SNAPLEN: u16 = 3;
    pub(crate) const LOG_QUEUE_THRESHOLD: u16 = 4;
    pub(crate) const LOG_LEVEL: u16 = 5;
    pub(crate) const LOG_FLAGS: u16 = 6;
    pub(crate) const REJECT_TYPE: u16 = 1;
    pub(crate) const REJECT_CODE: u16 = 2;
    /// `NFT_REJECT_TCP_RST`
    pub(crate) const REJECT_TCP_RESET: u32 = 1;
    /// `NFT_REJECT_ICMPX_UNREACH`
    pub(crate) const REJECT_ICMPX: u32 = 2;
    /// `NFT_REJECT_ICMPX_ADMIN_PROHIBITED`
    pub(crate) const REJECT_ADMIN_PROHIBITED: u8 = 3;
    pub(crate) const OBJREF_TYPE: u16 = 1;
    pub(crate) const OBJREF_NAME: u16 = 2;
    pub(crate) const IMMEDIATE_DREG: u16 = 1;
    pub(crate) const IMMEDIATE_DATA: u16 = 2;
}

/// `enum nft_gen_attributes`
pub(crate) mod generation {
    pub(crate) const ID: u16 = 1;
    pub(crate) const PROC_PID: u16 = 2;
    pub(crate) const PROC_NAME: u16 = 3;
}

/// `enum nft_meta_keys`
pub(crate) mod meta {
    pub(crate) const PROTOCOL: u32 = 1;
    pub(crate) const IIFNAME: u32 = 6;
    pub(crate) const OIFNAME: u32 = 7;
    pub(crate) const IIFTYPE: u32 = 8;
    pub(crate) const NFPROTO: u32 = 15;
    pub(crate) const L4PROTO: u32 = 16;
    pub(crate) const PKTTYPE: u32 = 19;
    pub(crate) const IIFGROUP: u32 = 21;
    pub(crate) const OIFGROUP: u32 = 22;
}

/// `enum nft_ct_keys`
pub(crate) mod ct {
    pub(crate) const STATE: u32 = 0;
    pub(crate) const DIRECTION: u32 = 1;
    pub(crate) const STATUS: u32 = 2;
    pub(crate) const MARK: u32 = 3;
    pub(crate) const SRC_IP: u32 = 19;
    pub(crate) const DST_IP: u32 = 20;
    pub(crate) const SRC_IP6: u32 = 21;
    pub(crate) const DST_IP6: u32 = 22;
    /// `IP_CT_DIR_ORIGINAL`
    pub(crate) const ORIGINAL: u8 = 0;
}

/// `enum nft_payload_bases`
pub(crate) mod base {
    pub(crate) const LINK: u32 = 0;
    pub(crate) const NETWORK: u32 = 1;
    pub(crate) const TRANSPORT: u32 = 2;
}

/// `enum nft_fib_result`, `enum nft_fib_flags`
pub(crate) mod fib {
    pub(crate) const OIF: u32 = 1;
    pub(crate) const ADDRTYPE: u32 = 3;
    pub(crate) const F_SADDR: u32 = 0x1;
    pub(crate) const F_DADDR: u32 = 0x2;
    pub(crate) const F_IIF: u32 = 0x8;
    /// Whether there is an answer, instead of the answer.
    pub(crate) const F_PRESENT: u32 = 0x20;
}

/// `NFPROTO_*` of `linux/netfilter.h`
pub(crate) mod family {
    pub(crate) const UNSPEC: u8 = 0;
    pub(crate) const INET: u8 = 1;
    pub(crate) const IPV4: u8 = 2;
    pub(crate) const ARP: u8 = 3;
    pub(crate) const NETDEV: u8 = 5;
    pub(crate) const BRIDGE: u8 = 7;
    pub(crate) const IPV6: u8 = 10;
}
