//! Interfaces whose packets do not pass this node's rules, as a macvlan's: their pod's rules are in force in its own
//! network namespace.
//!
//! There are the tables of the quarantine, the pod's classes as the node has them ([`policy_compiler::lower::inside`]),
//! and a [`Revoker`] for the connections that are open there. All of it stays when the agent ends.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use cni_chain::attachment::{Attachment, AttachmentId, Path};
use cni_chain::quarantine::{self, ACTIVE, QUARANTINE};
use kernel::{Generation, NamespaceError, NetworkNamespace};
use policy_compiler::delta::delta;
use policy_compiler::lower::{Inside, RevokedBit, inside};
use policy_compiler::model::InterfaceName;
use policy_compiler::ruleset::Ruleset;
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};
use tracing::{error, info, warn};

use super::Attached;
use super::joined::Standing;
use super::running::{self, Running};
use crate::agent::error::describe;
use crate::agent::metrics::Metrics;
use crate::agent::revoke::{self, Judged, Revoker, Scope};
use crate::agent::snapshot::Snapshot;

/// How often it is looked whether others changed something there, and what failed is tried again.
const LOOK: Duration = Duration::from_millis(500);

/// Each such interface with its record, and why the policies of its pod are not in force there, if they are not.
pub type InForce = BTreeMap<AttachmentId, (Arc<Attachment>, Result<(), String>)>;

/// Holds pods' own network namespaces to what is in force on the node.
#[derive(Debug)]
pub struct Bypass {
    /// The interfaces that are there.
    pub attached: watch::Receiver<Arc<Attached>>,
    /// What is in force.
    pub snapshots: watch::Receiver<Arc<Snapshot>>,
    /// What becomes of open connections.
    pub revocation: revoke::Options,
    /// The bit of a connection's mark that says it was revoked.
    pub revoked: RevokedBit,
    /// Where revoked connections are counted.
    pub metrics: Metrics,
}

impl Bypass {
    /// Starts, on a thread of its own.
    ///
    /// # Errors
    /// There can be no thread.
    pub fn start(self) -> std::io::Result<(Running, watch::Receiver<Arc<InForce>>)> {
        let (publish, in_force) = watch::channel(Arc::default());
        let running = running::start("bypass", move || self.run(publish))?;
        Ok((running, in_force))
    }

    async fn run(mut self, publish: watch::Sender<Arc<InForce>>) {
        let mut places = Places::default();
        let mut look = interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let snapshot = self.snapshots.borrow_and_update().clone();
            let attached = self.attached.borrow_and_update().clone();
            if snapshot.ready {
                let in_force = places.hold(&attached, &snapshot, &self);
                publish.send_if_modified(|published| {
                    let is_new = **published != in_force;
                    if is_new {
                        *published = Arc::new(in_force);
                    }
                    is_new
                });
            }
            let ended = tokio::select! {
                changed = self.snapshots.changed() => changed.is_err(),
                changed = self.attached.changed() => changed.is_err(),
                _ = look.tick(), if !places.0.is_empty() => false,
            };
            if ended {
                // The agent ends, and says why.
                return std::future::pending().await;
            }
        }
    }
}

/// A namespace by its path and its number.
type Key = (String, u64);

/// The namespaces that are held.
#[derive(Default)]
struct Places(BTreeMap<Key, Place>);

/// One.
#[derive(Default)]
struct Place {
    opened: Option<Opened>,
    /// What was said last of what failed.
    failure: Option<String>,
}

/// Sockets in it, and what is known of it. The namespace stays as long as these do.
struct Opened {
    inside: kernel::Inside,
    revoker: Revoker,
    /// What is in force there, in this generation.
    in_force: Option<(Ruleset, Generation)>,
}

