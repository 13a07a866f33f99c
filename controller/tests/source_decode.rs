//! From documents to objects: kinds, strict field validation, names.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test that cannot be set up fails"
)]

use controller::source::{Note, load_bytes};

#[track_caller]
fn refused(text: &str, expected: &[&str]) {
    let errors = load_bytes([("x.yaml", text.as_bytes())]).expect_err("must be refused");
    assert_eq!(errors.to_string().lines().collect::<Vec<_>>(), expected);
}

#[track_caller]
fn notes(text: &str) -> Vec<String> {
    let loaded = load_bytes([("x.yaml", text.as_bytes())]).expect("must be accepted");
    let kinds = loaded
        .notes
        .iter()
        .filter(|note| matches!(note, Note::Skipped { .. } | Note::NotEvaluated { .. }));
    kinds.map(Note::to_string).collect()
}

const POLICY: &str =
    "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: p, namespace: ns}\n";

fn object(api_version: &str, kind: &str) -> String {
    format!("apiVersion: {api_version}\nkind: {kind}\nmetadata: {{name: o, namespace: ns}}\n")
}

#[test]
fn every_unknown_field_and_wrong_type_is_reported_with_its_path() {
    let text = format!(
        "{POLICY}spec:\n  podSelectors: {{}}\n  podSelector:\n    matchLabels: {{a.b/c: yes, d: 1}}\n  ingress:\n  \
         - from:\n    - podSelector: {{}}\n      namespace: x\n    ports:\n    - port: http\n    - port: 1\n      \
         endPort: \"5\"\n      proto: TCP\n  - ports: {{}}\nextra: 1\n"
    );
    refused(
        &text,
        &[
            "x.yaml:1: NetworkPolicy ns/p: extra: unknown field",
            "x.yaml:1: NetworkPolicy ns/p: spec.ingress[0].from[0].namespace: unknown field",
            "x.yaml:1: NetworkPolicy ns/p: spec.ingress[0].ports[1].endPort: invalid type: string \"5\", expected a 32-bit integer: remove the quotes",
            "x.yaml:1: NetworkPolicy ns/p: spec.ingress[0].ports[1].proto: unknown field",
            "x.yaml:1: NetworkPolicy ns/p: spec.ingress[1].ports: invalid type: map, expected a sequence",
            "x.yaml:1: NetworkPolicy ns/p: spec.podSelector.matchLabels[a.b/c]: invalid type: boolean `true`, expected a string: quote it (unquoted yes, no, on, off, y, n, true and false are booleans in YAML)",
            "x.yaml:1: NetworkPolicy ns/p: spec.podSelector.matchLabels[d]: invalid type: integer `1`, expected a string: quote it",
            "x.yaml:1: NetworkPolicy ns/p: spec.podSelectors: unknown field",
        ],
    );
}

#[test]
fn numbers_beyond_32_bits_are_refused() {
    let text = format!(
        "{POLICY}spec:\n  podSelector: {{}}\n  egress:\n  - ports:\n    - port: 4294967376\n      endPort: 2147483648\n"
    );
    refused(
        &text,
        &[
            "x.yaml:1: NetworkPolicy ns/p: spec.egress[0].ports[0].endPort: invalid value: integer `2147483648`, expected a 32-bit integer",
            "x.yaml:1: NetworkPolicy ns/p: spec.egress[0].ports[0].port: invalid value: integer `4294967376`, expected a 32-bit integer",
        ],
    );
    let pod = "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec:\n  containers:\n  - {name: c, ports: [{containerPort: 99999999999}]}\n";
    refused(
        pod,
        &[
            "x.yaml:1: Pod default/p: spec.containers[0].ports[0].containerPort: invalid value: integer `99999999999`, expected a 32-bit integer",
        ],
    );
}

#[test]
fn a_field_of_the_full_type_that_picket_does_not_use_is_known() {
    let text = "apiVersion: v1\nkind: Pod\nmetadata:\n  name: p\n  creationTimestamp: null\n  managedFields:\n  - \
                {manager: m, operation: Update, apiVersion: v1, fieldsType: FieldsV1, fieldsV1: {\"f:x\": {\"k:{}\": {}}}}\n\
                spec:\n  terminationGracePeriodSeconds: 30\n  containers:\n  - name: c\n    image: i\n    resources: \
                {limits: {cpu: 1, memory: 1.5, x: 1Gi}}\n    livenessProbe: {httpGet: {port: 80, path: /}}\n  volumes:\n  \
                - {name: v, emptyDir: {}}\n  affinity: {nodeAffinity: {}}\nstatus:\n  startTime: \"2024-01-01T00:00:00Z\"\n";
    assert_eq!(notes(text), [""; 0]);
    let wrong = text
        .replace("image: i", "imagee: i")
        .replace("cpu: 1,", "cpu: [1],");
    refused(
        &wrong,
        &[
            "x.yaml:1: Pod default/p: spec.containers[0].imagee: unknown field",
            "x.yaml:1: Pod default/p: spec.containers[0].resources.limits[cpu]: invalid type: sequence, expected Quantity",
        ],
    );
}

