//! What tells one probe from every other: no late answer counts for the wrong one.

/// What a request carries and its answer repeats.
pub(crate) const LENGTH: usize = 16;

/// Says that this is a probe's.
const MARK: [u8; 8] = *b"picketpr";

/// The bytes that carry a token.
pub(crate) fn encode(token: u64) -> [u8; LENGTH] {
    let mut bytes = [0; LENGTH];
    bytes[..8].copy_from_slice(&MARK);
    bytes[8..].copy_from_slice(&token.to_be_bytes());
    bytes
}

/// The token at the start of `bytes`, if they are a probe's.
pub(crate) fn decode(bytes: &[u8]) -> Option<u64> {
    let token = bytes.strip_prefix(&MARK)?.first_chunk()?;
    Some(u64::from_be_bytes(*token))
}
