//! A document back to what rules are made of.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Display};
use std::net::IpAddr;

use policy_compiler::lower;
use policy_compiler::model::{Cluster, InterfaceName, NamespacedName, Pod, Presence};
use policy_compiler::validate::Options;

use super::{Attached, Closed, Document, Interface, Standing};
use crate::{cluster, source};

/// What is wrong with a document: `FILE: pods[0].interfaces[1].interface: message`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Invalid {
    /// The file.
    pub file: String,
    /// The field; empty where it is the whole.
    pub field: String,
    /// What is wrong.
    pub message: String,
}

impl Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.file)?;
        if !self.field.is_empty() {
            write!(f, "{}: ", self.field)?;
        }
        f.write_str(&self.message)
    }
}

/// What rules are made of.
#[derive(Clone, Debug)]
pub struct Applied {
    /// The objects, with what interfaces say of pods.
    pub cluster: Cluster,
    /// The interfaces.
    pub interfaces: lower::Attachments,
    /// Addresses to close, each with the pod that its interface was made for.
    pub closed: BTreeMap<IpAddr, NamespacedName>,
}

impl Document {
    /// Reads a file's text.
    ///
    /// # Errors
    /// The first field that is not as it has to be.
    pub fn read(file: &str, text: &str) -> Result<Self, Invalid> {
        let mut deserializer = serde_json::Deserializer::from_str(text);
        let read = serde_path_to_error::deserialize(&mut deserializer);
        let read: Self = read.map_err(|error| Invalid {
            file: file.to_owned(),
            field: match error.path().iter().next() {
                None => String::new(),
                Some(_) => error.path().to_string(),
            },
            message: error.inner().to_string(),
        })?;
        deserializer.end().map_err(|error| Invalid {
            file: file.to_owned(),
            field: String::new(),
            message: error.to_string(),
        })?;
        Ok(read)
    }

    /// The objects of a node's cluster with what the document says of that node. `file` is where it is from.
    ///
    /// # Errors
    /// The first entry that does not belong to these objects or to the node, or cannot be.
    pub fn apply(&self, file: &str, node: &str, cluster: Cluster) -> Result<Applied, Invalid> {
        let at = At { file, node };
        if self.node != node {
            return Err(at.invalid("node", format!("is {}, and --node is {node}", self.node)));
        }
        let mut applied = Applied {
            cluster,
            interfaces: BTreeMap::new(),
            closed: BTreeMap::new(),
        };
        let mut names = BTreeSet::new();
        for (index, attached) in self.pods.iter().enumerate() {
            let field = format!("pods[{index}]");
            let pod = at.pod(&field, attached, &applied.cluster)?;
            let id = pod.id.to_string();
            let interfaces = at.interfaces(&field, attached, &mut names)?;
            if applied.interfaces.contains_key(&id) {
                return Err(at.invalid(&format!("{field}.pod"), format!("{id} is there twice")));
            }
            applied.interfaces.insert(id, interfaces);
            applied.cluster.add_pod(pod);
        }
        applied
            .interfaces
            .retain(|_, interfaces| !interfaces.is_empty());
        for (index, Closed { address, pod }) in self.closed.iter().enumerate() {
            let field = format!("closed[{index}]");
            let pod = at.id(&format!("{field}.pod"), pod)?;
            let address = at.address(&format!("{field}.address"), *address)?;
            if applied.closed.insert(address, pod).is_some() {
                let message = format!("{address} is there twice");
                return Err(at.invalid(&format!("{field}.address"), message));
            }
        }
        Ok(applied)
    }
}

/// Where a document is from, and what for.
struct At<'a> {
    file: &'a str,
    node: &'a str,
}

