//! Plans, carried out by the kernel, and what becomes of those that it does not take.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use cni_chain::attachment::AttachmentId;
use kernel::{Error, Found, Halted, Object, Refusal};
use nix::errno::Errno;
use policy_compiler::delta::delta;
use policy_compiler::lower::close;
use policy_compiler::model::{Owner, PolicyId, is_link_local};
use policy_compiler::ruleset::Ruleset;
use tokio::time::Instant;
use tracing::{debug, error, info, warn};

use super::{Engine, InForce, Known, Listener, Source, Sync};
use crate::agent::attachments::joined::Standing;
use crate::agent::enforcer::{Enforcer, Foreign};
use crate::agent::error::describe;
use crate::agent::metrics::FailureReason;
use crate::agent::revoke::Scope;

/// So often others may change nftables under our hands, or the kernel may refuse something else, before we wait.
pub(super) const ATTEMPTS: usize = 10;

/// So many times in a row something may be wanting before those who asked for it are isolated: some seconds.
const PATIENCE: u32 = 6;

/// What goes wrong is tried again at the latest after this time as long as others may have opened our tables.
const OPEN_AT_MOST: Duration = Duration::from_secs(1);

/// Where there is trouble, as it is written.
const NFTABLES: &str = "nftables";
const TABLES: &str = "our tables";

/// Why what should be in force is not.
pub(super) enum Failure {
    /// Somebody changed something: read and plan again.
    Stale,
    /// The kernel refused these.
    Refused(Vec<Refusal>),
    /// It refused these for want of something, which says nothing of them.
    Short(Vec<Refusal>),
    /// It could not be asked.
    Kernel(Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        match error {
            Error::Stale { .. } => Failure::Stale,
            Error::Refused(refusals) if refusals.iter().any(says_nothing_of_the_object) => {
                Failure::Short(refusals)
            }
            Error::Refused(refusals) => Failure::Refused(refusals),
            // The kernel was not asked for these, or for none of them.
            Error::Unfit { object, reason } => Failure::Refused(vec![Refusal {
                object,
                errno: 0,
                text: Some(reason.to_string()),
            }]),
            other => Failure::Kernel(other),
        }
    }
}

/// Whether it is for want of memory, of a permission, or of time.
fn says_nothing_of_the_object(refusal: &Refusal) -> bool {
    use Errno::{EACCES, EAGAIN, EBUSY, EINTR, EMFILE, ENFILE, ENOBUFS, ENOMEM, ENOSPC, EPERM};
    let errno = Errno::from_raw(refusal.errno);
    [
        EACCES, EAGAIN, EBUSY, EINTR, EMFILE, ENFILE, ENOBUFS, ENOMEM, ENOSPC, EPERM,
    ]
    .contains(&errno)
}

impl<S: Source, E: Enforcer, L: Listener> Engine<S, E, L> {
    /// Takes note of what an agent before this one left in force: it stays so until the source is complete.
    pub(super) fn inherit(&mut self) {
        match self.enforcer.read() {
            Ok(found) if !is_strange(&found) => {
                self.inherited = found.ruleset != Ruleset::default();
                self.in_force.ruleset = found.ruleset.clone();
                self.known = Some(Known {
                    ruleset: found.ruleset,
                    generation: found.generation.0,
                });
            }
            Ok(_) => {}
            Err(error) => debug!("what is in force can not be read yet: {}", describe(&error)),
        }
    }

