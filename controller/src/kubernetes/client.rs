//! Asks the API server.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hyper::header::{ACCEPT, CONTENT_TYPE, RETRY_AFTER, USER_AGENT};
use hyper::http::request::Builder;
use hyper::{Method, Request, StatusCode, Uri};
use jiff::Timestamp;
use kube::client::Body;
use serde_json::Value;
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

use super::access::{Files, Found};
use super::error::chain;
use super::{Access, AccessError, Error, Lines, Refusal};

/// Until the head of an answer is there. A list may be made of all of etcd before it.
const HEAD: Duration = Duration::from_secs(30);

/// Until the text of a refusal is there, and how much of it is read.
const REFUSAL: (Duration, usize) = (Duration::from_secs(5), 64 << 10);

/// Until what was written is told again, and how much that may be: etcd takes objects of 1.5 MiB.
const WRITTEN: (Duration, usize) = (Duration::from_secs(10), 4 << 20);

/// A client whose connections fail is made anew after so long, in case that this is what it was made of; and one whose
/// credentials end is so long before that.
const RENEW: Duration = Duration::from_secs(60);

/// A client that cannot be made anew is tried again after so long at the least and at the most, twice as long each time.
const AGAIN: (Duration, Duration) = (Duration::from_secs(1), RENEW);

/// Asks the API server.
///
/// `kube` reads a token's file each minute. The rest is done here: when the kubeconfig or a file that it names
/// (certificates, their keys, tokens) is another than it was, what a credential plugin gave is about to end, or the API
/// server does not know us, the next request is made by a new client. If there can be none, as files are being replaced
/// or a plugin fails, the old one goes on, and it is tried again.
#[derive(Debug)]
pub struct Client {
    access: Option<Access>,
    made: Mutex<Made>,
    /// Who has it makes a new client. That takes a while at most, in which others go on with the old one if they can.
    renewal: tokio::sync::Mutex<Renewal>,
    /// How often it came to be another cluster that is asked.
    moves: watch::Sender<u64>,
    /// Why there is no new client.
    trouble: watch::Sender<Option<AccessError>>,
}

struct Made {
    /// None before a plugin has said who we are.
    client: Option<kube::Client>,
    cluster: Cluster,
    files: Files,
    at: Instant,
    /// When there should be a new one.
    ends: Option<Instant>,
    /// Whether there should be a new one now.
    is_stale: bool,
}

/// What tells a cluster from others: where its API server is, and who vouches for that.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Cluster {
    server: Uri,
    authorities: Option<Vec<Vec<u8>>>,
}

/// The last attempt to make a client, if it came to nothing.
#[derive(Debug, Default)]
struct Renewal {
    failed: Option<Failed>,
}

#[derive(Debug)]
struct Failed {
    /// Of what it was to be made.
    files: Files,
    again: Instant,
    pause: Duration,
}

impl std::fmt::Debug for Made {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut of = f.debug_struct("Made");
        of.field("files", &self.files).finish_non_exhaustive()
    }
}

impl Made {
    fn new(client: Option<kube::Client>, cluster: Cluster, files: Files) -> Self {
        Self {
            client,
            cluster,
            files,
            at: Instant::now(),
            ends: None,
            is_stale: false,
        }
    }

    fn is_current(&self) -> bool {
        let has_ended = self.ends.is_some_and(|ends| ends <= Instant::now());
        self.client.is_some() && !self.is_stale && !has_ended && !self.files.have_changed()
    }
}

/// When credentials that end then are to be replaced.
fn ends(until: Timestamp) -> Instant {
    let life = until.duration_since(Timestamp::now());
    let life = Duration::try_from(life).unwrap_or_default();
    let life = match life.is_zero() {
        // Whatever the clock says, a plugin is not run for each request.
        true => RENEW,
        false => life - RENEW.min(life / 5),
    };
    Instant::now() + life
}

impl Failed {
    fn new(files: Files, before: Option<&Self>) -> Self {
        let pause = before.map_or(AGAIN.0, |before| (before.pause * 2).min(AGAIN.1));
        Self {
            files,
            again: Instant::now() + pause,
            pause,
        }
    }
}

impl Renewal {
    fn is_due(&self) -> bool {
        let failed = self.failed.as_ref();
        failed.is_none_or(|failed| failed.again <= Instant::now() || failed.files.have_changed())
    }
}

impl Client {
    /// A client. The API server is not asked yet, nor a credential plugin.
    ///
    /// # Errors
    /// What says where it is, or as whom it is asked, cannot be read.
    pub async fn new(access: Access) -> Result<Self, AccessError> {
        let found = access.read()?;
        let (client, cluster) = make(&access, &found).await?;
        let client = (!found.has_plugin()).then_some(client);
        let made = Made::new(client, cluster, found.files);
        Ok(Self::with(Some(access), made))
    }

