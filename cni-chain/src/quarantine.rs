//! Interfaces that pass nothing until the policies of their pods are in force: those of one group, and rules for it that
//! stay in the kernel whatever runs.
//!
//! A group is a property of the interface: it survives renames, bridges and restarts, and goes with the interface. No set
//! has to be kept, and no name can be taken over by another interface.

use kernel::{Error, Nftables};
use policy_compiler::ruleset::{
    Base, Chain, Field, Hook, Match, Rule, Ruleset, Table, TableFamily, Value, Verdict,
};

use crate::attachment::PodIdentity;

/// The group of an interface that passes nothing.
pub const QUARANTINE: u32 = 770_701;

/// The group of an interface whose policies are in force.
pub const ACTIVE: u32 = 770_702;

/// The name of the tables, which belong to nobody.
pub const TABLE: &str = "picket-quarantine";

/// What an alias of ours starts with.
pub const ALIAS_PREFIX: &str = "picket:";

/// The longest alias of an interface in bytes.
const LONGEST_ALIAS: usize = 255;

/// Before connection tracking, so that what is dropped leaves no entry.
const PRIORITY: i32 = -350;

/// Router solicitation, neighbour solicitation and advertisement.
const NEIGHBOUR_DISCOVERY: [u32; 3] = [133, 135, 136];

/// The alias of the node's end: for people, and for an agent that finds an interface without a record.
pub fn alias(pod: &PodIdentity) -> String {
    let mut alias = format!("{ALIAS_PREFIX}{}/{}", pod.namespace, pod.name);
    if alias.len() <= LONGEST_ALIAS {
        return alias;
    }
    let whole = |end: &usize| alias.is_char_boundary(*end);
    let end = (0..=LONGEST_ALIAS).rev().find(whole);
    alias.truncate(end.unwrap_or(0));
    alias
}

/// Whether the plugin and the agent may change this group: nobody else has set it.
pub fn is_ours(group: u32) -> bool {
    [0, QUARANTINE, ACTIVE].contains(&group)
}

/// The tables, one of a family each. They never change.
pub fn ruleset() -> Ruleset {
    Ruleset {
        tables: [TableFamily::Inet, TableFamily::Bridge].map(table).into(),
    }
}

/// Whether the tables are as they should be.
///
/// # Errors
/// The kernel can not be asked.
pub fn is_there(nftables: &mut Nftables) -> Result<bool, Error> {
    nftables.stands(TABLE, &ruleset())
}

/// Puts there what is missing or different, in one transaction: at no moment less is dropped than before.
///
/// # Errors
/// As [`Nftables::apply`].
pub fn ensure(nftables: &mut Nftables) -> Result<(), Error> {
    nftables.stand(TABLE, &ruleset()).map(drop)
}

fn table(family: TableFamily) -> Table {
    let mut table = Table::new(family);
    for (name, hook, group) in [
        ("prerouting", Hook::Prerouting, Field::InputInterfaceGroup),
        (
            "postrouting",
            Hook::Postrouting,
            Field::OutputInterfaceGroup,
        ),
    ] {
        table.add_chain(Chain {
            name: name.to_owned(),
            base: Some(Base {
                hook,
                device: None,
                priority: PRIORITY,
            }),
            rules: rules(family, group),
        });
    }
    table
}

fn rules(family: TableFamily, group: Field) -> Vec<Rule> {
    let quarantined = || Match::is(group, [Value::Number(QUARANTINE)]);
    let mut rules = Vec::new();
    if family == TableFamily::Bridge {
        // iifgroup 770701 ether type arp accept
        let arp = Match::is(Field::EtherType, [Value::Symbol("arp")]);
        rules.push(Rule::verdict([quarantined(), arp], Verdict::Accept));
    }
    for kind in NEIGHBOUR_DISCOVERY {
        // iifgroup 770701 icmpv6 type 135 ip6 hoplimit 255 accept: a rule each, as a set would be one without a name
        let matches = [
            quarantined(),
            Match::is(Field::Icmpv6Type, [Value::Number(kind)]),
            Match::is(Field::Ipv6HopLimit, [Value::Number(255)]),
        ];
        rules.push(Rule::verdict(matches, Verdict::Accept));
    }
    // iifgroup 770701 counter drop
    rules.push(Rule::verdict([quarantined()], Verdict::Drop).counted());
    rules
}
