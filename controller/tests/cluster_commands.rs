//! Commands that are given no files read the cluster of the kubeconfig.

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up fails")]

#[path = "support/api_server/mod.rs"]
mod api_server;
mod support;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Output};

use api_server::{ApiServer, rule};
use testbed::Namespace;

const OBJECTS: &str = "
apiVersion: v1
kind: Namespace
metadata: {name: shop, labels: {team: a}}
---
apiVersion: v1
kind: Node
metadata: {name: n1}
status: {addresses: [{type: InternalIP, address: 192.168.0.1}]}
---
apiVersion: v1
kind: Pod
metadata: {name: web, namespace: shop, labels: {app: web}}
spec: {nodeName: n1, containers: [{name: c, image: registry.example/web:1}]}
status: {phase: Running, podIP: 10.0.0.1, podIPs: [{ip: 10.0.0.1}]}
---
apiVersion: v1
kind: Pod
metadata: {name: db, namespace: shop, labels: {app: db}}
spec: {nodeName: n1, containers: [{name: c, image: registry.example/db:1}]}
status: {phase: Running, podIP: 10.0.0.2, podIPs: [{ip: 10.0.0.2}]}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: db, namespace: shop}
spec:
  podSelector: {matchLabels: {app: db}}
  ingress: [{from: [{podSelector: {matchLabels: {app: web}}}], ports: [{port: 5432}]}]
";

/// What is read of a cluster.
const READ: [(&str, &str); 4] = [
    ("", "namespaces"),
    ("", "nodes"),
    ("", "pods"),
    ("networking.k8s.io", "networkpolicies"),
];

struct World {
    namespace: Namespace,
    server: ApiServer,
}

impl World {
    fn new() -> Self {
        let namespace = Namespace::new().expect("these tests need root");
        namespace.ip(&["link", "set", "lo", "up"]).unwrap();
        let server = ApiServer::start(&namespace);
        server.apply(OBJECTS);
        Self { namespace, server }
    }

    /// A program beside the API server, with the kubeconfig in its environment.
    fn run(&self, program: &Path, kubeconfig: &Path, arguments: &[&str]) -> Output {
        let mut command = Command::new(program);
        command.args(arguments).env("KUBECONFIG", kubeconfig);
        self.namespace.run(|| command.output()).unwrap().unwrap()
    }

    fn picket(&self, arguments: &[&str]) -> Output {
        let program = Path::new(env!("CARGO_BIN_EXE_picket"));
        self.run(program, &self.server.administrator(), arguments)
    }

    /// What it printed, when it could do its work.
    #[track_caller]
    fn says(&self, arguments: &[&str]) -> String {
        let output = self.picket(arguments);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() < Some(2), "{arguments:?}: {errors}");
        String::from_utf8(output.stdout).unwrap()
    }
}