#[test]
fn a_null_list_item_is_refused_and_not_an_empty_rule() {
    refused(
        &format!("{POLICY}spec:\n  podSelector: {{}}\n  ingress:\n  -\n"),
        &[
            "x.yaml:1: NetworkPolicy ns/p: spec.ingress[0]: invalid type: null, expected NetworkPolicyIngressRule: give it a value (\"\" or {}) or leave it out",
        ],
    );
}

#[test]
fn a_document_must_be_an_object_with_version_kind_and_name() {
    refused(
        "- 1\n",
        &["x.yaml:1: document: is a list, not a Kubernetes object with apiVersion and kind"],
    );
    refused(
        "just text\n",
        &["x.yaml:1: document: is a string, not a Kubernetes object with apiVersion and kind"],
    );
    refused(
        "a: 1\n",
        &[
            "x.yaml:1: document: apiVersion: is required",
            "x.yaml:1: document: kind: is required",
        ],
    );
    refused(
        "apiVersion: 1\nkind: ''\n",
        &[
            "x.yaml:1: document: apiVersion: invalid type: a number, expected a string",
            "x.yaml:1: document: kind: is required",
        ],
    );
    refused(
        "apiVersion: v1\nkind: Pod\n",
        &["x.yaml:1: Pod: metadata.name: is required"],
    );
}

#[test]
fn an_object_with_generate_name_alone_gets_a_name_of_its_own() {
    let text = "apiVersion: v1\nkind: Pod\nmetadata: {generateName: x-}\n---\n".repeat(2)
        + "apiVersion: v1\nkind: Pod\nmetadata: {name: x-2}\n---\n"
        + "apiVersion: v1\nkind: Namespace\nmetadata: {generateName: x-}\n---\n"
        + "apiVersion: apps/v1\nkind: Deployment\nmetadata: {generateName: d-}\nspec:\n  selector: {}\n  template: {}\n---\n"
        + &POLICY.replace("name: p", "generateName: p-");
    let loaded = load_bytes([("x.yaml", text.as_bytes())]).unwrap();
    let read = loaded.objects.iter().map(|sourced| {
        let metadata = sourced.object.metadata();
        (
            sourced.object.kind(),
            metadata.name.as_deref().unwrap_or_default(),
        )
    });
    let read: Vec<_> = read.filter(|(_, name)| name.contains('-')).collect();
    assert_eq!(
        read,
        [
            ("Namespace", "x-1"),
            ("Node", "node-1"),
            ("Pod", "d-1-0"),
            ("Pod", "x-1"),
            ("Pod", "x-2"),
            ("Pod", "x-3"),
            ("NetworkPolicy", "p-1"),
        ]
    );
    let notes: Vec<_> = loaded.notes.iter().map(Note::to_string).collect();
    let expected = "NetworkPolicy ns/p-1: has only generateName, this name is made up";
    assert!(notes.iter().any(|note| note == expected), "{notes:?}");
}

#[test]
fn a_kind_in_another_spelling_is_refused_with_the_right_one() {
    for (version, given, right) in [
        ("networking.k8s.io/v1", "NetworkPolicies", "NetworkPolicy"),
        ("networking.k8s.io/v1", "networkpolicy", "NetworkPolicy"),
        ("networking.k8s.io/v1", "Networkpolicy", "NetworkPolicy"),
        ("networking.k8s.io/v1", "NetworkPolicys", "NetworkPolicy"),
        ("v1", "pods", "Pod"),
        ("v1", "Namespaces", "Namespace"),
        ("apps/v1", "deployment", "Deployment"),
        ("v1", "list", "List"),
        ("v1", "podlist", "PodList"),
        (
            "policy.networking.k8s.io/v1alpha2",
            "Clusternetworkpolicy",
            "ClusterNetworkPolicy",
        ),
    ] {
        let expected = format!(
            "x.yaml:1: {given} ns/o: kind: `{given}` is no kind of Kubernetes: write `{right}`"
        );
        refused(&object(version, given), &[&expected]);
    }
    // Another project's, and other words.
    for (version, kind, note) in [
        ("x.io/v1", "pods", "pods.x.io: 1 skipped"),
        ("v1", "PodTemplate", "PodTemplate: 1 skipped"),
        (
            "metrics.k8s.io/v1",
            "PodMetrics",
            "PodMetrics.metrics.k8s.io: 1 skipped",
        ),
    ] {
        assert_eq!(notes(&object(version, kind)), [note]);
    }
}

