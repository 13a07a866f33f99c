//! What can go wrong with links.

use std::fmt;
use std::io;

use nix::errno::Errno;

use super::properties::Kind;
use crate::netlink::attribute::Malformed;

/// Why a link could not be asked about or changed. What was to be changed is as it was, except where it says otherwise.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// No socket: the process may not have one, or the kernel is older than Linux 4.20.
    #[error("no rtnetlink socket could be opened")]
    Open(#[source] io::Error),
    /// The request did not reach the kernel.
    #[error("the request to {request} could not be sent")]
    Send {
        /// What was asked.
        request: String,
        /// Why not.
        source: io::Error,
    },
    /// The answer could not be read: it is not known whether a change is in force.
    #[error("the answer to the request to {request} could not be read")]
    Receive {
        /// What was asked.
        request: String,
        /// Why not.
        source: io::Error,
    },
    /// The answer has no end: it is not known whether a change is in force.
    #[error("the kernel's answer to the request to {request} was lost")]
    Lost {
        /// What was asked.
        request: String,
    },
    /// Events could not be read.
    #[error("events of links could not be read")]
    Watch(#[source] io::Error),
    /// The kernel's answer is not what its header files say.
    #[error("the kernel's answer to the request to {request} can not be read")]
    Malformed {
        /// What was asked.
        request: String,
        /// What it is.
        source: Malformed,
    },
    /// Something changed during each of this many attempts: try again later.
    #[error("what it takes to {request} changed during each of {attempts} attempts")]
    Changing {
        /// What was asked.
        request: String,
        /// How many attempts there were.
        attempts: usize,
    },
    /// The kernel refused.
    #[error("the kernel refused to {request}: {}", Reason(*.errno, .text.as_deref()))]
    Refused {
        /// What was asked, with the link's name.
        request: String,
        /// The number of the error.
        errno: i32,
        /// What the kernel says about it, if it does.
        text: Option<String>,
    },
    /// There is no such link.
    #[error("there is no link {0}")]
    Absent(String),
    /// An alias that the kernel can not hold. It was not asked.
    #[error(
        "the alias of {link} can not be {length} bytes or hold a zero: shorten it to 255 bytes"
    )]
    Alias {
        /// Of which link.
        link: String,
        /// How long it is.
        length: usize,
    },
    /// The link is no bridge, or the kernel's bridges know no netfilter (CONFIG_BRIDGE_NETFILTER). The kernel was not
    /// asked.
    #[error(
        "{link} has no netfilter flags: it is no bridge, or the kernel has no CONFIG_BRIDGE_NETFILTER"
    )]
    NoBridgeNetfilter {
        /// Which link.
        link: String,
    },
    /// The other end of a link can not be told.
    #[error("the other end of {link} can not be told: {reason}")]
    Peer {
        /// Of which link.
        link: String,
        /// Why not.
        reason: PeerError,
    },
}

/// Why the other end of a link can not be told.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PeerError {
    /// A link of this kind has none. What it names may be an interface that it shares with others, the node's for
    /// example.
    #[error("a link of kind {0} has none")]
    Kind(Kind),
    /// The kernel names none: it is being taken away, or in a namespace without a number.
    #[error("the kernel does not name it")]
    Unnamed,
    /// It is not in the namespace in which it was looked for.
    #[error("link {0} is not in this namespace")]
    Elsewhere(u32),
    /// The link with that number has another as its other end: the number has been given anew.
    #[error("the other end of {0} is another link")]
    NotMutual(String),
}

/// An error's name, what the kernel says about it, and what to do.
struct Reason<'a>(i32, Option<&'a str>);

impl fmt::Display for Reason<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let errno = Errno::from_raw(self.0);
        write!(f, "{errno}")?;
        if let Some(text) = self.1 {
            write!(f, " ({text})")?;
        }
        match errno {
            Errno::EPERM => f.write_str("; the process needs CAP_NET_ADMIN"),
            _ => Ok(()),
        }
    }
}
