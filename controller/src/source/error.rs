//! What can be wrong with the input.

use std::fmt;
use std::io;
use std::sync::Arc;

use super::origin::{Items, ObjectRef, OneLine, Place};
use super::read::{MAX_BYTES, MAX_DEPTH, MAX_NODES, MAX_STRETCH};

/// Everything that is wrong with the input, in the order of the input.
#[derive(Debug, thiserror::Error)]
pub struct Errors {
    problems: Vec<Problem>,
    omitted: usize,
}

/// So many problems are kept; a file can be made to hold millions.
pub(super) const MAX_PROBLEMS: usize = 10_000;

impl Errors {
    /// With the number of problems that were not kept.
    pub(super) fn new(mut problems: Vec<Problem>, omitted: usize) -> Self {
        problems.sort_by(|a, b| a.position().cmp(&b.position()));
        Self { problems, omitted }
    }

    /// The problems; at least one.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }
}

impl fmt::Display for Errors {
    /// One line per problem, without a newline after the last.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            write!(f, "{problem}")?;
        }
        if self.omitted > 0 {
            write!(f, "\n{} more problems are not shown", self.omitted)?;
        }
        Ok(())
    }
}

/// One thing that is wrong, and where: `FILE:LINE: Kind ns/name: field.path: message`, as much of it as is known.
#[derive(Debug)]
pub struct Problem {
    /// The file.
    pub file: Arc<str>,
    /// The line of a syntax error, or the line on which the object starts as far as it is known.
    pub line: Option<usize>,
    /// The way down through `items` if the object is in a List.
    pub items: Vec<usize>,
    /// The object.
    pub object: Option<ObjectRef>,
    /// The field, in Kubernetes notation (`spec.ingress[0].ports[1].endPort`).
    pub field: Option<String>,
    /// What is wrong.
    pub cause: Cause,
}

impl Problem {
    /// A problem of a whole file.
    pub(crate) fn of_file(file: &Arc<str>, cause: Cause) -> Self {
        Self {
            file: file.clone(),
            line: None,
            items: Vec::new(),
            object: None,
            field: None,
            cause,
        }
    }

    /// A problem on one line of a file.
    pub(super) fn of_line(file: &Arc<str>, line: usize, cause: Cause) -> Self {
        Self {
            line: Some(line),
            ..Self::of_file(file, cause)
        }
    }

    /// A problem of an object.
    pub(super) fn of_object(
        place: &Place,
        object: &ObjectRef,
        field: Option<String>,
        cause: Cause,
    ) -> Self {
        Self {
            file: place.file.clone(),
            line: Some(place.line),
            items: place.items.clone(),
            object: Some(object.clone()),
            field,
            cause,
        }
    }

    /// An object is given in two files.
    pub(crate) fn given_twice(place: &Place, object: &ObjectRef, first: &Place) -> Self {
        Self::of_object(place, object, None, Cause::GivenTwice(first.clone()))
    }

    fn position(&self) -> (&str, Option<usize>, &[usize]) {
        (&self.file, self.line, &self.items)
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", OneLine(&self.file))?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        if let Some(object) = &self.object {
            write!(f, ": {object}{}", Items(&self.items))?;
        }
        if let Some(field) = &self.field {
            write!(f, ": {}", OneLine(field))?;
        }
        write!(f, ": {}", self.cause)
    }
}