#[test]
fn unknown_fields_of_a_status_are_noted_once_and_those_elsewhere_refused() {
    let pod = |name: &str| {
        format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec: {{containers: [{{name: c}}]}}\n\
             status: {{phase: Pending, containerStatuses: [{{name: c, novelty: 1}}]}}\n---\n"
        )
    };
    let text = pod("a") + &pod("b") + POLICY + "spec: {}\nstatus: {}\n";
    let loaded = load_bytes([("x.yaml", text.as_bytes())]).unwrap();
    let notes: Vec<_> = loaded.notes.iter().map(Note::to_string).collect();
    let expected = "unknown fields under status are left out, in 3 objects: NetworkPolicy status, \
                    Pod status.containerStatuses.novelty";
    assert_eq!(
        notes.iter().filter(|note| *note == expected).count(),
        1,
        "{notes:?}"
    );
    refused(
        &pod("a").replace("{name: c}", "{name: c, novelty: 1}"),
        &["x.yaml:1: Pod default/a: spec.containers[0].novelty: unknown field"],
    );
}

#[test]
fn the_namespace_of_a_cluster_scoped_object_is_left_out_as_the_api_server_does() {
    let text = "apiVersion: v1\nkind: Node\nmetadata: {name: n1, namespace: x}\n";
    let loaded = load_bytes([("x.yaml", text.as_bytes())]).unwrap();
    let notes: Vec<_> = loaded.notes.iter().map(Note::to_string).collect();
    assert_eq!(
        notes[0],
        "Node n1: is in no namespace, metadata.namespace `x` is left out"
    );
}

#[test]
fn lists_are_flattened_also_in_lists_and_typed_ones() {
    let pod = |name: &str| format!("{{apiVersion: v1, kind: Pod, metadata: {{name: {name}}}}}");
    let text = format!(
        "apiVersion: v1\nkind: List\nmetadata: {{resourceVersion: ''}}\nitems:\n- {}\n- apiVersion: v1\n  kind: List\n  \
         items:\n  - {}\n---\napiVersion: v1\nkind: PodList\nitems:\n- metadata: {{name: c}}\n---\napiVersion: v1\n\
         kind: List\nitems: null\n---\napiVersion: v1\nkind: List\n",
        pod("a"),
        pod("b")
    );
    let loaded = load_bytes([("x.yaml", text.as_bytes())]).unwrap();
    let pods: Vec<_> = loaded
        .objects
        .iter()
        .filter(|sourced| sourced.object.kind() == "Pod")
        .collect();
    let places: Vec<String> = pods
        .iter()
        .map(|sourced| format!("{:?}", sourced.origin))
        .collect();
    assert!(places[0].contains("items: [0]"), "{places:?}");
    assert!(places[1].contains("items: [1, 0]"), "{places:?}");
    assert!(
        places[2].contains("document: 2") && places[2].contains("line: 14"),
        "{places:?}"
    );
}

#[test]
fn an_item_without_a_name_is_found_by_its_position() {
    refused(
        "apiVersion: v1\nkind: List\nitem: []\nitems:\n- 5\n- {apiVersion: v1, kind: List, items: [{apiVersion: v1, kind: Pod}]}\n",
        &[
            "x.yaml:1: List: item: unknown field",
            "x.yaml:5: document (items[0]): is a number, not a Kubernetes object with apiVersion and kind",
            "x.yaml:6: Pod (items[1].items[0]): metadata.name: is required",
        ],
    );
    refused(
        "apiVersion: v1\nkind: List\nitems: {}\n",
        &["x.yaml:1: List: items: invalid type: a mapping, expected a list"],
    );
}

#[test]
fn a_version_that_kubernetes_does_not_serve_is_refused_with_the_right_one() {
    for (given, kind, right) in [
        (
            "extensions/v1beta1",
            "NetworkPolicy",
            "networking.k8s.io/v1",
        ),
        (
            "networking.k8s.io/v1beta1",
            "NetworkPolicy",
            "networking.k8s.io/v1",
        ),
        ("v1", "NetworkPolicy", "networking.k8s.io/v1"),
        ("apps/v1", "Pod", "v1"),
        ("v1beta3", "Namespace", "v1"),
        ("extensions/v1beta1", "Deployment", "apps/v1"),
        ("apps/v1beta2", "DaemonSet", "apps/v1"),
        ("batch/v1beta1", "CronJob", "batch/v1"),
    ] {
        let expected = format!(
            "x.yaml:1: {kind} ns/o: apiVersion: `{given}` does not serve this kind: use `{right}`"
        );
        refused(&object(given, kind), &[&expected]);
    }
}

#[test]
fn a_cluster_network_policy_is_an_error_and_never_skipped() {
    let expected = "x.yaml:1: ClusterNetworkPolicy ns/o: ClusterNetworkPolicy is not supported by this version of picket, \
                    and leaving it out would give wrong answers: remove it from the input";
    refused(
        &object("policy.networking.k8s.io/v1alpha2", "ClusterNetworkPolicy"),
        &[expected],
    );
}

