//! Who lets interfaces pass: out of quarantine when what their pods may do is in force, and back when nobody knows it.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use cni_chain::attachment::{Attachment, AttachmentId, Path};
use cni_chain::protocol;
use cni_chain::quarantine::{self, ACTIVE, QUARANTINE};
use kernel::{Generation, LinkError, Links, Nftables};
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};
use tracing::{error, info, warn};

use super::bypass::InForce;
use super::joined::Standing;
use super::running::{self, Running};
use super::{Attached, socket};
use crate::agent::error::describe;
use crate::agent::metrics::Metrics;
use crate::agent::revoke;
use crate::agent::snapshot::Snapshot;

/// How often it is looked whether the rules of quarantine are there.
const LOOK: Duration = Duration::from_millis(100);

/// Whether an interface passes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Passage {
    /// As the policies of its pod say.
    Open,
    /// Not yet, for this reason.
    Waits(String),
    /// Not at all as things are.
    Refused {
        /// What is wrong with it.
        message: String,
        /// What to do.
        details: String,
    },
}

/// How interfaces pass.
#[derive(Debug, Default)]
pub(super) struct Passages {
    /// How often somebody had asked before it was looked.
    pub(super) asked: u64,
    /// Each, with the record for which it is so.
    pub(super) all: All,
}

/// Lets interfaces pass, and answers the plugin.
#[derive(Debug)]
pub struct Gate {
    /// The directory for running.
    pub run_dir: PathBuf,
    /// The interfaces that are there.
    pub attached: watch::Receiver<Arc<Attached>>,
    /// What is in force.
    pub snapshots: watch::Receiver<Arc<Snapshot>>,
    /// What is in force in pods' own network namespaces.
    pub inside: watch::Receiver<Arc<InForce>>,
    /// What was done about open connections.
    pub revocation: watch::Receiver<revoke::Status>,
    /// The last request to judge connections, which is made before the snapshot that it is about is told.
    pub asked: Arc<AtomicU64>,
    /// What counts how long the plugin waits.
    pub metrics: Metrics,
}

impl Gate {
    /// Starts, on a thread of its own, in the network namespace of the calling thread.
    ///
    /// # Errors
    /// There can be no thread.
    pub fn start(self) -> io::Result<Running> {
        let (publish, passages) = watch::channel(Arc::default());
        let (asks, asked) = watch::channel(0);
        let answers = socket::Answers::new(
            &self.run_dir,
            passages,
            self.snapshots.clone(),
            asks,
            self.metrics.clone(),
        );
        running::start("gate", move || async move {
            let run_dir = self.run_dir.clone();
            tokio::select! {
                () = self.run(&publish, asked) => {}
                never = socket::serve(&run_dir, &answers) => match never {},
            }
        })
    }

    async fn run(
        mut self,
        publish: &watch::Sender<Arc<Passages>>,
        mut asked: watch::Receiver<u64>,
    ) {
        let mut kernel = Kernel::default();
        let (mut marked, mut said) = (false, None);
        let mut last = None;
        let mut look = interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            // Before anything else: the plugin asks when it has put the interface into quarantine, which may be after the
            // record was seen.
            let count = *asked.borrow_and_update();
            let snapshot = self.snapshots.borrow_and_update().clone();
            // After the snapshot: what it is about was asked before it was told.
            let to_judge = revoke::Ticket(self.asked.load(Ordering::Acquire));
            let attached = self.attached.borrow_and_update().clone();
            let judged = self.revocation.borrow_and_update().judged;
            let inside = self.inside.borrow_and_update().clone();
            if snapshot.ready && !marked {
                marked = mark_ready(&self.run_dir, &mut said);
            }
            let seen = Seen {
                asked: count,
                judged,
                attached,
                inside,
                attachments: Arc::clone(&snapshot.attachments),
                ready: snapshot.ready,
                failure: snapshot.failure.clone(),
            };
            let is_same =
                |last: &Seen| seen.is(last) && (seen.judged == last.judged || !kernel.is_waiting);
            if !last.as_ref().is_some_and(is_same) || kernel.is_wrong() {
                let all = kernel.pass(&seen, to_judge);
                publish.send_if_modified(|published| {
                    let is_new = published.asked != count || published.all != all;
                    if is_new {
                        *published = Arc::new(Passages { asked: count, all });
                    }
                    is_new
                });
                last = Some(seen);
            }
            let ended = tokio::select! {
                changed = self.snapshots.changed() => changed.is_err(),
                changed = asked.changed() => changed.is_err(),
                changed = self.attached.changed() => changed.is_err(),
                changed = self.inside.changed() => changed.is_err(),
                changed = self.revocation.changed() => changed.is_err(),
                _ = look.tick() => {
                    kernel.hold_quarantine();
                    false
                }
            };
            if ended {
                // The agent ends, and says why.
                return std::future::pending().await;
            }
        }
    }
}

