//! Changes by which other orders leak.

use crate::scenario::{Scenario, pod, policy, tcp};

/// How often each scenario goes there and back.
const TIMES: usize = 400;

/// A friend and a stranger, not of this node's pods that policies select.
const FRIEND: &str = "10.0.0.20";
const STRANGER: &str = "10.0.0.8";

fn node() -> String {
    "apiVersion: v1\nkind: Node\nmetadata: {name: here}\nstatus: {addresses: [{type: InternalIP, address: 10.0.0.254}]}\n---\n".into()
}

fn others() -> String {
    node()
        + &pod("friend", FRIEND, "role: friend, team: green")
        + &pod("stranger", STRANGER, "role: stranger")
}

/// Ingress to pods with the label from pods with the other, on TCP ports.
fn ingress(name: &str, subject: &str, from: &str, ports: &[u16]) -> String {
    let ports: Vec<_> = ports
        .iter()
        .map(|port| format!("{{port: {port}}}"))
        .collect();
    let ports = ports.join(", ");
    policy(
        name,
        &format!(
            "{{podSelector: {{matchLabels: {{{subject}}}}}, policyTypes: [Ingress], \
             ingress: [{{from: [{{podSelector: {{matchLabels: {{{from}}}}}}}], ports: [{ports}]}}]}}"
        ),
    )
}

fn leaks_and_loses_nothing(scenario: &Scenario) {
    let mut world = scenario.world();
    let counts = scenario.toggle(&mut world, &scenario.plans(), TIMES);
    assert_eq!((counts.leaked, counts.lost), (0, 0), "{counts:?}");
    assert!(
        counts.denied > 1_000 && counts.allowed > 1_000,
        "{counts:?}"
    );
    // And it ends where it began.
    let found = world.nftables.read().unwrap();
    assert_eq!(found.unknown, []);
    for table in found.ruleset.tables {
        let first = scenario.states[0]
            .tables
            .iter()
            .find(|it| it.family == table.family);
        let first = first.unwrap();
        assert_eq!((&table.sets, &table.maps), (&first.sets, &first.maps));
        assert_eq!(table.chains.len(), first.chains.len());
        assert!(
            table
                .chains
                .iter()
                .all(|chain| first.chains.contains(chain))
        );
    }
}

/// Denied by the destination's ingress, then by the source's egress.
pub(crate) fn swap() -> Scenario {
    let pods = others() + &pod("a", "10.0.0.1", "app: a") + &pod("b", "10.0.0.2", "app: b");
    let closed = |name, label, direction| {
        let spec = format!(
            "{{podSelector: {{matchLabels: {{app: {label}}}}}, policyTypes: [{direction}]}}"
        );
        policy(name, &spec)
    };
    Scenario::new(
        [
            format!("{pods}{}", closed("to-b", "b", "Ingress")),
            format!("{pods}{}", closed("from-a", "a", "Egress")),
        ],
        &[tcp("10.0.0.1", "10.0.0.2", 80)],
        &[tcp(FRIEND, "10.0.0.1", 80), tcp("10.0.0.2", FRIEND, 80)],
    )
}

#[test]
fn what_one_side_denies_before_and_the_other_after_stays_denied() {
    leaks_and_loses_nothing(&swap());
}

#[test]
fn a_pod_changes_to_a_class_whose_rules_change() {
    let state = |label, one: &[u16], two: &[u16]| {
        others()
            + &pod("a", "10.0.0.1", label)
            + &pod("b", "10.0.0.2", "app: one")
            + &pod("c", "10.0.0.3", "app: two")
            + &ingress("one", "app: one", "role: friend", one)
            + &ingress("two", "app: two", "role: friend", two)
    };
    leaks_and_loses_nothing(&Scenario::new(
        [
            state("app: one", &[80, 81], &[82, 80]),
            state("app: two", &[82, 80], &[80, 83]),
        ],
        &[
            tcp(STRANGER, "10.0.0.1", 80),
            tcp(FRIEND, "10.0.0.1", 84),
            tcp(STRANGER, "10.0.0.3", 80),
        ],
        &[tcp(FRIEND, "10.0.0.1", 80), tcp(FRIEND, "10.0.0.2", 80)],
    ));
}

