//! What goes wrong, as CNI says it.

use std::fmt;

use serde::Serialize;

use crate::version::Version;

/// A number of the CNI specification, or from 100 on one of this plugin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    /// This version of CNI is not spoken, or has no such verb.
    Version,
    /// A `CNI_` variable is missing or not valid.
    Environment,
    /// Something could not be read or written.
    Io,
    /// Standard input is not JSON.
    Decode,
    /// The configuration, or what the plugins before said, is not usable.
    Configuration,
    /// Try again later.
    TryAgain,
    /// STATUS: nothing can be added.
    NotAvailable,
    /// The plugin itself failed.
    Internal,
    /// CHECK: an attachment is not as it should be.
    NotInForce,
    /// What the agent says.
    Agent(u32),
}

impl Code {
    /// The number.
    pub fn number(self) -> u32 {
        match self {
            Self::Version => 1,
            Self::Environment => 4,
            Self::Io => 5,
            Self::Decode => 6,
            Self::Configuration => 7,
            Self::TryAgain => 11,
            Self::NotAvailable => 50,
            // 0 would be none.
            Self::Internal | Self::Agent(0) => 100,
            Self::NotInForce => 101,
            Self::Agent(code) => code,
        }
    }
}

/// Why a verb was not done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Error {
    /// What kind it is of.
    pub code: Code,
    /// What is wrong.
    pub message: String,
    /// Why, and what to do.
    pub details: String,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}: {}; {}",
            self.code.number(),
            self.message,
            self.details
        )
    }
}

impl Error {
    pub(super) fn new(code: Code, message: impl Into<String>, details: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            details: details.into(),
        }
    }

    /// Of something that failed, with all of its causes.
    pub(super) fn of(
        code: Code,
        message: impl Into<String>,
        cause: &dyn std::error::Error,
    ) -> Self {
        let mut details = cause.to_string();
        let mut source = cause.source();
        while let Some(cause) = source {
            let text = cause.to_string();
            if !details.ends_with(&text) {
                details.push_str(": ");
                details.push_str(&text);
            }
            source = cause.source();
        }
        Self::new(code, message, details)
    }

    /// As a runtime reads it.
    pub(super) fn json(&self, version: Version) -> Vec<u8> {
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Json<'a> {
            cni_version: &'static str,
            code: u32,
            msg: &'a str,
            details: &'a str,
        }
        let json = Json {
            cni_version: version.text(),
            code: self.code.number(),
            msg: &self.message,
            details: &self.details,
        };
        serde_json::to_vec(&json).unwrap_or_default()
    }
}
