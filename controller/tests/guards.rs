//! Real packets through the rules that the compiler makes: what an address map alone would let through.
//!
//! Each guard is asked three times: the attack is dropped, its legitimate twin passes, and without the guard's rules
//! the attack arrives, so that its absence was the guard's work and not the testbed's.

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up fails")]

mod support;

mod guards {
    mod connections;
    mod ethertype;
    mod flow;
    mod icmpv6;
    mod link;
    mod link_local;
    mod node;
    mod packets;
    mod passage;
    mod revocation;
    mod revoked;
    mod router;
    mod services;
    mod sources;
    mod tables;
    mod tcp;
    mod world;
}