#[test]
fn every_command_that_reads_objects_reads_the_cluster() {
    let world = World::new();
    let allowed = world.says(&["explain", "shop/web", "shop/db", "5432/tcp"]);
    assert!(allowed.contains("allowed"), "{allowed}");
    let denied = world.says(&["explain", "shop/web", "shop/db", "80/tcp", "-o", "json"]);
    assert!(denied.contains(r#""verdict":"deny""#), "{denied}");
    let rules = world.says(&["compile", "--node", "n1"]);
    assert!(
        rules.contains("10.0.0.2") && rules.contains("shop/db"),
        "{rules}"
    );
    let matrix = world.says(&["matrix", "--to", "shop/db", "-o", "json"]);
    assert!(matrix.contains("5432"), "{matrix}");
    // It allows no DNS, and no egress is isolated: there is nothing to find.
    let lint = world.picket(&["lint"]);
    assert_eq!(lint.status.code(), Some(0), "{lint:?}");
    world
        .server
        .apply(&OBJECTS[OBJECTS.rfind("apiVersion").unwrap()..].replace("app: web", "app: nobody"));
    let lint = world.picket(&["lint", "-o", "json"]);
    assert_eq!(lint.status.code(), Some(1), "{lint:?}");
    assert!(
        String::from_utf8_lossy(&lint.stdout).contains("shop"),
        "{lint:?}"
    );
}

#[test]
fn files_are_compared_with_the_cluster_that_they_would_be_applied_to() {
    let world = World::new();
    let folder = support::Folder::new("diff");
    let file = folder.path().join("new.yaml");
    let policy = &OBJECTS[OBJECTS.rfind("apiVersion").unwrap()..];
    let file_name = file.to_str().unwrap();
    fs::write(&file, policy).unwrap();
    let same = world.picket(&["diff", file_name, "--exit-code"]);
    assert_eq!(same.status.code(), Some(0), "{same:?}");
    fs::write(&file, policy.replace("5432", "80")).unwrap();
    let other = world.picket(&["diff", file_name, "--exit-code"]);
    assert_eq!(other.status.code(), Some(1), "{other:?}");
    let text = String::from_utf8(other.stdout).unwrap();
    assert!(text.contains("5432") && text.contains("80"), "{text}");
    // Nothing was applied.
    let still = world.says(&["explain", "shop/web", "shop/db", "5432/tcp"]);
    assert!(still.contains("allowed"), "{still}");
}

#[test]
fn names_without_a_namespace_are_of_the_contexts() {
    let world = World::new();
    let kubeconfig = world.server.administrator();
    let text = fs::read_to_string(&kubeconfig).unwrap();
    let mut config: serde_json::Value = serde_json::from_str(&text).unwrap();
    config["contexts"][0]["context"]["namespace"] = "shop".into();
    let folder = support::Folder::new("context");
    let with_namespace = folder.path().join("config");
    fs::write(&with_namespace, config.to_string()).unwrap();
    let name = with_namespace.to_str().unwrap();
    let ends = ["explain", "web", "db", "5432/tcp"];
    let told = world.says(&[&ends[..], &["--kubeconfig", name]].concat());
    assert!(told.contains("shop/web"), "{told}");
    let elsewhere = world.picket(&ends);
    assert_eq!(elsewhere.status.code(), Some(2));
}

#[test]
fn who_may_not_read_is_told_what() {
    let world = World::new();
    let rules = READ.map(|(group, name)| rule(group, name, &["list"]));
    let program = Path::new(env!("CARGO_BIN_EXE_picket"));
    let ask = ["explain", "shop/web", "shop/db", "5432/tcp"];
    let account = world.server.account("reader", &rules);
    let output = world.run(program, &account.kubeconfig, &ask);
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(0), "{errors}");
    assert!(errors.contains("Services are not known"), "{errors}");
    for (index, (_, name)) in READ.iter().enumerate() {
        let mut less = rules.to_vec();
        less.remove(index);
        world.server.permit(&account, &less);
        let output = world.run(program, &account.kubeconfig, &ask);
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{errors}");
        assert!(
            errors.contains(name) && errors.contains("forbidden"),
            "{errors}"
        );
    }
    let nobody = world.run(program, &world.server.nobody(), &ask);
    assert_eq!(nobody.status.code(), Some(2));
}

#[test]
fn without_a_cluster_files_are_asked_for() {
    let folder = support::Folder::new("none");
    let missing = folder.path().join("config");
    let program = env!("CARGO_BIN_EXE_picket");
    let mut command = Command::new(program);
    command.args(["lint"]).env("KUBECONFIG", &missing);
    command.env_remove("KUBERNETES_SERVICE_HOST");
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(
        errors.contains("-f") && errors.contains("no cluster is named"),
        "{errors}"
    );
}

#[test]
fn under_its_other_name_it_is_a_plugin_of_kubectl() {
    let folder = support::Folder::new("plugin");
    let plugin = folder.path().join("kubectl-picket");
    symlink(env!("CARGO_BIN_EXE_picket"), &plugin).unwrap();
    let help = Command::new(&plugin)
        .args(["explain", "--help"])
        .output()
        .unwrap();
    let text = String::from_utf8(help.stdout).unwrap();
    assert!(text.contains("Usage: kubectl picket explain"), "{text}");
    let world = World::new();
    let ask = ["explain", "shop/web", "shop/db", "5432/tcp"];
    let told = world.run(&plugin, &world.server.administrator(), &ask);
    assert!(String::from_utf8(told.stdout).unwrap().contains("allowed"));
}
