//! Elements in the messages of a batch: as many messages as they need, and the sets without a name, whose elements come
//! with them.

use policy_compiler::ruleset::TableFamily;

use super::batch::Builder;
use super::constants::{element, msg, set};
use super::element::{WireElement, interval, key, key_range, zero};
use super::expression::ANONYMOUS;
use super::field;
use super::linearize::AnonymousSet;
use super::operation::{Elements, Operation};
use super::userdata;
use crate::error::Unfit;
use crate::netlink::message;

/// Bytes of elements in one message: its list is an attribute, which is shorter than 65,536 bytes.
const LIST: usize = 60_000;

impl Builder {
    pub(super) fn anonymous_set(&mut self, family: TableFamily, new: &AnonymousSet, id: u32) {
        let of = field::data_type(new.field);
        let flags =
            set::F_ANONYMOUS | set::F_CONSTANT | if new.interval { set::F_INTERVAL } else { 0 };
        let mut elements = Vec::new();
        if new.interval {
            let starts_at_zero = |first: &[u8]| first.iter().all(|byte| *byte == 0);
            if !new
                .ranges
                .first()
                .is_some_and(|(first, _)| starts_at_zero(first))
            {
                elements.push(zero(of.length()));
            }
        }
        // As nft counts: an end for each interval, also where there is none.
        let size = elements.len() + new.ranges.len() * if new.interval { 2 } else { 1 };
        for (first, last) in &new.ranges {
            if new.interval {
                let (start, end) = interval(first.clone(), last);
                elements.extend([Some(start), end].into_iter().flatten());
            } else {
                elements.push(WireElement {
                    key: first.clone(),
                    ..WireElement::default()
                });
            }
        }
        let name = self.table;
        self.message(msg::NEWSET, message::CREATE, family, None, |out| {
            out.put_text(set::TABLE, name);
            out.put_text(set::NAME, ANONYMOUS);
            out.put_u32(set::FLAGS, flags);
            out.put_u32(set::KEY_TYPE, of.id());
            out.put_u32(set::KEY_LEN, of.length() as u32);
            out.put_u32(set::ID, id);
            out.nested(set::DESC, |out| out.put_u32(set::DESC_SIZE, size as u32));
            let userdata = userdata::anonymous_set(new.field, new.interval);
            out.put(set::USERDATA, &userdata);
        });
        self.elements(
            family,
            (ANONYMOUS, Some(id)),
            &elements,
            message::CREATE,
            false,
        );
    }

    /// As many messages as the elements need.
    pub(super) fn elements(
        &mut self,
        family: TableFamily,
        (name, id): (&str, Option<u32>),
        elements: &[WireElement],
        flags: u16,
        named: bool,
    ) {
        self.lists(msg::NEWSETELEM, family, (name, id), elements, flags, named);
    }

    pub(super) fn delete_elements(
        &mut self,
        family: TableFamily,
        name: &str,
        elements: &[WireElement],
    ) {
        self.lists(msg::DELSETELEM, family, (name, None), elements, 0, true);
    }

    fn lists(
        &mut self,
        kind: u16,
        family: TableFamily,
        (name, id): (&str, Option<u32>),
        elements: &[WireElement],
        flags: u16,
        named: bool,
    ) {
        let mut rest = elements;
        while !rest.is_empty() {
            let mut size = 0;
            let fits = |element: &&WireElement| {
                size += element.size();
                size <= LIST
            };
            // One element alone is far shorter.
            let count = rest.iter().take_while(fits).count().max(1);
            let before = elements.len() - rest.len();
            let (now, later) = rest.split_at(count);
            let of = self.table;
            self.message(kind, flags, family, named.then_some(before), |out| {
                out.put_text(element::LIST_TABLE, of);
                out.put_text(element::LIST_SET, name);
                if let Some(id) = id {
                    out.put_u32(element::LIST_SET_ID, id);
                }
                out.nested(element::LIST_ELEMENTS, |out| {
                    for element in now {
                        element.write(out, element::LIST_ELEMENT);
                    }
                });
            });
            rest = later;
        }
    }
}

/// The elements of a set, or the keys of a map.
pub(super) fn wire_elements(of: &Elements<'_>) -> Result<Vec<WireElement>, Unfit> {
    let mut wire = Vec::with_capacity(of.keys.len());
    for values in &of.keys {
        let unfit = || Unfit::Key(values.to_vec());
        if !of.interval {
            wire.push(WireElement {
                key: key(of.key, values).ok_or_else(unfit)?,
                ..WireElement::default()
            });
            continue;
        }
        let (first, last) = key_range(of.key, values).ok_or_else(unfit)?;
        if of.is_rbtree() {
            let (start, end) = interval(first, &last);
            wire.push(start);
            wire.extend(end);
        } else {
            wire.push(WireElement {
                key: first,
                last: Some(last),
                ..WireElement::default()
            });
        }
    }
    Ok(wire)
}

/// Of which of its elements is the operation's element on the wire: an interval has a start and mostly an end.
pub(super) fn owner(operation: &Operation<'_>, wire: usize) -> Option<usize> {
    let (Operation::AddElements(of) | Operation::DeleteElements(of)) = operation else {
        return Some(wire);
    };
    if !of.is_rbtree() {
        return Some(wire);
    }
    let mut seen = 0;
    for (index, values) in of.keys.iter().enumerate() {
        let one = Elements {
            keys: vec![values],
            ..*of
        };
        seen += wire_elements(&one).ok()?.len();
        if wire < seen {
            return Some(index);
        }
    }
    None
}
