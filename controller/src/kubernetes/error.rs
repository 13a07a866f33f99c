//! What may go wrong with the API server.

use std::fmt;
use std::time::Duration;

use serde::Deserialize;

/// Why there is no answer that can be used. All of it is worth another try.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The API server refuses.
    #[error("the API server refuses: {0}")]
    Refused(Refusal),
    /// Nobody answers.
    #[error("the API server cannot be reached: {0}")]
    Unreachable(String),
    /// Somebody does, too slowly.
    #[error("nothing came from the API server for {} seconds", .0.as_secs())]
    Silent(Duration),
    /// An answer breaks off.
    #[error("the answer of the API server breaks off: {0}")]
    Broken(String),
    /// An answer, or a line of one, is larger than any that the API server makes.
    #[error("the answer of the API server has more than {} MiB in one piece", .0 >> 20)]
    TooLarge(usize),
    /// An answer is not what the API describes.
    #[error("the answer of the API server cannot be read: {0}")]
    Unreadable(String),
    /// There is no client, as what it is made of cannot be read.
    #[error(transparent)]
    Access(#[from] super::AccessError),
    /// It came to be another cluster that is asked, and nothing was asked of it: what is known holds for another.
    #[error("another API server is to be asked than before")]
    Moved,
}

impl Error {
    /// What went wrong, with the verb and the resource, as a ClusterRole names them.
    pub fn explain(&self, verb: &str, resource: &str) -> String {
        match self {
            Self::Refused(refusal) if refusal.code == 403 => format!(
                "the API server forbids to {verb} {resource}: the ClusterRole of this account lacks it ({refusal})"
            ),
            Self::Refused(refusal) if refusal.code == 401 => format!(
                "the API server does not know us: the token or the client certificate has expired, or is not of this cluster ({refusal})"
            ),
            other => format!("{verb} {resource}: {other}"),
        }
    }
}

/// What `kube`'s own client says went wrong, as a person reads it.
pub fn words(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => status.message.clone(),
        other => chain(other),
    }
}

/// A Status that says no.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Refusal {
    /// The HTTP status, or that of a watch's error event.
    pub code: u16,
    /// The reason, a word.
    pub reason: String,
    /// A sentence.
    pub message: String,
    /// When to try again at the earliest.
    pub retry_after: Option<Duration>,
}

/// meta/v1 Status, cut to what is used.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Status {
    code: Option<u16>,
    reason: Option<String>,
    message: Option<String>,
    details: Option<Details>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Details {
    retry_after_seconds: Option<u64>,
}

/// Of a text that is no Status so much is told.
const TEXT: usize = 200;

impl Refusal {
    /// Of an answer: its HTTP status (0 for none), the `Retry-After` header, and its body: a Status, or what a proxy
    /// writes.
    pub(super) fn read(code: u16, retry_after: Option<Duration>, body: &[u8]) -> Self {
        let Ok(status) = serde_json::from_slice::<Status>(body) else {
            let text = String::from_utf8_lossy(body);
            let text: String = text.trim().chars().take(TEXT).collect();
            return Self {
                code,
                reason: String::new(),
                message: text.replace(char::is_control, " "),
                retry_after,
            };
        };
        let details = status.details.unwrap_or_default();
        let seconds = details.retry_after_seconds;
        Self {
            code: status.code.filter(|_| code == 0).unwrap_or(code),
            reason: status.reason.unwrap_or_default(),
            message: status.message.unwrap_or_default(),
            retry_after: retry_after.or(seconds.map(Duration::from_secs)),
        }
    }

    /// Whether what was asked for is too old.
    pub fn is_expired(&self) -> bool {
        self.code == 410
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.code)?;
        for part in [&self.reason, &self.message] {
            if !part.is_empty() {
                write!(f, " {part}")?;
            }
        }
        Ok(())
    }
}

/// An error and what caused it, in one line.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_read_and_anything_else_is_told_in_part() {
        let body = br#"{"kind":"Status","code":410,"reason":"Expired","message":"too old","details":{"retryAfterSeconds":3}}"#;
        let refusal = Refusal::read(0, None, body);
        assert!(refusal.is_expired());
        assert_eq!(refusal.to_string(), "410 Expired too old");
        assert_eq!(refusal.retry_after, Some(Duration::from_secs(3)));
        let refusal = Refusal::read(502, None, b"<html>\n\x1b[31mbad\xff gateway");
        assert_eq!(refusal.to_string(), "502 <html>  [31mbad\u{fffd} gateway");
        assert!(Refusal::read(502, None, &[b'a'; 5000]).message.len() <= TEXT);
    }
}
