//! The orders of design.md 3: each wrong one is found, and the plan takes a right one.

#![allow(clippy::unwrap_used)]

#[allow(dead_code, reason = "other tests use the rest")]
#[path = "support/in_flight.rs"]
mod in_flight;
#[allow(dead_code, reason = "other tests walk whole rulesets")]
#[path = "support/walk/mod.rs"]
mod walk;

use std::net::IpAddr;

use in_flight::{Packet, Path, Wrong, follow, sorted};
use policy_compiler::compile::compile;
use policy_compiler::delta::{Action, Operation, Plan, Step, Transaction, delta};
use policy_compiler::evaluate::Transport;
use policy_compiler::lower::{Attachment, Options, lower};
use policy_compiler::model::*;
use policy_compiler::ruleset::{Ruleset, TableFamily};

const A: &str = "10.0.0.1";
const B: &str = "10.0.0.2";
const C: &str = "10.0.0.3";

/// A pod of node `n`, labelled `app=name` and `role=role`.
fn pod(name: &str, address: &str, role: &str) -> Pod {
    Pod {
        id: NamespacedName::new("x", name),
        labels: Labels::from(
            [("app", name), ("role", role)].map(|(key, value)| (key.into(), value.into())),
        )
        .into(),
        node: Some("n".into()),
        host_network: false,
        phase: Phase::Running,
        uid: None,
        presence: Presence::Listed,
        terminating: false,
        addresses: vec![address.parse().unwrap()],
        ports: [].into(),
    }
}

/// The one of an interface.
fn link_local(name: &str) -> IpAddr {
    format!("fe80::{name}").parse().unwrap()
}

fn select(key: &str, value: &str) -> LabelSelector {
    LabelSelector::new(vec![Requirement::In(key.into(), [value.into()].into())])
}

/// The peer `role=value`, or everybody.
fn allow(role: Option<&str>, ports: &[u16]) -> Rule {
    let peer = |role| Peer::Pods {
        namespaces: NamespaceScope::Own("x".into()),
        pods: select("role", role),
    };
    let port = |port: &u16| PolicyPort {
        protocol: Protocol::Tcp,
        port: PortMatch::Range(PortRange::single(*port)),
    };
    Rule {
        peers: role.map_or(Peers::Any, |role| Peers::Of(vec![peer(role)])),
        ports: if ports.is_empty() {
            Ports::Any
        } else {
            Ports::Of(ports.iter().map(port).collect())
        },
    }
}

fn policy(
    name: &str,
    app: &str,
    ingress: Option<Vec<Rule>>,
    egress: Option<Vec<Rule>>,
) -> NetworkPolicy {
    NetworkPolicy {
        id: NamespacedName::new("x", name),
        selector: select("app", app),
        ingress,
        egress,
    }
}

fn ruleset(
    pods: impl IntoIterator<Item = Pod>,
    policies: impl IntoIterator<Item = NetworkPolicy>,
) -> Ruleset {
    let cluster = Cluster::new([], [], pods, policies);
    lower(&compile(&cluster, "n"), &Options::default())
}

fn three() -> [Pod; 3] {
    [pod("a", A, "one"), pod("b", B, "one"), pod("c", C, "two")]
}

/// Every packet between the pods and one address outside, to a few ports.
fn packets() -> Vec<Packet> {
    let hosts: Vec<IpAddr> = [A, B, C, "10.9.9.9"].map(|a| a.parse().unwrap()).into();
    let mut packets = Vec::new();
    for source in &hosts {
        for destination in &hosts {
            for port in [80, 443, 444] {
                for dnat in [false, true] {
                    packets.push(Packet {
                        source: *source,
                        destination: *destination,
                        transport: Transport::Port(Protocol::Tcp, port),
                        path: Path::Routed,
                        input: "eth0".into(),
                        output: "eth0".into(),
                        dnat,
                        return_route: true,
                        bare_syn: true,
                        icmpv6: (128, 64),
                    });
                }
            }
        }
    }
    packets
}

fn go(from: &Ruleset, to: &Ruleset, transactions: &[Transaction]) -> Result<(), Box<Wrong>> {
    let end = follow(from, to, transactions, &packets())?;
    assert_eq!(sorted(end), sorted(to.clone()));
    Ok(())
}