    /// Brings the kernel up to date with the index.
    pub(super) fn sync(&mut self) {
        self.retry.attempted();
        let start = Instant::now();
        self.attempted = Some(start);
        let standings = self.joined.standings().into_values();
        let unknown = standings.filter_map(|standing| match standing {
            Standing::Known(_) => None,
            Standing::Unknown(attachment, _) => Some(attachment),
        });
        self.listener.unknown(&unknown.collect::<Vec<_>>());
        let mut compile = Duration::ZERO;
        let mut last = None;
        for _ in 0..ATTEMPTS {
            let compiling = Instant::now();
            self.index.attach(self.joined.interfaces());
            let update = self.index.update();
            compile += compiling.elapsed();
            self.touched.extend(update.touched);
            match self.bring() {
                Ok(known) => return self.in_force(known, start.elapsed(), compile),
                Err(Failure::Stale) => {
                    self.suspected = true;
                    last = None;
                }
                Err(Failure::Kernel(error)) => {
                    return self.failed((&error).into(), describe(&error));
                }
                // Who asked for it is blamed only when it is never to be had.
                Err(Failure::Short(refusals)) if self.retry.failures() < PATIENCE => {
                    let error = Error::Refused(refusals);
                    return self.failed((&error).into(), describe(&error));
                }
                Err(Failure::Refused(refusals) | Failure::Short(refusals)) => {
                    let message = Error::Refused(refusals.clone()).to_string();
                    if !self.isolate(&refusals) {
                        return self.failed(FailureReason::Refused, message);
                    }
                    last = Some(message);
                }
            }
            // Part of the plan may be in force.
            self.known = None;
        }
        match last {
            Some(message) => self.failed(FailureReason::Refused, message),
            None => {
                let message = format!("others changed our tables during {ATTEMPTS} attempts");
                self.failed(FailureReason::Stale, message);
            }
        }
    }

    /// One attempt.
    fn bring(&mut self) -> Result<Known, Failure> {
        // Those of which nobody knows any more what they may pass lose what they might, before their interfaces are put
        // into quarantine, and where they can not be.
        let wanted = match self.joined.unknown() {
            unknown if unknown.is_empty() => self.index.ruleset().clone(),
            unknown => close(self.index.ruleset(), &unknown),
        };
        let known = match self.known.take() {
            Some(known) => known,
            None => match self.read(&wanted)? {
                Ok(known) => known,
                Err(replaced) => return Ok(replaced),
            },
        };
        let plan = delta(&known.ruleset, &wanted, known.generation);
        debug!(steps = plan.transactions.len(), "plan");
        let generation = self.execute(&plan)?;
        Ok(Known {
            ruleset: wanted,
            generation,
        })
    }

    pub(super) fn execute(&mut self, plan: &policy_compiler::delta::Plan) -> Result<u32, Failure> {
        let done = self.enforcer.execute(plan);
        done.map(|generation| generation.0)
            .map_err(|Halted { error, .. }| error.into())
    }

    /// What our tables hold; or, where there is something in them that is not understood before we have put anything
    /// there, what they were replaced by: it may be another version's, of which each rule may matter.
    fn read(&mut self, wanted: &Ruleset) -> Result<Result<Known, Known>, Failure> {
        let found = self.enforcer.read()?;
        if self.holds() || !is_strange(&found) {
            return Ok(Ok(self.cleaned(found)?));
        }
        let unknown = found.unknown.iter().take(3);
        let unknown: Vec<_> = unknown
            .map(|unknown| format!("{}: {}", unknown.object, unknown.reason))
            .collect();
        info!(
            "our tables are of another version, and are replaced: {}",
            unknown.join("; ")
        );
        let generation = self.enforcer.replace(wanted)?;
        Ok(Err(Known {
            ruleset: wanted.clone(),
            generation: generation.0,
        }))
    }

    /// What was found without what is strange, which is taken out. Notices drift.
    pub(super) fn cleaned(&mut self, found: Found) -> Result<Known, Failure> {
        let mut generation = found.generation;
        if is_strange(&found) {
            // Also if only a part of it goes now.
            self.drifted |= self.holds();
            generation = self.enforcer.remove_unknown(&found)?;
        }
        if self.holds() && self.suspected && !self.drifted {
            let back = delta(&found.ruleset, &self.in_force.ruleset, generation.0);
            self.drifted = !back.transactions.is_empty();
        }
        Ok(Known {
            ruleset: found.ruleset,
            generation: generation.0,
        })
    }

