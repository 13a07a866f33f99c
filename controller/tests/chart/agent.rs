//! The agent as the chart starts it: with its arguments, its capabilities, and its account.

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::api_server::PATIENCE;
use crate::cluster::Cluster;
use crate::container::{command, named};
use crate::helm::{CHART, NAMESPACE};
use crate::live::{Agent, Live};
use crate::manifests;
use crate::meaning::pod;

/// The chart, with the test's folder as the agent's.
fn install(cluster: &Cluster, run_dir: &Path) {
    let run_dir = format!("agent.runDir={}", run_dir.display());
    cluster
        .release("install", &[CHART, "--set", &run_dir])
        .unwrap();
}

/// Starts the agent of the release as a runtime would, but for its image and how it finds the API server.
fn start(live: &Live, cluster: &Cluster, kubeconfig: &Path) -> Agent {
    let daemon_set = cluster.get("daemonset", "picket").unwrap();
    let mut command = command(named(pod(&daemon_set).unwrap(), "agent"));
    command.arg("--kubeconfig").arg(kubeconfig);
    Agent::spawn(&live.world.node, command, |_| {})
}

#[track_caller]
fn until(what: &str, live: &Live, agent: &Agent, mut condition: impl FnMut(&str) -> bool) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let status = live.run(&["status"]);
        let status = String::from_utf8(status.stdout).unwrap();
        if condition(&status) {
            return;
        }
        assert!(
            Instant::now() < deadline,
            "it does not come to it that {what}:\n{status}\n{}",
            agent.log()
        );
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn is_ready(live: &Live) -> bool {
    let answer = live.get("/readyz");
    answer.is_some_and(|(status, _)| status == 200)
}

#[test]
fn it_enforces_with_the_capabilities_and_the_account_of_the_chart() {
    let mut live = Live::new(&[]);
    let node = &live.world.node;
    let cluster = Cluster::new(node);
    cluster.server.apply(&manifests::base());
    install(&cluster, live.run_dir.path());
    let kubeconfig = cluster.kubeconfig_of("picket");
    let agent = start(&live, &cluster, &kubeconfig);
    until("it is ready and well", &live, &agent, |_| {
        is_ready(&live) && live.run(&["status"]).status.success()
    });
    drop(cluster);
    live.quiet(&agent);
    live.under_flood(|live| live.quiet(&agent));
    // What a probe of the chart asks.
    assert_eq!(live.get("/healthz").map(|(status, _)| status), Some(200));
}

/// The rules of the release's ClusterRole, one verb and one resource each.
fn rights(cluster: &Cluster, role: &str) -> Vec<[String; 3]> {
    let role = cluster.get("clusterrole", role).unwrap();
    let mut rights = Vec::new();
    let texts = |value: &Value| -> Vec<String> {
        let texts = value.as_array().unwrap().iter();
        texts
            .map(|text| text.as_str().unwrap().to_owned())
            .collect()
    };
    for rule in role["rules"].as_array().unwrap() {
        for group in texts(&rule["apiGroups"]) {
            for resource in texts(&rule["resources"]) {
                for verb in texts(&rule["verbs"]) {
                    rights.push([group.clone(), resource.clone(), verb]);
                }
            }
        }
    }
    rights
}

/// Says what the role has, and waits until that holds for the last of them, one that is not there.
fn permit(cluster: &Cluster, role: &str, rights: &[&[String; 3]], missing: &[String; 3]) {
    let rules: Vec<_> = rights
        .iter()
        .map(|[group, resource, verb]| {
            json!({"apiGroups": [group], "resources": [resource], "verbs": [verb]})
        })
        .collect();
    cluster.server.apply(
        &json!({
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRole",
            "metadata": {"name": role},
            "rules": rules,
        })
        .to_string(),
    );
    let [group, resource, verb] = missing;
    let resource = match group.as_str() {
        "" => resource.clone(),
        group => format!("{resource}.{group}"),
    };
    let account = format!("system:serviceaccount:{NAMESPACE}:picket");
    let ask = ["auth", "can-i", verb, &resource, "-A", "--as", &account];
    cluster.until("the role holds", || {
        // It ends with an error where the answer is no.
        let answer = cluster.kubectl(&ask);
        answer
            .is_err_and(|no| no.trim_start().starts_with("no"))
            .then_some(())
    });
}

#[test]
fn each_right_of_the_role_is_needed_and_named_when_it_is_missing() {
    let live = Live::new(&[]);
    let cluster = Cluster::new(&live.world.node);
    cluster.server.apply(&manifests::base());
    install(&cluster, live.run_dir.path());
    let kubeconfig = cluster.kubeconfig_of("picket");
    let role = format!("{NAMESPACE}:picket");
    let rights = rights(&cluster, &role);
    assert_eq!(rights.len(), 10);
    for missing in &rights {
        let rest: Vec<_> = rights.iter().filter(|right| *right != missing).collect();
        permit(&cluster, &role, &rest, missing);
        let agent = start(&live, &cluster, &kubeconfig);
        let [group, resource, verb] = missing;
        let resource = match group.as_str() {
            "" => resource.clone(),
            group => format!("{resource}.{group}"),
        };
        let words = format!("may not {verb} {resource}");
        until(
            &format!("it says that it {words}"),
            &live,
            &agent,
            |status| {
                let is_well = live.run(&["status"]).status.success();
                !is_well && status.contains(&words) && agent.log().contains(&words)
            },
        );
        agent.kill();
    }
}
