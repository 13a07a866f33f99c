//! What is said over the agent's socket: a JSON object a line, and one back for each.
//!
//! ```text
//! {"version": 1, "request": "status"}
//! {"version": 1, "answer": {"node": "node-1", ...}}
//! {"version": 1, "request": "explain", "flow": {"from": "pod/x/a", "to": "pod/y/b", "protocol": "TCP", "port": 80}}
//! {"version": 1, "error": "to: is required"}
//! ```
//!
//! Program and agent may be of different versions while a node is upgraded, so each object has that of the protocol.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// The version of the protocol.
pub const VERSION: u32 = 1;

/// Most bytes of a request's line.
pub const MAX_REQUEST: usize = 64 << 10;

/// Most bytes of an answer's line.
pub const MAX_ANSWER: u64 = 1 << 30;

/// A request.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    /// [`VERSION`].
    pub version: u32,
    /// For what.
    pub request: Kind,
    /// A line of a flows file, of [`Kind::Explain`] only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flow: Option<Box<RawValue>>,
}

/// What can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A [`Status`](crate::agent::status::Status).
    Status,
    /// The objects, as the text of a List.
    Objects,
    /// The interfaces of pods, as the text of a [`Document`](crate::attachments::Document).
    Attachments,
    /// The rules in force, as nft text.
    Rules,
    /// A [`LiveAnswer`](super::LiveAnswer).
    Explain,
}

/// An answer, or why there is none.
#[derive(Debug, Serialize, Deserialize)]
pub struct Response {
    /// [`VERSION`].
    pub version: u32,
    /// The answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer: Option<Box<RawValue>>,
    /// Why there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// All that is read of a line whose version is not known yet.
#[derive(Debug, Deserialize)]
struct Versioned {
    version: u32,
}

impl Request {
    /// A request of our version.
    pub fn new(request: Kind, flow: Option<Box<RawValue>>) -> Self {
        Self {
            version: VERSION,
            request,
            flow,
        }
    }

    /// Reads a line.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn read(line: &[u8]) -> Result<Self, String> {
        let Versioned { version } = serde_json::from_slice(line).map_err(|error| {
            format!("a request is {{\"version\": {VERSION}, \"request\": \"status\"}}: {error}")
        })?;
        if version != VERSION {
            return Err(format!(
                "version {version} is not known: this agent is picket {}, which speaks version {VERSION}",
                env!("CARGO_PKG_VERSION")
            ));
        }
        let request: Self = serde_json::from_slice(line).map_err(|error| error.to_string())?;
        match (request.request, &request.flow) {
            (Kind::Explain, None) => Err("flow: is required".to_owned()),
            (Kind::Explain, Some(_)) | (_, None) => Ok(request),
            (_, Some(_)) => Err("flow: belongs to explain only".to_owned()),
        }
    }
}

impl From<Result<Box<RawValue>, String>> for Response {
    fn from(answered: Result<Box<RawValue>, String>) -> Self {
        let (answer, error) = match answered {
            Ok(answer) => (Some(answer), None),
            Err(error) => (None, Some(error)),
        };
        Self {
            version: VERSION,
            answer,
            error,
        }
    }
}
