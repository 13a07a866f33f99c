//! The installer in folders, as a runtime and a main network plugin see it.

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up fails")]

mod install_support;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::process::Command;

use cni_chain::install::{Entry, Error, Installer, OnAgentUnavailable};
use install_support::{CONFLIST, Node, OTHER_ANSWERS, ours};

#[test]
fn it_is_installed_once_and_uninstalled_to_the_byte() {
    let node = Node::new("once");
    node.write("10-main.conflist", CONFLIST);
    let installer = node.installer();
    assert!(!installer.status().is_ready());
    let first = installer.install().unwrap();
    assert!(first.is_edited && first.is_placed, "{first:?}");
    assert_eq!(ours(&node.read("10-main.conflist")), 1);
    let status = installer.status();
    assert!(status.is_ready(), "{status:?}");
    let inode = || fs::metadata(node.conf("10-main.conflist")).unwrap().ino();
    let before = inode();
    let second = node.installer().install().unwrap();
    assert!(!second.is_edited && !second.is_placed, "{second:?}");
    assert_eq!(inode(), before, "no change, no write");

    assert_eq!(
        installer.remove_entries().unwrap().changed,
        [node.conf("10-main.conflist")]
    );
    assert_eq!(node.read("10-main.conflist"), CONFLIST);
    assert!(node.binary().exists(), "pods that end now need it");
    assert!(installer.remove_binary().unwrap());
    assert!(!installer.remove_binary().unwrap());
    assert_eq!(fs::read_dir(node.bin("")).unwrap().count(), 0);
    assert_eq!(installer.remove_entries().unwrap(), Default::default());
    assert_eq!(node.names(), ["10-main.conflist"]);
}

#[test]
fn the_binary_stays_as_long_as_an_entry_names_it() {
    let node = Node::new("stays");
    node.write("10-main.conflist", CONFLIST);
    let installer = node.installer();
    installer.install().unwrap();
    assert!(matches!(
        installer.remove_binary(),
        Err(Error::StillListed { .. })
    ));
    assert!(node.binary().exists());
}

#[test]
fn a_failed_removal_of_one_entry_leaves_the_binary_and_holds_up_no_other() {
    let node = Node::new("half");
    let installer = node.installer();
    node.write("10-main.conflist", CONFLIST);
    installer.install().unwrap();
    let alone = r#"{"cniVersion":"1.0.0","name":"n","plugins":[{"type":"picket-cni"}]}"#;
    node.write("05-alone.conflist", alone);
    let error = installer.remove_entries().unwrap_err().to_string();
    assert!(
        error.contains("05-alone.conflist: plugins: are ours alone"),
        "{error}"
    );
    assert_eq!(node.read("10-main.conflist"), CONFLIST);
    assert!(installer.remove_binary().is_err());
}

#[test]
fn one_plugin_alone_becomes_a_list_and_is_restored() {
    let node = Node::new("single");
    let single = include_str!("install/bridge.conf");
    node.write("10-main.conf", single);
    let installer = node.installer();
    let installed = installer.install().unwrap();
    assert_eq!(installed.configuration, node.conf("10-main.conflist"));
    assert_eq!(
        node.names(),
        ["10-main.conf.picket-bak", "10-main.conflist"]
    );
    assert!(installer.status().is_ready());
    // The main plugin writes its file again: two files, of which the runtime takes the first.
    let newer = single.replace("10.88", "10.99");
    node.write("10-main.conf", &newer);
    assert!(!installer.status().is_ready());
    assert!(installer.install().unwrap().is_edited);
    assert_eq!(
        node.names(),
        ["10-main.conf.picket-bak", "10-main.conflist"]
    );
    assert!(node.read("10-main.conflist").contains("10.99"));
    installer.remove_entries().unwrap();
    assert_eq!(node.names(), ["10-main.conf"]);
    assert_eq!(node.read("10-main.conf"), newer);
}

