//! What is said to be covered can go.

use std::collections::BTreeMap;

use policy_compiler::cover::{Target, covered, peer_implies, selector_implies};
use policy_compiler::evaluate::{NodeEgress, evaluate};
use policy_compiler::model::*;
use proptest::prelude::*;

mod support;

/// The cluster without the targets, all at once.
fn without(cluster: &Cluster, targets: &[Target]) -> Cluster {
    let policies = cluster.policies.iter();
    let mut policies: BTreeMap<_, _> = policies
        .map(|(id, policy)| (id.clone(), policy.clone()))
        .collect();
    let mut rules: Vec<_> = targets
        .iter()
        .filter_map(|target| match target {
            Target::Rule(rule) => Some(rule.clone()),
            Target::Policy(id) => {
                policies.remove(id);
                None
            }
        })
        .collect();
    rules.sort();
    for rule in rules.iter().rev() {
        let policy = policies
            .get_mut(&rule.policy)
            .expect("a rule of a policy that stays");
        let list = match rule.direction {
            Direction::Egress => &mut policy.egress,
            Direction::Ingress => &mut policy.ingress,
        };
        list.as_mut().expect("it isolates").remove(rule.index);
    }
    Cluster::new(
        cluster.namespaces.values().cloned(),
        cluster.nodes.values().cloned(),
        cluster.pods.values().cloned(),
        policies.into_values(),
    )
}

fn same_verdicts(cluster: &Cluster) -> Result<usize, TestCaseError> {
    let found = covered(cluster);
    let targets: Vec<_> = found.iter().map(|covered| covered.target.clone()).collect();
    let less = without(cluster, &targets);
    for connection in support::connections() {
        let before = evaluate(cluster, connection, NodeEgress::Policy).verdict;
        let after = evaluate(&less, connection, NodeEgress::Policy).verdict;
        prop_assert_eq!(before, after, "{:?} without {:?}", connection, found);
    }
    Ok(found.len())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn without_all_that_is_covered_no_verdict_changes(cluster in support::cluster()) {
        same_verdicts(&cluster)?;
    }

    #[test]
    fn without_all_covered_rules_of_many_no_verdict_changes(cluster in support::crowded_cluster()) {
        same_verdicts(&cluster)?;
    }

    #[test]
    fn what_is_implied_is_matched_by_both(cluster in support::cluster(), other in support::cluster()) {
        let selectors = |cluster: &Cluster| -> Vec<_> {
            cluster.policies.values().map(|policy| policy.selector.clone()).collect()
        };
        for narrow in selectors(&cluster) {
            for wide in selectors(&cluster) {
                if selector_implies(&narrow, &wide) {
                    for pod in cluster.pods.values().chain(other.pods.values()) {
                        prop_assert!(!narrow.matches(&pod.labels) || wide.matches(&pod.labels), "{} {}", narrow, wide);
                    }
                }
            }
        }
    }
}

fn selector(requirements: &[Requirement]) -> LabelSelector {
    LabelSelector::new(requirements.iter().cloned())
}

fn is(key: &str, values: &[&str]) -> Requirement {
    Requirement::In(
        key.into(),
        values.iter().map(|value| (*value).into()).collect(),
    )
}

fn is_not(key: &str, values: &[&str]) -> Requirement {
    Requirement::NotIn(
        key.into(),
        values.iter().map(|value| (*value).into()).collect(),
    )
}

