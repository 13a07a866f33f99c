//! What holds of the objects whatever the values are.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use serde_json::{Value, json};

use crate::helm::{
    CHART, HELMS, MATRIX, NAMESPACE, documents, matrix, object, objects, run, template, template_by,
};
use crate::support::Folder;

/// The objects of each of the matrix.
fn all() -> Vec<(String, Vec<Value>)> {
    let of = |name: &String| fs::read_to_string(format!("{MATRIX}/{name}.yaml")).unwrap();
    let names = matrix();
    names
        .into_iter()
        .map(|name| (name.clone(), documents(&of(&name))))
        .collect()
}

/// The pods of an object, or of what it makes.
pub(crate) fn pod(object: &Value) -> Option<&Value> {
    match object["kind"].as_str()? {
        "Pod" => Some(&object["spec"]),
        "DaemonSet" | "Job" => Some(&object["spec"]["template"]["spec"]),
        _ => None,
    }
}

/// All containers of an object's pods.
fn containers(object: &Value) -> impl Iterator<Item = &Value> {
    let spec = pod(object);
    let of = move |kind: &str| spec.and_then(|spec| spec[kind].as_array());
    let of = [of("initContainers"), of("containers")];
    of.into_iter().flatten().flatten()
}

/// Every container of the matrix: of which values, of which object, and itself.
fn every_container() -> Vec<(String, Value, Value)> {
    let mut every = Vec::new();
    for (name, objects) in all() {
        for object in objects {
            for container in containers(&object) {
                every.push((name.clone(), object.clone(), container.clone()));
            }
        }
    }
    assert!(every.len() > 15);
    every
}

/// Whether these values have the agent enforce inside of pods.
fn enters_pods(values: &str) -> bool {
    values == "everything"
}

fn hook(object: &Value) -> Option<&str> {
    object["metadata"]["annotations"]["helm.sh/hook"].as_str()
}

pub(crate) fn arguments(container: &Value) -> Vec<&str> {
    let arguments = container["args"].as_array().unwrap();
    arguments
        .iter()
        .map(|text| text.as_str().unwrap())
        .collect()
}

#[test]
fn the_agent_may_do_what_its_documentation_says_and_nothing_else() {
    let text = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/api-server.md");
    let text = fs::read_to_string(text).unwrap();
    let section = text.split_once("## What it needs").unwrap().1;
    let section = section.split_once("\n## ").unwrap().0;
    let mut yaml = String::new();
    for line in section.lines().filter(|line| line.starts_with("    ")) {
        if !line.starts_with("    rules:") {
            yaml.push_str(line.strip_prefix("      ").unwrap());
            yaml.push('\n');
        }
    }
    let documented: Value = serde_saphyr::from_str(&yaml).unwrap();
    assert_eq!(documented.as_array().map(Vec::len), Some(3), "{yaml}");
    let objects = objects(&[]);
    let name = format!("{NAMESPACE}:picket");
    assert_eq!(object(&objects, "ClusterRole", &name)["rules"], documented);
    let binding = object(&objects, "ClusterRoleBinding", &name);
    assert_eq!(binding["roleRef"]["name"], *name);
    let agent = json!([{"kind": "ServiceAccount", "name": "picket", "namespace": NAMESPACE}]);
    assert_eq!(binding["subjects"], agent);
    let roles = objects
        .iter()
        .filter(|object| object["kind"] == "ClusterRole");
    assert_eq!(roles.count(), 1);
}