/// The plan, which is right.
fn right(from: &Ruleset, to: &Ruleset) -> Plan {
    let plan = delta(from, to, 0);
    if let Err(wrong) = go(from, to, &plan.transactions) {
        panic!("{wrong:#?} in {plan:#?}");
    }
    plan
}

fn steps(plan: &Plan) -> Vec<Step> {
    plan.transactions.iter().map(|t| t.step).collect()
}

/// All operations in one transaction.
fn at_once(transactions: &[Transaction]) -> Vec<Transaction> {
    let operations = transactions.iter().flat_map(|t| t.operations.clone());
    let step = Step::Tighten;
    vec![Transaction {
        step,
        operations: operations.collect(),
    }]
}

/// Two steps in one transaction.
fn joined(plan: &Plan, first: Step, second: Step) -> Vec<Transaction> {
    let of = |step| plan.transactions.iter().find(|t| t.step == step).unwrap();
    let both = at_once(&[of(first).clone(), of(second).clone()]);
    let at = plan.transactions.iter().position(|t| t.step == first);
    let mut transactions = plan.transactions.clone();
    transactions.retain(|t| t.step != first && t.step != second);
    transactions.splice(at.unwrap()..at.unwrap(), both);
    transactions
}

fn leaks(from: &Ruleset, to: &Ruleset, transactions: &[Transaction]) {
    let wrong = go(from, to, transactions).expect_err("the wrong order is found");
    assert!(!wrong.lost, "{wrong:#?}");
}

fn loses(from: &Ruleset, to: &Ruleset, transactions: &[Transaction]) {
    let wrong = go(from, to, transactions).expect_err("the wrong order is found");
    assert!(wrong.lost, "{wrong:#?}");
}

#[test]
fn deleting_and_creating_the_table_in_one_transaction_leaks() {
    let policies = || [policy("p", "a", Some(vec![]), None)];
    let from = ruleset(three(), policies());
    let mut transactions = delta(&from, &Ruleset::default(), 0).transactions;
    transactions.extend(delta(&Ruleset::default(), &from, 0).transactions);
    leaks(&from, &from, &at_once(&transactions));
    leaks(&from, &from, &transactions);
    assert!(right(&from, &from).transactions.is_empty());
}

#[test]
fn a_new_chain_and_the_retarget_belong_in_two_transactions() {
    let rules = |port| Some(vec![allow(Some("one"), &[port])]);
    let [one, two] =
        [("p", 80), ("q", 443)].map(|(name, port)| policy(name, "a", rules(port), None));
    let from = ruleset(three(), [one.clone()]);
    let to = ruleset(three(), [one, two]);
    let plan = right(&from, &to);
    assert_eq!(steps(&plan), [Step::Create, Step::Loosen, Step::Delete]);
    // The new chain is found, but its rules are not there for a packet that came before.
    leaks(&from, &to, &joined(&plan, Step::Create, Step::Loosen));
    // The old chain is found, but its rules are gone.
    leaks(&from, &to, &joined(&plan, Step::Loosen, Step::Delete));
    leaks(&from, &to, &at_once(&plan.transactions));
}

#[test]
fn a_pair_that_ingress_denies_before_and_egress_after_is_never_open() {
    let ingress = policy("p", "b", Some(vec![]), None);
    let egress = policy("q", "a", None, Some(vec![]));
    // Both stay isolated, so that guards do not change: by a rule for everybody.
    let open_in = policy("p", "b", Some(vec![allow(None, &[])]), None);
    let open_out = policy("q", "a", None, Some(vec![allow(None, &[])]));
    let from = ruleset(three(), [ingress, open_out]);
    let to = ruleset(three(), [open_in, egress]);
    let plan = right(&from, &to);
    assert_eq!(steps(&plan), [Step::Tighten, Step::Loosen]);
    leaks(&from, &to, &at_once(&plan.transactions));
    let mut loosened_first = plan.transactions;
    loosened_first.reverse();
    leaks(&from, &to, &loosened_first);
}

