//! A cluster as manifests, a JSON object a line between `---`: what a golden case starts from.

use policy_compiler::manifest::objects;
use policy_compiler::model::Cluster;

/// The manifests of everything in the cluster.
pub(crate) fn manifests(cluster: &Cluster) -> String {
    let lines: Vec<_> = objects(cluster).map(|object| object.to_string()).collect();
    lines.join("\n---\n") + "\n"
}
