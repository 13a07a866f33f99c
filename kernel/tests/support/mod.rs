//! Rulesets to load, and namespaces to load them in.

#![allow(dead_code, reason = "each test program uses a part")]

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;

use controller::{cluster, source};
use kernel::Nftables;
use policy_compiler::compile::compile;
use policy_compiler::evaluate::NodeEgress;
use policy_compiler::lower::{Attachment, Bridges, Options, lower};
use policy_compiler::model::{Cluster, InterfaceName};
use policy_compiler::render;
use policy_compiler::ruleset::Ruleset;
use policy_compiler::validate;
use testbed::Namespace;

/// The folder of the cases.
const CASES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../testdata/cases");

/// A namespace of its own, or the loud end of the test: these tests need root, or user namespaces.
pub(crate) fn namespace() -> Namespace {
    Namespace::new().expect("these tests need root")
}

/// nftables of the namespace.
pub(crate) fn nftables(namespace: &Namespace) -> Nftables {
    let opened = namespace.run(Nftables::open).expect("entered");
    opened.expect("a netlink socket")
}

/// What nft lists.
pub(crate) fn listed(namespace: &Namespace) -> String {
    namespace.nft("list ruleset").expect("nft lists")
}

/// A namespace in which nft has loaded the ruleset's text.
pub(crate) fn loaded_by_nft(ruleset: &Ruleset) -> Namespace {
    let namespace = namespace();
    let text = render::text(ruleset);
    namespace
        .nft(&text)
        .unwrap_or_else(|error| panic!("{error:?}\n{text}"));
    namespace
}

/// How a node's pods are attached.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Attached {
    Unknown,
    Routed,
    Bridged,
    /// On bridges that are known by ports that are not.
    OnBridges,
}

pub(crate) const ATTACHED: [Attached; 4] = [
    Attached::Unknown,
    Attached::Routed,
    Attached::Bridged,
    Attached::OnBridges,
];

/// What a node is told.
pub(crate) fn ruleset(
    cluster: &Cluster,
    node: &str,
    attached: Attached,
    egress: NodeEgress,
) -> Ruleset {
    let ir = compile(cluster, node);
    let name = |text: String| InterfaceName::new(&text).expect("a name");
    let mut attachments = BTreeMap::new();
    if matches!(attached, Attached::Routed | Attached::Bridged) {
        let bridged = matches!(attached, Attached::Bridged);
        for (index, pod) in ir.pods.keys().enumerate() {
            let interface = name(format!("veth{index}"));
            let addresses = None;
            let attachment = Attachment {
                interface,
                bridged,
                addresses,
                routes: false,
            };
            attachments.insert(pod.clone(), vec![attachment]);
        }
    }
    let bridges = match attached {
        Attached::Unknown => Bridges::Any,
        Attached::Routed => Bridges::Named([].into()),
        Attached::Bridged => Bridges::Named([name("br0".into())].into()),
        Attached::OnBridges => Bridges::Named(["br0", "br1"].map(|n| name(n.into())).into()),
    };
    let options = Options {
        node_egress: egress,
        attachments,
        bridges,
        ..Options::default()
    };
    lower(&ir, &options)
}

/// Every case's cluster, by name.
pub(crate) fn cases() -> Vec<(String, Cluster)> {
    let entries = fs::read_dir(CASES).expect("testdata/cases is there");
    let mut cases: Vec<_> = entries
        .map(|entry| {
            let path = entry.expect("an entry").path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let text = fs::read_to_string(path.join("cluster.yaml")).expect("a cluster");
            let loaded = source::load_bytes([("cluster.yaml", text.as_bytes())]);
            let loaded = loaded.unwrap_or_else(|errors| panic!("{name}: {errors}"));
            let cluster = cluster::build(&loaded, validate::Options::default());
            let cluster = cluster.unwrap_or_else(|errors| panic!("{name}: {errors}"));
            (name.into_owned(), cluster)
        })
        .collect();
    cases.sort_by(|(one, _), (other, _)| one.cmp(other));
    cases
}

/// What nft finds in the kernel below what it lists: expressions, elements with what belongs to them. Ordered, since the
/// kernel lists the elements of a set in any order.
pub(crate) fn instructions(namespace: &Namespace) -> Vec<String> {
    let run = || {
        let mut nft = Command::new("nft");
        nft.args(["--debug=netlink", "list", "ruleset"]).output()
    };
    let output = namespace.run(run).expect("entered").expect("nft runs");
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).expect("a text");
    let text = text.replace("\telement ", "\n\telement ");
    let mut lines: Vec<_> = text
        .lines()
        .map(|line| line.trim_end().to_owned())
        // Swaps the two bytes of one byte.
        .filter(|line| !(line.contains("byteorder") && line.ends_with(", 2, 1) ]")))
        .collect();
    lines.sort();
    lines
}
