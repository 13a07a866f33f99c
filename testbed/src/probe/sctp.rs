//! The first two packets of an SCTP association, RFC 9260: enough to be a connection for connection tracking.
//!
//! They are made by hand, so that the kernel needs no SCTP.

use crate::probe::token;

const INIT: u8 = 1;
const INIT_ACK: u8 = 2;
/// Source port, destination port, verification tag, checksum.
const COMMON_HEADER: usize = 12;
/// Type, flags, length, initiate tag, window, streams out and in, initial TSN.
const INIT_CHUNK: usize = 20;
/// The cookie of an INIT ACK: required there, and the peer does not look into it.
const STATE_COOKIE: u16 = 7;
/// Not assigned. The two highest bits tell a receiver that does not know it to skip it in silence.
const TOKEN: u16 = 0xbfee;

/// A packet as far as probes care.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Packet {
    pub(crate) source_port: u16,
    pub(crate) destination_port: u16,
    /// 0 for an INIT; the receiver's initiate tag for everything else.
    verification_tag: u32,
    initiate_tag: u32,
    kind: u8,
    pub(crate) token: u64,
}

impl Packet {
    /// An INIT chunk: opens an association.
    pub(crate) fn init(source_port: u16, destination_port: u16, token: u64) -> Packet {
        let initiate_tag = initiate_tag(token);
        Packet {
            source_port,
            destination_port,
            verification_tag: 0,
            initiate_tag,
            kind: INIT,
            token,
        }
    }

    /// The INIT ACK chunk that answers this INIT chunk.
    pub(crate) fn answer(&self) -> Packet {
        Packet {
            source_port: self.destination_port,
            destination_port: self.source_port,
            verification_tag: self.initiate_tag,
            initiate_tag: self.initiate_tag.rotate_left(16) | 1,
            kind: INIT_ACK,
            token: self.token,
        }
    }

    pub(crate) fn is_init(&self) -> bool {
        self.kind == INIT && self.verification_tag == 0
    }

    /// Whether it answers the INIT chunk with the same token.
    pub(crate) fn is_answer(&self) -> bool {
        self.kind == INIT_ACK && self.verification_tag == initiate_tag(self.token)
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let parameter = token::encode(self.token);
        let parameter_length = 4 + parameter.len() as u16;
        let mut bytes = Vec::new();
        bytes.extend(self.source_port.to_be_bytes());
        bytes.extend(self.destination_port.to_be_bytes());
        bytes.extend(self.verification_tag.to_be_bytes());
        bytes.extend([0; 4]);
        bytes.extend([self.kind, 0]);
        bytes.extend((INIT_CHUNK as u16 + parameter_length).to_be_bytes());
        bytes.extend(self.initiate_tag.to_be_bytes());
        bytes.extend(65_536u32.to_be_bytes());
        bytes.extend([0, 1, 0, 1]);
        bytes.extend(self.initiate_tag.to_be_bytes());
        let kind = if self.kind == INIT {
            TOKEN
        } else {
            STATE_COOKIE
        };
        bytes.extend(kind.to_be_bytes());
        bytes.extend(parameter_length.to_be_bytes());
        bytes.extend(parameter);
        // RFC 9260 appendix A: the checksum's bytes go out lowest first.
        let sum = crc32c(&bytes).to_le_bytes();
        bytes[8..12].copy_from_slice(&sum);
        bytes
    }

    /// Reads what [`Packet::encode`] writes; `None` for anything else.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Packet> {
        let word = |at: usize| bytes.get(at..)?.first_chunk().copied();
        let long = |at: usize| bytes.get(at..)?.first_chunk().copied();
        let packet = Packet {
            source_port: u16::from_be_bytes(word(0)?),
            destination_port: u16::from_be_bytes(word(2)?),
            verification_tag: u32::from_be_bytes(long(4)?),
            initiate_tag: u32::from_be_bytes(long(COMMON_HEADER + 4)?),
            kind: *bytes.get(COMMON_HEADER)?,
            token: token::decode(bytes.get(COMMON_HEADER + INIT_CHUNK + 4..)?)?,
        };
        // Only what is intact counts: a rewritten address or port must have left the checksum right.
        (packet.encode() == bytes).then_some(packet)
    }
}

/// Never 0, which would be invalid (RFC 9260 section 3.3.2).
fn initiate_tag(token: u64) -> u32 {
    (token as u32).wrapping_mul(0x9e37_79b1) | 1
}

/// CRC-32C, bit by bit: packets are few and short.
fn crc32c(bytes: &[u8]) -> u32 {
    let fold = |sum: u32, _| (sum >> 1) ^ if sum & 1 == 1 { 0x82f6_3b78 } else { 0 };
    !bytes
        .iter()
        .fold(!0, |sum, &byte| (0..8).fold(sum ^ u32::from(byte), fold))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_crc_32c() {
        // RFC 3720 appendix B.4: 32 bytes of zeros; and the check value of the CRC catalogue.
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
    }

    #[test]
    fn a_packet_is_read_back_as_it_was_written_unless_a_bit_is_wrong() {
        let init = Packet::init(40_000, 80, 77);
        let mut bytes = init.encode();
        assert_eq!(Packet::decode(&bytes), Some(init));
        bytes[3] ^= 1;
        assert_eq!(Packet::decode(&bytes), None);
    }

    #[test]
    fn an_answer_belongs_to_one_init() {
        let init = Packet::init(40_000, 80, 77);
        let answer = init.answer();
        assert!(answer.is_answer() && !answer.is_init() && init.is_init() && !init.is_answer());
        assert!(
            !Packet {
                token: 78,
                ..answer
            }
            .is_answer()
        );
    }
}