#[test]
fn a_list_that_others_have_extended_is_kept_at_uninstall() {
    let node = Node::new("extended");
    node.write("10-main.conf", include_str!("install/bridge.conf"));
    let installer = node.installer();
    installer.install().unwrap();
    let list = node.read("10-main.conflist");
    node.write(
        "10-main.conflist",
        &list.replace("\"plugins\": [", "\"plugins\": [{\"type\": \"istio-cni\"},"),
    );
    installer.remove_entries().unwrap();
    assert_eq!(node.names(), ["10-main.conflist"]);
    assert!(node.read("10-main.conflist").contains("istio-cni"));
    assert_eq!(ours(&node.read("10-main.conflist")), 0);
}

#[test]
fn another_list_of_the_same_name_is_never_replaced() {
    let node = Node::new("both");
    node.write("10-main.conf", include_str!("install/bridge.conf"));
    node.write("10-main.conflist", CONFLIST);
    let error = node.installer().install().unwrap_err();
    assert!(matches!(error, Error::Both { .. }), "{error}");
    assert_eq!(node.read("10-main.conflist"), CONFLIST);
}

#[test]
fn the_file_is_the_one_that_runtimes_take() {
    let node = Node::new("which");
    node.write("20-later.conflist", CONFLIST);
    node.write(".hidden", "{");
    node.write("00-multus.conf.bak", "{");
    fs::create_dir(node.conf("00-folder.conf")).unwrap();
    node.write("10-main.conflist", CONFLIST);
    let installed = node.installer().install().unwrap();
    assert_eq!(installed.configuration, node.conf("10-main.conflist"));
    assert_eq!(
        node.read("20-later.conflist"),
        CONFLIST,
        "it is in one file only"
    );
    node.write("05-broken.conflist", "{");
    let status = node.installer().status();
    assert_eq!(status.configuration, Some(node.conf("10-main.conflist")));
    assert!(
        status.notes[0].contains("05-broken.conflist: the file: is not JSON"),
        "{status:?}"
    );
    assert!(status.notes[0].contains("containerd"), "{status:?}");

    let named =
        node.installer_with(|settings| settings.conf_name = Some("20-later.conflist".into()));
    let installed = named.install().unwrap();
    assert_eq!(installed.configuration, node.conf("20-later.conflist"));
    assert!(
        installed.notes[0].contains("the runtime takes"),
        "{installed:?}"
    );
    for bad in ["../x.conflist", "x.txt", ""] {
        let bad = node.installer_with(|settings| settings.conf_name = Some(bad.into()));
        let error = bad.install().unwrap_err().to_string();
        assert!(error.contains("--cni-conf-name"), "{error}");
    }
}

#[test]
fn nothing_is_made_where_no_configuration_is_yet() {
    let node = Node::new("none");
    let error = node.installer().install().unwrap_err();
    assert!(matches!(error, Error::NoConfiguration { .. }), "{error}");
    assert_eq!(node.names(), Vec::<String>::new());
    fs::remove_dir(node.conf("")).unwrap();
    let error = node.installer().install().unwrap_err();
    assert!(matches!(error, Error::NoConfiguration { .. }), "{error}");
}

#[test]
fn multus_and_its_main_network_have_one_entry_between_them() {
    let node = Node::new("multus");
    node.write("00-multus.conf", include_str!("install/multus.conf"));
    node.write("10-main.conflist", CONFLIST);
    node.installer().install().unwrap();
    assert_eq!(ours(&node.read("00-multus.conf")), 1);
    assert_eq!(ours(&node.read("10-main.conflist")), 0);
    assert!(node.installer().status().is_ready());
    node.installer().remove_entries().unwrap();
    assert_eq!(
        node.read("00-multus.conf"),
        include_str!("install/multus.conf")
    );
}

#[test]
fn the_file_that_multus_names_is_edited_and_multus_own_is_not() {
    let node = Node::new("cluster-network");
    // In multus' own mount namespace the folder is elsewhere.
    let theirs = format!("/host{}", node.conf("10-main.conflist").display());
    let shim = format!(
        r#"{{"cniVersion":"0.3.1","name":"m","type":"multus-shim","clusterNetwork":"{theirs}"}}"#
    );
    node.write("00-multus.conf", &shim);
    node.write("10-main.conflist", CONFLIST);
    let installed = node.installer().install().unwrap();
    assert_eq!(installed.configuration, node.conf("10-main.conflist"));
    assert_eq!(node.read("00-multus.conf"), shim);
    // In a folder of its own.
    let other = node.bin("other.conflist");
    fs::write(&other, CONFLIST).unwrap();
    node.write(
        "00-multus.conf",
        &shim.replace(&theirs, other.to_str().unwrap()),
    );
    node.installer().install().unwrap();
    assert_eq!(ours(&fs::read_to_string(&other).unwrap()), 1);
    node.installer().remove_entries().unwrap();
    assert_eq!(fs::read_to_string(&other).unwrap(), CONFLIST);
    assert_eq!(node.read("10-main.conflist"), CONFLIST);
}

