//! Building a topology out of namespaces.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Mutex;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use nix::ifaddrs::getifaddrs;
use nix::net::if_::InterfaceFlags;

use crate::error::Error;
use crate::layout::{Layout, bridge_mac, host_interface, host_mac, pod_mac};
use crate::mac::Mac;
use crate::namespace::Namespace;
use crate::scripts::BRIDGE_INTERFACE;
use crate::topology::{Network, Place, Topology};
use crate::{parallel, program, scripts, settings};

/// How long interfaces may take to come up. It takes milliseconds; this is for a machine that is swamped.
const READY: Duration = Duration::from_secs(20);

/// Namespaces, connected and ready. All of it is gone when this value is dropped or the process ends.
#[derive(Debug)]
pub struct Testbed {
    namespaces: BTreeMap<Place, Namespace>,
    attachments: BTreeMap<String, Attachment>,
    /// The last source port used per source address: no probe repeats the flow of an earlier one, whose connection
    /// a node may still remember.
    pub(crate) ports: Mutex<HashMap<IpAddr, u16>>,
    /// The next probe token.
    pub(crate) tokens: AtomicU64,
}

/// How a pod is attached to its node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attachment {
    /// The host side of the veth, in the node's namespace.
    pub interface: String,
    /// The Ethernet address of the pod's interface.
    pub mac: Mac,
    /// The pod's link-local address.
    pub link_local: Ipv6Addr,
    /// Where the pod's frames for other hosts go: the host side of the veth, or the bridge.
    pub gateway_mac: Mac,
    /// The node's addresses in the pod's subnets: of a bridged pod that has any.
    pub gateways: Vec<IpAddr>,
    /// The bridge of which `interface` is a port.
    pub bridge: Option<String>,
}

impl Testbed {
    /// Makes every namespace, link, address and route of `topology`. What it returns can be used at once.
    pub fn build(topology: &Topology) -> Result<Testbed, Error> {
        topology.check()?;
        let layout = Layout::new(topology);
        let fabric = Namespace::new()?;
        let nodes = parallel::map(&topology.nodes, |_| Namespace::new())?;
        let pods = parallel::map(&topology.pods, |_| Namespace::new())?;
        let node_of: BTreeMap<usize, usize> = (layout.pods_of.iter().enumerate())
            .flat_map(|(node, pods)| pods.iter().map(move |&pod| (pod, node)))
            .collect();

        // A veth exists in both its namespaces from the start, so that each script finds what the one before made.
        fabric.run(settings::route_packets_of_anyone)??;
        fabric.ip_batch(&scripts::fabric(&layout, &nodes))?;
        let indexed: Vec<_> = nodes.iter().enumerate().collect();
        parallel::map(&indexed, |(index, namespace)| {
            namespace.enter_on_this_thread()?;
            settings::route_packets()?;
            let bridged = topology.network == Network::Bridged;
            if bridged {
                settings::require_bridge_netfilter()?;
            }
            program::IP.run(&["-batch", "-"], &scripts::node(&layout, *index, &pods))?;
            if bridged {
                program::BRIDGE.run(&["-batch", "-"], &scripts::bridge(&layout, *index))?;
            }
            Ok(())
        })?;
        let placed: Vec<_> = node_of
            .iter()
            .map(|(&pod, &node)| (node, pod, &pods[pod]))
            .collect();
        parallel::map(&placed, |(node, pod, namespace)| {
            namespace.enter_on_this_thread()?;
            program::IP
                .run(&["-batch", "-"], &scripts::pod(&layout, *node, *pod))
                .map(drop)
        })?;

        let attachments = node_of
            .iter()
            .map(|(&pod, &node)| attachment(&layout, node, pod))
            .collect();
        let node_names = topology
            .nodes
            .iter()
            .map(|node| Place::Node(node.name.clone()));
        let pod_names = topology.pods.iter().map(|pod| Place::Pod(pod.name.clone()));
        let mut namespaces: BTreeMap<_, _> =
            node_names.zip(nodes).chain(pod_names.zip(pods)).collect();
        namespaces.insert(Place::External, fabric);
        let places: Vec<_> = namespaces.iter().collect();
        parallel::map(&places, |(place, namespace)| {
            wait_until_ready(place, namespace)
        })?;
        Ok(Testbed {
            namespaces,
            attachments,
            ports: Mutex::default(),
            tokens: AtomicU64::new(1),
        })
    }

