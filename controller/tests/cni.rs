//! `picket cni`

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up fails")]

#[path = "support/program.rs"]
mod program;

use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use program::{end_first_process, exits, first_process, picket, text};

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

/// Each folder has a lock of its own: one that is both would be waited for forever.
#[test]
fn one_folder_for_configurations_and_plugins_is_refused() {
    let root = node("one-folder");
    symlink(root.join("conf"), root.join("link")).unwrap();
    for bin_dir in ["conf", "link"] {
        let [conf, bin, plugin] = ["conf", bin_dir, "plugin"].map(|of| root.join(of));
        let folders = [OsStr::new("--conf-dir"), conf.as_os_str()];
        let folders = [&folders[..], &[OsStr::new("--bin-dir"), bin.as_os_str()]].concat();
        let plugin = [OsStr::new("--plugin"), plugin.as_os_str()];
        for (command, more) in [
            ("install", &plugin[..]),
            ("uninstall", &["--purge".as_ref()]),
        ] {
            let output = Command::new("timeout")
                .args(["20", env!("CARGO_BIN_EXE_picket"), "cni", command])
                .args([&folders[..], more].concat())
                .output()
                .unwrap();
            exits(&output, 2);
            let said = text(&output.stderr);
            for named in [conf.to_str().unwrap(), "--conf-dir", "--bin-dir"] {
                assert!(said.contains(named), "{said}");
            }
        }
    }
    assert_eq!(
        fs::read_to_string(root.join("conf/10-main.conflist")).unwrap(),
        LIST
    );
    assert!(!root.join("conf/picket-cni").exists());
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

#[test]
fn status_ends_with_what_a_probe_of_readiness_asks_for() {
    let root = node("status");
    let list = root.join("conf/10-main.conflist");
    let asked = ["--timeout-seconds", "7"];
    let output = run(&root, "status", &asked);
    exits(&output, 1);
    let said = text(&output.stdout);
    let missing = format!(
        "not installed: {}: plugins: the entry is not there\n",
        list.display()
    );
    assert!(said.starts_with(&missing), "{said}");
    assert!(said.contains("bin/picket-cni: can not be run"), "{said}");
    assert_eq!(fs::read_to_string(&list).unwrap(), LIST);
    exits(&run(&root, "install", &asked), 0);
    let output = run(&root, "status", &asked);
    exits(&output, 0);
    let installed = format!("picket-cni is installed in {}\n", list.display());
    assert_eq!(text(&output.stdout), installed);
    let output = run(&root, "status", &[]);
    exits(&output, 1);
    let differs = "of the entry, timeoutSeconds is 7 and not 30\n";
    assert!(text(&output.stdout).ends_with(differs), "{output:?}");
}

/// As containerd has it for a handler with a `cni_conf_dir` of its own.
#[test]
fn several_folders_have_the_entry_and_the_binary_goes_last() {
    let root = node("several");
    let kata = root.join("kata");
    fs::create_dir(&kata).unwrap();
    let second = kata.join("10-kata.conflist");
    fs::write(&second, LIST).unwrap();
    let more = ["--conf-dir", kata.to_str().unwrap()];
    let output = run(&root, "install", &more);
    exits(&output, 0);
    assert_eq!(text(&output.stdout).lines().count(), 2);
    assert!(fs::read_to_string(&second).unwrap().contains("picket-cni"));
    exits(&run(&root, "status", &more), 0);
    fs::write(&second, LIST).unwrap();
    let output = run(&root, "status", &more);
    exits(&output, 1);
    assert!(text(&output.stdout).contains("10-kata.conflist: plugins"));
    exits(&run(&root, "install", &more), 0);
    // What can not be done in one is done in the others.
    let first = root.join("conf/10-main.conflist");
    let installed = fs::read_to_string(&first).unwrap();
    fs::write(&first, "{").unwrap();
    fs::write(&second, LIST).unwrap();
    let output = run(&root, "install", &more);
    exits(&output, 2);
    assert!(fs::read_to_string(&second).unwrap().contains("picket-cni"));
    fs::write(&first, installed).unwrap();

    // A list that can not be changed keeps the binary.
    fs::rename(&second, kata.join("end")).unwrap();
    symlink(kata.join("end"), &second).unwrap();
    let purge = [&more[..], &["--purge", "--purge-after-seconds", "0"]].concat();
    let output = run(&root, "uninstall", &purge);
    exits(&output, 2);
    assert_eq!(fs::read_to_string(&first).unwrap(), LIST);
    assert!(root.join("bin/picket-cni").exists());
    fs::rename(kata.join("end"), &second).unwrap();
    exits(&run(&root, "uninstall", &purge), 0);
    assert_eq!(fs::read_to_string(&second).unwrap(), LIST);
    assert!(!root.join("bin/picket-cni").exists());
}

/// A runtime would call a plugin that is not there, for pods that start and for pods that end.
#[test]
fn a_folder_that_is_not_named_any_more_is_told_of_and_keeps_the_binary() {
    let root = node("not-named");
    let kata = root.join("kata");
    fs::create_dir(&kata).unwrap();
    let second = kata.join("10-kata.conflist");
    fs::write(&second, LIST).unwrap();
    let more = ["--conf-dir", kata.to_str().unwrap()];
    exits(&run(&root, "install", &more), 0);
    let output = run(&root, "status", &more);
    exits(&output, 0);
    assert_eq!(text(&output.stderr), "");
    let output = run(&root, "status", &[]);
    exits(&output, 0);
    let said = text(&output.stderr).to_owned();
    assert!(
        said.contains("kata: was given the plugin's entry and is not named any more"),
        "{said}"
    );
    let mut watch = Command::new(env!("CARGO_BIN_EXE_picket"))
        .args(arguments(&root, "watch", &[]))
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(watch.stderr.take().unwrap()).lines();
    let mut lines = lines.map(Result::unwrap);
    assert!(lines.any(|line| line.contains("is not named any more")));
    kill(Pid::from_raw(watch.id().cast_signed()), Signal::SIGTERM).unwrap();
    assert!(watch.wait().unwrap().success());

    let purge = ["--purge", "--purge-after-seconds", "0"];
    let output = run(&root, "uninstall", &purge);
    exits(&output, 2);
    let said = text(&output.stderr).to_owned();
    let kept = format!("configurations of {} were given its name", kata.display());
    assert!(said.contains(&kept), "{said}");
    assert!(root.join("bin/picket-cni").exists());
    let all = [&more[..], &purge].concat();
    exits(&run(&root, "uninstall", &all), 0);
    assert_eq!(fs::read_to_string(&second).unwrap(), LIST);
    assert_eq!(fs::read_dir(root.join("bin")).unwrap().count(), 0);
}

#[test]
fn uninstall_waits_for_a_watch_of_all_folders_to_end_if_it_may() {
    let root = node("wait");
    let kata = root.join("kata");
    fs::create_dir(&kata).unwrap();
    let second = kata.join("10-kata.conflist");
    fs::write(&second, LIST).unwrap();
    let more = ["--conf-dir", kata.to_str().unwrap()];
    let start = |command: &str, more: &[&str]| {
        Command::new(env!("CARGO_BIN_EXE_picket"))
            .args(arguments(&root, command, more))
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    };
    let mut watch = start("watch", &more);
    let lines = BufReader::new(watch.stderr.take().unwrap()).lines();
    let mut lines = lines.map(Result::unwrap);
    for _ in 0..2 {
        assert!(lines.any(|line| line.contains("the plugin is installed")));
    }
    for more in [&[][..], &["--wait", "200ms"]] {
        let output = run(&root, "uninstall", more);
        exits(&output, 2);
        let said = text(&output.stderr);
        assert!(
            said.contains("picket cni watch runs for this folder"),
            "{said}"
        );
    }
    let with_wait = [&more[..], &["--wait", "1h"]].concat();
    let mut uninstall = start("uninstall", &with_wait);
    let said = BufReader::new(uninstall.stderr.take().unwrap()).lines();
    let mut said = said.map(Result::unwrap);
    assert!(said.any(|line| line.contains("waiting for it to end")));
    assert!(fs::read_to_string(&second).unwrap().contains("picket-cni"));
    kill(Pid::from_raw(watch.id().cast_signed()), Signal::SIGTERM).unwrap();
    assert!(watch.wait().unwrap().success());
    assert!(uninstall.wait().unwrap().success());
    let lists = [root.join("conf/10-main.conflist"), second];
    for list in lists {
        assert_eq!(fs::read_to_string(list).unwrap(), LIST);
    }
}

/// Of both of its waits: for a watch to end, and for pods that may need the binary.
#[test]
fn a_signal_ends_the_waits_of_an_uninstall_that_is_the_first_process_of_a_container() {
    let root = node("first-process");
    let list = root.join("conf/10-main.conflist");
    let start = |more: &[&str]| {
        let mut command = first_process();
        command.args(arguments(&root, "uninstall", more));
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().unwrap()
    };
    let mut watch = Command::new(env!("CARGO_BIN_EXE_picket"))
        .args(arguments(&root, "watch", &[]))
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(watch.stderr.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().contains("the plugin is installed")));

    let mut uninstall = start(&["--wait", "1h"]);
    let said = BufReader::new(uninstall.stderr.take().unwrap()).lines();
    let mut said = said.map(Result::unwrap);
    assert!(said.any(|line| line.contains("waiting for it to end")));
    let code = end_first_process(&mut uninstall, Signal::SIGTERM);
    assert_eq!(code, Some(143));
    assert!(said.any(|line| line.ends_with("nothing was changed there: told to end by SIGTERM")));
    assert!(fs::read_to_string(&list).unwrap().contains("picket-cni"));
    kill(Pid::from_raw(watch.id().cast_signed()), Signal::SIGTERM).unwrap();
    assert!(watch.wait().unwrap().success());

    let mut uninstall = start(&["--purge", "--purge-after-seconds", "3600"]);
    let done = BufReader::new(uninstall.stdout.take().unwrap()).lines();
    assert!(
        done.map(Result::unwrap)
            .any(|line| line.contains("taken out of"))
    );
    let code = end_first_process(&mut uninstall, Signal::SIGINT);
    assert_eq!(code, Some(130));
    let said = BufReader::new(uninstall.stderr.take().unwrap()).lines();
    let mut said = said.map(Result::unwrap);
    assert!(said.any(|line| line.ends_with("it is not removed yet: told to end by SIGINT")));
    assert_eq!(fs::read_to_string(&list).unwrap(), LIST);
    assert!(root.join("bin/picket-cni").exists());
}
