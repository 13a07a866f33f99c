//! What the agent has in force, for whoever asks.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::SystemTime;

use cni_chain::attachment::AttachmentId;
use policy_compiler::budget::Exceeded;
use policy_compiler::evaluate::NodeEgress;
use policy_compiler::lower;
use policy_compiler::model::{Cluster, NamespacedName, PolicyId};
use policy_compiler::ruleset::Ruleset;

use super::attachments::Attached;
use super::attachments::joined::Standing;
use super::source::Problem;

/// The agent's state after a commit, or after something that was to be one. A value: it does not change.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// The node.
    pub node: String,
    /// The own-node egress switch.
    pub node_egress: NodeEgress,
    /// What was found in the kernel and its surroundings, a sentence each.
    pub preflight: Vec<String>,
    /// Whether a complete state was applied since the start.
    pub ready: bool,
    /// The objects as the source has them.
    pub cluster: Cluster,
    /// The objects as they are in force ([`policy_compiler::index::Index::effective`]).
    pub effective: Cluster,
    /// What is in force; before the agent is ready, what one before it left.
    pub ruleset: Ruleset,
    /// The kernel's generation that has it.
    pub generation: u32,
    /// Namespaces over their budget.
    pub exceeded: BTreeMap<String, Exceeded>,
    /// Pods that send and receive nothing because of it, or because they came while the kernel did not take what was
    /// wanted.
    pub closed: BTreeSet<NamespacedName>,
    /// Pods that came then, and that are open since it did not take either that they be closed.
    pub unprotected: BTreeSet<NamespacedName>,
    /// Policies whose rules the kernel refused, and its words.
    pub refused: BTreeMap<PolicyId, String>,
    /// What is wrong with the source.
    pub problems: BTreeMap<String, Problem>,
    /// Why the last attempt to apply failed, if it did.
    pub failure: Option<String>,
    /// How often somebody else's change of our tables was repaired.
    pub drift_repairs: u64,
    /// Whether somebody changes our tables over and over.
    pub drift_alarm: bool,
    /// When the kernel was last equal to the objects; for people, as this clock may jump.
    pub last_success: Option<SystemTime>,
    /// The interfaces with which the rules in force were made.
    pub interfaces: Arc<lower::Attachments>,
    /// Addresses of interfaces of which nobody knows what they may pass: closed in what is in force.
    pub unknown: BTreeMap<IpAddr, NamespacedName>,
    /// The interfaces of this node's pods, and whether what these may do is in force.
    pub attachments: Arc<BTreeMap<AttachmentId, Standing>>,
    /// The interfaces that are there now, with those that may not be any pod's.
    pub attached: Arc<Attached>,
}