    /// The namespace of a place.
    pub fn namespace(&self, place: &Place) -> Option<&Namespace> {
        self.namespaces.get(place)
    }

    /// Every place with its namespace, in order.
    pub fn namespaces(&self) -> impl Iterator<Item = (&Place, &Namespace)> {
        self.namespaces.iter()
    }

    /// How the pod of this name is attached.
    pub fn attachment(&self, pod: &str) -> Option<&Attachment> {
        self.attachments.get(pod)
    }

    /// Makes every namespace forget the connections that it tracks, so that rules judge each packet as a new one.
    pub fn forget_connections(&self) -> Result<(), Error> {
        self.namespaces
            .values()
            .try_for_each(Namespace::forget_connections)
    }

    /// The namespace of a place that a caller named.
    pub(crate) fn require(&self, place: &Place) -> Result<&Namespace, Error> {
        self.namespace(place)
            .ok_or_else(|| Error::UnknownPlace(place.clone()))
    }
}

fn attachment(layout: &Layout<'_>, node: usize, pod: usize) -> (String, Attachment) {
    let bridged = layout.topology.network == Network::Bridged;
    let spec = &layout.topology.pods[pod];
    let attachment = Attachment {
        interface: host_interface(pod),
        mac: pod_mac(pod),
        link_local: pod_mac(pod).link_local(),
        gateway_mac: if bridged {
            bridge_mac(node)
        } else {
            host_mac(pod)
        },
        gateways: layout.subnet_gateways(spec),
        bridge: bridged.then(|| BRIDGE_INTERFACE.to_owned()),
    };
    (spec.name.clone(), attachment)
}

/// Waits until every interface carries packets and every address may be used. Moves the calling thread in.
fn wait_until_ready(place: &Place, namespace: &Namespace) -> Result<(), Error> {
    namespace.enter_on_this_thread()?;
    let deadline = Instant::now() + READY;
    let mut pause = Duration::from_micros(200);
    loop {
        let missing = not_ready().map_err(Error::EnterNamespace)?;
        if missing.is_empty() {
            return Ok(());
        }
        if Instant::now() > deadline {
            let missing = missing.into_iter().collect::<Vec<_>>().join(", ");
            return Err(Error::NotReady {
                place: place.clone(),
                seconds: READY.as_secs(),
                missing,
            });
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(20));
    }
}

/// What the calling thread's namespace still waits for.
fn not_ready() -> std::io::Result<BTreeSet<String>> {
    // IFF_RUNNING: there is carrier, and the kernel has attached the queue that lets packets out.
    let up = InterfaceFlags::IFF_UP | InterfaceFlags::IFF_RUNNING;
    let down = getifaddrs()?
        .filter(|interface| !interface.flags.contains(up))
        .map(|interface| format!("{} has no carrier", interface.interface_name));
    // Address, index, prefix length, scope, flags, name; IFA_F_TENTATIVE is 0x40 (`if_addr.h`).
    let table = std::fs::read_to_string("/proc/thread-self/net/if_inet6")?;
    let tentative = table.lines().filter_map(|line| {
        let fields: Vec<_> = line.split_whitespace().collect();
        let flags = u32::from_str_radix(fields.get(4)?, 16).ok()?;
        (flags & 0x40 != 0).then(|| format!("{} is tentative", fields[0]))
    });
    Ok(down.chain(tentative).collect())
}
