//! Attributes: length, type, payload, padded to four bytes (`linux/netlink.h`, `struct nlattr`).

/// The bit of an attribute's type that says its payload is attributes.
const NESTED: u16 = 0x8000;
/// The bits of an attribute's type that are the type (`NLA_TYPE_MASK`).
const TYPE_MASK: u16 = 0x3fff;
const HEADER: usize = 4;

/// Bytes that are not what the header files say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed {0}")]
pub struct Malformed(pub(crate) &'static str);

/// Appends attributes to a message.
#[derive(Debug, Default)]
pub(crate) struct Writer {
    pub(crate) bytes: Vec<u8>,
    /// Whether an attribute grew beyond what its length can say, 65,535 bytes.
    overflow: bool,
}

impl Writer {
    /// An attribute with these bytes.
    pub(crate) fn put(&mut self, kind: u16, payload: &[u8]) {
        let start = self.begin(kind);
        self.bytes.extend_from_slice(payload);
        self.end(start);
    }

    /// A number in network order, as everything of nfnetlink.
    pub(crate) fn put_u32(&mut self, kind: u16, value: u32) {
        self.put(kind, &value.to_be_bytes());
    }

    /// A text with its terminating zero.
    pub(crate) fn put_text(&mut self, kind: u16, text: &str) {
        let start = self.begin(kind);
        self.bytes.extend_from_slice(text.as_bytes());
        self.bytes.push(0);
        self.end(start);
    }

    /// A number in the host's order, as everything of rtnetlink.
    pub(crate) fn put_host_u32(&mut self, kind: u16, value: u32) {
        self.put(kind, &value.to_ne_bytes());
    }

    /// An attribute whose payload is attributes.
    pub(crate) fn nested(&mut self, kind: u16, fill: impl FnOnce(&mut Self)) {
        let start = self.begin(kind | NESTED);
        fill(self);
        self.end(start);
    }

    /// Whether an attribute became too long since the last call.
    pub(crate) fn take_overflow(&mut self) -> bool {
        std::mem::take(&mut self.overflow)
    }

    fn begin(&mut self, kind: u16) -> usize {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0, 0]);
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        start
    }

    fn end(&mut self, start: usize) {
        match u16::try_from(self.bytes.len() - start) {
            Ok(length) => self.bytes[start..start + 2].copy_from_slice(&length.to_ne_bytes()),
            Err(_) => self.overflow = true,
        }
        self.pad();
    }

    /// Fills up to a multiple of four bytes.
    pub(crate) fn pad(&mut self) {
        let length = self.bytes.len().next_multiple_of(4);
        self.bytes.resize(length, 0);
    }
}

/// One attribute of a message.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Attribute<'a> {
    /// Its type, without flags.
    pub(crate) kind: u16,
    /// Its payload, without padding.
    pub(crate) payload: &'a [u8],
}

impl<'a> Attribute<'a> {
    /// The payload as a number of one byte.
    pub(crate) fn u8(&self) -> Result<u8, Malformed> {
        let bytes: Result<[u8; 1], _> = self.payload.try_into();
        bytes.map(|[byte]| byte).map_err(|_| Malformed("number"))
    }

    /// The payload as a number of two bytes in network order.
    pub(crate) fn u16(&self) -> Result<u16, Malformed> {
        let bytes = self.payload.try_into();
        bytes
            .map(u16::from_be_bytes)
            .map_err(|_| Malformed("number"))
    }

    /// The payload as a number in network order.
    pub(crate) fn u32(&self) -> Result<u32, Malformed> {
        let bytes = self.payload.try_into();
        bytes
            .map(u32::from_be_bytes)
            .map_err(|_| Malformed("number"))
    }

    /// The payload as a number of eight bytes in network order.
    pub(crate) fn u64(&self) -> Result<u64, Malformed> {
        let bytes = self.payload.try_into();
        bytes
            .map(u64::from_be_bytes)
            .map_err(|_| Malformed("number"))
    }

    /// The payload as a text; a terminating zero is cut off.
    pub(crate) fn text(&self) -> Result<&'a str, Malformed> {
        let end = self.payload.iter().position(|byte| *byte == 0);
        let text = &self.payload[..end.unwrap_or(self.payload.len())];
        std::str::from_utf8(text).map_err(|_| Malformed("text"))
    }

    /// The payload as a number in the host's order.
    pub(crate) fn host_u32(&self) -> Result<u32, Malformed> {
        let bytes = self.payload.try_into();
        bytes
            .map(u32::from_ne_bytes)
            .map_err(|_| Malformed("number"))
    }

    /// The attributes in the payload.
    pub(crate) fn nested(&self) -> Attributes<'a> {
        Attributes(self.payload)
    }
}

/// The attributes in some bytes, one after the other; ends after the first that is malformed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Attributes<'a>(pub(crate) &'a [u8]);

impl<'a> Iterator for Attributes<'a> {
    type Item = Result<Attribute<'a>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        let bytes = self.0;
        if bytes.is_empty() {
            return None;
        }
        self.0 = &[];
        let Some((header, _)) = bytes.split_first_chunk::<HEADER>() else {
            return Some(Err(Malformed("attribute")));
        };
        let length = usize::from(u16::from_ne_bytes([header[0], header[1]]));
        let kind = u16::from_ne_bytes([header[2], header[3]]) & TYPE_MASK;
        let Some(payload) = bytes.get(HEADER..length) else {
            return Some(Err(Malformed("attribute's length")));
        };
        self.0 = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(Ok(Attribute { kind, payload }))
    }
}

/// The first attribute of a type.
pub(crate) fn find(bytes: &[u8], kind: u16) -> Result<Option<Attribute<'_>>, Malformed> {
    for attribute in Attributes(bytes) {
        let attribute = attribute?;
        if attribute.kind == kind {
            return Ok(Some(attribute));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let mut writer = Writer::default();
        writer.put_u32(1, 7);
        writer.nested(2, |writer| writer.put_text(3, "abc"));
        assert!(!writer.take_overflow() && writer.bytes.len() == 20);
        let number = find(&writer.bytes, 1).expect("well-formed").expect("there");
        assert_eq!(number.u32(), Ok(7));
        let nested = find(&writer.bytes, 2).expect("well-formed").expect("there");
        let text = find(nested.payload, 3)
            .expect("well-formed")
            .expect("there");
        assert_eq!(text.text(), Ok("abc"));
    }

    #[test]
    fn a_length_that_does_not_fit_is_told() {
        let mut writer = Writer::default();
        writer.put(1, &vec![0; 65_532]);
        assert!(writer.take_overflow());
        assert!(!writer.take_overflow(), "told once");
    }

    #[test]
    fn malformed_attributes_end_the_list() {
        for bytes in [&[1u8][..], &[3, 0, 1, 0], &[9, 0, 1, 0, 1, 1, 1, 1]] {
            let read: Vec<_> = Attributes(bytes).collect();
            assert!(matches!(read.as_slice(), [Err(_)]), "{bytes:?}");
        }
    }
}
