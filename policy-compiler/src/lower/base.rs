//! The base chains.

use super::{Dropped, Options, RevokedBit, destination, digit, guards, source, subject};
use crate::evaluate::NodeEgress;
use crate::ir::NodeIr;
use crate::model::{Direction, Family};
use crate::ruleset::{Base, Chain, Field, Hook, Mask, Match, Rule, Table, Value, Verdict};

/// Just before priority `filter`: after DNAT, before anything that forwards by itself.
pub(super) const EGRESS_PRIORITY: i32 = -6;
pub(super) const INGRESS_PRIORITY: i32 = -5;
/// Before conntrack.
pub(super) const RAW_PRIORITY: i32 = -300;

pub(super) fn add(table: &mut Table, ir: &NodeIr, options: &Options) {
    let mut egress = opening(options.revoked);
    egress.push(Rule::verdict([], Verdict::Jump("guards".into())));
    egress.extend(judge(Direction::Egress, Hook::Forward));
    table.add_chain(chain("egress", Hook::Forward, EGRESS_PRIORITY, egress));

    let mut ingress = vec![established()];
    ingress.push(guards::neighbour_discovery());
    ingress.extend(judge(Direction::Ingress, Hook::Forward));
    table.add_chain(chain("ingress", Hook::Forward, INGRESS_PRIORITY, ingress));

    let mut input = opening(options.revoked);
    input.extend(guards::router_for_this_node(ir, options));
    if options.node_egress == NodeEgress::Policy {
        input.extend(guards::to_own_node(ir, options));
        input.extend(judge(Direction::Egress, Hook::Input));
    }
    table.add_chain(chain("input", Hook::Input, EGRESS_PRIORITY, input));

    let mut output = opening(options.revoked);
    output.extend(guards::to_own_pods(ir, options));
    output.push(from_this_node());
    output.extend(judge(Direction::Egress, Hook::Output));
    table.add_chain(chain("output", Hook::Output, EGRESS_PRIORITY, output));

    let mut output = vec![established(), from_this_node()];
    output.extend(judge(Direction::Ingress, Hook::Output));
    table.add_chain(chain(
        "output_ingress",
        Hook::Output,
        INGRESS_PRIORITY,
        output,
    ));
}

/// A base chain.
pub(super) fn chain(name: &str, hook: Hook, priority: i32, rules: Vec<Rule>) -> Chain {
    Chain {
        name: name.to_owned(),
        base: Some(Base {
            hook,
            device: None,
            priority,
        }),
        rules,
    }
}

/// What every first chain of a hook starts with.
pub(super) fn opening(revoked: RevokedBit) -> Vec<Rule> {
    let bit = revoked.bits();
    // ct mark & 0x100000 == 0x100000 counter counter name "dropped_revoked" drop
    let revoked = Match::is(Field::ConnectionMark, [Value::Number(bit)]).masked(Mask::Bits(bit));
    let drop = Rule::verdict([revoked], Verdict::Drop).counted();
    let drop = drop.counted_in(Dropped::Revoked.counter());
    vec![drop.comment("revoked connection"), established()]
}

/// `ct state established,related accept`
fn established() -> Rule {
    let states = ["established", "related"].map(Value::Symbol);
    Rule::verdict([Match::is(Field::ConnectionState, states)], Verdict::Accept)
}

/// `fib saddr type local accept`: the kubelet's probes, and whatever else the node itself sends.
fn from_this_node() -> Rule {
    let local = Match::is(Field::SourceAddressType, [Value::Symbol("local")]);
    Rule::verdict([local], Verdict::Accept).comment("this node to its pods")
}

/// Asks the class of the local pod on the direction's side; a known pod that has none is closed.
fn judge(direction: Direction, hook: Hook) -> Vec<Rule> {
    let mut rules = Vec::new();
    for family in Family::ALL {
        let digit = digit(family);
        rules.push(to_itself(family, hook));
        // ip saddr vmap @egress4
        let subject = subject(direction, family);
        rules.push(Rule::lookup([subject], format!("{direction}{digit}")));
        // ip saddr @local4 counter name "dropped_egress_closed" drop
        let local = Match::in_set([subject], format!("local{digit}"));
        let drop = Rule::verdict([local], Verdict::Drop);
        let drop = drop.counted_in(Dropped::Closed(direction).counter());
        rules.push(drop.comment("pod without a class"));
    }
    rules
}

/// A pod to itself by way of a Service. Of what is forwarded only what a Service sent back, and the pod itself
/// sent: else a forged packet from the pod's own address would reach it. What leaves this host was not forged.
fn to_itself(family: Family, hook: Hook) -> Rule {
    // ip saddr . ip daddr @self4 ct status dnat fib saddr . iif oif exists accept
    let pair = [source(family), destination(family)];
    let mut matches = vec![Match::in_set(pair, format!("self{}", digit(family)))];
    if hook != Hook::Output {
        matches.push(Match::is(Field::ConnectionStatus, [Value::Symbol("dnat")]));
        matches.push(Match::is(Field::ReturnRoute, [Value::Symbol("exists")]));
    }
    Rule::verdict(matches, Verdict::Accept).comment("a pod to itself")
}
