//! Networks of pods, as the files that runtimes read.

use std::fs;
use std::path::{Path, PathBuf};

use ipnet::IpNet;
use serde_json::{Map, Value, json};

use crate::error::{Error, io};
use crate::node::Node;

/// Where plugins are in the node.
pub const PLUGINS: &str = "/run/cni/bin";

/// The folder with the files of all networks, which podman reads.
pub(crate) const ALL: &str = "/run/cni/all";

/// What of the reference plugins is used: containerd calls `loopback` for every pod.
const REFERENCE: &[&str] = &["bridge", "host-local", "loopback", "macvlan", "ptp"];

/// Where distributions and Kubernetes have the reference plugins.
const FOLDERS: &[&str] = &["/usr/lib/cni", "/opt/cni/bin", "/usr/libexec/cni"];

/// How a network connects pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Pods are ports of a bridge with the network's name, which is also their gateway. A pod reaches itself over it.
    Bridge,
    /// Each pod has a link to the node alone, with a route.
    Ptp,
    /// Each pod has a macvlan on an interface of the node that has the network's name: its packets do not pass the node.
    Macvlan,
}

/// A network of pods.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Network {
    /// Its name: a Linux interface can have it too.
    pub name: String,
    /// How it connects pods.
    pub kind: Kind,
    /// Pods have one address out of each.
    pub subnets: Vec<IpNet>,
}

/// The plugin that is called last for each network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plugin {
    /// The program. Its file name is its CNI type.
    pub program: PathBuf,
    /// What its entry in the networks' files has beside its type.
    pub configuration: Map<String, Value>,
}

impl Network {
    /// The folder of the node that has this network's file alone.
    pub fn folder(&self) -> String {
        format!("/run/cni/{}.d", self.name)
    }

    fn file(&self, plugin: &Plugin, kind: &str) -> Value {
        let ranges = self
            .subnets
            .iter()
            .map(|subnet| json!([{"subnet": subnet}]));
        let default = |subnet: &IpNet| match subnet {
            IpNet::V4(_) => "0.0.0.0/0",
            IpNet::V6(_) => "::/0",
        };
        let routes = self
            .subnets
            .iter()
            .map(|subnet| json!({"dst": default(subnet)}));
        let ipam = json!({
            "type": "host-local",
            "ranges": ranges.collect::<Vec<_>>(),
            "routes": routes.collect::<Vec<_>>(),
        });
        let main = match self.kind {
            Kind::Bridge => json!({
                "type": "bridge",
                "bridge": self.name,
                "isGateway": true,
                "hairpinMode": true,
                "ipam": ipam,
            }),
            Kind::Ptp => json!({"type": "ptp", "ipam": ipam}),
            Kind::Macvlan => json!({
                "type": "macvlan",
                "master": self.name,
                "mode": "bridge",
                "ipam": ipam,
            }),
        };
        let mut last = plugin.configuration.clone();
        last.insert("type".to_owned(), Value::from(kind));
        json!({"cniVersion": "1.0.0", "name": self.name, "plugins": [main, last]})
    }
}

/// Puts plugins and networks where runtimes find them.
pub(crate) fn install(node: &Node, networks: &[Network], plugin: &Plugin) -> Result<(), Error> {
    node.make_folder(PLUGINS)?;
    for name in REFERENCE {
        let files = FOLDERS.iter().map(|folder| Path::new(folder).join(name));
        let file = files.into_iter().find(|file| file.is_file());
        let file = file.ok_or(Error::MissingProgram {
            program: name,
            package: "containernetworking-plugins",
        })?;
        copy(node, &file, name)?;
    }
    let kind = plugin
        .program
        .file_name()
        .unwrap_or_default()
        .to_string_lossy();
    copy(node, &plugin.program, &kind)?;
    node.make_folder(ALL)?;
    for network in networks {
        if network.kind == Kind::Macvlan {
            let name = &network.name;
            let link = format!(
                "link add {name} type veth peer name {name}-wire\nlink set {name} up\nlink set {name}-wire up\n"
            );
            node.network().ip_batch(&link)?;
        }
        let content = network.file(plugin, &kind).to_string();
        node.make_folder(&network.folder())?;
        for folder in [ALL, &network.folder()] {
            node.write(&format!("{folder}/{}.conflist", network.name), &content)?;
        }
    }
    Ok(())
}

/// A copy, as the file may be where the node has another file system.
fn copy(node: &Node, file: &Path, name: &str) -> Result<(), Error> {
    let to = node.path(PLUGINS).join(name);
    fs::copy(file, to).map_err(io(format!("copy {}", file.display())))?;
    Ok(())
}
