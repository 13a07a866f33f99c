//! The node's end of an interface: found, put into quarantine, and let out.

use std::collections::BTreeSet;
use std::net::IpAddr;

use kernel::{Kind, Link, LinkError, Links, NetworkNamespace, Nftables, PeerError, Scope};

use super::error::{Code, Error};
use super::log::Log;
use crate::attachment::{Path, PodIdentity, is_of_a_pod};
use crate::quarantine::{self, ALIAS_PREFIX, QUARANTINE};

/// The namespace of the process.
const OWN: &str = "/proc/thread-self/ns/net";

/// What the kernel knows of an interface.
pub(super) struct Host {
    links: Links,
    namespace: NetworkNamespace,
    path: Path,
    /// The node's end, where packets take a way that rules of the node see.
    end: Option<Link>,
}

impl Host {
    /// Finds the other end of an interface of a namespace. Nobody enters it.
    pub(super) fn find(netns: &str, interface: &str) -> Result<Self, Error> {
        let open = |path: &str| {
            NetworkNamespace::open(path)
                .map_err(|error| Error::of(Code::Environment, "CNI_NETNS can not be used", &error))
        };
        let namespace = open(netns)?;
        if namespace.inode() == open(OWN)?.inode() {
            let details = format!(
                "{netns} is the node's own network namespace, whose interfaces are the node's"
            );
            return Err(Error::new(
                Code::Environment,
                "CNI_NETNS can not be used",
                details,
            ));
        }
        let mut links = Links::open().map_err(|error| failed(&error))?;
        let (path, end) = match links.pair(&namespace, interface) {
            Ok(pair) => {
                let path = path_of(&mut links, &pair.outside).map_err(|error| failed(&error))?;
                let end = path.index().is_some().then_some(pair.outside);
                (path, end)
            }
            Err(LinkError::Peer {
                reason: PeerError::Kind(kind),
                ..
            }) => (bypass(&kind), None),
            Err(error @ LinkError::Absent(_)) => {
                let message = format!("the container has no interface {interface}");
                return Err(Error::of(Code::Configuration, message, &error));
            }
            Err(error) => return Err(failed(&error)),
        };
        Ok(Self {
            links,
            namespace,
            path,
            end,
        })
    }

    pub(super) fn netns_inode(&self) -> u64 {
        self.namespace.inode()
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The group of the node's end, as it is now.
    pub(super) fn group(&mut self) -> Result<Option<u32>, Error> {
        let Some(end) = &self.end else {
            return Ok(None);
        };
        let now = self
            .links
            .by_index(end.index)
            .map_err(|error| failed(&error))?;
        Ok(now.map(|link| link.group))
    }

    /// The addresses of the interface that others than its neighbours can name.
    pub(super) fn addresses_inside(&mut self, interface: &str) -> Result<BTreeSet<IpAddr>, Error> {
        let mut read = || {
            let id = self.links.namespace_id(&self.namespace)?;
            let link = self.links.by_name_in(id, interface)?;
            let link = link.ok_or_else(|| LinkError::Absent(interface.to_owned()))?;
            self.links.addresses_in(id, link.index)
        };
        let addresses = read().map_err(|error| failed(&error))?;
        let global = addresses.iter().filter(|of| of.scope == Scope::Global);
        let addresses = global.map(|of| of.address.to_canonical());
        Ok(addresses.filter(|address| is_of_a_pod(*address)).collect())
    }

    /// The addresses of the node itself.
    pub(super) fn addresses_of_node(&mut self) -> Result<BTreeSet<IpAddr>, Error> {
        let addresses = self.links.addresses().map_err(|error| failed(&error))?;
        Ok(addresses.iter().map(|of| of.address).collect())
    }

    /// Puts the node's end into quarantine, and makes sure that there is one. Whether it now is: not where rules of the
    /// node see nothing, and not where the group is somebody else's.
    pub(super) fn quarantine(&mut self, pod: &PodIdentity, log: &Log) -> Result<bool, Error> {
        let Some(end) = &self.end else {
            return Ok(false);
        };
        if !quarantine::is_ours(end.group) {
            log.event(&format!(
                "{end} is in group {}, which is somebody else's: it is left there, and is not in quarantine",
                end.group
            ));
            return Ok(false);
        }
        // First, as a group without rules holds nothing back.
        let ensured = Nftables::open().and_then(|mut nftables| quarantine::ensure(&mut nftables));
        ensured.map_err(|error| {
            Error::of(
                Code::TryAgain,
                "the rules of the quarantine can not be put in force",
                &error,
            )
        })?;
        let mut tag = || {
            self.links.set_group(end, QUARANTINE)?;
            let theirs = |alias: &String| !alias.is_empty() && !alias.starts_with(ALIAS_PREFIX);
            match end.alias.as_ref().filter(|alias| theirs(alias)) {
                Some(_) => Ok(()),
                None => self.links.set_alias(end, &quarantine::alias(pod)),
            }
        };
        tag().map_err(|error| failed(&error))?;
        Ok(true)
    }

    /// Lets the node's end out of quarantine, without a policy, unless it is out already.
    pub(super) fn release(&mut self) -> Result<(), Error> {
        if self.group()? != Some(QUARANTINE) {
            return Ok(());
        }
        let released = self
            .end
            .as_ref()
            .map_or(Ok(()), |end| self.links.set_group(end, 0));
        released.map_err(|error| failed(&error))
    }
}

/// By what the node's end is a part of.
fn path_of(links: &mut Links, end: &Link) -> Result<Path, LinkError> {
    let host = end.name.clone();
    let index = end.index;
    let Some(master) = end.master else {
        return Ok(Path::Routed { host, index });
    };
    let of = links.by_index(master.index)?;
    let of =
        of.ok_or_else(|| LinkError::Absent(format!("{}, the master of {end}", master.index)))?;
    Ok(match &of.kind {
        Kind::Bridge => Path::Bridged {
            host,
            index,
            bridge: of.name,
        },
        // Packets pass the hooks before they are the VRF's.
        Kind::Other(kind) if kind == "vrf" => Path::Routed { host, index },
        // Open vSwitch and others take packets before any rule sees them.
        kind => bypass(kind),
    })
}

fn bypass(kind: &Kind) -> Path {
    let link = match kind {
        // A device that was moved, whole or a function of it: the kernel names no kind.
        Kind::Device => "device".to_owned(),
        kind => kind.to_string(),
    };
    Path::Bypass { link }
}

fn failed(error: &LinkError) -> Error {
    Error::of(
        Code::TryAgain,
        "the kernel can not be asked about the interface",
        error,
    )
}
