//! Objects from files: from PATH arguments to a complete list of API objects.
//!
//! ```text
//! PATH.. -> read::files -> bytes -> read -> documents -> decode -> objects, workloads
//!                                                                       |
//!                           Loaded <- complete <- objects <- workload <-+
//! ```
//!
//! Only [`load`] and `read::files` do IO; everything from bytes on is a pure function of the input, the same to
//! the byte on every run.
//!
//! What is decided here: the shape of the input (strict field validation, names given twice) and what the input
//! leaves out (see [`Note`]). Whether a value makes sense (a port, a CIDR, a selector) is for
//! `policy_compiler::validate` to say.

mod address;
mod belong;
mod beside;
mod complete;
mod decode;
mod error;
mod follow;
mod kinds;
mod network;
mod note;
mod origin;
mod path;
mod read;
mod strict;
mod untyped;
mod workload;

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use policy_compiler::api::Object;
use policy_compiler::model::NamespacedName;

pub use error::{Cause, Errors, Problem};
pub(crate) use follow::{Given, Listed, given, lies_in_folder, list_folder};
pub use note::{Note, few, summary};
pub(crate) use origin::{Items, OneLine};
pub use origin::{ObjectRef, Origin, Place};
pub use read::{MAX_BYTES, MAX_DEPTH, MAX_NODES, MAX_STRETCH};

/// An object and why it is there.
#[derive(Clone, Debug, PartialEq)]
pub struct Sourced {
    /// Where it comes from.
    pub origin: Origin,
    /// The object; its name is set, and its namespace if its kind has one.
    pub object: Object,
}

/// A complete view of a cluster.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Loaded {
    /// Namespaces, nodes, pods, policies, each in the order of (namespace, name).
    pub objects: Vec<Sourced>,
    /// What was assumed, sorted.
    pub notes: Vec<Note>,
    /// The workload of each pod that belongs to one, by `ownerReferences` or because the pod stands for it: a
    /// Deployment rather than its ReplicaSet.
    pub workloads: BTreeMap<NamespacedName, ObjectRef>,
    /// The cluster addresses of Services. Packets are judged behind them, so that nothing but `lint` asks.
    pub service_addresses: BTreeSet<IpAddr>,
}

/// Reads PATH arguments: files, folders and `-` for `stdin`.
///
/// # Errors
///
/// Everything that is wrong with the input, not only the first. No object that picket reads is an error too, unlike
/// for [`load_bytes`].
pub fn load(paths: &[PathBuf], stdin: &mut dyn Read) -> Result<Loaded, Errors> {
    load_beside(&[], None, paths, stdin)
}

/// The same, with the namespace of objects that name none, as `kubectl apply -n` has it.
///
/// # Errors
///
/// As [`load`].
pub fn load_into(
    namespace: Option<&str>,
    paths: &[PathBuf],
    stdin: &mut dyn Read,
) -> Result<Loaded, Errors> {
    load_beside(&[], namespace, paths, stdin)
}

/// The same, with what was made up for objects of another input, whose notes these are: pods and nodes that both have
/// get the same addresses.
///
/// # Errors
///
/// As [`load`].
pub fn load_beside(
    beside: &[Note],
    namespace: Option<&str>,
    paths: &[PathBuf],
    stdin: &mut dyn Read,
) -> Result<Loaded, Errors> {
    let mut source = Source::default();
    source.decoder.namespace = namespace.map(str::to_owned);
    source.add_paths(paths, stdin);
    source.decoder.name_generated();
    // A job with a mistyped path must not pass.
    if let Some(skipped) = source.decoder.found_nothing() {
        let names: Vec<_> = paths.iter().map(|path| path.to_string_lossy()).collect();
        let cause = Cause::NothingToRead(skipped);
        source
            .decoder
            .problems
            .push(Problem::of_file(&names.join(", ").into(), cause));
    }
    source.finish(beside)
}

/// Files that are in memory, as [`load_bytes`], and PATH arguments beside them.
///
/// # Errors
///
/// As [`load`].
pub fn load_with(
    files: &[(String, Vec<u8>)],
    namespace: Option<&str>,
    paths: &[PathBuf],
    stdin: &mut dyn Read,
) -> Result<Loaded, Errors> {
    let mut source = Source::default();
    source.decoder.namespace = namespace.map(str::to_owned);
    for (name, bytes) in files {
        source.add(&name.as_str().into(), bytes);
    }
    source.add_paths(paths, stdin);
    source.finish(&[])
}

/// The text of one file that is not a manifest, `-` for `stdin`, within the limits of one: its size, UTF-8 without
/// control characters, a byte order mark dropped.
///
/// # Errors
///
/// What is wrong with the file, and its line.
pub fn read_text(path: &Path, stdin: &mut dyn Read) -> Result<String, Errors> {
    let input = read::files::Input::named(path);
    let name = input.name();
    let one = |problem| Errors::new(vec![problem], 0);
    let bytes = input.read(stdin);
    let bytes = bytes.map_err(|cause| one(Problem::of_file(&name, cause)))?;
    let text = read::decoded(&name, &bytes).map_err(|problem| one(*problem))?;
    Ok(text.to_owned())
}

/// The same for files that are in memory, each with its name.
///
/// # Errors
///
/// As [`load`].
pub fn load_bytes<'a>(
    files: impl IntoIterator<Item = (&'a str, &'a [u8])>,
) -> Result<Loaded, Errors> {
    let mut source = Source::default();
    for (name, bytes) in files {
        source.add(&name.into(), bytes);
    }
    source.finish(&[])
}

/// Files on their way to objects, one at a time, so that only one is in memory.
#[derive(Default)]
struct Source {
    decoder: decode::Decoder,
}

impl Source {
    fn add_paths(&mut self, paths: &[PathBuf], stdin: &mut dyn Read) {
        let listing = read::files::list(paths);
        self.decoder.problems.extend(listing.problems);
        self.decoder.notes.extend(listing.notes);
        for input in listing.inputs {
            let name = input.name();
            match input.read(stdin) {
                Ok(bytes) => self.add(&name, &bytes),
                Err(cause) => self.decoder.problems.push(Problem::of_file(&name, cause)),
            }
        }
    }

    fn add(&mut self, name: &Arc<str>, bytes: &[u8]) {
        let (documents, problem) = read::documents(name, bytes);
        self.take(documents, problem);
    }

    fn take(&mut self, documents: Vec<read::Document>, problem: Option<Problem>) {
        documents
            .into_iter()
            .for_each(|document| self.decoder.document(document));
        self.decoder.problems.extend(problem);
    }

    fn finish(mut self, beside: &[Note]) -> Result<Loaded, Errors> {
        self.decoder.name_generated();
        self.decoder.count_kinds();
        let decode::Decoder {
            objects,
            workloads,
            mut problems,
            omitted,
            notes,
            service_addresses,
            ..
        } = self.decoder;
        match complete::complete(objects, workloads, notes, beside) {
            Ok(mut loaded) if problems.is_empty() => {
                loaded.service_addresses = service_addresses;
                return Ok(loaded);
            }
            Ok(_) => {}
            Err(more) => problems.extend(more),
        }
        Err(Errors::new(problems, omitted))
    }
}
