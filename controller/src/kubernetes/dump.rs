//! A cluster as manifests, for the commands that read files else.

use std::collections::BTreeSet;

use kube::Config;
use kube::config::{KubeConfigOptions, Kubeconfig};
use serde::Deserialize;
use serde_json::{Map, Value};
use std::path::Path;

use super::error::chain;
use super::resource::escape;
use super::{Client, Error, Lines};

/// So many objects are in a page.
const LIMIT: u32 = 500;

/// Until a page is there.
const PAGE: std::time::Duration = std::time::Duration::from_secs(60);

/// Until a connection, and the answer about one object, is there.
const CONNECT: std::time::Duration = std::time::Duration::from_secs(10);
const ANSWER: std::time::Duration = std::time::Duration::from_secs(30);

/// A kind that commands read.
struct Kind {
    name: &'static str,
    api_version: &'static str,
    path: &'static str,
    /// Whether nothing can be said without it.
    is_needed: bool,
}

const KINDS: [Kind; 5] = [
    Kind::new("Namespace", "v1", "/api/v1/namespaces", true),
    Kind::new("Node", "v1", "/api/v1/nodes", true),
    Kind::new("Pod", "v1", "/api/v1/pods", true),
    Kind::new(
        "NetworkPolicy",
        "networking.k8s.io/v1",
        "/apis/networking.k8s.io/v1/networkpolicies",
        true,
    ),
    // Only `lint` asks for their addresses.
    Kind::new("Service", "v1", "/api/v1/services", false),
];

impl Kind {
    const fn new(
        name: &'static str,
        api_version: &'static str,
        path: &'static str,
        is_needed: bool,
    ) -> Self {
        Self {
            name,
            api_version,
            path,
            is_needed,
        }
    }
}

/// An object by kind, namespace and name.
pub type Id = (String, Option<String>, String);

/// Why a cluster cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum DumpError {
    /// There is no kubeconfig that names one, and this is no pod.
    #[error("no cluster is named: {0}")]
    Config(String),
    /// The API server does not give what it was asked for.
    #[error("{kind}: {error}")]
    Api {
        /// What it was asked for.
        kind: &'static str,
        /// What it said.
        error: Error,
    },
}

/// A cluster's objects.
#[derive(Clone, Debug)]
pub struct Dump {
    /// Each page with a name for messages.
    pages: Vec<(String, Vec<Map<String, Value>>)>,
    /// What could not be read and is not needed.
    pub notes: Vec<String>,
}

#[derive(Deserialize)]
struct Page {
    metadata: PageMetadata,
    /// Go writes an empty list as null.
    items: Option<Vec<Map<String, Value>>>,
}

#[derive(Default, Deserialize)]
struct PageMetadata {
    #[serde(default)]
    r#continue: String,
}

/// Where the user's kubeconfig, or the pod that this runs in, says that the API server is: `--kubeconfig`, else
/// `KUBECONFIG` with all its files, else `~/.kube/config`, else the pod's account.
async fn config(kubeconfig: Option<&Path>, context: Option<&str>) -> Result<Config, DumpError> {
    let wrong = |error: &dyn std::error::Error| DumpError::Config(chain(error));
    let options = KubeConfigOptions {
        context: context.map(str::to_owned),
        ..KubeConfigOptions::default()
    };
    match read(kubeconfig) {
        Ok(kubeconfig) => {
            let config = Config::from_custom_kubeconfig(kubeconfig, &options).await;
            config.map_err(|error| wrong(&error))
        }
        Err(error) if kubeconfig.is_some() || context.is_some() => Err(wrong(&error)),
        Err(error) => Config::incluster().map_err(|_| wrong(&error)),
    }
}

/// A client as whom the user's kubeconfig, or the pod that this runs in, says, for who asks for single objects.
///
/// # Errors
/// No cluster is named, or what names it cannot be read.
pub async fn connect(
    kubeconfig: Option<&Path>,
    context: Option<&str>,
) -> Result<kube::Client, DumpError> {
    let mut config = config(kubeconfig, context).await?;
    // Who asks tries again.
    config.connect_timeout = Some(CONNECT);
    config.read_timeout = Some(ANSWER);
    let client = kube::Client::try_from(config);
    client.map_err(|error| DumpError::Config(chain(&error)))
}