#[test]
fn the_swap_by_membership_alone_is_never_open() {
    // c is a peer of b's ingress; a of c's egress. c's role and b's change at once.
    let policies = || {
        [
            policy("p", "b", Some(vec![allow(Some("one"), &[])]), None),
            policy("q", "a", None, Some(vec![allow(Some("two"), &[])])),
        ]
    };
    let of = |roles: [&str; 2]| {
        ruleset(
            [
                pod("a", A, roles[0]),
                pod("b", B, roles[1]),
                pod("c", C, "two"),
            ],
            policies(),
        )
    };
    // a to b: denied by b's ingress, then by a's egress.
    let (from, to) = (of(["two", "two"]), of(["one", "one"]));
    let plan = right(&from, &to);
    assert_eq!(steps(&plan), [Step::Tighten, Step::Loosen]);
    leaks(&from, &to, &at_once(&plan.transactions));
    let mut loosened_first = plan.transactions;
    loosened_first.reverse();
    leaks(&from, &to, &loosened_first);
}

#[test]
fn a_pod_that_moves_between_two_peers_of_a_class_is_not_cut_off() {
    let rules = || {
        Some(vec![
            allow(Some("one"), &[80]),
            allow(Some("two"), &[80, 443]),
        ])
    };
    let of = |role| {
        let pods = [pod("a", A, "one"), pod("b", B, "two"), pod("c", C, role)];
        ruleset(pods, [policy("p", "a", rules(), None)])
    };
    let (from, to) = (of("one"), of("two"));
    let plan = right(&from, &to);
    assert!(steps(&plan).contains(&Step::DecoupleChains), "{plan:#?}");
    // In place, tightening first: what both accept, port 80, is lost meanwhile.
    let elements = |action: &Action| {
        matches!(
            action,
            Action::AddElements { .. } | Action::DeleteElements { .. }
        )
    };
    let mut in_place = plan.transactions;
    in_place.retain(|t| [Step::Tighten, Step::Loosen].contains(&t.step));
    assert!(
        in_place
            .iter()
            .flat_map(|t| &t.operations)
            .all(|o| elements(&o.action))
    );
    loses(&from, &to, &in_place);
}

#[test]
fn an_edit_that_gains_and_loses_a_port_keeps_the_others() {
    let of = |rules| ruleset(three(), [policy("p", "a", Some(rules), None)]);
    let from = of(vec![allow(Some("one"), &[80, 444])]);
    let to = of(vec![allow(Some("one"), &[80, 443])]);
    let plan = right(&from, &to);
    let expected = [
        Step::Create,
        Step::DecoupleChains,
        Step::RecoupleChains,
        Step::Delete,
    ];
    assert_eq!(steps(&plan), expected);
    // The rules that both have, and then drop: port 80 is in neither.
    let class = |ruleset: &Ruleset| {
        let chains = ruleset.tables[0].chains.iter();
        let mut chains = chains.filter(|chain| chain.name.starts_with("ingress4_"));
        policy_compiler::ruleset::Chain::clone(chains.next().unwrap())
    };
    let refill = |step, rules| Transaction {
        step,
        operations: vec![Operation {
            family: TableFamily::Inet,
            action: Action::Refill {
                chain: class(&from).name,
                rules,
            },
        }],
    };
    let drop_all = class(&from).rules.split_off(1);
    let by_text = [
        refill(Step::Tighten, drop_all),
        refill(Step::Loosen, class(&to).rules),
    ];
    loses(&from, &to, &by_text);
    // At once it is right for this class alone: rules are old or new as a whole.
    go(&from, &to, &[refill(Step::Loosen, class(&to).rules)]).unwrap();
}

#[test]
fn a_new_pod_is_closed_before_it_is_known_and_known_before_anything_opens() {
    let policies = || [policy("p", "a", Some(vec![allow(Some("two"), &[])]), None)];
    let [a, b, c] = three();
    let from = ruleset([a.clone(), b.clone()], policies());
    let to = ruleset([a, b, c], policies());
    let plan = right(&from, &to);
    assert_eq!(
        steps(&plan),
        [Step::Early, Step::Tighten, Step::Close, Step::Loosen]
    );
    // Known before its verdict is there: what both accept is dropped as of a pod without a class.
    loses(&from, &to, &joined(&plan, Step::Tighten, Step::Close));
    let back = right(&to, &from);
    assert_eq!(
        steps(&back),
        [Step::Tighten, Step::Open, Step::Loosen, Step::Late]
    );
    loses(&to, &from, &joined(&back, Step::Open, Step::Loosen));
}

