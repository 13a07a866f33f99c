//! The way that packets of an interface take, by what both of its ends are.

use kernel::{Kind, Link, LinkError, Links, Pair};

use super::error::{Code, Error};
use crate::attachment::Path;

/// Kinds of interfaces without another end whose packets pass the rules of the namespace that they are in. Not a macvtap
/// or an ipvtap, whose packets are a program's, and not an ipvlan in mode L3S.
const SEEN_INSIDE: [&str; 6] = ["bond", "dummy", "ipoib", "ipvlan", "macvlan", "vlan"];

/// Of a pair: by what the node's end is a part of.
pub(super) fn of_pair(links: &mut Links, pair: &Pair) -> Result<Path, LinkError> {
    let end = &pair.outside;
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
        // Open vSwitch and others take packets before any rule of the node sees them.
        kind => Path::Bypass {
            link: kind.to_string(),
            index: pair.inside.index,
        },
    })
}

/// Of an interface that has no other end.
pub(super) fn of_single(inside: &Link) -> Result<Path, Error> {
    let is_seen = match &inside.kind {
        // A device that was moved, whole or a function of it: the kernel names no kind.
        Kind::Device => true,
        Kind::Other(kind) => SEEN_INSIDE.contains(&kind.as_str()),
        _ => false,
    };
    if !is_seen {
        return Err(Error::new(
            Code::Configuration,
            format!("no rule sees the packets of a {} interface", inside.kind),
            "attach the pod with a veth or a macvlan, or except its namespace from policies with excludeNamespaces",
        ));
    }
    Ok(Path::Bypass {
        link: inside.kind.to_string(),
        index: inside.index,
    })
}

#[cfg(test)]
mod tests {
    use kernel::OperationalState;

    use super::*;

    #[test]
    fn only_kinds_whose_packets_are_known_to_pass_rules_inside_are_taken() {
        let of = |kind| Link {
            index: 3,
            name: "net1".to_owned(),
            kind,
            up: true,
            operational: OperationalState::Up,
            group: 0,
            alias: None,
            mac: None,
            master: None,
            peer: None,
            parent: None,
            bridge: None,
        };
        let other = |name: &str| Kind::Other(name.to_owned());
        for (kind, link) in [(Kind::Device, "device"), (other("ipvlan"), "ipvlan")] {
            let link = link.to_owned();
            let path = of_single(&of(kind)).expect("taken");
            assert_eq!(path, Path::Bypass { link, index: 3 });
        }
        for kind in [
            Kind::IpvlanL3s,
            Kind::Bridge,
            other("macvtap"),
            other("ipvtap"),
            other("of-tomorrow"),
        ] {
            let error = of_single(&of(kind)).expect_err("not known");
            assert_eq!(error.code, Code::Configuration);
        }
    }
}
