//! Kubernetes NetworkPolicy, validated, evaluated, and compiled to nftables.

pub mod api;
pub mod budget;
pub mod compile;
pub mod cover;
pub mod delta;
pub mod evaluate;
pub mod index;
pub mod ir;
pub mod lower;
pub mod manifest;
pub mod model;
pub mod name;
pub mod reach;
pub mod render;
pub mod ruleset;
mod schema;
pub mod validate;