#[test]
fn no_container_has_more_than_it_needs() {
    for (values, object, container) in every_container() {
        let name = container["name"].as_str().unwrap();
        let what = format!("{values}: {}/{name}", object["metadata"]["name"]);
        let security = &container["securityContext"];
        let is_false = |field| assert_eq!(security[field], false, "{what}: {field}");
        is_false("privileged");
        is_false("allowPrivilegeEscalation");
        assert_eq!(security["readOnlyRootFilesystem"], true, "{what}");
        let expected = match name {
            "agent" | "cleanup" if enters_pods(&values) => {
                json!({"drop": ["ALL"], "add": ["NET_ADMIN", "SYS_ADMIN"]})
            }
            "agent" | "cleanup" => {
                json!({"drop": ["ALL"], "add": ["NET_ADMIN"]})
            }
            _ => json!({"drop": ["ALL"]}),
        };
        assert_eq!(security["capabilities"], expected, "{what}");
        let is_root = security["runAsUser"] == 0;
        let of_the_node = ["agent", "watch-cni", "cleanup", "uninstall-cni"];
        assert_eq!(is_root, of_the_node.contains(&name), "{what}");
        assert_eq!(security["runAsNonRoot"], !is_root, "{what}");
        assert_eq!(security["seccompProfile"], Value::Null, "{what}");
        assert!(container["lifecycle"].is_null(), "{what}");
        assert!(container["command"].is_null(), "{what}");
        let spec = pod(&object).unwrap();
        let profile = &spec["securityContext"]["seccompProfile"]["type"];
        assert_eq!(profile, "RuntimeDefault", "{what}");
        for field in ["hostPID", "hostIPC", "shareProcessNamespace"] {
            assert!(spec[field].is_null(), "{what}: {field}");
        }
        assert_eq!(spec["hostNetwork"].is_null(), name == "test", "{what}");
        assert_eq!(spec["automountServiceAccountToken"], false, "{what}");
    }
}

#[test]
fn a_container_has_the_folders_and_credentials_that_the_readme_says() {
    for (values, object, container) in every_container() {
        let name = container["name"].as_str().unwrap();
        let mounts = container["volumeMounts"].as_array();
        let mounts: Vec<_> = mounts.into_iter().flatten().collect();
        let kind = |mount: &&Value| {
            let name = mount["name"].as_str().unwrap().to_owned();
            let is_more = name.starts_with("cni-conf-");
            if is_more { "cni-conf".to_owned() } else { name }
        };
        let names: BTreeSet<_> = mounts.iter().map(kind).collect();
        let expected: &[&str] = match name {
            "agent" if enters_pods(&values) => &["api-access", "pod-namespaces", "run"],
            "agent" => &["api-access", "run"],
            "cleanup" if enters_pods(&values) => &["pod-namespaces", "run"],
            "cleanup" => &["run"],
            "watch-cni" | "uninstall-cni" => &["cni-bin", "cni-conf"],
            "uninstall" | "test" => &["api-access"],
            "idle" => &[],
            _ => panic!("{name} is new"),
        };
        let what = format!("{values}: {name}");
        assert!(names.iter().eq(expected), "{what}: {names:?}");
        // Paths mean the same on the node and in the container: configurations and the plugin's entry name them.
        for volume in pod(&object).unwrap()["volumes"]
            .as_array()
            .into_iter()
            .flatten()
        {
            let Some(path) = volume["hostPath"]["path"].as_str() else {
                continue;
            };
            for mount in mounts
                .iter()
                .filter(|mount| mount["name"] == volume["name"])
            {
                assert_eq!(mount["mountPath"], path, "{what}");
                assert!(mount["subPath"].is_null(), "{what}");
            }
        }
    }
}

/// A pod that ends, an update and a rollback have no hook, and nothing that they run removes anything.
#[test]
fn only_the_hook_before_the_deletion_removes_anything() {
    for (values, object, container) in every_container() {
        let arguments = arguments(&container);
        let removes = ["uninstall", "cleanup"];
        let removes = arguments.iter().any(|argument| removes.contains(argument));
        let kind = &object["kind"];
        let is_of_the_hook = hook(&object) == Some("pre-delete");
        assert!(!removes || is_of_the_hook, "{values}: {kind}");
    }
    for (values, objects) in all() {
        let hooks: BTreeSet<_> = objects.iter().filter_map(hook).collect();
        let known = BTreeSet::from(["pre-delete", "test"]);
        assert!(hooks.is_subset(&known), "{values}: {hooks:?}");
        let policy = "before-hook-creation,hook-succeeded";
        for object in objects.iter().filter(|object| hook(object).is_some()) {
            let annotations = &object["metadata"]["annotations"];
            assert_eq!(annotations["helm.sh/hook-delete-policy"], policy);
        }
    }
}

