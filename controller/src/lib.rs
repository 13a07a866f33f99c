//! The parts of the `picket` program.

pub mod source;
