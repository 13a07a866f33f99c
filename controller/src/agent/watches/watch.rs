//! One watch: a list, then what happens, and the list again where it has to be.
//!
//! - The list is a streaming one: the API server sends it from its cache once that is as new as etcd. Where it refuses,
//!   or does not know of them, pages are listed.
//! - Every minute the API server says how far it is, also when nothing happens. A watch of which nothing is heard for
//!   [`QUIET`] is given up: half of the connection may be gone.
//! - A watch ends after some minutes, each after another time, and goes on where it was. Only where the API server does
//!   not know that version any more all is listed again.
//! - What was told of one cluster holds for no other: when it comes to be another that is asked, the watch ends wherever
//!   it is, says so, and begins with a list.
//! - Versions grow. If the API server's store is older than what it told us, it was restored from a backup, and waiting
//!   for what comes after our version would be waiting for ever. This is looked after whenever an API server was away or
//!   silent; it costs it one key of etcd.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use policy_compiler::index::Interner;
use policy_compiler::validate::Options;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};

use super::Update;
use super::backoff::{Backoff, between};
use crate::agent::metrics::Metrics;
use crate::kubernetes::{self, Client, Error, Line, Lines, Resource, Selection};

/// Nothing was heard of a watch for so long: the API server tells each minute how far it is.
pub const QUIET: Duration = Duration::from_secs(150);

/// Nothing was heard of a list that streams for so long.
pub const LIST_QUIET: Duration = Duration::from_secs(30);

/// How long a watch lives, at the least and at the most; as client-go's.
const LIFETIME: (Duration, Duration) = (Duration::from_secs(300), Duration::from_secs(600));

/// A watch that lived so long is no failure, even if nothing came of it: what is between may end connections that are
/// silent for some seconds.
const LONG: Duration = Duration::from_secs(5);

/// Within this time a watch goes on after it ended. After an API server has ended, those of all nodes do.
const SPREAD: Duration = Duration::from_secs(1);

/// Whether lists stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Streaming {
    #[default]
    Yes,
    /// Not the next one: the last one came to nothing.
    NotNext,
    /// The API server does not know of it.
    Never,
}

/// Watches one kind of objects.
pub(super) struct Watch {
    pub(super) client: Arc<Client>,
    pub(super) selection: Selection,
    pub(super) options: Options,
    pub(super) metrics: Metrics,
    pub(super) updates: mpsc::Sender<(Resource, Update)>,
    interner: Interner,
    state: State,
}

/// How far it is.
#[derive(Default)]
struct State {
    /// The version up to which everything was told.
    from: Option<String>,
    streaming: Streaming,
    /// Whether the store may be older than that.
    is_doubtful: bool,
    heard: Option<SystemTime>,
    is_troubled: bool,
    backoff: Backoff,
}

/// Nobody listens any more.
struct Unheard;

enum Failure {
    Api(&'static str, Error),
    Unheard,
}

impl From<Unheard> for Failure {
    fn from(_: Unheard) -> Self {
        Self::Unheard
    }
}

/// Says what was tried.
fn to(verb: &'static str) -> impl Fn(Error) -> Failure {
    move |error| Failure::Api(verb, error)
}

impl Watch {
    pub(super) fn new(
        client: Arc<Client>,
        selection: Selection,
        options: Options,
        metrics: Metrics,
        updates: mpsc::Sender<(Resource, Update)>,
    ) -> Self {
        Self {
            client,
            selection,
            options,
            metrics,
            updates,
            interner: Interner::default(),
            state: State::default(),
        }
    }

    /// Watches until nobody listens any more.
    pub(super) async fn run(mut self) {
        let mut moves = self.client.moves();
        loop {
            let attempt = tokio::select! {
                // First, so that nothing of one cluster is taken for another's.
                biased;
                moved = moves.changed() => match moved {
                    Ok(()) => {
                        let moves = *moves.borrow_and_update();
                        self.begin_anew(moves).await
                    }
                    Err(_) => return,
                },
                attempt = self.attempt() => attempt,
            };
            if attempt.is_err() {
                return;
            }
        }
    }

    /// It is another cluster that is asked.
    async fn begin_anew(&mut self, moves: u64) -> Result<(), Unheard> {
        self.state = State {
            is_troubled: self.state.is_troubled,
            ..State::default()
        };
        self.metrics.watch_restarted(self.selection.resource);
        self.say(Update::Moved(moves)).await
    }

