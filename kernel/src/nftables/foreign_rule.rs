//! What a rule of somebody else does to the mark of a connection.
//!
//! The rule's registers are followed as the kernel has them (`nf_tables_core.c`), bit by bit: which bits of what is written
//! come from the mark itself. What is not understood may be anything.

use super::constants::{ct, data, expr};
use crate::netlink::attribute::{Attribute, Attributes, find};

/// `NFTA_CT_SREG`
const CT_SREG: u16 = 4;
/// `NFTA_BITWISE_SREG2`, Linux 6.13
const BITWISE_SREG2: u16 = 8;
/// `NFTA_TARGET_NAME`, `NFTA_TARGET_REV`, `NFTA_TARGET_INFO`: a target of iptables
const TARGET_NAME: u16 = 1;
const TARGET_INFO: u16 = 3;
/// `enum nft_bitwise_ops`
const BOOLEAN: u32 = 0;
const AND: u32 = 3;
const OR: u32 = 4;
/// `XT_CONNMARK_SET`, `XT_CONNMARK_SAVE`
const SET: u8 = 0;
const SAVE: u8 = 1;
/// Registers of four bytes.
const REGISTERS: usize = 16;

/// What may become of the bits of a connection's mark.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MarkWritten {
    /// Bits that may be cleared.
    pub cleared: u32,
    /// Bits that may be set.
    pub set: u32,
}

/// A value of four bytes beside the mark of the connection.
#[derive(Clone, Copy, Debug, Default)]
struct Value {
    /// Bits that are set where those of the mark are.
    keeps_set: u32,
    /// Bits that are clear where those of the mark are.
    keeps_clear: u32,
}

impl Value {
    const MARK: Self = Self {
        keeps_set: !0,
        keeps_clear: !0,
    };

    fn constant(value: u32) -> Self {
        Self {
            keeps_set: value,
            keeps_clear: !value,
        }
    }

    /// `(value & mask) ^ xor`
    fn boolean(self, mask: u32, xor: u32) -> Self {
        let constant = Self::constant(xor);
        let (kept, fixed) = (mask & !xor, !mask);
        Self {
            keeps_set: self.keeps_set & kept | constant.keeps_set & fixed,
            keeps_clear: self.keeps_clear & kept | constant.keeps_clear & fixed,
        }
    }

    fn and(self, other: Self) -> Self {
        Self {
            keeps_set: self.keeps_set & other.keeps_set,
            keeps_clear: self.keeps_clear | other.keeps_clear,
        }
    }

    fn or(self, other: Self) -> Self {
        Self {
            keeps_set: self.keeps_set | other.keeps_set,
            keeps_clear: self.keeps_clear & other.keeps_clear,
        }
    }

    /// The bits that are the mark's own.
    fn same(self) -> u32 {
        self.keeps_set & self.keeps_clear
    }
}

/// What the rule knows while it runs.
#[derive(Default)]
struct Run {
    registers: [Value; REGISTERS],
    /// Bits of the mark that are known, as the rule goes on only where they are so.
    known_set: u32,
    known_clear: u32,
    written: MarkWritten,
}

/// What a rule's expressions do to the mark; nothing if they do not write it, or in a way that changes no bit.
pub(crate) fn mark_written(expressions: &[u8]) -> MarkWritten {
    let mut run = Run::default();
    // What can not be read ends the list, as nothing behind it is known.
    for element in Attributes(expressions).map_while(Result::ok) {
        let name = find(element.payload, expr::NAME).ok().flatten();
        let name = name.and_then(|name| name.text().ok()).unwrap_or_default();
        let data = find(element.payload, expr::DATA).ok().flatten();
        run.step(name, data.map_or(&[][..], |data| data.payload));
    }
    run.written
}

impl Run {
    fn step(&mut self, name: &str, data: &[u8]) {
        match name {
            // They write no register that is read here.
            "counter" | "range" | "limit" | "quota" | "connlimit" | "log" | "notrack"
            | "objref" => {}
            "cmp" => self.compare(data),
            "ct" => self.connection(data),
            "bitwise" => self.bitwise(data),
            "immediate" => self.immediate(data),
            "target" => self.target(data),
            _ => self.registers = Default::default(),
        }
    }