#[test]
fn a_class_is_split_and_merged() {
    let pods = others()
        + &pod("a", "10.0.0.1", "app: one, special: yes-please")
        + &pod("b", "10.0.0.2", "app: one");
    let one = ingress("one", "app: one", "role: friend", &[80]);
    let more = ingress("special", "special: yes-please", "team: green", &[81]);
    leaks_and_loses_nothing(&Scenario::new(
        [format!("{pods}{one}"), format!("{pods}{one}{more}")],
        &[
            tcp(STRANGER, "10.0.0.1", 80),
            tcp(STRANGER, "10.0.0.2", 80),
            tcp(FRIEND, "10.0.0.2", 81),
        ],
        &[tcp(FRIEND, "10.0.0.1", 80), tcp(FRIEND, "10.0.0.2", 80)],
    ));
}

#[test]
fn a_peer_is_replaced_by_another() {
    let state = |from| {
        others() + &pod("a", "10.0.0.1", "app: one") + &ingress("one", "app: one", from, &[80])
    };
    leaks_and_loses_nothing(&Scenario::new(
        [state("role: friend"), state("team: green")],
        &[tcp(STRANGER, "10.0.0.1", 80), tcp(FRIEND, "10.0.0.1", 81)],
        &[tcp(FRIEND, "10.0.0.1", 80)],
    ));
}

#[test]
fn an_address_moves_from_one_pod_to_another() {
    let both = ingress("one", "app: one", "role: friend", &[80])
        + &ingress("two", "app: two", "team: green", &[80]);
    let state = |label| others() + &pod(label, "10.0.0.1", &format!("app: {label}")) + &both;
    leaks_and_loses_nothing(&Scenario::new(
        [state("one"), state("two")],
        &[tcp(STRANGER, "10.0.0.1", 80)],
        &[tcp(FRIEND, "10.0.0.1", 80)],
    ));
}

fn block(name: &str, cidr: &str, excepts: &[&str], ports: &str) -> String {
    let excepts = excepts.join(", ");
    policy(
        name,
        &format!(
            "{{podSelector: {{matchLabels: {{app: one}}}}, policyTypes: [Ingress], \
             ingress: [{{from: [{{ipBlock: {{cidr: {cidr}, except: [{excepts}]}}}}], ports: [{ports}]}}]}}"
        ),
    )
}

#[test]
fn exceptions_of_a_block_change() {
    let state = |excepts: &[&str]| {
        node()
            + &pod("a", "10.0.0.1", "app: one")
            + &block("one", "10.0.0.0/24", excepts, "{port: 80}")
    };
    leaks_and_loses_nothing(&Scenario::new(
        [
            state(&["10.0.0.8/32", "10.0.0.48/28"]),
            state(&["10.0.0.8/29", "10.0.0.64/26"]),
        ],
        &[
            tcp(STRANGER, "10.0.0.1", 80),
            tcp("10.1.0.1", "10.0.0.1", 80),
        ],
        &[tcp(FRIEND, "10.0.0.1", 80), tcp("10.0.0.7", "10.0.0.1", 80)],
    ));
}

#[test]
fn ranges_of_ports_and_addresses_change_in_one_set() {
    // Enough rules that they become one set of ranges of both.
    let state = |shift: u16| {
        let rules = (0..12).map(|index: u16| {
            let (block_of, first) = (
                format!("10.{}.0.0/16", index + 1),
                1_000 + 100 * index + shift,
            );
            let ports = format!("{{port: {first}, endPort: {}}}", first + 200);
            block(&format!("p{index}"), &block_of, &[], &ports)
        });
        node() + &pod("a", "10.0.0.1", "app: one") + &rules.collect::<String>()
    };
    let scenario = Scenario::new(
        [state(0), state(10)],
        &[
            tcp("10.1.0.1", "10.0.0.1", 900),
            tcp("10.2.0.1", "10.0.0.1", 1_350),
            tcp(STRANGER, "10.0.0.1", 1_100),
        ],
        &[
            tcp("10.1.0.1", "10.0.0.1", 1_100),
            tcp("10.12.0.1", "10.0.0.1", 2_200),
        ],
    );
    let sets = &scenario.states[0].tables[0].sets;
    assert!(
        sets.values().any(|set| set.interval && set.key.len() == 3),
        "{:?}",
        sets.keys().collect::<Vec<_>>()
    );
    leaks_and_loses_nothing(&scenario);
}
