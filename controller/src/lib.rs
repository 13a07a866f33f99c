//! The parts of the `picket` program.
//!
//! ```text
//! PATH.. -> source -> cluster -+-> command::compile   what a node is told
//!                              +-> command::diff      diff, two clusters
//!                              +-> command::explain   flow -> evaluate
//!                              +-> command::lint      lint -> findings
//!                              +-> command::matrix    matrix: who reaches whom, for every port
//!                              +-> command::verify    verify -> testbed
//! ```

pub mod agent;
pub mod attachments;
pub mod budget;
pub mod cli;
pub mod cluster;
pub mod command;
pub mod diff;
pub mod ends;
pub mod flow;
pub mod kubernetes;
pub mod lint;
pub mod matrix;
pub mod source;
pub mod verify;
