//! Messages (`linux/netlink.h`), in particular those of nfnetlink (`linux/netfilter/nfnetlink.h`).

use super::attribute::{Attributes, Malformed, Writer, find};

/// `NLM_F_REQUEST`
pub(crate) const REQUEST: u16 = 0x1;
/// `NLM_F_ACK`
pub(crate) const ACK: u16 = 0x4;
/// `NLM_F_DUMP_INTR`: what was dumped changed in the middle.
pub(crate) const DUMP_INTERRUPTED: u16 = 0x10;
/// `NLM_F_DUMP`
pub(crate) const DUMP: u16 = 0x300;
/// `NLM_F_EXCL`: fail with EEXIST if the object is there.
pub(crate) const EXCLUSIVE: u16 = 0x200;
/// `NLM_F_CREATE`
pub(crate) const CREATE: u16 = 0x400;
/// `NLM_F_APPEND`
pub(crate) const APPEND: u16 = 0x800;

/// `NLMSG_ERROR`
const ERROR: u16 = 2;
/// `NLMSG_DONE`
const DONE: u16 = 3;
/// `NFNL_MSG_BATCH_BEGIN`
pub(crate) const BATCH_BEGIN: u16 = 16;
/// `NFNL_MSG_BATCH_END`
pub(crate) const BATCH_END: u16 = 17;
/// `NFNL_SUBSYS_CTNETLINK`
pub(crate) const CONNTRACK: u16 = 1;
/// `NFNL_SUBSYS_NFTABLES`
pub(crate) const NFTABLES: u16 = 10;
/// `NFNL_BATCH_GENID`
pub(crate) const BATCH_GENERATION: u16 = 1;

/// `NLM_F_CAPPED`: an error does not repeat the message.
const CAPPED: u16 = 0x100;
/// `NLM_F_ACK_TLVS`: an error has attributes.
const ACK_ATTRIBUTES: u16 = 0x200;
/// `NLMSGERR_ATTR_MSG`
const ERROR_TEXT: u16 = 1;
/// `NLMSGERR_ATTR_OFFS`
const ERROR_OFFSET: u16 = 2;

/// `struct nlmsghdr`
pub(crate) const HEADER: usize = 16;
/// `struct nfgenmsg`
const FAMILY_HEADER: usize = 4;

/// The header of a message of ours to nfnetlink.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Header {
    /// What is asked: subsystem and operation.
    pub(crate) kind: u16,
    /// `NLM_F_*`, besides `NLM_F_REQUEST`.
    pub(crate) flags: u16,
    /// What the answer will carry.
    pub(crate) sequence: u32,
    /// `NFPROTO_*`
    pub(crate) family: u8,
    /// The subsystem of a batch's begin and end, else 0.
    pub(crate) resource: u16,
}

/// Appends a message of nfnetlink; its attributes are written by `fill`.
pub(crate) fn write(out: &mut Writer, header: Header, fill: impl FnOnce(&mut Writer)) {
    let [high, low] = header.resource.to_be_bytes();
    let own = [header.family, 0, high, low];
    let (kind, flags) = (header.kind, header.flags);
    write_with(out, kind, flags, header.sequence, &own, fill);
}

/// Appends a message of any protocol, whose own header follows that of netlink.
pub(crate) fn write_with(
    out: &mut Writer,
    kind: u16,
    flags: u16,
    sequence: u32,
    own: &[u8],
    fill: impl FnOnce(&mut Writer),
) {
    let start = out.bytes.len();
    out.bytes.extend_from_slice(&[0; 4]);
    out.bytes.extend_from_slice(&kind.to_ne_bytes());
    out.bytes
        .extend_from_slice(&(flags | REQUEST).to_ne_bytes());
    out.bytes.extend_from_slice(&sequence.to_ne_bytes());
    out.bytes.extend_from_slice(&[0; 4]);
    out.bytes.extend_from_slice(own);
    fill(out);
    out.pad();
    // A message is shorter than 4 GiB: its attributes are, and there are few.
    let length = u32::try_from(out.bytes.len() - start).unwrap_or(u32::MAX);
    out.bytes[start..start + 4].copy_from_slice(&length.to_ne_bytes());
}

