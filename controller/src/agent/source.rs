//! Where the agent's objects come from.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::future::{Future, pending};
use std::{io, thread};

use policy_compiler::index::{Object, ObjectId};
use tokio::sync::oneshot;

/// Something that says what the cluster is, and goes on saying what changes.
pub trait Source: Send + 'static {
    /// Waits for what happened since the last call. Dropping the future loses nothing.
    ///
    /// The first event that has objects is an [`Event::Reset`]: until there is a complete state, there is none.
    fn next(&mut self) -> impl Future<Output = Event> + Send;
}

/// What a source says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// These are all objects there are. Where there are very many pods, they share what they have in common
    /// ([`policy_compiler::index::Interner`]).
    Reset(Vec<Object>),
    /// Changes that belong together, in order.
    Changes(Vec<Change>),
    /// Everything that is wrong with the source now, by what it is wrong with (a file); what was in force of it stays in
    /// force. An empty list says that all is well again.
    Problems(BTreeMap<String, Problem>),
}

/// One change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// An object is there, as it is now.
    Apply(Object),
    /// An object is gone.
    Delete(ObjectId),
}

/// Something wrong with a source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// What is wrong, naming object, field and remedy; a line each.
    pub message: String,
    /// Whether no complete state can be had as long as it lasts.
    pub blocks: bool,
}

/// The thread of a source.
#[derive(Debug, Default)]
pub(super) struct Thread(Option<oneshot::Receiver<Infallible>>);

impl Thread {
    /// Starts it.
    pub(super) fn start(name: &str, work: impl FnOnce() + Send + 'static) -> io::Result<Self> {
        let (alive, ended) = oneshot::channel();
        thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || {
                let _alive = alive;
                work();
            })?;
        Ok(Self(Some(ended)))
    }

    /// Is ready when it has ended; never if that was asked before, or if there is none.
    pub(super) fn ended(&mut self) -> impl Future<Output = ()> + use<> {
        let ended = self.0.take();
        async {
            match ended {
                Some(ended) => drop(ended.await),
                None => pending().await,
            }
        }
    }
}
