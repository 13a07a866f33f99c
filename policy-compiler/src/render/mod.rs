//! A [`crate::ruleset::Ruleset`] as nft reads it.

mod json;
mod text;
mod transaction;

pub use json::json;
pub use text::text;
pub use transaction::transaction;
