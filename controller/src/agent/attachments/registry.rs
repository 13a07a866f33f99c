//! Which interfaces of pods are there: the folder of records, held to the links of this node.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::DirBuilder;
use std::io;
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use cni_chain::attachment::{self, Attachment, AttachmentId, Records};
use cni_chain::quarantine::{self, ACTIVE, QUARANTINE};
use kernel::{Kind, Link, LinkError, LinkEvent, LinkWatch, Links, NetworkNamespace};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, InotifyEvent};
use policy_compiler::model::{InterfaceName, is_link_local};
use tokio::sync::watch::{Receiver, Sender, channel};
use tracing::{info, warn};

use super::{Attached, Refusal};
use crate::agent::error::describe;
use crate::agent::preflight::hand_over;

/// How often everything is looked at though no event came.
const LOOK: Duration = Duration::from_secs(10);

/// How many times as long as a look the rest after it is.
const REST: u32 = 2;

/// Bytes for events that were not read yet. Lost ones are made good by a look.
const EVENTS: usize = 1 << 20;

pub(super) struct Registry {
    records: Records,
    inotify: Option<Inotify>,
    events: Option<LinkWatch>,
    links: Option<Links>,
    last: Arc<Attached>,
    /// What was said last of what failed.
    said: Option<String>,
}

/// What a look found out about the node.
struct Node {
    links: BTreeMap<u32, Link>,
    addresses: BTreeSet<IpAddr>,
}

impl Registry {
    pub(super) fn start(run_dir: &Path) -> io::Result<Receiver<Arc<Attached>>> {
        let records = Records::new(run_dir);
        if let Err(error) = make(records.folder()) {
            // A plugin that can not make it either starts no pod.
            warn!("{}: can not be made: {error}", records.folder().display());
        }
        let mut registry = Self {
            // First: what comes after the look is heard of.
            inotify: watch(records.folder())
                .map_err(|error| {
                    warn!("records of interfaces are looked at only now and then: {error}")
                })
                .ok(),
            events: LinkWatch::open(EVENTS).ok(),
            links: Links::open().ok(),
            records,
            last: Arc::default(),
            said: None,
        };
        // Without it nobody would know of the interfaces that are there.
        registry.look().map_err(io::Error::other)?;
        let (publish, attached) = channel(Arc::clone(&registry.last));
        let work = move || registry.run(&publish);
        thread::Builder::new()
            .name("attachments".to_owned())
            .spawn(work)?;
        Ok(attached)
    }

    fn run(mut self, publish: &Sender<Arc<Attached>>) {
        while !publish.is_closed() {
            self.wait();
            let start = Instant::now();
            let failure = self.look().err();
            if let Some(failure) = &failure
                && self.said.as_ref() != Some(failure)
            {
                warn!("what is known of the interfaces of pods stays as it was: {failure}");
            }
            self.said = failure;
            publish.send_if_modified(|published| {
                let is_new = *published != self.last;
                published.clone_from(&self.last);
                is_new
            });
            // What comes meanwhile comes together.
            thread::sleep(start.elapsed() * REST);
        }
    }

