//! A [`crate::ruleset::Ruleset`] as nft reads it.

mod commands;
mod json;
mod text;
mod transaction;

pub use commands::commands;
pub use json::json;
pub use text::text;
pub use transaction::transaction;