#[test]
fn a_refused_file_is_left_alone_and_named_with_its_field() {
    let node = Node::new("refused");
    let old = CONFLIST.replace("0.3.1", "0.2.0");
    node.write("10-main.conflist", &old);
    let error = node.installer().install().unwrap_err().to_string();
    assert!(
        error.starts_with(&format!(
            "{}: cniVersion: \"0.2.0\" is none of",
            node.conf("10-main.conflist").display()
        )),
        "{error}"
    );
    assert_eq!(node.read("10-main.conflist"), old);
}

#[test]
fn a_link_is_refused() {
    let node = Node::new("link");
    let end = node.bin("elsewhere.conflist");
    fs::write(&end, CONFLIST).unwrap();
    symlink(&end, node.conf("10-main.conflist")).unwrap();
    let error = node.installer().install().unwrap_err();
    assert!(matches!(error, Error::Link { .. }), "{error}");
    assert_eq!(fs::read_to_string(&end).unwrap(), CONFLIST);
}

#[test]
fn mode_owner_and_label_are_those_of_the_file_before() {
    let node = Node::new("attributes");
    node.write("10-main.conflist", CONFLIST);
    let path = node.conf("10-main.conflist");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
    let is_root = fs::metadata(&path).unwrap().uid() == 0;
    let label = b"system_u:object_r:net_conf_t:s0\0";
    if is_root {
        std::os::unix::fs::chown(&path, Some(1234), Some(4321)).unwrap();
        rustix::fs::setxattr(
            &path,
            "security.selinux",
            label,
            rustix::fs::XattrFlags::empty(),
        )
        .unwrap();
    }
    node.installer().install().unwrap();
    let after = fs::metadata(&path).unwrap();
    assert_eq!(after.mode() & 0o7777, 0o640);
    if is_root {
        assert_eq!((after.uid(), after.gid()), (1234, 4321));
        let mut found = vec![0; 100];
        let length = rustix::fs::getxattr(&path, "security.selinux", &mut found).unwrap();
        assert_eq!(&found[..length], label);
    }
    assert_eq!(fs::metadata(node.binary()).unwrap().mode() & 0o7777, 0o755);
}

#[test]
fn a_binary_that_does_not_answer_never_gets_the_name_nor_an_entry() {
    for (name, script) in OTHER_ANSWERS {
        let node = Node::new(&format!("answer-{name}"));
        node.write("10-main.conflist", CONFLIST);
        node.plugin(script);
        let error = node.installer().install().unwrap_err();
        assert!(matches!(error, Error::Plugin { .. }), "{name}: {error}");
        assert!(!node.binary().exists(), "{name}");
        assert_eq!(node.read("10-main.conflist"), CONFLIST, "{name}");
        assert_eq!(fs::read_dir(node.bin("")).unwrap().count(), 0, "{name}");
    }
}

#[test]
fn the_plugin_itself_answers() {
    let node = Node::new("itself");
    node.write("10-main.conflist", CONFLIST);
    let plugin = env!("CARGO_BIN_EXE_picket-cni");
    let installer = node.installer_with(|settings| settings.plugin = plugin.into());
    installer.install().unwrap();
    assert!(installer.status().is_ready());
}

#[test]
fn a_running_binary_is_replaced() {
    let node = Node::new("running");
    node.write("10-main.conflist", CONFLIST);
    node.installer().install().unwrap();
    fs::copy("/bin/sleep", node.binary()).unwrap();
    let mut running = Command::new(node.binary()).arg("1000").spawn().unwrap();
    let installed = node.installer().install();
    running.kill().unwrap();
    running.wait().unwrap();
    assert!(installed.unwrap().is_placed);
    assert!(node.installer().status().is_ready());
}

