//! The node agent: keeps a node's kernel equal to what a source says.
//!
//! ```text
//! Source ──▶ Event ──▶ engine: index ─▶ plan ─▶ nftables ──▶ Snapshot ──▶ server: health, metrics, status, explain
//!                        ▲  ▲     └─ addresses to judge ─▶ revoke ──▶ conntrack
//!      nftables changes ─┘  └─ clock
//! ```

pub mod alone;
pub mod attachments;
pub mod dump;
pub mod enforcer;
pub mod engine;
pub mod error;
pub mod events;
pub mod folder;
pub mod log;
pub mod metrics;
pub mod preflight;
pub mod revoke;
pub mod rundir;
pub mod server;
pub mod snapshot;
pub mod source;
pub mod status;
pub mod watches;
