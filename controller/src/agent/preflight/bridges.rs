//! Whether packets that cross a bridge pass our rules.
//!
//! They do if the bridge's own flag is set or the namespace's setting, each by family, and only while br_netfilter is
//! loaded ([`BridgeNetfilter`]).

use kernel::{BridgeNetfilter, Kind, Link, LinkError, Links};

use super::files::setting;
use super::{Code, Finding, Options, Severity};
use crate::agent::error::describe;

/// What the namespace says of all its bridges; none while br_netfilter is not loaded.
struct Settings {
    ipv4: bool,
    ipv6: bool,
    vlan_tagged: bool,
}

impl Settings {
    fn read() -> Option<Self> {
        let on = |name: &str| Some(setting(&format!("bridge/bridge-nf-{name}"))? != 0);
        Some(Self {
            ipv4: on("call-iptables")?,
            ipv6: on("call-ip6tables")?,
            vlan_tagged: on("filter-vlan-tagged").unwrap_or(false),
        })
    }
}

pub(super) fn check(
    links: &mut Links,
    options: &Options,
    findings: &mut Vec<Finding>,
) -> Result<(), LinkError> {
    let settings = Settings::read();
    for bridge in chosen(links, options, findings)? {
        let (mut bridge, named) = (bridge, !options.bridges.is_empty());
        if named && options.set_bridge_netfilter {
            match set(links, &bridge) {
                Ok((now, changed)) => {
                    bridge = now;
                    if changed {
                        findings.push(Finding::note(
                            Code::BridgeNetfilterSet,
                            format!(
                                "{} now hands packets of IPv4 and IPv6 to the hooks of IP.",
                                bridge.name
                            ),
                        ));
                    }
                }
                Err(error) => findings.push(Finding::unreadable(
                    &format!("what {} does now", bridge.name),
                    &error,
                )),
            }
        }
        findings.extend(of_bridge(&bridge, settings.as_ref(), named));
    }
    Ok(())
}

/// Makes a bridge hand packets of both families to the hooks of IP, if it does not yet. Where it can not be made to, says
/// why, and what to do.
pub(in crate::agent) fn hand_over(links: &mut Links, bridge: &Link) -> Result<(), String> {
    let Some(settings) = Settings::read() else {
        return Err(format!(
            "packets inside the bridge {} pass no rules, as br_netfilter is not loaded: load it (modprobe br_netfilter)",
            bridge.name
        ));
    };
    if settings.ipv4 && settings.ipv6 {
        return Ok(());
    }
    let error = match set(links, bridge) {
        Ok((now, _)) => match now.bridge.and_then(|bridge| bridge.netfilter) {
            Some(now) if (settings.ipv4 || now.ipv4) && (settings.ipv6 || now.ipv6) => {
                return Ok(());
            }
            _ => "the kernel has no such flags for a bridge".to_owned(),
        },
        Err(error) => describe(&error),
    };
    Err(format!(
        "packets inside the bridge {} pass no rules, and it can not be made to hand them over: {error}: set \
         net.bridge.bridge-nf-call-iptables=1 and net.bridge.bridge-nf-call-ip6tables=1",
        bridge.name
    ))
}

/// The bridges that are named, or all.
fn chosen(
    links: &mut Links,
    options: &Options,
    findings: &mut Vec<Finding>,
) -> Result<Vec<Link>, LinkError> {
    if options.bridges.is_empty() {
        let mut all = links.list()?;
        all.retain(|link| link.kind == Kind::Bridge);
        return Ok(all);
    }
    let mut chosen = Vec::new();
    for name in &options.bridges {
        let what = match links.by_name(name)? {
            Some(link) if link.kind == Kind::Bridge => {
                chosen.push(link);
                continue;
            }
            Some(link) => format!("is no bridge but a {}", link.kind),
            None => "is not there".to_owned(),
        };
        findings.push(Finding::error(
            Code::NoBridge,
            format!("{name} was named as a bridge that carries pods, and {what}: see `ip link show type bridge`."),
        ));
    }
    Ok(chosen)
}

