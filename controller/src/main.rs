//! The `picket` program.

fn main() {}
