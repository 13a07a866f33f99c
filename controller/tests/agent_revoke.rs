//! Open connections follow what is in force, in both directions and whatever is rewritten, with real packets.

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up fails")]

mod support;

mod agent_revoke {
    mod flow;
    mod follow;
    mod marks;
    mod node;
    mod world;
}
