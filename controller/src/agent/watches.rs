//! A cluster's API server as a source.
//!
//! ```text
//! watch of namespaces ─▶┐
//! watch of nodes ──────▶│ state: what is known, what is news, what is wrong ──▶ Event
//! watch of pods ───────▶│
//! watch of policies ───▶┘
//! ```
//!
//! A thread of its own does all of it, so that reading never holds up who waits for events.
//!
//! # What counts
//!
//! - Nothing is told before all four kinds were listed once and the node is there. That is the one [`Event::Reset`]; after
//!   it there are only changes. A list that is made again is compared with what is known, and what it no longer has is
//!   deleted: the rules never pass through less than was in force.
//! - An object that is not valid stays as it was when it was last valid; one that was made anew under its name never was.
//!   A NetworkPolicy that never was isolates the pods that it selects, or all of its namespace if that cannot be read, and
//!   allows nothing. A Pod of which only the ports are wrong has none. Each is a problem that names object and field, and
//!   holds up nothing else.
//! - While the API server is away everything stays as it is.
//! - Of another cluster nothing counts before all of it is listed and the node is there. Then it takes the place of the one
//!   before at once: the rules never pass through a mixture, nor through less.

pub(super) mod backoff;
mod rights;
mod state;
mod watch;

use std::future::pending;
use std::io;
use std::panic::resume_unwind;
use std::sync::Arc;

use policy_compiler::validate::Options;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::sync::watch as published;
use tokio::task::JoinSet;

use self::watch::Watch;
use super::metrics::Metrics;
use super::source::{Event, Source, Thread};
use crate::kubernetes::{Access, AccessError, Client, Resource, Selection};

pub use self::state::{State, Update};
pub use self::watch::{LIST_QUIET, QUIET};

/// So much of what the watches read waits at most.
const WAITING: usize = 64;

/// There is nothing to watch.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The API server cannot even be asked.
    #[error(transparent)]
    Access(#[from] AccessError),
    /// There is no thread.
    #[error("the API server cannot be watched: {0}")]
    Thread(#[from] io::Error),
}

/// A cluster's API server as a source.
#[derive(Debug)]
pub struct Watches {
    events: Receiver<Event>,
    thread: Thread,
}

impl Watches {
    /// Starts to watch what a node needs.
    ///
    /// # Errors
    /// What says where the API server is cannot be read, or there is no thread. What is wrong with the API server is an
    /// [`Event::Problems`].
    pub fn start(access: Access, node: &str, metrics: Metrics) -> Result<Self, Error> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let client = runtime.block_on(Client::new(access))?;
        let (watches, work) = Self::with(client, node, metrics);
        let thread = Thread::start("watches", move || runtime.block_on(work))?;
        Ok(Self { thread, ..watches })
    }

    /// The source, and what has to run for it. That ends when the source is dropped.
    pub fn with(
        client: Client,
        node: &str,
        metrics: Metrics,
    ) -> (Self, impl Future<Output = ()> + Send + use<>) {
        let (events, receiver) = channel(1);
        let watches = Self {
            events: receiver,
            thread: Thread::default(),
        };
        (watches, work(client, node.to_owned(), metrics, events))
    }

    /// Is ready when nothing is watched any more, as the thread panicked, or as this was dropped.
    pub fn ended(&mut self) -> impl Future<Output = ()> + use<> {
        self.thread.ended()
    }
}

impl Source for Watches {
    async fn next(&mut self) -> Event {
        match self.events.recv().await {
            Some(event) => event,
            // The thread ends before this value only if it panics, which `ended` tells.
            None => pending().await,
        }
    }
}

async fn work(client: Client, node: String, metrics: Metrics, events: Sender<Event>) {
    let client = Arc::new(client);
    let trouble = client.trouble();
    let (missing, rights) = published::channel(None);
    let (sender, updates) = channel(WAITING);
    // The API server took what it holds, maybe before it was as strict as it is.
    let options = Options { lenient_cidr: true };
    // A task each, so that a watch of which much comes takes its turns with the others.
    let mut watches = JoinSet::new();
    for resource in Resource::ALL {
        let selection = Selection::of_node(resource, &node);
        let (client, metrics) = (Arc::clone(&client), metrics.clone());
        metrics.watch_begun(resource);
        let watch = Watch::new(client, selection, options, metrics, sender.clone());
        watches.spawn(watch.run());
    }
    drop(sender);
    watches.spawn(rights::watch(client, missing));
    let watched = async {
        while let Some(ended) = watches.join_next().await {
            if let Err(error) = ended
                && let Ok(panic) = error.try_into_panic()
            {
                // As this thread's own, which is noticed.
                resume_unwind(panic);
            }
        }
    };
    tokio::select! {
        () = merge(State::new(node), updates, trouble, rights, events) => {}
        () = watched => {}
    }
}

/// Makes one source of the watches. What comes while nobody takes events waits, and comes together.
async fn merge(
    mut state: State,
    mut updates: Receiver<(Resource, Update)>,
    mut trouble: published::Receiver<Option<AccessError>>,
    mut rights: published::Receiver<Option<String>>,
    events: Sender<Event>,
) {
    loop {
        tokio::select! {
            changed = trouble.changed() => match changed {
                Ok(()) => {
                    let trouble = trouble.borrow_and_update();
                    state.take_trouble(trouble.as_ref().map(ToString::to_string));
                }
                Err(_) => return,
            },
            changed = rights.changed() => match changed {
                Ok(()) => state.take_missing_rights(rights.borrow_and_update().clone()),
                Err(_) => return,
            },
            update = updates.recv() => match update {
                Some((resource, update)) => state.take(resource, update),
                None => return,
            },
            permit = events.reserve(), if state.has_event() => match (permit, state.event()) {
                (Ok(permit), Some(event)) => permit.send(event),
                (Ok(_), None) => {}
                (Err(_), _) => return,
            },
            () = events.closed() => return,
        }
    }
}
