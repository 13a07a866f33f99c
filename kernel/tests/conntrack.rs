//! Connection tracking of a real kernel, with real flows: what is listed, marked and heard is what `/proc` shows.

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up fails")]

mod support;

mod conntrack {
    mod create;
    mod filtering;
    mod listing;
    mod marking;
    mod watching;
    mod world;
}