    /// Until a record or a link came, went or changed, or it is time to look anyway.
    fn wait(&mut self) {
        let end = Instant::now() + LOOK;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
            let mut waiting = Vec::new();
            let inotify = self.inotify.iter().map(AsFd::as_fd);
            waiting.extend(inotify.map(|fd| PollFd::new(fd, PollFlags::POLLIN)));
            let events = self.events.iter().map(AsFd::as_fd);
            waiting.extend(events.map(|fd| PollFd::new(fd, PollFlags::POLLIN)));
            if left.is_zero() || poll(&mut waiting, timeout) == Ok(0) {
                return;
            }
            let of_records = match self.inotify.as_ref().map(Inotify::read_events) {
                Some(Ok(events)) => {
                    // The folder went, and what comes to one in its place is not told.
                    let gone =
                        |event: &InotifyEvent| event.mask.contains(AddWatchFlags::IN_IGNORED);
                    if events.iter().any(gone) {
                        self.inotify = None;
                    }
                    true
                }
                _ => false,
            };
            let of_links = match self.events.as_mut().map(LinkWatch::events) {
                Some(Ok(events)) => events.iter().any(is_of_a_pod),
                Some(Err(_)) => {
                    self.events = LinkWatch::open(EVENTS).ok();
                    true
                }
                None => false,
            };
            if of_records || of_links {
                return;
            }
        }
    }

    /// Looks at all there is.
    fn look(&mut self) -> Result<(), String> {
        let folder = self.records.folder();
        if self.inotify.is_none() {
            self.inotify = make(folder).and_then(|()| Ok(watch(folder)?)).ok();
        }
        // Before the links: an interface whose record is there is there too, or gone.
        let (mut records, errors) = self
            .records
            .list()
            .map_err(|error| format!("{}: {error}", folder.display()))?;
        let node = self.node().map_err(|error| {
            self.links = None;
            describe(&error)
        })?;
        self.take_back(&node);
        let mut attached = Attached {
            unreadable: errors.iter().map(|error| describe(error)).collect(),
            ..Attached::default()
        };
        for line in &attached.unreadable {
            if !self.last.unreadable.contains(line) {
                warn!(
                    "a record of an interface can not be read, and it passes nothing if it is in quarantine: {line}"
                );
            }
        }
        // Who has an address keeps it: who had it before, or was let pass by an agent before this one.
        let last = &self.last.accepted;
        records.sort_by_cached_key(|record| {
            let link = record.path.index().and_then(|index| node.links.get(&index));
            let is_active = link.is_some_and(|link| link.group == ACTIVE);
            let had = last
                .get(&record.id)
                .is_some_and(|last| last.addresses == record.addresses);
            (!had, !is_active, record.id.clone())
        });
        let named = |record: &Attachment| {
            let index = record.path.index()?;
            let link = node.links.get(&index)?;
            (record.path.host() == Some(&link.name)).then_some(index)
        };
        let named: BTreeSet<u32> = records.iter().filter_map(named).collect();
        let mut taken = BTreeMap::new();
        let mut bridges = BTreeMap::new();
        for record in records {
            let mut there = record.clone();
            if !is_there(&mut there, &node.links, &named) {
                self.forget(&record);
                continue;
            }
            let record = Arc::new(there);
            match self.objection(&record, &node, &taken, &mut bridges) {
                None => {
                    let addresses = record.addresses.iter();
                    taken.extend(addresses.map(|address| (*address, record.id.clone())));
                    attached.accepted.insert(record.id.clone(), record);
                }
                Some((message, details)) => {
                    let refusal = Refusal {
                        attachment: Arc::clone(&record),
                        message,
                        details,
                    };
                    if self.last.refused.get(&record.id) != Some(&refusal) {
                        warn!(attachment = %record.id, ns = %record.pod.namespace, pod = %record.pod.name, "an interface passes nothing: {}: {}", refusal.message, refusal.details);
                    }
                    attached.refused.insert(record.id.clone(), refusal);
                }
            }
        }
        if *self.last != attached {
            self.last = Arc::new(attached);
        }
        Ok(())
    }

    /// A device that was a pod's is the node's again when the pod's network namespace ends, and in the group that it had.
    fn take_back(&mut self, node: &Node) {
        let of_pods = [Kind::Veth, Kind::Netkit];
        let back = node.links.values().filter(|link| {
            [QUARANTINE, ACTIVE].contains(&link.group) && !of_pods.contains(&link.kind)
        });
        for link in back {
            let links = self.links.as_mut();
            match links.map(|links| links.set_group(link, 0)) {
                Some(Err(error)) => warn!(
                    "{link} is no pod's any more, and is in quarantine: {}",
                    describe(&error)
                ),
                _ => info!("{link} is no pod's any more, and is out of quarantine"),
            }
        }
    }

    fn node(&mut self) -> Result<Node, LinkError> {
        if self.links.is_none() {
            self.links = Some(Links::open()?);
        }
        let Some(links) = &mut self.links else {
            return Ok(Node {
                links: BTreeMap::new(),
                addresses: BTreeSet::new(),
            });
        };
        let all = links
            .list()?
            .into_iter()
            .map(|link| (link.index, link))
            .collect();
        let addresses = links
            .addresses()?
            .into_iter()
            .map(|address| address.address)
            .collect();
        Ok(Node {
            links: all,
            addresses,
        })
    }

    /// Its interface is gone: no DEL came, or is still to come, and finds nothing to do.
    fn forget(&self, record: &Attachment) {
        // Another may have been written in its place by now.
        if !matches!(self.records.read(&record.id), Ok(Some(now)) if now == *record) {
            return;
        }
        match self.records.remove(&record.id) {
            Ok(_) => {
                info!(attachment = %record.id, ns = %record.pod.namespace, pod = %record.pod.name, "an interface is gone, and so is its record")
            }
            Err(error) => warn!(
                "the record of an interface that is gone can not be removed: {}",
                describe(&error)
            ),
        }
    }

    /// Why the interface may not belong to a pod, and what to do about it.
    fn objection(
        &mut self,
        record: &Attachment,
        node: &Node,
        taken: &BTreeMap<IpAddr, AttachmentId>,
        bridges: &mut BTreeMap<String, Result<(), String>>,
    ) -> Option<(String, String)> {
        // A link-local address is one of its link, and other links may have it too.
        for address in record
            .addresses
            .iter()
            .filter(|address| !is_link_local(address))
        {
            if node.addresses.contains(address) {
                return Some((
                    format!("{address} is an address of the node"),
                    "have the plugins before this one give pods addresses that are nobody's"
                        .to_owned(),
                ));
            }
            if let Some(other) = taken.get(address) {
                return Some((
                    format!("{address} is the address of another interface, {other}"),
                    "it is free when that interface is gone: see what gives out addresses (IPAM) in this network".to_owned(),
                ));
            }
        }
        if let Some(host) = record.path.host()
            && let Err(error) = InterfaceName::new(host)
        {
            return Some((
                error.to_string(),
                "have the plugins before this one name it otherwise".to_owned(),
            ));
        }
        if let attachment::Path::Bridged { bridge, .. } = &record.path {
            let link = node
                .links
                .values()
                .find(|link| link.name == *bridge && link.kind == Kind::Bridge);
            let Some(link) = link else {
                return Some((
                    format!("the bridge {bridge} is not there"),
                    "ip link show type bridge".to_owned(),
                ));
            };
            let handed = bridges.entry(bridge.clone()).or_insert_with(|| {
                let links = self.links.as_mut();
                links.map_or(Ok(()), |links| hand_over(links, link))
            });
            if let Err(error) = handed.clone() {
                return Some((
                    format!("policies can not be enforced on the bridge {bridge}"),
                    error,
                ));
            }
        }
        None
    }
}

