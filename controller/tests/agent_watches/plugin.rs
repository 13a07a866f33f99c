//! Credential plugins that work, fail and hang, over real sockets.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{fs, io};

use controller::agent::source::Event;
use controller::kubernetes::{Access, Client, Error, Resource};
use jiff::Timestamp;
use tokio::time::{Instant, sleep};

use super::rotation::{Server, folder, kubeconfig, until, until_pod, until_well, watch};
use super::world::pod;

/// A plugin whose tokens are in a file, and what it does instead if there are others.
const SCRIPT: &str = r#"#!/bin/sh
cd "$(dirname "$0")"
echo "$KUBERNETES_EXEC_INFO" >> runs
if [ -e fails ]; then cat fails >&2; exit 3; fi
if [ -e hangs ]; then sleep 600; fi
cat answer
"#;

/// A kubeconfig of a user whom a plugin makes known.
struct Plugin(PathBuf);

impl Plugin {
    fn new(name: &str, server: &str) -> Self {
        let folder = folder(name);
        let command = folder.join("plugin");
        fs::write(&command, SCRIPT).unwrap();
        fs::set_permissions(&command, PermissionsExt::from_mode(0o755)).unwrap();
        let user = format!(
            "exec: {{apiVersion: client.authentication.k8s.io/v1, interactiveMode: IfAvailable, command: '{}'}}",
            command.display()
        );
        fs::write(folder.join("config"), kubeconfig(server, "", &user)).unwrap();
        Self(folder)
    }

    fn access(&self) -> Access {
        Access::Kubeconfig {
            path: self.0.join("config"),
            context: None,
        }
    }

    /// What it gives, and for how long.
    fn gives(&self, token: &str, life: Duration) {
        let until = Timestamp::now() + life;
        let answer = serde_json::json!({
            "apiVersion": "client.authentication.k8s.io/v1",
            "kind": "ExecCredential",
            "status": {"token": token, "expirationTimestamp": until.to_string()},
        });
        // Whoever reads it meanwhile reads all of the one or of the other.
        fs::write(self.0.join("new"), answer.to_string()).unwrap();
        fs::rename(self.0.join("new"), self.0.join("answer")).unwrap();
    }

    /// No time passes, by the test's clock, until it has begun to run so often.
    fn holds_the_clock(&self, runs: usize) {
        let plugin = Self(self.0.clone());
        // While something blocks, a clock that is paused stands still.
        tokio::task::spawn_blocking(move || {
            let deadline = std::time::Instant::now() + Duration::from_secs(30);
            while plugin.runs().len() < runs && std::time::Instant::now() < deadline {
                std::thread::sleep(Duration::from_millis(5));
            }
        });
    }

    /// What it was told each time that it ran.
    fn runs(&self) -> Vec<String> {
        let runs = fs::read_to_string(self.0.join("runs")).unwrap_or_default();
        runs.lines().map(str::to_owned).collect()
    }
}

const HOUR: Duration = Duration::from_secs(3600);

#[tokio::test]
async fn a_token_of_a_plugin_is_renewed_before_it_ends() {
    let server = Server::start().await;
    let plugin = Plugin::new("plugin", &format!("http://{}", server.address));
    plugin.gives("one", Duration::from_secs(4));
    server.knows("one");
    let mut watches = watch(plugin.access()).await;
    let is_start = |event: &Event| matches!(event, Event::Reset(_));
    until(&mut watches, "a start", is_start).await;
    let runs = plugin.runs();
    assert_eq!(runs.len(), 1, "{runs:?}");
    let told: serde_json::Value = serde_json::from_str(&runs[0]).unwrap();
    assert_eq!(told["spec"]["interactive"], false);
    assert_eq!(told["kind"], "ExecCredential");

    plugin.gives("two", HOUR);
    server.learns("two");
    let since = Instant::now();
    while plugin.runs().len() == 1 {
        assert!(
            since.elapsed() < Duration::from_secs(60),
            "it is not renewed"
        );
        server.double.end(false);
        sleep(Duration::from_millis(50)).await;
    }
    server.knows("two");
    server.double.put(Resource::Pods, pod("later", "10.0.0.77"));
    let is_later = |event: &Event| {
        let text = format!("{event:?}");
        assert!(!text.contains("does not know us"), "{text}");
        text.contains("later")
    };
    until(&mut watches, "a pod", is_later).await;
    assert_eq!(plugin.runs().len(), 2);
}

