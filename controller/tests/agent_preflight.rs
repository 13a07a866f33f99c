//! What keeps policies from being enforced is found, and what does not is not, each in a network namespace of its own.

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up fails")]

use std::collections::BTreeSet;
use std::os::unix::process::CommandExt;
use std::process::{Command, Output};

use controller::agent::preflight::{Code, Finding, Options, Severity, inspect};
use kernel::Links;
use testbed::Namespace;

fn namespace() -> Namespace {
    Namespace::new().expect("these tests need root")
}

fn set(namespace: &Namespace, setting: &str, value: &str) {
    let path = format!("/proc/sys/net/{setting}");
    let write = || std::fs::write(&path, value);
    namespace
        .run(write)
        .unwrap()
        .unwrap_or_else(|error| panic!("{path}: {error}"));
}

fn found(namespace: &Namespace, options: &Options) -> Vec<Finding> {
    namespace.run(|| inspect(options)).unwrap()
}

/// What is found with a code, as severity and message.
fn of(namespace: &Namespace, options: &Options, code: Code) -> Vec<(Severity, String)> {
    let all = found(namespace, options).into_iter();
    all.filter(|finding| finding.code == code)
        .map(|finding| (finding.severity, finding.message))
        .collect()
}

/// One finding with a code, whose message has all of these words.
#[track_caller]
fn assert_one(namespace: &Namespace, code: Code, severity: Severity, words: &[&str]) {
    let found = of(namespace, &Options::default(), code);
    assert_eq!(found.len(), 1, "{code:?}: {found:?}");
    assert_eq!(found[0].0, severity, "{found:?}");
    for word in words {
        assert!(found[0].1.contains(word), "{word}: {found:?}");
    }
}

#[track_caller]
fn assert_none(namespace: &Namespace, code: Code) {
    assert_eq!(of(namespace, &Options::default(), code), []);
}

/// Pods are on `br0`, whose packets pass rules as these settings say.
fn with_bridge(ipv4: &str, ipv6: &str, vlan_tagged: &str) -> Namespace {
    let namespace = namespace();
    for (setting, value) in [
        ("call-iptables", ipv4),
        ("call-ip6tables", ipv6),
        ("filter-vlan-tagged", vlan_tagged),
    ] {
        set(&namespace, &format!("bridge/bridge-nf-{setting}"), value);
    }
    namespace.ip_batch("link add br0 type bridge\n").unwrap();
    namespace
}

fn naming(bridge: &str) -> Options {
    Options {
        bridges: vec![bridge.to_owned()],
        ..Options::default()
    }
}

#[test]
fn where_nothing_is_wrong_one_note_is_left() {
    let namespace = with_bridge("1", "1", "1");
    let found = found(&namespace, &Options::default());
    let others: BTreeSet<_> = found
        .iter()
        .filter(|finding| finding.severity < Severity::Note)
        .collect();
    assert_eq!(others, BTreeSet::new());
    assert_one(
        &namespace,
        Code::ForgedSources,
        Severity::Note,
        &["CAP_NET_RAW", "egress", "drop it in securityContext"],
    );
}

#[test]
fn nothing_is_changed_by_looking() {
    let namespace = with_bridge("0", "0", "0");
    namespace.nft("table ip others { chain x { }\n}").unwrap();
    let state = || {
        let mut nftables = namespace.run(kernel::Nftables::open).unwrap().unwrap();
        let links = namespace.run(Links::open).unwrap().unwrap().list().unwrap();
        let rules = namespace.nft("list ruleset").unwrap();
        (nftables.generation().unwrap(), links, rules)
    };
    let before = state();
    let first = found(&namespace, &Options::default());
    assert_eq!(state(), before);
    // And the same is found again, in the same order.
    assert_eq!(found(&namespace, &Options::default()), first);
    assert!(first.is_sorted_by_key(|finding| finding.severity));
}

