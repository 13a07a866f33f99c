//! What can go wrong, by what was being done.

use std::fmt;
use std::io;

use nix::errno::Errno;
use policy_compiler::ruleset::Value;

use crate::netlink::attribute::Malformed;
use crate::netlink::request::Failure;
use crate::nftables::Generation;
use crate::nftables::linearize::RuleError;
use crate::nftables::object::Object;

/// Why the kernel does not hold what it was to hold, or why it could not be asked. No batch is ever
/// half-applied.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No socket: the process may not have one, or the kernel has no nfnetlink (CONFIG_NETFILTER_NETLINK).
    #[error("no netlink socket could be opened")]
    Open(#[source] io::Error),
    /// The request did not reach the kernel.
    #[error("the request could not be sent")]
    Send(#[source] io::Error),
    /// The answer could not be read. After [`crate::Nftables::apply`] it is not known whether the request is in force.
    #[error("the answer could not be read")]
    Receive(#[source] io::Error),
    /// The batch is larger than the socket's send buffer can be made. Split it, or give the process CAP_NET_ADMIN, or
    /// raise `net.core.wmem_max`. The kernel was not asked.
    #[error(
        "a batch of {bytes} bytes does not fit the send buffer of {room} bytes (net.core.wmem_max)"
    )]
    TooLarge {
        /// Size of the batch.
        bytes: usize,
        /// Size that there is room for.
        room: usize,
    },
    /// The object is not one that nftables can hold. The kernel was not asked.
    #[error("{object} can not be told to the kernel: {reason}")]
    Unfit {
        /// Which.
        object: Object,
        /// Why not.
        reason: Unfit,
    },
    /// Somebody changed nftables since that generation: read again, and plan again.
    #[error("nftables is no longer at generation {expected}")]
    Stale {
        /// The generation that the request started from.
        expected: Generation,
    },
    /// The kernel refused the batch as a whole because of these of its parts.
    #[error("{}", Refusals(.0))]
    Refused(Vec<Refusal>),
    /// The kernel's answer was lost: the socket's buffer was full. After [`crate::Nftables::apply`] it is not known
    /// whether the request is in force: read.
    #[error("the kernel's answer was lost")]
    Lost,
    /// The kernel's answer is not what its header files say.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// Others changed nftables during each of this many attempts to read it: try again later.
    #[error("nftables changed during each of {0} attempts to read it")]
    Changing(usize),
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Send(error) => Self::Send(error),
            Failure::Receive(error) => Self::Receive(error),
            Failure::Lost => Self::Lost,
            Failure::Malformed(malformed) => Self::Malformed(malformed),
        }
    }
}

/// Why an object is not one that nftables can hold.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// A rule that has no expressions.
    #[error(transparent)]
    Rule(#[from] RuleError),
    /// A key that is not of its set's types.
    #[error("its key {0:?} is not of the set's type")]
    Key(Vec<Value>),
    /// A base chain of another hook than tables of its family have, or an ingress chain without a device.
    #[error("its hook is not one of its table's family")]
    Hook,
    /// Longer than an attribute can be, or a comment longer than 127 bytes.
    #[error("it is too long")]
    TooLong,
}

/// One part of a request that the kernel refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// What was refused.
    pub object: Object,
    /// The number of the error.
    pub errno: i32,
    /// What the kernel says about it, if it does.
    pub text: Option<String>,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.object, Errno::from_raw(self.errno))?;
        self.text
            .as_ref()
            .map_or(Ok(()), |text| write!(f, " ({text})"))
    }
}

/// The first, and how many more.
struct Refusals<'a>(&'a [Refusal]);

impl fmt::Display for Refusals<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the kernel refused ")?;
        match self.0 {
            [] => f.write_str("the request"),
            [one] => one.fmt(f),
            [first, others @ ..] => write!(f, "{first}, and {} more", others.len()),
        }
    }
}
