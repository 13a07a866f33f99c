//! Interfaces of a node's pods as a document. With the objects it says all that the agent's rules were made of.

mod apply;

use std::net::IpAddr;

use policy_compiler::lower;
use policy_compiler::manifest;
use policy_compiler::model::{Pod, Presence};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

pub use self::apply::{Applied, Invalid};
use crate::agent::snapshot::Snapshot;

/// The interfaces of a node's pods.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Document {
    /// The node.
    pub node: String,
    /// The pods that have interfaces, in the order of their names.
    pub pods: Vec<Attached>,
    /// Addresses of interfaces of which nobody knows what they may pass, in order: they are closed.
    pub closed: Vec<Closed>,
}

/// A pod that has interfaces.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Attached {
    /// `NAMESPACE/NAME`.
    pub pod: String,
    /// What tells that it is there.
    pub presence: Standing,
    /// All of its addresses: first those that its status names, then the others of its interfaces.
    pub addresses: Vec<IpAddr>,
    /// Its interfaces, as its node sees them.
    pub interfaces: Vec<Interface>,
    /// The Pod as it was, without addresses, if it is orphaned and there is no object of it any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub object: Option<Map<String, Value>>,
}

/// Whether an object says that the pod is there, besides its interfaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Standing {
    /// One does.
    Attached,
    /// None does: it is gone, or says that the pod has ended. Policies select the pod, and it is nobody's peer.
    Orphaned,
}

/// The node's end of an interface of a pod.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Interface {
    /// Its name on the node.
    pub interface: String,
    /// Whether it is a port of a bridge.
    pub bridged: bool,
    /// The addresses that the pod has there, in order.
    pub addresses: Vec<IpAddr>,
    /// Whether the pod may send from other addresses there.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub routes: bool,
}

/// An address that sends and receives nothing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Closed {
    /// The address.
    pub address: IpAddr,
    /// The pod that its interface was made for, `NAMESPACE/NAME`.
    pub pod: String,
}

/// Whether only interfaces tell of the pod: there is no object of it.
pub fn has_no_object(pod: &Pod) -> bool {
    pod.presence == Presence::Orphaned && !pod.phase.is_terminal()
}

impl Document {
    /// What the rules of the snapshot were made with.
    pub fn of(snapshot: &Snapshot) -> Self {
        let pods = snapshot.cluster.pods.values();
        let pods = pods.filter_map(|pod| {
            let presence = match pod.presence {
                Presence::Attached => Standing::Attached,
                Presence::Orphaned => Standing::Orphaned,
                Presence::Listed => return None,
            };
            let id = pod.id.to_string();
            let interfaces = snapshot.interfaces.get(&id).into_iter().flatten();
            let object = has_no_object(pod).then(|| {
                let bare = Pod {
                    addresses: Vec::new(),
                    ..pod.clone()
                };
                match manifest::pod(&bare) {
                    Value::Object(object) => object,
                    _ => Map::new(),
                }
            });
            Some(Attached {
                pod: id,
                presence,
                addresses: pod.addresses.clone(),
                interfaces: interfaces.map(|one| interface(one, pod)).collect(),
                object,
            })
        });
        let closed = snapshot.unknown.iter().map(|(address, pod)| Closed {
            address: *address,
            pod: pod.to_string(),
        });
        Self {
            node: snapshot.node.clone(),
            pods: pods.collect(),
            closed: closed.collect(),
        }
    }
}

fn interface(attachment: &lower::Attachment, pod: &Pod) -> Interface {
    let addresses = match &attachment.addresses {
        Some(addresses) => addresses.iter().copied().collect(),
        None => pod.addresses.clone(),
    };
    Interface {
        interface: attachment.interface.to_string(),
        bridged: attachment.bridged,
        addresses,
        routes: attachment.routes,
    }
}
