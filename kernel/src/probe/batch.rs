//! A batch without an end, in which a table and what is in it are tried.

use super::question::{NAME, Part, REGISTER, Step};
use crate::netlink::attribute::Writer;
use crate::netlink::message::{self, Header};
use crate::nftables::constants::{chain, element, expr, family, msg, object, rule, set, table};

/// The table.
const TABLE: &str = "picket-probe";
/// A set's number in the batch.
const SET_ID: u32 = 1;
/// `NFTA_CT_SREG`
const CT_SREG: u16 = 4;
/// The type of a concatenated key for nft: not looked at by the kernel.
const KEY_TYPE: u32 = 7;

/// The bytes of a batch without an end, and how many messages it has. Each but the first, its begin, is answered.
pub(super) fn batch(first: u32, family: u8, flags: u32, parts: &[Part]) -> (Vec<u8>, u32) {
    let mut batch = Batch {
        out: Writer::default(),
        family,
        first,
        count: 0,
    };
    let begin = Header {
        kind: message::BATCH_BEGIN,
        flags: 0,
        sequence: batch.next(),
        family: family::UNSPEC,
        resource: message::NFTABLES,
    };
    message::write(&mut batch.out, begin, |_| {});
    batch.message(msg::NEWTABLE, message::CREATE | message::EXCLUSIVE, |out| {
        out.put_text(table::NAME, TABLE);
        out.put_u32(table::FLAGS, flags);
    });
    for part in parts {
        batch.part(part);
    }
    (batch.out.bytes, batch.count)
}

struct Batch {
    out: Writer,
    family: u8,
    first: u32,
    count: u32,
}

impl Batch {
    fn next(&mut self) -> u32 {
        self.count += 1;
        self.first + self.count - 1
    }

    fn message(&mut self, kind: u16, flags: u16, fill: impl FnOnce(&mut Writer)) {
        let header = Header {
            kind: message::NFTABLES << 8 | kind,
            flags: flags | message::ACK,
            sequence: self.next(),
            family: self.family,
            resource: 0,
        };
        message::write(&mut self.out, header, fill);
    }

    fn part(&mut self, part: &Part) {
        match part {
            Part::BaseChain { hook, device } => self.chain(|out| {
                out.put_text(chain::TYPE, "filter");
                out.nested(chain::HOOK, |out| {
                    out.put_u32(chain::HOOK_NUMBER, *hook);
                    out.put_u32(chain::HOOK_PRIORITY, 0);
                    if let Some(device) = device {
                        out.put_text(chain::HOOK_DEVICE, device);
                    }
                });
            }),
            Part::Set { flags, fields } => self.set(*flags, fields),
            Part::Counter => {
                let flags = message::CREATE | message::EXCLUSIVE;
                self.message(msg::NEWOBJ, flags, |out| {
                    out.put_text(object::TABLE, TABLE);
                    out.put_text(object::NAME, NAME);
                    out.put_u32(object::TYPE, object::COUNTER);
                    out.nested(object::DATA, |_| {});
                });
            }
            Part::Rule(steps) => {
                self.chain(|_| {});
                let flags = message::CREATE | message::APPEND;
                self.message(msg::NEWRULE, flags, |out| {
                    out.put_text(rule::TABLE, TABLE);
                    out.put_text(rule::CHAIN, NAME);
                    out.nested(rule::EXPRESSIONS, |out| {
                        steps.iter().for_each(|step| step.write(out));
                    });
                });
            }
        }
    }

    fn chain(&mut self, fill: impl FnOnce(&mut Writer)) {
        let flags = message::CREATE | message::EXCLUSIVE;
        self.message(msg::NEWCHAIN, flags, |out| {
            out.put_text(chain::TABLE, TABLE);
            out.put_text(chain::NAME, NAME);
            fill(out);
        });
    }

    fn set(&mut self, flags: u32, fields: &[u32]) {
        // Each part of a key takes whole registers of four bytes.
        let length = fields.iter().map(|field| field.next_multiple_of(4)).sum();
        let is_map = flags & set::F_MAP != 0;
        let message = message::CREATE | message::EXCLUSIVE;
        self.message(msg::NEWSET, message, |out| {
            out.put_text(set::TABLE, TABLE);
            out.put_text(set::NAME, NAME);
            out.put_u32(set::FLAGS, flags);
            out.put_u32(set::KEY_TYPE, KEY_TYPE);
            out.put_u32(set::KEY_LEN, length);
            if is_map {
                out.put_u32(set::DATA_TYPE, set::VERDICTS);
                out.put_u32(set::DATA_LEN, 0);
            }
            out.put_u32(set::ID, SET_ID);
            if flags & set::F_CONCAT != 0 {
                out.nested(set::DESC, |out| {
                    out.nested(set::DESC_CONCAT, |out| {
                        for field in fields {
                            let length = |out: &mut Writer| out.put_u32(set::FIELD_LEN, *field);
                            out.nested(element::LIST_ELEMENT, length);
                        }
                    });
                });
            }
        });
    }
}

impl Step {
    fn write(&self, out: &mut Writer) {
        match self {
            Self::Known(expression) => expression.write(out),
            Self::SetConntrack(key) => out.nested(element::LIST_ELEMENT, |out| {
                out.put_text(expr::NAME, "ct");
                out.nested(expr::DATA, |out| {
                    out.put_u32(expr::CT_KEY, *key);
                    out.put_u32(CT_SREG, REGISTER);
                });
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::feature::Feature;
    use super::super::question::{DORMANT, Question};
    use super::*;

    #[test]
    fn every_table_that_is_tried_is_dormant_and_in_a_batch_without_an_end() {
        let mut tables = 0;
        for feature in Feature::ALL {
            let Question::Table {
                family,
                flags,
                parts,
            } = feature.question()
            else {
                continue;
            };
            tables += 1;
            assert_eq!(flags & DORMANT, DORMANT, "{feature}");
            let (bytes, count) = batch(7, family, flags, &parts);
            let messages: Vec<_> = message::Messages(&bytes).map(Result::unwrap).collect();
            assert_eq!(messages.len() as u32, count);
            assert_eq!(messages[0].kind, message::BATCH_BEGIN);
            assert!(
                messages
                    .iter()
                    .all(|message| message.kind != message::BATCH_END)
            );
            assert!(
                messages
                    .iter()
                    .zip(7..)
                    .all(|(m, sequence)| m.sequence == sequence)
            );
            let acknowledged = |m: &message::Message<'_>| m.flags & message::ACK != 0;
            assert!(messages[1..].iter().all(acknowledged));
        }
        assert!(tables > 15, "{tables}");
    }
}
