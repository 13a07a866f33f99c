//! What the kernel has not.

use kernel::{Feature, Features, Need, ProbeError};

use super::{Code, Finding};

/// Returns whether anything else can be asked.
pub(super) fn check(findings: &mut Vec<Finding>) -> bool {
    match Features::probe() {
        Ok(features) => {
            findings.extend(missing(&features));
            true
        }
        Err(ProbeError::NotPermitted(_)) => {
            findings.push(Finding::error(
                Code::NoPermission,
                "the process may not ask about packet filtering: it needs CAP_NET_ADMIN in the node's network namespace \
                 (hostNetwork, and NET_ADMIN in securityContext.capabilities). Nothing else was checked, and nothing can be \
                 enforced.",
            ));
            false
        }
        Err(error) => {
            findings.push(Finding::unreadable("the kernel's features", &error));
            true
        }
    }
}

fn missing(features: &Features) -> impl Iterator<Item = Finding> {
    features.missing().filter_map(|missing| {
        let severity = match missing.feature.need() {
            Need::Required => Finding::error,
            // The checks of bridges say what follows, where there are bridges.
            Need::For(_) if missing.feature == Feature::BridgeNetfilter => return None,
            Need::For(_) => Finding::warning,
            Need::Optional(_) => Finding::note,
        };
        let text = format!("the kernel lacks a feature: {missing}.");
        Some(severity(Code::KernelFeature, text))
    })
}
