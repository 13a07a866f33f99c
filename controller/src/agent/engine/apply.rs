//! Plans, carried out by the kernel, and what becomes of those that it does not take.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime};

use kernel::{Error, Generation, Halted, Object, Refusal};
use policy_compiler::delta::delta;
use policy_compiler::model::PolicyId;
use policy_compiler::ruleset::Ruleset;
use tokio::time::Instant;
use tracing::{debug, error, info, warn};

use super::{Engine, InForce, Known, Listener, Source, Sync};
use crate::agent::enforcer::{Enforcer, Foreign};
use crate::agent::metrics::FailureReason;
use crate::agent::revoke::Scope;

/// So often others may change nftables under our hands, or the kernel may refuse something else, before we wait.
const ATTEMPTS: usize = 10;

/// Why what should be in force is not.
enum Failure {
    /// Somebody changed something: read and plan again.
    Stale,
    /// The kernel refused these.
    Refused(Vec<Refusal>),
    /// It could not be asked.
    Kernel(Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        match error {
            Error::Stale { .. } => Failure::Stale,
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

impl<S: Source, E: Enforcer, L: Listener> Engine<S, E, L> {
    /// Brings the kernel up to date with the index.
    pub(super) fn sync(&mut self) {
        self.retry.attempted();
        let start = Instant::now();
        let mut compile = Duration::ZERO;
        let mut last = None;
        for _ in 0..ATTEMPTS {
            let compiling = Instant::now();
            let update = self.index.update();
            compile += compiling.elapsed();
            self.touched.extend(update.touched);
            match self.bring() {
                Ok(known) => return self.in_force(known, start.elapsed(), compile),
                Err(Failure::Stale) => last = None,
                Err(Failure::Kernel(error)) => {
                    return self.failed((&error).into(), describe(&error));
                }
                Err(Failure::Refused(refusals)) => {
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
        let wanted = self.index.ruleset().clone();
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

    fn execute(&mut self, plan: &policy_compiler::delta::Plan) -> Result<u32, Failure> {
        let done = self.enforcer.execute(plan);
        done.map(|generation| generation.0)
            .map_err(|Halted { error, .. }| error.into())
    }

    /// What our tables hold; or, where there is something in them that is not understood before we have put anything
    /// there, what they were replaced by: it may be another version's, of which each rule may matter.
    fn read(&mut self, wanted: &Ruleset) -> Result<Result<Known, Known>, Failure> {
        let found = self.enforcer.read()?;
        let known = |generation: Generation, ruleset| Known {
            ruleset,
            generation: generation.0,
        };
        if found.unknown.is_empty() {
            return Ok(Ok(known(found.generation, found.ruleset)));
        }
        if self.ready {
            let generation = self.enforcer.remove_unknown(&found)?;
            return Ok(Ok(known(generation, found.ruleset)));
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
        Ok(Err(known(generation, wanted.clone())))
    }

    /// The index is in force.
    fn in_force(&mut self, known: Known, duration: Duration, compile: Duration) {
        let full = !self.ready;
        self.in_force = InForce {
            ruleset: known.ruleset.clone(),
            effective: self.index.effective(),
            closed: self.index.closed().clone(),
        };
        self.known = Some(known);
        if full {
            self.forget_stand_in();
        }
        self.ready = true;
        self.news = false;
        self.retry.succeeded();
        if self.refused.is_empty() {
            self.retry_refused.succeeded();
        }
        if self.failure.take().is_some() {
            info!("the kernel is up to date again");
        }
        if full {
            info!(?duration, "in force");
        }
        self.last_success = Some(SystemTime::now());
        let touched = std::mem::take(&mut self.touched);
        let scope = match (full, touched.is_empty()) {
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

    fn forget_stand_in(&mut self) {
        match self.enforcer.remove_stand_in() {
            Ok(generation) => {
                if let Some(known) = &mut self.known {
                    known.generation = generation.0;
                }
            }
            // It denies what was denied before, so that it only stays too strict.
            Err(error) => {
                warn!(
                    "what an interrupted upgrade left could not be removed: {}",
                    describe(&error)
                );
                self.known = None;
            }
        }
    }

    fn failed(&mut self, reason: FailureReason, message: String) {
        let now = Instant::now();
        self.retry.failed(now);
        self.known = None;
        // What failed in the same way before was said before.
        if self.failure.as_ref() != Some(&message) {
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
            for policy in self.policies_behind(&refusal.object) {
                if self.refused.contains_key(&policy) {
                    continue;
                }
                error!(
                    ns = %policy.namespace,
                    policy = %policy.name,
                    "the kernel refused what the policy asks for, the pods that it selects are isolated and its rules ignored: {refusal}"
                );
                self.refused.insert(policy, refusal.to_string());
                more = true;
            }
        }
        if more {
            self.index.isolate(self.refused.keys().cloned().collect());
            self.retry_refused.failed(Instant::now());
            self.listener.failed(FailureReason::Refused);
        }
        more
    }

    fn policies_behind(&self, object: &Object) -> BTreeSet<PolicyId> {
        match object {
            Object::Chain { name, .. }
            | Object::Set { name, .. }
            | Object::Map { name, .. }
            | Object::Rule { chain: name, .. }
            | Object::Element { set: name, .. } => self.index.policies_behind(name),
            Object::Table(_) | Object::Other(_) => BTreeSet::new(),
        }
    }

    /// Takes note of what others changed.
    pub(super) fn hear(&mut self, now: Instant) {
        let culprit = match self.enforcer.foreign_changes() {
            Ok(Foreign::Nothing) => return,
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
        self.culprit.get_or_insert(culprit);
        // Before the first sync there is nothing of ours to repair, and that reads.
        if self.ready {
            self.repairs.drifted(now);
        }
    }

    /// Makes our tables what they were.
    pub(super) fn repair(&mut self) {
        let start = Instant::now();
        let culprit = self.culprit.take();
        for _ in 0..ATTEMPTS {
            match self.repaired() {
                Ok(changed) => {
                    let was_alarmed = self.repairs.alarm(start);
                    self.repairs.repaired(Instant::now(), changed);
                    if !changed {
                        return;
                    }
                    self.drift_repairs += 1;
                    self.listener.repaired();
                    let culprit = culprit.as_deref().unwrap_or("somebody");
                    let took = start.elapsed();
                    match (was_alarmed, self.repairs.alarm(Instant::now())) {
                        (false, false) => warn!(
                            ?took,
                            "our tables were changed by {culprit}, and are repaired; open connections are judged again"
                        ),
                        (false, true) => error!(
                            "our tables are changed over and over, last by {culprit}: they are repaired less often now, and pods are open meanwhile"
                        ),
                        (true, _) => debug!(?took, "repaired again after {culprit}"),
                    }
                    return self.publish(Some(Scope::All));
                }
                Err(Failure::Stale) => {}
                Err(Failure::Refused(refusals)) => {
                    return self.repair_failed(Error::Refused(refusals));
                }
                Err(Failure::Kernel(error)) => return self.repair_failed(error),
            }
        }
        // Again after a wait.
        self.repairs.repaired(Instant::now(), true);
        self.repairs.drifted(Instant::now());
        self.known = None;
    }

    /// What could not be repaired is made anew by a sync, which says what it can not do.
    fn repair_failed(&mut self, error: Error) {
        self.repairs.repaired(Instant::now(), true);
        self.known = None;
        self.news = true;
        debug!("a repair failed: {}", describe(&error));
    }

    /// Whether anything was not as it should be.
    fn repaired(&mut self) -> Result<bool, Failure> {
        let found = self.enforcer.read()?;
        // A table of a family that we have none in harms nobody.
        let strange = |unknown: &&kernel::Unknown| !matches!(unknown.object, Object::Other(_));
        let is_strange = found.unknown.iter().any(|unknown| strange(&unknown));
        let mut generation = found.generation;
        if is_strange {
            generation = self.enforcer.remove_unknown(&found)?;
        }
        let wanted = self.in_force.ruleset.clone();
        let plan = delta(&found.ruleset, &wanted, generation.0);
        let changed = is_strange || !plan.transactions.is_empty();
        let generation = self.execute(&plan)?;
        self.known = Some(Known {
            ruleset: wanted,
            generation,
        });
        Ok(changed)
    }
}

/// The error with its causes.
fn describe(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(&format!(": {cause}"));
        source = cause.source();
    }
    text
}
