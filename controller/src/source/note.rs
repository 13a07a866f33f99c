//! What was assumed.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;

use super::origin::{ObjectRef, OneLine};

/// Something that the input does not say, and what was made of it. None of these is an error.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Note {
    /// A folder without a manifest.
    EmptyFolder {
        /// The folder.
        path: PathBuf,
    },
    /// A kind that restricts traffic and that picket does not evaluate: verdicts may be too open.
    NotEvaluated {
        /// Kind and group, `CiliumNetworkPolicy.cilium.io`.
        kind: String,
        /// How many objects.
        count: usize,
    },
    /// A kind that has nothing to do with network policy.
    Skipped {
        /// Kind and group, `Deployment.apps`; the core group is empty.
        kind: String,
        /// How many objects.
        count: usize,
    },
    /// Fields under `status` that this version of the API does not have were left out.
    UnknownStatus {
        /// Kind and field, `Node status.declaredFeatures`.
        fields: Vec<String>,
        /// In how many objects.
        count: usize,
    },
    /// An object with `generateName` alone was given a name.
    NameMadeUp {
        /// The object, with that name.
        object: ObjectRef,
    },
    /// A cluster-scoped object has a namespace, which the API server removes
    /// (EnsureObjectNamespaceMatchesRequestNamespace).
    NamespaceLeftOut {
        /// The object.
        object: ObjectRef,
        /// The namespace as given.
        namespace: String,
    },
    /// An object without a namespace was taken to be in `default`.
    DefaultNamespace {
        /// The object.
        object: ObjectRef,
    },
    /// An object names a namespace that is not given.
    NamespaceMadeUp {
        /// The namespace.
        name: String,
    },
    /// A pod names a node that is not given, or there is no node at all.
    NodeMadeUp {
        /// The node.
        name: String,
    },
    /// A node without addresses was given some.
    NodeAddressed {
        /// The node.
        name: String,
        /// Its addresses.
        addresses: Vec<IpAddr>,
        /// Whether they are the host addresses that its pods tell, and so true.
        from_pods: bool,
    },
    /// Pods that stand for a workload.
    StandIn {
        /// The workload.
        workload: ObjectRef,
        /// The names of the pods, in its namespace.
        pods: Vec<String>,
    },
    /// An address that no packet of a pod can have. The API server takes it: its validation of podIPs asks only for the
    /// syntax of an address.
    AddressLeftOut {
        /// The pod.
        pod: ObjectRef,
        /// The address.
        address: IpAddr,
    },
    /// A pod was given what the input does not say about it.
    PodCompleted {
        /// The pod.
        pod: ObjectRef,
        /// Whether it was taken to be Running.
        running: bool,
        /// The node it was placed on, if it had none.
        node: Option<String>,
        /// The addresses made up for it, if it had none.
        addresses: Vec<IpAddr>,
    },
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Note::EmptyFolder { path } => {
                write!(
                    f,
                    "{}: no *.yaml, *.yml or *.json in this folder",
                    OneLine(&path.to_string_lossy())
                )
            }
            Note::NotEvaluated { kind, count } => write!(
                f,
                "{}: {count} not evaluated; this kind restricts traffic too, so verdicts may be too open",
                OneLine(kind)
            ),
            Note::Skipped { kind, count } => write!(f, "{}: {count} skipped", OneLine(kind)),
            Note::UnknownStatus { fields, count } => write!(
                f,
                "unknown fields under status are left out, in {count} objects: {}",
                OneLine(&fields.join(", "))
            ),
            Note::NameMadeUp { object } => {
                write!(f, "{object}: has only generateName, this name is made up")
            }
            Note::NamespaceLeftOut { object, namespace } => write!(
                f,
                "{object}: is in no namespace, metadata.namespace `{}` is left out",
                OneLine(namespace)
            ),
            Note::AddressLeftOut { pod, address } => write!(
                f,
                "{pod}: {address} is no address that a pod can have, and is left out"
            ),
            Note::DefaultNamespace { object } => {
                write!(f, "{object}: has no namespace, taken to be in `default`")
            }
            Note::NamespaceMadeUp { name } => write!(
                f,
                "Namespace {}: not given, made up with only its kubernetes.io/metadata.name label",
                OneLine(name)
            ),
            Note::NodeMadeUp { name } => write!(f, "Node {}: not given, made up", OneLine(name)),
            Note::NodeAddressed {
                name,
                addresses,
                from_pods,
            } => {
                let source = if *from_pods {
                    "taken from its pods"
                } else {
                    "made up"
                };
                write!(
                    f,
                    "Node {}: addresses {source}: {}",
                    OneLine(name),
                    List(addresses)
                )
            }
            Note::StandIn { workload, pods } => {
                write!(f, "{workload}: stood for by {}", OneLine(&pods.join(", ")))
            }
            Note::PodCompleted {
                pod,
                running,
                node,
                addresses,
            } => {
                write!(f, "{pod}: taken to be")?;
                let mut comma = "";
                if *running {
                    write!(f, " Running")?;
                    comma = ",";
                }
                if let Some(node) = node {
                    write!(f, "{comma} on {}", OneLine(node))?;
                }
                if !addresses.is_empty() {
                    write!(f, ", at {}", List(addresses))?;
                }
                Ok(())
            }
        }
    }
}

