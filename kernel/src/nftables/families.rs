//! Families and hooks by their numbers (`linux/netfilter.h`; those of a bridge, `linux/netfilter_bridge.h`, are the same).

use policy_compiler::ruleset::{Hook, TableFamily};

use super::constants::family;

/// `NFPROTO_*`
pub(crate) fn family_number(family: TableFamily) -> u8 {
    match family {
        TableFamily::Inet => family::INET,
        TableFamily::Bridge => family::BRIDGE,
    }
}

/// The family with this number.
pub(crate) fn family_of(number: u8) -> Option<TableFamily> {
    let all = [TableFamily::Inet, TableFamily::Bridge];
    all.into_iter()
        .find(|family| family_number(*family) == number)
}

/// `NF_INET_*`
pub(crate) fn hook_number(hook: Hook) -> u32 {
    match hook {
        Hook::Prerouting => 0,
        Hook::Input => 1,
        Hook::Forward => 2,
        Hook::Output => 3,
    }
}

/// The hook with this number.
pub(crate) fn hook_of(number: u32) -> Option<Hook> {
    let all = [Hook::Prerouting, Hook::Input, Hook::Forward, Hook::Output];
    all.into_iter().find(|hook| hook_number(*hook) == number)
}
