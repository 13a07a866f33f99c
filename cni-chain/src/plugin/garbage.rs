//! GC: records of this network that the runtime no longer knows go.

use std::collections::BTreeSet;

use super::configuration::Configuration;
use super::error::{Code, Error};
use super::log::Log;
use crate::attachment::Records;

pub(super) fn collect(configuration: &Configuration<'_>, log: &Log) -> Result<(), Error> {
    // libcni that was given no list sends none, which says nothing. An empty one says that nothing is attached.
    let Some(valid) = &configuration.valid_attachments else {
        return Ok(());
    };
    let valid: BTreeSet<_> = valid
        .iter()
        .map(|(container, interface)| (container.as_str(), interface.as_str()))
        .collect();
    let records = Records::new(&configuration.run_dir);
    let failed = |error: &dyn std::error::Error| {
        Error::of(Code::Io, "what is attached can not be cleaned up", error)
    };
    let (listed, unread) = records.list().map_err(|error| failed(&error))?;
    for error in unread {
        log.event(&format!("left as it is: {error}"));
    }
    let mut outcome = Ok(());
    for of in listed {
        let known = valid.contains(&(of.id.container_id(), of.id.interface()));
        if of.network != configuration.network || known {
            continue;
        }
        match records.remove(&of.id) {
            Ok(_) => log.event(&format!(
                "removed the record of {}, which is no longer attached",
                of.id
            )),
            // The others go all the same.
            Err(error) => outcome = Err(failed(&error)),
        }
    }
    outcome
}
