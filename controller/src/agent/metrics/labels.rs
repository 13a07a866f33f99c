//! Labels, each with a closed list of values.

use cni_chain::protocol::{Answer, Request};
use policy_compiler::model::Direction;
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};

use crate::kubernetes::Resource;

/// What a sync compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SyncType {
    /// All of what is in the kernel.
    Full,
    /// What changed since the last.
    Partial,
}

impl SyncType {
    /// Every type.
    pub const ALL: [Self; 2] = [Self::Full, Self::Partial];

    fn name(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Partial => "partial",
        }
    }
}

/// Why the kernel did not become equal to the objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FailureReason {
    /// The kernel refused an object.
    Refused,
    /// Others changed nftables in the meantime.
    Stale,
    /// An object, or a batch, is larger than the kernel can be told.
    TooLarge,
    /// There is no netlink socket, or it broke; or its answer was lost.
    Netlink,
    /// The kernel's answer is not what its header files say.
    Malformed,
}

impl FailureReason {
    /// Every reason.
    pub const ALL: [Self; 5] = [
        Self::Refused,
        Self::Stale,
        Self::TooLarge,
        Self::Netlink,
        Self::Malformed,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::Stale => "stale",
            Self::TooLarge => "too-large",
            Self::Netlink => "netlink",
            Self::Malformed => "malformed",
        }
    }
}

impl From<&kernel::Error> for FailureReason {
    fn from(error: &kernel::Error) -> Self {
        use kernel::Error;
        match error {
            Error::Refused(_) => Self::Refused,
            Error::Stale { .. } | Error::Changing(_) => Self::Stale,
            Error::TooLarge { .. } | Error::Unfit { .. } => Self::TooLarge,
            Error::Open(_) | Error::Send(_) | Error::Receive(_) | Error::Lost => Self::Netlink,
            Error::Malformed(_) => Self::Malformed,
        }
    }
}

/// What became of an Event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EventResult {
    /// The API server took it.
    Sent,
    /// It did not.
    Failed,
}

impl EventResult {
    /// Every result.
    pub const ALL: [Self; 2] = [Self::Sent, Self::Failed];

    fn name(self) -> &'static str {
        match self {
            Self::Sent => "sent",
            Self::Failed => "failed",
        }
    }
}

/// What the CNI plugin was called for, as it asks the agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CniCommand {
    /// A pod gets its network.
    Add,
    /// A pod's network is looked at.
    Check,
    /// A pod loses its network.
    Del,
    /// The runtime asks whether pods may start.
    Status,
}

impl CniCommand {
    fn name(self) -> &'static str {
        match self {
            Self::Add => "add",
            Self::Check => "check",
            Self::Del => "del",
            Self::Status => "status",
        }
    }
}

impl From<&Request> for CniCommand {
    fn from(request: &Request) -> Self {
        match request {
            Request::Attach { .. } => Self::Add,
            Request::Check { .. } => Self::Check,
            Request::Detach { .. } => Self::Del,
            Request::Status => Self::Status,
        }
    }
}

/// What the CNI plugin was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CniResult {
    /// Policies are in force, or the agent works; or the pod is forgotten.
    Ready,
    /// Not in the time that the plugin waits.
    NotYet,
    /// Not at all as things are.
    Refused,
}

impl CniResult {
    /// Every result.
    pub const ALL: [Self; 3] = [Self::Ready, Self::NotYet, Self::Refused];

    fn name(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::NotYet => "not-yet",
            Self::Refused => "refused",
        }
    }
}

impl From<&Answer> for CniResult {
    fn from(answer: &Answer) -> Self {
        match answer {
            Answer::Ready | Answer::Gone => Self::Ready,
            Answer::NotYet { .. } => Self::NotYet,
            Answer::Refused { .. } => Self::Refused,
        }
    }
}

/// What is in our tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum ObjectType {
    Chain,
    Rule,
    Set,
    Map,
    Element,
}

impl ObjectType {
    pub(super) const ALL: [Self; 5] =
        [Self::Chain, Self::Rule, Self::Set, Self::Map, Self::Element];

    fn name(self) -> &'static str {
        match self {
            Self::Chain => "chain",
            Self::Rule => "rule",
            Self::Set => "set",
            Self::Map => "map",
            Self::Element => "element",
        }
    }
}

/// Of which direction the rule was that dropped a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum PolicyDirection {
    Of(Direction),
    /// Either.
    Any,
}

impl PolicyDirection {
    fn name(self) -> &'static str {
        match self {
            Self::Of(Direction::Egress) => "egress",
            Self::Of(Direction::Ingress) => "ingress",
            Self::Any => "any",
        }
    }
}

/// Why a packet was dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum DropReason {
    Policy,
    Closed,
    Revoked,
    Guard,
}

impl DropReason {
    fn name(self) -> &'static str {
        match self {
            Self::Policy => "policy",
            Self::Closed => "closed",
            Self::Revoked => "revoked",
            Self::Guard => "guard",
        }
    }
}

macro_rules! label_value {
    ($($type:ty),*) => {$(
        impl EncodeLabelValue for $type {
            fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), std::fmt::Error> {
                self.name().encode(encoder)
            }
        }
    )*};
}

label_value!(
    SyncType,
    FailureReason,
    EventResult,
    CniCommand,
    CniResult,
    ObjectType,
    Resource,
    PolicyDirection,
    DropReason
);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct SyncLabels {
    pub(super) r#type: SyncType,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct ReasonLabels {
    pub(super) reason: FailureReason,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct ResultLabels {
    pub(super) result: EventResult,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct CniLabels {
    pub(super) command: CniCommand,
    pub(super) result: CniResult,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct ObjectLabels {
    pub(super) r#type: ObjectType,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct ResourceLabels {
    pub(super) resource: Resource,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct DropLabels {
    pub(super) direction: PolicyDirection,
    pub(super) reason: DropReason,
}
