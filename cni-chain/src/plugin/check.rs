//! CHECK: the attachment is as ADD left it.

use std::time::{Duration, Instant};

use super::agent::{self, Outcome};
use super::configuration::Configuration;
use super::environment::Environment;
use super::error::{Code, Error};
use super::host::Host;
use crate::attachment::{Path, Records};
use crate::protocol::Request;
use crate::quarantine::{self, ACTIVE};

/// How long the agent has: one that restarts is back by then.
const PATIENCE: Duration = Duration::from_secs(5);

pub(super) fn check(
    started: Instant,
    configuration: &Configuration<'_>,
    environment: &Environment,
) -> Result<(), Error> {
    let netns = environment.netns()?;
    let Some(pod) = &environment.pod else {
        return Ok(());
    };
    if configuration.exclude_namespaces.contains(&pod.namespace) {
        return Ok(());
    }
    let id = &environment.id;
    let record = Records::new(&configuration.run_dir).read(id);
    let record = record.map_err(|error| {
        Error::of(
            Code::NotInForce,
            "the record of the attachment can not be used",
            &error,
        )
    })?;
    let record = record.ok_or_else(|| wrong(format!("nothing is noted down of {id}")))?;
    let mut host = Host::find(netns, id.interface()).map_err(|error| Error {
        code: Code::NotInForce,
        ..error
    })?;
    let ends = |path: &Path| (path.index(), path.index_held());
    if record.netns_inode != host.netns_inode() || ends(&record.path) != ends(host.path()) {
        return Err(wrong(format!(
            "it was attached by {:?} in namespace {}, and now is by {:?} in {}",
            record.path,
            record.netns_inode,
            host.path(),
            host.netns_inode()
        )));
    }
    match host.group()? {
        // Of somebody else's group nothing can be told.
        Some(group) if group != ACTIVE && quarantine::is_ours(group) => {
            return Err(wrong(format!(
                "its interface is in group {group}, not in {ACTIVE}"
            )));
        }
        _ => {}
    }
    let patience = PATIENCE.min(configuration.timeout);
    let request = |_| Request::Check { id: id.clone() };
    match agent::ask(&configuration.run_dir, request, started + patience) {
        Ok(Outcome::Done) => Ok(()),
        Ok(Outcome::Refused {
            message, details, ..
        }) => Err(Error::new(Code::NotInForce, message, details)),
        Err(unavailable) => Err(wrong(unavailable.to_string())),
    }
}

fn wrong(details: String) -> Error {
    Error::new(
        Code::NotInForce,
        "the policies of the pod are not in force",
        details,
    )
}
