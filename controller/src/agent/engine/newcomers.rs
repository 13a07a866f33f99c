//! Pods that nothing in force knows, while the kernel does not take what is wanted. They would be open: no map has their
//! addresses, or has them with what a pod that is gone may do. So they are closed in what is in force: a few elements,
//! which the kernel most likely takes where it does not take a plan.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use kernel::Error;
use policy_compiler::delta::delta;
use policy_compiler::lower::{close, knows};
use policy_compiler::model::{NamespacedName, Owner, Pod};
use tracing::{error, warn};

use super::apply::{ATTEMPTS, Failure};
use super::{Engine, Known, Listener, Source};
use crate::agent::enforcer::Enforcer;
use crate::agent::error::describe;
use crate::agent::revoke::Scope;

impl<S: Source, E: Enforcer, L: Listener> Engine<S, E, L> {
    /// Closes them, and says so.
    pub(super) fn close_newcomers(&mut self) {
        let newcomers = self.newcomers();
        if newcomers.is_empty() {
            self.unprotected.clear();
            return;
        }
        let pods: BTreeSet<_> = newcomers.values().cloned().collect();
        // What repairs drift puts this back, so it holds whether or not the kernel takes it now.
        self.in_force.ruleset = close(&self.in_force.ruleset, &newcomers);
        self.closing.extend(newcomers);
        let names = pods.iter().map(NamespacedName::to_string);
        let names = names.collect::<Vec<_>>().join(", ");
        if let Err(error) = self.put_closed() {
            if pods != self.unprotected {
                error!(
                    "pods that came since can not be closed, and are open until the kernel is up to date again: {names}: {error}"
                );
            }
            self.unprotected = pods;
            return;
        }
        warn!(
            "pods that came since send and receive nothing until the kernel is up to date again: {names}"
        );
        self.unprotected.clear();
        self.know(&pods);
        let closed = std::mem::take(&mut self.closing);
        if self.ready {
            self.publish(Some(Scope::Addresses(closed.into_keys().collect())));
        }
    }

    /// The addresses of this node's pods that are not known to be theirs.
    fn newcomers(&self) -> BTreeMap<IpAddr, NamespacedName> {
        let is_local =
            |pod: &Pod| pod.is_on_pod_network() && pod.node.as_ref() == Some(&self.settings.node);
        let changes = self.in_force.effective.owner_changes(self.index.cluster());
        let news = changes.filter_map(|(address, old, new)| match (old, new) {
            (_, Owner::Pod(new)) if !is_local(new) => None,
            // Before the first state is in force nothing tells whose an address was.
            (_, Owner::Pod(new)) if !self.ready => {
                let is_known = knows(&self.in_force.ruleset, address);
                let is_waiting = self.closing.contains_key(&address);
                (!is_known || is_waiting).then(|| (address, new.id.clone()))
            }
            (Owner::Pod(old), Owner::Pod(new)) if old.id == new.id && is_local(old) => None,
            (_, Owner::Pod(new)) => Some((address, new.id.clone())),
            _ => None,
        });
        news.collect()
    }

    /// Closes them in our tables as they are.
    fn put_closed(&mut self) -> Result<(), String> {
        for _ in 0..ATTEMPTS {
            let known = match self.known.take() {
                Some(known) => Ok(known),
                None => match self.enforcer.read() {
                    Ok(found) => self.cleaned(found),
                    Err(error) => Err(error.into()),
                },
            };
            let done = known.and_then(|known| {
                let wanted = close(&known.ruleset, &self.closing);
                let plan = delta(&known.ruleset, &wanted, known.generation);
                let generation = self.execute(&plan)?;
                Ok(Known {
                    ruleset: wanted,
                    generation,
                })
            });
            match done {
                Ok(known) => {
                    self.known = Some(known);
                    return Ok(());
                }
                Err(Failure::Stale) => {}
                Err(Failure::Refused(refusals) | Failure::Short(refusals)) => {
                    return Err(Error::Refused(refusals).to_string());
                }
                Err(Failure::Kernel(error)) => return Err(describe(&error)),
            }
        }
        Err(Error::Changing(ATTEMPTS).to_string())
    }

    /// Takes note of who owns what is in force now, and of whom is closed.
    fn know(&mut self, pods: &BTreeSet<NamespacedName>) {
        if !self.ready {
            return;
        }
        let (cluster, in_force) = (self.index.cluster(), &mut self.in_force);
        let changes = in_force.effective.owner_changes(cluster);
        let changes = changes.filter(|(address, ..)| self.closing.contains_key(address));
        let owners = changes.flat_map(|(_, old, new)| [old, new]);
        let ids: BTreeSet<_> = owners
            .filter_map(|owner| match owner {
                Owner::Pod(pod) => Some(pod.id.clone()),
                _ => None,
            })
            .collect();
        for id in ids {
            match cluster.pods.shared(&id) {
                Some(pod) => in_force.effective.add_pod(pod.clone()),
                None => in_force.effective.remove_pod(&id),
            }
        }
        in_force.closed.extend(pods.iter().cloned());
    }
}
