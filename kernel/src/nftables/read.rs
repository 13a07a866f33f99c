//! Our tables as the kernel has them.

use policy_compiler::model::InterfaceName;
use policy_compiler::ruleset::{Base, Chain, Hook, TABLE, TableFamily};

use super::constants::{chain, family, msg, object, rule, set, table};
use super::counters::Counter;
use super::decode;
use super::element::WireElement;
use super::expression::Expression;
use super::families::{family_number, family_of, hook_of};
use super::found::{Found, Unknown};
use super::object::Object;
use super::socket::{Dumped, Nftables};
use super::userdata;
use super::watch::{Foreign, Watch};
use crate::error::Error;
use crate::netlink::attribute::{Attributes, Malformed, Writer};
use crate::netlink::message::DUMP;

/// How often reading starts again because others changed nftables in the meantime.
const ATTEMPTS: usize = 20;

impl Nftables {
    /// Reads our tables, again if anything changes in the meantime, so that all is of one generation.
    ///
    /// # Errors
    /// [`Error::Changing`], [`Error::Refused`] without CAP_NET_ADMIN, and those of the socket.
    pub fn read(&mut self) -> Result<Found, Error> {
        self.read_by(None)
    }

    /// The same, but others may change what is theirs as often as they like: the watch, which was opened before, tells
    /// that ours did not change.
    ///
    /// # Errors
    /// As [`Nftables::read`].
    pub fn read_watched(&mut self, watch: &mut Watch) -> Result<Found, Error> {
        self.read_by(Some(watch))
    }

    fn read_by(&mut self, mut watch: Option<&mut Watch>) -> Result<Found, Error> {
        for _ in 0..ATTEMPTS {
            let generation = self.generation()?;
            // A change that is under way shows its generation before or after its objects. So none is when the
            // dumps start, and each that starts during them has ended when the generation is asked for again.
            self.await_changes()?;
            let mut raw = Raw::new(TABLE, self.flags);
            let Some(dumped) = self.read_all(&mut raw)? else {
                continue;
            };
            self.await_changes()?;
            if dumped == Dumped::All && self.generation()? == generation {
                return Ok(raw.found(generation));
            }
            let own = self.port();
            let since = watch.as_mut().map(|it| it.foreign_since(generation, own));
            if let Some(Foreign::Elsewhere(now)) = since.transpose()? {
                return Ok(raw.found(now));
            }
        }
        Err(Error::Changing(ATTEMPTS))
    }

    /// Everything, and whether anything changed while it was dumped. Nothing if not all came.
    pub(super) fn read_all(&mut self, raw: &mut Raw) -> Result<Option<Dumped>, Error> {
        let nothing = |_: &mut Writer| {};
        let mut changed = Dumped::All;
        let listed = self.list(raw, &mut changed, |nftables, raw| {
            let unspecified = family::UNSPEC;
            nftables.request(msg::GETTABLE, DUMP, unspecified, nothing, |_, of, it| {
                raw.table(of, it)
            })
        })?;
        if !listed {
            return Ok(None);
        }
        for family in raw.tables.clone() {
            let number = family_number(family);
            for (kind, of_table) in [
                (msg::GETCHAIN, chain::TABLE),
                (msg::GETRULE, rule::TABLE),
                (msg::GETSET, set::TABLE),
                (msg::GETOBJ, object::TABLE),
            ] {
                let name = raw.name;
                let listed = self.list(raw, &mut changed, |nftables, raw| {
                    let request = |out: &mut Writer| out.put_text(of_table, name);
                    nftables.request(kind, DUMP, number, request, |_, from, attributes| {
                        if from == number {
                            raw.object(kind, family, attributes)
                        } else {
                            Ok(())
                        }
                    })
                })?;
                if !listed {
                    return Ok(None);
                }
            }
        }
        for found in &mut raw.sets {
            match self.read_elements(raw.name, found)? {
                Some(dumped) => changed = changed.and(dumped),
                None => return Ok(None),
            }
        }
        Ok(Some(changed))
    }

    /// Asks for a list until it comes whole: where anything of others goes meanwhile, one of ours may be left out. Whether
    /// it did.
    fn list(
        &mut self,
        raw: &mut Raw,
        changed: &mut Dumped,
        mut ask: impl FnMut(&mut Self, &mut Raw) -> Result<Dumped, Error>,
    ) -> Result<bool, Error> {
        let before = raw.lengths();
        for _ in 0..ATTEMPTS {
            if ask(self, raw)? == Dumped::All {
                return Ok(true);
            }
            *changed = Dumped::Interrupted;
            raw.cut(before);
        }
        Ok(false)
    }
}

