//! A release from its installation to its end, before a real API server.

use std::process::Command;

use testbed::Namespace;

use crate::cluster::Cluster;
use crate::helm::{CHART, NAMESPACE, run};
use crate::meaning::{arguments, pod};

fn node() -> Namespace {
    let node = Namespace::new().expect("these tests need root");
    node.ip(&["link", "set", "lo", "up"]).unwrap();
    node
}

/// The arguments of the agent of the release, as the API server has them.
fn agent(cluster: &Cluster) -> Vec<String> {
    let daemon_set = cluster.get("daemonset", "picket").unwrap();
    let agent = &pod(&daemon_set).unwrap()["containers"][0];
    arguments(agent)
        .iter()
        .map(|&text| text.to_owned())
        .collect()
}

#[test]
fn a_release_is_installed_upgraded_rolled_back_and_gone() {
    let node = node();
    let cluster = Cluster::new(&node);
    let before = cluster.everything();
    let notes = cluster.release("install", &[CHART]).unwrap();
    for said in [
        "pod-security.kubernetes.io/enforce=privileged",
        "rollout status daemonset/picket",
        "helm test picket --namespace kube-system",
        "A pod whose node has no agent in time does not start.",
    ] {
        assert!(notes.contains(said), "not {said}: {notes}");
    }
    assert!(!notes.contains("WARNING"), "{notes}");
    let first = cluster.get("daemonset", "picket").unwrap();
    // What runs with the hooks only is not there.
    assert_eq!(cluster.get("daemonset", "picket-cleanup"), None);
    assert_eq!(cluster.get("serviceaccount", "picket-test"), None);
    let is_said = |cluster: &Cluster, level: &str| {
        let said = format!("--log-level={level}");
        agent(cluster).contains(&said)
    };
    assert!(is_said(&cluster, "info"));
    let debug = ["--set", "log.level=debug", "--set", "metrics.port=9099"];
    cluster
        .release("upgrade", &[&[CHART], &debug[..]].concat())
        .unwrap();
    assert!(is_said(&cluster, "debug"));
    cluster.release("rollback", &["1"]).unwrap();
    assert!(is_said(&cluster, "info"));
    let last = cluster.get("daemonset", "picket").unwrap();
    assert_eq!(last["spec"], first["spec"]);
    // The same object through all of it: no pod of it was an orphan's.
    assert_eq!(last["metadata"]["uid"], first["metadata"]["uid"]);
    cluster.release("uninstall", &["--no-hooks"]).unwrap();
    assert_eq!(cluster.everything(), before);
}

/// What the Job's pod does, with the Job's arguments and its account, while the controllers of DaemonSets do their part.
fn clean_up(node: &Namespace, cluster: &Cluster) {
    let job = cluster.get("job", "picket-cleanup").unwrap();
    let spec = pod(&job).unwrap();
    let account = spec["serviceAccountName"].as_str().unwrap();
    let kubeconfig = cluster.kubeconfig_of(account);
    let mut command = Command::new(env!("CARGO_BIN_EXE_picket"));
    command.args(arguments(&spec["containers"][0]));
    command.arg("--kubeconfig").arg(kubeconfig);
    std::thread::scope(|scope| {
        let uninstall = scope.spawn(|| node.run(|| run(&mut command)).unwrap());
        cluster.until("the agents are being deleted", || {
            let agents = cluster.get("daemonset", "picket");
            let deleted = agents.is_none_or(|set| set["metadata"]["deletionTimestamp"].is_string());
            (deleted || uninstall.is_finished()).then_some(())
        });
        // Their pods have ended.
        let patch = |name: &str, patch: &str, more: &[&str]| {
            let call = [
                "patch",
                "daemonset",
                name,
                "-n",
                NAMESPACE,
                "--type=merge",
                "-p",
                patch,
            ];
            cluster.kubectl(&[&call[..], more].concat())
        };
        let released = patch("picket", r#"{"metadata":{"finalizers":null}}"#, &[]);
        // And every node is clean.
        let status = r#"{"status":{"observedGeneration":1,"currentNumberScheduled":2,"desiredNumberScheduled":2,
            "numberMisscheduled":0,"numberReady":2,"updatedNumberScheduled":2}}"#;
        let ready = patch("picket-cleanup", status, &["--subresource=status"]);
        let said = uninstall.join().unwrap().unwrap();
        assert!(said.contains("2 of 2 nodes are cleaned up"), "{said}");
        released.and(ready).unwrap();
    });
}