#[test]
fn an_address_that_moves_between_pods_takes_no_permission_along() {
    let policies = || {
        [
            policy("p", "a", Some(vec![allow(Some("one"), &[80])]), None),
            policy(
                "q",
                "b",
                Some(vec![]),
                Some(vec![allow(Some("one"), &[443])]),
            ),
            policy("r", "c", Some(vec![allow(None, &[443])]), Some(vec![])),
        ]
    };
    let from = ruleset(three(), policies());
    // c takes b's address.
    let to = ruleset([pod("a", A, "one"), pod("c", B, "two")], policies());
    let plan = right(&from, &to);
    assert!(steps(&plan).contains(&Step::DecoupleKeys), "{plan:#?}");
    right(&to, &from);
}

/// Pods of a bridge, isolated both ways, and what goes between their link-local addresses.
fn bridged(pods: &[(Pod, &str)]) -> Ruleset {
    let cluster = Cluster::new([], [], pods.iter().map(|(pod, _)| pod.clone()), {
        let rules = || Some(vec![allow(Some("one"), &[])]);
        ["a", "b", "c"].map(|app| policy(app, app, rules(), rules()))
    });
    let attachments = pods.iter().map(|(pod, interface)| {
        let attachment = Attachment {
            interface: InterfaceName::new(interface).unwrap(),
            bridged: true,
            addresses: None,
            routes: false,
        };
        (pod.id.to_string(), vec![attachment])
    });
    let options = Options {
        attachments: attachments.collect(),
        ..Options::default()
    };
    lower(&compile(&cluster, "n"), &options)
}

#[test]
fn a_pod_that_comes_to_a_bridge_keeps_its_link_local_address_and_costs_no_second_table() {
    let of = |name, address: &str| {
        let mut pod = pod(name, address, "one");
        pod.addresses.push(link_local(name));
        (pod, name)
    };
    let all = [of("a", A), of("b", B), of("c", C)];
    let packets: Vec<_> = (0..3)
        .flat_map(|from| (0..3).map(move |to| (from, to)))
        .filter(|(from, to)| from != to)
        .map(|(from, to)| Packet {
            source: link_local(all[from].1),
            destination: link_local(all[to].1),
            path: Path::Bridged,
            input: all[from].1.into(),
            output: all[to].1.into(),
            ..packets()[0].clone()
        })
        .collect();
    let right = |from: &Ruleset, to: &Ruleset| {
        let plan = delta(from, to, 0);
        let end = follow(from, to, &plan.transactions, &packets);
        let end = end.unwrap_or_else(|wrong| panic!("{wrong:#?} in {plan:#?}"));
        assert_eq!(sorted(end), sorted(to.clone()));
        steps(&plan)
    };
    let [one, two, three] = [1, 2, 3].map(|count| bridged(&all[..count]));
    for steps in [right(&two, &three), right(&three, &two)] {
        assert!(!steps.contains(&Step::CopyBase), "{steps:?}");
    }
    // What goes between two that come at once is judged by both.
    right(&one, &three);
    right(&three, &one);
}

#[test]
fn the_first_plan_hooks_in_last_and_the_last_plan_unhooks_first() {
    let ruleset = ruleset(three(), [policy("p", "a", Some(vec![]), Some(vec![]))]);
    let none = Ruleset::default();
    let first = right(&none, &ruleset);
    assert_eq!(steps(&first), [Step::Create, Step::Tighten]);
    let last = right(&ruleset, &none);
    assert_eq!(steps(&last), [Step::Loosen, Step::Delete]);
    // Nothing is judged by half: base chains before their maps lose what is accepted.
    let mut hooked_first = first.transactions;
    hooked_first.reverse();
    let hooked_first = at_once(&hooked_first);
    assert!(std::panic::catch_unwind(|| go(&none, &ruleset, &hooked_first)).is_err());
}
