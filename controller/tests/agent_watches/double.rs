//! An API server in this process: versions, history, streaming lists, pages, bookmarks; and faults that are asked for.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use controller::kubernetes::{Client, Resource};
use futures::channel::mpsc::{UnboundedReceiver, UnboundedSender, unbounded};
use futures::stream::StreamExt;
use http_body_util::StreamBody;
use hyper::body::{Bytes, Frame};
use hyper::{Request, Response, Uri};
use kube::client::Body;
use serde_json::{Value, json};
use tower::service_fn;

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asks {
    /// A watch that begins with a list.
    Stream,
    /// A watch from a version.
    Watch,
    /// A list, or a page of one.
    List,
    /// The version of the store.
    Version,
}

/// A request that came.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) resource: Resource,
    pub(crate) asks: Asks,
    pub(crate) query: BTreeMap<String, String>,
    pub(crate) at: tokio::time::Instant,
}

/// What is done instead of an answer.
#[derive(Clone, Debug)]
pub(crate) enum Fault {
    /// A status and a body.
    Status(u16, Vec<(&'static str, String)>, String),
    /// This body, which ends.
    Text(String),
    /// This body, and nothing after it, not even an end.
    Stall(String),
    /// This body, over and over, as fast as it is taken.
    Flood(String),
    /// No head for so long.
    NoHead,
    /// No connection.
    Refused,
}

impl Fault {
    /// A Status of the API server.
    pub(crate) fn status(code: u16, reason: &str, message: &str) -> Self {
        let body = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason, "message": message});
        Self::Status(code, Vec::new(), body.to_string())
    }
}

type Chunk = Result<Frame<Bytes>, io::Error>;

#[derive(Default)]
struct Inner {
    version: u64,
    /// What happened since: from before this version nobody can go on.
    oldest: u64,
    objects: BTreeMap<(Resource, String), Value>,
    history: Vec<(u64, Resource, &'static str, Value)>,
    watches: Vec<(Resource, UnboundedSender<Chunk>)>,
    asked: Vec<Asked>,
    faults: VecDeque<(Resource, Asks, Fault)>,
    has_no_streams: Option<NoStreams>,
    page: Option<usize>,
}

/// How an API server has no streaming lists.
#[derive(Clone, Copy, Debug)]
pub(crate) enum NoStreams {
    /// It says so.
    Refuses,
    /// It does not know the parameter.
    Ignores,
}

/// The API server.
#[derive(Clone, Default)]
pub(crate) struct Double(Arc<Mutex<Inner>>);

fn key(object: &Value) -> String {
    let part = |name| object["metadata"][name].as_str().unwrap_or_default();
    format!("{}/{}", part("namespace"), part("name"))
}

impl Double {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap()
    }

    pub(crate) fn client(&self) -> Client {
        let double = self.clone();
        let service = service_fn(move |request: Request<Body>| {
            let double = double.clone();
            let uri = request.uri().clone();
            async move { double.answer(&uri).await }
        });
        Client::fixed(kube::Client::new(service, "default"))
    }

    /// Adds an object, or changes it.
    pub(crate) fn put(&self, resource: Resource, mut object: Value) {
        let mut inner = self.inner();
        inner.version += 1;
        object["metadata"]["resourceVersion"] = inner.version.to_string().into();
        let old = inner
            .objects
            .insert((resource, key(&object)), object.clone());
        let kind = if old.is_some() { "MODIFIED" } else { "ADDED" };
        inner.tell(resource, kind, object);
    }

    /// Removes an object.
    pub(crate) fn remove(&self, resource: Resource, key: &str) {
        let mut inner = self.inner();
        inner.version += 1;
        let mut object = inner.objects.remove(&(resource, key.to_owned())).unwrap();
        object["metadata"]["resourceVersion"] = inner.version.to_string().into();
        inner.tell(resource, "DELETED", object);
    }

    /// Changes without a word to those who watch: they were away.
    pub(crate) fn quietly(&self, change: impl FnOnce(&Self)) {
        let watches = std::mem::take(&mut self.inner().watches);
        change(self);
        self.inner().watches = watches;
    }

    /// Tells how far it is.
    pub(crate) fn bookmark(&self, resource: Resource) {
        let version = self.inner().version;
        let bookmark = json!({"type": "BOOKMARK", "object": {"kind": "X", "metadata": {"resourceVersion": version.to_string()}}});
        self.send(resource, &format!("{bookmark}\n"));
    }

    /// Sends something to all watches of the kind.
    pub(crate) fn send(&self, resource: Resource, text: &str) {
        self.inner().send(resource, text);
    }

