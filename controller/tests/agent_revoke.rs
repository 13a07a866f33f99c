//! Open connections follow what is in force, in both directions and whatever is rewritten, with real packets.

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up fails")]

mod support;

#[allow(dead_code, reason = "each test program uses a part")]
#[path = "../../kernel/tests/conntrack/create.rs"]
mod create;

mod agent_revoke {
    mod flow;
    mod follow;
    mod many;
    mod marks;
    mod node;
    mod world;
}
