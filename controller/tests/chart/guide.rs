//! Commands of the guides, as they stand there, each with the cluster as the ones before it left it. The test is what a
//! cluster has else: its nodes, its scheduler, its controllers.

use std::fs;
use std::os::unix::fs::symlink;
use std::process::{Child, Stdio};

use serde_json::{Value, json};
use testbed::Namespace;

use crate::blocks::blocks;
use crate::cluster::Cluster;
use crate::helm::{HELMS, said};
use crate::support::Folder;

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

/// Command lines of a page that begin so, in its order.
fn commands(page: &str, programs: &[&str]) -> Vec<String> {
    let text = fs::read_to_string(format!("{ROOT}/{page}")).unwrap();
    let lines = blocks(&text).into_iter().flat_map(|block| block.lines);
    let is_one = |line: &String| programs.contains(&line.split(' ').next().unwrap());
    lines.filter(is_one).collect()
}

/// An operator's shell, in a folder where the charts are, as at the root of the repository.
struct Shell<'a> {
    cluster: &'a Cluster<'a>,
    node: &'a Namespace,
    folder: Folder,
}

impl Shell<'_> {
    fn start(&self, line: &str) -> Child {
        let mut bash = self.cluster.shell();
        bash.args(["-e", "-o", "pipefail", "-c", line]);
        bash.current_dir(self.folder.path()).stdin(Stdio::null());
        bash.stdout(Stdio::piped()).stderr(Stdio::piped());
        self.node.run(|| bash.spawn()).unwrap().unwrap()
    }

    fn run(&self, line: &str) -> Result<String, String> {
        said(&self.start(line).wait_with_output().unwrap())
    }

    /// Runs it, and does meanwhile what it waits for.
    fn run_while(&self, line: &str, work: impl FnOnce()) -> Result<String, String> {
        let child = self.start(line);
        work();
        said(&child.wait_with_output().unwrap())
    }
}

/// The agents' pods on two nodes, as the controller of DaemonSets makes them and kubelets report them.
fn become_ready(cluster: &Cluster) {
    let daemon_set = cluster.get("daemonset", "picket").unwrap();
    for node in ["node-1", "node-2"] {
        let name = format!("picket-{node}");
        let mut pod = daemon_set["spec"]["template"].clone();
        pod["apiVersion"] = json!("v1");
        pod["kind"] = json!("Pod");
        pod["metadata"]["name"] = json!(name);
        pod["metadata"]["namespace"] = json!(cluster.namespace);
        pod["metadata"]["ownerReferences"] = json!([{
            "apiVersion": "apps/v1", "kind": "DaemonSet", "name": "picket", "controller": true,
            "uid": daemon_set["metadata"]["uid"],
        }]);
        pod["spec"]["nodeName"] = json!(node);
        cluster.server.apply(&pod.to_string());
        let containers = pod["spec"]["containers"].as_array().unwrap();
        let status = |container: &Value| {
            json!({
                "name": container["name"], "image": container["image"], "imageID": "", "ready": true,
                "restartCount": 0, "state": {"running": {"startedAt": "2026-01-01T00:00:00Z"}},
            })
        };
        let statuses: Vec<_> = containers.iter().map(status).collect();
        let conditions = json!([{"type": "Ready", "status": "True"}]);
        let status = json!({"status": {
            "phase": "Running", "conditions": conditions, "containerStatuses": statuses,
        }});
        cluster.patch_status("pod", &name, &status);
    }
    let status = json!({"status": {
        "observedGeneration": daemon_set["metadata"]["generation"], "desiredNumberScheduled": 2,
        "currentNumberScheduled": 2, "updatedNumberScheduled": 2, "numberMisscheduled": 0,
        "numberReady": 2, "numberAvailable": 2,
    }});
    cluster.patch_status("daemonset", "picket", &status);
}

/// What the hook does on nodes, and the controllers of it.
fn end_hook(cluster: &Cluster, succeeded: bool) {
    cluster.until("there is a new Job", || {
        let job = cluster.get("job", "picket-cleanup")?;
        job["status"]["conditions"].is_null().then_some(())
    });
    cluster.delete("daemonset", "picket");
    cluster.end_job("picket-cleanup", succeeded);
}