#[test]
fn a_bridge_whose_packets_pass_no_rules_is_named_with_its_families() {
    for (ipv4, ipv6, words, absent) in [
        ("0", "0", "IPv4 and IPv6 packets inside the bridge br0", ""),
        ("0", "1", "IPv4 packets inside the bridge br0", "ip6tables"),
        ("1", "0", "IPv6 packets inside the bridge br0", "-iptables"),
    ] {
        let namespace = with_bridge(ipv4, ipv6, "1");
        let found = of(&namespace, &Options::default(), Code::BridgeNetfilter);
        assert_eq!((found.len(), found[0].0), (1, Severity::Warning));
        assert!(found[0].1.starts_with(words), "{found:?}");
        assert!(
            absent.is_empty() || !found[0].1.contains(absent),
            "{found:?}"
        );
        // One that carries pods for certain is a hole for certain.
        let found = of(&namespace, &naming("br0"), Code::BridgeNetfilter);
        assert_eq!((found.len(), found[0].0), (1, Severity::Error));
        // Its own flags do as well.
        let flags = "link set br0 type bridge nf_call_iptables 1 nf_call_ip6tables 1\n";
        namespace.ip_batch(flags).unwrap();
        assert_none(&namespace, Code::BridgeNetfilter);
    }
    assert_none(&with_bridge("1", "1", "1"), Code::BridgeNetfilter);
}

#[test]
fn a_flag_of_a_bridge_is_for_its_family_alone() {
    for (flag, words) in [
        ("nf_call_iptables", "IPv6 packets inside the bridge br0"),
        ("nf_call_ip6tables", "IPv4 packets inside the bridge br0"),
    ] {
        let namespace = with_bridge("0", "0", "1");
        let line = format!("link set br0 type bridge {flag} 1\n");
        namespace.ip_batch(&line).unwrap();
        let found = of(&namespace, &Options::default(), Code::BridgeNetfilter);
        assert!(found[0].1.starts_with(words), "{found:?}");
    }
}

#[test]
fn a_bridge_that_was_not_named_is_not_looked_at() {
    let namespace = with_bridge("0", "0", "1");
    namespace
        .ip_batch("link add cni0 type bridge nf_call_iptables 1 nf_call_ip6tables 1\n")
        .unwrap();
    assert_eq!(of(&namespace, &naming("cni0"), Code::BridgeNetfilter), []);
}

#[test]
fn a_name_that_is_no_bridges_is_an_error() {
    let namespace = namespace();
    for (name, why) in [("br7", "is not there"), ("lo", "is no bridge but a device")] {
        let found = of(&namespace, &naming(name), Code::NoBridge);
        assert_eq!((found.len(), found[0].0), (1, Severity::Error));
        assert!(found[0].1.contains(why), "{found:?}");
    }
}

#[test]
fn the_flags_of_a_named_bridge_are_set_when_told_to_and_read_back() {
    let namespace = with_bridge("0", "0", "1");
    namespace.ip_batch("link add br1 type bridge\n").unwrap();
    let options = Options {
        set_bridge_netfilter: true,
        ..naming("br0")
    };
    let first = of(&namespace, &options, Code::BridgeNetfilterSet);
    assert_eq!((first.len(), first[0].0), (1, Severity::Note));
    let flags = |name: &str| {
        let mut links = namespace.run(Links::open).unwrap().unwrap();
        let bridge = links.by_name(name).unwrap().unwrap().bridge.unwrap();
        let netfilter = bridge.netfilter.unwrap();
        (netfilter.ipv4, netfilter.ipv6, netfilter.arp)
    };
    assert_eq!(
        (flags("br0"), flags("br1")),
        ((true, true, false), (false, false, false))
    );
    assert_eq!(of(&namespace, &options, Code::BridgeNetfilter), []);
    // There is nothing left to set.
    assert_eq!(of(&namespace, &options, Code::BridgeNetfilterSet), []);
}

#[test]
fn tagged_frames_that_pass_no_rules_are_told_of() {
    let namespace = with_bridge("1", "1", "0");
    assert_one(
        &namespace,
        Code::BridgeVlanTagged,
        Severity::Warning,
        &["br0", "bridge-nf-filter-vlan-tagged=1"],
    );
    assert_none(&with_bridge("1", "1", "1"), Code::BridgeVlanTagged);
    // Where nothing passes rules, that is what is said.
    assert_none(&with_bridge("0", "0", "0"), Code::BridgeVlanTagged);
}