#[test]
fn what_cleans_a_node_up_does_so_in_the_order_that_leaves_nothing() {
    let commands = |values: &[&str]| -> Vec<String> {
        let objects = objects(values);
        let cleanup = object(&objects, "DaemonSet", "picket-cleanup");
        let init = &pod(cleanup).unwrap()["initContainers"];
        let init = init.as_array().into_iter().flatten();
        init.map(|container| arguments(container)[..2].join(" "))
            .collect()
    };
    let cleanup = "cleanup --run-dir=/run/picket";
    assert_eq!(commands(&[]), ["cni uninstall", cleanup]);
    // Nodes may have the plugin from before.
    let was_installed = commands(&["cni.install=false"]);
    assert_eq!(was_installed, ["cni uninstall", cleanup]);
    assert_eq!(commands(&["cni.uninstall=false"]), [cleanup]);
    assert_eq!(commands(&["cleanup.enabled=false"]), ["cni uninstall"]);
    let none = objects(&["cleanup.enabled=false", "cni.uninstall=false"]);
    assert!(!none.iter().any(|object| hook(object) == Some("pre-delete")));
}

#[test]
fn alerts_and_dashboard_are_those_of_the_files() {
    let objects = objects(&[
        "metrics.prometheusRule.enabled=true",
        "metrics.prometheusRule.labels.release=prometheus",
        "metrics.dashboard.enabled=true",
    ]);
    let file = |name: &str| fs::read_to_string(format!("{CHART}/files/{name}")).unwrap();
    let rule = object(&objects, "PrometheusRule", "picket");
    // But for its own names.
    let own = format!("namespace=\"{NAMESPACE}\"");
    let alerts = file("alerts.yaml").replace("namespace=\"picket\"", &own);
    let alerts: Value = serde_saphyr::from_str(&alerts).unwrap();
    assert_eq!(rule["spec"], alerts);
    assert_eq!(rule["metadata"]["labels"]["release"], "prometheus");
    let named = [
        "metrics.prometheusRule.enabled=true",
        "fullnameOverride=edge",
    ];
    let text = self::objects(&named);
    let text = object(&text, "PrometheusRule", "edge").to_string();
    let own = format!("{{namespace=\\\"{NAMESPACE}\\\", daemonset=\\\"edge\\\"}}");
    assert_eq!(text.matches(&own).count(), 2, "{text}");
    assert!(!text.contains("daemonset=\\\"picket"), "{text}");
    let dashboard = object(&objects, "ConfigMap", "picket-dashboard");
    let of = &dashboard["data"]["picket.json"];
    assert_eq!(of.as_str().unwrap(), file("dashboard.json").trim_end());
    assert_eq!(dashboard["metadata"]["labels"]["grafana_dashboard"], "1");
}

/// Namespaced or not, what one release has another one has under another name.
#[test]
fn two_releases_share_no_name() {
    let home = Folder::new("helm");
    let render = |release: &str, namespace: &str, values: &[&str]| -> BTreeSet<String> {
        let mut helm = crate::helm::helm(HELMS[0], &home);
        helm.args(["template", release, CHART]);
        helm.args(["--namespace", namespace]).args(values);
        let values = crate::helm::values("everything");
        helm.args(["--values", &values, "--set", "serviceAccount.name="]);
        helm.args(["--set", "fullnameOverride=,nameOverride="]);
        let objects = documents(&run(&mut helm).unwrap());
        assert!(objects.len() > 10);
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let name = |object: &Value| {
            let metadata = &object["metadata"];
            let place = [&object["kind"], &metadata["namespace"], &metadata["name"]];
            place.map(text).join("/")
        };
        objects.iter().map(name).collect()
    };
    let first = render("picket", "a", &[]);
    for (release, namespace) in [
        ("picket", "b"),
        ("other", "a"),
        ("picket-b", "a"),
        ("picket", "a-picket"),
    ] {
        let second = render(release, namespace, &[]);
        assert_eq!(first.len(), second.len());
        let both: Vec<_> = first.intersection(&second).collect();
        assert!(both.is_empty(), "{release} in {namespace}: {both:?}");
    }
}

#[test]
fn no_name_is_longer_than_kubernetes_takes_and_no_label_of_values_moves_a_selector() {
    let home = Folder::new("helm");
    // The longest that helm takes.
    let release = "r".repeat(53);
    let mut helm = crate::helm::helm(HELMS[0], &home);
    helm.args(["template", &release, CHART]);
    for label in ["name", "instance", "component", "part-of"] {
        let key = format!("podLabels.app\\.kubernetes\\.io/{label}=other");
        let common = key.replace("podLabels", "commonLabels");
        helm.args(["--set", &key, "--set", &common]);
    }
    for object in documents(&run(&mut helm).unwrap()) {
        let name = object["metadata"]["name"].as_str().unwrap();
        // What a DaemonSet and a Job make of theirs has a dash and at most ten more.
        let own = name.split(':').next_back().unwrap();
        assert!(own.len() + 6 <= 63, "{name}");
        if let Some(selector) = object["spec"]["selector"]["matchLabels"].as_object() {
            let labels = &object["spec"]["template"]["metadata"]["labels"];
            for (key, value) in selector {
                assert_eq!(&labels[key], value);
                assert_ne!(value, "other");
            }
        }
        let part = &object["metadata"]["labels"]["app.kubernetes.io/part-of"];
        assert_eq!(part, "picket");
    }
}

