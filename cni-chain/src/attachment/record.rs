//! A record as it is written.

use std::collections::BTreeSet;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::id::interface_name;
use super::{Attachment, AttachmentId, Invalid, Path, PodIdentity};

/// The version of records.
pub(super) const VERSION: u32 = 1;

/// How many addresses an interface may have.
pub const MOST_ADDRESSES: usize = 256;

/// The longest name of a Kubernetes object.
const LONGEST_NAME: usize = 253;

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Record {
    pub(super) version: u32,
    container_id: String,
    interface: String,
    network: String,
    netns: String,
    netns_inode: u64,
    pod: Pod,
    addresses: BTreeSet<IpAddr>,
    path: Way,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    routes: bool,
}

#[derive(Serialize, Deserialize)]
struct Pod {
    namespace: String,
    name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    uid: Option<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "camelCase")]
enum Way {
    Routed {
        host: String,
        index: u32,
    },
    Bridged {
        host: String,
        index: u32,
        bridge: String,
    },
    Bypass {
        link: String,
        index: u32,
    },
}

impl From<Attachment> for Record {
    fn from(of: Attachment) -> Self {
        Self {
            version: VERSION,
            container_id: of.id.container_id().to_owned(),
            interface: of.id.interface().to_owned(),
            network: of.network,
            netns: of.netns,
            netns_inode: of.netns_inode,
            pod: Pod {
                namespace: of.pod.namespace,
                name: of.pod.name,
                uid: of.pod.uid,
            },
            addresses: of.addresses,
            path: match of.path {
                Path::Routed { host, index } => Way::Routed { host, index },
                Path::Bridged {
                    host,
                    index,
                    bridge,
                } => Way::Bridged {
                    host,
                    index,
                    bridge,
                },
                Path::Bypass { link, index } => Way::Bypass { link, index },
            },
            routes: of.routes,
        }
    }
}

impl TryFrom<Record> for Attachment {
    type Error = Invalid;

    fn try_from(record: Record) -> Result<Self, Invalid> {
        let id = AttachmentId::new(&record.container_id, &record.interface)?;
        text("network", &record.network)?;
        text("netns", &record.netns)?;
        object_name("pod.namespace", &record.pod.namespace)?;
        object_name("pod.name", &record.pod.name)?;
        if let Some(uid) = &record.pod.uid {
            text("pod.uid", uid)?;
        }
        addresses(&record.addresses)?;
        let path = match record.path {
            Way::Routed { host, index } => Path::Routed {
                host: host_end(host, index)?,
                index,
            },
            Way::Bridged {
                host,
                index,
                bridge,
            } => Path::Bridged {
                host: host_end(host, index)?,
                index,
                bridge: interface_name(&bridge)?.to_owned(),
            },
            Way::Bypass { link, index } => {
                text("path.link", &link)?;
                number(index)?;
                Path::Bypass { link, index }
            }
        };
        Ok(Self {
            id,
            network: record.network,
            netns: record.netns,
            netns_inode: record.netns_inode,
            pod: PodIdentity {
                namespace: record.pod.namespace,
                name: record.pod.name,
                uid: record.pod.uid,
            },
            addresses: record.addresses,
            path,
            routes: record.routes,
        })
    }
}

fn host_end(host: String, index: u32) -> Result<String, Invalid> {
    interface_name(&host)?;
    number(index)?;
    Ok(host)
}

fn number(index: u32) -> Result<(), Invalid> {
    match index {
        0 => Err(invalid("path.index", "0", "is the number of no interface")),
        _ => Ok(()),
    }
}

/// What Kubernetes takes as a name at most (RFC 1123): it gets into an alias and into logs.
pub(crate) fn object_name(field: &'static str, name: &str) -> Result<(), Invalid> {
    let of_name =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b".-".contains(&byte);
    if (1..=LONGEST_NAME).contains(&name.len()) && name.bytes().all(of_name) {
        return Ok(());
    }
    Err(invalid(field, name, "is no name of a Kubernetes object"))
}

fn text(field: &'static str, text: &str) -> Result<(), Invalid> {
    if text.is_empty() || text.contains(char::is_control) {
        return Err(invalid(field, text, "is empty or has control characters"));
    }
    Ok(())
}

fn addresses(addresses: &BTreeSet<IpAddr>) -> Result<(), Invalid> {
    if addresses.len() > MOST_ADDRESSES {
        let count = addresses.len().to_string();
        return Err(invalid("addresses", &count, "are too many"));
    }
    match addresses.iter().find(|address| !is_of_a_pod(**address)) {
        Some(odd) => Err(invalid(
            "addresses",
            &odd.to_string(),
            "is no pod's address",
        )),
        None => Ok(()),
    }
}

/// Whether an interface of a pod can have this address, by which others name it.
pub fn is_of_a_pod(address: IpAddr) -> bool {
    let mapped = matches!(address, IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some());
    !(address.is_unspecified() || address.is_multicast() || address.is_loopback() || mapped)
}

/// Whether an address is of one link: of two links each may have an interface with it.
pub fn is_link_local(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local())
}

fn invalid(field: &'static str, value: &str, reason: &'static str) -> Invalid {
    Invalid::Field {
        field,
        value: value.to_owned(),
        reason,
    }
}