    /// One answer, and the time until the next is asked for.
    async fn attempt(&mut self) -> Result<(), Unheard> {
        let resource = self.selection.resource;
        let wait = match self.once().await {
            Err(Failure::Unheard) => return Err(Unheard),
            Ok(()) => self.state.backoff.after_end(SPREAD),
            Err(Failure::Api(_, Error::Moved)) => return Ok(()),
            // What we know is too old.
            Err(Failure::Api(_, Error::Refused(refusal)))
                if refusal.is_expired() && self.state.from.is_some() =>
            {
                tracing::debug!(%resource, "is listed again: {refusal}");
                self.state.from = None;
                self.state.backoff.next(None)
            }
            Err(Failure::Api(verb, error)) => {
                // Whoever is there again may have been restored.
                self.state.is_doubtful = true;
                let after = match &error {
                    Error::Refused(refusal) => refusal.retry_after,
                    _ => None,
                };
                // Why there is no client is told once, and not by each kind.
                if !matches!(error, Error::Access(_)) {
                    let trouble = self.describe(verb, &error);
                    self.say(Update::Trouble(Some(trouble))).await?;
                    self.state.is_troubled = true;
                }
                self.state.backoff.next(after)
            }
        };
        self.metrics.watch_restarted(resource);
        sleep(wait).await;
        Ok(())
    }

    /// From where it is to the end of one answer.
    async fn once(&mut self) -> Result<(), Failure> {
        if self.state.is_doubtful {
            self.look_back().await?;
        }
        if let Some(from) = self.state.from.clone() {
            let lines = self.resume(&from).await?;
            return self.follow(lines).await;
        }
        if self.state.streaming == Streaming::Yes {
            let (selection, lifetime) = (self.selection.clone(), self.lifetime());
            match self.client.get(&selection.stream(lifetime)).await {
                Ok(lines) => {
                    if let Some(lines) = self.stream(lines).await? {
                        return self.follow(lines).await;
                    }
                }
                // "sendInitialEvents is forbidden for watch unless the WatchList feature gate is enabled"
                Err(Error::Refused(refusal)) if matches!(refusal.code, 400 | 422) => {}
                Err(error) => return Err(to("watch")(error)),
            }
            self.state.streaming = Streaming::Never;
            tracing::debug!(resource = %selection.resource, "lists do not stream, pages are listed");
        } else if self.state.streaming == Streaming::NotNext {
            self.state.streaming = Streaming::Yes;
        }
        self.list().await?;
        let from = self.state.from.clone().unwrap_or_default();
        let lines = self.resume(&from).await?;
        self.follow(lines).await
    }

    fn lifetime(&self) -> Duration {
        between(LIFETIME.0, LIFETIME.1)
    }

    async fn resume(&mut self, from: &str) -> Result<Lines, Failure> {
        let path = self.selection.watch(from, self.lifetime());
        let lines = self.client.get(&path).await.map_err(to("watch"))?;
        self.heard().await?;
        Ok(lines)
    }

    /// Whether the store is older than what it told.
    async fn look_back(&mut self) -> Result<(), Failure> {
        if let Some(from) = &self.state.from {
            let version = kubernetes::version(&self.client, &self.selection).await;
            let version = version.map_err(to("list"))?;
            if is_before(&version, from) {
                let resource = self.selection.resource;
                tracing::warn!(
                    %resource, version, known = %from,
                    "the API server's store is older than what it told before, as after a restore: all is listed again"
                );
                self.state.from = None;
            }
        }
        self.state.is_doubtful = false;
        Ok(())
    }

    /// The list at the beginning of a watch; and the watch, behind it. None if the API server does not know of such lists.
    async fn stream(&mut self, mut lines: Lines) -> Result<Option<Lines>, Failure> {
        let resource = self.selection.resource;
        let mut items = BTreeMap::new();
        let mut nameless = Vec::new();
        loop {
            let line = match lines.next(LIST_QUIET).await {
                Ok(Some(line)) => line,
                Ok(None) => {
                    let cause = "before the list was complete".to_owned();
                    return Err(to("watch")(Error::Broken(cause)));
                }
                Err(error) => {
                    if matches!(error, Error::Silent(_)) {
                        self.state.streaming = Streaming::NotNext;
                    }
                    return Err(to("watch")(error));
                }
            };
            match kubernetes::line(resource, &line, self.options).map_err(to("watch"))? {
                Line::Applied(item) => {
                    let item = item.interned(&mut self.interner);
                    items.insert(item.id.clone(), item);
                }
                Line::Deleted(id, _) => drop(items.remove(&id)),
                Line::Nameless(wrong) => nameless.push(wrong),
                Line::Refused(refusal) => return Err(to("watch")(Error::Refused(refusal))),
                Line::Bookmark { ends_list, version } => {
                    if !ends_list {
                        return Ok(None);
                    }
                    self.state.from = Some(version);
                    let items = items.into_values().collect();
                    self.say(Update::Listed(items, nameless)).await?;
                    self.heard().await?;
                    return Ok(Some(lines));
                }
            }
        }
    }

