//! Changes to manifests and flows that keep most of their structure.

use super::super::random::Random;
use super::super::tokens::TOKENS;

/// One of the list.
pub(crate) fn one_of<T: Copy>(random: &mut Random, list: &[T]) -> T {
    list[random.below(list.len())]
}

/// Numbers at the ends of ranges, and beyond.
const NUMBERS: &[&str] = &[
    "0",
    "-0",
    "-1",
    "1",
    "65535",
    "65536",
    "2147483647",
    "2147483648",
    "-2147483649",
    "9223372036854775807",
    "9223372036854775808",
    "18446744073709551615",
    "18446744073709551616",
    "99999999999999999999999999999999999999",
    "1e5",
    "1e400",
    "-1e400",
    "1e-400",
    "1e999999999999",
    "0x7f",
    "0xffffffffffffffffff",
    "0o17",
    "017",
    "080",
    "0b1",
    "1_000",
    ".5",
    "5.",
    ".inf",
    "-.inf",
    ".nan",
    "+1",
    "++1",
    "1.0",
    "80.5",
    "190:20:30",
];

/// Sequences that are no UTF-8, or control characters.
const BAD_BYTES: &[&[u8]] = &[
    b"\0",
    b"\x01",
    b"\x1b",
    b"\x7f",
    b"\x80",
    b"\xc0\xaf",
    b"\xed\xa0\x80",
    b"\xf4\x90\x80\x80",
    b"\xff\xfe",
    b"\xfe\xff",
    b"\xe2\x82",
];

/// Largest input that is made.
const LARGEST: usize = 64 << 10;

/// An input of the corpus, changed a few times.
pub(crate) fn mutated(random: &mut Random, corpus: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = corpus[random.below(corpus.len())].clone();
    for _ in 0..=random.below(4) {
        change(random, &mut bytes, corpus);
        bytes.truncate(LARGEST);
    }
    bytes
}

fn change(random: &mut Random, bytes: &mut Vec<u8>, corpus: &[Vec<u8>]) {
    let at = random.below(bytes.len() + 1);
    match random.below(22) {
        0 => {
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= 1 << random.below(8);
            }
        }
        1 => drop(bytes.drain(span(random, bytes, at))),
        2 => {
            let piece = bytes[span(random, bytes, at)].to_vec();
            insert(bytes, at, &piece);
        }
        3 | 4 => insert(bytes, at, one_of(random, TOKENS).as_bytes()),
        5 => replace_word(random, bytes, at, random_token),
        6 => replace_word(random, bytes, at, |random| one_of(random, NUMBERS)),
        7 => {
            let word = bytes[word(bytes, random.below(bytes.len() + 1))].to_vec();
            let place = self::word(bytes, at);
            bytes.splice(place, word);
        }
        8 => by_lines(bytes, |lines| {
            let (one, other) = (random.below(lines.len()), random.below(lines.len()));
            lines.swap(one, other);
        }),
        9 => by_lines(bytes, |lines| drop(lines.remove(random.below(lines.len())))),
        10 => by_lines(bytes, |lines| {
            let line = lines[random.below(lines.len())].clone();
            lines.insert(random.below(lines.len() + 1), line);
        }),
        11 => by_lines(bytes, |lines| {
            let line = random.below(lines.len());
            match random.below(3) {
                0 => lines[line].insert(0, b' '),
                1 => lines[line].insert(0, b'\t'),
                _ if lines[line].first() == Some(&b' ') => drop(lines[line].remove(0)),
                _ => {}
            }
        }),
        12 => {
            let other = &corpus[random.below(corpus.len())];
            bytes.truncate(at);
            bytes.extend_from_slice(&other[random.below(other.len())..]);
        }
        13 => {
            *bytes = String::from_utf8_lossy(bytes)
                .replace('\n', "\r\n")
                .into_bytes()
        }
        14 => *bytes = utf16(random, bytes),
        15 => insert(bytes, 0, "\u{feff}".as_bytes()),
        16 => insert(bytes, at, one_of(random, BAD_BYTES)),
        17 => bytes.truncate(at),
        18 => {
            let piece = bytes[span(random, bytes, at)].to_vec();
            let times = random.below(1 + (LARGEST / 4) / piece.len().max(1));
            insert(bytes, at, &piece.repeat(times));
        }
        19 => {
            let opening = one_of(
                random,
                &["[", "{a: ", "- ", "{\"a\":", "? ", "&a [", "!x [", "- - "],
            );
            let depth = one_of(random, &[10, 63, 64, 65, 254, 255, 256, 1000, 5000]);
            insert(bytes, at, opening.repeat(depth).as_bytes());
        }
        20 => anchored(random, bytes),
        _ => {
            let key = &bytes[line(bytes, at)].to_vec();
            let indent = key.iter().take_while(|byte| **byte == b' ').count();
            let text = format!("{}<<: [*a0, *a1]\n", " ".repeat(indent));
            let at = line(bytes, at).end;
            insert(bytes, at, text.as_bytes());
        }
    }
}

