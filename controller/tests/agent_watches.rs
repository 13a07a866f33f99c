//! The API server as the agent's source: against an API server in this process, whose clock is the test's, and against
//! real sockets where files and certificates matter.

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up fails")]

#[path = "agent_watches/bad.rs"]
mod bad;
#[path = "agent_watches/double.rs"]
mod double;
#[path = "agent_watches/faults.rs"]
mod faults;
#[path = "agent_watches/lists.rs"]
mod lists;
#[path = "agent_watches/moved.rs"]
mod moved;
#[path = "agent_watches/plugin.rs"]
mod plugin;
#[path = "agent_watches/process.rs"]
mod process;
#[path = "agent_watches/rotation.rs"]
mod rotation;
#[path = "agent_watches/state.rs"]
mod state;
#[path = "agent_watches/world.rs"]
mod world;
