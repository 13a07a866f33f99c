//! Families and hooks by their numbers (`linux/netfilter.h`; those of a bridge, `linux/netfilter_bridge.h`, are the same).

use policy_compiler::ruleset::{Hook, TableFamily};

use super::constants::family;

/// `NFPROTO_*`
pub(crate) fn family_number(family: TableFamily) -> u8 {
    match family {
        TableFamily::Inet => family::INET,
        TableFamily::Bridge => family::BRIDGE,
        TableFamily::Netdev => family::NETDEV,
    }
}

/// The family with this number.
pub(crate) fn family_of(number: u8) -> Option<TableFamily> {
    let all = [TableFamily::Inet, TableFamily::Bridge, TableFamily::Netdev];
    all.into_iter()
        .find(|family| family_number(*family) == number)
}

/// `NF_INET_*`, or `NF_NETDEV_INGRESS` of a netdev chain.
pub(crate) fn hook_number(hook: Hook) -> u32 {
    match hook {
        Hook::Prerouting | Hook::Ingress => 0,
        Hook::Input => 1,
        Hook::Forward => 2,
        Hook::Output => 3,
        Hook::Postrouting => 4,
    }
}

/// The hook with this number in tables of the family.
pub(crate) fn hook_of(family: TableFamily, number: u32) -> Option<Hook> {
    let all: &[Hook] = match family {
        TableFamily::Netdev => &[Hook::Ingress],
        TableFamily::Inet | TableFamily::Bridge => &[
            Hook::Prerouting,
            Hook::Input,
            Hook::Forward,
            Hook::Output,
            Hook::Postrouting,
        ],
    };
    all.iter()
        .copied()
        .find(|hook| hook_number(*hook) == number)
}
