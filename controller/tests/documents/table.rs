//! How each command line of the pages is tested.

/// How a command line is tested. picket's own arguments are always parsed.
pub(crate) enum How {
    /// It is run here, and has to print what stands below it.
    Prints,
    /// A form with placeholders: the command and its options are there.
    Synopsis,
    /// What it does is tested by this test of this file, with other names and folders.
    Test(&'static str, &'static str),
    /// This file of the repository runs it, as it stands.
    Script(&'static str),
    /// It can not be run here, and why. What of it is picket's own is tested elsewhere.
    Cannot(&'static str),
}

use How::{Cannot, Prints, Script, Synopsis, Test};

/// What command lines begin with.
pub(crate) const PROGRAMS: &[&str] = &[
    "./setup",
    "cargo",
    "ctr",
    "git",
    "helm",
    "image/build",
    "ip6tables-save",
    "iptables-save",
    "kind",
    "kubectl",
    "ln",
    "nft",
    "picket",
    "skopeo",
];

const NODES: &str = "needs a cluster with nodes: there is no kubelet in the tests";
/// Runs all lines of the guide with helm and kubectl, as they stand there, but for those that ask a node.
const GUIDE: How = Test(
    "controller/tests/chart/guide.rs",
    "the_guide_to_operating_is_followed_from_its_first_command_to_its_last",
);
const MIGRATING: How = Test(
    "controller/tests/chart/guide.rs",
    "what_the_guide_to_migrating_asks_a_cluster_is_answered",
);

/// All command lines.
pub(crate) const COMMANDS: &[(&str, How)] = &[
    // README.md
    (
        "./setup && cargo run --release --bin picket -- verify -f examples/shop",
        Test("controller/tests/cli.rs", "the_bundled_example_is_verified"),
    ),
    (
        "./setup && cargo test --workspace",
        Cannot("is what runs this: .ci/run does both"),
    ),
    (
        "picket agent --node node-1 --manifests /etc/picket/manifests",
        Test(
            "controller/tests/agent/life.rs",
            "the_first_start_applies_everything_and_changes_follow",
        ),
    ),
    (
        "picket agent --node node-1 --kubeconfig ~/.kube/config",
        Test(
            "controller/tests/agent_api_server/latency.rs",
            "packets_follow_each_kind_of_write_to_the_api_server",
        ),
    ),
    (
        "picket compile -f PATH.. --node NAME [-o nft|json|ir]",
        Synopsis,
    ),
    ("picket explain -f PATH.. FROM TO PORT/PROTO", Synopsis),
    ("picket diff OLD NEW [-f PATH..] [--exit-code]", Synopsis),
    ("picket lint -f PATH.. [-o text|json|sarif]", Synopsis),
    (
        "picket matrix -f PATH.. [--from ENDS] [--to ENDS]",
        Synopsis,
    ),
    ("picket verify -f PATH.. [--flows FILE | --full]", Synopsis),
    ("picket preflight [--bridge NAME]..", Synopsis),
    ("picket agent --node NAME", Synopsis),
    ("picket cleanup [--wait SPAN]", Synopsis),
    ("picket selftest", Synopsis),
    (
        "picket uninstall --namespace NAME [--daemonset NAME]",
        Synopsis,
    ),
    ("picket idle", Synopsis),
    // docs/cluster-commands.md
    (
        "picket selftest [--namespace NAME] [--pod NAME] [--image IMAGE] [--timeout 2m] [--policy-timeout 30s]",
        Synopsis,
    ),
    ("picket status [-o text|json]", Synopsis),
    ("picket dump objects|attachments|rules", Synopsis),
    ("picket explain --live FROM TO PORT/PROTO", Synopsis),
    (
        "picket cleanup",
        Test(
            "controller/tests/cleanup.rs",
            "all_of_ours_goes_and_all_of_others_stays",
        ),
    ),
    ("picket cni install|status|uninstall|watch", Synopsis),
    (
        "picket completions bash|zsh|fish|elvish|powershell",
        Synopsis,
    ),
    ("picket man DIR", Synopsis),
    (
        "ln -s \"$(command -v picket)\" /usr/local/bin/kubectl-picket",
        Test(
            "controller/tests/cluster_commands.rs",
            "under_its_other_name_it_is_a_plugin_of_kubectl",
        ),
    ),
    (
        "kubectl picket explain -n shop web-0 db-0 5432/tcp",
        Test(
            "controller/tests/cluster_commands.rs",
            "under_its_other_name_it_is_a_plugin_of_kubectl",
        ),
    ),
    (
        "picket explain -f examples/shop shop/web-0 shop/db-0 5432/tcp",
        Prints,
    ),
    (
        "picket matrix -f examples/shop --from shop --to shop",
        Prints,
    ),
    (
        "kubectl get ns,no,po,netpol -A -o yaml | picket explain -f - shop/web-0 shop/db-0 5432/tcp",
        Test(
            "controller/tests/help.rs",
            "explain_shows_how_a_cluster_is_read_from_kubectl",
        ),
    ),
    // docs/commands.md, docs/lint.md, docs/api-server.md
    (
        "picket diff main/policies branch/policies -f cluster.yaml",
        Test(
            "controller/tests/diff.rs",
            "each_case_says_what_opens_and_what_closes",
        ),
    ),
    (
        "picket lint -f PATH.. [-o text|json|sarif] [--select CODE,..] [--ignore CODE,..]",
        Synopsis,
    ),
    (
        "picket agent --node NAME --kubeconfig FILE [--context NAME]",
        Synopsis,
    ),
    // docs/cni.md, docs/cni-install.md
    (
        "RUSTFLAGS='-C target-feature=+crt-static' cargo build --release -p cni-chain --target x86_64-unknown-linux-gnu",
        Test(
            "runtimes/tests/image.rs",
            "the_image_runs_as_runtimes_start_it",
        ),
    ),
    (
        "picket cni install",
        Test(
            "cni-chain/tests/install.rs",
            "it_is_installed_once_and_uninstalled_to_the_byte",
        ),
    ),
    (
        "picket cni status",
        Test(
            "controller/tests/cni.rs",
            "status_ends_with_what_a_probe_of_readiness_asks_for",
        ),
    ),
    (
        "picket cni watch",
        Test(
            "controller/tests/cni.rs",
            "watch_installs_says_so_and_ends_when_it_is_told_to",
        ),
    ),
    (
        "picket cni uninstall",
        Test(
            "cni-chain/tests/install.rs",
            "it_is_installed_once_and_uninstalled_to_the_byte",
        ),
    ),
    // CONTRIBUTING.md, RELEASING.md
    ("./setup", Script(".ci/run")),
    ("cargo fmt --all --check", Script(".ci/run")),
    (
        "cargo clippy --workspace --all-targets -- --deny warnings",
        Cannot("is in .ci/run with --locked"),
    ),
    ("cargo test --workspace", Script(".ci/run")),
    (
        "cargo +1.89 check --workspace --all-targets --locked",
        Script(".github/workflows/ci.yaml"),
    ),
    ("cargo deny check", Script(".github/workflows/ci.yaml")),
    (
        "git tag --sign v0.1.0",
        Cannot("needs the key of who releases"),
    ),
    ("git checkout v0.1.0", Cannot("there is no such tag yet")),
    // docs/operating.md
    (
        "image/build --arch amd64,arm64",
        Script(".github/workflows/release.yaml"),
    ),
    (
        "skopeo copy --all oci-archive:target/image/picket-0.1.0.tar docker://REGISTRY/picket:0.1.0",
        Cannot("needs a registry; the same archive is imported by runtimes/tests/image.rs"),
    ),
    (
        "ctr --namespace k8s.io images import target/image/picket-0.1.0.tar",
        Test(
            "runtimes/tests/image.rs",
            "the_image_runs_as_runtimes_start_it",
        ),
    ),
    (
        "picket preflight",
        Test(
            "controller/tests/agent_preflight.rs",
            "the_program_says_what_was_found_and_fails_if_policies_can_not_be_enforced",
        ),
    ),
    ("kubectl create namespace picket", GUIDE),
    (
        "kubectl label namespace picket pod-security.kubernetes.io/enforce=privileged",
        GUIDE,
    ),
    (
        "helm install picket charts/picket --namespace picket",
        GUIDE,
    ),
    (
        "kind load image-archive target/image/picket-0.1.0.tar",
        Cannot(NODES),
    ),
    (
        "kubectl --namespace picket rollout status daemonset/picket",
        GUIDE,
    ),
    ("helm test picket --namespace picket", GUIDE),
    (
        "kubectl --namespace picket exec daemonset/picket -c agent -- /picket status",
        Test(
            "controller/tests/agent_serve/socket.rs",
            "status_of_a_well_agent_is_short_and_exits_with_0",
        ),
    ),
    ("kubectl --namespace picket get pods --output wide", GUIDE),
    (
        "kubectl --namespace picket exec daemonset/picket -c agent -- /picket explain --live shop/web-0 shop/db-0 5432/tcp",
        Cannot(
            "needs a cluster; explain --live is tested by controller/tests/agent_serve/socket.rs",
        ),
    ),
    (
        "helm upgrade picket charts/picket --namespace picket --values values.yaml",
        GUIDE,
    ),
    (
        "helm uninstall picket --namespace picket --timeout 6m",
        GUIDE,
    ),
    ("helm uninstall picket --namespace picket --no-hooks", GUIDE),
    (
        "kubectl --namespace picket logs job/picket-cleanup",
        Cannot(
            "needs a kubelet, which has the logs; what the Job writes is tested by controller/tests/operate",
        ),
    ),
    (
        "kubectl --namespace picket delete job,daemonset,rolebinding,role,serviceaccount picket-cleanup --ignore-not-found",
        GUIDE,
    ),
    (
        "kubectl --namespace picket logs picket-test",
        Cannot(
            "needs a kubelet, which has the logs; what the test writes is tested by controller/tests/operate",
        ),
    ),
    (
        "helm get values picket --namespace picket --output yaml > values.yaml",
        GUIDE,
    ),
    ("helm history picket --namespace picket", GUIDE),
    ("helm rollback picket 1 --namespace picket", GUIDE),
    (
        "picket cni uninstall --purge",
        Test(
            "cni-chain/tests/install.rs",
            "it_is_installed_once_and_uninstalled_to_the_byte",
        ),
    ),
    // charts/picket/README.md
    (
        "helm install picket charts/picket --namespace kube-system --set image.registry=REGISTRY --set image.repository=NAME",
        Test(
            "controller/tests/chart/guide.rs",
            "the_chart_is_installed_as_its_readme_says",
        ),
    ),
    // docs/migrating.md
    (
        "picket lint",
        Test(
            "controller/tests/cluster_commands.rs",
            "every_command_that_reads_objects_reads_the_cluster",
        ),
    ),
    (
        "picket matrix -o html > matrix.html",
        Test(
            "controller/tests/cluster_commands.rs",
            "every_command_that_reads_objects_reads_the_cluster",
        ),
    ),
    (
        "kubectl get globalnetworkpolicies.crd.projectcalico.org,networkpolicies.crd.projectcalico.org -A",
        MIGRATING,
    ),
    (
        "kubectl get clusternetworkpolicies.policy.networking.k8s.io,adminnetworkpolicies.policy.networking.k8s.io -A",
        MIGRATING,
    ),
    (
        "iptables-save | grep -vE 'KUBE-(ROUTER|NWPLCY|POD-FW)' | iptables-restore",
        Test(
            "controller/tests/migrating.rs",
            "what_kube_router_left_is_removed_and_the_rest_stays",
        ),
    ),
    (
        "ip6tables-save | grep -vE 'KUBE-(ROUTER|NWPLCY|POD-FW)' | ip6tables-restore",
        Test(
            "controller/tests/migrating.rs",
            "what_kube_router_left_is_removed_and_the_rest_stays",
        ),
    ),
    (
        "nft delete table inet kube-network-policies",
        Test(
            "controller/tests/migrating.rs",
            "what_kube_network_policies_left_is_removed",
        ),
    ),
    (
        "kubectl get networkpolicies -A -o yaml > policies.yaml",
        MIGRATING,
    ),
    ("kubectl get policyendpoints -A", MIGRATING),
];

/// First lines of blocks that are something else: objects, answers, fields.
pub(crate) const NO_COMMANDS: &[&str] = &[
    // ARCHITECTURE.md, a drawing
    "PATH..                                                              flows",
    // docs/commands.md
    "{\"id\": 7, \"from\": \"pod/x/a\", \"to\": \"pod/y/b\", \"protocol\": \"TCP\", \"port\": 80, \"family\": \"ipv4\"}",
    "{\"id\": 7, \"verdict\": \"deny\",",
    // docs/api-server.md
    "rules:",
    "- apiGroups: [events.k8s.io]",
    "bytes per second = changes per second × nodes × bytes of an object",
    // docs/cni.md, docs/cni-install.md
    "{",
    // docs/lint.md
    "metadata: {annotations: {picket.io/lint-ignore: \"P003,P012\"}}",
    "{\"code\": \"P013\", \"name\": \"dns-forgotten\", \"severity\": \"warning\",",
    // docs/operating.md
    "networking:",
];
