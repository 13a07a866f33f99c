//! Asks the API server.

use std::time::Duration;

use hyper::header::{ACCEPT, CONTENT_TYPE, RETRY_AFTER, USER_AGENT};
use hyper::http::request::Builder;
use hyper::{Method, Request, StatusCode};
use jiff::Timestamp;
use kube::client::Body;
use serde_json::Value;
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};

use super::access::Files;
use super::error::chain;
use super::{Access, AccessError, Error, Lines, Refusal};

/// Until the head of an answer is there. A list may be made of all of etcd before it.
const HEAD: Duration = Duration::from_secs(30);

/// Until the text of a refusal is there, and how much of it is read.
const REFUSAL: (Duration, usize) = (Duration::from_secs(5), 64 << 10);

/// Until what was written is told again, and how much that may be: etcd takes objects of 1.5 MiB.
const WRITTEN: (Duration, usize) = (Duration::from_secs(10), 4 << 20);

/// A client whose connections fail is made anew after so long, in case that this is what it was made of.
const RENEW: Duration = Duration::from_secs(60);

/// Asks the API server.
///
/// `kube` reads a token's file each minute, and runs a credential plugin again before a token that it gave ends. The rest
/// is done here: when the kubeconfig or a file that it names (certificates, their keys, tokens) is another than it was, a
/// certificate that a plugin gave ends, or the API server does not know us, the next request is made by a new client. If there can be none, as files are being
/// replaced, the old one goes on.
#[derive(Debug)]
pub struct Client {
    access: Option<Access>,
    made: Mutex<Made>,
}

struct Made {
    client: kube::Client,
    files: Files,
    at: Instant,
    /// Whether there should be a new one.
    is_stale: bool,
}

impl std::fmt::Debug for Made {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut of = f.debug_struct("Made");
        of.field("files", &self.files).finish_non_exhaustive()
    }
}

impl Made {
    fn new(client: kube::Client, files: Files) -> Self {
        Self {
            client,
            files,
            at: Instant::now(),
            is_stale: false,
        }
    }

    /// Whether a credential plugin gave a certificate that ends now.
    fn has_expired(&self) -> bool {
        let until = self.client.valid_until().as_ref();
        let ends = until.is_some_and(|until| *until <= Timestamp::now() + RENEW);
        // Whatever the clock says, a plugin is not run for each request.
        ends && self.at.elapsed() >= RENEW
    }
}

impl Client {
    /// A client. The API server is not asked yet.
    ///
    /// # Errors
    /// What says where it is, or as whom it is asked, cannot be read.
    pub async fn new(access: Access) -> Result<Self, AccessError> {
        let (client, files) = make(&access).await?;
        Ok(Self {
            access: Some(access),
            made: Mutex::new(Made::new(client, files)),
        })
    }

    /// A client that stays as it is.
    pub fn fixed(client: kube::Client) -> Self {
        Self {
            access: None,
            made: Mutex::new(Made::new(client, Files::default())),
        }
    }

    /// Asks for a path, with its query.
    ///
    /// # Errors
    /// There is no answer in time, or it is a refusal.
    pub async fn get(&self, path: &str) -> Result<Lines, Error> {
        self.ask(Request::get(path), Body::empty()).await
    }

    /// Has an object made in a collection, and returns what became of it.
    ///
    /// # Errors
    /// There is no answer in time, or it is a refusal. Without an answer the object may have been made.
    pub async fn create(&self, path: &str, object: &Value) -> Result<Value, Error> {
        self.send(Method::POST, path, "application/json", object)
            .await
    }

    /// Changes an object by a merge patch (RFC 7386), and returns what became of it.
    ///
    /// # Errors
    /// As [`Client::create`].
    pub async fn merge(&self, path: &str, patch: &Value) -> Result<Value, Error> {
        self.send(Method::PATCH, path, "application/merge-patch+json", patch)
            .await
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        media_type: &str,
        body: &Value,
    ) -> Result<Value, Error> {
        let request = Request::builder().method(method).uri(path);
        let request = request.header(CONTENT_TYPE, media_type);
        let body = Body::from(body.to_string().into_bytes());
        let answer = self.ask(request, body).await?;
        let answer = answer.up_to(WRITTEN.0, WRITTEN.1).await?;
        serde_json::from_slice(&answer).map_err(|error| Error::Unreadable(error.to_string()))
    }

    async fn ask(&self, request: Builder, body: Body) -> Result<Lines, Error> {
        let request = request
            .header(ACCEPT, "application/json")
            .header(USER_AGENT, concat!("picket/", env!("CARGO_PKG_VERSION")))
            .body(body)
            .map_err(|error| Error::Unreadable(error.to_string()))?;
        let client = self.current().await;
        let answer = match timeout(HEAD, client.send(request)).await {
            Err(_) => Err(Error::Silent(HEAD)),
            Ok(Err(kube::Error::Service(error))) => Err(Error::Unreachable(chain(error.as_ref()))),
            Ok(Err(error)) => Err(Error::Unreachable(chain(&error))),
            Ok(Ok(answer)) => Ok(answer),
        };
        let answer = match answer {
            Ok(answer) => answer,
            Err(error) => {
                let mut made = self.made.lock().await;
                made.is_stale |= made.at.elapsed() >= RENEW;
                return Err(error);
            }
        };
        let (head, body) = answer.into_parts();
        let body = Lines::new(body);
        if head.status.is_success() {
            return Ok(body);
        }
        if head.status == StatusCode::UNAUTHORIZED {
            self.made.lock().await.is_stale = true;
        }
        let after = head.headers.get(RETRY_AFTER);
        let after = after.and_then(|seconds| seconds.to_str().ok()?.parse().ok());
        let body = body.beginning(REFUSAL.0, REFUSAL.1).await;
        let refusal = Refusal::read(head.status.as_u16(), after.map(Duration::from_secs), &body);
        Err(Error::Refused(refusal))
    }

    /// The client that asks now.
    async fn current(&self) -> kube::Client {
        let mut made = self.made.lock().await;
        if let Some(access) = &self.access
            && (made.is_stale || made.files.have_changed() || made.has_expired())
        {
            match make(access).await {
                Ok((client, files)) => *made = Made::new(client, files),
                Err(error) => {
                    tracing::warn!("the API server is asked as before: {error}");
                }
            }
        }
        made.client.clone()
    }
}

async fn make(access: &Access) -> Result<(kube::Client, Files), AccessError> {
    let (config, files) = access.config().await?;
    let client = kube::Client::try_from(config).map_err(|error| access.error(&error))?;
    Ok((client, files))
}