    /// The index is in force.
    fn in_force(&mut self, known: Known, duration: Duration, compile: Duration) {
        let full = !self.ready;
        self.in_force = InForce {
            ruleset: known.ruleset.clone(),
            effective: self.index.effective(),
            closed: self.index.closed().clone(),
            interfaces: Arc::new(self.joined.interfaces()),
            unknown: self.joined.unknown(),
            attachments: Arc::new(self.standings()),
        };
        self.known = Some(known);
        self.ready = true;
        self.closing.clear();
        self.unprotected.clear();
        if full {
            self.forget_stand_in();
        }
        self.news = false;
        self.retry.succeeded();
        if self.refused.is_empty() {
            self.retry_refused.succeeded();
        }
        if self.failure.take().is_some() && self.written.ends(NFTABLES) {
            info!("the kernel is up to date again");
        }
        if full {
            info!(?duration, "in force");
        }
        self.say_budgets();
        self.last_success = Some(SystemTime::now());
        let touched = std::mem::take(&mut self.touched);
        let drifted = self.settle_drift(Instant::now());
        let scope = match (full || drifted, touched.is_empty()) {
            (true, _) => Some(Scope::All),
            (false, true) => None,
            (false, false) => Some(Scope::Addresses(touched)),
        };
        self.publish(scope);
        let since = |seen: Option<Instant>| seen.map(|seen| seen.elapsed());
        let (policy, pod) = (self.seen_policy.take(), self.seen_pod.take());
        self.listener.synced(&Sync {
            full,
            duration,
            compile,
            policy: since(policy),
            pod: since(pod),
        });
    }

    /// How interfaces stand, now that the index is in force.
    fn standings(&self) -> BTreeMap<AttachmentId, Standing> {
        let cluster = self.index.cluster();
        let mut standings = self.joined.standings();
        for standing in standings.values_mut() {
            let Standing::Known(attachment) = standing else {
                continue;
            };
            let pod = &attachment.pod;
            // Pods of two links may have the same link-local address: the rules know one of them by it.
            let is_owner = |address: &&IpAddr| {
                is_link_local(address)
                    || matches!(cluster.owner(**address), Owner::Pod(owner)
                        if owner.id.namespace == pod.namespace && owner.id.name == pod.name)
            };
            let why = match attachment
                .addresses
                .iter()
                .find(|address| !is_owner(address))
            {
                Some(address) => format!("its address {address} is another's"),
                None if attachment.addresses.is_empty() => {
                    "it has no address, by which policies could be enforced".to_owned()
                }
                None => continue,
            };
            *standing = Standing::Unknown(Arc::clone(attachment), why);
        }
        standings
    }

    fn say_budgets(&mut self) {
        let exceeded = self.index.exceeded();
        for (namespace, exceeded) in exceeded {
            let message = exceeded.to_string();
            if !self.over_budget.contains(namespace) && self.written.comes(namespace, &message) {
                error!(
                    ns = %namespace,
                    "its pods keep what was in force, and those for which nothing was send and receive nothing: {message}"
                );
            }
        }
        for namespace in &self.over_budget {
            if !exceeded.contains_key(namespace) && self.written.ends(namespace) {
                info!(ns = %namespace, "within its budget again");
            }
        }
        self.over_budget = exceeded.keys().cloned().collect();
    }

    /// Removes what an interrupted replacement left. Until it is gone it denies what was denied before.
    pub(super) fn forget_stand_in(&mut self) {
        match self.enforcer.remove_stand_in() {
            Ok(generation) => {
                if let Some(known) = &mut self.known {
                    known.generation = generation.0;
                }
                self.retry_stand_in.succeeded();
                self.leftover = None;
            }
            Err(error) => {
                let message = format!(
                    "the tables picket-next, which an interrupted upgrade left, could not be removed and still deny what was denied then: {}",
                    describe(&error)
                );
                if self.leftover.is_none() {
                    error!("{message}");
                }
                self.leftover = Some(message);
                self.retry_stand_in.failed(Instant::now());
                self.known = None;
            }
        }
    }

