//! What the agent tells of itself, without an engine: a snapshot is given, and asked for.

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up fails")]

#[path = "agent_serve/http.rs"]
mod http;
#[path = "agent_serve/metrics.rs"]
mod metrics;
#[path = "support/program.rs"]
mod program;
#[path = "agent_serve/socket.rs"]
mod socket;
#[path = "agent_serve/world.rs"]
mod world;