#[test]
fn policies_of_others_are_noted_as_not_evaluated() {
    for (version, kind) in [
        ("policy.networking.k8s.io/v1alpha1", "AdminNetworkPolicy"),
        (
            "policy.networking.k8s.io/v1alpha1",
            "BaselineAdminNetworkPolicy",
        ),
        ("projectcalico.org/v3", "NetworkPolicy"),
        ("crd.projectcalico.org/v1", "GlobalNetworkPolicy"),
        ("cilium.io/v2", "CiliumNetworkPolicy"),
        ("cilium.io/v2", "CiliumClusterwideNetworkPolicy"),
        ("crd.antrea.io/v1beta1", "ClusterNetworkPolicy"),
    ] {
        let group = version.split('/').next().unwrap();
        let expected = format!(
            "{kind}.{group}: 1 not evaluated; this kind restricts traffic too, so verdicts may be too open"
        );
        assert_eq!(notes(&object(version, kind)), [expected]);
    }
}

#[test]
fn other_kinds_are_skipped_and_counted() {
    let all = [
        object("v1", "Service"),
        object("v1", "Service"),
        object("crd.projectcalico.org/v1", "Node"),
        object("x.io/v1", "Foo"),
    ];
    assert_eq!(
        notes(&all.join("---\n")),
        [
            "Foo.x.io: 1 skipped",
            "Node.crd.projectcalico.org: 1 skipped",
            "Service: 2 skipped"
        ]
    );
}

#[test]
fn the_same_object_twice_is_an_error_that_names_both_places() {
    let pod = "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\n";
    let same = "apiVersion: v1\nkind: Pod\nmetadata: {name: p, namespace: default}\n";
    let other = "apiVersion: v1\nkind: Pod\nmetadata: {name: p, namespace: other}\n---\napiVersion: v1\nkind: Namespace\nmetadata: {name: p}\n";
    let files = [
        ("a.yaml", pod.as_bytes()),
        ("b.yaml", other.as_bytes()),
        ("c.yaml", same.as_bytes()),
    ];
    let errors = load_bytes(files).unwrap_err();
    assert_eq!(
        errors.to_string(),
        "c.yaml:1: Pod default/p: was already given at a.yaml:1"
    );
    assert!(load_bytes(files[..2].iter().copied()).is_ok());
}

#[test]
fn problems_of_several_files_are_all_there_in_order() {
    let bad = b"apiVersion: v1\nkind: Pod\n";
    let errors = load_bytes([
        ("b.yaml", &bad[..]),
        ("a.yaml", b"a: [\n"),
        ("c.yaml", b"{"),
    ])
    .unwrap_err();
    let files: Vec<&str> = errors
        .problems()
        .iter()
        .map(|problem| &*problem.file)
        .collect();
    assert_eq!(files, ["a.yaml", "b.yaml", "c.yaml"]);
}

#[test]
fn workloads_are_checked_as_strictly_as_pods() {
    let text = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: d}\nspec:\n  replica: 1\n  selector: {matchLabels: {a: b}}\n  \
                template:\n    metadata: {labels: {a: yes}}\n    spec: {containers: [{name: c, port: 1}]}\n";
    refused(
        text,
        &[
            "x.yaml:1: Deployment default/d: spec.replica: unknown field",
            "x.yaml:1: Deployment default/d: spec.template.metadata.labels[a]: invalid type: boolean `true`, expected a string: quote it (unquoted yes, no, on, off, y, n, true and false are booleans in YAML)",
            "x.yaml:1: Deployment default/d: spec.template.spec.containers[0].port: unknown field",
        ],
    );
}

#[test]
fn problems_without_number_are_counted_and_not_kept() {
    let text = "--- 1\n".repeat(10_005);
    let errors = load_bytes([("x.yaml", text.as_bytes())]).unwrap_err();
    assert_eq!(errors.problems().len(), 10_000);
    assert!(
        errors
            .to_string()
            .ends_with("\n5 more problems are not shown")
    );
}

#[test]
fn every_wrong_item_of_a_list_is_reported() {
    let text = format!(
        "{POLICY}spec:\n  podSelector: {{}}\n  policyTypes: [Ingress, no, 1]\n  ingress: [{{}}, 5, {{}}, x]\n"
    );
    let errors = load_bytes([("x.yaml", text.as_bytes())]).unwrap_err();
    let fields: Vec<_> = errors
        .problems()
        .iter()
        .map(|problem| problem.field.clone().unwrap())
        .collect();
    assert_eq!(
        fields,
        [
            "spec.ingress[1]",
            "spec.ingress[3]",
            "spec.policyTypes[1]",
            "spec.policyTypes[2]"
        ]
    );
}
