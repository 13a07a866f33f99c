//! The other end of the agent's socket.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use super::protocol::{Kind, MAX_ANSWER, MAX_REQUEST, Request, Response, VERSION};
use crate::agent::rundir::socket_path;

/// How long an answer is waited for.
const PATIENCE: Duration = Duration::from_secs(60);

/// A connection to an agent.
#[derive(Debug)]
pub struct Client {
    path: PathBuf,
    stream: BufReader<UnixStream>,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens, or it may not be asked.
    #[error("no agent answers at {}: {error}: is it running on this node, and with this --run-dir?", path.display())]
    NoAgent {
        /// The socket.
        path: PathBuf,
        /// Why not.
        #[source]
        error: io::Error,
    },
    /// The agent went away, or said something else than an answer.
    #[error("{}: the agent's answer cannot be read: {reason}", path.display())]
    Unreadable {
        /// The socket.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
    /// The agent's reason not to answer.
    #[error("the agent does not answer: {0}")]
    Refused(String),
}

impl Client {
    /// Connects to the agent that has this directory.
    ///
    /// # Errors
    /// [`ClientError::NoAgent`].
    pub fn connect(run_dir: &Path) -> Result<Self, ClientError> {
        let path = socket_path(run_dir);
        let connected = UnixStream::connect(&path).and_then(|stream| {
            stream.set_read_timeout(Some(PATIENCE))?;
            stream.set_write_timeout(Some(PATIENCE))?;
            Ok(stream)
        });
        match connected {
            Ok(stream) => Ok(Self {
                path,
                stream: BufReader::new(stream),
            }),
            Err(error) => Err(ClientError::NoAgent { path, error }),
        }
    }

    /// Asks, and waits for the answer.
    ///
    /// # Errors
    /// See each.
    pub fn ask<T: DeserializeOwned>(
        &mut self,
        request: Kind,
        flow: Option<Box<RawValue>>,
    ) -> Result<T, ClientError> {
        let request = Request::new(request, flow);
        let mut line = serde_json::to_vec(&request).map_err(|error| self.unreadable(&error))?;
        line.push(b'\n');
        if line.len() > MAX_REQUEST {
            return Err(ClientError::Refused(format!(
                "a request has at most {MAX_REQUEST} bytes"
            )));
        }
        // An agent that refuses us says so without reading.
        let sent = self.stream.get_mut().write_all(&line);
        let mut line = Vec::new();
        let read = self
            .stream
            .by_ref()
            .take(MAX_ANSWER)
            .read_until(b'\n', &mut line);
        if line.last() != Some(&b'\n') {
            let cut = || io::Error::from(io::ErrorKind::UnexpectedEof);
            let error = sent.and(read).err().unwrap_or_else(cut);
            return Err(self.unreadable(&error));
        }
        let response: Response =
            serde_json::from_slice(&line).map_err(|error| self.unreadable(&error))?;
        match response {
            Response {
                error: Some(error), ..
            } => Err(ClientError::Refused(error)),
            Response { version, .. } if version != VERSION => Err(self.unreadable(&format!(
                "it is of version {version}, and this is of {VERSION}"
            ))),
            Response {
                answer: Some(answer),
                ..
            } => serde_json::from_str(answer.get()).map_err(|error| self.unreadable(&error)),
            Response { .. } => Err(self.unreadable(&"it is empty")),
        }
    }

    fn unreadable(&self, reason: &impl ToString) -> ClientError {
        ClientError::Unreadable {
            path: self.path.clone(),
            reason: reason.to_string(),
        }
    }
}