fn random_token(random: &mut Random) -> &'static str {
    one_of(random, TOKENS)
}

fn insert(bytes: &mut Vec<u8>, at: usize, piece: &[u8]) {
    bytes.splice(at..at, piece.iter().copied());
}

fn span(random: &mut Random, bytes: &[u8], at: usize) -> std::ops::Range<usize> {
    at..(at + random.below(60)).min(bytes.len())
}

/// What stands between two separators around the place.
fn word(bytes: &[u8], at: usize) -> std::ops::Range<usize> {
    let separates = |byte: &u8| b" \n\r\t,:[]{}\"'".contains(byte);
    let start = bytes[..at]
        .iter()
        .rposition(separates)
        .map_or(0, |at| at + 1);
    let length = bytes[at..].iter().position(separates);
    start..length.map_or(bytes.len(), |length| at + length)
}

/// The line around the place, with its end.
fn line(bytes: &[u8], at: usize) -> std::ops::Range<usize> {
    let start = bytes[..at].iter().rposition(|byte| *byte == b'\n');
    let length = bytes[at..].iter().position(|byte| *byte == b'\n');
    start.map_or(0, |at| at + 1)..length.map_or(bytes.len(), |length| at + length + 1)
}

fn replace_word(
    random: &mut Random,
    bytes: &mut Vec<u8>,
    at: usize,
    by: impl Fn(&mut Random) -> &'static str,
) {
    let place = word(bytes, at);
    bytes.splice(place, by(random).bytes());
}

fn by_lines(bytes: &mut Vec<u8>, change: impl FnOnce(&mut Vec<Vec<u8>>)) {
    let mut lines: Vec<_> = bytes
        .split_inclusive(|byte| *byte == b'\n')
        .map(<[u8]>::to_vec)
        .collect();
    if !lines.is_empty() {
        change(&mut lines);
        *bytes = lines.concat();
    }
}

fn utf16(random: &mut Random, bytes: &[u8]) -> Vec<u8> {
    let (mark, little) = (random.below(2) == 0, random.below(2) == 0);
    let text = String::from_utf8_lossy(bytes).into_owned();
    let mark = mark.then_some('\u{feff}').into_iter().collect::<String>();
    let units: Vec<u16> = mark.encode_utf16().chain(text.encode_utf16()).collect();
    let bytes = |unit: u16| {
        if little {
            unit.to_le_bytes()
        } else {
            unit.to_be_bytes()
        }
    };
    units.into_iter().flat_map(bytes).collect()
}

/// Gives some values an anchor, and makes others aliases of them.
fn anchored(random: &mut Random, bytes: &mut Vec<u8>) {
    let places: Vec<_> = bytes
        .windows(2)
        .enumerate()
        .filter(|(_, pair)| *pair == b": ")
        .collect();
    let mut places: Vec<_> = places.into_iter().map(|(at, _)| at + 2).collect();
    while places.len() > 8 {
        places.remove(random.below(places.len()));
    }
    for (number, at) in places.into_iter().enumerate().rev() {
        if number < 3 {
            insert(bytes, at, format!("&a{number} ").as_bytes());
        } else {
            let place = at..line(bytes, at).end.saturating_sub(1).max(at);
            bytes.splice(place, format!("*a{}", random.below(3)).bytes());
        }
    }
}
