//! What standard input says: our entry in the runtime's list, and what the plugins before us said.

use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;
use serde_json::error::Category;
use serde_json::value::RawValue;

use super::error::{Code, Error};
use crate::entry::{LONGEST_TIMEOUT_SECONDS, OnAgentUnavailable, RUN_DIR, TIMEOUT_SECONDS};
use crate::version::Version;

/// What the plugin is told.
#[derive(Debug)]
pub(super) struct Configuration<'a> {
    pub(super) version: Version,
    pub(super) network: String,
    /// As it came.
    pub(super) previous_result: Option<&'a RawValue>,
    pub(super) run_dir: PathBuf,
    pub(super) timeout: Duration,
    pub(super) on_agent_unavailable: OnAgentUnavailable,
    pub(super) log_file: Option<PathBuf>,
    pub(super) exclude_namespaces: Vec<String>,
    pub(super) routing_namespaces: Vec<String>,
    /// Container and interface of what is attached, if the runtime says so.
    pub(super) valid_attachments: Option<Vec<(String, String)>>,
}

/// The version alone: errors have it too, and VERSION is asked for with whatever.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Preliminary(Option<Version>);

/// Keys as they travel. Others are others'.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Keys<'a> {
    #[serde(default)]
    cni_version: Option<String>,
    #[serde(default)]
    name: String,
    #[serde(borrow, default)]
    prev_result: Option<&'a RawValue>,
    #[serde(default)]
    run_dir: Option<PathBuf>,
    #[serde(default)]
    timeout_seconds: Option<u64>,
    #[serde(default)]
    on_agent_unavailable: Option<OnAgentUnavailable>,
    #[serde(default)]
    log_file: Option<PathBuf>,
    #[serde(default)]
    exclude_namespaces: Option<Vec<String>>,
    #[serde(default)]
    routing_namespaces: Option<Vec<String>>,
    /// The specification's name.
    #[serde(default, rename = "cni.dev/valid-attachments")]
    valid_attachments: Option<Vec<Valid>>,
    /// What the specification said first, and libcni from 1.2.3 on sends too.
    #[serde(default, rename = "cni.dev/attachments")]
    attachments: Option<Vec<Valid>>,
}

#[derive(Deserialize)]
struct Valid {
    #[serde(rename = "containerID")]
    container_id: String,
    ifname: String,
}

impl Preliminary {
    pub(super) fn read(text: &[u8]) -> Self {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Versioned {
            cni_version: String,
        }
        let read = serde_json::from_slice::<Versioned>(text).ok();
        Self(read.and_then(|read| Version::parse(&read.cni_version)))
    }

    pub(super) fn version_or_default(self) -> Version {
        self.0.unwrap_or_default()
    }
}

impl<'a> Configuration<'a> {
    pub(super) fn read(text: &'a [u8]) -> Result<Self, Error> {
        // serde would take a list for the keys in their order.
        if text.trim_ascii_start().starts_with(b"[") {
            return Err(not_valid("standard input", "it is an object"));
        }
        let keys: Keys<'a> = serde_json::from_slice(text).map_err(|error| {
            let (code, message) = match error.classify() {
                Category::Data => (Code::Configuration, "the configuration is not valid"),
                _ => (Code::Decode, "standard input is not JSON"),
            };
            Error::of(code, message, &error)
        })?;
        // As libcni has it: without a version it is the first.
        let version = keys.cni_version.as_deref().unwrap_or("0.1.0");
        let version = Version::parse(version).ok_or_else(|| {
            Error::new(
                Code::Version,
                format!("cniVersion {version:?} is not supported"),
                format!(
                    "supported are {}",
                    Version::ALL.map(Version::text).join(", ")
                ),
            )
        })?;
        let timeout = keys.timeout_seconds.unwrap_or(TIMEOUT_SECONDS);
        if !(1..=LONGEST_TIMEOUT_SECONDS).contains(&timeout) {
            let range = format!("it is from 1 to {LONGEST_TIMEOUT_SECONDS}");
            return Err(not_valid("timeoutSeconds", &range));
        }
        let run_dir = keys.run_dir.unwrap_or_else(|| RUN_DIR.into());
        for (key, path) in [
            ("runDir", Some(&run_dir)),
            ("logFile", keys.log_file.as_ref()),
        ] {
            if path.is_some_and(|path| !path.is_absolute()) {
                return Err(not_valid(key, "it is an absolute path"));
            }
        }
        let valid = keys.valid_attachments.or(keys.attachments);
        Ok(Self {
            version,
            network: keys.name,
            previous_result: keys.prev_result,
            run_dir,
            timeout: Duration::from_secs(timeout),
            on_agent_unavailable: keys.on_agent_unavailable.unwrap_or_default(),
            log_file: keys.log_file,
            exclude_namespaces: keys.exclude_namespaces.unwrap_or_default(),
            routing_namespaces: keys.routing_namespaces.unwrap_or_default(),
            valid_attachments: valid.map(|all| {
                all.into_iter()
                    .map(|one| (one.container_id, one.ifname))
                    .collect()
            }),
        })
    }

    /// Where records are if nobody can read what is said of it.
    pub(super) fn default_run_dir() -> PathBuf {
        RUN_DIR.into()
    }
}