    fn failed(&mut self, reason: FailureReason, message: String) {
        let now = Instant::now();
        self.retry.failed(now);
        if self.suspected || self.drifted {
            self.retry.due_within(now, OPEN_AT_MOST);
        }
        self.known = None;
        self.unexamined = true;
        // What failed in the same way before was said before.
        if self.failure.as_ref() != Some(&message) && self.written.comes(NFTABLES, &message) {
            error!(
                reason = ?reason,
                "the kernel could not be brought up to date, what was in force stays in force: {message}"
            );
        }
        self.failure = Some(message);
        // Not to be tried again at once: the retry comes by itself, and news will come as news.
        self.news = false;
        self.listener.failed(reason);
    }

    /// Isolates the pods of the policies behind what was refused. Whether there are any more to isolate.
    fn isolate(&mut self, refusals: &[Refusal]) -> bool {
        let mut more = false;
        for refusal in refusals {
            for policy in self.to_blame(&refusal.object) {
                let message = refusal.to_string();
                if self.written.comes(&policy.to_string(), &message) {
                    error!(
                        ns = %policy.namespace,
                        policy = %policy.name,
                        "the kernel refused what the policy asks for, the pods that it selects are isolated and its rules ignored: {message}"
                    );
                }
                self.refused.insert(policy, message);
                more = true;
            }
        }
        if more {
            self.index.isolate(self.refused.keys().cloned().collect());
            // One that waits already is not put off by what others ask for.
            if self.retry_refused.due().is_none() {
                self.retry_refused.failed(Instant::now());
            }
            self.listener.failed(FailureReason::Refused);
        }
        more
    }

    /// The policies to isolate for what was refused: those that changed since it was taken last, else all behind it.
    fn to_blame(&self, object: &Object) -> BTreeSet<PolicyId> {
        let mut behind = self.policies_behind(object);
        behind.retain(|policy| !self.refused.contains_key(policy));
        let (was, is) = (
            &self.in_force.effective.policies,
            &self.index.cluster().policies,
        );
        let changed = behind.iter().filter(|id| was.get(*id) != is.get(*id));
        let changed: BTreeSet<_> = changed.cloned().collect();
        if changed.is_empty() { behind } else { changed }
    }

    fn policies_behind(&self, object: &Object) -> BTreeSet<PolicyId> {
        match object {
            Object::Chain { name, .. }
            | Object::Set { name, .. }
            | Object::Map { name, .. }
            | Object::Rule { chain: name, .. }
            | Object::Element { set: name, .. } => self.index.policies_behind(name),
            Object::Table(_) | Object::Counter { .. } | Object::Other(_) => BTreeSet::new(),
        }
    }

    /// Takes note of what others changed.
    pub(super) fn hear(&mut self, now: Instant) {
        let culprit = match self.enforcer.foreign_changes() {
            Ok(Foreign::Nothing(None)) => return,
            Ok(Foreign::Nothing(Some(generation))) => {
                // Others changed what is theirs, so what we know of ours holds in that generation too.
                if let Some(known) = &mut self.known {
                    known.generation = generation.0;
                }
                return;
            }
            Ok(Foreign::Unknown) => "somebody, since events were lost".to_owned(),
            Ok(Foreign::Objects { objects, program }) => {
                let objects: Vec<_> = objects.iter().map(ToString::to_string).collect();
                let program = program.unwrap_or_else(|| "somebody".to_owned());
                format!("{program} ({})", objects.join(", "))
            }
            Err(error) => format!(
                "somebody, since events could not be read: {}",
                describe(&error)
            ),
        };
        if !self.holds() {
            // Nothing is known yet of what they were and should be.
            if !self.complete && self.failure.is_none() {
                let message = format!(
                    "our tables were changed by {culprit}, and can not be repaired before the source is complete"
                );
                error!("{message}");
                self.failure = Some(message);
            }
            return;
        }
        self.culprit.get_or_insert(culprit);
        self.suspected = true;
        self.known = None;
        self.repairs.drifted(now);
    }

