//! The difference in sentences.

use std::fmt;

use policy_compiler::model::PolicyId;
use policy_compiler::reach::{Cause, Effect, Role, Status};

use super::{Elsewhere, Flows, PodChange, Report, Side};

/// How many names of one side are written out.
const NAMES: usize = 6;

impl fmt::Display for Report {
    /// A paragraph for each set of flows, the pods that only one side has, and a summary.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for flows in &self.flows {
            flows.fmt(f)?;
        }
        for pod in &self.pods {
            pod.fmt(f)?;
        }
        let count = |effect| {
            self.flows
                .iter()
                .filter(|flows| flows.effect == effect)
                .count()
        };
        let counts = [
            sets(count(Effect::Closes), "closes", "close"),
            sets(count(Effect::Opens), "opens", "open"),
        ];
        let counts: Vec<_> = counts.into_iter().flatten().collect();
        if counts.is_empty() {
            write!(f, "No flow opens or closes")?;
        } else {
            f.write_str(&counts.join(", "))?;
        }
        let policies = [Status::Added, Status::Removed, Status::Changed].map(|status| {
            let changes = self.policies.iter();
            (
                status,
                changes.filter(|change| change.status == status).count(),
            )
        });
        for (status, count) in policies.into_iter().filter(|(_, count)| *count > 0) {
            let noun = if count == 1 { "policy" } else { "policies" };
            write!(f, "; {count} {noun} {}", word(status))?;
        }
        writeln!(f, ".")
    }
}

fn sets(count: usize, one: &str, many: &str) -> Option<String> {
    match count {
        0 => None,
        1 => Some(format!("1 set of flows {one}")),
        count => Some(format!("{count} sets of flows {many}")),
    }
}

fn word(status: Status) -> &'static str {
    match status {
        Status::Added => "added",
        Status::Removed => "removed",
        Status::Changed => "changed",
        Status::Unchanged => "unchanged",
    }
}

impl fmt::Display for Flows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let effect = match self.effect {
            Effect::Closes => "closes",
            Effect::Opens => "opens ",
        };
        write!(
            f,
            "{effect}  {} -> {}  {}",
            self.from, self.to, self.transports
        )?;
        if let Some(family) = self.family {
            write!(f, " ({family} only)")?;
        }
        writeln!(f)?;
        let example = &self.example;
        write!(
            f,
            "        example: {} {} {}",
            example.from, example.to, example.port
        )?;
        if let Some(family) = example.family {
            write!(f, " --family {}", family.to_string().to_lowercase())?;
        }
        writeln!(f)?;
        for cause in &self.causes {
            write!(f, "        because {}", Because(cause))?;
            if cause.transports != self.transports {
                write!(f, ", of it {}", cause.transports)?;
            }
            writeln!(f)?;
        }
        if self.causes.is_empty() {
            writeln!(
                f,
                "        because the pods, their namespaces or nodes are different"
            )?;
        }
        Ok(())
    }
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = self.names.len().min(NAMES);
        f.write_str(&self.names[..shown].join(", "))?;
        match self.names.len() - shown {
            0 => Ok(()),
            more => write!(f, " and {more} more"),
        }
    }
}

struct Because<'a>(&'a Cause);

impl fmt::Display for Because<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Cause {
            policy,
            status,
            direction,
            role,
            transports: _,
        } = self.0;
        let does = match role {
            Role::Isolates => format!("isolates the pods for {direction}"),
            Role::NoLongerIsolates => format!("no longer isolates the pods for {direction}"),
            Role::Allows => format!("allows it for {direction}"),
            Role::NoLongerAllows => format!("no longer allows it for {direction}"),
        };
        let note = match status {
            Status::Unchanged => "; pods, namespaces or nodes are different",
            _ => "",
        };
        write!(f, "{policy} ({}{note}) {does}", word(*status))
    }
}

impl fmt::Display for PodChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let side = |policies: &[PolicyId]| {
            if policies.is_empty() {
                return "open".to_owned();
            }
            let policies: Vec<_> = policies.iter().map(ToString::to_string).collect();
            format!("isolated by {}", policies.join(", "))
        };
        writeln!(
            f,
            "{:<7} pod {}{}: ingress {}; egress {}",
            word(self.status),
            self.pod,
            match (self.elsewhere, self.status) {
                (Elsewhere::Nowhere, _) => "",
                (Elsewhere::HostNetwork, Status::Removed) =>
                    ", which now has its node's network, where no policy applies; it was",
                (Elsewhere::HostNetwork, _) => ", which had its node's network; it is now",
                (Elsewhere::Ended, Status::Removed) => ", which has ended; it was",
                (Elsewhere::Ended, _) => ", which had ended; it is now",
            },
            side(&self.ingress_isolated_by),
            side(&self.egress_isolated_by)
        )
    }
}