    fn compare(&mut self, data: &[u8]) {
        let (equal, value) = (number(data, expr::CMP_OP), value(data, expr::CMP_DATA));
        let (Some(0), Some(value)) = (equal, value) else {
            return;
        };
        let same = self.register(data, expr::CMP_SREG).same();
        self.known_set |= same & value;
        self.known_clear |= same & !value;
    }

    fn connection(&mut self, data: &[u8]) {
        let is_mark = number(data, expr::CT_KEY) == Some(ct::MARK);
        if let Some(to) = number(data, expr::CT_DREG) {
            let value = if is_mark {
                Value::MARK
            } else {
                Value::default()
            };
            self.put(to, value);
        } else if is_mark {
            let value = self.register(data, CT_SREG);
            self.write(value);
        }
    }

    fn bitwise(&mut self, data: &[u8]) {
        let Some(to) = number(data, expr::BITWISE_DREG) else {
            self.registers = Default::default();
            return;
        };
        let from = self.register(data, expr::BITWISE_SREG);
        let other = || match number(data, BITWISE_SREG2) {
            Some(_) => self.register(data, BITWISE_SREG2),
            None => value(data, expr::BITWISE_MASK).map_or(Value::default(), Value::constant),
        };
        let one_register = number(data, expr::BITWISE_LEN) == Some(4);
        let result = match number(data, expr::BITWISE_OP).unwrap_or(BOOLEAN) {
            _ if !one_register => Value::default(),
            BOOLEAN => match (
                value(data, expr::BITWISE_MASK),
                value(data, expr::BITWISE_XOR),
            ) {
                (Some(mask), Some(xor)) => from.boolean(mask, xor),
                _ => Value::default(),
            },
            AND => from.and(other()),
            OR => from.or(other()),
            _ => Value::default(),
        };
        self.put(to, result);
    }

    fn immediate(&mut self, data: &[u8]) {
        match number(data, expr::IMMEDIATE_DREG) {
            // A verdict.
            Some(0) => {}
            Some(to) => {
                let value = value(data, expr::IMMEDIATE_DATA);
                self.put(to, value.map_or(Value::default(), Value::constant));
            }
            None => self.registers = Default::default(),
        }
    }

    /// `struct xt_connmark_tginfo1` of `linux/netfilter/xt_connmark.h`, which the later one begins with.
    fn target(&mut self, data: &[u8]) {
        let name = find(data, TARGET_NAME).ok().flatten();
        if name.is_none_or(|name| name.text() != Ok("CONNMARK")) {
            return;
        }
        let info = find(data, TARGET_INFO).ok().flatten();
        let info = info.map_or(&[][..], |info| info.payload);
        let word = |at: usize| {
            let bytes = info.get(at..at + 4)?.try_into().ok()?;
            Some(u32::from_ne_bytes(bytes))
        };
        let (Some(mark), Some(mask), Some(of_packet), Some(mode)) =
            (word(0), word(4), word(8), info.get(12))
        else {
            self.write(Value::default());
            return;
        };
        match *mode {
            // (mark & ~mask) ^ value
            SET => self.write(Value::MARK.boolean(!mask, mark)),
            // (mark & ~mask) ^ (the packet's mark & of_packet)
            SAVE => {
                let unknown = !of_packet;
                let Value {
                    keeps_set,
                    keeps_clear,
                } = Value::MARK.boolean(!mask, 0);
                self.write(Value {
                    keeps_set: keeps_set & unknown,
                    keeps_clear: keeps_clear & unknown,
                });
            }
            // It is the packet's that is written.
            _ => {}
        }
    }

    fn write(&mut self, value: Value) {
        self.written.cleared |= !value.keeps_set & !self.known_clear;
        self.written.set |= !value.keeps_clear & !self.known_set;
        // Nothing more is known of the mark, nor of what was loaded from it.
        (self.known_set, self.known_clear) = (0, 0);
        self.registers = Default::default();
    }

