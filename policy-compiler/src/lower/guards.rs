//! Guards: what address maps alone would let through.

use super::{Options, has_isolated_pod};
use crate::ir::NodeIr;
use crate::ruleset::{Chain, Table};

pub(super) fn add(table: &mut Table, ir: &NodeIr, _options: &Options) {
    let rules = Vec::new();
    let _ = has_isolated_pod(ir);
    table.chains.push(Chain {
        name: "guards".into(),
        base: None,
        rules,
    });
}
