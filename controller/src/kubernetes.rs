//! A client of the Kubernetes API server that reads, and writes Events. Commands that a person or a hook runs once and
//! that make or delete something have `kube`'s own, from [`connect`].
//!
//! ```text
//! Access ──▶ Client ──▶ Lines ──▶ list: all there is, once
//!   └ files that change         └▶ decode: one object, or what is wrong with it
//! ```
//!
//! `kube` does what every client has to: kubeconfig, TLS, tokens. Credential plugins are run here, in bounded time. What is read, and in which order, is
//! decided here, since the watcher of `kube-runtime` does not say enough for a firewall: it lists from the API server's
//! cache whatever its age (so that a list may be older than what is known already), it hides bookmarks (so that silence
//! and life look the same), and it neither falls back where a streaming list is refused nor bounds what it reads.

mod access;
mod client;
mod decode;
mod dump;
mod error;
mod lines;
mod list;
mod plugin;
mod resource;
mod stand_in;

pub use access::{Access, AccessError};
pub use client::Client;
pub use decode::{Bad, Item, Line, line};
pub use dump::{Dump, DumpError, Id, connect, context_namespace};
pub use error::{Error, Refusal, words};
pub use lines::Lines;
pub use list::{List, all, uid, version};
pub use resource::{Resource, Selection, escape};
