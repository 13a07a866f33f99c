//! What can fail, by failed operation, and what to do about it.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use crate::topology::Place;

/// A failed operation.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No user namespace could be made, and the process has no privileges of its own.
    #[error("cannot make a user namespace: {source}. {remedy}")]
    UserNamespace {
        /// What the kernel said.
        source: io::Error,
        /// What to do.
        remedy: &'static str,
    },
    /// A file of `/proc` could not be read or written while entering the user namespace.
    #[error(
        "cannot use {path}: {source}. Run as root, or allow user namespaces to be used: \
         sysctl -w kernel.apparmor_restrict_unprivileged_userns=0 (Ubuntu)"
    )]
    UserMapping {
        /// The file.
        path: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
    /// A network namespace could not be made.
    #[error(
        "cannot make a network namespace: {0}. Run as root, or call testbed::enter() first; \
         `sysctl user.max_net_namespaces` may be too small"
    )]
    CreateNamespace(io::Error),
    /// A network namespace could not be entered.
    #[error("cannot enter a network namespace: {0}")]
    EnterNamespace(io::Error),
    /// A thread could not be started.
    #[error("cannot start a thread: {0}")]
    Thread(io::Error),
    /// A kernel setting could not be written.
    #[error(
        "cannot write {value:?} to {path}: {source}. \
         In a container /proc/sys must be writable (docker: --privileged or --security-opt systempaths=unconfined)"
    )]
    Setting {
        /// The file.
        path: PathBuf,
        /// What was to be written.
        value: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
    /// The kernel does not hand bridged packets to the inet hooks.
    #[error(
        "bridged pods need br_netfilter, and {0} does not exist: run `modprobe br_netfilter` as root"
    )]
    BridgeNetfilter(PathBuf),
    /// A program is not installed.
    #[error("cannot find the program `{program}`: install the Debian package `{package}`")]
    MissingProgram {
        /// Its name.
        program: &'static str,
        /// The package that has it.
        package: &'static str,
    },
    /// A program could not be run.
    #[error("cannot run `{command}`: {source}")]
    RunProgram {
        /// Program and arguments.
        command: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// A program reported a failure.
    #[error("`{command}` failed with {status}: {stderr}{}", at_line(line))]
    Program {
        /// Program and arguments.
        command: String,
        /// How it ended.
        status: std::process::ExitStatus,
        /// What it wrote to its standard error.
        stderr: String,
        /// The first line of its input that it complained about, where it says which.
        line: Option<String>,
    },
    /// A program did not end in time and was killed.
    #[error("`{command}` did not end within {seconds} s and was killed")]
    ProgramTimeout {
        /// Program and arguments.
        command: String,
        /// How long it was given.
        seconds: u64,
    },
    /// The topology cannot be built.
    #[error(transparent)]
    Topology(#[from] TopologyError),
    /// Interfaces did not come up.
    #[error("{place} is not usable after {seconds} s: {missing}")]
    NotReady {
        /// The namespace.
        place: Place,
        /// How long was waited.
        seconds: u64,
        /// What is still missing.
        missing: String,
    },
    /// A probe or a test names a place that the testbed does not have.
    #[error("the testbed has no {0}")]
    UnknownPlace(Place),
    /// A probe that cannot be sent.
    #[error("probe {index} is invalid: {reason}")]
    InvalidProbe {
        /// Its index in the list.
        index: usize,
        /// Why.
        reason: String,
    },
    /// A socket could not be made or set up.
    #[error("cannot {operation} in {place}: {source}")]
    Socket {
        /// What was tried.
        operation: String,
        /// Where.
        place: Place,
        /// What the kernel said.
        source: io::Error,
    },
    /// A probe could not be sent for a local reason, such as a missing route.
    #[error("{place} cannot send from {from} to {to}: {source}")]
    Send {
        /// The sender.
        place: Place,
        /// Its address.
        from: IpAddr,
        /// Where it should have gone.
        to: SocketAddr,
        /// What the kernel said.
        source: io::Error,
    },
    /// Waiting for sockets failed.
    #[error("cannot wait for sockets: {0}")]
    Poll(io::Error),
    /// Connection tracking could not be flushed.
    #[error("cannot flush connection tracking: {0}")]
    Conntrack(io::Error),
    /// Frames could not be sent or captured.
    #[error("cannot {operation} on interface {interface}: {source}")]
    Frames {
        /// What was tried.
        operation: &'static str,
        /// The interface.
        interface: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// The caller asked to stop.
    #[error("cancelled")]
    Cancelled,
}

fn at_line(line: &Option<String>) -> String {
    line.as_ref()
        .map(|line| format!(" (at: {line})"))
        .unwrap_or_default()
}

/// Why a topology cannot be built.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TopologyError {
    /// Two nodes, or two pods, have one name.
    #[error("{0} is there twice")]
    DuplicateName(Place),
    /// A pod sits on a node that is not in the list.
    #[error("pod {pod} is on node {node}, which does not exist")]
    UnknownNode {
        /// The pod.
        pod: String,
        /// The node that it names.
        node: String,
    },
    /// Two places have one address, or one place has it twice.
    #[error("{address} belongs to {first} and to {second}")]
    DuplicateAddress {
        /// The address.
        address: IpAddr,
        /// The place that has it first.
        first: Place,
        /// The place that has it again.
        second: Place,
    },
    /// The kernel would not deliver packets to this address.
    #[error("{place} cannot have the address {address}: {reason}")]
    UnusableAddress {
        /// The address.
        address: IpAddr,
        /// Whose it should be.
        place: Place,
        /// Why not.
        reason: &'static str,
    },
}
