//! The agent as a process that asks a real API server, with the rights that it needs and no other.

#![allow(clippy::unwrap_used)]

#[path = "support/api_server/mod.rs"]
mod api_server;
#[path = "agent_api_server/chaos.rs"]
mod chaos;
#[path = "agent_api_server/cluster.rs"]
mod cluster;
#[path = "agent_api_server/cost.rs"]
mod cost;
#[path = "agent_engine/world.rs"]
#[allow(dead_code, reason = "of another test program")]
mod engine;
#[path = "agent_api_server/events.rs"]
mod events;
#[path = "agent_api_server/latency.rs"]
mod latency;
#[path = "agent/live.rs"]
#[allow(dead_code, reason = "of another test program")]
mod live;
#[path = "agent/manifests.rs"]
#[allow(dead_code, reason = "of another test program")]
mod manifests;
#[path = "agent_api_server/refused.rs"]
mod refused;
#[path = "agent_api_server/restarts.rs"]
mod restarts;
#[path = "agent_api_server/rights.rs"]
mod rights;
mod support;
#[path = "../../kernel/tests/flood/world.rs"]
#[allow(dead_code, reason = "of another crate's tests")]
mod world;