impl Places {
    fn hold(&mut self, attached: &Attached, snapshot: &Snapshot, with: &Bypass) -> InForce {
        let accepted = attached.accepted.values();
        let refused = attached.refused.values().map(|refusal| &refusal.attachment);
        let mut interfaces: BTreeMap<Key, Vec<&Arc<Attachment>>> = BTreeMap::new();
        for attachment in accepted.chain(refused) {
            if let Path::Bypass { .. } = attachment.path {
                let key = (attachment.netns.clone(), attachment.netns_inode);
                interfaces.entry(key).or_default().push(attachment);
            }
        }
        self.0.retain(|key, _| interfaces.contains_key(key));
        let mut all = InForce::new();
        for (key, interfaces) in interfaces {
            let known: BTreeSet<&AttachmentId> = interfaces
                .iter()
                .filter(|attachment| is_known(attachment, attached, snapshot))
                .map(|attachment| &attachment.id)
                .collect();
            let place = self.0.entry(key.clone()).or_default();
            let held = place.hold(&key, &interfaces, &known, snapshot, with);
            for attachment in interfaces {
                let in_force = match known.contains(&attachment.id) {
                    true => held.clone(),
                    false => Err("its pod is not known".to_owned()),
                };
                all.insert(attachment.id.clone(), (Arc::clone(attachment), in_force));
            }
        }
        all
    }
}

/// Whether the node's rules have the policies of its pod.
fn is_known(attachment: &Arc<Attachment>, attached: &Attached, snapshot: &Snapshot) -> bool {
    let is_accepted = attached.accepted.get(&attachment.id) == Some(attachment);
    let standing = snapshot.attachments.get(&attachment.id);
    let known = standing
        .is_some_and(|standing| matches!(standing, Standing::Known(known) if known == attachment));
    is_accepted && known
}

impl Place {
    fn hold(
        &mut self,
        key: &Key,
        interfaces: &[&Arc<Attachment>],
        known: &BTreeSet<&AttachmentId>,
        snapshot: &Snapshot,
        with: &Bypass,
    ) -> Result<(), String> {
        let held = self.try_hold(key, interfaces, known, snapshot, with);
        let failure = held.as_ref().err();
        if let Some(failure) = failure {
            self.opened = None;
            if self.failure.as_ref() != Some(failure) {
                error!(netns = %key.0, "policies are not in force in a pod's network namespace: {failure}");
            }
        }
        self.failure = failure.cloned();
        held
    }

    fn try_hold(
        &mut self,
        key: &Key,
        interfaces: &[&Arc<Attachment>],
        known: &BTreeSet<&AttachmentId>,
        snapshot: &Snapshot,
        with: &Bypass,
    ) -> Result<(), String> {
        let opened = match &mut self.opened {
            Some(opened) => opened,
            none => none.insert(open(key, with)?),
        };
        let is_known = |attachment: &&&Arc<Attachment>| known.contains(&attachment.id);
        // First: nothing of an interface passes by rules that are not about it.
        opened.set_groups(
            interfaces.iter().filter(|one| !is_known(one)),
            ACTIVE,
            QUARANTINE,
        )?;
        let of_pod = Inside {
            interfaces: interfaces
                .iter()
                .map(|attachment| InterfaceName::new(attachment.id.interface()))
                .collect::<Result<_, _>>()
                .map_err(|error| describe(&error))?,
            addresses: interfaces
                .iter()
                .filter(is_known)
                .flat_map(|attachment| attachment.addresses.iter().copied())
                .collect(),
            node: addresses_of_node(snapshot),
            routes: interfaces.iter().any(|attachment| attachment.routes),
        };
        let wanted = inside(
            &snapshot.ruleset,
            &of_pod,
            snapshot.node_egress,
            with.revoked,
        );
        opened.enforce(wanted, snapshot, with)?;
        opened.set_groups(interfaces.iter().filter(is_known), QUARANTINE, ACTIVE)
    }
}

fn addresses_of_node(snapshot: &Snapshot) -> BTreeSet<IpAddr> {
    let node = snapshot.effective.nodes.get(&snapshot.node);
    node.map(|node| node.addresses.clone()).unwrap_or_default()
}

