//! What the plugin and the agent say to each other: a connection carries one request and one answer, each one line of
//! JSON.

use std::io::{self, BufRead};
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::attachment::AttachmentId;

/// The version of this protocol.
pub const VERSION: u32 = 1;

/// The longest line in bytes, with its end.
pub const LINE_LIMIT: usize = 65_536;

/// The socket on which the agent listens for the plugin, in a directory for running.
pub fn socket(run_dir: &Path) -> PathBuf {
    run_dir.join("cni.sock")
}

/// The file that the agent makes when everything was in force for the first time since boot.
pub fn ready_marker(run_dir: &Path) -> PathBuf {
    run_dir.join("ready")
}

/// What the plugin asks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "RequestLine", into = "RequestLine")]
pub enum Request {
    /// Take the attachment, whose record is there, into force. Answered when it is, or after the time.
    Attach {
        /// Which.
        id: AttachmentId,
        /// How long the plugin waits for the answer.
        wait_milliseconds: u64,
    },
    /// The attachment's record is gone.
    Detach {
        /// Which.
        id: AttachmentId,
    },
    /// Whether the attachment is in force.
    Check {
        /// Which.
        id: AttachmentId,
    },
    /// Whether the agent works.
    Status,
}

/// What the agent answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "camelCase")]
pub enum Answer {
    /// Policies are in the kernel and the interface has group [`crate::quarantine::ACTIVE`]; or the agent works.
    Ready,
    /// The attachment is forgotten.
    Gone,
    /// Not in force: try again.
    NotYet {
        /// What is not.
        message: String,
        /// What it waits for.
        #[serde(default)]
        details: String,
    },
    /// Not in force, and that will not get better by itself.
    Refused {
        /// The code of the plugin's error.
        code: u32,
        /// What is wrong.
        message: String,
        /// What to do.
        #[serde(default)]
        details: String,
    },
}