    async fn list(&mut self) -> Result<(), Failure> {
        let list = kubernetes::all(
            &self.client,
            &self.selection,
            self.options,
            &mut self.interner,
        )
        .await;
        let list = list.map_err(to("list"))?;
        self.state.from = Some(list.version);
        self.say(Update::Listed(list.items, list.nameless)).await?;
        self.heard().await
    }

    /// Tells what happens, until the answer ends.
    async fn follow(&mut self, mut lines: Lines) -> Result<(), Failure> {
        let resource = self.selection.resource;
        let start = Instant::now();
        loop {
            let line = match lines.next(QUIET).await {
                Ok(Some(line)) => line,
                Ok(None) => {
                    self.lived(start.elapsed());
                    return Ok(());
                }
                // An established watch that breaks is no trouble if the next one can be had.
                Err(Error::Silent(_) | Error::Broken(_)) => {
                    self.lived(start.elapsed());
                    self.state.is_doubtful = true;
                    return Ok(());
                }
                Err(error) => return Err(to("watch")(error)),
            };
            let (update, version) =
                match kubernetes::line(resource, &line, self.options).map_err(to("watch"))? {
                    Line::Applied(item) => {
                        let version = item.version.clone();
                        (Some(Update::Applied(*item)), version)
                    }
                    Line::Deleted(id, version) => (Some(Update::Deleted(id)), version),
                    Line::Bookmark { version, .. } => (None, Some(version)),
                    Line::Nameless(wrong) => (Some(Update::Nameless(wrong)), None),
                    Line::Refused(refusal) => return Err(to("watch")(Error::Refused(refusal))),
                };
            if let (Some(version), Some(from)) = (&version, &self.state.from)
                && is_before(version, from)
            {
                // Its store was restored, or is another: what we know may be what never was.
                let what = format!("version {version} after {from}, and so all is listed again");
                self.state.from = None;
                return Err(to("watch")(Error::Unreadable(what)));
            }
            if let Some(update) = update {
                self.say(update).await?;
            }
            if version.is_some() {
                self.state.from = version;
            }
            self.state.backoff.reset();
            self.heard().await?;
        }
    }

    /// A watch ended after so long.
    fn lived(&mut self, long: Duration) {
        if long >= LONG {
            self.state.backoff.reset();
        }
    }

    /// The API server gave what it was asked for.
    async fn heard(&mut self) -> Result<(), Failure> {
        let now = SystemTime::now();
        self.metrics.watch_heard(self.selection.resource, now);
        self.state.heard = Some(now);
        if std::mem::take(&mut self.state.is_troubled) {
            self.say(Update::Trouble(None)).await?;
        }
        Ok(())
    }

    async fn say(&self, update: Update) -> Result<(), Unheard> {
        let update = (self.selection.resource, update);
        self.updates.send(update).await.map_err(|_| Unheard)
    }

    fn describe(&self, verb: &str, error: &Error) -> String {
        let resource = self.selection.resource;
        let named = match resource.group() {
            "" => resource.to_string(),
            group => format!("{resource}.{group}"),
        };
        let mut text = error.explain(verb, &named);
        let heard = self.state.heard.and_then(|at| Timestamp::try_from(at).ok());
        if let Some(at) = heard.and_then(|at| at.round(jiff::Unit::Second).ok()) {
            text.push_str(&format!("; last heard {at}"));
        }
        text
    }
}

/// Whether a version is before another. Versions of one store are numbers that grow (KEP-5504); of others nothing is known.
fn is_before(version: &str, other: &str) -> bool {
    match (version.parse::<u64>(), other.parse::<u64>()) {
        (Ok(version), Ok(other)) => version < other,
        _ => false,
    }
}
