//! The image on a node, beside a bridge: agent, installer and what removes them, each with the rights that the chart gives
//! it. When all is uninstalled, nothing of it is left.

use std::collections::BTreeMap;
use std::fs;
use std::net::IpAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use runtimes::Pod;

use super::{NAME, Recorded, ctr, done, imported, run};

/// How long what comes about by itself may take on a machine that is busy.
const PATIENCE: Duration = Duration::from_secs(60);

/// What containerd gives a container that is not told otherwise.
const DEFAULT_CAPABILITIES: &[&str] = &[
    "CHOWN",
    "DAC_OVERRIDE",
    "FSETID",
    "FOWNER",
    "MKNOD",
    "NET_RAW",
    "SETGID",
    "SETUID",
    "SETFCAP",
    "SETPCAP",
    "NET_BIND_SERVICE",
    "SYS_CHROOT",
    "KILL",
    "AUDIT_WRITE",
];

const CONFIGURATIONS: &str = "/run/cni/pods.d";
const PLUGINS: &str = "/run/cni/bin";
const RUN_DIR: &str = "/run/picket";
const MANIFESTS: &str = "/run/manifests";

const OBJECTS: &str = "
apiVersion: v1
kind: Namespace
metadata: {name: shop}
---
apiVersion: v1
kind: Node
metadata: {name: n1}
status: {addresses: [{type: InternalIP, address: 192.168.7.1}]}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {namespace: shop, name: clients}
spec:
  podSelector: {matchLabels: {app: client}}
  policyTypes: [Egress]
  egress:
  - to: [{podSelector: {matchLabels: {app: allowed}}}]
";

#[track_caller]
fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Options for a container on the node's network, with these capabilities and these folders of the node.
fn rights(capabilities: &[&str], folders: &[&str]) -> Vec<String> {
    let mut options = vec!["--net-host".to_owned()];
    for dropped in DEFAULT_CAPABILITIES {
        options.extend(["--cap-drop".to_owned(), format!("CAP_{dropped}")]);
    }
    for added in capabilities {
        options.extend(["--cap-add".to_owned(), format!("CAP_{added}")]);
    }
    for folder in folders {
        let mount = format!("type=bind,src={folder},dst={folder},options=rbind:rw");
        options.extend(["--mount".to_owned(), mount]);
    }
    options
}

/// Starts a program of the image that goes on.
fn start(recorded: &Recorded, id: &str, rights: &[String], argv: &[&str]) {
    let log = format!("file:///run/{id}.log");
    let mut arguments = vec![
        "run",
        "--detach",
        "--read-only",
        "--cgroup",
        "",
        "--seccomp",
    ];
    arguments.extend(["--log-uri", &log]);
    arguments.extend(rights.iter().map(String::as_str));
    arguments.extend([NAME, id]);
    arguments.extend(argv);
    done(ctr(recorded, &arguments));
}

fn log(recorded: &Recorded, id: &str) -> String {
    let path = recorded.runtimes.node().path(format!("/run/{id}.log"));
    fs::read_to_string(path).unwrap_or_default()
}

/// Ends it as a kubelet does.
fn stop(recorded: &Recorded, id: &str) {
    done(ctr(recorded, &["tasks", "kill", "--signal", "SIGTERM", id]));
    eventually("it has ended", || {
        let tasks = done(ctr(recorded, &["tasks", "ls"]));
        let mut lines = tasks.lines().filter(|line| line.starts_with(id));
        lines.all(|line| line.contains("STOPPED"))
    });
    done(ctr(recorded, &["tasks", "rm", id]));
    done(ctr(recorded, &["containers", "rm", id]));
}

/// Runs a program of the image to its end.
fn once(recorded: &Recorded, id: &str, rights: &[String], argv: &[&str]) -> String {
    let rights: Vec<_> = rights.iter().map(String::as_str).collect();
    done(run(recorded, id, &rights, argv))
}

fn list(recorded: &Recorded, name: &str, app: &str) {
    let text = format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{namespace: shop, name: {name}, uid: uid-{name}, labels: {{app: {app}}}}}\n\
         spec: {{nodeName: n1, containers: [{{name: c, image: registry.example/c:1}}]}}\nstatus: {{phase: Pending}}\n"
    );
    let folder = recorded.runtimes.node().path(MANIFESTS);
    fs::write(folder.join(format!("{name}.yaml")), text).unwrap();
}

fn pod<'a>(recorded: &'a Recorded, name: &str) -> Pod<'a> {
    let containerd = recorded.runtimes.containerd();
    let pod = containerd.run_pod("shop", name, &format!("uid-{name}"), &recorded.bridge);
    pod.unwrap_or_else(|error| panic!("{error}\n{}", log(recorded, "agent")))
}