impl Dumped {
    pub(super) fn and(self, other: Self) -> Self {
        if other == Self::All { self } else { other }
    }
}

/// What was dumped.
#[derive(Debug)]
pub(super) struct Raw {
    /// The name of the tables that are read.
    pub(super) name: &'static str,
    /// The flags that our tables are to have.
    pub(super) flags: u32,
    pub(super) tables: Vec<TableFamily>,
    pub(super) chains: Vec<(TableFamily, Chain)>,
    pub(super) rules: Vec<RawRule>,
    pub(super) sets: Vec<RawSet>,
    pub(super) counters: Vec<(TableFamily, String)>,
    pub(super) unknown: Vec<Unknown>,
}

#[derive(Debug)]
pub(super) struct RawRule {
    pub(super) family: TableFamily,
    pub(super) chain: String,
    pub(super) comment: Option<String>,
    /// Or the name of the expression that is not one of ours.
    pub(super) expressions: Result<Vec<Expression>, String>,
}

#[derive(Debug)]
pub(super) struct RawSet {
    pub(super) family: TableFamily,
    pub(super) name: String,
    pub(super) flags: u32,
    pub(super) type_id: u32,
    pub(super) data_type: Option<u32>,
    pub(super) comment: Option<String>,
    /// How many elements it has: from Linux 6.17.
    pub(super) count: Option<u32>,
    pub(super) elements: Vec<WireElement>,
    /// Whether it or an element has what ours have not: a timeout, an expression, another verdict.
    pub(super) odd_element: bool,
}

impl Raw {
    pub(super) fn new(name: &'static str, flags: u32) -> Self {
        Self {
            name,
            flags,
            tables: Vec::new(),
            chains: Vec::new(),
            rules: Vec::new(),
            sets: Vec::new(),
            counters: Vec::new(),
            unknown: Vec::new(),
        }
    }

    fn lengths(&self) -> [usize; 6] {
        [
            self.tables.len(),
            self.chains.len(),
            self.rules.len(),
            self.sets.len(),
            self.counters.len(),
            self.unknown.len(),
        ]
    }

    /// Forgets what came since.
    fn cut(&mut self, [tables, chains, rules, sets, counters, unknown]: [usize; 6]) {
        self.tables.truncate(tables);
        self.chains.truncate(chains);
        self.rules.truncate(rules);
        self.sets.truncate(sets);
        self.counters.truncate(counters);
        self.unknown.truncate(unknown);
    }

    pub(super) fn unknown(&mut self, object: Object, reason: impl Into<String>) {
        let reason = reason.into();
        self.unknown.push(Unknown { object, reason });
    }

    /// A chain, a rule, a set or an object, by the kind of the request for it.
    pub(super) fn object(
        &mut self,
        kind: u16,
        family: TableFamily,
        attributes: &[u8],
    ) -> Result<(), Malformed> {
        match kind {
            msg::GETCHAIN => self.chain(family, attributes),
            msg::GETRULE => self.rule(family, attributes),
            msg::GETOBJ => self.counter(family, attributes),
            _ => self.set(family, attributes),
        }
    }

    pub(super) fn table(&mut self, number: u8, attributes: &[u8]) -> Result<(), Malformed> {
        let (mut name, mut flags) = ("", 0);
        for attribute in Attributes(attributes) {
            let attribute = attribute?;
            match attribute.kind {
                table::NAME => name = attribute.text()?,
                table::FLAGS => flags = attribute.u32()?,
                _ => {}
            }
        }
        if name != self.name {
            return Ok(());
        }
        match family_of(number) {
            Some(family) => {
                self.tables.push(family);
                if flags != self.flags {
                    self.unknown(Object::Table(family), format!("flags {flags:#x}"));
                }
            }
            None => self.unknown(
                Object::Other(format!("table {name} of family {number}")),
                "family",
            ),
        }
        Ok(())
    }