    /// Makes our tables what they were.
    pub(super) fn repair(&mut self) {
        for _ in 0..ATTEMPTS {
            match self.put_back() {
                Ok(()) => {
                    if !self.ready {
                        // What could not be repaired before is.
                        self.failure = None;
                    }
                    if self.settle_drift(Instant::now()) {
                        // Before, there is nothing to judge by yet: it all is when the source is complete.
                        self.publish(self.ready.then_some(Scope::All));
                    }
                    return;
                }
                Err(Failure::Stale) => {}
                Err(Failure::Refused(refusals) | Failure::Short(refusals)) => {
                    return self.repair_failed(&Error::Refused(refusals));
                }
                Err(Failure::Kernel(error)) => return self.repair_failed(&error),
            }
        }
        let error = Error::Changing(ATTEMPTS);
        self.repair_failed(&error);
    }

    /// What could not be repaired is made by a sync, which says what it can not do, and tries again.
    fn repair_failed(&mut self, error: &Error) {
        debug!("a repair failed: {}", describe(error));
        let now = Instant::now();
        self.repairs.repaired(now, true);
        self.known = None;
        self.news = true;
        if self.news_due().is_none() {
            // There will be no sync as yet.
            self.repairs.drifted(now);
            let message = format!(
                "our tables were changed, and can not be repaired: {}",
                describe(error)
            );
            if self.failure.as_ref() != Some(&message) && self.written.comes(TABLES, &message) {
                error!("{message}");
            }
            self.failure = Some(message);
        }
    }

    fn put_back(&mut self) -> Result<(), Failure> {
        let found = self.enforcer.read()?;
        let known = self.cleaned(found)?;
        let wanted = self.in_force.ruleset.clone();
        let plan = delta(&known.ruleset, &wanted, known.generation);
        self.drifted |= !plan.transactions.is_empty();
        let generation = self.execute(&plan)?;
        self.known = Some(Known {
            ruleset: wanted,
            generation,
        });
        Ok(())
    }

    /// Our tables are as they should be. If they were not, it is counted and said, and whether it was so is returned:
    /// then what opened meanwhile is to be judged.
    fn settle_drift(&mut self, now: Instant) -> bool {
        let drifted = std::mem::take(&mut self.drifted);
        let was_suspected = std::mem::take(&mut self.suspected);
        let culprit = self.culprit.take();
        if !was_suspected && !drifted {
            return false;
        }
        let was_alarmed = self.repairs.alarm(now);
        self.repairs.repaired(now, drifted);
        if !drifted {
            return false;
        }
        self.drift_repairs += 1;
        self.last_success = Some(SystemTime::now());
        self.listener.repaired();
        let culprit = culprit.as_deref().unwrap_or("somebody");
        match (was_alarmed, self.repairs.alarm(now)) {
            (false, false) if self.written.comes(TABLES, culprit) => warn!(
                "our tables were changed by {culprit}, and are repaired; open connections are judged again"
            ),
            (false, true) if self.written.comes(TABLES, "alarm") => error!(
                "our tables are changed over and over, last by {culprit}: they are repaired less often now, and pods are open meanwhile"
            ),
            _ => debug!("repaired again after {culprit}"),
        }
        true
    }
}

/// Whether there is something that is not ours. A table of a family that we have none in harms nobody.
fn is_strange(found: &Found) -> bool {
    let mut unknown = found.unknown.iter();
    unknown.any(|unknown| !matches!(unknown.object, Object::Other(_)))
}
