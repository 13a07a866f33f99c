//! The 50 cases of Kubernetes' own end-to-end suite for NetworkPolicy, with real packets.
//!
//! Each is a file of `testdata/upstream`: steps, and for each step a truth table. At each step the cluster is compiled
//! for both nodes, the rules are led there from those of the state before, and every pod tries to reach every other
//! over IPv4 and IPv6. Packets and the evaluator have to do what the table says.
//!
//! Cases share one cluster of namespaces per network, and go on from what the one before has left, in whatever order
//! they are run. `cargo test -p controller --test upstream named_port` runs those with that in their name.

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up fails")]

mod upstream {
    pub(super) mod case;
    pub(super) mod objects;
    mod table;
    pub(super) mod world;
}

use controller::verify::compiled;
use policy_compiler::lower::Options;
use testbed::Network;
use upstream::case::Case;
use upstream::objects::Objects;
use upstream::world::world;

/// For each case a test per network, and its place in the list.
macro_rules! cases {
    (packets {$($name:ident: $title:literal,)*} validation {$($other:ident: $other_title:literal,)*}) => {
        /// Every case of upstream's: the name of its file, and its name there.
        const CASES: &[(&str, &str)] = &[
            $((stringify!($name), $title),)* $((stringify!($other), $other_title),)*
        ];
        $(mod $name {
            #[test]
            fn on_a_bridge() {
                super::run(stringify!($name), testbed::Network::Bridged);
            }

            #[test]
            fn routed() {
                super::run(stringify!($name), testbed::Network::Routed);
            }
        })*
    };
}

cases! {
    packets {
        tcp_01_default_deny_ingress: "should support a 'default-deny-ingress' policy",
        tcp_02_default_deny_all: "should support a 'default-deny-all' policy",
        tcp_03_pods_of_the_servers_namespace: "should enforce policy to allow traffic from pods within server namespace based on PodSelector",
        tcp_04_ingress_for_a_target: "should enforce policy to allow ingress traffic for a target",
        tcp_05_pods_of_all_namespaces: "should enforce policy to allow ingress traffic from pods in all namespaces",
        tcp_06_only_another_namespace: "should enforce policy to allow traffic only from a different namespace, based on NamespaceSelector",
        tcp_07_pod_selector_with_expressions: "should enforce policy based on PodSelector with MatchExpressions",
        tcp_08_namespace_selector_with_expressions: "should enforce policy based on NamespaceSelector with MatchExpressions",
        tcp_09_pod_selector_or_namespace_selector: "should enforce policy based on PodSelector or NamespaceSelector",
        tcp_10_pod_selector_and_namespace_selector: "should enforce policy based on PodSelector and NamespaceSelector",
        tcp_11_multiple_pod_and_namespace_selectors: "should enforce policy based on Multiple PodSelectors and NamespaceSelectors",
        tcp_12_any_pod_selectors: "should enforce policy based on any PodSelectors",
        tcp_13_only_a_pod_of_another_namespace: "should enforce policy to allow traffic only from a pod in a different namespace based on PodSelector and NamespaceSelector",
        tcp_14_ports: "should enforce policy based on Ports",
        tcp_15_stacked_policies: "should enforce multiple, stacked policies with overlapping podSelectors",
        tcp_16_allow_all: "should support allow-all policy",
        tcp_17_one_named_port: "should allow ingress access on one named port",
        tcp_18_namespace_on_one_named_port: "should allow ingress access from namespace on one named port",
        tcp_19_egress_on_one_named_port: "should allow egress access on one named port",
        tcp_20_updated_policy: "should enforce updated policy",
        tcp_21_updated_namespace: "should allow ingress access from updated namespace",
        tcp_22_updated_pod: "should allow ingress access from updated pod",
        tcp_23_no_other_namespaces: "should deny ingress from pods on other namespaces",
        tcp_24_updated_pod_is_isolated: "should deny ingress access to updated pod",
        tcp_25_no_egress_of_a_pod: "should deny egress from pods based on PodSelector",
        tcp_26_no_egress_of_a_namespace: "should deny egress from all pods in a namespace",
        tcp_27_ingress_and_egress_together: "should work with Ingress, Egress specified together",
        tcp_28_egress_is_denied_though_the_server_allows_it: "should support denying of egress traffic on the client side (even if the server explicitly allows this traffic)",
        tcp_29_egress_to_a_pod_of_another_namespace: "should enforce egress policy allowing traffic to a server in a different namespace based on PodSelector and NamespaceSelector",
        tcp_30_any_port_of_a_protocol: "should enforce ingress policy allowing any port traffic to a server on a specific protocol",
        tcp_31_ingress_allow_all_adds_up: "should enforce multiple ingress policies with ingress allow-all policy taking precedence",
        tcp_32_egress_allow_all_adds_up: "should enforce multiple egress policies with egress allow-all policy taking precedence",
        tcp_33_deleted_policies: "should stop enforcing policies after they are deleted",
        tcp_34_egress_to_a_cidr: "should allow egress access to server in CIDR block",
        tcp_35_egress_except: "should enforce except clause while egress access to server in CIDR block",
        tcp_36_except_and_cidr_overlap: "should ensure an IP overlapping both IPBlock.CIDR and IPBlock.Except is allowed",
        tcp_37_ingress_and_egress_are_independent: "should enforce policies to check ingress and egress policies can be controlled independently based on PodSelector",
        tcp_38_sctp_is_not_tcp: "should not mistakenly treat 'protocol: SCTP' as 'protocol: TCP', even if the plugin doesn't support SCTP",
        tcp_39_sctp_rule_isolates: "should properly isolate pods that are selected by a policy allowing SCTP, even if the plugin doesn't support SCTP",
        tcp_40_udp_is_not_tcp: "should not allow access by TCP when a policy specifies only UDP",
        tcp_41_default_namespace_label: "should enforce policy to allow traffic based on NamespaceSelector with MatchLabels using default ns label",
        tcp_42_default_namespace_label_with_expressions: "should enforce policy based on NamespaceSelector with MatchExpressions using default ns label",
        udp_1_default_deny_ingress: "should support a 'default-deny-ingress' policy",
        udp_2_ports: "should enforce policy based on Ports",
        udp_3_only_a_pod_of_another_namespace: "should enforce policy to allow traffic only from a pod in a different namespace based on PodSelector and NamespaceSelector",
        sctp_1_default_deny_ingress: "should support a 'default-deny-ingress' policy",
        sctp_2_ports: "should enforce policy based on Ports",
        sctp_3_only_a_pod_of_another_namespace: "should enforce policy to allow traffic only from a pod in a different namespace based on PodSelector and NamespaceSelector",
        api_1_operations: "should support creating NetworkPolicy API operations",
    }
    validation {
        api_2_endport_field: "should support creating NetworkPolicy API with endport field",
    }
}

