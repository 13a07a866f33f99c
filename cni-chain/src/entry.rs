//! Our entry in a list of plugins, which the installer writes and the plugin reads.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// The plugin's type, which is its binary's name.
pub const TYPE: &str = "picket-cni";

/// The agent's directory, if the entry names none.
pub(crate) const RUN_DIR: &str = "/run/picket";

/// How long the plugin waits for the agent, if the entry does not say.
pub(crate) const TIMEOUT_SECONDS: u64 = 30;

/// The longest time that the plugin may be told to wait for the agent.
pub(crate) const LONGEST_TIMEOUT_SECONDS: u64 = 120;

/// What is done with a pod when the agent can not say that its policies are in force.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum OnAgentUnavailable {
    /// It does not start, and the runtime tries again.
    #[default]
    Block,
    /// It starts without a network, which it gets when the agent is there.
    Quarantine,
    /// It starts, and no policy holds for it until the agent is there.
    Allow,
}

/// The keys of our entry. Only the plugin reads them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// `runDir`: the agent's directory.
    pub run_dir: PathBuf,
    /// `timeoutSeconds`: how long the plugin waits for the agent.
    pub timeout_seconds: u64,
    /// `onAgentUnavailable`
    pub on_agent_unavailable: OnAgentUnavailable,
    /// `logFile`
    pub log_file: Option<PathBuf>,
    /// `excludeNamespaces`: whose pods are let through.
    pub exclude_namespaces: Vec<String>,
    /// `routingNamespaces`: whose pods may send from other addresses than their own.
    pub routing_namespaces: Vec<String>,
}

impl Default for Entry {
    fn default() -> Self {
        Self {
            run_dir: PathBuf::from(RUN_DIR),
            timeout_seconds: TIMEOUT_SECONDS,
            on_agent_unavailable: OnAgentUnavailable::default(),
            log_file: None,
            exclude_namespaces: Vec::new(),
            routing_namespaces: Vec::new(),
        }
    }
}

/// Why an entry would be refused by the plugin.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {value:?} {problem}")]
pub struct InvalidEntry {
    field: &'static str,
    value: String,
    problem: &'static str,
}

impl Entry {
    /// Refuses what the plugin would refuse: with that in a list no pod starts any more.
    ///
    /// # Errors
    /// The first field that is wrong.
    pub fn validate(&self) -> Result<(), InvalidEntry> {
        path("runDir", &self.run_dir)?;
        if let Some(file) = &self.log_file {
            path("logFile", file)?;
        }
        if !(1..=LONGEST_TIMEOUT_SECONDS).contains(&self.timeout_seconds) {
            let value = self.timeout_seconds.to_string();
            return Err(invalid("timeoutSeconds", value, "is not 1 to 120"));
        }
        let of_label =
            |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        for (field, names) in [
            ("excludeNamespaces", &self.exclude_namespaces),
            ("routingNamespaces", &self.routing_namespaces),
        ] {
            let is_name =
                |name: &String| (1..=63).contains(&name.len()) && name.bytes().all(of_label);
            if let Some(name) = names.iter().find(|name| !is_name(name)) {
                let problem = "is no name of a namespace: write lower-case letters, digits and '-'";
                return Err(invalid(field, name.clone(), problem));
            }
        }
        Ok(())
    }

    /// Keys and values, always in the same order.
    pub(crate) fn members(&self) -> Vec<(&'static str, Value)> {
        let mut members = vec![
            ("type", json!(TYPE)),
            ("runDir", json!(self.run_dir)),
            ("timeoutSeconds", json!(self.timeout_seconds)),
            ("onAgentUnavailable", json!(self.on_agent_unavailable)),
        ];
        if let Some(file) = &self.log_file {
            members.push(("logFile", json!(file)));
        }
        if !self.exclude_namespaces.is_empty() {
            members.push(("excludeNamespaces", json!(self.exclude_namespaces)));
        }
        if !self.routing_namespaces.is_empty() {
            members.push(("routingNamespaces", json!(self.routing_namespaces)));
        }
        members
    }

    /// What others can be compared with.
    pub(crate) fn value(&self) -> Value {
        let members = self.members().into_iter();
        members
            .map(|(key, value)| (key.to_owned(), value))
            .collect()
    }
}

fn path(field: &'static str, path: &Path) -> Result<(), InvalidEntry> {
    match path.to_str() {
        Some(text) if path.is_absolute() && !text.contains(char::is_control) => Ok(()),
        _ => {
            let value = path.display().to_string();
            Err(invalid(field, value, "is no absolute path in UTF-8"))
        }
    }
}

fn invalid(field: &'static str, value: String, problem: &'static str) -> InvalidEntry {
    InvalidEntry {
        field,
        value,
        problem,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_plugin_would_refuse_is_no_entry() {
        Entry::default().validate().expect("valid");
        let with = |change: fn(&mut Entry)| {
            let mut entry = Entry::default();
            change(&mut entry);
            entry.validate().expect_err("invalid").to_string()
        };
        assert_eq!(
            with(|entry| entry.run_dir = "run".into()),
            r#"runDir: "run" is no absolute path in UTF-8"#
        );
        with(|entry| entry.log_file = Some("a/b".into()));
        with(|entry| entry.timeout_seconds = 0);
        with(|entry| entry.timeout_seconds = 121);
        with(|entry| entry.exclude_namespaces = vec!["Kube".into()]);
        with(|entry| entry.exclude_namespaces = vec![String::new()]);
        with(|entry| entry.routing_namespaces = vec!["a b".into()]);
    }
}
