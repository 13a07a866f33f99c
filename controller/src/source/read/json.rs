//! A stream of JSON values.

use std::cell::RefCell;
use std::fmt;

use serde::de::{DeserializeSeed, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::{Deserializer, Error, Map, Value};

use super::{Budget, Fault, MAX_DEPTH, Sink, Within, in_list, in_map, line_of, number};
use crate::source::error::Cause;
use crate::source::path::Step;

/// Pushes each value of the text; blank text has none.
pub(super) fn documents(text: &str, sink: &mut Sink<'_>) -> Result<(), Fault> {
    let budget = Budget::default();
    let mut line = 1;
    let mut seen = 0;
    // The first pass finds the extent of each value and keeps nothing, the second builds it within the limits.
    let mut extents = Deserializer::from_str(text).into_iter::<IgnoredAny>();
    loop {
        let from = extents.byte_offset();
        match extents.next() {
            None => return Ok(()),
            Some(Err(error)) => {
                return Err(Fault::new(error.line(), syntax(&error)));
            }
            Some(Ok(IgnoredAny)) => {}
        }
        let value = &text[from..extents.byte_offset()];
        let start = from + value.len() - value.trim_start().len();
        line += line_of(&text.as_bytes()[seen..], start - seen) - 1;
        seen = start;
        let value = build(value.trim_start(), &budget).map_err(|fault| Fault {
            line: line + fault.line - 1,
            ..fault
        })?;
        sink.push(line, value, Vec::new());
    }
}

/// One value; lines are counted from its start.
fn build(text: &str, budget: &Budget) -> Result<Value, Fault> {
    let (cause, within) = (RefCell::new(None), RefCell::new(None));
    let tree = Tree {
        depth: 0,
        budget,
        cause: &cause,
        within: &within,
    };
    tree.deserialize(&mut Deserializer::from_str(text))
        .map_err(|error| Fault {
            line: error.line().max(1),
            cause: cause.take().unwrap_or_else(|| syntax(&error)),
            within: within.take(),
        })
}

/// The message without its position, of which only the column is news.
fn syntax(error: &Error) -> Cause {
    let message = error.to_string();
    let message = message.split(" at line ").next().unwrap_or_default();
    Cause::Syntax(format!(
        "invalid JSON: {message} (column {})",
        error.column()
    ))
}

/// Builds a [`Value`] with duplicate keys, depth and number of values checked.
#[derive(Clone, Copy)]
struct Tree<'a> {
    depth: usize,
    budget: &'a Budget,
    cause: &'a RefCell<Option<Cause>>,
    within: &'a RefCell<Option<Box<Within>>>,
}

impl Tree<'_> {
    /// Leaves the typed cause beside serde's error, which carries only text.
    fn fail<T, E: serde::de::Error>(&self, cause: Cause) -> Result<T, E> {
        let error = E::custom(&cause);
        *self.cause.borrow_mut() = Some(cause);
        Err(error)
    }

    fn count<E: serde::de::Error>(&self) -> Result<(), E> {
        self.budget.take().or_else(|cause| self.fail(cause))
    }

    fn inner<E: serde::de::Error>(&self) -> Result<Self, E> {
        if self.depth == MAX_DEPTH {
            return self.fail(Cause::TooDeep);
        }
        Ok(Self {
            depth: self.depth + 1,
            ..*self
        })
    }
}

impl<'de> DeserializeSeed<'de> for Tree<'_> {
    type Value = Value;

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        self.count()?;
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Tree<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Value, E> {
        number(value).ok_or_else(|| E::custom("number out of range"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let inner = self.inner()?;
        let mut list = Vec::new();
        loop {
            match items.next_element_seed(inner) {
                Ok(Some(item)) => list.push(item),
                Ok(None) => break,
                Err(error) => {
                    if let Some(within) = self.within.borrow_mut().as_mut() {
                        within.up(Step::Index(list.len()), |built| in_list(list, built));
                    }
                    return Err(error);
                }
            }
        }
        Ok(list.into())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let inner = self.inner()?;
        let mut map = Map::new();
        while let Some(key) = entries.next_key::<String>()? {
            self.count()?;
            if map.contains_key(&key) {
                *self.within.borrow_mut() = Some(Box::new(Within::new(key, map)));
                return self.fail(Cause::DuplicateKey);
            }
            match entries.next_value_seed(inner) {
                Ok(value) => drop(map.insert(key, value)),
                Err(error) => {
                    if let Some(within) = self.within.borrow_mut().as_mut() {
                        within.up(Step::Key(key.clone()), |built| in_map(map, key, built));
                    }
                    return Err(error);
                }
            }
        }
        Ok(map.into())
    }
}