    /// Ends all watches, or breaks them off.
    pub(crate) fn end(&self, breaks: bool) {
        for (_, watch) in std::mem::take(&mut self.inner().watches) {
            if breaks {
                drop(watch.unbounded_send(Err(io::ErrorKind::ConnectionReset.into())));
            }
        }
    }

    /// Ends the watches of a kind.
    pub(crate) fn end_of(&self, resource: Resource) {
        let mut inner = self.inner();
        inner.watches.retain(|(of, _)| *of != resource);
    }

    /// From before now nobody can go on.
    pub(crate) fn compact(&self) {
        let mut inner = self.inner();
        inner.oldest = inner.version;
    }

    /// As from a backup.
    pub(crate) fn restore(&self, version: u64, objects: impl FnOnce(&Self)) {
        {
            let mut inner = self.inner();
            inner.version = version;
            inner.oldest = 0;
            inner.history.clear();
            inner.objects.clear();
        }
        objects(self);
    }

    pub(crate) fn set_version(&self, version: u64) {
        self.inner().version = version;
    }

    /// The next request of this sort meets the fault.
    pub(crate) fn fault(&self, resource: Resource, asks: Asks, fault: Fault) {
        self.inner().faults.push_back((resource, asks, fault));
    }

    pub(crate) fn has_no_streams(&self, how: NoStreams) {
        self.inner().has_no_streams = Some(how);
    }

    pub(crate) fn pages_of(&self, size: usize) {
        self.inner().page = Some(size);
    }

    /// How many watches of the kind are open.
    pub(crate) fn watches(&self, resource: Resource) -> usize {
        let inner = self.inner();
        let of = inner
            .watches
            .iter()
            .filter(|(of, watch)| *of == resource && !watch.is_closed());
        of.count()
    }

    /// The requests of a sort.
    pub(crate) fn asked(&self, resource: Resource, asks: Asks) -> Vec<Asked> {
        let inner = self.inner();
        let of = inner
            .asked
            .iter()
            .filter(|asked| asked.resource == resource && asked.asks == asks);
        of.cloned().collect()
    }

    /// An answer that is not the store's.
    pub(crate) fn refuse(&self, fault: Fault) -> Response<Answer> {
        match fault {
            Fault::Status(code, headers, body) => status(code, &headers, &body),
            other => panic!("{other:?} is no answer"),
        }
    }

    pub(crate) async fn answer(&self, uri: &Uri) -> Result<Response<Answer>, io::Error> {
        if uri.path().ends_with("/selfsubjectaccessreviews") {
            return Ok(self.refuse(Fault::status(404, "NotFound", "no such resource")));
        }
        let asked = read(uri);
        let fault = {
            let mut inner = self.inner();
            inner.asked.push(asked.clone());
            let of = |(resource, asks, _): &(Resource, Asks, Fault)| {
                (*resource, *asks) == (asked.resource, asked.asks)
            };
            let index = inner.faults.iter().position(of);
            index.and_then(|index| inner.faults.remove(index))
        };
        match fault {
            Some((.., Fault::Refused)) => return Err(io::ErrorKind::ConnectionRefused.into()),
            Some((.., Fault::NoHead)) => {
                tokio::time::sleep(Duration::from_secs(100_000)).await;
                return Err(io::ErrorKind::TimedOut.into());
            }
            Some((.., Fault::Status(code, headers, body))) => {
                return Ok(status(code, &headers, &body));
            }
            Some((.., Fault::Text(text))) => return Ok(whole(&text)),
            Some((.., Fault::Stall(text))) => {
                let (sender, body) = unbounded();
                sender.unbounded_send(Ok(Frame::data(text.into()))).unwrap();
                std::mem::forget(sender);
                return Ok(Response::new(streamed(body)));
            }
            Some((.., Fault::Flood(text))) => {
                let text = Bytes::from(text);
                let body = futures::stream::repeat_with(move || Ok(Frame::data(text.clone())));
                return Ok(Response::new(StreamBody::new(body.boxed())));
            }
            None => {}
        }
        Ok(self.inner().answer(&asked))
    }
}

/// A body that may go on.
pub(crate) type Answer = StreamBody<futures::stream::BoxStream<'static, Chunk>>;

fn streamed(body: UnboundedReceiver<Chunk>) -> Answer {
    StreamBody::new(body.boxed())
}

fn whole(text: &str) -> Response<Answer> {
    let chunk: Chunk = Ok(Frame::data(text.to_owned().into()));
    Response::new(StreamBody::new(futures::stream::iter([chunk]).boxed()))
}

fn status(code: u16, headers: &[(&str, String)], body: &str) -> Response<Answer> {
    let mut answer = whole(body);
    *answer.status_mut() = code.try_into().unwrap();
    for (name, value) in headers {
        let name = hyper::header::HeaderName::try_from(*name).unwrap();
        answer.headers_mut().insert(name, value.parse().unwrap());
    }
    answer
}