fn open((path, inode): &Key, with: &Bypass) -> Result<Opened, String> {
    let namespace = NetworkNamespace::open_numbered(path, *inode);
    let namespace = namespace.map_err(|error| match error {
        NamespaceError::Open { .. } => format!(
            "{}: the agent has to see the node's folder of network namespaces (in the chart, agent.podNamespaces.enabled)",
            describe(&error)
        ),
        error => describe(&error),
    })?;
    let metrics = with.metrics.clone();
    let (mut counted, mut failure) = (0, None);
    let path = path.clone();
    let report = move |status: &revoke::Status| {
        metrics.revoked(status.revoked - counted);
        counted = status.revoked;
        if let Some(failed) = &status.failure
            && failure.as_ref() != Some(failed)
        {
            error!(netns = %path, "open connections of a pod can not be judged now, and are later: {failed}");
        }
        failure.clone_from(&status.failure);
    };
    let inside = namespace.inside().map_err(|error| describe(&error))?;
    let revoker = namespace.run(|| Revoker::start(with.revocation, report));
    let revoker = revoker.map_err(|error| describe(&error))?;
    Ok(Opened {
        inside,
        revoker: revoker.map_err(|error| describe(&error))?,
        in_force: None,
    })
}

impl Opened {
    /// Has these rules in force, and the quarantine's; and judges what is open if anything changed.
    fn enforce(
        &mut self,
        wanted: Ruleset,
        snapshot: &Snapshot,
        with: &Bypass,
    ) -> Result<(), String> {
        let now = self.inside.nftables.generation();
        let now = now.map_err(|error| describe(&error))?;
        let known = self.in_force.take();
        let is_same = |known: &(Ruleset, Generation)| known.1 == now && known.0 == wanted;
        if let Some(known) = known.filter(is_same) {
            self.in_force = Some(known);
            return Ok(());
        }
        quarantine::ensure(&mut self.inside.nftables).map_err(|error| describe(&error))?;
        let revoker = self.revoker.handle();
        let hold = revoker.hold();
        let generation = self.apply(&wanted)?;
        self.in_force = Some((wanted, generation));
        let state = Judged {
            cluster: Arc::new(snapshot.effective.clone()),
            node: snapshot.node.as_str().into(),
            node_egress: snapshot.node_egress,
            closed: Arc::new(snapshot.closed.clone()),
            revoked: with.revoked,
        };
        revoker.judge(state, Scope::All);
        drop(hold);
        Ok(())
    }

    fn apply(&mut self, wanted: &Ruleset) -> Result<Generation, String> {
        let planned = self.plan(wanted);
        // Whatever is there, of another version or of another hand.
        let applied = planned.or_else(|_| {
            self.inside
                .nftables
                .replace(wanted)
                .map_err(|error| describe(&error))
        });
        applied.and_then(|_| {
            self.inside
                .nftables
                .generation()
                .map_err(|error| describe(&error))
        })
    }

    fn plan(&mut self, wanted: &Ruleset) -> Result<Generation, String> {
        let found = self
            .inside
            .nftables
            .read()
            .map_err(|error| describe(&error))?;
        let mut generation = found.generation;
        if !found.unknown.is_empty() {
            let removed = self.inside.nftables.remove_unknown(&found);
            generation = removed.map_err(|error| describe(&error))?;
        }
        let plan = delta(&found.ruleset, wanted, generation.0);
        let done = self.inside.nftables.execute(&plan, None);
        done.map_err(|halted| describe(&halted))
    }

    /// Moves interfaces from one group to another, those that are in the first.
    fn set_groups<'a>(
        &mut self,
        interfaces: impl Iterator<Item = &'a &'a Arc<Attachment>>,
        from: u32,
        to: u32,
    ) -> Result<(), String> {
        for attachment in interfaces {
            let name = attachment.id.interface();
            let Path::Bypass { index, .. } = attachment.path else {
                continue;
            };
            let link = self.inside.links.by_index(index);
            let link = link.map_err(|error| describe(&error))?;
            // Rules know it by its name.
            let Some(link) = link.filter(|link| link.name == name) else {
                return Err(format!(
                    "there is no interface {name} with the number {index} any more"
                ));
            };
            if link.group == from {
                let set = self.inside.links.set_group(&link, to);
                set.map_err(|error| describe(&error))?;
                let (namespace, pod) = (&attachment.pod.namespace, &attachment.pod.name);
                match to {
                    ACTIVE => {
                        info!(ns = %namespace, %pod, interface = %name, "out of quarantine, in the pod's network namespace")
                    }
                    _ => {
                        warn!(ns = %namespace, %pod, interface = %name, "into quarantine, in the pod's network namespace")
                    }
                }
            }
        }
        Ok(())
    }
}
