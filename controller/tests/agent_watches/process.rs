//! The agent as a process, in a network namespace that has an API server.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use controller::kubernetes::Resource;
use serde_json::Value;
use testbed::Namespace;
use tokio::net::TcpListener;
use tokio::time::{Instant, sleep};

use super::rotation::{Server, folder, kubeconfig};
use super::world::{NODE, pod, policy};

/// A process, killed at the latest with the test.
struct Agent {
    child: Child,
    namespace: Namespace,
    folder: PathBuf,
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Agent {
    /// On a node of this name.
    fn start(namespace: Namespace, folder: &Path, node: &str) -> Self {
        let log = fs::File::create(folder.join("log")).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_picket"));
        command.args(["agent", "--node", node, "--kubeconfig"]);
        command.arg(folder.join("config"));
        command.arg("--run-dir").arg(folder.join("run"));
        command.stdin(Stdio::null()).stderr(log);
        Self {
            child: namespace.run(|| command.spawn()).unwrap().unwrap(),
            namespace,
            folder: folder.to_owned(),
        }
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.join("log")).unwrap()
    }

    /// What another command prints on stdout.
    fn picket(&self, arguments: &[&str]) -> String {
        let mut command = Command::new(env!("CARGO_BIN_EXE_picket"));
        command.args(arguments);
        command.arg("--run-dir").arg(self.folder.join("run"));
        let output = self.namespace.run(|| command.output()).unwrap().unwrap();
        String::from_utf8(output.stdout).unwrap()
    }

    fn status(&self) -> Value {
        serde_json::from_str(&self.picket(&["status", "-o", "json"])).unwrap_or_default()
    }

    async fn until(&self, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let status = self.status();
            if holds(&status) {
                return status;
            }
            assert!(
                Instant::now() < deadline,
                "{what}: {status:#}\n{}",
                self.log()
            );
            sleep(Duration::from_millis(20)).await;
        }
    }
}

async fn server(namespace: &Namespace, folder: &Path) -> Server {
    let bind = || {
        let up = ["link", "set", "lo", "up"];
        assert!(Command::new("ip").args(up).status()?.success());
        std::net::TcpListener::bind("127.0.0.1:0")
    };
    let listener = namespace.run(bind).unwrap().expect("this test needs root");
    listener.set_nonblocking(true).unwrap();
    let server = Server::on(TcpListener::from_std(listener).unwrap());
    let text = kubeconfig(&format!("http://{}", server.address), "", "token: t");
    fs::write(folder.join("config"), text).unwrap();
    server
}

#[tokio::test]
async fn an_agent_enforces_what_an_api_server_says_and_goes_on_without_it() {
    let namespace = Namespace::new().unwrap();
    let folder = folder("process");
    let server = server(&namespace, &folder).await;
    let agent = Agent::start(namespace, &folder, NODE);
    let is_ready =
        |status: &Value| status["ready"] == true && status["problems"] == Value::Array(Vec::new());
    let status = agent.until("ready", is_ready).await;
    let counts = &status["counts"];
    assert_eq!(
        (&counts["policies"], &counts["local_pods"]),
        (&1.into(), &1.into())
    );
    assert!(agent.picket(&["dump", "rules"]).contains("10.0.0.1"));
    let denied = ["explain", "--live", "10.9.9.9", "shop/web", "81/tcp"];
    assert!(
        agent.picket(&denied).contains("is denied"),
        "{}",
        agent.picket(&denied)
    );

    server.double.put(Resource::Pods, pod("api", "10.0.0.2"));
    server.double.put(Resource::NetworkPolicies, policy("api"));
    let has_two =
        |status: &Value| status["counts"]["policies"] == 2 && status["counts"]["local_pods"] == 2;
    agent.until("two policies", has_two).await;

    // A policy that says nothing that can be read closes what it selects.
    let mut bad = policy("bad");
    bad["spec"]["podSelector"]["matchLabels"]["app"] = "api".into();
    bad["spec"]["ingress"] = "anything".into();
    server.double.put(Resource::NetworkPolicies, bad);
    let names_it = |status: &Value| {
        let problems = status["problems"].as_array().cloned().unwrap_or_default();
        problems
            .iter()
            .any(|problem| problem["of"] == "NetworkPolicy shop/bad")
    };
    agent.until("a bad policy", names_it).await;
    server.double.remove(Resource::NetworkPolicies, "shop/bad");
    agent.until("none", is_ready).await;

    let rules = agent.picket(&["dump", "rules"]);
    server.knows("another");
    let is_away = |status: &Value| {
        let problems = status["problems"].as_array().cloned().unwrap_or_default();
        let away = |problem: &Value| problem["of"] == "pods" && problem["blocks"] == false;
        status["ready"] == true && status["well"] == false && problems.iter().any(away)
    };
    agent.until("away", is_away).await;
    assert_eq!(agent.picket(&["dump", "rules"]), rules);
    server.knows("t");
    agent.until("well", is_ready).await;
}

#[tokio::test]
async fn an_agent_of_a_node_that_the_cluster_does_not_have_applies_nothing() {
    let namespace = Namespace::new().unwrap();
    let folder = folder("process-node");
    let _server = server(&namespace, &folder).await;
    let agent = Agent::start(namespace, &folder, "nod-1");
    let says_so = |status: &Value| {
        let reason = status["unready"].as_str().unwrap_or_default();
        reason.contains("there is no Node nod-1")
    };
    let status = agent.until("no node", says_so).await;
    assert_eq!(status["ready"], false);
}