/// What is wrong, with the remedy where there is one.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Cause {
    /// The operating system refuses to open or read it.
    #[error("cannot be read: {0}")]
    Unreadable(#[from] io::Error),
    /// In a folder, something other than a file has a manifest's name; opening it could block for ever.
    #[error("is not a regular file")]
    NotAFile,
    /// `-` was given twice.
    #[error("standard input can be given only once")]
    StdinTwice,
    /// A file beyond the limit.
    #[error("is larger than {} MiB: split it into several files", MAX_BYTES >> 20)]
    TooLarge,
    /// Not UTF-8.
    #[error("byte 0x{0:02x} is not UTF-8: is this a text file?")]
    NotUtf8(u8),
    /// A control character that neither YAML nor JSON allows.
    #[error("control character 0x{0:02x} is not allowed: is this a text file?")]
    ControlCharacter(u8),
    /// Neither YAML nor JSON.
    #[error("{}", OneLine(.0))]
    Syntax(String),
    /// A key occurs twice in one mapping; the field ends in it.
    #[error("this key is there twice: remove one of the two")]
    DuplicateKey,
    /// A key that the Kubernetes tools cannot turn into a string.
    #[error("a key must be a string, number or boolean, not {0}")]
    KeyType(&'static str),
    /// Collections in collections beyond the limit.
    #[error("is nested deeper than {MAX_DEPTH} levels")]
    TooDeep,
    /// More values than the limit.
    #[error("holds more than {MAX_NODES} values: split it into several files")]
    TooManyNodes,
    /// A single scalar or flow collection beyond the limit.
    #[error("a single value (or the gap before it) takes more than {} MiB", MAX_STRETCH >> 20)]
    TooLongValue,
    /// Aliases that would blow the document up.
    #[error("the aliases (`*name`) repeat too much: write the values out")]
    AliasBomb,
    /// An alias to something that is not complete, or of another document.
    #[error("the alias stands inside its own anchor, or the anchor is in another document")]
    BadAlias,
    /// A merge of something else than mappings.
    #[error("`<<` takes a mapping or a list of mappings")]
    BadMerge,
    /// YAML tools disagree on which of the two values counts.
    #[error("key `{}` stands before the `<<` that also brings it: put `<<` first", OneLine(.0))]
    AmbiguousMerge(String),
    /// A tag that contradicts its value, or that is not supported.
    #[error("`{}` cannot be read as {}", OneLine(.0), OneLine(.1))]
    BadTag(String, String),
    /// Infinity or not-a-number, which JSON (and so Kubernetes) does not have.
    #[error("`{0}` is not a number that Kubernetes can take")]
    NotFinite(String),

    /// The document is not an object.
    #[error("is {0}, not a Kubernetes object with apiVersion and kind")]
    NotAnObject(&'static str),
    /// A field that must be there.
    #[error("is required")]
    Required,
    /// No PATH holds anything to work on; what was skipped instead.
    #[error(
        "there is no Namespace, Node, Pod, NetworkPolicy or workload in it{}: check the path",
        skipped(.0)
    )]
    NothingToRead(Vec<String>),
    /// A kind that is nearly one that is read; skipping it would give wrong answers.
    #[error("`{}` is no kind of Kubernetes: write `{expected}`", OneLine(.found))]
    Misspelt {
        /// As written.
        found: String,
        /// The right spelling.
        expected: String,
    },
    /// Strict field validation: no such field.
    #[error("unknown field")]
    UnknownField,
    /// Strict field validation: a value of another type.
    #[error("{}", OneLine(.0))]
    WrongType(String),
    /// A kind of Kubernetes in a group or version that does not serve it.
    #[error("`{}` does not serve this kind: use `{expected}`", OneLine(.found))]
    ApiVersion {
        /// As written.
        found: String,
        /// The one that is read.
        expected: &'static str,
    },
    /// Evaluating without it would give wrong answers.
    #[error(
        "ClusterNetworkPolicy is not supported by this version of picket, and leaving it out would give wrong answers: remove it from the input"
    )]
    ClusterNetworkPolicy,
    /// Same kind, namespace and name.
    #[error("was already given at {0}")]
    GivenTwice(Place),
    /// The API server sets this label itself.
    #[error("is `{}`, but an API server sets it to the namespace's name", OneLine(.0))]
    NamespaceLabel(String),
    /// The input leaves no addresses to make up.
    #[error("no address is left to make up for it")]
    NoAddressLeft,
}

fn skipped(kinds: &[String]) -> String {
    if kinds.is_empty() {
        String::new()
    } else {
        format!(" (only {})", OneLine(&kinds.join(", ")))
    }
}
