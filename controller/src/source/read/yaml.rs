//! YAML events to values.
//!
//! The events come from `saphyr-parser`; the tree is built here because no crate resolves scalars as go-yaml does
//! and because every copy that an alias asks for must be paid for first.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use saphyr_parser::{BufferedInput, Event, Parser, ScalarStyle, ScanError, Span, Tag};
use serde_json::{Map, Value};

use super::scalar::resolve;
use super::{Budget, Fault, MAX_COPIED, MAX_DEPTH, MAX_STRETCH, Sink, Within, in_list, in_map};
use crate::source::error::Cause;
use crate::source::path::Step;

/// Pushes each document of the text.
pub(super) fn documents(text: &str, sink: &mut Sink<'_>) -> Result<(), Fault> {
    let left = Rc::new(Cell::new(MAX_STRETCH));
    let chars = Stretch {
        chars: text.chars(),
        left: left.clone(),
    };
    let parser = Parser::new(BufferedInput::new(chars));
    let mut builder = Builder {
        text,
        parser,
        left,
        anchors: BTreeMap::new(),
        budget: Budget::default(),
        copied: 0,
        in_items: false,
        item_lines: Vec::new(),
    };
    loop {
        match builder.next()? {
            (Event::StreamEnd, _) => return Ok(()),
            (Event::DocumentStart(_), _) => {
                // An anchor is known in its own document only.
                builder.anchors.clear();
                builder.item_lines.clear();
                let (event, span) = builder.next()?;
                let root = builder.node(event, span, 0)?;
                let item_lines = std::mem::take(&mut builder.item_lines);
                sink.push(span.start.line(), root.value, item_lines);
            }
            _ => {}
        }
    }
}

/// The characters of a text, as long as events keep coming: the scanner holds all tokens of a flow collection
/// before the first of them becomes an event, so a text without events costs it memory without end.
struct Stretch<'a> {
    chars: std::str::Chars<'a>,
    left: Rc<Cell<usize>>,
}

impl Iterator for Stretch<'_> {
    type Item = char;

    fn next(&mut self) -> Option<char> {
        let left = self.left.get().checked_sub(1)?;
        self.left.set(left);
        self.chars.next()
    }
}

/// A value and what a copy of it costs.
#[derive(Clone)]
struct Built {
    value: Value,
    /// About its bytes in memory.
    weight: usize,
    /// Collections in collections, 0 for a scalar.
    height: usize,
}

/// How many collections deep the root mapping of a document is.
const ROOT_DEPTH: usize = 1;

/// How many collections deep the `items` of a List are.
const ITEMS_DEPTH: usize = 2;

/// What a value takes in memory beside its text.
const NODE_WEIGHT: usize = 64;

struct Builder<'a> {
    text: &'a str,
    parser: Parser<'a, BufferedInput<Stretch<'a>>>,
    left: Rc<Cell<usize>>,
    anchors: BTreeMap<usize, Built>,
    budget: Budget,
    copied: usize,
    /// Whether the value of the root's `items` is being built.
    in_items: bool,
    /// On which lines that one's items start.
    item_lines: Vec<usize>,
}

impl<'a> Builder<'a> {
    fn next(&mut self) -> Result<(Event<'a>, Span), Fault> {
        let event = self.parser.next_event();
        let left = self.left.replace(MAX_STRETCH);
        match event {
            // With nothing left the scanner saw an end where there is none: whatever it says is not true.
            Some(Ok((_, span))) if left == 0 => Err(fault(&span, Cause::TooLongValue)),
            Some(Err(error)) if left == 0 => {
                Err(Fault::new(error.marker().line(), Cause::TooLongValue))
            }
            Some(Ok(event)) => Ok(event),
            Some(Err(error)) => Err(self.syntax(&error)),
            None => Ok((Event::StreamEnd, Span::default())),
        }
    }