/// So many notes of one kind are shown.
const SHOWN: usize = 10;

/// Lines for the notes: of each kind the first few, and how many more there are. What a chart has dozens of is one line.
pub fn summary(notes: &[Note]) -> Vec<String> {
    let same = |a: &Note, b: &Note| std::mem::discriminant(a) == std::mem::discriminant(b);
    let kinds = notes.chunk_by(same);
    kinds
        .flat_map(|kind| match kind {
            [Note::Skipped { .. }, _, ..] => vec![skipped(kind)],
            [Note::DefaultNamespace { .. }, _, ..] => vec![in_default(kind)],
            _ => few(kind.iter().map(Note::to_string)),
        })
        .collect()
}

fn skipped(notes: &[Note]) -> String {
    let mut objects = 0;
    let mut kinds = Vec::new();
    for note in notes {
        if let Note::Skipped { kind, count } = note {
            objects += count;
            kinds.push(format!("{count} {}", OneLine(kind)));
        }
    }
    format!(
        "{objects} objects that are no policies are skipped: {}",
        listed(&kinds)
    )
}

fn in_default(notes: &[Note]) -> String {
    let objects = notes.iter().filter_map(|note| match note {
        Note::DefaultNamespace { object } => Some(object.to_string()),
        _ => None,
    });
    let objects: Vec<_> = objects.collect();
    format!(
        "{} objects have no namespace, taken to be in `default` (-n names another): {}",
        objects.len(),
        listed(&objects)
    )
}

/// The first few with commas between them, and how many more there are.
fn listed(items: &[String]) -> String {
    let shown = items.get(..SHOWN.min(items.len())).unwrap_or_default();
    match items.len() - shown.len() {
        0 => shown.join(", "),
        more => format!("{}, and {more} more", shown.join(", ")),
    }
}

/// The first few of notes of one kind, and how many more there are.
pub fn few(notes: impl IntoIterator<Item = String>) -> Vec<String> {
    let mut notes = notes.into_iter();
    let mut lines: Vec<String> = notes.by_ref().take(SHOWN).collect();
    match notes.count() {
        0 => {}
        more => lines.push(format!("... and {more} more like these")),
    }
    lines
}

/// Addresses with commas between them.
struct List<'a>(&'a [IpAddr]);

impl fmt::Display for List<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, address) in self.0.iter().enumerate() {
            write!(f, "{}{address}", if index > 0 { ", " } else { "" })?;
        }
        Ok(())
    }
}
