//! An API server, and helm and kubectl before it. No controller runs: nothing that a DaemonSet or a Job asks for is done.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use testbed::Namespace;

use crate::api_server::{ApiServer, PATIENCE};
use crate::helm::{HELMS, NAMESPACE, helm, run, said, tool};
use crate::support::Folder;

/// An API server in a network namespace, and who installs charts there.
pub(crate) struct Cluster<'a> {
    pub(crate) server: ApiServer,
    /// Which of [`HELMS`].
    pub(crate) helm: &'static str,
    /// Where the release is.
    pub(crate) namespace: &'static str,
    node: &'a Namespace,
    home: Folder,
}

impl<'a> Cluster<'a> {
    pub(crate) fn new(node: &'a Namespace) -> Self {
        Self {
            server: ApiServer::start(node),
            helm: HELMS[0],
            namespace: NAMESPACE,
            node,
            home: Folder::new("helm"),
        }
    }

    fn run(&self, mut command: Command) -> Result<String, String> {
        command.arg("--kubeconfig").arg(self.server.administrator());
        self.node.run(|| run(&mut command)).unwrap()
    }

    /// Helm with these arguments.
    pub(crate) fn helm(&self, arguments: &[&str]) -> Result<String, String> {
        let mut helm = helm(self.helm, &self.home);
        helm.args(arguments);
        self.run(helm)
    }

    /// Helm with these arguments for the release `picket`.
    pub(crate) fn release(&self, command: &str, arguments: &[&str]) -> Result<String, String> {
        let to_release = [command, "picket", "--namespace", self.namespace];
        self.helm(&[&to_release, arguments].concat())
    }

    /// Kubectl with these arguments.
    pub(crate) fn kubectl(&self, arguments: &[&str]) -> Result<String, String> {
        let mut kubectl = Command::new(tool("kubectl"));
        kubectl.env("HOME", self.home.path()).args(arguments);
        self.run(kubectl)
    }

    /// An object of the release's namespace, if it is there.
    pub(crate) fn get(&self, kind: &str, name: &str) -> Option<Value> {
        let options = ["-o", "json", "--ignore-not-found", "-n", self.namespace];
        let found = self.kubectl(&[&["get", kind, name], &options[..]].concat());
        let found = found.unwrap();
        (!found.trim().is_empty()).then(|| serde_json::from_str(&found).unwrap())
    }

    /// All objects that there are but those that come by themselves, by kind, namespace and name.
    pub(crate) fn everything(&self) -> BTreeSet<String> {
        let kinds = self.kubectl(&["api-resources", "--verbs=list", "-o", "name"]);
        let kinds = kinds.unwrap();
        // Of the API server itself, or only recorded.
        let own = [
            "events",
            "events.events.k8s.io",
            "leases.coordination.k8s.io",
        ];
        let kinds: Vec<_> = kinds.lines().filter(|kind| !own.contains(kind)).collect();
        assert!(kinds.len() > 30, "{kinds:?}");
        let template =
            "{range .items[*]}{.kind} {.metadata.namespace} {.metadata.name}{\"\\n\"}{end}";
        let output = format!("jsonpath={template}");
        let all = self.kubectl(&["get", &kinds.join(","), "-A", "-o", &output]);
        all.unwrap().lines().map(str::to_owned).collect()
    }

    /// A shell with the programs of this cluster, which is its own.
    pub(crate) fn shell(&self) -> Command {
        let programs = self.home.path().join("bin");
        std::fs::create_dir_all(&programs).unwrap();
        for (name, program) in [("helm", self.helm), ("kubectl", "kubectl")] {
            let link = programs.join(name);
            let _ = std::fs::remove_file(&link);
            std::os::unix::fs::symlink(tool(program), link).unwrap();
        }
        let path = std::env::var("PATH").unwrap();
        let mut bash = Command::new("bash");
        // What helm would keep of this machine's user.
        bash.envs(
            helm(self.helm, &self.home)
                .get_envs()
                .filter_map(|(key, value)| Some((key, value?))),
        );
        bash.env("PATH", format!("{}:{path}", programs.display()));
        bash.env("KUBECONFIG", self.server.administrator());
        bash
    }

    /// Waits for something that somebody else does.
    #[track_caller]
    pub(crate) fn until<T>(&self, what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(outcome) = condition() {
                return outcome;
            }
            assert!(
                Instant::now() < deadline,
                "it does not come to it that {what}"
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Says of a Job what its controller would say when its pod has ended.
    pub(crate) fn end_job(&self, name: &str, succeeded: bool) {
        let time = "2026-01-01T00:00:00Z";
        let condition = |kind: &str| json!({"type": kind, "status": "True", "reason": "Test", "lastTransitionTime": time});
        let status = match succeeded {
            true => json!({
                "startTime": time, "completionTime": time, "succeeded": 1,
                "uncountedTerminatedPods": {},
                "conditions": [condition("SuccessCriteriaMet"), condition("Complete")],
            }),
            false => json!({
                "startTime": time, "failed": 1, "uncountedTerminatedPods": {},
                "conditions": [condition("FailureTarget"), condition("Failed")],
            }),
        };
        self.patch_status("job", name, &json!({"status": status}));
    }

    /// What a controller would say of an object of the release's namespace.
    pub(crate) fn patch_status(&self, kind: &str, name: &str, status: &Value) {
        let object = ["patch", kind, name, "-n", self.namespace];
        let status = status.to_string();
        let patch = ["--subresource=status", "--type=merge", "-p", &status];
        self.kubectl(&[&object, &patch[..]].concat()).unwrap();
    }

    /// Deletes an object of the release's namespace, of one kind or several.
    pub(crate) fn delete(&self, kind: &str, name: &str) {
        let object = [
            "delete",
            kind,
            name,
            "-n",
            self.namespace,
            "--ignore-not-found",
        ];
        self.kubectl(&object).unwrap();
    }

    /// An object in a file.
    pub(crate) fn write(&self, name: &str, object: &Value) -> PathBuf {
        let path = self.home.path().join(name);
        std::fs::write(&path, object.to_string()).unwrap();
        path
    }

    /// A kubeconfig for a service account of the release's namespace.
    pub(crate) fn kubeconfig_of(&self, account: &str) -> PathBuf {
        let token = self.kubectl(&["create", "token", account, "-n", self.namespace]);
        let administrator = std::fs::read_to_string(self.server.administrator()).unwrap();
        let mut kubeconfig: Value = serde_json::from_str(&administrator).unwrap();
        kubeconfig["users"][0]["user"] = json!({"token": token.unwrap().trim()});
        let path = self.home.path().join(format!("{account}.kubeconfig"));
        std::fs::write(&path, kubeconfig.to_string()).unwrap();
        path
    }

    /// Runs helm while somebody else does what makes it end.
    pub(crate) fn while_helm(
        &self,
        command: &str,
        arguments: &[&str],
        work: impl FnOnce(),
    ) -> Result<String, String> {
        let mut helm = helm(self.helm, &self.home);
        helm.args([command, "picket", "--namespace", self.namespace]);
        helm.args(arguments).arg("--kubeconfig");
        helm.arg(self.server.administrator());
        helm.stdout(Stdio::piped()).stderr(Stdio::piped());
        let started = self.node.run(|| helm.spawn()).unwrap().unwrap();
        let mut running = Running(Some(started));
        work();
        said(&running.0.take().unwrap().wait_with_output().unwrap())
    }
}

/// A process that ends with a test that fails.
struct Running(Option<Child>);

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