fn unescape(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let digits = [rest.next().unwrap(), rest.next().unwrap()];
            let digits = std::str::from_utf8(&digits).unwrap();
            bytes.push(u8::from_str_radix(digits, 16).unwrap());
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).unwrap()
}

fn read(uri: &Uri) -> Asked {
    let path = uri.path();
    let resource = Resource::ALL;
    let mut resource = resource
        .into_iter()
        .filter(|of| path.ends_with(&format!("/{of}")));
    let resource = resource.next().unwrap_or_else(|| panic!("{path}"));
    let pairs = uri.query().unwrap_or_default().split('&');
    let pairs = pairs.filter_map(|pair| pair.split_once('='));
    let query: BTreeMap<_, _> = pairs
        .map(|(name, value)| (name.to_owned(), unescape(value)))
        .collect();
    let has = |name: &str| query.contains_key(name);
    let is_one = query.get("fieldSelector").map(String::as_str) == Some("metadata.name=default");
    let asks = match () {
        () if has("sendInitialEvents") => Asks::Stream,
        () if has("watch") => Asks::Watch,
        () if is_one => Asks::Version,
        () => Asks::List,
    };
    Asked {
        resource,
        asks,
        query,
        at: tokio::time::Instant::now(),
    }
}

impl Inner {
    fn tell(&mut self, resource: Resource, kind: &'static str, object: Value) {
        self.history
            .push((self.version, resource, kind, object.clone()));
        let event = json!({"type": kind, "object": object});
        self.send(resource, &format!("{event}\n"));
    }

    fn send(&mut self, resource: Resource, text: &str) {
        self.watches.retain(|(of, watch)| {
            let chunk = Ok(Frame::data(text.to_owned().into()));
            *of != resource || watch.unbounded_send(chunk).is_ok()
        });
    }

    fn of(&self, resource: Resource) -> Vec<&Value> {
        let objects = self.objects.iter().filter(|((of, _), _)| *of == resource);
        objects.map(|(_, object)| object).collect()
    }

    fn answer(&mut self, asked: &Asked) -> Response<Answer> {
        let resource = asked.resource;
        let version = self.version.to_string();
        let (sender, body) = unbounded();
        let say = |event: Value| {
            let chunk = Ok(Frame::data(format!("{event}\n").into()));
            sender.unbounded_send(chunk).unwrap();
        };
        match asked.asks {
            Asks::Stream => {
                if matches!(self.has_no_streams, Some(NoStreams::Refuses)) {
                    let message = "ListOptions.meta.k8s.io \"\" is invalid: sendInitialEvents: Forbidden: sendInitialEvents is forbidden for watch unless the WatchList feature gate is enabled";
                    let Fault::Status(code, headers, body) = Fault::status(422, "Invalid", message)
                    else {
                        unreachable!();
                    };
                    return status(code, &headers, &body);
                }
                for object in self.of(resource) {
                    say(json!({"type": "ADDED", "object": object}));
                }
                if self.has_no_streams.is_none() {
                    say(json!({"type": "BOOKMARK", "object": {"metadata": {
                        "resourceVersion": version, "annotations": {"k8s.io/initial-events-end": "true"}}}}));
                }
            }
            Asks::Watch => {
                let from: u64 = asked.query["resourceVersion"].parse().unwrap();
                if from < self.oldest {
                    let status = json!({"kind": "Status", "code": 410, "reason": "Expired", "message": format!("too old resource version: {from} ({})", self.oldest)});
                    say(json!({"type": "ERROR", "object": status}));
                    return Response::new(streamed(body));
                }
                for (at, of, kind, object) in &self.history {
                    if *of == resource && *at > from {
                        say(json!({"type": kind, "object": object}));
                    }
                }
            }
            Asks::Version => {
                let list = json!({"metadata": {"resourceVersion": version}, "items": null});
                return whole(&list.to_string());
            }
            Asks::List => {
                let start: usize = asked
                    .query
                    .get("continue")
                    .map_or(0, |next| next.parse().unwrap());
                let all = self.of(resource);
                let limited = asked.query.contains_key("limit");
                let size = self.page.filter(|_| limited).unwrap_or(usize::MAX);
                let end = start.saturating_add(size).min(all.len());
                let next = if end < all.len() {
                    end.to_string()
                } else {
                    String::new()
                };
                let items = Some(&all[start..end]).filter(|items| !items.is_empty());
                let list = json!({"metadata": {"resourceVersion": version, "continue": next}, "items": items});
                return whole(&list.to_string());
            }
        }
        self.watches.push((resource, sender));
        Response::new(streamed(body))
    }
}
