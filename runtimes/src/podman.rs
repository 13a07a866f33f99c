//! podman, which calls CNI plugins with the backend of that name, and has no daemon.

use std::net::IpAddr;
use std::process::Command;
use std::sync::Arc;

use serde_json::Value;

use crate::error::Error;
use crate::image;
use crate::network::{ALL, Network, PLUGINS};
use crate::node::Node;
use crate::output::Output;

const CONFIGURATION: &str = "/run/podman/containers.conf";
const STORAGE: &str = "/run/podman/storage.conf";

/// podman in a node, with a storage of its own.
#[derive(Debug)]
pub struct Podman {
    node: Arc<Node>,
    cgroup: String,
}

impl Podman {
    pub(crate) fn start(
        node: &Arc<Node>,
        networks: &[Network],
        cgroup: String,
    ) -> Result<Podman, Error> {
        node.make_folder("/run/podman")?;
        node.write(CONFIGURATION, configuration(networks))?;
        let storage = "[storage]\ndriver = \"overlay\"\ngraphroot = \"/var/lib/containers/storage\"\n\
                       runroot = \"/run/containers/storage\"\n";
        node.write(STORAGE, storage)?;
        let podman = Podman {
            node: Arc::clone(node),
            cgroup,
        };
        let mut load = podman.command()?;
        load.args(["load", "--quiet", "--input", image::FILE]);
        podman.node.run(load)?;
        Ok(podman)
    }

    /// Starts a container in a network.
    pub fn run(&self, name: &str, network: &Network, argv: &[&str]) -> Result<(), Error> {
        let mut command = self.command()?;
        let cgroup = format!("--cgroup-parent={}", self.cgroup);
        command.args(["run", "--detach", &cgroup, "--name", name]);
        command
            .args(["--network", &network.name, image::NAME])
            .args(argv);
        self.node.run(command).map(drop)
    }

    /// Runs a program in a container to its end.
    pub fn exec(&self, name: &str, argv: &[&str]) -> Result<Output, Error> {
        let mut command = self.command()?;
        command.args(["exec", name]).args(argv);
        self.node.output(command)
    }

    /// The addresses of a container.
    pub fn addresses(&self, name: &str) -> Result<Vec<IpAddr>, Error> {
        let mut command = self.command()?;
        command.args([
            "inspect",
            "--format",
            "{{json .NetworkSettings.Networks}}",
            name,
        ]);
        let said = self.node.run(command)?;
        let addresses = addresses(&said);
        addresses.ok_or(Error::Unexpected {
            what: "what podman says of a container's networks",
            text: said,
        })
    }

    /// What a container wrote.
    pub fn logs(&self, name: &str) -> Result<Output, Error> {
        let mut command = self.command()?;
        command.args(["logs", name]);
        self.node.output(command)
    }

    /// Ends and removes a container. Says what podman says, which removes it also where a plugin fails.
    pub fn rm(&self, name: &str) -> Result<Output, Error> {
        let mut command = self.command()?;
        command.args(["rm", "--force", "--time", "0", name]);
        self.node.output(command)
    }

    fn command(&self) -> Result<Command, Error> {
        let mut command = self.node.command("podman", "podman")?;
        command.env("CONTAINERS_CONF", CONFIGURATION);
        command.env("CONTAINERS_STORAGE_CONF", STORAGE);
        Ok(command)
    }
}

fn addresses(networks: &str) -> Option<Vec<IpAddr>> {
    let networks: Value = serde_json::from_str(networks).ok()?;
    let networks = networks.as_object()?.values();
    let each =
        networks.flat_map(|network| ["IPAddress", "GlobalIPv6Address"].map(|key| &network[key]));
    let texts = each
        .filter_map(Value::as_str)
        .filter(|text| !text.is_empty());
    texts.map(|text| text.parse().ok()).collect()
}

/// runc, as crun refuses a machine with both kinds of cgroups. Locks are files, as they would be in the memory that
/// all podmans of the machine share.
fn configuration(networks: &[Network]) -> String {
    let default = networks
        .first()
        .map(|network| network.name.as_str())
        .unwrap_or_default();
    format!(
        "[containers]
apparmor_profile = \"unconfined\"
cgroups = \"enabled\"
default_ulimits = [\"nofile=1024:1024\", \"nproc=4096:4096\"]
log_driver = \"k8s-file\"
[engine]
cgroup_manager = \"cgroupfs\"
events_logger = \"file\"
lock_type = \"file\"
runtime = \"runc\"
[network]
network_backend = \"cni\"
cni_plugin_dirs = [\"{PLUGINS}\"]
network_config_dir = \"{ALL}\"
default_network = \"{default}\"
"
    )
}
