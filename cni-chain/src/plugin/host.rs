//! The interface that is put into quarantine and let out: the node's end, or where packets bypass the node's rules, the
//! pod's own.

use std::collections::BTreeSet;
use std::net::IpAddr;

use kernel::{
    Inside, Link, LinkError, Links, NamespaceError, NetworkNamespace, Nftables, PeerError, Scope,
};

use super::error::{Code, Error};
use super::log::Log;
use super::{link_local, way};
use crate::attachment::{Attachment, Path, PodIdentity, is_of_a_pod};
use crate::quarantine::{self, ALIAS_PREFIX, QUARANTINE};

/// The namespace of the process.
const OWN: &str = "/proc/thread-self/ns/net";

/// What the kernel knows of an interface.
pub(super) struct Host {
    links: Links,
    namespace: NetworkNamespace,
    /// Sockets in the namespace, from when they were needed.
    inside: Option<Inside>,
    /// The pod's own end.
    own: Link,
    /// The one that quarantine is about.
    held: Link,
    path: Path,
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
        let absent = |error: LinkError| match error {
            LinkError::Absent(_) => {
                let message = format!("the container has no interface {interface}");
                Error::of(Code::Configuration, message, &error)
            }
            error => failed(&error),
        };
        let (own, held, path) = match links.pair(&namespace, interface) {
            Ok(pair) => {
                let path = way::of_pair(&mut links, &pair).map_err(|error| failed(&error))?;
                let held = match path.index() {
                    Some(_) => pair.outside,
                    None => pair.inside.clone(),
                };
                (pair.inside, held, path)
            }
            Err(LinkError::Peer {
                reason: PeerError::Kind(_),
                ..
            }) => {
                let own = inside(&mut links, &namespace, interface).map_err(absent)?;
                let path = way::of_single(&own)?;
                (own.clone(), own, path)
            }
            Err(error) => return Err(absent(error)),
        };
        Ok(Self {
            links,
            namespace,
            inside: None,
            own,
            held,
            path,
        })
    }

    pub(super) fn netns_inode(&self) -> u64 {
        self.namespace.inode()
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The group of the interface that quarantine is about, as it is now.
    pub(super) fn group(&mut self) -> Result<Option<u32>, Error> {
        let index = self.held.index;
        let now = self.links_of_held()?.by_index(index);
        let now = now.map_err(|error| failed(&error))?;
        Ok(now.map(|link| link.group))
    }

    /// The addresses of the interface that others than its neighbours can name.
    pub(super) fn addresses_inside(&mut self) -> Result<BTreeSet<IpAddr>, Error> {
        let mut read = || {
            let id = self.links.namespace_id(&self.namespace)?;
            self.links.addresses_in(id, self.own.index)
        };
        let addresses = read().map_err(|error| failed(&error))?;
        let global = addresses.iter().filter(|of| of.scope == Scope::Global);
        let addresses = global.map(|of| of.address.to_canonical());
        Ok(addresses.filter(|address| is_of_a_pod(*address)).collect())
    }

    /// The link-local addresses of the interface, once the kernel has made one.
    pub(super) fn link_local_addresses(&self) -> Result<BTreeSet<IpAddr>, Error> {
        let read = self
            .namespace
            .run(|| link_local::addresses(&self.own.name, link_local::PATIENCE));
        let read = read.map_err(|error| unavailable(&error))?;
        read.map_err(|error| failed(&error))
    }

    /// The addresses of the node itself.
    pub(super) fn addresses_of_node(&mut self) -> Result<BTreeSet<IpAddr>, Error> {
        let addresses = self.links.addresses().map_err(|error| failed(&error))?;
        Ok(addresses.iter().map(|of| of.address).collect())
    }

    /// Puts the interface into quarantine, and makes sure that there is one. Whether it now is: not where the group is
    /// somebody else's.
    pub(super) fn quarantine(&mut self, pod: &PodIdentity, log: &Log) -> Result<bool, Error> {
        let held = self.held.clone();
        if !quarantine::is_ours(held.group) {
            log.event(&format!(
                "{held} is in group {}, which is somebody else's: it is left there, and is not in quarantine",
                held.group
            ));
            return Ok(false);
        }
        // First, as a group without rules holds nothing back.
        let ensured = match &self.path {
            Path::Bypass { .. } => quarantine::ensure(&mut self.inside()?.nftables),
            _ => Nftables::open().and_then(|mut nftables| quarantine::ensure(&mut nftables)),
        };
        ensured.map_err(|error| {
            Error::of(
                Code::TryAgain,
                "the rules of the quarantine can not be put in force",
                &error,
            )
        })?;
        let links = self.links_of_held()?;
        let mut tag = || {
            links.set_group(&held, QUARANTINE)?;
            let theirs = |alias: &String| !alias.is_empty() && !alias.starts_with(ALIAS_PREFIX);
            match held.alias.as_ref().filter(|alias| theirs(alias)) {
                Some(_) => Ok(()),
                None => links.set_alias(&held, &quarantine::alias(pod)),
            }
        };
        tag().map_err(|error| failed(&error))?;
        Ok(true)
    }

    /// Lets the interface out of quarantine, without a policy, unless it is out already.
    pub(super) fn release(&mut self) -> Result<(), Error> {
        if self.group()? != Some(QUARANTINE) {
            return Ok(());
        }
        let held = self.held.clone();
        let released = self.links_of_held()?.set_group(&held, 0);
        released.map_err(|error| failed(&error))
    }

    fn links_of_held(&mut self) -> Result<&mut Links, Error> {
        match self.path {
            Path::Bypass { .. } => Ok(&mut self.inside()?.links),
            _ => Ok(&mut self.links),
        }
    }

    fn inside(&mut self) -> Result<&mut Inside, Error> {
        match &mut self.inside {
            Some(inside) => Ok(inside),
            none => {
                let opened = self.namespace.inside();
                Ok(none.insert(opened.map_err(|error| unavailable(&error))?))
            }
        }
    }
}

