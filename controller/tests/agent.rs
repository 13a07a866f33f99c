//! The agent as a process: started, stopped, killed, and disturbed in every way, beside a flood of packets that are always
//! denied and of packets that are always allowed. None of the first passes and none of the second is lost.

#![allow(clippy::unwrap_used)]

#[path = "agent/chaos.rs"]
mod chaos;
#[path = "agent/drift.rs"]
mod drift;
#[path = "agent/life.rs"]
mod life;
#[path = "agent/live.rs"]
mod live;
#[path = "agent/manifests.rs"]
mod manifests;
#[path = "agent/operating.rs"]
mod operating;
mod support;
#[path = "agent/surroundings.rs"]
mod surroundings;
#[path = "agent/traffic.rs"]
mod traffic;
#[path = "../../kernel/tests/flood/world.rs"]
#[allow(dead_code, reason = "of another crate's tests")]
mod world;
