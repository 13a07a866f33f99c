//! Field paths in Kubernetes notation.

/// A step from a value to one inside it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Step {
    /// Into a mapping.
    Key(String),
    /// Into a list.
    Index(usize),
}

/// Fields whose keys are the user's, so that `metadata.labels[a.b/c]` is not taken for three fields.
const MAPS: [&str; 8] = [
    "labels",
    "annotations",
    "matchLabels",
    "nodeSelector",
    "limits",
    "requests",
    "capacity",
    "allocatable",
];

/// `spec.ingress[0].ports[1].endPort`.
pub(super) fn notation(path: &[Step]) -> String {
    let mut text = String::new();
    let mut in_map = false;
    for step in path {
        match step {
            Step::Index(index) => text.push_str(&format!("[{index}]")),
            Step::Key(key) if in_map => text.push_str(&format!("[{key}]")),
            Step::Key(key) if text.is_empty() => text.push_str(key),
            Step::Key(key) => text.push_str(&format!(".{key}")),
        }
        in_map = !in_map && matches!(step, Step::Key(key) if MAPS.contains(&key.as_str()));
    }
    text
}
