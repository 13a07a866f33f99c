//! An agent, its node, and an API server on it.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use k8s_openapi::api::rbac::v1::PolicyRule;
use testbed::Namespace;

use crate::api_server::{Account, ApiServer, PATIENCE, rule};
use crate::live::{Agent, Live};
use crate::manifests::{self, NODE};

/// API group, resource and verb.
pub(crate) type Right = (&'static str, &'static str, &'static str);

/// And to send Events.
pub(crate) const EVENTS: [Right; 2] = [
    ("events.k8s.io", "events", "create"),
    ("events.k8s.io", "events", "patch"),
];

/// What an agent needs to be allowed to enforce.
pub(crate) const RIGHTS: [Right; 8] = [
    ("", "namespaces", "list"),
    ("", "namespaces", "watch"),
    ("", "nodes", "list"),
    ("", "nodes", "watch"),
    ("", "pods", "list"),
    ("", "pods", "watch"),
    ("networking.k8s.io", "networkpolicies", "list"),
    ("networking.k8s.io", "networkpolicies", "watch"),
];

/// All that an agent asks to be allowed, but for these.
pub(crate) fn without(missing: &[Right]) -> Vec<PolicyRule> {
    let rights = RIGHTS.iter().chain(&EVENTS);
    let rights: Vec<_> = rights
        .filter(|right| !missing.contains(right))
        .copied()
        .collect();
    rules(&rights)
}

pub(crate) fn rules(rights: &[Right]) -> Vec<PolicyRule> {
    let rules = rights.iter();
    rules
        .map(|(group, resource, verb)| rule(group, resource, &[verb]))
        .collect()
}

/// An agent in the network namespace, as this account.
pub(crate) fn start(node: &Namespace, account: &Account, run_dir: &Path) -> Agent {
    start_with(node, account, run_dir, &[])
}

fn start_with(node: &Namespace, account: &Account, run_dir: &Path, arguments: &[String]) -> Agent {
    let mut command = Command::new(env!("CARGO_BIN_EXE_picket"));
    command.args(["agent", "--node", NODE, "--kubeconfig"]);
    command.arg(&account.kubeconfig);
    command.arg("--run-dir").arg(run_dir).args(arguments);
    Agent::spawn(node, command, |_| {})
}

/// A node through which packets flow. What its files say is what the API server was told.
pub(crate) struct Cluster {
    pub(crate) live: Live,
    pub(crate) server: ApiServer,
    pub(crate) account: Account,
}

impl Cluster {
    /// With what always holds, and no agent yet.
    pub(crate) fn new() -> Self {
        Self::with(&[])
    }

    /// The same; its agents have these arguments too.
    pub(crate) fn with(arguments: &[&str]) -> Self {
        let live = Live::new(arguments);
        let server = ApiServer::start(&live.world.node);
        server.apply(&manifests::base());
        let account = server.account("agent", &without(&[]));
        Self {
            live,
            server,
            account,
        }
    }

    pub(crate) fn start(&self) -> Agent {
        start_with(
            &self.live.world.node,
            &self.account,
            self.live.run_dir.path(),
            &self.live.arguments,
        )
    }

    pub(crate) fn put(&mut self, name: &str, text: &str) {
        self.server.apply(text);
        self.live.files.insert(name.to_owned(), text.to_owned());
    }

    pub(crate) fn remove(&mut self, name: &str) {
        self.server.delete(&self.live.files.remove(name).unwrap());
    }

    /// Waits until the kernel holds what the API server was told.
    pub(crate) fn quiet(&mut self, agent: &Agent) {
        let wanted = self.live.wanted();
        let holds = |cluster: &mut Self| cluster.live.held() == wanted;
        self.until(
            "the kernel holds what the API server was told",
            agent,
            holds,
        );
    }

    pub(crate) fn is_ready(&self) -> bool {
        let answer = self.live.get("/readyz");
        answer.is_some_and(|(status, _)| status == 200)
    }

    /// Whether it need not be started anew, as a kubelet asks.
    pub(crate) fn lives(&self) -> bool {
        let answer = self.live.get("/healthz");
        answer.is_some_and(|(status, _)| status == 200)
    }

    /// Whether nothing is wrong, and what is.
    pub(crate) fn status(&self) -> (bool, String) {
        let status = self.live.run(&["status"]);
        let text = String::from_utf8(status.stdout).unwrap();
        (status.status.success(), text)
    }

    /// Waits for something. An agent whose attempts came to nothing pauses for up to half a minute.
    #[track_caller]
    pub(crate) fn until(
        &mut self,
        what: &str,
        agent: &Agent,
        mut condition: impl FnMut(&mut Self) -> bool,
    ) {
        let deadline = Instant::now() + PATIENCE;
        while !condition(self) {
            assert!(
                Instant::now() < deadline,
                "it does not come to it that {what}:\n{}\n{}",
                self.status().1,
                agent.log()
            );
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// An agent that has applied everything.
    pub(crate) fn started(&mut self) -> Agent {
        let agent = self.start();
        self.until("it is ready", &agent, |cluster| cluster.is_ready());
        self.quiet(&agent);
        agent
    }
}