#[test]
fn uninstalling_waits_for_the_nodes_and_leaves_nothing() {
    let node = node();
    let cluster = Cluster::new(&node);
    let before = cluster.everything();
    cluster.release("install", &[CHART]).unwrap();
    let installed = cluster.everything();
    // A node is late.
    let ended = cluster.while_helm("uninstall", &[], || {
        let job = cluster.until("the Job is there", || cluster.get("job", "picket-cleanup"));
        let call = arguments(&pod(&job).unwrap()["containers"][0]).join(" ");
        let expected = "uninstall --namespace=kube-system --daemonset=picket --cleanup=picket-cleanup --timeout=4m";
        assert_eq!(call, expected);
        // Before it, what it waits for; and nothing was deleted.
        assert!(cluster.get("daemonset", "picket-cleanup").is_some());
        assert!(cluster.everything().is_superset(&installed));
        cluster.end_job("picket-cleanup", false);
    });
    let error = ended.unwrap_err();
    assert!(error.contains("picket-cleanup"), "{error}");
    assert!(cluster.everything().is_superset(&installed));
    assert!(
        cluster.get("job", "picket-cleanup").is_some(),
        "its log is gone"
    );
    // It is there again; the Job is a new one.
    let failed = cluster.get("job", "picket-cleanup").unwrap()["metadata"]["uid"].clone();
    let ended = cluster.while_helm("uninstall", &[], || {
        cluster.until("there is a new Job", || {
            let job = cluster.get("job", "picket-cleanup")?;
            (job["metadata"]["uid"] != failed).then_some(())
        });
        clean_up(&node, &cluster);
        cluster.end_job("picket-cleanup", true);
    });
    ended.unwrap();
    assert_eq!(cluster.everything(), before);
}

#[test]
fn a_test_leaves_nothing_when_it_passes_and_its_log_when_it_fails() {
    let node = node();
    let cluster = Cluster::new(&node);
    cluster.release("install", &[CHART]).unwrap();
    let installed = cluster.everything();
    for phase in ["Failed", "Succeeded"] {
        let ended = cluster.while_helm("test", &[], || {
            cluster.until("there is a new pod", || {
                let pod = cluster.get("pod", "picket-test")?;
                (pod["status"]["phase"] == "Pending").then_some(())
            });
            assert!(cluster.get("role", "picket-test").is_some());
            let status = serde_json::json!({"status": {"phase": phase}}).to_string();
            let patch = [
                "patch",
                "pod",
                "picket-test",
                "-n",
                NAMESPACE,
                "-p",
                &status,
            ];
            let subresource = ["--subresource=status", "--type=merge"];
            cluster
                .kubectl(&[&patch[..], &subresource].concat())
                .unwrap();
        });
        let is_there = cluster.get("pod", "picket-test").is_some();
        let passed = phase == "Succeeded";
        assert_eq!((ended.is_ok(), is_there), (passed, !passed), "{ended:?}");
    }
    assert_eq!(cluster.everything(), installed);
}

#[test]
fn another_release_and_another_program_are_found() {
    let node = node();
    let cluster = Cluster::new(&node);
    cluster.release("install", &[CHART]).unwrap();
    // Its own is not another one.
    cluster.release("upgrade", &[CHART]).unwrap();
    for (release, namespace) in [
        ("second", "other"),
        ("picket", "other"),
        ("second", NAMESPACE),
    ] {
        let second = [
            "install",
            release,
            CHART,
            "--namespace",
            namespace,
            "--create-namespace",
        ];
        let error = cluster.helm(&second).unwrap_err();
        let said = "picket is in this cluster already: DaemonSet kube-system/picket of the release kube-system/picket. \
                    Two agents can not be on one node: upgrade that release, or uninstall it first.";
        assert!(error.contains(said), "{release} in {namespace}: {error}");
        let different = ["--set", "checks.otherRelease=warn,nodeSelector.pool=second"];
        let notes = cluster.helm(&[&second, &different[..]].concat()).unwrap();
        let said = "WARNING: picket is in this cluster already: DaemonSet kube-system/picket";
        assert!(notes.contains(said), "{notes}");
        let third = ["uninstall", release, "--namespace", namespace, "--no-hooks"];
        cluster.helm(&third).unwrap();
    }
    let daemon_set = |namespace: &str, name: &str| {
        format!(
            "apiVersion: apps/v1\nkind: DaemonSet\nmetadata: {{name: {name}, namespace: {namespace}}}\nspec:\n  \
             selector: {{matchLabels: {{app: x}}}}\n  template:\n    metadata: {{labels: {{app: x}}}}\n    \
             spec: {{containers: [{{name: c, image: registry.example/c:1}}]}}\n---\n"
        )
    };
    let others = daemon_set("kube-system", "calico-node") + &daemon_set("default", "cilium");
    cluster.server.apply(&others);
    let notes = cluster.release("upgrade", &[CHART]).unwrap();
    let said = "WARNING: Calico, Cilium is in this cluster.";
    assert!(notes.contains(said), "{notes}");
    let fail = ["--set", "checks.otherEngines=fail"];
    let error = cluster
        .release("upgrade", &[&[CHART], &fail[..]].concat())
        .unwrap_err();
    assert!(error.contains("Calico is in this cluster."), "{error}");
    let ignore = ["--set", "checks.otherEngines=ignore"];
    let notes = cluster
        .release("upgrade", &[&[CHART], &ignore[..]].concat())
        .unwrap();
    assert!(!notes.contains("WARNING"), "{notes}");
}