/// Runs one line, and does what the cluster would. What it prints.
fn follow(shell: &Shell, line: &str) -> Result<String, String> {
    let cluster = shell.cluster;
    match line {
        _ if line.contains(" rollout status ") => shell.run_while(line, || become_ready(cluster)),
        _ if line.starts_with("helm test ") => shell.run_while(line, || {
            cluster.until("there is its pod", || cluster.get("pod", "picket-test"));
            let passed = json!({"status": {"phase": "Succeeded"}});
            cluster.patch_status("pod", "picket-test", &passed);
        }),
        _ if line.starts_with("helm uninstall ") && !line.contains("--no-hooks") => {
            shell.run_while(line, || end_hook(cluster, true))
        }
        _ => shell.run(line),
    }
}

fn in_a_cluster(helm: &'static str, work: impl FnOnce(&Shell)) {
    let node = Namespace::new().expect("these tests need root");
    node.ip(&["link", "set", "lo", "up"]).unwrap();
    let mut cluster = Cluster::new(&node);
    cluster.helm = helm;
    cluster.namespace = "picket";
    let folder = Folder::new("guide");
    symlink(format!("{ROOT}/charts"), folder.path().join("charts")).unwrap();
    work(&Shell {
        cluster: &cluster,
        node: &node,
        folder,
    });
}

/// Asks a node for what it has: logs and other programs.
fn asks_a_node(line: &str) -> bool {
    line.contains(" exec ") || line.contains(" logs ")
}

#[test]
fn the_guide_to_operating_is_followed_from_its_first_command_to_its_last() {
    for helm in HELMS {
        in_a_cluster(helm, walk);
    }
}

fn walk(shell: &Shell) {
    let cluster = shell.cluster;
    let all = commands("docs/operating.md", &["helm", "kubectl"]);
    let mut followed = 0;
    for line in all.iter().filter(|line| !asks_a_node(line)) {
        // What stands from here on is about an uninstallation that failed.
        if line.contains("delete job,") {
            shell
                .run("helm install picket charts/picket --namespace picket")
                .unwrap();
            let failed = "helm uninstall picket --namespace picket";
            let ended = shell.run_while(failed, || end_hook(cluster, false));
            ended.expect_err("the hook failed");
        }
        let printed =
            follow(shell, line).unwrap_or_else(|error| panic!("{}: {line}: {error}", cluster.helm));
        let expected = match line {
            _ if line.starts_with("helm install ") => "rollout status daemonset/picket",
            _ if line.contains(" label namespace ") => "namespace/picket labeled",
            _ if line.contains(" rollout status ") => "successfully rolled out",
            _ if line.starts_with("helm test ") => "Phase:          Succeeded",
            _ if line.contains(" get pods ") => "node-2",
            _ if line.starts_with("helm upgrade ") => "REVISION: 2",
            _ if line.starts_with("helm history ") => "uninstalling",
            _ if line.starts_with("helm rollback ") => "Rollback was a success",
            _ if line.starts_with("helm uninstall ") => "release \"picket\" uninstalled",
            _ => "",
        };
        assert!(
            printed.contains(expected),
            "{}: {line}: {printed}",
            cluster.helm
        );
        followed += 1;
        let installs = ["helm install", "helm upgrade", "helm rollback"];
        let uninstalls = line.starts_with("helm uninstall");
        if installs.iter().any(|start| line.starts_with(start)) || uninstalls {
            let is_there = cluster.get("daemonset", "picket").is_some();
            assert_eq!(is_there, !uninstalls, "{}: {line}", cluster.helm);
        }
    }
    assert!(followed > 8, "{followed}");
}

#[test]
fn the_commands_of_the_notes_are_followed() {
    in_a_cluster(HELMS[0], follow_notes);
}

fn follow_notes(shell: &Shell) {
    shell.run("kubectl create namespace picket").unwrap();
    let notes = shell
        .run("helm install picket charts/picket --namespace picket")
        .unwrap();
    let lines = blocks(&notes).into_iter().flat_map(|block| block.lines);
    let lines: Vec<_> = lines.collect();
    assert_eq!(lines.len(), 4, "{lines:?}");
    for line in lines.iter().filter(|line| !asks_a_node(line)) {
        follow(shell, line).unwrap_or_else(|error| panic!("{line}: {error}"));
    }
    let asked = lines.iter().find(|line| asks_a_node(line)).unwrap();
    let call = asked.split_once(" -- /").unwrap().1.split(' ');
    <controller::cli::Cli as clap::Parser>::try_parse_from(call).unwrap();
}

