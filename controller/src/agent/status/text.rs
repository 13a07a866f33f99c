//! The status for a person.

use std::fmt;

use super::{Status, is_note};

impl fmt::Display for Status {
    /// A summary, then a line for each thing that is wrong.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match (self.ready, self.well) {
            (false, _) => "not ready",
            (true, false) => "ready, with problems",
            (true, true) => "ready",
        };
        writeln!(f, "node {}: {state}", self.node)?;
        let counts = &self.counts;
        writeln!(
            f,
            "  objects     {} policies, {} pods ({} on this node), {} namespaces, {} nodes",
            counts.policies, counts.pods, counts.local_pods, counts.namespaces, counts.nodes
        )?;
        let success = self.last_success.as_deref().unwrap_or("never");
        writeln!(
            f,
            "  in force    generation {}, last equal to the objects {success}",
            self.generation
        )?;
        let alarm = if self.drift.alarm {
            ": somebody changes our tables over and over"
        } else {
            ""
        };
        writeln!(f, "  drift       {} repairs{alarm}", self.drift.repairs)?;
        let revocation = &self.revocation;
        writeln!(
            f,
            "  connections {} cut, {} allowed again",
            revocation.revoked, revocation.relaxed
        )?;
        writeln!(f, "  version     {}", self.version)?;
        if let Some(why) = &self.unready {
            problem(f, "not ready", why)?;
        } else if let Some(failure) = &self.failure {
            problem(f, "not applied", failure)?;
        }
        for (what, pods, effect) in [
            (
                "closed",
                &self.closed,
                "they came meanwhile, and send and receive nothing",
            ),
            (
                "open",
                &self.unprotected,
                "they came meanwhile, and nothing is enforced for them",
            ),
        ] {
            if !pods.is_empty() {
                problem(f, what, &format!("{}: {effect}", pods.join(", ")))?;
            }
        }
        for of in &self.quarantined {
            let who = of.pod.as_deref().unwrap_or("somebody");
            problem(
                f,
                "quarantine",
                &format!("{who}: passes nothing: {}", of.why),
            )?;
        }
        for of in &self.problems {
            let effect = if of.blocks {
                "blocks the start"
            } else {
                "what was in force of it stays"
            };
            problem(
                f,
                "source",
                &format!("{}: {} ({effect})", of.of, of.message),
            )?;
        }
        for refused in &self.refused {
            let effect = "it isolates its pods and allows nothing";
            problem(
                f,
                "refused",
                &format!(
                    "NetworkPolicy {}: {} ({effect})",
                    refused.policy, refused.error
                ),
            )?;
        }
        for over in &self.over_budget {
            problem(f, "over budget", &over.message)?;
            if !over.closed.is_empty() {
                problem(
                    f,
                    "closed",
                    &format!("{}: they send and receive nothing", over.closed.join(", ")),
                )?;
            }
        }
        if let Some(failure) = &revocation.failure {
            problem(f, "not revoked", failure)?;
        }
        if let Some(overwritten) = &revocation.overwritten {
            problem(f, "not revoked", overwritten)?;
        }
        let (notes, wrong): (Vec<_>, Vec<_>) =
            self.preflight.iter().partition(|finding| is_note(finding));
        for finding in wrong {
            problem(f, "preflight", finding)?;
        }
        for note in notes {
            writeln!(f, "  {note}")?;
        }
        Ok(())
    }
}

/// Each line of a text by itself, so that nothing in it can look like another problem.
fn problem(f: &mut fmt::Formatter<'_>, what: &str, text: &str) -> fmt::Result {
    for line in text.lines() {
        writeln!(f, "! {what}: {}", line)?;
    }
    Ok(())
}