/// The table of `docs/cni-install.md`.
#[test]
fn folders_of_a_platform_are_those_of_the_documentation() {
    let text = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/cni-install.md");
    let text = fs::read_to_string(text).unwrap();
    let section = text.split_once("## Folders of distributions").unwrap().1;
    let mut last = String::new();
    let mut documented = BTreeMap::new();
    for row in section.lines().filter(|line| line.starts_with("| ")) {
        let cells: Vec<_> = row.split('|').map(str::trim).collect();
        let path = |cell: &str| cell.split('`').nth(1).unwrap_or_default().to_owned();
        if cells[2] != "the same" {
            last = path(cells[2]);
        }
        documented.insert(cells[1].to_owned(), (last.clone(), path(cells[3])));
    }
    for (platform, row) in [
        ("", "kubeadm, kind, EKS, AKS"),
        ("rke2", "rke2"),
        ("k3s", "k3s 1.28.15, 1.29.10, 1.30.6, 1.31.2 and later"),
        ("k3d", "k3d"),
        ("microk8s", "MicroK8s"),
        ("gke", "GKE"),
    ] {
        let (conf, bin) = &documented[row];
        let objects = objects(&[&format!("platform={platform}")]);
        let daemon_set = object(&objects, "DaemonSet", "picket");
        let watch = &pod(daemon_set).unwrap()["containers"][1];
        let arguments = arguments(watch);
        assert_eq!(arguments[2], format!("--conf-dir={conf}"), "{platform}");
        assert_eq!(arguments[3], format!("--bin-dir={bin}"), "{platform}");
    }
    let (conf, bin) = &documented["OpenShift"];
    assert_eq!((conf.as_str(), bin.as_str()), ("", "/var/lib/cni/bin"));
}

#[test]
fn values_that_can_not_be_together_are_refused_with_the_remedy() {
    for (values, error) in [
        (
            &["agent.setBridgeNetfilter=true"][..],
            "agent.setBridgeNetfilter: name the bridges in agent.bridges",
        ),
        (
            &["metrics.podMonitor.enabled=true"],
            "metrics.podMonitor.enabled: Prometheus can not reach 127.0.0.1 of a node: set metrics.bindAddress",
        ),
        (
            &["metrics.podMonitor.enabled=true", "metrics.bindAddress=::1"],
            "Prometheus can not reach ::1 of a node",
        ),
        (
            &["platform=openshift"],
            "platform openshift: there is no configuration into which the CNI plugin can be put: set cni.install=false",
        ),
        (
            &["serviceAccount.create=false"],
            "serviceAccount.name: name the account that is there",
        ),
        (
            &["serviceAccount.name=picket-cleanup"],
            "serviceAccount.name: picket-cleanup is the account of a hook",
        ),
        (
            &[
                "serviceAccount.name=picket-test",
                "serviceAccount.create=false",
            ],
            "serviceAccount.name: picket-test is the account of a hook",
        ),
        (
            &["cni.extraConfDirs={/etc/other,/etc/cni/net.d}"],
            "cni.extraConfDirs[1]: /etc/cni/net.d is cni.confDir too",
        ),
        (
            &["platform=k3s", "cni.binDir=/run/picket"],
            "cni.binDir: /run/picket is agent.runDir too",
        ),
        (
            &["cni.confDir=/opt/cni/bin"],
            "cni.confDir: /opt/cni/bin is cni.binDir too",
        ),
        (
            &["cleanup.timeout=4m", "cleanup.purgeAfterSeconds=201"],
            "cleanup.timeout: 4m is too little where each node waits 201 seconds (cleanup.purgeAfterSeconds) beside all else: set it to 241s or more",
        ),
        (
            &[
                "agent.podNamespaces.enabled=true",
                "agent.podNamespaces.path=/run/picket",
            ],
            "agent.podNamespaces.path: /run/picket is agent.runDir too",
        ),
    ] {
        let set: Vec<_> = values.iter().flat_map(|value| ["--set", value]).collect();
        for helm in HELMS {
            let said = template_by(helm, CHART, &set).unwrap_err();
            assert!(said.contains(error), "{helm}, {values:?}: {said}");
        }
    }
    objects(&["platform=openshift", "cni.confDir=/etc/cni/net.d"]);
    objects(&["platform=openshift", "cni.install=false"]);
    objects(&["cleanup.timeout=1h", "cleanup.purgeAfterSeconds=600"]);
    objects(&["cleanup.timeout=4m", "cleanup.purgeAfterSeconds=200"]);
    objects(&["cleanup.timeout=1m", "cni.install=false"]);
    let none = ["cni.install=false", "cni.uninstall=false"];
    objects(&[&none[..], &["cni.confDir=/run/picket"]].concat());
    objects(&["nodeSelector=null"]);
    objects(&["metrics.podMonitor.enabled=true", "metrics.bindAddress=::"]);
}

