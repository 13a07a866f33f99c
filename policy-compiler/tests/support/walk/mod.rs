//! A ruleset as the kernel walks it, written from what nft(8) and the kernel's nf_tables say, and from nothing of
//! `lower`.
//!
//! - The base chains of a hook are asked by priority. Accept ends one of them, drop ends the packet's way.
//! - A rule's expressions are read from left to right; the first that does not hold ends the rule. One whose field
//!   the packet does not have does not hold, negated or not (NFT_BREAK).
//! - Keys are compared as numbers, part by part, each part in its own register.
//!
//! What is not known here panics: an expression must never pass unread.

pub(crate) mod index;
pub(crate) mod packet;
mod value;

use std::collections::{BTreeMap, BTreeSet};

use policy_compiler::ruleset::{Field, Hook, Ruleset, TableFamily};

use self::index::{Action, Index, Test, Verdict};
use self::packet::Packet;

/// More jumps in each other are refused by the kernel (NFT_JUMP_STACK_SIZE).
const DEEPEST: usize = 16;

/// A ruleset that is quick to ask.
pub(crate) struct Walk {
    tables: Vec<Index>,
}

/// A hook that a packet comes to, with the interfaces that are seen there.
#[derive(Clone, Debug)]
pub(crate) struct Stop {
    pub(crate) family: TableFamily,
    pub(crate) hook: Hook,
    pub(crate) input: Option<String>,
    pub(crate) output: Option<String>,
}

/// How a chain ended that was not final.
enum End {
    Accept,
    Drop,
    /// Its last rule, or a return.
    Continue,
}

impl Walk {
    pub(crate) fn new(ruleset: &Ruleset) -> Self {
        Self {
            tables: ruleset.tables.iter().map(Index::new).collect(),
        }
    }

    /// Whether the packet passes all stops.
    pub(crate) fn passes(&self, packet: &Packet, stops: &[Stop]) -> bool {
        stops.iter().all(|stop| self.passes_one(packet, stop))
    }

    fn passes_one(&self, packet: &Packet, stop: &Stop) -> bool {
        // A bridge hands nothing else to the hooks of IP.
        if stop.family == TableFamily::Inet && !packet.is_plain_ip() {
            return true;
        }
        let tables = self.tables.iter();
        let tables = tables.filter(|table| table.family == stop.family);
        let mut chains: Vec<_> = tables
            .flat_map(|table| {
                let bases = table.bases.iter().filter(|base| {
                    let here = base.device.is_none() || base.device == stop.input;
                    base.hook == stop.hook && here
                });
                bases.map(move |base| (base.priority, table, base.chain))
            })
            .collect();
        chains.sort_by_key(|(priority, ..)| *priority);
        chains.into_iter().all(|(_, table, chain)| {
            let visit = Visit {
                table,
                packet,
                stop,
            };
            // The policy of every base chain is accept.
            !matches!(visit.chain(chain, 0), End::Drop)
        })
    }
}

/// A packet in a table.
struct Visit<'a> {
    table: &'a Index,
    packet: &'a Packet,
    stop: &'a Stop,
}

impl Visit<'_> {
    fn chain(&self, chain: usize, depth: usize) -> End {
        assert!(depth <= DEEPEST, "too many jumps");
        for rule in &self.table.chains[chain] {
            if !rule.tests.iter().all(|test| self.holds(test)) {
                continue;
            }
            let verdict = match &rule.action {
                Action::Verdict(verdict) => Some(*verdict),
                Action::Lookup { key, map } => {
                    let key = self.key(key);
                    key.and_then(|key| map.get(&key)).copied()
                }
            };
            match verdict {
                None => {}
                Some(Verdict::Accept) => return End::Accept,
                Some(Verdict::Drop) => return End::Drop,
                Some(Verdict::Return) => return End::Continue,
                // Whoever jumped to this chain goes on when the other ends.
                Some(Verdict::Goto(other)) => return self.chain(other, depth),
                Some(Verdict::Jump(other)) => match self.chain(other, depth + 1) {
                    End::Continue => {}
                    end => return end,
                },
            }
        }
        End::Continue
    }

    fn holds(&self, test: &Test) -> bool {
        let Some(mut key) = self.key(&test.key) else {
            return false;
        };
        if let Some(mask) = test.mask {
            assert_eq!(key.len(), 1, "a mask is of one field");
            key[0] &= mask;
        }
        test.elements.have(&key) != test.negated
    }

    fn key(&self, fields: &[Field]) -> Option<Vec<u128>> {
        let field = |field: &Field| self.packet.field(*field, self.stop);
        fields.iter().map(field).collect()
    }
}

type Exact = BTreeSet<Vec<u128>>;
type Map = BTreeMap<Vec<u128>, Verdict>;
