//! The plugin's entry in a runtime's list, as the chart's containers put it there.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::api_server::PATIENCE;
use crate::container::{command, named};
use crate::helm::{object, objects};
use crate::live::{Agent, Live};
use crate::meaning::pod;
use crate::support::Folder;

const LIST: &str = r#"{"cniVersion":"1.0.0","name":"n","plugins":[{"type":"bridge"}]}"#;

/// In the image the plugin is beside the program.
const PLUGIN: &str = "#!/bin/sh
echo '{\"supportedVersions\":[\"0.3.0\",\"0.3.1\",\"0.4.0\",\"1.0.0\",\"1.1.0\"]}'
";

/// The folders of a node, whose runtime has no configuration yet.
struct Node(Folder);

impl Node {
    fn new() -> Self {
        let node = Self(Folder::new("node"));
        for folder in ["conf", "bin"] {
            fs::create_dir(node.path(folder)).unwrap();
        }
        fs::write(node.path("plugin"), PLUGIN).unwrap();
        fs::set_permissions(node.path("plugin"), fs::Permissions::from_mode(0o755)).unwrap();
        node
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// The chart's objects for it.
    fn objects(&self, values: &[&str]) -> Vec<Value> {
        let folder = |value: &str, name| format!("{value}={}", self.path(name).display());
        let folders = [folder("cni.confDir", "conf"), folder("cni.binDir", "bin")];
        let folders = folders.iter().map(String::as_str);
        objects(&folders.chain(values.iter().copied()).collect::<Vec<_>>())
    }

    fn watch(&self, objects: &[Value]) -> Watch {
        let spec = pod(object(objects, "DaemonSet", "picket")).unwrap();
        let mut watch = command(named(spec, "watch-cni"));
        watch.arg("--plugin").arg(self.path("plugin"));
        Watch(watch.spawn().unwrap())
    }

    fn entry(&self) -> Option<Value> {
        let list = fs::read(self.path("conf/10-main.conflist")).ok()?;
        let list: Value = serde_json::from_slice(&list).ok()?;
        Some(list["plugins"].as_array()?.get(1)?.clone())
    }

    /// The main plugin writes its configuration, and ours follows.
    fn configure(&self) {
        fs::write(self.path("conf/10-main.conflist"), LIST).unwrap();
        until("there is an entry", || self.entry().is_some());
    }
}

fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(
            Instant::now() < deadline,
            "it does not come to it that {what}"
        );
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// `picket cni watch`, killed at the latest with the test.
struct Watch(Child);

impl Watch {
    fn terminate(&mut self) {
        kill(Pid::from_raw(self.0.id().cast_signed()), Signal::SIGTERM).unwrap();
        assert!(self.0.wait().unwrap().success());
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// That of an update too: whatever follows finds the entry.
#[test]
fn the_watch_needs_no_capability_and_leaves_the_entry_when_it_ends() {
    let node = Node::new();
    let objects = node.objects(&[
        "cni.onAgentUnavailable=quarantine",
        "cni.timeoutSeconds=7",
        "cni.excludeNamespaces={a,b}",
    ]);
    let mut watch = node.watch(&objects);
    node.configure();
    let expected = json!({
        "type": "picket-cni",
        "runDir": "/run/picket",
        "timeoutSeconds": 7,
        "onAgentUnavailable": "quarantine",
        "excludeNamespaces": ["a", "b"],
    });
    assert_eq!(node.entry(), Some(expected.clone()));
    // What the readiness probe asks.
    let spec = pod(object(&objects, "DaemonSet", "picket")).unwrap();
    let probe = &named(spec, "watch-cni")["readinessProbe"]["exec"]["command"];
    let probe: Vec<_> = probe.as_array().unwrap()[1..].iter().collect();
    let is_ready = || {
        let mut status = Command::new(env!("CARGO_BIN_EXE_picket"));
        status.args(probe.iter().map(|text| text.as_str().unwrap()));
        status.arg("--plugin").arg(node.path("plugin"));
        status.status().unwrap().code()
    };
    assert_eq!(is_ready(), Some(0));
    watch.terminate();
    assert_eq!(node.entry(), Some(expected));
    assert!(node.path("bin/picket-cni").exists());
    fs::write(node.path("conf/10-main.conflist"), LIST).unwrap();
    assert_eq!(is_ready(), Some(1));
}

/// As the hook of `helm uninstall` does it on each node: both containers wait for the agent's pod.
#[test]
fn what_cleans_a_node_up_waits_for_the_agent_and_leaves_nothing() {
    let mut live = Live::new(&[]);
    let node = Node::new();
    let run_dir = format!("agent.runDir={}", live.run_dir.path().display());
    let objects = node.objects(&[&run_dir, "cleanup.purgeAfterSeconds=1"]);
    let spec = pod(object(&objects, "DaemonSet", "picket")).unwrap();
    let mut agent = command(named(spec, "agent"));
    agent.arg("--manifests").arg(live.manifests.path());
    let mut agent = Agent::spawn(&live.world.node, agent, |_| {});
    live.until("everything is in force", &agent, |_| {
        agent.log().contains("in force")
    });
    let mut watch = node.watch(&objects);
    node.configure();

    let cleanup = pod(object(&objects, "DaemonSet", "picket-cleanup")).unwrap();
    let mut output = Vec::new();
    for name in ["uninstall-cni", "cleanup"] {
        let mut command = command(named(cleanup, name));
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut container = live.world.node.run(|| command.spawn()).unwrap().unwrap();
        // It says that it waits.
        let mut line = String::new();
        let mut said = BufReader::new(container.stderr.take().unwrap());
        said.read_line(&mut line).unwrap();
        assert!(line.contains("waiting for it to end"), "{name}: {line}");
        match name {
            "uninstall-cni" => {
                assert!(node.entry().is_some());
                watch.terminate();
            }
            _ => {
                agent.signal(Signal::SIGTERM);
                assert_eq!(agent.wait(), Some(0));
            }
        }
        let ended = container.wait_with_output().unwrap();
        assert!(ended.status.success(), "{name}");
        output.extend(ended.stdout);
    }
    assert_eq!(node.entry(), None);
    assert!(!node.path("bin/picket-cni").exists());
    assert!(!live.run_dir.path().exists());
    let left = live.world.node.nft("list tables").unwrap();
    assert!(!left.contains("picket"), "{left}");
    let output = String::from_utf8(output).unwrap();
    assert!(output.contains("removed table inet picket"), "{output}");
}