/// Files with their content, interfaces with their tags, and rules.
fn seen(recorded: &Recorded) -> BTreeMap<String, String> {
    let node = recorded.runtimes.node();
    let mut seen = BTreeMap::new();
    for folder in ["/run/cni", RUN_DIR] {
        files(&node.path(folder), folder, &mut seen);
    }
    let network = node.network();
    seen.insert("rules".to_owned(), network.nft("list ruleset").unwrap());
    let links = network.ip(&["-json", "-details", "link"]).unwrap();
    let links: Vec<serde_json::Value> = serde_json::from_str(&links).unwrap();
    for link in links {
        let tags = format!("{} {}", link["group"], link["ifalias"]);
        seen.insert(link["ifname"].to_string(), tags);
    }
    seen
}

fn files(folder: &Path, name: &str, seen: &mut BTreeMap<String, String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let name = format!("{name}/{}", entry.file_name().display());
        if entry.file_type().unwrap().is_dir() {
            seen.insert(name.clone(), String::new());
            files(&entry.path(), &name, seen);
        } else {
            let content = fs::read(entry.path()).unwrap_or_default();
            seen.insert(name, super::digest(&content));
        }
    }
}

#[test]
fn a_node_is_protected_and_when_all_is_uninstalled_it_is_as_it_was() {
    let recorded = imported();
    let node = recorded.runtimes.node();
    for folder in [RUN_DIR, MANIFESTS] {
        fs::create_dir_all(node.path(folder)).unwrap();
    }
    // The first pod makes the bridge, which stays.
    pod(&recorded, "first").remove().unwrap();
    let before = seen(&recorded);

    fs::write(node.path(MANIFESTS).join("base.yaml"), OBJECTS).unwrap();
    for (name, app) in [
        ("probe", "probe"),
        ("denied", "denied"),
        ("allowed", "allowed"),
        ("client", "client"),
    ] {
        list(&recorded, name, app);
    }
    let enforcer = rights(&["NET_ADMIN"], &[RUN_DIR, MANIFESTS]);
    let agent = [
        "/picket",
        "agent",
        "--node",
        "n1",
        "--manifests",
        MANIFESTS,
        "--run-dir",
        RUN_DIR,
    ];
    start(&recorded, "agent", &enforcer, &agent);
    let installer = rights(&[], &[CONFIGURATIONS, PLUGINS]);
    let folders = ["--conf-dir", CONFIGURATIONS, "--bin-dir", PLUGINS];
    let verb = |verb| [&["/picket", "cni", verb][..], &folders].concat();
    start(&recorded, "watch", &installer, &verb("watch"));
    let list = node.path(CONFIGURATIONS).join("pods.conflist");
    eventually("the plugin is in the list", || {
        fs::read_to_string(&list).unwrap().contains("picket-cni")
    });
    once(&recorded, "status", &installer, &verb("status"));
    // containerd hears of the list a moment later.
    let attachments = node.path(RUN_DIR).join("attachments");
    eventually("a pod is attached by it", || {
        let pod = pod(&recorded, "probe");
        let records = fs::read_dir(&attachments).into_iter().flatten().count();
        pod.remove().unwrap();
        records > 0
    });

    let pods = ["denied", "allowed", "client"].map(|name| pod(&recorded, name));
    let [denied, allowed, client] = &pods;
    let containers = pods
        .each_ref()
        .map(|pod| pod.create_container("c", &["sleep", "10000"]).unwrap());
    let reaches = |to: &Pod<'_>| {
        let answers = |address: &IpAddr| {
            let argv = ["ping", "-c", "1", "-W", "2", &address.to_string()];
            containers[2].exec(&argv).unwrap().code == 0
        };
        let addresses = to.status().unwrap().addresses;
        assert_eq!(addresses.len(), 2);
        let answers: Vec<_> = addresses.iter().map(answers).collect();
        assert_eq!(answers[0], answers[1], "both families");
        answers[0]
    };
    assert!(client.status().unwrap().ready);
    assert!(reaches(allowed), "{}", log(&recorded, "agent"));
    assert!(!reaches(denied), "{}", log(&recorded, "agent"));

    stop(&recorded, "watch");
    let purge = ["--purge", "--purge-after-seconds", "0"];
    let uninstall = [&verb("uninstall")[..], &purge].concat();
    once(&recorded, "uninstall", &installer, &uninstall);
    assert!(!reaches(denied), "the agent is there");
    stop(&recorded, "agent");
    assert!(!reaches(denied), "its rules are there");
    let cleanup = ["/picket", "cleanup", "--run-dir", RUN_DIR, "--wait", "1m"];
    once(
        &recorded,
        "cleanup",
        &rights(&["NET_ADMIN"], &[RUN_DIR]),
        &cleanup,
    );
    assert!(reaches(denied), "there are no rules");
    for pod in &pods {
        // Until containerd has heard that the plugin is no longer in the list.
        eventually("the pod is gone", || pod.remove().is_ok());
    }
    assert_eq!(seen(&recorded), before);
}