fn with_rules(ruleset: &str) -> Namespace {
    let namespace = namespace();
    namespace.nft(ruleset).unwrap();
    namespace
}

#[test]
fn rules_that_take_our_bit_off_are_named() {
    let chain = |rule: &str| {
        with_rules(&format!(
            "table ip mangle {{\nchain PREROUTING {{\ntype filter hook prerouting priority mangle\n{rule}\n}}\n}}"
        ))
    };
    let whole = chain("meta mark 0x7 ct mark set meta mark");
    let words = ["handle 2 of chain ip mangle PREROUTING", "0x100000"];
    assert_one(&whole, Code::MarkCleared, Severity::Warning, &words);
    assert_one(&whole, Code::MarkSet, Severity::Warning, &words);
    let masked = chain("ct mark set ct mark & 0xff");
    assert_one(&masked, Code::MarkCleared, Severity::Warning, &words[..1]);
    assert_none(&masked, Code::MarkSet);
    for harmless in [
        "ct mark set ct mark | 0x1",
        "ct mark set ct mark & 0xffff00ff",
        "ct mark 0x0 ct mark set 0x1",
        "meta mark set ct mark",
        "ct state new counter",
    ] {
        let namespace = chain(harmless);
        assert_none(&namespace, Code::MarkCleared);
        assert_none(&namespace, Code::MarkSet);
    }
    // By which bit we go.
    let options = Options {
        revoked: policy_compiler::lower::RevokedBit::new(0x4).unwrap(),
        ..Options::default()
    };
    assert_eq!(of(&masked, &options, Code::MarkCleared), []);
}

#[test]
fn very_many_rules_are_not_all_named() {
    let mut text = String::from("table ip others {\n");
    for chain in 0..8 {
        let rules = "ct mark set meta mark\n".repeat(40);
        text.push_str(&format!("chain c{chain} {{\n{rules}}}\n"));
    }
    text.push('}');
    let namespace = with_rules(&text);
    let found = of(&namespace, &Options::default(), Code::MarkCleared);
    assert_eq!(found.len(), 1);
    for words in ["and 35 more of chain ip others c0", "3 more chains"] {
        assert!(found[0].1.contains(words), "{found:?}");
    }
    assert!(found[0].1.len() < 1000, "{found:?}");
}

#[test]
fn a_second_engine_is_named_by_its_rules() {
    for (ruleset, name, severity) in [
        (
            "table ip filter { chain cali-FORWARD { }\n}",
            "Calico",
            Severity::Warning,
        ),
        ("table ip calico { }", "Calico", Severity::Warning),
        (
            "table ip filter { chain CILIUM_FORWARD { }\n}",
            "Cilium",
            Severity::Error,
        ),
        (
            "table ip filter { chain ANTREA-FORWARD { }\n}",
            "Antrea",
            Severity::Error,
        ),
        (
            "table ip filter { chain KUBE-NWPLCY-DEFAULT { }\n}",
            "kube-router",
            Severity::Warning,
        ),
        (
            "table ip filter { chain KUBE-ROUTER-FORWARD { }\n}",
            "kube-router",
            Severity::Warning,
        ),
        (
            "table ip filter { chain WEAVE-NPC { }\n}",
            "Weave Net",
            Severity::Warning,
        ),
        (
            "table ip filter { chain OVN-POSTROUTING { }\n}",
            "kube-ovn",
            Severity::Error,
        ),
        (
            "table inet kube-network-policies { }",
            "kube-network-policies",
            Severity::Warning,
        ),
        (
            "table inet ovn-kubernetes { }",
            "OVN-Kubernetes",
            Severity::Error,
        ),
    ] {
        let namespace = with_rules(ruleset);
        assert_one(
            &namespace,
            Code::SecondEngine,
            severity,
            &[&format!("{name} is here")],
        );
    }
    // What kube-proxy and portmap leave is no engine, nor are our own tables.
    let others = with_rules(
        "table ip nat { chain KUBE-SERVICES { }\nchain CNI-HOSTPORT-DNAT { }\n}\n\
         table ip kube-proxy { chain services { }\n}\ntable inet picket { chain cali-x { }\n}",
    );
    assert_none(&others, Code::SecondEngine);
}

