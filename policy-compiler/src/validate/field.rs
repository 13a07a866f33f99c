//! Errors with the path of the field, as apimachinery's field.Error.

use std::fmt;

/// What is wrong with one field of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldError {
    /// Path from the object's root, for example `spec.ingress[0].ports[1].endPort`.
    pub path: String,
    /// The kind of error, with the value where the API server shows it.
    pub kind: FieldErrorKind,
    /// What is wrong, and what would be right.
    pub detail: String,
}

/// The kinds of error that the API server distinguishes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FieldErrorKind {
    /// A value is missing.
    Required,
    /// A value is malformed; the value as JSON.
    Invalid(String),
    /// A value is not one of a closed list; the value as JSON.
    NotSupported(String),
    /// A value that must be unique is there before; the value as JSON.
    Duplicate(String),
    /// A value must not be there.
    Forbidden,
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.path)?;
        match &self.kind {
            FieldErrorKind::Required => f.write_str("Required value")?,
            FieldErrorKind::Invalid(value) => write!(f, "Invalid value: {value}")?,
            FieldErrorKind::NotSupported(value) => write!(f, "Unsupported value: {value}")?,
            FieldErrorKind::Duplicate(value) => write!(f, "Duplicate value: {value}")?,
            FieldErrorKind::Forbidden => f.write_str("Forbidden")?,
        }
        if self.detail.is_empty() {
            return Ok(());
        }
        write!(f, ": {}", self.detail)
    }
}

impl std::error::Error for FieldError {}

/// Collects the errors of one object.
#[derive(Debug, Default)]
pub(super) struct Errors(Vec<FieldError>);

impl Errors {
    pub(super) fn required(&mut self, path: &Path<'_>, detail: impl Into<String>) {
        self.push(path, FieldErrorKind::Required, detail);
    }

    pub(super) fn forbidden(&mut self, path: &Path<'_>, detail: impl Into<String>) {
        self.push(path, FieldErrorKind::Forbidden, detail);
    }

    pub(super) fn invalid(
        &mut self,
        path: &Path<'_>,
        value: impl serde::Serialize,
        detail: impl Into<String>,
    ) {
        self.push(path, FieldErrorKind::Invalid(json(value)), detail);
    }

    pub(super) fn duplicate(&mut self, path: &Path<'_>, value: &str) {
        self.push(path, FieldErrorKind::Duplicate(json(value)), "");
    }

    pub(super) fn not_supported(&mut self, path: &Path<'_>, value: &str, supported: &[&str]) {
        let list: Vec<_> = supported.iter().map(json).collect();
        let detail = format!("supported values: {}", list.join(", "));
        self.push(path, FieldErrorKind::NotSupported(json(value)), detail);
    }

    fn push(&mut self, path: &Path<'_>, kind: FieldErrorKind, detail: impl Into<String>) {
        self.0.push(FieldError {
            path: path.to_string(),
            kind,
            detail: detail.into(),
        });
    }

    /// The value, if nothing was wrong.
    pub(super) fn finish<T>(self, value: Option<T>) -> Result<T, Vec<FieldError>> {
        match value {
            Some(value) if self.0.is_empty() => Ok(value),
            _ => Err(self.0),
        }
    }
}

fn json(value: impl serde::Serialize) -> String {
    serde_json::to_string(&value).unwrap_or_default()
}

/// The path of a field, built while descending.
#[derive(Clone, Copy)]
pub(super) enum Path<'a> {
    Root(&'a str),
    Field(&'a Path<'a>, &'a str),
    Index(&'a Path<'a>, usize),
}

impl<'a> Path<'a> {
    pub(super) fn field(&'a self, name: &'a str) -> Path<'a> {
        Path::Field(self, name)
    }

    pub(super) fn index(&'a self, index: usize) -> Path<'a> {
        Path::Index(self, index)
    }
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Path::Root(name) => f.write_str(name),
            Path::Field(parent, name) => write!(f, "{parent}.{name}"),
            Path::Index(parent, index) => write!(f, "{parent}[{index}]"),
        }
    }
}