#[tokio::test]
async fn a_plugin_that_fails_is_named_and_tried_again_and_what_was_known_stays() {
    let server = Server::start().await;
    let plugin = Plugin::new("plugin-fails", &format!("http://{}", server.address));
    plugin.gives("one", HOUR);
    server.knows("one");
    let mut watches = watch(plugin.access()).await;
    let is_start = |event: &Event| matches!(event, Event::Reset(_));
    until(&mut watches, "a start", is_start).await;

    fs::write(plugin.0.join("fails"), "the metadata server is away\n").unwrap();
    server.knows("two");
    let names_it = |event: &Event| match event {
        Event::Problems(problems) => problems.get("API server").is_some_and(|problem| {
            let parts = [
                "user u",
                "/plugin",
                "exit status: 3",
                "the metadata server is away",
            ];
            !problem.blocks && parts.iter().all(|part| problem.message.contains(part))
        }),
        other => panic!("{other:?}"),
    };
    until(&mut watches, "a plugin that fails", names_it).await;
    plugin.gives("two", HOUR);
    fs::remove_file(plugin.0.join("fails")).unwrap();
    until_well(&mut watches).await;
    until_pod(&mut watches, &server, "later").await;
}

/// Waits until no process is in the folder.
fn until_nobody_is_in(folder: &Path) {
    let is_in = |entry: io::Result<fs::DirEntry>| {
        let link = fs::read_link(entry.unwrap().path().join("cwd"));
        link.is_ok_and(|link| link == folder)
    };
    let deadline = std::time::Instant::now() + Duration::from_secs(10);
    while fs::read_dir("/proc").unwrap().any(is_in) {
        assert!(std::time::Instant::now() < deadline, "it is still there");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[tokio::test(start_paused = true)]
async fn a_plugin_that_hangs_is_ended_and_named_and_not_run_for_each_request() {
    let plugin = Plugin::new("plugin-hangs", "http://127.0.0.1:1");
    fs::write(plugin.0.join("hangs"), "").unwrap();
    let client = Client::new(plugin.access()).await.unwrap();
    let start = Instant::now();
    plugin.holds_the_clock(1);
    let error = client.get("/version").await.unwrap_err();
    assert_eq!(start.elapsed(), Duration::from_secs(30));
    assert!(matches!(error, Error::Access(_)), "{error:?}");
    let error = error.to_string();
    for part in ["user u", "/plugin", "30 seconds"] {
        assert!(error.contains(part), "{error}");
    }
    // Nor is there what it started.
    until_nobody_is_in(&plugin.0);
    let again = Instant::now();
    assert_eq!(client.get("/version").await.unwrap_err().to_string(), error);
    assert_eq!((again.elapsed(), plugin.runs().len()), (Duration::ZERO, 1));
    sleep(Duration::from_secs(2)).await;
    plugin.holds_the_clock(2);
    client.get("/version").await.unwrap_err();
    assert_eq!(plugin.runs().len(), 2);

    // Once it works, it counts.
    fs::remove_file(plugin.0.join("hangs")).unwrap();
    plugin.gives("one", HOUR);
    sleep(Duration::from_secs(60)).await;
    tokio::time::resume();
    let error = client.get("/version").await.unwrap_err();
    assert!(matches!(error, Error::Unreachable(_)), "{error:?}");
    assert_eq!(plugin.runs().len(), 3);
}