/// Takes a group and an alias of ours from an interface of the pod: one that is moved back to the node would be in
/// quarantine there. Nothing runs in a pod any more whose network is taken away.
pub(super) fn give_back(attachment: &Attachment) -> Result<(), GiveBackError> {
    let Path::Bypass { index, .. } = attachment.path else {
        return Ok(());
    };
    let namespace = NetworkNamespace::open_numbered(&attachment.netns, attachment.netns_inode)?;
    let mut links = namespace.run(Links::open)??;
    let Some(link) = links.by_index(index)? else {
        return Ok(());
    };
    if quarantine::is_ours(link.group) && link.group != 0 {
        links.set_group(&link, 0)?;
    }
    let alias = link.alias.as_ref();
    if alias.is_some_and(|alias| alias.starts_with(ALIAS_PREFIX)) {
        links.set_alias(&link, "")?;
    }
    Ok(())
}

/// Why an interface still has what we gave it.
#[derive(Debug, thiserror::Error)]
pub(super) enum GiveBackError {
    /// Its namespace is gone, and it with that unless it is a device.
    #[error(transparent)]
    Namespace(#[from] NamespaceError),
    /// The kernel could not be asked.
    #[error(transparent)]
    Links(#[from] LinkError),
}

fn inside(
    links: &mut Links,
    namespace: &NetworkNamespace,
    interface: &str,
) -> Result<Link, LinkError> {
    let id = links.namespace_id(namespace)?;
    let link = links.by_name_in(id, interface)?;
    link.ok_or_else(|| LinkError::Absent(interface.to_owned()))
}

fn unavailable(error: &NamespaceError) -> Error {
    Error::of(
        Code::TryAgain,
        "the kernel can not be asked about the pod's network namespace",
        error,
    )
}

fn failed(error: &LinkError) -> Error {
    Error::of(
        Code::TryAgain,
        "the kernel can not be asked about the interface",
        error,
    )
}