/// The name of a case's file, from that of its test.
fn file(name: &str) -> String {
    name.replace('_', "-")
}

fn run(name: &str, network: Network) {
    let case = Case::read(&file(name));
    let outcome = world(network).run(&case);
    outcome.unwrap_or_else(|report| panic!("{report}"));
}

#[test]
fn all_50_cases_of_upstream_are_here_and_no_other() {
    let count = |prefix: &str| {
        let of_kind = CASES.iter().filter(|(name, _)| name.starts_with(prefix));
        of_kind.count()
    };
    let counts = ["tcp_", "udp_", "sctp_", "api_"].map(count);
    assert_eq!((counts, CASES.len()), ([42, 3, 3, 2], 50));
    let mut listed: Vec<_> = CASES
        .iter()
        .map(|(name, title)| (file(name), (*title).to_owned()))
        .collect();
    listed.sort();
    let written: Vec<_> = Case::all()
        .into_iter()
        .map(|case| (case.name, case.title))
        .collect();
    assert_eq!(written, listed);
    // A name is there once in each of upstream's groups.
    let mut titles: Vec<_> = CASES
        .iter()
        .map(|(name, title)| (name.split('_').next(), title))
        .collect();
    titles.sort();
    titles.dedup();
    assert_eq!(titles.len(), CASES.len());
}

#[test]
fn packets_that_do_not_do_what_the_table_says_are_reported() {
    let wrong = |what: &str, by: &str| {
        let mut case = Case::read("tcp-03-pods-of-the-servers-namespace");
        let table = &mut case.steps[0].outcomes[0];
        assert!(table.contains(what));
        *table = table.replacen(what, by, 1);
        world(Network::Routed).run(&case).unwrap_err()
    };
    let report = wrong("x/b       .-.", "x/b       X-.");
    for family in ["Ipv4", "Ipv6"] {
        let text = format!("80/TCP {family}: expected, packets, evaluated");
        assert!(report.contains(&text), "{report}");
    }
    assert_eq!(
        report.matches("x/b -> pod/x/a TCP 80 is allowed").count(),
        2,
        "{report}"
    );
    assert_eq!(report.matches(" -> ").count(), 2, "{report}");
}

#[test]
fn api_1_operations_are_counted_and_annotations_change_no_rule() {
    let case = Case::read("api-1-operations");
    let mut objects = Objects::fixture();
    let states = case.steps.iter().map(|step| {
        objects.apply(step).unwrap();
        let cluster = objects.cluster().unwrap();
        let rules = compiled(&cluster, "node-1", &Options::default());
        (cluster.policies.len(), rules)
    });
    let states: Vec<_> = states.collect();
    let counts: Vec<_> = states.iter().map(|(count, _)| *count).collect();
    assert_eq!(counts, [3, 3, 3, 2, 0]);
    assert!(states[0].1 == states[1].1 && states[1].1 == states[2].1);
}

#[test]
fn api_2_endport_field() {
    let case = Case::read("api-2-endport-field");
    for step in &case.steps {
        let mut objects = Objects::fixture();
        objects.apply(step).unwrap();
        let refusal = objects.cluster().err().map(|errors| errors.to_string());
        let [expected] = &step.outcomes[..] else {
            panic!("{}: one outcome is expected", step.heading);
        };
        let as_expected = match (expected.strip_prefix("refused at "), &refusal) {
            (None, None) => expected == "accepted",
            (Some(expected), Some(refusal)) => {
                let (path, message) = expected.split_once(": ").unwrap();
                refusal.contains(&format!(": {path}: ")) && refusal.ends_with(message)
            }
            _ => false,
        };
        assert!(as_expected, "{}: {refusal:?}", step.heading);
    }
}
