//! The agent's loop against a kernel that tests can make refuse, fail and forget.

#![allow(clippy::unwrap_used)]

#[path = "agent_engine/changes.rs"]
mod changes;
#[path = "agent_engine/drift.rs"]
mod drift;
#[path = "agent_engine/newcomers.rs"]
mod newcomers;
#[path = "agent_engine/refusals.rs"]
mod refusals;
#[path = "agent_engine/start.rs"]
mod start;
#[path = "agent_engine/trouble.rs"]
mod trouble;
#[path = "agent_engine/world.rs"]
mod world;
