//! Where an object comes from.

use std::fmt;
use std::sync::Arc;

/// A place in the input: one object of one document of one file.
///
/// The order is that of the input: file name, then line, then list items.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// The file as it was named on the command line, or found in a folder; `<stdin>` for `-`.
    pub file: Arc<str>,
    /// The line on which the object starts, counted from 1; in a List of JSON, or one with aliases, that on which the
    /// document starts.
    pub line: usize,
    /// The document in its file, counted from 1; empty documents count.
    pub document: usize,
    /// The way down through `items` if the document is a List (more than one step for a List in a List).
    pub items: Vec<usize>,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", OneLine(&self.file), self.line)
    }
}

/// The way down to an object in a List, ` (items[1].items[0])`; nothing for an object that is in none.
pub(crate) struct Items<'a>(pub(crate) &'a [usize]);

impl fmt::Display for Items<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return Ok(());
        }
        let steps: Vec<String> = self.0.iter().map(|item| format!("items[{item}]")).collect();
        write!(f, " ({})", steps.join("."))
    }
}

/// Why an object is in the list.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// It was read.
    Read(Place),
    /// It is a pod that stands for a workload that was read.
    StandIn(Place),
    /// Nothing gives it, but an object that was read needs it (a namespace, a node).
    MadeUp,
}

impl Origin {
    /// The way down through Lists, as [`Place::items`].
    pub(crate) fn items(&self) -> &[usize] {
        match self {
            Origin::Read(place) | Origin::StandIn(place) => &place.items,
            Origin::MadeUp => &[],
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Read(place) | Origin::StandIn(place) => place.fmt(f),
            Origin::MadeUp => f.write_str("(made up)"),
        }
    }
}

/// The name that an object goes by in messages: `Pod shop/web`, `Node n1`, or only the kind if it has no name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectRef {
    /// The kind, as in the manifest.
    pub kind: String,
    /// The namespace; `None` for cluster-scoped objects.
    pub namespace: Option<String>,
    /// The name, if it has one.
    pub name: Option<String>,
}

impl fmt::Display for ObjectRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", OneLine(&self.kind))?;
        match (&self.namespace, &self.name) {
            (Some(namespace), Some(name)) => write!(f, " {}/{}", OneLine(namespace), OneLine(name)),
            (None, Some(name)) => write!(f, " {}", OneLine(name)),
            (_, None) => Ok(()),
        }
    }
}

/// Text of the input inside a message: what would break the line is escaped, what is very long is cut.
pub(crate) struct OneLine<'a>(pub(crate) &'a str);

/// More of a string than this says nothing more.
const LONGEST_QUOTE: usize = 300;

impl fmt::Display for OneLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (count, c) in self.0.chars().enumerate() {
            if count == LONGEST_QUOTE {
                return f.write_str("...");
            }
            // Line and paragraph separators and the direction overrides are not control characters.
            if c.is_control() || matches!(c, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}') {
                write!(f, "{}", c.escape_default())?;
            } else {
                write!(f, "{c}")?;
            }
        }
        Ok(())
    }
}
