//! The base chains.

use super::{Options, destination, digit, source, subject};
use crate::evaluate::NodeEgress;
use crate::ir::NodeIr;
use crate::model::{Direction, Family};
use crate::ruleset::{Base, Chain, Field, Hook, Mask, Match, Rule, Table, Value, Verdict};

/// Just before priority `filter`: after DNAT, before anything that forwards by itself.
const EGRESS_PRIORITY: i32 = -6;
const INGRESS_PRIORITY: i32 = -5;

pub(super) fn add(table: &mut Table, _ir: &NodeIr, options: &Options) {
    let mut egress = opening(options);
    egress.push(Rule::verdict([], Verdict::Jump("guards".into())));
    egress.extend(judge(Direction::Egress));
    table
        .chains
        .push(base("egress", Hook::Forward, EGRESS_PRIORITY, egress));

    let mut ingress = vec![established()];
    ingress.push(neighbour_discovery());
    ingress.extend(judge(Direction::Ingress));
    table
        .chains
        .push(base("ingress", Hook::Forward, INGRESS_PRIORITY, ingress));

    let mut input = opening(options);
    if options.node_egress == NodeEgress::Policy {
        input.push(Rule::verdict([], Verdict::Jump("guards".into())));
        input.extend(judge(Direction::Egress));
    }
    table
        .chains
        .push(base("input", Hook::Input, EGRESS_PRIORITY, input));

    let mut output = opening(options);
    output.push(from_this_node());
    output.extend(judge(Direction::Egress));
    table
        .chains
        .push(base("output", Hook::Output, EGRESS_PRIORITY, output));

    let mut output = vec![established(), from_this_node()];
    output.extend(judge(Direction::Ingress));
    table.chains.push(base(
        "output_ingress",
        Hook::Output,
        INGRESS_PRIORITY,
        output,
    ));
}

fn base(name: &str, hook: Hook, priority: i32, rules: Vec<Rule>) -> Chain {
    Chain {
        name: name.to_owned(),
        base: Some(Base { hook, priority }),
        rules,
    }
}

/// What every first chain of a hook starts with.
fn opening(options: &Options) -> Vec<Rule> {
    let bit = options.revoked.bits();
    // ct mark & 0x100000 == 0x100000 counter drop
    let revoked = Match::is(Field::ConnectionMark, [Value::Number(bit)]).masked(Mask::Bits(bit));
    let drop = Rule::verdict([revoked], Verdict::Drop).counted();
    vec![drop.comment("revoked connection"), established()]
}

/// `ct state established,related accept`
fn established() -> Rule {
    let states = ["established", "related"].map(Value::Symbol);
    Rule::verdict([Match::is(Field::ConnectionState, states)], Verdict::Accept)
}

/// `icmpv6 type { 133, 135, 136 } ip6 hoplimit 255 accept`: what was routed has a lower hop limit, so this is
/// neighbour discovery inside a bridge.
pub(super) fn neighbour_discovery() -> Rule {
    let types = [133, 135, 136].map(Value::Number);
    let matches = [
        Match::is(Field::Icmpv6Type, types),
        Match::is(Field::Ipv6HopLimit, [Value::Number(255)]),
    ];
    Rule::verdict(matches, Verdict::Accept)
}

/// `fib saddr type local accept`: the kubelet's probes, and whatever else the node itself sends.
fn from_this_node() -> Rule {
    let local = Match::is(Field::SourceAddressType, [Value::Symbol("local")]);
    Rule::verdict([local], Verdict::Accept).comment("this node to its pods")
}

/// Asks the class of the local pod on the direction's side; a known pod that has none is closed.
fn judge(direction: Direction) -> Vec<Rule> {
    let mut rules = Vec::new();
    for family in Family::ALL {
        let digit = digit(family);
        let pair = [source(family), destination(family)];
        // ip saddr . ip daddr @self4 accept
        let to_itself = Match::in_set(pair, format!("self{digit}"));
        rules.push(Rule::verdict([to_itself], Verdict::Accept).comment("a pod to itself"));
        // ip saddr vmap @egress4
        let subject = subject(direction, family);
        rules.push(Rule::lookup([subject], format!("{direction}{digit}")));
        // ip saddr @local4 drop
        let local = Match::in_set([subject], format!("local{digit}"));
        rules.push(Rule::verdict([local], Verdict::Drop).comment("pod without a class"));
    }
    rules
}