#[test]
fn a_second_engine_is_named_by_its_interfaces() {
    for (link, name, severity) in [
        ("cali0123456789", "Calico", Severity::Warning),
        ("cilium_host", "Cilium", Severity::Error),
        ("antrea-gw0", "Antrea", Severity::Error),
        ("ovn0", "kube-ovn", Severity::Error),
        ("ovn-k8s-mp0", "OVN-Kubernetes", Severity::Error),
    ] {
        let namespace = namespace();
        let line = format!("link add {link} type veth peer name other\n");
        namespace.ip_batch(&line).unwrap();
        assert_one(&namespace, Code::SecondEngine, severity, &[name, link]);
    }
    let namespace = namespace();
    namespace
        .ip_batch("link add veth7 type veth peer name flannel.1\n")
        .unwrap();
    assert_none(&namespace, Code::SecondEngine);
}

#[test]
fn services_by_ipvs_are_told_of() {
    let namespace = namespace();
    assert_none(&namespace, Code::Ipvs);
    namespace
        .ip_batch("link add kube-ipvs0 type veth peer name other\n")
        .unwrap();
    assert_one(&namespace, Code::Ipvs, Severity::Warning, &["kube-ipvs0"]);
}

#[test]
fn a_kernel_that_tells_nobody_of_connections_is_told_of() {
    let namespace = with_rules("table ip others { chain x { ct state new accept; }\n}");
    for (value, expected) in [("0", 1), ("1", 0), ("2", 0)] {
        set(&namespace, "netfilter/nf_conntrack_events", value);
        let found = of(&namespace, &Options::default(), Code::ConntrackEvents);
        assert_eq!(found.len(), expected, "{value}: {found:?}");
    }
}

/// Runs `picket preflight` in the namespace, as this user.
fn picket(namespace: &Namespace, user: Option<u32>, arguments: &[&str]) -> Output {
    // Where everybody may run it.
    let thread = std::thread::current().id();
    let folder = format!("picket-preflight-{}-{thread:?}", std::process::id());
    let folder = std::env::temp_dir().join(folder);
    std::fs::create_dir_all(&folder).unwrap();
    let program = folder.join("picket");
    std::fs::copy(env!("CARGO_BIN_EXE_picket"), &program).unwrap();
    let mut command = Command::new(&program);
    command.arg("preflight").args(arguments);
    if let Some(user) = user {
        command.uid(user);
    }
    let output = namespace.run(|| command.output()).unwrap().unwrap();
    std::fs::remove_dir_all(&folder).unwrap();
    output
}

#[test]
fn the_program_says_what_was_found_and_fails_if_policies_can_not_be_enforced() {
    let namespace = with_bridge("0", "1", "1");
    let text = |output: &Output| String::from_utf8(output.stdout.clone()).unwrap();
    let warned = picket(&namespace, None, &[]);
    assert_eq!(warned.status.code(), Some(0), "{warned:?}");
    assert!(text(&warned).starts_with("warning: IPv4 packets inside the bridge br0"));
    let failed = picket(&namespace, None, &["--bridge", "br0", "-o", "json"]);
    assert_eq!(failed.status.code(), Some(1), "{failed:?}");
    let first: serde_json::Value =
        serde_json::from_str(text(&failed).lines().next().unwrap()).unwrap();
    assert_eq!(first["severity"], "error");
    assert_eq!(first["code"], "bridge-netfilter");
    assert!(first["message"].as_str().unwrap().contains("br0"));
    let arguments = ["--bridge", "br0", "--set-bridge-netfilter"];
    let done = picket(&namespace, None, &arguments);
    assert_eq!(done.status.code(), Some(0), "{done:?}");
    assert!(text(&done).contains("note: br0 now hands packets"));
    // To set what nobody named would be to guess.
    let refused = picket(&namespace, None, &["--set-bridge-netfilter"]);
    assert_eq!(refused.status.code(), Some(2), "{refused:?}");
}

#[test]
fn without_permission_that_is_all_that_is_said() {
    let output = picket(&namespace(), Some(65_534), &[]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.starts_with("error: the process may not ask"), "{text}");
    assert!(text.contains("CAP_NET_ADMIN"), "{text}");
    assert_eq!(text.lines().count(), 1, "{text}");
}