    fn chain(&mut self, family: TableFamily, attributes: &[u8]) -> Result<(), Malformed> {
        let (mut of, mut name, mut kind, mut policy, mut hook) = ("", "", None, None, None);
        let mut flags = 0;
        for attribute in Attributes(attributes) {
            let attribute = attribute?;
            match attribute.kind {
                chain::TABLE => of = attribute.text()?,
                chain::NAME => name = attribute.text()?,
                chain::TYPE => kind = Some(attribute.text()?),
                chain::POLICY => policy = Some(attribute.u32()?),
                chain::FLAGS => flags = attribute.u32()?,
                chain::HOOK => hook = Some(read_hook(family, attribute.payload)?),
                _ => {}
            }
        }
        if of != self.name || flags & chain::F_BINDING != 0 {
            // One that is a part of a rule is as known as the rule, whose jump leads nowhere else.
            return Ok(());
        }
        let name = name.to_owned();
        let base = match (hook, kind, policy) {
            _ if flags & !chain::F_BASE != 0 => {
                self.unknown(Object::Chain { family, name }, format!("flags {flags:#x}"));
                return Ok(());
            }
            (None, None, None) => None,
            (Some(Some(base)), Some("filter"), Some(chain::ACCEPT)) => Some(base),
            _ => {
                self.unknown(Object::Chain { family, name }, "its type, hook or policy");
                return Ok(());
            }
        };
        let rules = Vec::new();
        self.chains.push((family, Chain { name, base, rules }));
        Ok(())
    }

    fn rule(&mut self, family: TableFamily, attributes: &[u8]) -> Result<(), Malformed> {
        let (mut of, mut chain, mut list, mut userdata) = ("", "", &[][..], &[][..]);
        for attribute in Attributes(attributes) {
            let attribute = attribute?;
            match attribute.kind {
                rule::TABLE => of = attribute.text()?,
                rule::CHAIN => chain = attribute.text()?,
                rule::EXPRESSIONS => list = attribute.payload,
                rule::USERDATA => userdata = attribute.payload,
                _ => {}
            }
        }
        if of == self.name {
            self.rules.push(RawRule {
                family,
                chain: chain.to_owned(),
                comment: userdata::text(userdata, userdata::COMMENT).map(str::to_owned),
                expressions: decode::expressions(list)?,
            });
        }
        Ok(())
    }

    /// A counter. Objects of other types do nothing by themselves, and no rule of ours has one.
    fn counter(&mut self, family: TableFamily, attributes: &[u8]) -> Result<(), Malformed> {
        let counter = Counter::read(attributes)?;
        if let Some(counter) = counter.filter(|counter| counter.table == self.name) {
            self.counters.push((family, counter.name));
        }
        Ok(())
    }

    fn set(&mut self, family: TableFamily, attributes: &[u8]) -> Result<(), Malformed> {
        let mut found = RawSet {
            family,
            name: String::new(),
            flags: 0,
            type_id: 0,
            data_type: None,
            comment: None,
            count: None,
            elements: Vec::new(),
            odd_element: false,
        };
        let mut of = "";
        for attribute in Attributes(attributes) {
            let attribute = attribute?;
            match attribute.kind {
                set::TABLE => of = attribute.text()?,
                set::NAME => found.name = attribute.text()?.to_owned(),
                set::FLAGS => found.flags = attribute.u32()?,
                set::KEY_TYPE => found.type_id = attribute.u32()?,
                set::DATA_TYPE => found.data_type = Some(attribute.u32()?),
                set::TIMEOUT | set::GC_INTERVAL | set::OBJ_TYPE | set::EXPR | set::EXPRESSIONS => {
                    found.odd_element = true;
                }
                set::COUNT => found.count = Some(attribute.u32()?),
                set::USERDATA => {
                    let text = userdata::text(attribute.payload, userdata::SET_COMMENT);
                    found.comment = text.map(str::to_owned);
                }
                _ => {}
            }
        }
        if of == self.name {
            self.sets.push(found);
        }
        Ok(())
    }
}

fn read_hook(family: TableFamily, attributes: &[u8]) -> Result<Option<Base>, Malformed> {
    let (mut hook, mut priority, mut device) = (None, None, None);
    for attribute in Attributes(attributes) {
        let attribute = attribute?;
        match attribute.kind {
            chain::HOOK_NUMBER => hook = hook_of(family, attribute.u32()?),
            chain::HOOK_PRIORITY => priority = Some(attribute.u32()?.cast_signed()),
            chain::HOOK_DEVICE => match InterfaceName::new(attribute.text()?) {
                Ok(name) => device = Some(name),
                Err(_) => return Ok(None),
            },
            // Of one, the kernel tells it in both ways.
            chain::HOOK_DEVICES if attribute.nested().count() <= 1 => {}
            _ => return Ok(None),
        }
    }
    let base = hook.zip(priority).map(|(hook, priority)| Base {
        hook,
        device,
        priority,
    });
    Ok(base.filter(|base| (base.hook == Hook::Ingress) == base.device.is_some()))
}