/// Why a line is not one of this protocol.
#[derive(Debug, thiserror::Error)]
pub enum LineError {
    /// It could not be read.
    #[error("the line can not be read")]
    Read(#[from] io::Error),
    /// The other side closed the connection without a word. An agent that restarts does.
    #[error("the connection was closed without a line")]
    Closed,
    /// The other side closed the connection within a line.
    #[error("the connection was closed within a line")]
    Cut,
    /// It has more bytes than a line may have.
    #[error("the line is longer than {LINE_LIMIT} bytes")]
    TooLong,
    /// It is not what is expected.
    #[error("the line is not of this protocol: {0}")]
    Malformed(#[from] serde_json::Error),
}

/// Reads one line, and never more than [`LINE_LIMIT`] bytes.
///
/// # Errors
/// [`LineError`].
pub fn read<T: DeserializeOwned>(from: impl BufRead) -> Result<T, LineError> {
    let mut line = Vec::new();
    from.take(LINE_LIMIT as u64).read_until(b'\n', &mut line)?;
    match line.last() {
        Some(b'\n') => Ok(serde_json::from_slice(&line)?),
        _ if line.len() == LINE_LIMIT => Err(LineError::TooLong),
        Some(_) => Err(LineError::Cut),
        None => Err(LineError::Closed),
    }
}

/// A request or an answer as a line.
///
/// # Errors
/// [`LineError::TooLong`].
pub fn line(of: &impl Serialize) -> Result<Vec<u8>, LineError> {
    let mut line = serde_json::to_vec(of)?;
    line.push(b'\n');
    match line.len() {
        0..=LINE_LIMIT => Ok(line),
        _ => Err(LineError::TooLong),
    }
}

/// A request as it travels.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct RequestLine {
    version: u32,
    request: Kind,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    container_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    interface: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    wait_milliseconds: Option<u64>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
enum Kind {
    Attach,
    Detach,
    Check,
    Status,
}

impl TryFrom<RequestLine> for Request {
    type Error = String;

    fn try_from(line: RequestLine) -> Result<Self, String> {
        if line.version != VERSION {
            return Err(format!("version {} instead of {VERSION}", line.version));
        }
        let id = || {
            let container = line.container_id.as_deref().ok_or("no containerId")?;
            let interface = line.interface.as_deref().ok_or("no interface")?;
            AttachmentId::new(container, interface).map_err(|error| error.to_string())
        };
        Ok(match line.request {
            Kind::Attach => Self::Attach {
                id: id()?,
                wait_milliseconds: line.wait_milliseconds.ok_or("no waitMilliseconds")?,
            },
            Kind::Detach => Self::Detach { id: id()? },
            Kind::Check => Self::Check { id: id()? },
            Kind::Status => Self::Status,
        })
    }
}

impl From<Request> for RequestLine {
    fn from(request: Request) -> Self {
        let (kind, id, wait_milliseconds) = match request {
            Request::Attach {
                id,
                wait_milliseconds,
            } => (Kind::Attach, Some(id), Some(wait_milliseconds)),
            Request::Detach { id } => (Kind::Detach, Some(id), None),
            Request::Check { id } => (Kind::Check, Some(id), None),
            Request::Status => (Kind::Status, None, None),
        };
        Self {
            version: VERSION,
            request: kind,
            container_id: id.as_ref().map(|id| id.container_id().to_owned()),
            interface: id.map(|id| id.interface().to_owned()),
            wait_milliseconds,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id() -> AttachmentId {
        AttachmentId::new("8154", "eth0").expect("valid")
    }

    #[track_caller]
    fn check<T>(value: &T, text: &str)
    where
        T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug,
    {
        let line = line(value).expect("short");
        assert_eq!(String::from_utf8_lossy(&line), format!("{text}\n"));
        assert_eq!(&read::<T>(line.as_slice()).expect("read"), value);
    }

    #[test]
    fn requests_and_answers_are_lines() {
        check(
            &Request::Attach {
                id: id(),
                wait_milliseconds: 30_000,
            },
            r#"{"version":1,"request":"attach","containerId":"8154","interface":"eth0","waitMilliseconds":30000}"#,
        );
        check(
            &Request::Detach { id: id() },
            r#"{"version":1,"request":"detach","containerId":"8154","interface":"eth0"}"#,
        );
        check(
            &Request::Check { id: id() },
            r#"{"version":1,"request":"check","containerId":"8154","interface":"eth0"}"#,
        );
        check(&Request::Status, r#"{"version":1,"request":"status"}"#);
        check(&Answer::Ready, r#"{"answer":"ready"}"#);
        check(&Answer::Gone, r#"{"answer":"gone"}"#);
        check(
            &Answer::NotYet {
                message: "m".into(),
                details: "d".into(),
            },
            r#"{"answer":"notYet","message":"m","details":"d"}"#,
        );
        check(
            &Answer::Refused {
                code: 7,
                message: "m".into(),
                details: "d".into(),
            },
            r#"{"answer":"refused","code":7,"message":"m","details":"d"}"#,
        );
    }

    #[test]
    fn a_request_that_is_not_whole_or_names_a_path_is_refused() {
        for text in [
            r#"{"version":2,"request":"status"}"#,
            r#"{"request":"status"}"#,
            r#"{"version":1,"request":"else"}"#,
            r#"{"version":1,"request":"attach","containerId":"a","interface":"eth0"}"#,
            r#"{"version":1,"request":"detach","interface":"eth0"}"#,
            r#"{"version":1,"request":"detach","containerId":"../a","interface":"eth0"}"#,
            r#"{"version":1,"request":"detach","containerId":"a","interface":"e/h0"}"#,
            "[]",
        ] {
            let read = read::<Request>(format!("{text}\n").as_bytes());
            assert!(matches!(read, Err(LineError::Malformed(_))), "{text}");
        }
        let tolerated = r#"{"version":1,"request":"status","unknown":[]}"#;
        read::<Request>(format!("{tolerated}\n").as_bytes()).expect("unknown keys are");
    }

    #[test]
    fn a_line_ends_and_is_bounded() {
        let read = |bytes: &[u8]| read::<Answer>(bytes).expect_err("it is none");
        assert!(matches!(read(b""), LineError::Closed));
        assert!(matches!(read(br#"{"answer":"ready"}"#), LineError::Cut));
        assert!(matches!(read(&[b'1'; LINE_LIMIT + 9]), LineError::TooLong));
        let long = Answer::NotYet {
            message: "x".repeat(LINE_LIMIT),
            details: String::new(),
        };
        assert!(matches!(line(&long), Err(LineError::TooLong)));
    }
}