#[test]
fn selectors_imply_what_follows_from_their_requirements() {
    let exists = Requirement::Exists("a".into());
    let missing = Requirement::DoesNotExist("a".into());
    for (narrow, wide, implied) in [
        (vec![is("a", &["1"])], vec![], true),
        (vec![], vec![is("a", &["1"])], false),
        (vec![is("a", &["1"])], vec![is("a", &["1", "2"])], true),
        (vec![is("a", &["1", "2"])], vec![is("a", &["1"])], false),
        (
            vec![is("a", &["1", "2"]), is_not("a", &["2"])],
            vec![is("a", &["1"])],
            true,
        ),
        (vec![is("a", &["1"])], vec![exists.clone()], true),
        (vec![is("a", &["1"])], vec![is_not("a", &["2"])], true),
        (vec![missing.clone()], vec![is_not("a", &["2"])], true),
        (vec![is_not("a", &["2"])], vec![missing.clone()], false),
        (vec![exists], vec![is_not("a", &["2"])], false),
        (vec![is("b", &["1"])], vec![is("a", &["1"])], false),
    ] {
        let (narrow, wide) = (selector(&narrow), selector(&wide));
        assert_eq!(
            selector_implies(&narrow, &wide),
            implied,
            "{narrow} => {wide}"
        );
    }
}

#[test]
fn the_own_namespace_is_among_those_with_its_name_and_among_all() {
    let pods = |namespaces| Peer::Pods {
        namespaces,
        pods: LabelSelector::default(),
    };
    let own = pods(NamespaceScope::Own("x".into()));
    let all = pods(NamespaceScope::Matching(LabelSelector::default()));
    let named = selector(&[is("kubernetes.io/metadata.name", &["x"])]);
    let named = pods(NamespaceScope::Matching(named));
    assert!(peer_implies(&own, &all) && peer_implies(&own, &named));
    assert!(peer_implies(&named, &own) && !peer_implies(&all, &own));
    assert!(!peer_implies(&own, &pods(NamespaceScope::Own("y".into()))));
}

/// A pod of namespace `x` with the label `app`, and a port `http` if its number is given.
fn pod(app: &str, host: u8, http: Option<u16>) -> Pod {
    let port = |port| ContainerPort {
        name: Some("http".into()),
        protocol: Protocol::Tcp,
        port,
    };
    Pod {
        id: NamespacedName::new("x", app),
        labels: Labels::from([("app".into(), app.into())]).into(),
        node: Some("n1".into()),
        host_network: false,
        phase: Phase::Running,
        uid: None,
        presence: Presence::Listed,
        terminating: false,
        addresses: vec![std::net::Ipv4Addr::new(10, 0, 0, host).into()],
        ports: http.map(port).into_iter().collect(),
    }
}

fn allows(name: &str, selector: LabelSelector, ports: Ports) -> NetworkPolicy {
    NetworkPolicy {
        id: NamespacedName::new("x", name),
        selector,
        ingress: Some(vec![Rule {
            peers: Peers::Any,
            ports,
        }]),
        egress: None,
    }
}

fn port(protocol: Protocol, port: PortMatch) -> PolicyPort {
    PolicyPort { protocol, port }
}

fn found(policies: [NetworkPolicy; 2]) -> Vec<Target> {
    let pods = [pod("a", 1, Some(80)), pod("b", 2, None)];
    let cluster = Cluster::new([], [], pods, policies);
    let covered = covered(&cluster);
    covered.into_iter().map(|covered| covered.target).collect()
}

#[test]
fn all_ports_do_not_cover_the_protocols_without_ports() {
    let all = Protocol::ALL.map(|protocol| port(protocol, PortMatch::All));
    let everything = LabelSelector::default;
    let ports = allows("ports", everything(), Ports::Of(all.to_vec()));
    let any = allows("z-any", everything(), Ports::Any);
    let ports_alone = Target::Policy(ports.id.clone());
    assert_eq!(found([ports, any]), [ports_alone]);
}

#[test]
fn a_policy_that_alone_isolates_a_pod_stays() {
    let http = port(Protocol::Tcp, PortMatch::Named("http".into()));
    let named = allows("named", LabelSelector::default(), Ports::Of(vec![http]));
    // It allows the same to the only pod to which the name means something, and does not isolate the other.
    let number = port(Protocol::Tcp, PortMatch::Range(PortRange::single(80)));
    let for_a = allows(
        "for-a",
        selector(&[is("app", &["a"])]),
        Ports::Of(vec![number]),
    );
    let id = named.id.clone();
    let targets = found([named, for_a]);
    assert!(!targets.contains(&Target::Policy(id)), "{targets:?}");
}