fn not_valid(key: &str, expected: &str) -> Error {
    Error::new(Code::Configuration, format!("{key} is not valid"), expected)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn refused(text: &str, code: Code, words: &str) {
        let error = Configuration::read(text.as_bytes()).expect_err(text);
        assert_eq!(error.code, code, "{error}");
        assert!(error.to_string().contains(words), "{error}");
    }

    #[test]
    fn keys_have_defaults_and_unknown_ones_are_others() {
        let text = r#"{"cniVersion":"1.0.0","name":"k8s","type":"picket-cni","capabilities":{"portMappings":true},"prevResult": {"mac" : "0"} }"#;
        let read = Configuration::read(text.as_bytes()).expect("valid");
        assert_eq!(read.run_dir, PathBuf::from("/run/picket"));
        assert_eq!(read.timeout, Duration::from_secs(30));
        assert_eq!(read.on_agent_unavailable, OnAgentUnavailable::Block);
        assert_eq!(
            read.previous_result.map(RawValue::get),
            Some(r#"{"mac" : "0"}"#)
        );
        assert_eq!(read.valid_attachments, None);
        let text = r#"{"cniVersion":"1.1.0","name":"k8s","prevResult":null,"cni.dev/valid-attachments":null,"cni.dev/attachments":[{"containerID":"a","ifname":"eth0"}],"onAgentUnavailable":"quarantine"}"#;
        let read = Configuration::read(text.as_bytes()).expect("valid");
        assert!(read.previous_result.is_none());
        assert_eq!(
            read.valid_attachments,
            Some(vec![("a".into(), "eth0".into())])
        );
        assert_eq!(read.on_agent_unavailable, OnAgentUnavailable::Quarantine);
    }

    #[test]
    fn what_is_wrong_has_the_code_of_its_kind() {
        refused("", Code::Decode, "not JSON");
        refused("{", Code::Decode, "not JSON");
        refused("{\"name\":\"\u{fffd}", Code::Decode, "not JSON");
        refused("{}", Code::Version, "0.1.0");
        refused(r#"{"cniVersion":"2.0.0"}"#, Code::Version, "1.1.0");
        refused(" []", Code::Configuration, "an object");
        refused(r#"["1.0.0","k8s"]"#, Code::Configuration, "an object");
        refused("7", Code::Configuration, "");
        refused(r#"{"cniVersion":7}"#, Code::Configuration, "");
        let with = |keys: &str| format!(r#"{{"cniVersion":"1.1.0",{keys}}}"#);
        for (keys, words) in [
            (r#""timeoutSeconds":0"#, "1 to 120"),
            (r#""timeoutSeconds":121"#, "1 to 120"),
            (r#""timeoutSeconds":"5""#, "invalid type"),
            (r#""onAgentUnavailable":"open""#, "quarantine"),
            (r#""runDir":"run""#, "runDir"),
            (r#""logFile":"""#, "logFile"),
            (r#""cni.dev/attachments":[{"containerID":"a"}]"#, "ifname"),
        ] {
            refused(&with(keys), Code::Configuration, words);
        }
    }
}