/// What decides who passes.
struct Seen {
    asked: u64,
    judged: revoke::Ticket,
    attached: Arc<Attached>,
    inside: Arc<InForce>,
    attachments: Arc<BTreeMap<AttachmentId, Standing>>,
    ready: bool,
    failure: Option<String>,
}

impl Seen {
    /// Whether nothing is other than it was but what was judged: most that the agent tells is not about interfaces.
    fn is(&self, other: &Self) -> bool {
        (self.asked, self.ready, &self.failure) == (other.asked, other.ready, &other.failure)
            && Arc::ptr_eq(&self.attached, &other.attached)
            && Arc::ptr_eq(&self.inside, &other.inside)
            && Arc::ptr_eq(&self.attachments, &other.attachments)
    }
}

/// Says that everything was in force once since the node started. `said` is what was said last of why it can not.
fn mark_ready(run_dir: &std::path::Path, said: &mut Option<String>) -> bool {
    let marker = protocol::ready_marker(run_dir);
    let Err(error) = std::fs::write(&marker, "") else {
        return true;
    };
    let failure = format!("{}: {error}", marker.display());
    if said.as_ref() != Some(&failure) {
        warn!(
            "runtimes that ask for the network's status are told that it is not ready: {failure}"
        );
    }
    *said = Some(failure);
    false
}

/// Links and the rules of quarantine.
#[derive(Default)]
struct Kernel {
    links: Option<Links>,
    nftables: Option<Nftables>,
    /// The generation in which the rules of quarantine were there.
    generation: Option<Generation>,
    /// When it is looked again, also if nftables changed.
    next: Option<Instant>,
    /// What was said last of what failed.
    failure: Option<String>,
    /// The request to judge connections that is to be fulfilled first, of each interface whose policies are in force.
    to_judge: BTreeMap<AttachmentId, (Arc<Attachment>, revoke::Ticket)>,
    /// Whether an interface waits for connections to be judged.
    is_waiting: bool,
    /// Interfaces that could not be moved to the group where they should be.
    stuck: BTreeSet<AttachmentId>,
}

/// Each interface with the record for which it passes so.
type All = BTreeMap<AttachmentId, (Arc<Attachment>, Passage)>;

impl Kernel {
    /// Whether something has to be tried again.
    fn is_wrong(&self) -> bool {
        !self.stuck.is_empty()
    }

    /// Puts the rules of quarantine back if others removed them. To look is cheap as long as nobody changes nftables, and
    /// takes a tenth of the time at most where somebody does all the time.
    fn hold_quarantine(&mut self) {
        let start = Instant::now();
        if self.next.is_some_and(|next| start < next) {
            return;
        }
        let failure = match self.held_quarantine() {
            Ok(()) => None,
            Err(error) => {
                self.nftables = None;
                Some(describe(&error))
            }
        };
        if let Some(failure) = &failure
            && self.failure.as_ref() != Some(failure)
        {
            error!("interfaces of pods can not be put into quarantine: {failure}");
        }
        self.failure = failure;
        self.next = Some(Instant::now() + start.elapsed() * 9);
    }

    fn held_quarantine(&mut self) -> Result<(), kernel::Error> {
        let known = self.generation.take();
        let nftables = match &mut self.nftables {
            Some(nftables) => nftables,
            none => none.insert(Nftables::open()?),
        };
        let generation = nftables.generation()?;
        if known != Some(generation) {
            quarantine::ensure(nftables)?;
        }
        self.generation = Some(generation);
        Ok(())
    }