fn make(folder: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

fn watch(folder: &Path) -> Result<Inotify, nix::errno::Errno> {
    let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)?;
    let what = AddWatchFlags::IN_MOVED_TO
        | AddWatchFlags::IN_MOVED_FROM
        | AddWatchFlags::IN_DELETE
        | AddWatchFlags::IN_CLOSE_WRITE;
    inotify.add_watch(folder, what)?;
    Ok(inotify)
}

fn is_of_a_pod(event: &LinkEvent) -> bool {
    match event {
        LinkEvent::Link(link) | LinkEvent::Gone(link) => {
            matches!(link.kind, Kind::Veth | Kind::Netkit | Kind::Bridge)
                || [QUARANTINE, ACTIVE].contains(&link.group)
        }
        LinkEvent::Overrun => true,
        LinkEvent::Address(_) | LinkEvent::AddressGone(_) => false,
    }
}

/// Whether the interface is still there; under another name, it is by that from now on. `named` are the links that have
/// the name which a record has of them: no other record is about these.
fn is_there(record: &mut Attachment, links: &BTreeMap<u32, Link>, named: &BTreeSet<u32>) -> bool {
    let alias = quarantine::alias(&record.pod);
    match &mut record.path {
        attachment::Path::Routed { host, index }
        | attachment::Path::Bridged { host, index, .. } => {
            let link = links
                .get(index)
                .filter(|link| matches!(link.kind, Kind::Veth | Kind::Netkit));
            // A number is given again when its link is gone.
            let link = link.filter(|link| {
                let is_ours = link.alias.as_ref() == Some(&alias)
                    || [QUARANTINE, ACTIVE].contains(&link.group);
                let is_renamed = is_ours && !named.contains(index);
                link.name == *host || is_renamed
            });
            if let Some(link) = link {
                host.clone_from(&link.name);
            }
            link.is_some()
        }
        attachment::Path::Bypass { .. } => {
            let path = Path::new(&record.netns);
            // Namespaces may be where this process does not see them.
            let is_seen = path
                .parent()
                .is_some_and(|folder| folder.read_dir().is_ok_and(|mut all| all.next().is_some()));
            let is_same =
                NetworkNamespace::open(path).is_ok_and(|there| there.inode() == record.netns_inode);
            is_same || !is_seen
        }
    }
}
