//! What can go wrong, by what was being done.

use std::fmt;
use std::io;

use nix::errno::Errno;

use super::entry::Connection;
use crate::netlink::attribute::Malformed;
use crate::netlink::request::Failure;

/// Why entries could not be listed, changed or watched.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No socket: the process may not have one, or the kernel has no nfnetlink (CONFIG_NETFILTER_NETLINK).
    #[error("no netlink socket could be opened")]
    Open(#[source] io::Error),
    /// The request did not reach the kernel.
    #[error("the request could not be sent")]
    Send(#[source] io::Error),
    /// The answer could not be read. Of a change of marks it is not known which were changed: ask again.
    #[error("the answer could not be read")]
    Receive(#[source] io::Error),
    /// The kernel's answer was lost: the socket's buffer was full. Of a change of marks it is not known which were
    /// changed: ask again.
    #[error("the kernel's answer was lost")]
    Lost,
    /// The kernel's answer is not what its header files say.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// Entries were perhaps left out of a dump, as the table changed or an answer was lost: dump again.
    #[error("the dump of conntrack entries was interrupted")]
    Interrupted,
    /// The kernel refused to list entries. It needs CONFIG_NF_CT_NETLINK, and CONFIG_NF_CONNTRACK_MARK or
    /// CONFIG_NF_CONNTRACK_ZONES for a filter by these; the process needs CAP_NET_ADMIN.
    #[error("the kernel refused the dump of conntrack entries: {}{}", Errno::from_raw(*errno), Text(text))]
    Dump {
        /// The number of the error.
        errno: i32,
        /// What the kernel says about it, if it does.
        text: Option<String>,
    },
    /// The kernel refused to change these marks. Those of the other entries are changed. The process needs
    /// CAP_NET_ADMIN.
    #[error("{}", Refusals(.0))]
    Marks(Vec<Refusal>),
}

/// A mark that the kernel refused to change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Whose.
    pub connection: Connection,
    /// The number of the error.
    pub errno: i32,
    /// What the kernel says about it, if it does.
    pub text: Option<String>,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let errno = Errno::from_raw(self.errno);
        write!(f, "{}: {errno}{}", self.connection, Text(&self.text))
    }
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

/// What the kernel says, in brackets.
struct Text<'a>(&'a Option<String>);

impl fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.0.as_ref();
        text.map_or(Ok(()), |text| write!(f, " ({text})"))
    }
}

/// The first, and how many more.
struct Refusals<'a>(&'a [Refusal]);

impl fmt::Display for Refusals<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the kernel refused to change the mark of ")?;
        match self.0 {
            [] => f.write_str("a connection"),
            [one] => one.fmt(f),
            [first, others @ ..] => write!(f, "{first}, and {} more", others.len()),
        }
    }
}