    fn syntax(&self, error: &ScanError) -> Fault {
        // The end of the text counts as a line of its own, which an editor does not show.
        let line = error
            .marker()
            .line()
            .clamp(1, self.text.lines().count().max(1));
        // The scanner has a limit of its own, 255 flow collections, and no type for it.
        if error.info() == "recursion limit exceeded" {
            return Fault::new(line, Cause::TooDeep);
        }
        let found = self.line(line);
        let remedy = if is_template(found) {
            "; a template must be rendered first"
        } else {
            ""
        };
        let tab = if found.contains('\t') {
            "; use spaces, not tabs"
        } else {
            ""
        };
        let column = error.marker().col() + 1;
        let message = format!(
            "invalid YAML: {} (column {column}){remedy}{tab}",
            error.info()
        );
        Fault::new(line, Cause::Syntax(message))
    }

    fn line(&self, line: usize) -> &'a str {
        self.text
            .lines()
            .nth(line.saturating_sub(1))
            .unwrap_or_default()
    }

    /// The value that starts with an event, `depth` collections down.
    fn node(&mut self, event: Event<'a>, span: Span, depth: usize) -> Result<Built, Fault> {
        self.budget.take().map_err(|cause| fault(&span, cause))?;
        if matches!(event, Event::SequenceStart(..) | Event::MappingStart(..)) && depth == MAX_DEPTH
        {
            return Err(fault(&span, Cause::TooDeep));
        }
        let (anchor, built) = match event {
            Event::Scalar(text, style, anchor, tag) => {
                let value =
                    scalar(&text, style, tag.as_deref()).map_err(|cause| fault(&span, cause))?;
                (
                    anchor,
                    Built {
                        value,
                        weight: NODE_WEIGHT + text.len(),
                        height: 0,
                    },
                )
            }
            Event::SequenceStart(anchor, _) => (anchor, self.sequence(depth + 1)?),
            Event::MappingStart(anchor, _) => (anchor, self.mapping(depth + 1)?),
            Event::Alias(anchor) => {
                let built = self
                    .anchors
                    .get(&anchor)
                    .ok_or_else(|| fault(&span, Cause::BadAlias))?;
                if depth + built.height > MAX_DEPTH {
                    return Err(fault(&span, Cause::TooDeep));
                }
                let (weight, built) = (built.weight, &self.anchors[&anchor]);
                pay(&mut self.copied, weight).map_err(|cause| fault(&span, cause))?;
                return Ok(built.clone());
            }
            // The parser sends one of the above where a node is due.
            _ => {
                return Err(fault(
                    &span,
                    Cause::Syntax("invalid YAML: a value is missing".to_owned()),
                ));
            }
        };
        if anchor > 0 {
            pay(&mut self.copied, built.weight).map_err(|cause| fault(&span, cause))?;
            self.anchors.insert(anchor, built.clone());
        }
        Ok(built)
    }

    fn sequence(&mut self, depth: usize) -> Result<Built, Fault> {
        let mut list = Vec::new();
        let mut size = Size::default();
        loop {
            match self.next()? {
                (Event::SequenceEnd, _) => return Ok(size.of(list.into())),
                (event, span) => {
                    if self.in_items && depth == ITEMS_DEPTH {
                        self.item_lines.push(span.start.line());
                    }
                    let item = match self.node(event, span, depth) {
                        Ok(item) => item,
                        Err(fault) => {
                            let step = Step::Index(list.len());
                            return Err(fault.up(step, |built| in_list(list, built)));
                        }
                    };
                    size.add(&item);
                    list.push(item.value);
                }
            }
        }
    }

    fn mapping(&mut self, depth: usize) -> Result<Built, Fault> {
        let mut map = Map::new();
        let mut merge: Option<Merge> = None;
        let mut size = Size::default();
        loop {
            let (event, key_span) = self.next()?;
            if event == Event::MappingEnd {
                break;
            }
            let is_merge = is_merge(&event);
            if matches!(event, Event::SequenceStart(..) | Event::MappingStart(..)) {
                let is_template = is_template(self.line(key_span.start.line()));
                let found = if is_template {
                    "a collection; a template must be rendered first"
                } else {
                    "a collection"
                };
                return Err(fault(&key_span, Cause::KeyType(found)));
            }
            let key = self.node(event, key_span, depth)?;
            size.add(&key);
            let key = key_text(key.value).map_err(|cause| fault(&key_span, cause))?;
            let is_twice = if is_merge {
                merge.is_some()
            } else {
                map.contains_key(&key)
            };
            if is_twice {
                return Err(Fault {
                    within: Some(Box::new(Within::new(key, map))),
                    ..fault(&key_span, Cause::DuplicateKey)
                });
            }
            self.in_items |= depth == ROOT_DEPTH && key == "items";
            let (event, span) = self.next()?;
            let value = match self.node(event, span, depth) {
                Ok(value) => value,
                Err(fault) => {
                    let step = Step::Key(key.clone());
                    return Err(fault.up(step, |built| in_map(map, key, built)));
                }
            };
            self.in_items &= depth != ROOT_DEPTH;
            size.add(&value);
            if is_merge {
                let brought = brought(value.value).map_err(|cause| fault(&span, cause))?;
                merge = Some(Merge {
                    brought,
                    before: map.keys().cloned().collect(),
                    span,
                });
                continue;
            }
            map.insert(key, value.value);
        }
        if let Some(Merge {
            brought,
            before,
            span,
        }) = merge
        {
            for (key, value) in brought {
                // go-yaml v2 takes the later of the two, YAML the mapping's own.
                if before.contains(&key) {
                    return Err(fault(&span, Cause::AmbiguousMerge(key)));
                }
                map.entry(key).or_insert(value);
            }
        }
        Ok(size.of(map.into()))
    }
}

