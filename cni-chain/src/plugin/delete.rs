//! DEL: the record goes. It never fails, and hardly waits.

use std::time::{Duration, Instant};

use super::agent;
use super::configuration::Configuration;
use super::environment::{Environment, Verb};
use super::error::Error;
use super::host;
use super::log::Log;
use crate::attachment::Records;
use crate::protocol::Request;

/// How long the agent has for an answer. It sees that the record is gone, also without being told.
const PATIENCE: Duration = Duration::from_secs(1);

/// A margin, so that all of it takes no longer than that.
const MARGIN: Duration = Duration::from_millis(100);

pub(super) fn delete(started: Instant, environment: &Result<Environment, Error>, text: &[u8]) {
    let configuration = Configuration::read(text);
    let log = match &configuration {
        Ok(configuration) => Log::to(configuration, Verb::Del, environment),
        Err(_) => Log::to_stderr_only(),
    };
    let run_dir = match &configuration {
        Ok(configuration) => configuration.run_dir.clone(),
        Err(error) => {
            log.event(&format!("DEL: {error}"));
            Configuration::default_run_dir()
        }
    };
    let id = match environment {
        Ok(environment) => &environment.id,
        Err(error) => return log.event(&error.to_string()),
    };
    let records = Records::new(&run_dir);
    let record = records.read(id);
    match records.remove(id) {
        // The second of two, or not a pod's.
        Ok(false) => return log.file_only("nothing is attached"),
        Ok(true) => log.file_only("removed"),
        Err(error) => log.event(&error.to_string()),
    }
    if let Ok(Some(attachment)) = record
        && let Err(error) = host::give_back(&attachment)
    {
        log.file_only(&format!("its interface was not given back: {error}"));
    }
    let request = |_| Request::Detach { id: id.clone() };
    if let Err(error) = agent::ask(&run_dir, request, started + PATIENCE - MARGIN) {
        log.file_only(&format!("the agent was not told: {error}"));
    }
}