    /// A client that stays as it is.
    pub fn fixed(client: kube::Client) -> Self {
        let made = Made::new(Some(client), Cluster::default(), Files::default());
        Self::with(None, made)
    }

    fn with(access: Option<Access>, made: Made) -> Self {
        Self {
            access,
            made: Mutex::new(made),
            renewal: tokio::sync::Mutex::default(),
            moves: watch::Sender::default(),
            trouble: watch::Sender::default(),
        }
    }

    /// How often it came to be another cluster that is asked. What was told of one holds for no other.
    pub fn moves(&self) -> watch::Receiver<u64> {
        self.moves.subscribe()
    }

    /// Why the API server is asked as before although it should not, or not at all; nothing if all is well.
    pub fn trouble(&self) -> watch::Receiver<Option<AccessError>> {
        self.trouble.subscribe()
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
        let client = self.current().await?;
        let answer = match timeout(HEAD, client.send(request)).await {
            Err(_) => Err(Error::Silent(HEAD)),
            Ok(Err(kube::Error::Service(error))) => Err(Error::Unreachable(chain(error.as_ref()))),
            Ok(Err(error)) => Err(Error::Unreachable(chain(&error))),
            Ok(Ok(answer)) => Ok(answer),
        };
        let answer = match answer {
            Ok(answer) => answer,
            Err(error) => {
                let mut made = self.made();
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
            self.made().is_stale = true;
        }
        let after = head.headers.get(RETRY_AFTER);
        let after = after.and_then(|seconds| seconds.to_str().ok()?.parse().ok());
        let body = body.beginning(REFUSAL.0, REFUSAL.1).await;
        let refusal = Refusal::read(head.status.as_u16(), after.map(Duration::from_secs), &body);
        Err(Error::Refused(refusal))
    }

    fn made(&self) -> MutexGuard<'_, Made> {
        // It is whole between two statements.
        self.made.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The client that asks now.
    async fn current(&self) -> Result<kube::Client, Error> {
        let usable = |with: fn(&Made) -> bool| {
            let made = self.made();
            made.client.clone().filter(|_| with(&made))
        };
        let Some(access) = &self.access else {
            return usable(|_| true).ok_or_else(nobody);
        };
        if let Some(client) = usable(Made::is_current) {
            return Ok(client);
        }
        let mut renewal = match (self.renewal.try_lock(), usable(|made| !made.is_stale)) {
            (Ok(renewal), _) => renewal,
            (Err(_), Some(client)) => return Ok(client),
            (Err(_), None) => self.renewal.lock().await,
        };
        // Maybe somebody made it meanwhile.
        if let Some(client) = usable(Made::is_current) {
            return Ok(client);
        }
        if renewal.is_due() {
            self.renew(access, &mut renewal).await?;
        }
        let trouble = || self.trouble.borrow().clone().map(Error::Access);
        usable(|_| true).ok_or_else(|| trouble().unwrap_or_else(nobody))
    }

    /// Makes a new client, if that can be. A request that was meant for another cluster fails.
    async fn renew(&self, access: &Access, renewal: &mut Renewal) -> Result<(), Error> {
        let error = match access.read() {
            Ok(mut found) => match remake(access, &mut found).await {
                Ok(made) => {
                    renewal.failed = None;
                    self.trouble.send_replace(None);
                    let has_moved = {
                        let mut before = self.made();
                        let has_moved = before.cluster != made.cluster;
                        *before = made;
                        has_moved
                    };
                    if has_moved {
                        self.moves.send_modify(|moves| *moves += 1);
                        return Err(Error::Moved);
                    }
                    return Ok(());
                }
                Err(error) => {
                    renewal.failed = Some(Failed::new(found.files, renewal.failed.as_ref()));
                    error
                }
            },
            Err(error) => {
                let files = access.files();
                renewal.failed = Some(Failed::new(files, renewal.failed.as_ref()));
                error
            }
        };
        self.trouble.send_replace(Some(error));
        Ok(())
    }
}

fn nobody() -> Error {
    Error::Unreachable("there is no client".to_owned())
}

async fn remake(access: &Access, found: &mut Found<'_>) -> Result<Made, AccessError> {
    let until = found.ask_plugin().await?;
    let (client, cluster) = make(access, found).await?;
    let mut made = Made::new(Some(client), cluster, found.files.clone());
    made.ends = until.map(ends);
    Ok(made)
}

async fn make(access: &Access, found: &Found<'_>) -> Result<(kube::Client, Cluster), AccessError> {
    let config = found.config().await?;
    let cluster = Cluster {
        server: config.cluster_url.clone(),
        authorities: config.root_cert.clone(),
    };
    let client = kube::Client::try_from(config).map_err(|error| access.error(&error))?;
    Ok((client, cluster))
}
