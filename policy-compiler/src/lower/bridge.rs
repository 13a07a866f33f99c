//! The bridge table: what enters a bridge by a pod's port.

use super::Options;
use crate::ir::NodeIr;
use crate::ruleset::Table;

pub(super) fn table(_ir: &NodeIr, _options: &Options) -> Option<Table> {
    None
}
