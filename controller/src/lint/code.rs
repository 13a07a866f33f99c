//! The codes. A code keeps its meaning, and none is used again.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::Serialize;

/// How bad a finding is, the worst first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The policy does not do what it says.
    Error,
    /// The policy probably does not do what was meant.
    Warning,
    /// Worth a look; often meant so.
    Hint,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Severity::Error => "error",
            Severity::Warning => "warning",
            Severity::Hint => "hint",
        })
    }
}

/// What is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Code {
    /// P001
    SelectsNoPod,
    /// P002
    OnlyHostNetwork,
    /// P003
    PeerMatchesNothing,
    /// P004
    NamedPortNowhere,
    /// P005
    EmptyListWithoutType,
    /// P006
    RulesWithoutType,
    /// P007
    RuleCovered,
    /// P008
    PolicyCovered,
    /// P009
    BlockCoversPods,
    /// P010
    BlockCoversServices,
    /// P011
    ExceptReopened,
    /// P012
    PortNotDeclared,
    /// P013
    DnsForgotten,
    /// P014
    NamespaceMadeUp,
    /// P015
    NoPods,
    /// P016
    OverBudget,
}

/// What is said of a code.
struct Entry {
    code: &'static str,
    name: &'static str,
    severity: Severity,
    why: &'static str,
    remedy: &'static str,
}

impl Code {
    /// Every code, in order.
    pub const ALL: [Code; 16] = [
        Code::SelectsNoPod,
        Code::OnlyHostNetwork,
        Code::PeerMatchesNothing,
        Code::NamedPortNowhere,
        Code::EmptyListWithoutType,
        Code::RulesWithoutType,
        Code::RuleCovered,
        Code::PolicyCovered,
        Code::BlockCoversPods,
        Code::BlockCoversServices,
        Code::ExceptReopened,
        Code::PortNotDeclared,
        Code::DnsForgotten,
        Code::NamespaceMadeUp,
        Code::NoPods,
        Code::OverBudget,
    ];

