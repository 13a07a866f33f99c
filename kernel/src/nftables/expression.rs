//! Expressions: the instructions of a rule. Registers are numbered as in `enum nft_registers`.

use policy_compiler::ruleset::Verdict;

use super::constants::{data, expr, object};
use crate::netlink::attribute::{Attribute, Attributes, Malformed, Writer};

/// An instruction of a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Expression {
    /// Loads a part of the packet, or what is known of it, into a register.
    Load { what: Load, register: u32 },
    /// Goes on if the register compares so.
    Compare {
        register: u32,
        operator: Comparison,
        data: Vec<u8>,
    },
    /// Goes on if the register is inside, or outside, the range, first and last included.
    Range {
        register: u32,
        outside: bool,
        first: Vec<u8>,
        last: Vec<u8>,
    },
    /// Keeps these bits of the register.
    Mask { register: u32, mask: Vec<u8> },
    /// Goes on if the key is in the set, or is not.
    Lookup {
        register: u32,
        set: SetName,
        inverted: bool,
    },
    /// Takes the verdict that the map has for the key.
    VerdictMap { register: u32, map: String },
    /// A verdict.
    Immediate(Verdict),
    /// Counts packets; what it has counted is not looked at.
    Counter,
    /// Counts packets in a counter of the table.
    NamedCounter(String),
    /// Reports the packet to an NFLOG group.
    Log {
        group: u16,
        prefix: String,
        /// 0 for all of the packet.
        snaplen: u32,
    },
    /// Drops the packet, and answers as `enum nft_reject_types` and its codes say.
    Reject { kind: u32, code: u8 },
}

/// What is loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Load {
    /// Of `enum nft_meta_keys`.
    Meta(u32),
    /// Of `enum nft_ct_keys`; of what both directions have, that of `enum ip_conntrack_dir`.
    Connection { key: u32, direction: Option<u8> },
    /// Bytes of a header of `enum nft_payload_bases`.
    Payload { base: u32, offset: u32, length: u32 },
    /// What the routing tables say: `enum nft_fib_result` and `enum nft_fib_flags`.
    Route { result: u32, flags: u32 },
}

/// `enum nft_cmp_ops`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Comparison {
    Equal = 0,
    NotEqual = 1,
    AtMost = 3,
    AtLeast = 5,
}

/// How a rule finds its set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum SetName {
    /// By name.
    Named(String),
    /// One that is made in the same batch, by its number there.
    Numbered(u32),
}

/// A name that the kernel replaces by a free one: it prints a number in.
pub(crate) const ANONYMOUS: &str = "__set%d";

impl Expression {
    /// The expression as an element of a rule's list.
    pub(crate) fn write(&self, out: &mut Writer) {
        let of = |out: &mut Writer, name: &str, fill: &dyn Fn(&mut Writer)| {
            out.nested(super::constants::element::LIST_ELEMENT, |out| {
                out.put_text(expr::NAME, name);
                out.nested(expr::DATA, |out| fill(out));
            });
        };
        match self {
            Self::Load { what, register } => what.write(out, *register),
            Self::Compare {
                register,
                operator,
                data,
            } => of(out, "cmp", &|out| {
                out.put_u32(expr::CMP_SREG, *register);
                out.put_u32(expr::CMP_OP, *operator as u32);
                write_value(out, expr::CMP_DATA, data);
            }),
            Self::Range {
                register,
                outside,
                first,
                last,
            } => of(out, "range", &|out| {
                out.put_u32(expr::RANGE_SREG, *register);
                out.put_u32(expr::RANGE_OP, u32::from(*outside));
                write_value(out, expr::RANGE_FROM, first);
                write_value(out, expr::RANGE_TO, last);
            }),
            Self::Mask { register, mask } => of(out, "bitwise", &|out| {
                out.put_u32(expr::BITWISE_SREG, *register);
                out.put_u32(expr::BITWISE_DREG, *register);
                // A mask is at most as long as a key.
                out.put_u32(expr::BITWISE_LEN, mask.len() as u32);
                write_value(out, expr::BITWISE_MASK, mask);
                write_value(out, expr::BITWISE_XOR, &vec![0; mask.len()]);
            }),
            Self::Lookup {
                register,
                set,
                inverted,
            } => of(out, "lookup", &|out| {
                out.put_u32(expr::LOOKUP_SREG, *register);
                match set {
                    SetName::Named(name) => out.put_text(expr::LOOKUP_SET, name),
                    SetName::Numbered(id) => {
                        out.put_text(expr::LOOKUP_SET, ANONYMOUS);
                        out.put_u32(expr::LOOKUP_SET_ID, *id);
                    }
                }
                if *inverted {
                    out.put_u32(expr::LOOKUP_FLAGS, expr::LOOKUP_INVERTED);
                }
            }),
            Self::VerdictMap { register, map } => of(out, "lookup", &|out| {
                out.put_u32(expr::LOOKUP_SREG, *register);
                out.put_u32(expr::LOOKUP_DREG, 0);
                out.put_text(expr::LOOKUP_SET, map);
            }),
            Self::Immediate(verdict) => of(out, "immediate", &|out| {
                out.put_u32(expr::IMMEDIATE_DREG, 0);
                write_verdict(out, expr::IMMEDIATE_DATA, verdict);
            }),
            Self::Counter => of(out, "counter", &|_| {}),
            Self::NamedCounter(name) => of(out, "objref", &|out| {
                out.put_u32(expr::OBJREF_TYPE, object::COUNTER);
                out.put_text(expr::OBJREF_NAME, name);
            }),
            Self::Log {
                group,
                prefix,
                snaplen,
            } => of(out, "log", &|out| {
                out.put_text(expr::LOG_PREFIX, prefix);
                out.put(expr::LOG_GROUP, &group.to_be_bytes());
                if *snaplen > 0 {
                    out.put_u32(expr::LOG_SNAPLEN, *snaplen);
                }
            }),
            Self::Reject { kind, code } => of(out, "reject", &|out| {
                out.put_u32(expr::REJECT_TYPE, *kind);
                out.put(expr::REJECT_CODE, &[*code]);
            }),
        }
    }
}

