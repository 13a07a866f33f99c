//! What the kernel has not.

use kernel::{Feature, Features, Need, ProbeError};

use super::{Code, Finding, Severity};

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
        let text = format!("the kernel lacks a feature: {missing}.");
        let severity = severity(missing.feature)?;
        Some(Finding::new(severity, Code::KernelFeature, text))
    })
}

/// What follows from the lack of a feature; none if others say it.
fn severity(feature: Feature) -> Option<Severity> {
    match feature.need() {
        Need::Required => Some(Severity::Error),
        // The checks of bridges say what follows, where there are bridges.
        Need::For(_) if feature == Feature::BridgeNetfilter => None,
        Need::For(_) => Some(Severity::Warning),
        Need::Optional(_) => Some(Severity::Note),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_feature_without_which_nothing_can_be_enforced_is_an_error() {
        for (feature, expected) in [
            (Feature::NfTables, Some(Severity::Error)),
            (Feature::ConntrackNetlink, Some(Severity::Error)),
            (Feature::ConntrackEvents, Some(Severity::Warning)),
            (Feature::BridgeFamily, Some(Severity::Warning)),
            (Feature::TablePersist, Some(Severity::Note)),
            (Feature::BridgeNetfilter, None),
        ] {
            assert_eq!(severity(feature), expected, "{feature}");
        }
    }
}
