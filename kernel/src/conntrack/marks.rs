//! Marks of entries, changed.
//!
//! nfnetlink takes many messages in one call and answers those that failed, and the last because it asks for that. A
//! message has only the tuple, the zone if that is not 0, the mark and its mask, so that nothing else of an entry
//! changes; and without `NLM_F_CREATE`, so that none comes into being.

use nix::errno::Errno;

use super::constants::{entry, msg};
use super::encode::{family_number, write_connection};
use super::entry::Connection;
use super::error::{Error, Refusal};
use super::socket::Conntrack;
use crate::netlink::attribute::Writer;
use crate::netlink::message::{self, ACK, CONNTRACK, Content, Header, Messages};
use crate::netlink::socket::Received;

/// Messages in one call. Their 17 KiB fit the send buffer, and an error each (some 1.3 KiB as the kernel counts) the
/// receive buffer, also where only the kernel's default may be had (`net.core.wmem_default`, `rmem_default`: 208 KiB).
const AT_ONCE: usize = 128;

/// What becomes of a mark: some bits are set, some cleared, the others stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MarkChange {
    value: u32,
    mask: u32,
}

impl MarkChange {
    /// The bits of `mask` become those of `value`; its other bits do not count.
    pub fn new(value: u32, mask: u32) -> Self {
        // The kernel flips what is in the value and not in the mask.
        Self {
            value: value & mask,
            mask,
        }
    }

    /// These bits are set.
    pub fn set(bits: u32) -> Self {
        Self::new(bits, bits)
    }

    /// These bits are cleared.
    pub fn clear(bits: u32) -> Self {
        Self::new(0, bits)
    }
}

/// How many marks are as asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Marked {
    /// Entries whose mark was changed, or was so already.
    pub changed: usize,
    /// Entries that were gone.
    pub gone: usize,
}

impl Conntrack {
    /// Changes the marks of these entries, in their order, and makes no entry. One that is gone needs none.
    ///
    /// An entry is named by its original tuple and zone, and the kernel looks for these in either direction: where it is
    /// gone and there is a new one of the same name, or one that was opened the other way round, that one is changed.
    /// So whoever sets marks lists the entries again afterwards, and clears those that are not to have one.
    ///
    /// # Errors
    /// [`Error::Marks`] names all that were refused; every other was changed or is gone. After any other error it is
    /// not known which were.
    pub fn change_marks(
        &mut self,
        changes: impl IntoIterator<Item = (Connection, MarkChange)>,
    ) -> Result<Marked, Error> {
        let mut changes = changes.into_iter();
        let (mut marked, mut refusals) = (Marked::default(), Vec::new());
        loop {
            let some: Vec<_> = changes.by_ref().take(AT_ONCE).collect();
            if some.is_empty() {
                break;
            }
            let refused = refusals.len();
            let gone = self.change_some(&some, &mut refusals)?;
            marked.gone += gone;
            marked.changed += some.len() - gone - (refusals.len() - refused);
        }
        if refusals.is_empty() {
            Ok(marked)
        } else {
            Err(Error::Marks(refusals))
        }
    }

    /// In one call; returns how many are gone.
    fn change_some(
        &mut self,
        changes: &[(Connection, MarkChange)],
        refusals: &mut Vec<Refusal>,
    ) -> Result<usize, Error> {
        let first = self.socket.next_sequence();
        let mut out = Writer::default();
        for (index, (connection, change)) in changes.iter().enumerate() {
            let last = index + 1 == changes.len();
            let header = Header {
                kind: CONNTRACK << 8 | msg::NEW,
                flags: if last { ACK } else { 0 },
                sequence: first + index as u32,
                family: family_number(connection.original.source),
                resource: 0,
            };
            message::write(&mut out, header, |out| {
                write_connection(out, connection);
                out.put_u32(entry::MARK, change.value);
                out.put_u32(entry::MARK_MASK, change.mask);
            });
        }
        self.socket.use_sequence(changes.len() as u32);
        self.socket.send(&out.bytes).map_err(Error::Send)?;

        let (mut gone, mut done, mut lost) = (0, false, false);
        loop {
            let bytes = match self.socket.receive().map_err(Error::Receive)? {
                Received::Bytes(bytes) => bytes,
                Received::Nothing => break,
                Received::Overrun => {
                    lost = true;
                    continue;
                }
            };
            for message in Messages(bytes) {
                let message = message?;
                let place = message.sequence.wrapping_sub(first) as usize;
                let Some((connection, _)) = changes.get(place) else {
                    continue;
                };
                let Content::Answer(answer) = message.content()? else {
                    continue;
                };
                done |= place + 1 == changes.len();
                match answer.errno {
                    0 => {}
                    errno if errno == Errno::ENOENT as i32 => gone += 1,
                    errno => refusals.push(Refusal {
                        connection: *connection,
                        errno,
                        text: answer.text.map(str::to_owned),
                    }),
                }
            }
        }
        // All answers are there when the call that sent returns, the last's at the end.
        if lost || !done {
            return Err(Error::Lost);
        }
        Ok(gone)
    }
}

#[cfg(test)]
mod tests {
    use testbed::Namespace;

    use super::*;
    use crate::conntrack::samples::connections;
    use crate::netlink::socket::{NETLINK_NETFILTER, Socket};

    #[test]
    fn lost_answers_are_not_taken_for_success() {
        let namespace = Namespace::new().expect("these tests need root");
        let change = |connection| (connection, MarkChange::set(1));
        let all = connections();
        // In a buffer of the least size, and in that of every socket.
        for (buffer, lost) in [(1, true), (1 << 17, false)] {
            let open = || Socket::open(NETLINK_NETFILTER, buffer).expect("a socket");
            let socket = namespace.run(open).expect("entered");
            let mut conntrack = Conntrack { socket };
            let many = all.iter().cycle().take(2 * AT_ONCE).copied().map(change);
            match conntrack.change_marks(many) {
                Err(Error::Lost) if lost => {}
                Ok(marked) if !lost => assert_eq!(marked.gone, 2 * AT_ONCE),
                result => panic!("{buffer}: {result:?}"),
            }
            // And it goes on.
            let one = conntrack.change_marks([change(all[0])]).expect("answered");
            assert_eq!(one.gone, 1);
        }
    }
}
