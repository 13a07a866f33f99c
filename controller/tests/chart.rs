//! The helm chart, by a real helm: what it says, what it refuses, what checks it, and what becomes of a
//! release before a real API server.

#![allow(clippy::unwrap_used)]

#[path = "chart/admission.rs"]
mod admission;
#[path = "chart/agent.rs"]
mod agent;
#[path = "support/api_server/mod.rs"]
mod api_server;
#[path = "documents/blocks.rs"]
#[allow(dead_code, reason = "of another test program")]
mod blocks;
#[path = "chart/checks.rs"]
mod checks;
#[path = "chart/cluster.rs"]
mod cluster;
#[path = "chart/container.rs"]
mod container;
#[path = "chart/golden.rs"]
mod golden;
#[path = "chart/guide.rs"]
mod guide;
#[path = "chart/helm.rs"]
mod helm;
#[path = "chart/life.rs"]
mod life;
#[path = "agent/live.rs"]
#[allow(dead_code, reason = "of another test program")]
mod live;
#[path = "agent/manifests.rs"]
#[allow(dead_code, reason = "of another test program")]
mod manifests;
#[path = "chart/meaning.rs"]
mod meaning;
#[path = "chart/package.rs"]
mod package;
#[path = "chart/plugin.rs"]
mod plugin;
#[path = "chart/schema.rs"]
mod schema;
mod support;
#[path = "chart/table.rs"]
mod table;
#[path = "../../kernel/tests/flood/world.rs"]
#[allow(dead_code, reason = "of another crate's tests")]
mod world;
