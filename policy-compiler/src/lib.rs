//! Kubernetes NetworkPolicy, validated, evaluated, and compiled to nftables.

pub mod api;