/// Each option of the agent that a value gives is refused as another argument, but those that it takes more than once.
#[test]
fn what_a_value_says_is_said_once() {
    let all = [
        "agent.bridges={cni0}",
        "agent.setBridgeNetfilter=true",
        "agent.budget.rules=9",
    ];
    let all: Vec<_> = all.into_iter().flat_map(|value| ["--set", value]).collect();
    let documents = documents(&template(&all).unwrap());
    let agent = object(&documents, "DaemonSet", "picket");
    let containers = containers(agent).collect::<Vec<_>>();
    let agent = containers.iter().find(|of| of["name"] == "agent").unwrap();
    let options = arguments(agent);
    let options = options.iter().filter_map(|of| of.split('=').next());
    let options: BTreeSet<_> = options.filter(|of| of.starts_with("--")).collect();
    assert!(options.len() > 10, "{options:?}");
    for option in options {
        let more = format!("extraArgs[0]={option}=x");
        let set = [&all[..], &["--set", &more]].concat();
        match (option, template(&set)) {
            ("--bridge" | "--budget", taken) => assert!(taken.is_ok(), "{taken:?}"),
            (_, said) => {
                let expected = format!("extraArgs[0]: {option} is given by a value");
                let said = said.expect_err(option);
                assert!(said.contains(&expected), "{said}");
            }
        }
    }
    template(&["--set", "extraArgs[0]=--resync=1m"]).unwrap();
}

/// Its server goes where it may, so the two ask for the same.
#[test]
fn the_test_goes_where_agents_are() {
    let set = [
        "nodeSelector.pool=edge",
        "test.tolerations[0].key=edge",
        "test.tolerations[0].operator=Exists",
        "affinity.nodeAffinity.x=y",
        "affinity.podAntiAffinity.x=y",
    ];
    let objects = objects(&set);
    let pod = &object(&objects, "Pod", "picket-test")["spec"];
    let selector = json!({"kubernetes.io/os": "linux", "pool": "edge"});
    assert_eq!(pod["nodeSelector"], selector);
    assert_eq!(pod["affinity"], json!({"nodeAffinity": {"x": "y"}}));
    let tolerations = json!([{"key": "edge", "operator": "Exists"}]);
    assert_eq!(pod["tolerations"], tolerations);
}

#[test]
fn the_program_knows_what_it_is_called_with() {
    use clap::Parser;
    let mut known = BTreeSet::new();
    for (values, _, container) in every_container() {
        let mut calls = vec![arguments(&container)];
        let probe = container["readinessProbe"]["exec"]["command"].as_array();
        let probe: Vec<_> = probe
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        if let [program, rest @ ..] = &probe[..] {
            assert_eq!(*program, "/picket");
            calls.push(rest.to_vec());
        }
        for call in calls {
            let words = call.iter().take_while(|word| !word.starts_with('-'));
            let command = words.copied().collect::<Vec<_>>().join(" ");
            let parsed = controller::cli::Cli::try_parse_from(["picket"].iter().chain(&call));
            if let Err(error) = parsed {
                panic!("{values}: {call:?}: {error}");
            }
            known.insert(command);
        }
    }
    let expected = [
        "agent",
        "cleanup",
        "cni status",
        "cni uninstall",
        "cni watch",
        "idle",
        "selftest",
        "uninstall",
    ];
    assert!(known.iter().eq(&expected), "{known:?}");
}