impl At<'_> {
    fn invalid(&self, field: &str, message: impl Into<String>) -> Invalid {
        Invalid {
            file: self.file.to_owned(),
            field: field.to_owned(),
            message: message.into(),
        }
    }

    fn id(&self, field: &str, text: &str) -> Result<NamespacedName, Invalid> {
        let parts = text.split_once('/');
        let parts = parts.filter(|(namespace, name)| {
            let is_name = |part: &str| !part.is_empty() && !part.contains('/');
            is_name(namespace) && is_name(name)
        });
        let (namespace, name) =
            parts.ok_or_else(|| self.invalid(field, format!("{text:?} is no NAMESPACE/NAME")))?;
        Ok(NamespacedName::new(namespace, name))
    }

    /// An address that a host can have.
    fn address(&self, field: &str, address: IpAddr) -> Result<IpAddr, Invalid> {
        let cannot = address.is_unspecified()
            || address.is_multicast()
            || address.is_loopback()
            || address != address.to_canonical();
        match cannot {
            true => Err(self.invalid(field, format!("{address} is no address of a pod"))),
            false => Ok(address),
        }
    }

    fn addresses(&self, field: &str, addresses: &[IpAddr]) -> Result<BTreeSet<IpAddr>, Invalid> {
        let mut all = BTreeSet::new();
        for (index, address) in addresses.iter().enumerate() {
            let field = format!("{field}[{index}]");
            if !all.insert(self.address(&field, *address)?) {
                return Err(self.invalid(&field, format!("{address} is there twice")));
            }
        }
        Ok(all)
    }

    /// The pod as interfaces say that it is.
    fn pod(&self, field: &str, attached: &Attached, cluster: &Cluster) -> Result<Pod, Invalid> {
        let of_pod = format!("{field}.pod");
        let id = self.id(&of_pod, &attached.pod)?;
        self.addresses(&format!("{field}.addresses"), &attached.addresses)?;
        let listed = cluster.pods.get(&id);
        // One that was put there by an entry before this one is told of later.
        let known = listed.filter(|pod| pod.presence == Presence::Listed);
        let pod = match (&attached.object, attached.presence) {
            (Some(_), Standing::Attached) => {
                let message = "is of orphaned pods only";
                return Err(self.invalid(&format!("{field}.object"), message));
            }
            (Some(_), Standing::Orphaned) if known.is_some() => {
                let message = format!("{id} is among the objects");
                return Err(self.invalid(&format!("{field}.object"), message));
            }
            (Some(object), Standing::Orphaned) => {
                let text = serde_json::Value::Object(object.clone()).to_string();
                self.object(&format!("{field}.object"), &text, &id)?
            }
            (None, _) => match listed {
                Some(pod) => pod.clone(),
                None => return Err(self.invalid(&of_pod, format!("there is no Pod {id}"))),
            },
        };
        if pod.node.as_deref() != Some(self.node) {
            return Err(self.invalid(&of_pod, format!("{id} is not on node {}", self.node)));
        }
        if pod.host_network {
            let message = format!("{id} has the network of its node, and no interface");
            return Err(self.invalid(&of_pod, message));
        }
        let is_over = attached.object.is_some() || pod.phase.is_terminal();
        let presence = match (attached.presence, is_over) {
            (Standing::Attached, false) => Presence::Attached,
            (Standing::Orphaned, true) => Presence::Orphaned,
            (Standing::Attached, true) => {
                let message = format!("{id} has ended, and is orphaned");
                return Err(self.invalid(&format!("{field}.presence"), message));
            }
            (Standing::Orphaned, false) => {
                let message = format!("{id} is among the objects, and has not ended");
                return Err(self.invalid(&format!("{field}.presence"), message));
            }
        };
        Ok(Pod {
            presence,
            addresses: attached.addresses.clone(),
            ..pod
        })
    }

    /// The Pod of an orphan, read as strictly as one of a file.
    fn object(&self, field: &str, text: &str, id: &NamespacedName) -> Result<Pod, Invalid> {
        let invalid = |error: &dyn Display| self.invalid(field, error.to_string());
        let loaded = source::load_bytes([("object", text.as_bytes())]);
        let loaded = loaded.map_err(|error| invalid(&error))?;
        let read = cluster::build(&loaded, Options::default()).map_err(|error| invalid(&error))?;
        let mut pods = read.pods.into_values();
        match (pods.next(), pods.next()) {
            (Some(pod), None) if pod.id == *id => Ok(pod),
            _ => Err(self.invalid(field, format!("is not the Pod {id}"))),
        }
    }

    fn interfaces(
        &self,
        field: &str,
        attached: &Attached,
        names: &mut BTreeSet<InterfaceName>,
    ) -> Result<Vec<lower::Attachment>, Invalid> {
        let mut all = Vec::new();
        for (index, one) in attached.interfaces.iter().enumerate() {
            let Interface {
                interface,
                bridged,
                addresses,
                routes,
            } = one;
            let field = format!("{field}.interfaces[{index}]");
            let of_name = format!("{field}.interface");
            let name = InterfaceName::new(interface);
            let name = name.map_err(|error| self.invalid(&of_name, error.to_string()))?;
            if !names.insert(name.clone()) {
                return Err(self.invalid(&of_name, format!("{name} is there twice")));
            }
            let of_addresses = format!("{field}.addresses");
            let addresses = self.addresses(&of_addresses, addresses)?;
            let is_others = |address: &&IpAddr| !attached.addresses.contains(address);
            if let Some(address) = addresses.iter().find(is_others) {
                let message = format!("{address} is not among those of {}", attached.pod);
                return Err(self.invalid(&of_addresses, message));
            }
            all.push(lower::Attachment {
                interface: name,
                bridged: *bridged,
                addresses: Some(addresses),
                routes: *routes,
            });
        }
        Ok(all)
    }
}
