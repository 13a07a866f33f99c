//! The elements of a set, all of them.
//!
//! The kernel keeps count of how far a dump of a hash set has come, and makes the hash larger or smaller in the
//! background when elements came or went (`nft_rhash_walk`, `lib/rhashtable.c`). A dump meanwhile leaves elements out or
//! repeats some, and nothing in it says so: of 400,000 elements that were just added, 30,000 were missing. So what is
//! read is counted, and read again if it is not what the set has.

use std::collections::BTreeSet;

use super::constants::{element, msg, set};
use super::element::WireElement;
use super::expression::{read_value, read_verdict};
use super::families::family_number;
use super::read::RawSet;
use super::socket::{Dumped, Nftables};
use crate::error::Error;
use crate::netlink::attribute::{Attributes, Malformed, Writer};

/// Flags that sets of ours have.
const OURS: u32 = set::F_ANONYMOUS | set::F_CONSTANT | set::F_INTERVAL | set::F_MAP | set::F_CONCAT;

/// How often the elements of a set are read. The hash has its new size in a fraction of the time.
const ATTEMPTS: usize = 20;

/// Elements that always fit one message, which is one walk of the hash: nothing is left out.
const ONE_MESSAGE: usize = 50;

impl Nftables {
    /// Reads the set's elements, and whether anything changed meanwhile, which may be elsewhere. Nothing if not all came.
    pub(super) fn read_elements(
        &mut self,
        table: &'static str,
        found: &mut RawSet,
    ) -> Result<Option<Dumped>, Error> {
        if found.odd_element || found.flags & !OURS != 0 {
            // Not one of ours, whatever is in it. What is in it may change at any time: elements with a timeout are
            // counted when they are no longer listed, and packets may add some.
            found.odd_element = true;
            return Ok(Some(Dumped::All));
        }
        let mut changed = Dumped::All;
        let mut before: Option<BTreeSet<Vec<u8>>> = None;
        for _ in 0..ATTEMPTS {
            found.elements.clear();
            changed = changed.and(self.dump_elements(table, found)?);
            if found.flags & set::F_INTERVAL != 0 {
                return Ok(Some(changed));
            }
            found.elements.sort_by(|one, other| one.key.cmp(&other.key));
            found.elements.dedup_by(|one, other| one.key == other.key);
            let read = found.elements.len();
            if is_all(read, found.count) {
                return Ok(Some(changed));
            }
            if found.count.is_none() {
                // An older kernel: what two dumps agree on.
                let keys = found.elements.iter().map(|element| element.key.clone());
                let keys = Some(keys.collect());
                if keys == before {
                    return Ok(Some(changed));
                }
                before = keys;
            }
        }
        Ok(None)
    }

    fn dump_elements(&mut self, table: &'static str, found: &mut RawSet) -> Result<Dumped, Error> {
        let request = |out: &mut Writer| {
            out.put_text(element::LIST_TABLE, table);
            out.put_text(element::LIST_SET, &found.name);
        };
        let number = family_number(found.family);
        let (elements, odd) = (&mut found.elements, &mut found.odd_element);
        self.request(
            msg::GETSETELEM,
            crate::netlink::message::DUMP,
            number,
            request,
            |_, _, attributes| read_elements(attributes, elements, odd),
        )
    }
}

/// Whether so many are all elements of a hash set.
fn is_all(read: usize, count: Option<u32>) -> bool {
    match count {
        Some(count) => read == count as usize,
        None => read <= ONE_MESSAGE,
    }
}

/// The elements of one message.
pub(super) fn read_elements(
    attributes: &[u8],
    elements: &mut Vec<WireElement>,
    odd: &mut bool,
) -> Result<(), Malformed> {
    for attribute in Attributes(attributes) {
        let attribute = attribute?;
        if attribute.kind != element::LIST_ELEMENTS {
            continue;
        }
        for one in attribute.nested() {
            let mut read = WireElement::default();
            for part in one?.nested() {
                let part = part?;
                match part.kind {
                    element::KEY => read.key = read_value(part)?.to_vec(),
                    element::FLAGS => {
                        let flags = part.u32()?;
                        read.end = flags & element::F_INTERVAL_END != 0;
                        *odd |= flags & !element::F_INTERVAL_END != 0;
                    }
                    element::DATA => {
                        read.verdict = read_verdict(part)?;
                        *odd |= read.verdict.is_none();
                    }
                    element::USERDATA => read.userdata = part.payload.to_vec(),
                    element::KEY_END => read.last = Some(read_value(part)?.to_vec()),
                    element::TIMEOUT
                    | element::EXPIRATION
                    | element::EXPR
                    | element::EXPRESSIONS
                    | element::OBJREF => *odd = true,
                    _ => {}
                }
            }
            elements.push(read);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_counts_is_all_and_what_it_does_not_count_only_if_it_is_little() {
        assert!(is_all(7, Some(7)) && is_all(0, Some(0)));
        assert!(!is_all(6, Some(7)) && !is_all(8, Some(7)));
        assert!(is_all(ONE_MESSAGE, None) && !is_all(ONE_MESSAGE + 1, None));
    }
}
