//! A list of operations as one batch: what lies between a begin and an end takes effect at once, or not at all.

use policy_compiler::name::COMMENT_LENGTH;
use policy_compiler::ruleset::{Base, Hook, KeyType, Rule, TableFamily, Value};

use super::Generation;
use super::constants::{chain, element, msg, object as obj, rule, set, table};
use super::element::{WireElement, key, key_length, zero};
use super::families::{family_number, hook_number};
use super::linearize::linearize;
use super::lists::{owner, wire_elements};
use super::object::Object;
use super::operation::Operation;
use super::types::Type;
use super::userdata;
use crate::error::{Error, Unfit};
use crate::netlink::attribute::Writer;
use crate::netlink::message::{self, Header};

/// The bytes of a batch, and what each of its messages is for.
#[derive(Debug)]
pub(crate) struct Batch {
    pub(crate) bytes: Vec<u8>,
    /// By sequence number, from `first`; the first and the last are the batch's own.
    pub(crate) messages: Vec<Sent>,
    /// Sequence number of the begin.
    pub(crate) first: u32,
}

/// What a message is for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sent {
    /// Where in the bytes it is.
    pub(crate) start: usize,
    /// The index of its operation; none for the begin and the end.
    pub(crate) operation: Option<usize>,
    /// How many elements of the operation earlier messages have, if it has elements.
    pub(crate) elements_before: Option<usize>,
}

/// What is added must not be there.
const NEW: u16 = message::CREATE | message::EXCLUSIVE;

/// Puts a batch together.
pub(super) struct Builder {
    /// The name of the tables that are changed.
    pub(super) table: &'static str,
    /// The flags of those that are made.
    flags: u32,
    out: Writer,
    batch: Vec<Sent>,
    first: u32,
    operation: Option<usize>,
    /// Number of the next set.
    set: u32,
}

