//! The chained CNI plugin `picket-cni`, which holds a pod back until its policies are in force, and how it is installed.
//!
//! ```text
//!   container runtime ──▶ plugin: ADD, DEL, CHECK, GC, STATUS, VERSION
//!                           │ attachment: a record of what is attached ──▶ RUNDIR/attachments ──▶ agent
//!                           │ quarantine: its interface passes nothing
//!                           └ protocol: "are its policies in force?" ◀──── RUNDIR/cni.sock ─────▶ agent
//!
//!   agent ──▶ install: the plugin's entry in the runtime's list of plugins
//! ```
//!
//! The plugin decides nothing about packets, and knows no API server.

pub mod attachment;
mod entry;
pub mod install;
pub mod plugin;
pub mod protocol;
pub mod quarantine;
mod version;