impl Load {
    fn write(self, out: &mut Writer, register: u32) {
        let name = match self {
            Self::Meta(_) => "meta",
            Self::Connection { .. } => "ct",
            Self::Payload { .. } => "payload",
            Self::Route { .. } => "fib",
        };
        out.nested(super::constants::element::LIST_ELEMENT, |out| {
            out.put_text(expr::NAME, name);
            out.nested(expr::DATA, |out| match self {
                Self::Meta(key) => {
                    out.put_u32(expr::META_KEY, key);
                    out.put_u32(expr::META_DREG, register);
                }
                Self::Connection { key, direction } => {
                    out.put_u32(expr::CT_KEY, key);
                    out.put_u32(expr::CT_DREG, register);
                    if let Some(direction) = direction {
                        out.put(expr::CT_DIRECTION, &[direction]);
                    }
                }
                Self::Payload {
                    base,
                    offset,
                    length,
                } => {
                    out.put_u32(expr::PAYLOAD_DREG, register);
                    out.put_u32(expr::PAYLOAD_BASE, base);
                    out.put_u32(expr::PAYLOAD_OFFSET, offset);
                    out.put_u32(expr::PAYLOAD_LEN, length);
                }
                Self::Route { result, flags } => {
                    out.put_u32(expr::FIB_FLAGS, flags);
                    out.put_u32(expr::FIB_RESULT, result);
                    out.put_u32(expr::FIB_DREG, register);
                }
            });
        });
    }
}

/// Data of an expression or an element.
pub(crate) fn write_value(out: &mut Writer, kind: u16, bytes: &[u8]) {
    out.nested(kind, |out| out.put(data::VALUE, bytes));
}

/// A verdict as data.
pub(crate) fn write_verdict(out: &mut Writer, kind: u16, verdict: &Verdict) {
    let (code, chain) = match verdict {
        Verdict::Drop => (data::DROP, None),
        Verdict::Accept => (data::ACCEPT, None),
        Verdict::Return => (data::RETURN, None),
        Verdict::Jump(chain) => (data::JUMP, Some(chain)),
        Verdict::Goto(chain) => (data::GOTO, Some(chain)),
    };
    out.nested(kind, |out| {
        out.nested(data::VERDICT, |out| {
            out.put_u32(data::VERDICT_CODE, code.cast_unsigned());
            if let Some(chain) = chain {
                out.put_text(data::VERDICT_CHAIN, chain);
            }
        });
    });
}

/// The bytes of data.
pub(crate) fn read_value(attribute: Attribute<'_>) -> Result<&[u8], Malformed> {
    let value = crate::netlink::attribute::find(attribute.payload, data::VALUE)?;
    Ok(value.ok_or(Malformed("data"))?.payload)
}

/// The verdict of data, if it is one that we use.
pub(crate) fn read_verdict(attribute: Attribute<'_>) -> Result<Option<Verdict>, Malformed> {
    let verdict = crate::netlink::attribute::find(attribute.payload, data::VERDICT)?;
    let (mut code, mut chain) = (None, None);
    for attribute in Attributes(verdict.ok_or(Malformed("verdict"))?.payload) {
        let attribute = attribute?;
        match attribute.kind {
            data::VERDICT_CODE => code = Some(attribute.u32()?.cast_signed()),
            data::VERDICT_CHAIN => chain = Some(attribute.text()?.to_owned()),
            _ => {}
        }
    }
    Ok(match (code, chain) {
        (Some(data::DROP), None) => Some(Verdict::Drop),
        (Some(data::ACCEPT), None) => Some(Verdict::Accept),
        (Some(data::RETURN), None) => Some(Verdict::Return),
        (Some(data::JUMP), Some(chain)) => Some(Verdict::Jump(chain)),
        (Some(data::GOTO), Some(chain)) => Some(Verdict::Goto(chain)),
        _ => None,
    })
}
