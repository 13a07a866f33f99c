//! Elements of sets and maps.
//!
//! An interval is an element where it starts and one, marked as an end, after its last value; one that ends with the last
//! value of all has no end. nft marks the value 0 as an end too if no interval starts there.
//!
//! An element of a concatenation of intervals is one element with the first and the last value of each part.

use policy_compiler::ruleset::{KeyType, Value, Verdict};

use super::constants::element;
use super::expression::{write_value, write_verdict};
use super::linearize::after;
use super::types::Type;
use super::userdata;
use crate::netlink::attribute::Writer;

/// An element as the kernel has it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct WireElement {
    pub(crate) key: Vec<u8>,
    /// The last values, of a concatenation of intervals.
    pub(crate) last: Option<Vec<u8>>,
    /// Whether it only ends an interval.
    pub(crate) end: bool,
    pub(crate) verdict: Option<Verdict>,
    pub(crate) userdata: Vec<u8>,
}

impl WireElement {
    /// The element as one of a list.
    pub(crate) fn write(&self, out: &mut Writer, kind: u16) {
        out.nested(kind, |out| {
            if self.end {
                out.put_u32(element::FLAGS, element::F_INTERVAL_END);
            }
            write_value(out, element::KEY, &self.key);
            if let Some(last) = &self.last {
                write_value(out, element::KEY_END, last);
            }
            if let Some(verdict) = &self.verdict {
                write_verdict(out, element::DATA, verdict);
            }
            if !self.userdata.is_empty() {
                out.put(element::USERDATA, &self.userdata);
            }
        });
    }

    /// An upper bound of the bytes that it takes.
    pub(crate) fn size(&self) -> usize {
        // Eight headers, flags, a verdict's code and its chain's name, and padding.
        const OVERHEAD: usize = 72;
        let chain = match &self.verdict {
            Some(Verdict::Jump(chain) | Verdict::Goto(chain)) => chain.len(),
            _ => 0,
        };
        let last = self.last.as_ref().map_or(0, Vec::len);
        OVERHEAD + self.key.len() + last + chain + self.userdata.len()
    }
}

/// The bytes of a key of single values.
pub(crate) fn key(types: &[KeyType], values: &[Value]) -> Option<Vec<u8>> {
    let (first, last) = key_range(types, values)?;
    (first == last).then_some(first)
}

/// The first and the last bytes of a key: each part padded to four bytes if there are several.
pub(crate) fn key_range(types: &[KeyType], values: &[Value]) -> Option<(Vec<u8>, Vec<u8>)> {
    if types.len() != values.len() {
        return None;
    }
    let length = key_length(types);
    let (mut first, mut last) = (Vec::with_capacity(length), Vec::with_capacity(length));
    for (part, value) in types.iter().zip(values) {
        let (from, to) = Type::from(*part).range(value)?;
        for (bytes, one) in [(&mut first, from), (&mut last, to)] {
            bytes.extend_from_slice(&one);
            if types.len() > 1 {
                bytes.resize(bytes.len().next_multiple_of(4), 0);
            }
        }
    }
    Some((first, last))
}

/// The values of a key of single values.
pub(crate) fn read_key(types: &[KeyType], bytes: &[u8]) -> Option<Vec<Value>> {
    parts(types, bytes, bytes, false)
}

/// The values of a key from its first and its last bytes.
pub(crate) fn read_key_range(types: &[KeyType], first: &[u8], last: &[u8]) -> Option<Vec<Value>> {
    parts(types, first, last, true)
}

fn parts(types: &[KeyType], first: &[u8], last: &[u8], interval: bool) -> Option<Vec<Value>> {
    let (mut first, mut last) = (first, last);
    let mut values = Vec::with_capacity(types.len());
    for part in types {
        let part = Type::from(*part);
        let taken = match types.len() {
            1 => part.length(),
            _ => part.length().next_multiple_of(4),
        };
        let (from, to) = (first.get(..part.length())?, last.get(..part.length())?);
        values.push(part.value(from, to, interval)?);
        (first, last) = (first.get(taken..)?, last.get(taken..)?);
    }
    (first.is_empty() && last.is_empty()).then_some(values)
}

/// Length of a set's key.
pub(crate) fn key_length(types: &[KeyType]) -> usize {
    match types {
        [one] => Type::from(*one).length(),
        parts => parts
            .iter()
            .map(|part| Type::from(*part).length().next_multiple_of(4))
            .sum(),
    }
}

/// One interval: its start, and its end unless it ends with the last value.
pub(crate) fn interval(first: Vec<u8>, last: &[u8]) -> (WireElement, Option<WireElement>) {
    let end = after(last).map(|key| WireElement {
        key,
        end: true,
        ..WireElement::default()
    });
    let userdata = match end {
        Some(_) => Vec::new(),
        None => userdata::open_interval(),
    };
    let start = WireElement {
        key: first,
        userdata,
        ..WireElement::default()
    };
    (start, end)
}

/// The value 0 as an end.
pub(crate) fn zero(length: usize) -> WireElement {
    WireElement {
        key: vec![0; length],
        end: true,
        ..WireElement::default()
    }
}

/// The first and last values of the intervals in elements of any order; an end without a start is none.
pub(crate) fn intervals(mut elements: Vec<(Vec<u8>, bool)>) -> Option<Vec<(Vec<u8>, Vec<u8>)>> {
    // Where one ends and the next starts, the end comes first.
    elements.sort_by(|(one, one_ends), (other, other_ends)| {
        one.cmp(other).then(other_ends.cmp(one_ends))
    });
    let mut intervals = Vec::new();
    let mut start: Option<Vec<u8>> = None;
    for (key, end) in elements {
        match (start.take(), end) {
            (None, true) => {}
            (None, false) => start = Some(key),
            (Some(first), true) => intervals.push((first, before(&key)?)),
            (Some(_), false) => return None,
        }
    }
    if let Some(first) = start {
        let last = vec![0xff; first.len()];
        intervals.push((first, last));
    }
    Some(intervals)
}

/// The value before, in network order, unless this is the first.
fn before(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut previous = bytes.to_vec();
    for byte in previous.iter_mut().rev() {
        let (difference, borrowed) = byte.overflowing_sub(1);
        *byte = difference;
        if !borrowed {
            return Some(previous);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_are_found_in_any_order() {
        let element = |key: u8, end| (vec![key], end);
        let elements = vec![
            element(9, false),
            element(4, true),
            element(0, true),
            element(4, false),
            element(2, false),
            element(6, true),
        ];
        assert_eq!(
            intervals(elements),
            Some(vec![
                (vec![2], vec![3]),
                (vec![4], vec![5]),
                (vec![9], vec![255])
            ])
        );
        assert_eq!(intervals(vec![element(1, false), element(2, false)]), None);
    }

    #[test]
    fn an_interval_to_the_last_value_has_no_end() {
        let (start, end) = interval(vec![255, 0], &[255, 255]);
        assert_eq!((start.userdata, end), (userdata::open_interval(), None));
        let (_, end) = interval(vec![0, 0], &[0, 255]);
        assert_eq!(end.map(|end| end.key), Some(vec![1, 0]));
    }
}
