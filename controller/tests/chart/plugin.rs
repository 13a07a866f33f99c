//! The plugin's entry in a runtime's list, as the chart's containers put it there.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::api_server::PATIENCE;
use crate::container::{command, named};
use crate::helm::{object, objects};
use crate::meaning::pod;
use crate::support::Folder;

const LIST: &str = r#"{"cniVersion":"1.0.0","name":"n","plugins":[{"type":"bridge"}]}"#;

/// In the image the plugin is beside the program.
const PLUGIN: &str = "#!/bin/sh
echo '{\"supportedVersions\":[\"0.3.0\",\"0.3.1\",\"0.4.0\",\"1.0.0\",\"1.1.0\"]}'
";

/// That of an update too: whatever follows finds the entry.
#[test]
fn the_watch_needs_no_capability_and_leaves_the_entry_when_it_ends() {
    let node = Folder::new("node");
    let path = |name: &str| node.path().join(name);
    for folder in ["conf", "bin"] {
        fs::create_dir(path(folder)).unwrap();
    }
    fs::write(path("plugin"), PLUGIN).unwrap();
    fs::set_permissions(path("plugin"), fs::Permissions::from_mode(0o755)).unwrap();
    let set = |name: &str, value: &str| format!("{name}={value}");
    let objects = objects(&[
        &set("cni.confDir", path("conf").to_str().unwrap()),
        &set("cni.binDir", path("bin").to_str().unwrap()),
        "cni.onAgentUnavailable=quarantine",
        "cni.timeoutSeconds=7",
        "cni.excludeNamespaces={a,b}",
    ]);
    let spec = pod(object(&objects, "DaemonSet", "picket")).unwrap();
    let mut watch = command(named(spec, "watch-cni"));
    let mut watch = watch.arg("--plugin").arg(path("plugin")).spawn().unwrap();
    // It waits for a configuration.
    let list = path("conf/10-main.conflist");
    fs::write(&list, LIST).unwrap();
    let deadline = Instant::now() + PATIENCE;
    let entry = || {
        let list: serde_json::Value = serde_json::from_slice(&fs::read(&list).ok()?).ok()?;
        let entry = list["plugins"].as_array()?.get(1)?;
        Some(entry.clone())
    };
    while entry().is_none() {
        assert_eq!(watch.try_wait().unwrap(), None, "it has ended");
        assert!(Instant::now() < deadline, "there is no entry");
        std::thread::sleep(Duration::from_millis(10));
    }
    let expected = serde_json::json!({
        "type": "picket-cni",
        "runDir": "/run/picket",
        "timeoutSeconds": 7,
        "onAgentUnavailable": "quarantine",
        "excludeNamespaces": ["a", "b"],
    });
    assert_eq!(entry(), Some(expected.clone()));
    kill(Pid::from_raw(watch.id().cast_signed()), Signal::SIGTERM).unwrap();
    assert!(watch.wait().unwrap().success());
    assert_eq!(entry(), Some(expected));
    assert!(path("bin/picket-cni").exists());
}
