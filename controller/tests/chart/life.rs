//! A release from its installation to its end, before a real API server.

use std::process::Command;

use serde_json::json;
use testbed::Namespace;

use crate::cluster::Cluster;
use crate::helm::{CHART, HELMS, NAMESPACE, run};
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
    let mut cluster = Cluster::new(&node);
    for helm in HELMS {
        cluster.helm = helm;
        live(&cluster);
    }
}

fn live(cluster: &Cluster) {
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
    assert!(is_said(cluster, "info"));
    let debug = ["--set", "log.level=debug", "--set", "metrics.port=9099"];
    cluster
        .release("upgrade", &[&[CHART], &debug[..]].concat())
        .unwrap();
    assert!(is_said(cluster, "debug"));
    cluster.release("rollback", &["1"]).unwrap();
    assert!(is_said(cluster, "info"));
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
    let mut cluster = Cluster::new(&node);
    for helm in HELMS {
        cluster.helm = helm;
        uninstall(&node, &cluster);
    }
}

fn uninstall(node: &Namespace, cluster: &Cluster) {
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
    // Helm 3 does not say which: the guide does.
    let named = ["picket-cleanup", "job failed"];
    assert!(named.iter().any(|named| error.contains(named)), "{error}");
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
        clean_up(node, cluster);
        cluster.end_job("picket-cleanup", true);
    });
    ended.unwrap();
    assert_eq!(cluster.everything(), before);
}

#[test]
fn a_test_leaves_nothing_when_it_passes_and_its_log_when_it_fails() {
    let node = node();
    let mut cluster = Cluster::new(&node);
    for helm in HELMS {
        cluster.helm = helm;
        test_twice(&cluster);
    }
}

fn test_twice(cluster: &Cluster) {
    cluster.release("install", &[CHART]).unwrap();
    let installed = cluster.everything();
    for phase in ["Failed", "Succeeded"] {
        let ended = cluster.while_helm("test", &[], || {
            cluster.until("there is a new pod", || {
                let pod = cluster.get("pod", "picket-test")?;
                (pod["status"]["phase"] == "Pending").then_some(())
            });
            assert!(cluster.get("role", "picket-test").is_some());
            let status = json!({"status": {"phase": phase}});
            cluster.patch_status("pod", "picket-test", &status);
        });
        let is_there = cluster.get("pod", "picket-test").is_some();
        let passed = phase == "Succeeded";
        assert_eq!((ended.is_ok(), is_there), (passed, !passed), "{ended:?}");
    }
    assert_eq!(cluster.everything(), installed);
    cluster.release("uninstall", &["--no-hooks"]).unwrap();
}

#[test]
fn another_release_and_another_program_are_found() {
    let node = node();
    let mut cluster = Cluster::new(&node);
    for helm in HELMS {
        cluster.helm = helm;
        find_others(&cluster);
    }
}

fn find_others(cluster: &Cluster) {
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
    for (namespace, name) in [("kube-system", "calico-node"), ("default", "cilium")] {
        cluster
            .kubectl(&["delete", "daemonset", name, "-n", namespace])
            .unwrap();
    }
    cluster.release("uninstall", &["--no-hooks"]).unwrap();
}

/// As the controller of DaemonSets says it when so many of two pods of the newest template are ready.
fn are_ready(cluster: &Cluster, ready: u32) {
    let daemon_set = cluster.get("daemonset", "picket").unwrap();
    let status = json!({"status": {
        "observedGeneration": daemon_set["metadata"]["generation"], "desiredNumberScheduled": 2,
        "currentNumberScheduled": 2, "updatedNumberScheduled": 2, "numberMisscheduled": 0,
        "numberReady": ready, "numberAvailable": ready, "numberUnavailable": 2 - ready,
    }});
    cluster.patch_status("daemonset", "picket", &status);
}

fn generation(cluster: &Cluster) -> Option<u64> {
    cluster.get("daemonset", "picket")?["metadata"]["generation"].as_u64()
}

/// As `docs/operating.md` says, helm 3 takes fewer for all: as many as an update may leave without an agent.
#[test]
fn helm_waits_for_agents() {
    let node = node();
    let mut cluster = Cluster::new(&node);
    for (helm, enough) in HELMS.into_iter().zip([2, 1, 1]) {
        cluster.helm = helm;
        let arguments = [CHART, "--wait", "--timeout=1m"];
        let ended = cluster.while_helm("install", &arguments, || {
            cluster.until("the agents are asked for", || generation(&cluster));
            are_ready(&cluster, enough);
        });
        ended.unwrap_or_else(|error| panic!("{helm}: {error}"));
        cluster.release("uninstall", &["--no-hooks"]).unwrap();
    }
    cluster.helm = HELMS[0];
    let arguments = [CHART, "--wait", "--timeout=5s"];
    let ended = cluster.while_helm("install", &arguments, || {
        cluster.until("the agents are asked for", || generation(&cluster));
        are_ready(&cluster, 1);
    });
    let error = ended.unwrap_err();
    assert!(error.contains("picket"), "{error}");
}

