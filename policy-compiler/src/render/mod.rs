//! A [`crate::ruleset::Ruleset`] as nft reads it.

mod commands;
mod json;
mod text;

pub use commands::commands;
pub use json::json;
pub use text::text;