    /// The value in the register that an attribute names.
    fn register(&self, data: &[u8], kind: u16) -> Value {
        let place = number(data, kind).and_then(place);
        place.map_or(Value::default(), |first| self.registers[first])
    }

    fn put(&mut self, register: u32, value: Value) {
        let Some(first) = place(register) else {
            self.registers = Default::default();
            return;
        };
        // What is wider than four bytes, at most sixteen, reaches into the next ones.
        for other in self.registers.iter_mut().skip(first).take(4) {
            *other = Value::default();
        }
        self.registers[first] = value;
    }
}

/// Where a register begins: `enum nft_registers` has four of 16 bytes, 1 to 4, and the same as sixteen of four, 8 to 23.
fn place(register: u32) -> Option<usize> {
    match register {
        1..=4 => Some((register as usize - 1) * 4),
        8..=23 => Some(register as usize - 8),
        _ => None,
    }
}

fn number(data: &[u8], kind: u16) -> Option<u32> {
    find(data, kind).ok()??.u32().ok()
}

/// A value of four bytes, in the machine's order as marks are.
fn value(attributes: &[u8], kind: u16) -> Option<u32> {
    let value: Attribute<'_> = find(attributes, kind).ok()??;
    let bytes = find(value.payload, data::VALUE).ok()??.payload;
    bytes.try_into().ok().map(u32::from_ne_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netlink::attribute::Writer;

    /// A rule with one target of iptables.
    fn target(name: &str, info: &[u8]) -> MarkWritten {
        let mut out = Writer::default();
        out.nested(1, |out| {
            out.put_text(expr::NAME, "target");
            out.nested(expr::DATA, |out| {
                out.put_text(TARGET_NAME, name);
                out.put(TARGET_INFO, info);
            });
        });
        mark_written(&out.bytes)
    }

    fn connmark(mark: u32, mask: u32, of_packet: u32, mode: u8) -> MarkWritten {
        let mut info = [mark, mask, of_packet].map(u32::to_ne_bytes).concat();
        info.extend([mode, 0, 0, 0]);
        target("CONNMARK", &info)
    }

    #[test]
    fn targets_of_iptables_are_followed() {
        let written = |cleared, set| MarkWritten { cleared, set };
        for (said, result, expected) in [
            // -j CONNMARK --set-mark 0x1
            ("set-mark", connmark(1, !0, 0, SET), written(!1, 1)),
            // --set-xmark 0x80/0x80, as the VPC plugin of AWS has it
            ("set-xmark", connmark(0x80, 0x80, 0, SET), written(0, 0x80)),
            ("or-mark", connmark(0x80, 0x80, 0, SET), written(0, 0x80)),
            ("and-mark", connmark(0, !0xff, 0, SET), written(!0xff, 0)),
            // It flips.
            ("xor-mark", connmark(0x80, 0, 0, SET), written(0x80, 0x80)),
            ("save-mark", connmark(0, !0, !0, SAVE), written(!0, !0)),
            (
                "save-mark with a mask",
                connmark(0, 0xff, 0xff, SAVE),
                written(0xff, 0xff),
            ),
            ("restore-mark", connmark(0, !0, !0, 2), written(0, 0)),
            (
                "what is too short",
                target("CONNMARK", &[0; 8]),
                written(!0, !0),
            ),
            ("another", target("MARK", &[0xff; 16]), written(0, 0)),
        ] {
            assert_eq!(result, expected, "{said}");
        }
    }

    #[test]
    fn wide_registers_lie_where_narrow_ones_are() {
        assert_eq!(place(1), Some(0));
        assert_eq!(place(4), Some(12));
        assert_eq!(place(8), Some(0));
        assert_eq!(place(23), Some(15));
        for none in [0, 5, 7, 24, u32::MAX] {
            assert_eq!(place(none), None);
        }
    }
}
