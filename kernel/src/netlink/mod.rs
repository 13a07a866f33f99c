//! Netlink: attributes, messages and the socket. What the messages say is not known here.

pub(crate) mod attribute;
pub(crate) mod message;
pub(crate) mod request;
pub(crate) mod socket;