#[test]
fn what_a_killed_run_left_is_removed() {
    let node = Node::new("leftover");
    node.write("10-main.conflist", CONFLIST);
    node.write(".10-main.conflist.picket-tmp", "{");
    node.write(".picket-nudge", "");
    fs::write(node.bin(".picket-cni.picket-tmp"), "x").unwrap();
    node.installer().install().unwrap();
    assert_eq!(node.names(), ["10-main.conflist"]);
    assert!(!node.bin(".picket-cni.picket-tmp").exists());
}

#[test]
fn the_entry_says_what_was_asked_for_and_follows_when_that_changes() {
    let node = Node::new("entry");
    node.write("10-main.conflist", CONFLIST);
    node.installer().install().unwrap();
    let other = node.installer_with(|settings| {
        settings.entry = Entry {
            run_dir: "/run/else".into(),
            timeout_seconds: 5,
            on_agent_unavailable: OnAgentUnavailable::Quarantine,
            log_file: Some("/var/log/picket-cni.log".into()),
            exclude_namespaces: vec!["kube-system".into()],
            routing_namespaces: vec!["vpn".into()],
        };
    });
    assert!(!other.status().is_ready());
    other.install().unwrap();
    let value: serde_json::Value = serde_json::from_str(&node.read("10-main.conflist")).unwrap();
    let expected = serde_json::json!({"type": "picket-cni", "runDir": "/run/else", "timeoutSeconds": 5,
        "onAgentUnavailable": "quarantine", "logFile": "/var/log/picket-cni.log", "excludeNamespaces": ["kube-system"],
        "routingNamespaces": ["vpn"]});
    assert_eq!(value["plugins"][2], expected);
    let mut invalid = node.settings();
    invalid.entry.timeout_seconds = 0;
    assert!(Installer::new(invalid).is_err());
}

#[test]
fn status_says_what_is_not_as_it_is_to_be() {
    let node = Node::new("status");
    node.write("10-main.conflist", CONFLIST);
    let problems = || node.installer().status().problems;
    let list = node.conf("10-main.conflist");
    let of_list = |problem: &str| format!("{}: plugins: {problem}", list.display());
    let said = problems();
    assert_eq!(said[0], of_list("the entry is not there"));
    assert!(said[1].contains("can not be run"), "{said:?}");
    assert_eq!(said.len(), 2);
    node.installer().install().unwrap();
    assert_eq!(problems(), Vec::<String>::new());

    let installed = node.read("10-main.conflist");
    let other = node.installer_with(|settings| {
        settings.entry.on_agent_unavailable = OnAgentUnavailable::Allow;
        settings.entry.log_file = Some("/var/log/picket-cni.log".into());
    });
    let other = other.status();
    assert!(!other.is_ready());
    let differs = "of the entry, logFile is nothing and not \"/var/log/picket-cni.log\", \
                   onAgentUnavailable is \"block\" and not \"allow\"";
    assert_eq!(other.problems, [of_list(differs)]);

    let entry = installed.rfind("{\n      \"type\": \"picket-cni\"");
    let entry = entry.map(|at| &installed[at..installed.rfind("}\n  ]").unwrap() + 1]);
    let entry = entry.unwrap_or_else(|| panic!("{installed}"));
    let twice = installed.replace(entry, &format!("{entry},{entry}"));
    node.write("10-main.conflist", &twice);
    assert_eq!(problems(), [of_list("the entry is there more than once")]);
    let behind = installed.replace(entry, &format!("{entry},{{\"type\":\"later\"}}"));
    node.write("10-main.conflist", &behind);
    assert_eq!(problems(), [of_list("the entry is not the last")]);
    node.write("10-main.conflist", &installed);

    // Another build, as after an upgrade that did not reach this folder.
    let plugin = fs::read_to_string(node.binary()).unwrap();
    node.plugin(&format!("{plugin}# another\n"));
    let said = problems();
    assert!(
        said.len() == 1 && said[0].contains("is another build than"),
        "{said:?}"
    );
}