/// Not with helm 3.12, which takes what was ready before for what is asked for now.
#[test]
fn an_upgrade_that_must_succeed_is_taken_back_if_no_agent_becomes_ready() {
    let node = node();
    let mut cluster = Cluster::new(&node);
    for (helm, atomic) in [("helm", "--rollback-on-failure"), ("helm-3.19", "--atomic")] {
        cluster.helm = helm;
        cluster.release("install", &[CHART]).unwrap();
        are_ready(&cluster, 2);
        let first = agent(&cluster);
        let asked = generation(&cluster).unwrap();
        let arguments = [CHART, atomic, "--timeout=10s", "--set=log.level=debug"];
        let ended = cluster.while_helm("upgrade", &arguments, || {
            cluster.until("it is taken back", || {
                (generation(&cluster)? >= asked + 2).then_some(())
            });
            are_ready(&cluster, 2);
        });
        let error = ended.expect_err(helm);
        assert!(error.contains("rolled back"), "{helm}: {error}");
        assert_eq!(agent(&cluster), first, "{helm}");
        let status = cluster.release("status", &["-o", "json"]).unwrap();
        let status: serde_json::Value = serde_json::from_str(&status).unwrap();
        assert_eq!(status["info"]["status"], "deployed", "{helm}");
        cluster.release("uninstall", &["--no-hooks"]).unwrap();
    }
}

/// A release outlives the helm that made it.
#[test]
fn a_release_of_one_helm_is_upgraded_rolled_back_and_uninstalled_by_another() {
    let node = node();
    let mut cluster = Cluster::new(&node);
    let before = cluster.everything();
    let [helm_4, helm_3, oldest] = HELMS;
    for [first, second] in [[oldest, helm_3], [helm_3, helm_4], [helm_4, helm_3]] {
        let mut run = |helm: &'static str, command: &str, arguments: &[&str], level: &str| {
            cluster.helm = helm;
            let ended = cluster.release(command, arguments);
            ended.unwrap_or_else(|error| panic!("{first}, {second}: {command}: {error}"));
            let level = format!("--log-level={level}");
            assert!(
                agent(&cluster).contains(&level),
                "{first}, {second}: {command}"
            );
        };
        run(first, "install", &[CHART], "info");
        run(
            second,
            "upgrade",
            &[CHART, "--set=log.level=debug"],
            "debug",
        );
        run(second, "rollback", &["1"], "info");
        cluster.release("uninstall", &["--no-hooks"]).unwrap();
        assert_eq!(cluster.everything(), before, "{first}, {second}");
    }
}

/// The Job for its log, with every helm; the rest with 3.12, whose DaemonSet would go on to clean nodes up.
const LEFT_BY_A_HOOK: &str = "job,daemonset,rolebinding,role,serviceaccount";

/// As `docs/operating.md` says.
#[test]
fn after_an_uninstallation_that_failed_agents_come_back_by_a_rollback() {
    let node = node();
    let mut cluster = Cluster::new(&node);
    let before = cluster.everything();
    for helm in HELMS {
        cluster.helm = helm;
        cluster.release("install", &[CHART]).unwrap();
        let installed = agent(&cluster);
        let ended = cluster.while_helm("uninstall", &[], || {
            cluster.until("the Job is there", || cluster.get("job", "picket-cleanup"));
            // It ends the agents, but not on every node.
            cluster.delete("daemonset", "picket");
            cluster.end_job("picket-cleanup", false);
        });
        ended.expect_err(helm);
        let run = |command: &str, arguments: &[&str]| {
            let ended = cluster.release(command, arguments);
            ended.unwrap_or_else(|error| panic!("{helm}: {command}: {error}"));
        };
        cluster.delete(LEFT_BY_A_HOOK, "picket-cleanup");
        run("rollback", &["1"]);
        assert_eq!(agent(&cluster), installed, "{helm}");
        run("upgrade", &[CHART]);
        run("uninstall", &["--no-hooks"]);
        assert_eq!(cluster.everything(), before, "{helm}");
    }
}
