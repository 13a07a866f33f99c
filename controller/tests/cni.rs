//! `picket cni`

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up fails")]

#[path = "support/program.rs"]
mod program;

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use program::{exits, picket, text};

const LIST: &str = r#"{"cniVersion":"1.0.0","name":"n","plugins":[{"type":"bridge"}]}"#;
const PLUGIN: &str = "#!/bin/sh
echo '{\"supportedVersions\":[\"0.3.0\",\"0.3.1\",\"0.4.0\",\"1.0.0\",\"1.1.0\"]}'
";

fn node(name: &str) -> PathBuf {
    let root = Path::new(env!("CARGO_TARGET_TMPDIR"))
        .join("cni")
        .join(name);
    let _ = fs::remove_dir_all(&root);
    for folder in ["conf", "bin"] {
        fs::create_dir_all(root.join(folder)).unwrap();
    }
    fs::write(root.join("conf/10-main.conflist"), LIST).unwrap();
    fs::write(root.join("plugin"), PLUGIN).unwrap();
    fs::set_permissions(root.join("plugin"), fs::Permissions::from_mode(0o755)).unwrap();
    root
}

fn arguments(root: &Path, command: &str, more: &[&str]) -> Vec<String> {
    let folders = ["--conf-dir", "conf", "--bin-dir", "bin"];
    let mut all = vec!["cni".to_owned(), command.to_owned()];
    for (name, folder) in [(folders[0], folders[1]), (folders[2], folders[3])] {
        all.extend([name.to_owned(), root.join(folder).display().to_string()]);
    }
    if command != "uninstall" {
        all.extend([
            "--plugin".to_owned(),
            root.join("plugin").display().to_string(),
        ]);
    }
    all.extend(more.iter().map(|of| (*of).to_owned()));
    all
}

fn run(root: &Path, command: &str, more: &[&str]) -> std::process::Output {
    let arguments = arguments(root, command, more);
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    picket(&arguments, "")
}

#[test]
fn the_plugin_is_installed_with_what_was_asked_for_and_uninstalled() {
    let root = node("install");
    let list = root.join("conf/10-main.conflist");
    let asked = [
        "--on-agent-unavailable",
        "quarantine",
        "--timeout-seconds",
        "7",
        "--routing-namespace",
        "vpn",
        "--exclude-namespace",
        "kube-system",
    ];
    let output = run(&root, "install", &asked);
    exits(&output, 0);
    assert_eq!(
        text(&output.stdout),
        format!("picket-cni installed in {}\n", list.display())
    );
    let ours = r#",{"type":"picket-cni","runDir":"/run/picket","timeoutSeconds":7,"onAgentUnavailable":"quarantine","excludeNamespaces":["kube-system"],"routingNamespaces":["vpn"]}]}"#;
    assert!(fs::read_to_string(&list).unwrap().ends_with(ours));
    let again = run(&root, "install", &asked);
    assert!(text(&again.stdout).contains("was installed already"));
    let output = run(
        &root,
        "uninstall",
        &["--purge", "--purge-after-seconds", "0"],
    );
    exits(&output, 0);
    assert_eq!(fs::read_to_string(&list).unwrap(), LIST);
    assert!(!root.join("bin/picket-cni").exists());
    let again = run(&root, "uninstall", &[]);
    exits(&again, 0);
    assert_eq!(text(&again.stdout), "picket-cni was in no list\n");
}

#[test]
fn an_error_names_the_file_the_field_and_the_remedy() {
    let root = node("error");
    let list = root.join("conf/10-main.conflist");
    fs::write(&list, LIST.replace("1.0.0", "0.2.0")).unwrap();
    let output = run(&root, "install", &[]);
    exits(&output, 2);
    let error = format!(
        "error: {}: cniVersion: \"0.2.0\" is none of",
        list.display()
    );
    assert!(
        text(&output.stderr).starts_with(&error),
        "{}",
        text(&output.stderr)
    );
    let output = run(&root, "install", &["--timeout-seconds", "121"]);
    exits(&output, 2);
}

#[test]
fn watch_installs_says_so_and_ends_when_it_is_told_to() {
    let root = node("watch");
    let mut watch = Command::new(env!("CARGO_BIN_EXE_picket"))
        .args(arguments(&root, "watch", &[]))
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(watch.stderr.take().unwrap()).lines();
    let mut lines = lines.map(Result::unwrap);
    assert!(lines.any(|line| line.contains("the plugin is installed")));
    kill(Pid::from_raw(watch.id().cast_signed()), Signal::SIGTERM).unwrap();
    assert!(lines.any(|line| line.contains("stays installed")));
    assert!(watch.wait().unwrap().success());
    assert!(
        fs::read_to_string(root.join("conf/10-main.conflist"))
            .unwrap()
            .contains("picket-cni")
    );
}