    fn entry(self) -> Entry {
        use Severity::{Error, Hint, Warning};
        let (code, name, severity, why, remedy) = match self {
            Code::SelectsNoPod => (
                "P001",
                "selects-no-pod",
                Warning,
                "A policy that selects no pod protects nothing, and the pods that it was meant for stay open.",
                "Compare spec.podSelector with the labels of the pods, in the policy's own namespace.",
            ),
            Code::OnlyHostNetwork => (
                "P002",
                "only-host-network",
                Warning,
                "A pod with hostNetwork has its node's addresses: no policy applies to it, and no selector finds it as a peer.",
                "Guard such pods at their node; as a peer, name the nodes' addresses with an ipBlock.",
            ),
            Code::PeerMatchesNothing => (
                "P003",
                "peer-matches-nothing",
                Warning,
                "A peer that matches no pod allows nothing, so that traffic that was meant to pass is dropped.",
                "Compare the selectors with the labels of the pods and of their namespaces; podSelector alone looks in the policy's own namespace only.",
            ),
            Code::NamedPortNowhere => (
                "P004",
                "named-port-nowhere",
                Warning,
                "A name is looked up on the destination pod, with its protocol (TCP if none is given); where it is not found nothing is allowed.",
                "Name a port that the destination's containers declare, with the same protocol, or give its number.",
            ),
            Code::EmptyListWithoutType => (
                "P005",
                "empty-list-without-type",
                Error,
                "An empty list denies only if policyTypes names its direction. As it is the direction is not isolated: everything passes.",
                "Add the direction to spec.policyTypes, or delete the empty list.",
            ),
            Code::RulesWithoutType => (
                "P006",
                "rules-without-type",
                Error,
                "Rules of a direction that policyTypes leaves out are ignored, and the policy does not isolate for it.",
                "Add the direction to spec.policyTypes, or delete the rules.",
            ),
            Code::RuleCovered => (
                "P007",
                "rule-covered",
                Warning,
                "Without the rule every connection is judged the same, so it misleads whoever reads or tightens the policies.",
                "Delete the rule (keep policyTypes as it is, written out), or narrow the rules that cover it.",
            ),
            Code::PolicyCovered => (
                "P008",
                "policy-covered",
                Warning,
                "Without the policy every connection is judged the same, so it misleads whoever reads or tightens the policies.",
                "Delete the policy, or narrow those that cover it.",
            ),
            Code::BlockCoversPods => (
                "P009",
                "block-covers-pods",
                Warning,
                "An ipBlock matches pods by their addresses, whatever their labels, and addresses pass from pod to pod.",
                "Name pods with selectors; take the pod ranges out of the block with except.",
            ),
            Code::BlockCoversServices => (
                "P010",
                "block-covers-services",
                Warning,
                "Packets are judged after the Service's address was replaced by that of a pod: a Service's address never matches.",
                "Name the pods behind the Service with selectors, and their own ports.",
            ),
            Code::ExceptReopened => (
                "P011",
                "except-reopened",
                Warning,
                "An except counts only inside of its own ipBlock; policies add up, so that another rule or item can allow the same addresses.",
                "Put the except into the other block too, or delete it here.",
            ),
            Code::PortNotDeclared => (
                "P012",
                "port-not-declared",
                Hint,
                "A policy's port is that of the pod, not that of a Service before it; the destinations declare other ports only.",
                "Give the container's port; if the container listens without declaring it, declare it.",
            ),
            Code::DnsForgotten => (
                "P013",
                "dns-forgotten",
                Warning,
                "A pod that is isolated for egress and may not ask a DNS server finds no Service and no host by name.",
                "Allow UDP and TCP port 53 to the cluster's DNS pods (k8s-app: kube-dns in kube-system).",
            ),
            Code::NamespaceMadeUp => (
                "P014",
                "namespace-made-up",
                Hint,
                "Of a namespace that is not in the input only the name is known; selectors by its other labels find nothing.",
                "Add the Namespace with its labels to the input, or correct the name.",
            ),
            Code::NoPods => (
                "P015",
                "no-pods",
                Hint,
                "Without pods nobody can say whom policies select and whom their peers match; those checks are left out.",
                "Add the workloads (Pods, Deployments and so on) to the input.",
            ),
            Code::OverBudget => (
                "P016",
                "over-budget",
                Error,
                "A node does not compile a namespace whose policies need more than its budget: new pods of it are closed.",
                "Write fewer and shorter policies for the namespace, or raise the budget (--budget).",
            ),
        };
        Entry {
            code,
            name,
            severity,
            why,
            remedy,
        }
    }

    /// The code, `P001`.
    pub fn code(self) -> &'static str {
        self.entry().code
    }

    /// The name, `selects-no-pod`.
    pub fn name(self) -> &'static str {
        self.entry().name
    }

    /// The severity that it has at most.
    pub fn severity(self) -> Severity {
        self.entry().severity
    }

    /// Why it matters.
    pub fn why(self) -> &'static str {
        self.entry().why
    }

    /// What to do.
    pub fn remedy(self) -> &'static str {
        self.entry().remedy
    }
}

/// A text that is no code.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no code; the codes are {known}", known = known())]
pub struct UnknownCode(String);

fn known() -> String {
    let all = Code::ALL.map(|code| format!("{} {}", code.code(), code.name()));
    all.join(", ")
}

impl FromStr for Code {
    type Err = UnknownCode;

    /// A code or its name.
    fn from_str(text: &str) -> Result<Self, UnknownCode> {
        let mut all = Self::ALL.into_iter();
        let found = all.find(|code| text.eq_ignore_ascii_case(code.code()) || text == code.name());
        found.ok_or_else(|| UnknownCode(text.to_owned()))
    }
}

/// The part of `docs/lint.md` that lists the codes.
pub fn documentation() -> String {
    let mut text = String::new();
    for code in Code::ALL {
        let Entry {
            code,
            name,
            severity,
            why,
            remedy,
        } = code.entry();
        text.push_str(&format!(
            "\n### {code} {name}\n\n{severity}\n\n{why}\n\n**Remedy**: {remedy}\n"
        ));
    }
    text
}