fn read(kubeconfig: Option<&Path>) -> Result<Kubeconfig, kube::config::KubeconfigError> {
    match kubeconfig {
        Some(path) => Kubeconfig::read_from(path),
        None => Kubeconfig::read(),
    }
}

/// The namespace that the context names, if it does.
pub fn context_namespace(kubeconfig: Option<&Path>, context: Option<&str>) -> Option<String> {
    let kubeconfig = read(kubeconfig).ok()?;
    let current = kubeconfig.current_context.as_deref();
    let name = context.or(current)?;
    let mut contexts = kubeconfig.contexts.iter();
    let named = contexts.find(|named| named.name == name)?;
    let namespace = named.context.as_ref()?.namespace.clone();
    namespace.filter(|namespace| !namespace.is_empty())
}

impl Dump {
    /// Lists the cluster of the user's kubeconfig.
    ///
    /// # Errors
    /// What cannot be read, and why.
    pub async fn take(kubeconfig: Option<&Path>, context: Option<&str>) -> Result<Self, DumpError> {
        let config = config(kubeconfig, context).await?;
        let client = kube::Client::try_from(config);
        let client = client.map_err(|error| DumpError::Config(chain(&error)))?;
        let client = Client::fixed(client);
        let mut dump = Self {
            pages: Vec::new(),
            notes: Vec::new(),
        };
        for kind in &KINDS {
            match dump.list(&client, kind).await {
                Ok(()) => {}
                Err(error) if kind.is_needed => {
                    let kind = kind.name;
                    return Err(DumpError::Api { kind, error });
                }
                Err(error) => dump.notes.push(format!(
                    "{}s are not known, of which only lint speaks: {error}",
                    kind.name
                )),
            }
        }
        Ok(dump)
    }

    async fn list(&mut self, client: &Client, kind: &Kind) -> Result<(), Error> {
        let mut next = String::new();
        for number in 1.. {
            let mut path = format!("{}?limit={LIMIT}", kind.path);
            if !next.is_empty() {
                path.push_str("&continue=");
                escape(&mut path, &next);
            }
            let answer: Lines = client.get(&path).await?;
            let bytes = answer.all(PAGE).await?;
            let page: Page = serde_json::from_slice(&bytes)
                .map_err(|error| Error::Unreadable(error.to_string()))?;
            let items = page.items.unwrap_or_default().into_iter();
            let items = items.map(|item| complete(item, kind)).collect();
            self.pages.push((format!("{}#{number}", kind.path), items));
            next = page.metadata.r#continue;
            if next.is_empty() {
                break;
            }
        }
        Ok(())
    }

    /// As manifests, each with a name for messages, without some objects.
    pub fn manifests(&self, without: &BTreeSet<Id>) -> Vec<(String, Vec<u8>)> {
        let pages = self.pages.iter().map(|(name, items)| {
            let items = items.iter().filter(|item| !without.contains(&id(item)));
            let items: Vec<_> = items.collect();
            let list = serde_json::json!({"apiVersion": "v1", "kind": "List", "items": items});
            (name.clone(), list.to_string().into_bytes())
        });
        pages.collect()
    }
}

/// Items of a list do not say what they are. Who wrote which field is half of an object, and nobody asks.
fn complete(mut item: Map<String, Value>, kind: &Kind) -> Map<String, Value> {
    item.insert("kind".to_owned(), kind.name.into());
    item.insert("apiVersion".to_owned(), kind.api_version.into());
    if let Some(Value::Object(metadata)) = item.get_mut("metadata") {
        metadata.remove("managedFields");
    }
    item
}

fn id(item: &Map<String, Value>) -> Id {
    let text = |value: Option<&Value>| value.and_then(Value::as_str).map(str::to_owned);
    let metadata = item.get("metadata");
    let of = |name| text(metadata.and_then(|metadata| metadata.get(name)));
    (
        text(item.get("kind")).unwrap_or_default(),
        of("namespace"),
        of("name").unwrap_or_default(),
    )
}