/// What `<<` brings into a mapping.
struct Merge {
    brought: Map<String, Value>,
    /// The mapping's own keys so far.
    before: BTreeSet<String>,
    span: Span,
}

/// The size of a collection while it is built.
#[derive(Default)]
struct Size {
    weight: usize,
    height: usize,
}

impl Size {
    fn add(&mut self, item: &Built) {
        self.weight += item.weight;
        self.height = self.height.max(item.height);
    }

    fn of(self, value: Value) -> Built {
        Built {
            value,
            weight: self.weight + NODE_WEIGHT,
            height: self.height + 1,
        }
    }
}

/// What people most often take for a manifest.
fn is_template(line: &str) -> bool {
    line.contains("{{")
}

fn fault(span: &Span, cause: Cause) -> Fault {
    Fault::new(span.start.line().max(1), cause)
}

fn pay(copied: &mut usize, weight: usize) -> Result<(), Cause> {
    *copied += weight;
    if *copied > MAX_COPIED {
        Err(Cause::AliasBomb)
    } else {
        Ok(())
    }
}

fn scalar(text: &str, style: ScalarStyle, tag: Option<&Tag>) -> Result<Value, Cause> {
    match tag {
        None if style == ScalarStyle::Plain => resolve(text, None),
        None => Ok(text.into()),
        // `!` and tags of one's own make strings.
        Some(tag) => {
            match format!("{}{}", tag.handle, tag.suffix).strip_prefix("tag:yaml.org,2002:") {
                Some(name) => resolve(text, Some(name)),
                None => Ok(text.into()),
            }
        }
    }
}

fn is_merge(key: &Event<'_>) -> bool {
    matches!(key, Event::Scalar(text, ScalarStyle::Plain, _, None) if text == "<<")
}

/// The pairs that a merge brings; of several mappings the first that has a key counts.
fn brought(value: Value) -> Result<Map<String, Value>, Cause> {
    match value {
        Value::Object(map) => Ok(map),
        Value::Array(list) => {
            let mut all = Map::new();
            for item in list {
                let Value::Object(map) = item else {
                    return Err(Cause::BadMerge);
                };
                for (key, value) in map {
                    all.entry(key).or_insert(value);
                }
            }
            Ok(all)
        }
        _ => Err(Cause::BadMerge),
    }
}

/// JSON has only strings as keys; sigs.k8s.io/yaml writes scalars out.
fn key_text(key: Value) -> Result<String, Cause> {
    match key {
        Value::String(text) => Ok(text),
        Value::Bool(_) | Value::Number(_) => Ok(key.to_string()),
        Value::Null => Err(Cause::KeyType("null")),
        // Through an alias.
        Value::Array(_) | Value::Object(_) => Err(Cause::KeyType("a collection")),
    }
}