impl Batch {
    /// The operations in their order, in tables of that name. The last asks for an acknowledgement, so that success is
    /// heard too.
    pub(crate) fn new(
        (table, flags): (&'static str, u32),
        operations: &[Operation<'_>],
        expected: Option<Generation>,
        first: u32,
    ) -> Result<Self, Error> {
        if let Some(expected @ Generation(0)) = expected {
            // To the kernel 0 is any generation, and none is ever 0.
            return Err(Error::Stale { expected });
        }
        let mut builder = Builder {
            table,
            flags,
            out: Writer::default(),
            batch: Vec::new(),
            first,
            operation: None,
            set: 1,
        };
        builder.frame(message::BATCH_BEGIN, |out| {
            if let Some(Generation(number)) = expected {
                out.put_u32(message::BATCH_GENERATION, number);
            }
        });
        for (index, operation) in operations.iter().enumerate() {
            builder.operation = Some(index);
            let unfit = |reason| Error::Unfit {
                object: object(operations, index, None),
                reason,
            };
            builder.operation(operation).map_err(unfit)?;
            if builder.out.take_overflow() {
                return Err(unfit(Unfit::TooLong));
            }
        }
        if let Some(last) = builder.batch.last() {
            // `nlmsg_flags`, in the header's bytes 6 and 7; the flag is in the first of little endian.
            let at = last.start + 6;
            let flags = [builder.out.bytes[at], builder.out.bytes[at + 1]];
            let flags = u16::from_ne_bytes(flags) | message::ACK;
            builder.out.bytes[at..at + 2].copy_from_slice(&flags.to_ne_bytes());
        }
        builder.operation = None;
        builder.frame(message::BATCH_END, |_| {});
        Ok(Self {
            bytes: builder.out.bytes,
            messages: builder.batch,
            first,
        })
    }
}

impl Builder {
    fn start(&mut self, elements_before: Option<usize>) -> u32 {
        let sequence = self.first.wrapping_add(self.batch.len() as u32);
        self.batch.push(Sent {
            start: self.out.bytes.len(),
            operation: self.operation,
            elements_before,
        });
        sequence
    }

    /// The begin or the end.
    fn frame(&mut self, kind: u16, fill: impl FnOnce(&mut Writer)) {
        let header = Header {
            kind,
            flags: 0,
            sequence: self.start(None),
            family: 0,
            resource: message::NFTABLES,
        };
        message::write(&mut self.out, header, fill);
    }

    pub(super) fn message(
        &mut self,
        kind: u16,
        flags: u16,
        family: TableFamily,
        elements_before: Option<usize>,
        fill: impl FnOnce(&mut Writer),
    ) {
        let header = Header {
            kind: message::NFTABLES << 8 | kind,
            flags,
            sequence: self.start(elements_before),
            family: family_number(family),
            resource: 0,
        };
        message::write(&mut self.out, header, fill);
    }

    fn operation(&mut self, operation: &Operation<'_>) -> Result<(), Unfit> {
        let (of, flags) = (self.table, self.flags);
        let named_table = |out: &mut Writer| out.put_text(table::NAME, of);
        match operation {
            Operation::AddTable(family) => {
                self.message(msg::NEWTABLE, NEW, *family, None, |out| {
                    named_table(out);
                    out.put_u32(table::FLAGS, flags);
                });
            }
            Operation::EnsureTable(family) => {
                self.message(msg::NEWTABLE, message::CREATE, *family, None, |out| {
                    named_table(out);
                    out.put_u32(table::FLAGS, flags);
                });
            }
            Operation::DeleteTable(family) => {
                self.message(msg::DELTABLE, 0, *family, None, named_table);
            }
            Operation::AddChain { family, name, base } => self.chain(*family, name, *base)?,
            Operation::DeleteChain { family, name } => {
                self.message(msg::DELCHAIN, 0, *family, None, |out| {
                    out.put_text(chain::TABLE, of);
                    out.put_text(chain::NAME, name);
                });
            }
            Operation::FlushChain { family, name } => {
                self.message(msg::DELRULE, 0, *family, None, |out| {
                    out.put_text(rule::TABLE, of);
                    out.put_text(rule::CHAIN, name);
                });
            }
            Operation::AppendRule {
                family,
                chain,
                rule,
            } => self.rule(*family, chain, rule)?,
            Operation::AddCounter { family, name } => {
                self.message(msg::NEWOBJ, NEW, *family, None, |out| {
                    out.put_text(obj::TABLE, of);
                    out.put_text(obj::NAME, name);
                    out.put_u32(obj::TYPE, obj::COUNTER);
                    out.nested(obj::DATA, |_| {});
                });
            }
            Operation::DeleteCounter { family, name } => {
                self.message(msg::DELOBJ, 0, *family, None, |out| {
                    out.put_text(obj::TABLE, of);
                    out.put_text(obj::NAME, name);
                    out.put_u32(obj::TYPE, obj::COUNTER);
                });
            }
            Operation::AddSet {
                family,
                name,
                key,
                interval,
                comment,
            } => {
                let flags = match (interval, key.len()) {
                    (false, _) => 0,
                    (true, 1) => set::F_INTERVAL,
                    (true, _) => set::F_INTERVAL | set::F_CONCAT,
                };
                self.set(*family, name, key, flags, comment)?;
            }
            Operation::AddMap {
                family,
                name,
                key,
                comment,
            } => {
                self.set(*family, name, key, set::F_MAP, comment)?;
            }
            Operation::DeleteSet { family, name } => {
                self.message(msg::DELSET, 0, *family, None, |out| {
                    out.put_text(set::TABLE, of);
                    out.put_text(set::NAME, name);
                });
            }
            Operation::FlushSet { family, name } => {
                self.message(msg::DELSETELEM, 0, *family, None, |out| {
                    out.put_text(element::LIST_TABLE, of);
                    out.put_text(element::LIST_SET, name);
                });
            }
            Operation::AddElements(of) => {
                let elements = wire_elements(of)?;
                let after_zero = |first: &WireElement| first.key.iter().any(|byte| *byte != 0);
                if of.is_rbtree() && elements.first().is_some_and(after_zero) {
                    // Of every batch that adds intervals, so it may be there.
                    let zero = [zero(key_length(of.key))];
                    self.elements(of.family, (of.set, None), &zero, message::CREATE, false);
                }
                self.elements(of.family, (of.set, None), &elements, NEW, true);
            }
            Operation::DeleteElements(of) => {
                let mut elements = wire_elements(of)?;
                for element in &mut elements {
                    element.userdata.clear();
                }
                self.delete_elements(of.family, of.set, &elements);
            }
            Operation::AddMapElements {
                family,
                map,
                key: types,
                elements,
            } => {
                let mut wire = Vec::with_capacity(elements.len());
                for (values, element) in elements {
                    check_comment(&element.comment)?;
                    wire.push(WireElement {
                        key: key(types, values).ok_or_else(|| Unfit::Key(values.to_vec()))?,
                        verdict: Some(element.verdict.clone()),
                        userdata: userdata::comment(&element.comment),
                        ..WireElement::default()
                    });
                }
                self.elements(*family, (map, None), &wire, NEW, true);
            }
        }
        Ok(())
    }

    fn chain(&mut self, family: TableFamily, name: &str, base: Option<&Base>) -> Result<(), Unfit> {
        if let Some(base) = base {
            let at_device = base.hook == Hook::Ingress;
            if (family == TableFamily::Netdev) != at_device || at_device != base.device.is_some() {
                return Err(Unfit::Hook);
            }
        }
        let of = self.table;
        self.message(msg::NEWCHAIN, NEW, family, None, |out| {
            out.put_text(chain::TABLE, of);
            out.put_text(chain::NAME, name);
            if let Some(base) = base {
                out.put_text(chain::TYPE, "filter");
                out.put_u32(chain::POLICY, chain::ACCEPT);
                out.nested(chain::HOOK, |out| {
                    out.put_u32(chain::HOOK_NUMBER, hook_number(base.hook));
                    out.put_u32(chain::HOOK_PRIORITY, base.priority.cast_unsigned());
                    if let Some(device) = &base.device {
                        out.put_text(chain::HOOK_DEVICE, device.as_str());
                    }
                });
            }
        });
        Ok(())
    }

    fn set(
        &mut self,
        family: TableFamily,
        name: &str,
        types: &[KeyType],
        flags: u32,
        comment: &str,
    ) -> Result<(), Unfit> {
        check_comment(comment)?;
        let is_map = flags & set::F_MAP != 0;
        // nft's order of a named type, not of what is looked up: only interface names have the host's.
        let order = match types {
            [one] => Some(*one == KeyType::Interface),
            _ => None,
        };
        // nft numbers a concatenation by its parts, six bits each.
        let parts = types.iter().map(|part| Type::from(*part).id());
        let type_id = parts.fold(0, |all, part| all << 6 | part);
        let id = self.next_set();
        let of = self.table;
        self.message(msg::NEWSET, NEW, family, None, |out| {
            out.put_text(set::TABLE, of);
            out.put_text(set::NAME, name);
            out.put_u32(set::FLAGS, flags);
            out.put_u32(set::KEY_TYPE, type_id);
            out.put_u32(set::KEY_LEN, key_length(types) as u32);
            if is_map {
                out.put_u32(set::DATA_TYPE, set::VERDICTS);
                out.put_u32(set::DATA_LEN, 0);
            }
            out.put_u32(set::ID, id);
            if flags & set::F_CONCAT != 0 {
                out.nested(set::DESC, |out| {
                    out.nested(set::DESC_CONCAT, |out| {
                        for part in types {
                            let length = Type::from(*part).length() as u32;
                            // NFTA_LIST_ELEM
                            out.nested(element::LIST_ELEMENT, |out| {
                                out.put_u32(set::FIELD_LEN, length);
                            });
                        }
                    });
                });
            }
            out.put(set::USERDATA, &userdata::set(order, is_map, comment));
        });
        Ok(())
    }

    pub(super) fn next_set(&mut self) -> u32 {
        let id = self.set;
        self.set += 1;
        id
    }

    fn rule(&mut self, family: TableFamily, chain: &str, new: &Rule) -> Result<(), Unfit> {
        new.comment.as_deref().map_or(Ok(()), check_comment)?;
        let prefix = new.log.as_ref().map(|log| log.prefix.as_str());
        // NF_LOG_PREFIXLEN is one more.
        prefix.map_or(Ok(()), check_comment)?;
        let linear = linearize(new, family, self.set)?;
        for anonymous in &linear.sets {
            let id = self.next_set();
            self.anonymous_set(family, anonymous, id);
        }
        let flags = message::CREATE | message::APPEND;
        let of = self.table;
        self.message(msg::NEWRULE, flags, family, None, |out| {
            out.put_text(rule::TABLE, of);
            out.put_text(rule::CHAIN, chain);
            out.nested(rule::EXPRESSIONS, |out| {
                for expression in &linear.expressions {
                    expression.write(out);
                }
            });
            if let Some(comment) = &new.comment {
                out.put(rule::USERDATA, &userdata::comment(comment));
            }
        });
        Ok(())
    }
}

pub(super) fn check_comment(comment: &str) -> Result<(), Unfit> {
    if comment.len() > COMMENT_LENGTH {
        return Err(Unfit::TooLong);
    }
    Ok(())
}

/// What an operation changes: a rule with its place among those that the batch appends to its chain, an element with
/// its key.
pub(crate) fn object(operations: &[Operation<'_>], index: usize, wire: Option<usize>) -> Object {
    let Some(operation) = operations.get(index) else {
        return Object::Other("the request".into());
    };
    let mut object = operation.object();
    match &mut object {
        Object::Rule {
            family,
            chain,
            index: place,
            ..
        } => {
            let same = |other: &&Operation<'_>| matches!(other, Operation::AppendRule { family: of, chain: to, .. } if of == family && to == chain);
            *place = Some(operations[..index].iter().filter(same).count());
        }
        Object::Element { key, .. } => {
            let element = wire.and_then(|wire| owner(operation, wire));
            *key = element.and_then(|element| operation.key(element).map(<[Value]>::to_vec));
        }
        _ => {}
    }
    object
}