    /// Lets pass who may, and nobody else.
    fn pass(&mut self, seen: &Seen, to_judge: revoke::Ticket) -> All {
        let mut all = All::new();
        let mut waiting = BTreeMap::new();
        self.is_waiting = false;
        for (id, attachment) in &seen.attached.accepted {
            let standing = seen.attachments.get(id);
            let bypasses = matches!(attachment.path, Path::Bypass { .. });
            let passage = match standing.filter(|standing| standing.attachment() == attachment) {
                Some(Standing::Known(_)) if bypasses => passes_inside(attachment, &seen.inside),
                Some(Standing::Known(_)) => {
                    let asked = self.to_judge.remove(id);
                    let asked = asked.filter(|(of, _)| of == attachment);
                    // What was asked later is not about what this interface's addresses had before.
                    let (_, ticket) = asked.unwrap_or((Arc::clone(attachment), to_judge));
                    waiting.insert(id.clone(), (Arc::clone(attachment), ticket));
                    match seen.judged >= ticket {
                        true => self.open(attachment),
                        false => {
                            self.is_waiting = true;
                            Passage::Waits(
                                "connections that its addresses had before are being judged"
                                    .to_owned(),
                            )
                        }
                    }
                }
                Some(Standing::Unknown(_, why)) if seen.ready => {
                    self.close(attachment, why);
                    Passage::Waits(why.clone())
                }
                _ => Passage::Waits(waits_for(seen)),
            };
            all.insert(id.clone(), (Arc::clone(attachment), passage));
        }
        self.to_judge = waiting;
        for (id, refusal) in &seen.attached.refused {
            let attachment = &refusal.attachment;
            self.close(attachment, &refusal.message);
            let passage = Passage::Refused {
                message: refusal.message.clone(),
                details: refusal.details.clone(),
            };
            all.insert(id.clone(), (Arc::clone(attachment), passage));
        }
        self.stuck.retain(|id| all.contains_key(id));
        all
    }

    /// What is in force is all that it may pass.
    fn open(&mut self, attachment: &Attachment) -> Passage {
        match set(&mut self.links, attachment, QUARANTINE, ACTIVE) {
            Ok(true) => {
                self.stuck.remove(&attachment.id);
                Passage::Open
            }
            Ok(false) => Passage::Waits("its interface is about to be seen".to_owned()),
            Err(error) => {
                self.stuck.insert(attachment.id.clone());
                Passage::Waits(describe(&error))
            }
        }
    }

    /// Nothing passes any more, as nobody knows what may.
    fn close(&mut self, attachment: &Attachment, why: &str) {
        match set(&mut self.links, attachment, ACTIVE, QUARANTINE) {
            Ok(_) => drop(self.stuck.remove(&attachment.id)),
            Err(error) if self.stuck.insert(attachment.id.clone()) => {
                warn!(attachment = %attachment.id, "an interface can not be put into quarantine, though {why}: {}", describe(&error));
            }
            Err(_) => {}
        }
    }
}

/// Puts the interface into quarantine, unless its group is somebody else's.
///
/// # Errors
/// The kernel can not be asked, or refuses.
pub fn quarantine(links: &mut Option<Links>, attachment: &Attachment) -> Result<(), LinkError> {
    set(links, attachment, ACTIVE, QUARANTINE).map(drop)
}

/// Moves the interface from one group to another, if it is in the first. In a group of somebody else it stays. Whether it
/// is there under its name.
fn set(
    links: &mut Option<Links>,
    attachment: &Attachment,
    from: u32,
    to: u32,
) -> Result<bool, LinkError> {
    let Some(index) = attachment.path.index() else {
        return Ok(true);
    };
    let links = match links {
        Some(links) => links,
        none => none.insert(Links::open()?),
    };
    let link = links.by_index(index)?;
    let Some(link) = link.filter(|link| attachment.path.host() == Some(&link.name)) else {
        return Ok(false);
    };
    if link.group == from {
        links.set_group(&link, to)?;
        let (namespace, pod) = (&attachment.pod.namespace, &attachment.pod.name);
        match to {
            ACTIVE => info!(ns = %namespace, %pod, interface = %link.name, "out of quarantine"),
            _ => warn!(ns = %namespace, %pod, interface = %link.name, "into quarantine"),
        }
    }
    Ok(true)
}

/// Whether it passes where the node's rules do not see it. A connection that its addresses had before is not there.
fn passes_inside(attachment: &Arc<Attachment>, inside: &InForce) -> Passage {
    match inside.get(&attachment.id) {
        Some((of, Ok(()))) if of == attachment => Passage::Open,
        Some((of, Err(why))) if of == attachment => Passage::Waits(why.clone()),
        _ => Passage::Waits(
            "its pod's policies are about to be in force in its network namespace".to_owned(),
        ),
    }
}

fn waits_for(seen: &Seen) -> String {
    match (&seen.failure, seen.ready) {
        (Some(failure), _) => format!("the kernel does not take the rules: {failure}"),
        (None, false) => "the agent does not know all objects yet".to_owned(),
        (None, true) => "its pod's policies are about to be in the kernel".to_owned(),
    }
}
