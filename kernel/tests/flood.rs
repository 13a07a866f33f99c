//! Under a flood of packets that are always denied and of packets that are always allowed, rulesets change: none of the
//! first passes and none of the second is lost. The orders of change that leak are shown to be found.

#![allow(clippy::unwrap_used)]

#[path = "../../policy-compiler/tests/support/changes.rs"]
mod changes;
#[path = "../../policy-compiler/tests/support/in_flight.rs"]
#[allow(dead_code, reason = "of another crate's tests")]
mod in_flight;
#[path = "flood/random.rs"]
mod random;
#[path = "flood/scenario.rs"]
mod scenario;
#[path = "flood/scenarios.rs"]
mod scenarios;
#[path = "../../policy-compiler/tests/support/mod.rs"]
#[allow(dead_code, reason = "of another crate's tests")]
mod support;
#[path = "../../policy-compiler/tests/support/walk/mod.rs"]
#[allow(dead_code, reason = "of another crate's tests")]
mod walk;
#[path = "flood/world.rs"]
mod world;
#[path = "flood/wrong_orders.rs"]
mod wrong_orders;
