//! What `docs/migrating.md` says to do with what another engine left: its lines are run as they stand, each in a network
//! namespace of its own. Nothing of the engine is found afterwards, and what belongs to others is there.

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up fails")]

use std::fs;
use std::process::Command;

use controller::agent::preflight::{Code, Options, inspect};
use testbed::Namespace;

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/migrating.md");

/// As kube-router 2 and k3s leave them for a pod with a policy, beside what kube-proxy and portmap have.
const KUBE_ROUTER: &str = "\
*filter
:KUBE-FORWARD - [0:0]
:KUBE-NWPLCY-DEFAULT - [0:0]
:KUBE-NWPLCY-X7DZ3 - [0:0]
:KUBE-POD-FW-2OQZA - [0:0]
:KUBE-ROUTER-FORWARD - [0:0]
-A FORWARD -m comment --comment \"kube-router netpol - TEMCG2JMHZYE7H7T\" -j KUBE-ROUTER-FORWARD
-A FORWARD -m comment --comment \"kubernetes forwarding rules\" -j KUBE-FORWARD
-A KUBE-FORWARD -m mark --mark 0x4000/0x4000 -j ACCEPT
-A KUBE-NWPLCY-X7DZ3 -p tcp -m tcp --dport 80 -j MARK --set-xmark 0x10000/0x10000
-A KUBE-POD-FW-2OQZA -j KUBE-NWPLCY-X7DZ3
-A KUBE-POD-FW-2OQZA -j DROP
-A KUBE-ROUTER-FORWARD -j KUBE-POD-FW-2OQZA
COMMIT
*nat
:KUBE-SERVICES - [0:0]
:CNI-HOSTPORT-DNAT - [0:0]
-A PREROUTING -j KUBE-SERVICES
COMMIT
";

/// The lines of the page that name this.
fn lines(naming: &str) -> Vec<String> {
    let page = fs::read_to_string(PAGE).unwrap();
    let lines = page.lines().filter(|line| line.starts_with("    "));
    let lines: Vec<_> = lines
        .filter(|line| line.contains(naming))
        .map(|line| line.trim().to_owned())
        .collect();
    assert!(!lines.is_empty(), "{PAGE} names no {naming}");
    lines
}

/// As an operator's shell does.
fn run(namespace: &Namespace, line: &str) -> String {
    let mut command = Command::new("bash");
    command.args(["-o", "pipefail", "-c", line]);
    let output = namespace.run(|| command.output()).unwrap().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{line}: {}", text(&output.stderr));
    text(&output.stdout)
}

/// Other engines, as preflight finds them.
fn engines(namespace: &Namespace) -> Vec<String> {
    let found = namespace.run(|| inspect(&Options::default())).unwrap();
    let engines = found
        .into_iter()
        .filter(|finding| finding.code == Code::SecondEngine);
    engines.map(|finding| finding.message).collect()
}

#[test]
fn what_kube_router_left_is_removed_and_the_rest_stays() {
    let namespace = Namespace::new().expect("this test needs root");
    for family in ["iptables", "ip6tables"] {
        run(
            &namespace,
            &format!("{family}-restore <<'END'\n{KUBE_ROUTER}END"),
        );
    }
    assert!(!engines(&namespace).is_empty());
    for line in lines("KUBE-") {
        run(&namespace, &line);
    }
    assert_eq!(engines(&namespace), Vec::<String>::new());
    for family in ["iptables", "ip6tables"] {
        let left = run(&namespace, &format!("{family}-save"));
        for others in [
            ":KUBE-FORWARD",
            "-A FORWARD -m comment --comment \"kubernetes forwarding rules\" -j KUBE-FORWARD",
            "-A KUBE-FORWARD -m mark --mark 0x4000/0x4000 -j ACCEPT",
            ":CNI-HOSTPORT-DNAT",
            "-A PREROUTING -j KUBE-SERVICES",
        ] {
            assert!(left.contains(others), "{others}\n{left}");
        }
        assert!(!left.contains("netpol"), "{left}");
    }
}

#[test]
fn what_kube_network_policies_left_is_removed() {
    let namespace = Namespace::new().expect("this test needs root");
    let left = "table inet kube-network-policies { chain postrouting { type filter hook postrouting priority srcnat - 5; }\n}\n\
                table inet others { }\n";
    namespace.nft(left).unwrap();
    assert!(!engines(&namespace).is_empty());
    for line in lines("nft delete table") {
        run(&namespace, &line);
    }
    assert_eq!(engines(&namespace), Vec::<String>::new());
    assert_eq!(
        run(&namespace, "nft list tables").trim(),
        "table inet others"
    );
}