/// Kinds of others that `docs/migrating.md` asks for, each with an object that is to be seen.
const OTHERS: [(&str, &str, &str, bool); 5] = [
    (
        "crd.projectcalico.org",
        "GlobalNetworkPolicy",
        "globalnetworkpolicies",
        false,
    ),
    (
        "crd.projectcalico.org",
        "NetworkPolicy",
        "networkpolicies",
        true,
    ),
    (
        "policy.networking.k8s.io",
        "ClusterNetworkPolicy",
        "clusternetworkpolicies",
        false,
    ),
    (
        "policy.networking.k8s.io",
        "AdminNetworkPolicy",
        "adminnetworkpolicies",
        false,
    ),
    (
        "networking.k8s.aws",
        "PolicyEndpoint",
        "policyendpoints",
        true,
    ),
];

fn define(cluster: &Cluster) {
    for (group, kind, plural, is_namespaced) in OTHERS {
        let scope = if is_namespaced {
            "Namespaced"
        } else {
            "Cluster"
        };
        let schema = json!({"openAPIV3Schema": {"type": "object"}});
        let version = json!({"name": "v1", "served": true, "storage": true, "schema": schema});
        let name = format!("{plural}.{group}");
        let mut metadata = json!({"name": name});
        if group.ends_with(".k8s.io") {
            metadata["annotations"] =
                json!({"api-approved.kubernetes.io": "unapproved, of a test"});
        }
        let names = json!({"kind": kind, "plural": plural, "singular": kind.to_lowercase()});
        let definition = json!({
            "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": metadata,
            "spec": {"group": group, "names": names, "scope": scope, "versions": [version]},
        });
        let file = cluster.write("object.json", &definition);
        let file = ["-f", file.to_str().unwrap()];
        cluster.kubectl(&[&["apply"], &file[..]].concat()).unwrap();
        let crd = format!("crd/{name}");
        cluster
            .kubectl(&["wait", "--for=condition=Established", "--timeout=60s", &crd])
            .unwrap();
        let mut metadata = json!({"name": format!("a-{}", kind.to_lowercase())});
        if is_namespaced {
            metadata["namespace"] = json!("default");
        }
        let version = format!("{group}/v1");
        let object = json!({"apiVersion": version, "kind": kind, "metadata": metadata});
        cluster.write("object.json", &object);
        cluster.until("the kind is served", || {
            cluster.kubectl(&[&["apply"], &file[..]].concat()).ok()
        });
    }
}

#[test]
fn what_the_guide_to_migrating_asks_a_cluster_is_answered() {
    in_a_cluster(HELMS[0], |shell| {
        define(shell.cluster);
        shell.cluster.server.apply(
            "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: kept, namespace: default}\n\
             spec: {podSelector: {}}\n",
        );
        let mut seen = String::new();
        for line in commands("docs/migrating.md", &["kubectl"]) {
            seen += &shell
                .run(&line)
                .unwrap_or_else(|error| panic!("{line}: {error}"));
        }
        for (_, kind, ..) in OTHERS {
            let name = format!("a-{}", kind.to_lowercase());
            assert!(seen.contains(&name), "{name}: {seen}");
        }
        let saved = fs::read_to_string(shell.folder.path().join("policies.yaml")).unwrap();
        assert!(saved.contains("name: kept"), "{saved}");
    });
}

#[test]
fn the_chart_is_installed_as_its_readme_says() {
    in_a_cluster(HELMS[0], |shell| {
        let lines = commands("charts/picket/README.md", &["helm"]);
        assert_eq!(lines.len(), 1);
        let filled = lines[0]
            .replace("REGISTRY", "registry.example")
            .replace("NAME", "team/picket");
        shell
            .run(&filled)
            .unwrap_or_else(|error| panic!("{filled}: {error}"));
        let image = "jsonpath={.spec.template.spec.containers[0].image}";
        let get = [
            "get",
            "daemonset",
            "picket",
            "-n",
            "kube-system",
            "-o",
            image,
        ];
        let image = shell.cluster.kubectl(&get).unwrap();
        assert_eq!(
            image,
            concat!("registry.example/team/picket:", env!("CARGO_PKG_VERSION"))
        );
    });
}
