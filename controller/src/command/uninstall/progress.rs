//! How far a DaemonSet is, and what keeps one of its pods.

use std::fmt;

use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};

/// How many nodes are done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// The controller of DaemonSets has not looked at it yet.
    Unseen,
    /// So many of so many.
    Nodes { ready: usize, all: usize },
}

impl Progress {
    pub(super) fn of(set: &DaemonSet) -> Self {
        let Some(status) = &set.status else {
            return Self::Unseen;
        };
        if status.observed_generation < set.metadata.generation {
            return Self::Unseen;
        }
        let count = |number: i32| usize::try_from(number).unwrap_or(0);
        // A pod of a former version has done what that says.
        let current = status.updated_number_scheduled.unwrap_or(0);
        Self::Nodes {
            ready: count(status.number_ready.min(current)),
            all: count(status.desired_number_scheduled),
        }
    }

    pub(super) fn is_complete(self) -> bool {
        matches!(self, Self::Nodes { ready, all } if ready == all)
    }

    /// How many there are, if that is known.
    pub(super) fn nodes(self) -> Option<usize> {
        match self {
            Self::Unseen => None,
            Self::Nodes { all, .. } => Some(all),
        }
    }
}

impl fmt::Display for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unseen => f.write_str("waiting for the controller of DaemonSets"),
            Self::Nodes { all: 0, .. } => f.write_str("there is no node to clean up"),
            Self::Nodes { ready, all } => write!(f, "{ready} of {all} nodes are cleaned up"),
        }
    }
}

/// What a pod that is not ready does, as well as its status says it.
pub(super) fn late(pod: &Pod) -> Option<String> {
    let Some(status) = &pod.status else {
        return Some("has not started".to_owned());
    };
    let mut conditions = status.conditions.iter().flatten();
    let is_ready = conditions.any(|of| of.type_ == "Ready" && of.status == "True");
    // One that is being deleted was ready before, and its successor is not there yet.
    if is_ready && pod.metadata.deletion_timestamp.is_none() {
        return None;
    }
    let init = status.init_container_statuses.iter().flatten();
    let containers = init.chain(status.container_statuses.iter().flatten());
    let held = containers.filter_map(|of| Some((&of.name, waits(of)?)));
    let mut held = held.map(|(name, why)| format!("container {name}: {why}, see its log"));
    let phase = status.phase.as_deref().unwrap_or("Pending");
    let held = held.next();
    Some(held.unwrap_or_else(|| format!("is not ready ({phase})")))
}

/// Why a container neither runs nor has done its work.
fn waits(container: &ContainerStatus) -> Option<String> {
    let state = container.state.as_ref()?;
    if let Some(ended) = &state.terminated {
        return (ended.exit_code != 0).then(|| format!("exit code {}", ended.exit_code));
    }
    let reason = state.waiting.as_ref()?.reason.clone()?;
    // Those before it are the reason.
    (reason != "PodInitializing").then_some(reason)
}

/// The node of a pod. Before it is there, a pod of a DaemonSet is meant for the one that its affinity names.
pub(super) fn node(pod: &Pod) -> &str {
    let spec = pod.spec.as_ref();
    let bound = spec.and_then(|spec| spec.node_name.as_deref());
    let affinity = spec.and_then(|spec| spec.affinity.as_ref()?.node_affinity.as_ref());
    let required = affinity.and_then(|of| {
        of.required_during_scheduling_ignored_during_execution
            .as_ref()
    });
    let terms = required.into_iter().flat_map(|of| &of.node_selector_terms);
    let mut fields = terms.flat_map(|term| term.match_fields.iter().flatten());
    let meant = fields.find(|field| field.key == "metadata.name");
    let meant = meant.and_then(|field| field.values.as_ref()?.first());
    bound.or(meant.map(String::as_str)).unwrap_or("unknown")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn pod(value: serde_json::Value) -> Pod {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn the_container_that_holds_a_pod_is_named() {
        let held = pod(json!({"status": {
            "phase": "Pending",
            "initContainerStatuses": [
                {"name": "uninstall-cni", "image": "", "imageID": "", "ready": true, "restartCount": 0,
                 "state": {"terminated": {"exitCode": 0}}},
                {"name": "cleanup", "image": "", "imageID": "", "ready": false, "restartCount": 4,
                 "state": {"waiting": {"reason": "CrashLoopBackOff"}}}],
            "containerStatuses": [
                {"name": "idle", "image": "", "imageID": "", "ready": false, "restartCount": 0,
                 "state": {"waiting": {"reason": "PodInitializing"}}}]}}));
        assert_eq!(
            late(&held).unwrap(),
            "container cleanup: CrashLoopBackOff, see its log"
        );
        let waiting = pod(json!({"status": {"phase": "Pending"}}));
        assert_eq!(late(&waiting).unwrap(), "is not ready (Pending)");
        let ready = json!({"conditions": [{"type": "Ready", "status": "True"}]});
        assert_eq!(late(&pod(json!({"status": ready}))), None);
        let going =
            json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}, "status": ready});
        assert!(late(&pod(going)).is_some());
    }

    #[test]
    fn a_pod_that_has_no_node_yet_is_meant_for_one() {
        let meant = pod(
            json!({"spec": {"containers": [], "affinity": {"nodeAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [{"matchFields":
                [{"key": "metadata.name", "operator": "In", "values": ["n2"]}]}]}}}}}),
        );
        assert_eq!(node(&meant), "n2");
        assert_eq!(
            node(&pod(json!({"spec": {"containers": [], "nodeName": "n1"}}))),
            "n1"
        );
        assert_eq!(node(&pod(json!({}))), "unknown");
    }
}
