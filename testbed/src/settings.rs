//! Kernel settings of a new namespace: the testbed itself drops nothing, delays nothing and says nothing.

use std::path::{Path, PathBuf};

use crate::error::Error;

/// Written into every namespace before it has interfaces. IPv4 settings of a new namespace are copies of the
/// host's, so that whatever matters is written even where it is the kernel's default.
const EVERYWHERE: &[(&str, &str)] = &[
    // A reverse path check would drop a spoofed or an asymmetric packet before the rules under test see it.
    ("ipv4/conf/all/rp_filter", "0"),
    ("ipv4/conf/default/rp_filter", "0"),
    // A node that routes between two pods of one bridge must not teach them a way around it.
    ("ipv4/conf/all/send_redirects", "0"),
    ("ipv4/conf/default/send_redirects", "0"),
    ("ipv4/conf/all/accept_redirects", "0"),
    ("ipv4/conf/default/accept_redirects", "0"),
    // ICMP errors are answers too: they come every time or never.
    ("ipv4/icmp_ratelimit", "0"),
    ("ipv6/icmp/ratelimit", "0"),
    ("ipv4/icmp_echo_ignore_all", "0"),
    ("ipv6/conf/all/disable_ipv6", "0"),
    ("ipv6/conf/default/disable_ipv6", "0"),
    // Addresses are usable at once; nobody asks for routers or believes one.
    ("ipv6/conf/all/accept_dad", "0"),
    ("ipv6/conf/default/accept_dad", "0"),
    ("ipv6/conf/default/dad_transmits", "0"),
    ("ipv6/conf/default/router_solicitations", "0"),
    ("ipv6/conf/default/accept_ra", "0"),
    ("ipv6/conf/default/accept_redirects", "0"),
    // The link-local address is the one that `Mac::link_local` says.
    ("ipv6/conf/default/addr_gen_mode", "0"),
];

/// Writes the settings of every namespace into the calling thread's.
pub(crate) fn quiet() -> Result<(), Error> {
    EVERYWHERE
        .iter()
        .try_for_each(|&(name, value)| write(name, value))?;
    // A copy of the host's, which routes if the host does: a pod does not.
    forward("0")
}

/// Makes the calling thread's namespace a router.
pub(crate) fn route_packets() -> Result<(), Error> {
    forward("1")
}

/// Makes the calling thread's namespace the outside: a router that also takes packets which pretend to be its own, as
/// what a spoofed packet meets there is not under test.
pub(crate) fn route_packets_of_anyone() -> Result<(), Error> {
    write("ipv4/conf/all/accept_local", "1")?;
    route_packets()
}

/// Whether bridges of the calling thread's namespace hand packets to the inet hooks.
pub(crate) fn require_bridge_netfilter() -> Result<(), Error> {
    let path = Path::new("/proc/sys/net/bridge");
    if path.exists() {
        Ok(())
    } else {
        Err(Error::BridgeNetfilter(path.to_owned()))
    }
}

fn forward(value: &'static str) -> Result<(), Error> {
    write("ipv4/conf/all/forwarding", value)?;
    write("ipv4/conf/default/forwarding", value)?;
    write("ipv6/conf/all/forwarding", value)?;
    write("ipv6/conf/default/forwarding", value)
}

fn write(name: &str, value: &'static str) -> Result<(), Error> {
    let path: PathBuf = Path::new("/proc/sys/net").join(name);
    std::fs::write(&path, value).map_err(|source| Error::Setting {
        path,
        value,
        source,
    })
}