/// Sets the flags of both families, and reads them back. Returns whether they were not set before.
fn set(links: &mut Links, bridge: &Link) -> Result<(Link, bool), LinkError> {
    let Some(before) = bridge.bridge.and_then(|bridge| bridge.netfilter) else {
        // Said of the bridge as it is.
        return Ok((bridge.clone(), false));
    };
    if before.ipv4 && before.ipv6 {
        return Ok((bridge.clone(), false));
    }
    let after = BridgeNetfilter {
        ipv4: true,
        ipv6: true,
        ..before
    };
    links.set_bridge_netfilter(bridge, after)?;
    let now = links.by_index(bridge.index)?.unwrap_or(bridge.clone());
    let done = now.bridge.and_then(|bridge| bridge.netfilter) == Some(after);
    Ok((now, done))
}

fn of_bridge(bridge: &Link, settings: Option<&Settings>, named: bool) -> Vec<Finding> {
    let name = &bridge.name;
    // A bridge that nobody named may carry something else.
    let (severity, pods) = if named {
        (Severity::Error, "pods on it")
    } else {
        (Severity::Warning, "pods, if it carries any,")
    };
    let found = |code, message: String| Finding::new(severity, code, message);
    let Some(settings) = settings else {
        return vec![found(
            Code::BridgeNetfilter,
            format!(
                "packets inside the bridge {name} pass no rules, as br_netfilter is not loaded: {pods} reach each other \
                 whatever policies say. Load it (modprobe br_netfilter), and then see bridge-nf-call-iptables."
            ),
        )];
    };
    let own = bridge.bridge.and_then(|bridge| bridge.netfilter);
    let mut families = Vec::new();
    let mut remedies = Vec::new();
    for (family, setting, flag, tables) in [
        ("IPv4", settings.ipv4, own.map(|own| own.ipv4), "iptables"),
        ("IPv6", settings.ipv6, own.map(|own| own.ipv6), "ip6tables"),
    ] {
        if !setting && flag != Some(true) {
            families.push(family);
            remedies.push(format!("net.bridge.bridge-nf-call-{tables}=1"));
        }
    }
    if families.is_empty() {
        return match settings.vlan_tagged {
            true => Vec::new(),
            false => vec![Finding::warning(
                Code::BridgeVlanTagged,
                format!(
                    "frames with a VLAN tag pass no rules inside the bridge {name}, where the ports of pods are not known: a \
                     pod with CAP_NET_RAW on it can send such to others there. Set \
                     net.bridge.bridge-nf-filter-vlan-tagged=1."
                ),
            )],
        };
    }
    vec![found(
        Code::BridgeNetfilter,
        format!(
            "{} packets inside the bridge {name} pass no rules: {pods} reach each other whatever policies say. Set {}, or \
             name the bridge with --bridge {name} and give --set-bridge-netfilter.",
            families.join(" and "),
            remedies.join(" and ")
        ),
    )]
}

#[cfg(test)]
mod tests {
    use kernel::{Bridge, OperationalState};

    use super::*;

    fn bridge(netfilter: Option<BridgeNetfilter>) -> Link {
        Link {
            index: 7,
            name: "br0".to_owned(),
            kind: Kind::Bridge,
            up: true,
            operational: OperationalState::Up,
            group: 0,
            alias: None,
            mac: None,
            master: None,
            peer: None,
            parent: None,
            bridge: Some(Bridge {
                vlan_filtering: false,
                netfilter,
            }),
        }
    }

    #[test]
    fn without_br_netfilter_no_flag_helps() {
        let set = BridgeNetfilter {
            ipv4: true,
            ipv6: true,
            arp: false,
        };
        for (netfilter, named) in [(None, true), (Some(set), true), (Some(set), false)] {
            let found = of_bridge(&bridge(netfilter), None, named);
            let severity = if named {
                Severity::Error
            } else {
                Severity::Warning
            };
            assert_eq!((found[0].severity, found.len()), (severity, 1));
            assert!(found[0].message.contains("modprobe br_netfilter"));
        }
    }
}
