//! Stable names for what the kernel holds, made from identities.
//!
//! A name says what it stands for to a reader and ends in a digest of the full identity, so it stays the same
//! while the object's content changes, and no two identities share one.

use std::collections::{BTreeMap, BTreeSet};

use sha2::{Digest, Sha256};

/// Hexadecimal digits of the digest in a name: 64 bits.
const DIGEST_LENGTH: usize = 16;

/// Longest readable part of a name. nft allows 128 bytes for a whole name, older kernels fewer.
const SLUG_LENGTH: usize = 40;

/// Longest comment that every nft reads back (the kernel's limit is 128 with the terminating zero).
pub const COMMENT_LENGTH: usize = 127;

/// Gives names to identities.
#[derive(Clone, Copy, Debug)]
pub struct Namer {
    digest_length: usize,
}

impl Default for Namer {
    fn default() -> Self {
        Self {
            digest_length: DIGEST_LENGTH,
        }
    }
}

impl Namer {
    /// A namer with a shorter digest, to provoke collisions in tests; at most 64 digits.
    pub fn with_digest_length(digest_length: usize) -> Self {
        Self { digest_length }
    }

    /// A name for each `(readable text, identity)`. Identities whose short digests collide all get the whole
    /// digest, so that the names do not depend on which of them came first.
    pub fn name<'a, I>(&self, identities: I) -> BTreeMap<&'a str, String>
    where
        I: IntoIterator<Item = (&'a str, &'a str)>,
    {
        let identities: BTreeMap<&str, &str> = identities
            .into_iter()
            .map(|(readable, identity)| (identity, readable))
            .collect();
        let mut holders: BTreeMap<String, BTreeSet<&str>> = BTreeMap::new();
        for (identity, readable) in &identities {
            let name = self.short(readable, identity);
            holders.entry(name).or_default().insert(identity);
        }
        let mut names = BTreeMap::new();
        for (name, holders) in holders {
            let unique = holders.len() == 1;
            for identity in holders {
                let name = if unique {
                    name.clone()
                } else {
                    format!("{}_{}", slug(identities[identity]), digest(identity))
                };
                names.insert(identity, name);
            }
        }
        names
    }

    /// The name of an identity that collides with no other.
    pub(crate) fn short(&self, readable: &str, identity: &str) -> String {
        let digest = digest(identity);
        format!(
            "{}_{}",
            slug(readable),
            &digest[..self.digest_length.min(digest.len())]
        )
    }
}

/// SHA-256 in hexadecimal.
fn digest(text: &str) -> String {
    format!("{:x}", Sha256::digest(text.as_bytes()))
}

/// Lower-case letters, digits and single underscores: what needs no quoting in nft's text. Callers put a
/// letter before it, so that no name is a keyword or a number.
fn slug(text: &str) -> String {
    let mut slug = String::with_capacity(SLUG_LENGTH);
    for c in text.chars() {
        if slug.len() == SLUG_LENGTH {
            break;
        }
        match c {
            c if c.is_ascii_alphanumeric() => slug.push(c.to_ascii_lowercase()),
            _ if slug.is_empty() || slug.ends_with('_') => {}
            _ => slug.push('_'),
        }
    }
    slug.truncate(slug.trim_end_matches('_').len());
    if slug.is_empty() { "all".into() } else { slug }
}

/// A text that nft keeps as a comment: printable ASCII without quotes and backslashes (nft's strings have no
/// escapes), and if it is longer than [`COMMENT_LENGTH`], its beginning and a digest of the whole.
pub fn comment(text: &str) -> String {
    let clean: String = text
        .chars()
        .map(|c| match c {
            '"' | '\\' => '\'',
            ' '..='~' => c,
            _ => '?',
        })
        .collect();
    if clean.len() <= COMMENT_LENGTH {
        return clean;
    }
    let digest = &digest(text)[..DIGEST_LENGTH];
    let kept = COMMENT_LENGTH - digest.len() - "...#".len();
    format!("{}...#{digest}", &clean[..kept])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_readable_and_depends_on_the_identity_alone() {
        let namer = Namer::default();
        let names = namer.name([("shop/db allow-web", "a"), ("", "b")]);
        assert_eq!(names["a"], "shop_db_allow_web_ca978112ca1bbdca");
        assert_eq!(names["b"], "all_3e23e8160039594a");
        let alone = namer.name([("shop/db allow-web", "a")]);
        assert_eq!(alone["a"], names["a"]);
    }

    #[test]
    fn colliding_digests_never_share_a_name() {
        let identities: Vec<String> = (0..500).map(|n| n.to_string()).collect();
        let pairs = identities
            .iter()
            .map(|identity| ("same", identity.as_str()));
        let names = Namer::with_digest_length(1).name(pairs.clone());
        let distinct: BTreeSet<_> = names.values().collect();
        assert_eq!(distinct.len(), identities.len());
        let reversed = Namer::with_digest_length(1).name(pairs.rev());
        assert_eq!(names, reversed);
    }

    #[test]
    fn long_readable_parts_with_a_common_prefix_stay_apart() {
        let long = |end: &str| format!("{}{end}", "a".repeat(252));
        let (one, two) = (long("1"), long("2"));
        let names = Namer::default().name([(&*one, &*one), (&*two, &*two)]);
        assert_ne!(names[&*one], names[&*two]);
        assert!(
            names
                .values()
                .all(|name| name.len() <= SLUG_LENGTH + 1 + DIGEST_LENGTH)
        );
    }

    #[test]
    fn a_comment_is_quoted_by_construction_and_never_too_long() {
        assert_eq!(comment("x/allow"), "x/allow");
        assert_eq!(
            comment("a\"; flush ruleset; \"\\\n\u{e4}"),
            "a'; flush ruleset; ''??"
        );
        let long = |end: &str| comment(&format!("{}{end}", "a".repeat(300)));
        assert_eq!(long("1").len(), COMMENT_LENGTH);
        assert_ne!(long("1"), long("2"));
        assert_eq!(comment(&"b".repeat(127)), "b".repeat(127));
    }
}
