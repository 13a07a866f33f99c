//! One request to rtnetlink and all of its answers.

use super::error::LinkError;
use crate::netlink::attribute::{Malformed, Writer};
use crate::netlink::message::{self, Message};
use crate::netlink::request::{Ended, Failure};
use crate::netlink::socket::Socket;

/// How often a list is asked for that changes while it is made. Each takes microseconds to milliseconds.
pub(super) const ATTEMPTS: usize = 16;

/// A request.
#[derive(Clone, Copy)]
pub(super) struct Request<'a> {
    /// What it asks, as an error says it after "to".
    pub(super) what: &'a dyn Fn() -> String,
    /// `RTM_*`
    pub(super) kind: u16,
    /// `NLM_F_DUMP`, or nothing.
    pub(super) flags: u16,
    /// The message's own header, whose first byte is a family.
    pub(super) header: &'a [u8],
}

impl Request<'_> {
    /// Sends it once, and hands each message of the answer to `each`.
    pub(super) fn exchange(
        self,
        socket: &mut Socket,
        fill: impl FnOnce(&mut Writer),
        each: impl FnMut(&Message<'_>) -> Result<(), Malformed>,
    ) -> Result<Ended, LinkError> {
        // A list ends by itself; any other answer ends with the acknowledgement.
        let flags = match self.flags {
            0 => message::ACK,
            flags => flags,
        };
        let mut out = Writer::default();
        let sequence = socket.next_sequence();
        message::write_with(&mut out, self.kind, flags, sequence, self.header, fill);
        match socket.exchange(&out.bytes, flags, each) {
            // Of what is no list only the end can have been lost.
            Ok(Ended::Interrupted) if self.flags == 0 => Err(self.failed(Failure::Lost)),
            other => other.map_err(|failure| self.failed(failure)),
        }
    }

    fn failed(self, failure: Failure) -> LinkError {
        let request = (self.what)();
        match failure {
            Failure::Send(source) => LinkError::Send { request, source },
            Failure::Receive(source) => LinkError::Receive { request, source },
            Failure::Lost => LinkError::Lost { request },
            Failure::Malformed(source) => LinkError::Malformed { request, source },
        }
    }

    /// The error for a refusal.
    pub(super) fn refused(self, errno: i32, text: Option<String>) -> LinkError {
        LinkError::Refused {
            request: (self.what)(),
            errno,
            text,
        }
    }

    /// Asks until a list is of one moment.
    pub(super) fn list<T>(
        self,
        mut attempt: impl FnMut(&mut Vec<T>) -> Result<Ended, LinkError>,
    ) -> Result<Vec<T>, LinkError> {
        for _ in 0..ATTEMPTS {
            let mut all = Vec::new();
            match attempt(&mut all)? {
                Ended::Whole => return Ok(all),
                Ended::Interrupted => {}
                Ended::Refused { errno, text } => return Err(self.refused(errno, text)),
            }
        }
        Err(LinkError::Changing {
            request: (self.what)(),
            attempts: ATTEMPTS,
        })
    }
}

#[cfg(test)]
mod tests {
    use testbed::Namespace;

    use super::super::constants::{link, msg};
    use super::*;
    use crate::netlink::socket::NETLINK_ROUTE;

    const REQUEST: Request<'_> = Request {
        what: &|| "list links".to_owned(),
        kind: 0,
        flags: message::DUMP,
        header: &[],
    };

    #[test]
    fn an_interrupted_list_is_asked_for_again_and_nothing_of_it_is_kept() {
        let mut rounds = 0;
        let listed = REQUEST.list(|all| {
            rounds += 1;
            all.push(rounds);
            Ok(match rounds {
                3 => Ended::Whole,
                _ => Ended::Interrupted,
            })
        });
        assert_eq!(listed.expect("the third is whole"), [3]);
    }

    #[test]
    fn a_list_that_always_changes_is_given_up() {
        let mut rounds = 0;
        let listed = REQUEST.list::<()>(|_| {
            rounds += 1;
            Ok(Ended::Interrupted)
        });
        let error = listed.expect_err("never whole");
        assert_eq!(rounds, ATTEMPTS);
        assert_eq!(
            error.to_string(),
            "what it takes to list links changed during each of 16 attempts"
        );
    }

    #[test]
    fn a_refusal_is_not_repeated() {
        let mut rounds = 0;
        let listed = REQUEST.list::<()>(|_| {
            rounds += 1;
            Ok(Ended::Refused {
                errno: 1,
                text: Some("because".to_owned()),
            })
        });
        let error = listed.expect_err("refused").to_string();
        assert_eq!(rounds, 1);
        assert_eq!(
            error,
            "the kernel refused to list links: EPERM: Operation not permitted (because); the process needs CAP_NET_ADMIN"
        );
    }

    #[test]
    fn links_that_change_while_they_are_listed_are_listed_again() {
        let node = Namespace::new().expect("these tests need root");
        // More than the kernel tells at once.
        let pairs: String = (0..100)
            .map(|n| format!("link add x{n} type veth peer name y{n}\n"))
            .collect();
        node.ip_batch(&pairs).expect("ip makes them");
        let socket = || Socket::open(NETLINK_ROUTE, 1 << 20);
        let mut socket = node.run(socket).expect("entered").expect("a socket");
        let request = Request {
            kind: msg::GETLINK,
            header: &[0; link::HEADER],
            ..REQUEST
        };
        let (mut rounds, mut heard) = (0, 0);
        let listed = request.list(|all| {
            rounds += 1;
            let ended = request.exchange(
                &mut socket,
                |_| {},
                |_| {
                    heard += 1;
                    if heard == 1 {
                        node.ip(&["link", "delete", "x99"]).expect("deleted");
                    }
                    all.push(());
                    Ok(())
                },
            )?;
            let expected = [Ended::Interrupted, Ended::Whole];
            assert_eq!(ended, expected[rounds - 1]);
            Ok(ended)
        });
        assert_eq!((rounds, listed.expect("a list").len()), (2, 1 + 198));
    }
}