/// A message from the kernel.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Message<'a> {
    /// Subsystem and operation, or a control message.
    pub(crate) kind: u16,
    /// `NLM_F_*`
    pub(crate) flags: u16,
    /// The sequence number of what it answers.
    pub(crate) sequence: u32,
    /// Who caused it, or who is answered.
    pub(crate) port: u32,
    /// What follows: the protocol's own header, then attributes.
    pub(crate) payload: &'a [u8],
}

/// What a message is.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Content<'a> {
    /// The end of a dump, with the error that ended it or 0.
    Done(i32),
    /// An error (positive errno), or an acknowledgement (0).
    Answer(Answer<'a>),
    /// An object of a family, with its attributes, of nfnetlink. Another protocol's header has another length.
    Object { family: u8, attributes: &'a [u8] },
}

/// An error or an acknowledgement.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Answer<'a> {
    /// 0, or what went wrong.
    pub(crate) errno: i32,
    /// What the kernel says about it.
    pub(crate) text: Option<&'a str>,
    /// Where in the message the attribute is that was refused.
    pub(crate) offset: Option<u32>,
}

impl<'a> Message<'a> {
    /// What it is.
    pub(crate) fn content(&self) -> Result<Content<'a>, Malformed> {
        match self.kind {
            ERROR => self.answer().map(Content::Answer),
            DONE => Ok(Content::Done(errno(self.payload).unwrap_or(0))),
            _ => {
                let attributes = self.payload.get(FAMILY_HEADER..);
                let attributes = attributes.ok_or(Malformed("family header"))?;
                Ok(Content::Object {
                    family: self.payload[0],
                    attributes,
                })
            }
        }
    }

    /// What the kernel says about the error that ended a dump.
    pub(crate) fn done_text(&self) -> Option<&'a str> {
        let attributes = self.payload.get(4..)?;
        let text = find(attributes, ERROR_TEXT).ok()??;
        text.text().ok()
    }

    fn answer(&self) -> Result<Answer<'a>, Malformed> {
        let errno = errno(self.payload).ok_or(Malformed("error"))?;
        let mut answer = Answer {
            errno,
            ..Answer::default()
        };
        if self.flags & ACK_ATTRIBUTES == 0 {
            return Ok(answer);
        }
        let rest = self.payload.get(4 + HEADER..).ok_or(Malformed("error"))?;
        let attributes = if self.flags & CAPPED != 0 || errno == 0 {
            rest
        } else {
            // The message is repeated; its length is the first field of its header.
            let length = self.payload.get(4..8).and_then(|b| b.try_into().ok());
            let length = length.map_or(0, u32::from_ne_bytes) as usize;
            let skipped = length.saturating_sub(HEADER);
            rest.get(skipped.min(rest.len()).next_multiple_of(4)..)
                .unwrap_or_default()
        };
        for attribute in Attributes(attributes) {
            let attribute = attribute?;
            match attribute.kind {
                ERROR_TEXT => answer.text = Some(attribute.text()?),
                ERROR_OFFSET => {
                    let bytes = attribute.payload.try_into();
                    answer.offset = bytes.ok().map(u32::from_ne_bytes);
                }
                _ => {}
            }
        }
        Ok(answer)
    }
}

/// The errno at the start of an error or at the end of a dump, as a positive number.
fn errno(payload: &[u8]) -> Option<i32> {
    let (bytes, _) = payload.split_first_chunk::<4>()?;
    i32::from_ne_bytes(*bytes).checked_neg()
}

/// The messages in what one call received; ends after the first that is malformed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Messages<'a>(pub(crate) &'a [u8]);

impl<'a> Iterator for Messages<'a> {
    type Item = Result<Message<'a>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        let bytes = self.0;
        if bytes.is_empty() {
            return None;
        }
        self.0 = &[];
        let Some((header, _)) = bytes.split_first_chunk::<HEADER>() else {
            return Some(Err(Malformed("message")));
        };
        let half = |at: usize| u16::from_ne_bytes([header[at], header[at + 1]]);
        let word = |at: usize| {
            u32::from_ne_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]])
        };
        let length = word(0) as usize;
        let Some(payload) = bytes.get(HEADER..length) else {
            return Some(Err(Malformed("message's length")));
        };
        self.0 = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(Ok(Message {
            kind: half(4),
            flags: half(6),
            sequence: word(8),
            port: word(12),
            payload,
        }))
    }
}
