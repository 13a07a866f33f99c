//! A [`crate::ruleset::Ruleset`] as nft reads it.

mod json;
mod text;

pub use json::json;
pub use text::text;
