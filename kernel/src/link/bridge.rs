//! What a bridge does with the packets that cross it.

use super::constants::link;
use crate::netlink::attribute::{Attribute, Malformed, Writer};

/// The settings of a bridge that decide which rules see the packets that cross it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bridge {
    /// Whether ports are members of VLANs (`vlan_filtering`), and a port's untagged packets may be tagged inside.
    pub vlan_filtering: bool,
    /// Which packets it hands to the hooks above; none where the kernel can not (CONFIG_BRIDGE_NETFILTER).
    pub netfilter: Option<BridgeNetfilter>,
}

/// Which packets that cross one bridge also pass the hooks of IP and ARP.
///
/// A packet passes them if its bridge's flag is set *or* the namespace's
/// (`/proc/sys/net/bridge/bridge-nf-call-*tables`), and only while br_netfilter is loaded: without it the flags can be
/// set, and do nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BridgeNetfilter {
    /// Those of IPv4 (`nf_call_iptables`).
    pub ipv4: bool,
    /// Those of IPv6 (`nf_call_ip6tables`).
    pub ipv6: bool,
    /// Those of ARP (`nf_call_arptables`).
    pub arp: bool,
}

impl Bridge {
    pub(super) fn read(data: Attribute<'_>) -> Result<Self, Malformed> {
        let (mut vlan_filtering, mut ipv4, mut ipv6, mut arp) = (false, None, None, None);
        for attribute in data.nested() {
            let attribute = attribute?;
            let set = matches!(attribute.payload, [value] if *value != 0);
            match attribute.kind {
                link::BR_VLAN_FILTERING => vlan_filtering = set,
                link::BR_NF_CALL_IPTABLES => ipv4 = Some(set),
                link::BR_NF_CALL_IP6TABLES => ipv6 = Some(set),
                link::BR_NF_CALL_ARPTABLES => arp = Some(set),
                _ => {}
            }
        }
        let netfilter = match (ipv4, ipv6, arp) {
            (Some(ipv4), Some(ipv6), Some(arp)) => Some(BridgeNetfilter { ipv4, ipv6, arp }),
            _ => None,
        };
        Ok(Self {
            vlan_filtering,
            netfilter,
        })
    }
}

impl BridgeNetfilter {
    /// The flags as `IFLA_LINKINFO`; nothing else of the bridge is named, so nothing else changes.
    pub(super) fn write(self, out: &mut Writer) {
        out.nested(link::LINKINFO, |out| {
            out.put_text(link::INFO_KIND, "bridge");
            out.nested(link::INFO_DATA, |out| {
                out.put(link::BR_NF_CALL_IPTABLES, &[self.ipv4.into()]);
                out.put(link::BR_NF_CALL_IP6TABLES, &[self.ipv6.into()]);
                out.put(link::BR_NF_CALL_ARPTABLES, &[self.arp.into()]);
            });
        });
    }
}
