//! The record of the folders that were given the entry, and what a purge makes of it.

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up fails")]

mod install_support;

use std::fs;

use cni_chain::install::Error;
use install_support::{ANSWERS, CONFLIST, Node};

/// As when it was named once and is not any more, or is not mounted here.
#[test]
fn the_binary_stays_as_long_as_another_folder_may_name_it() {
    let node = Node::new("elsewhere");
    node.write("10-main.conflist", CONFLIST);
    let kata = node.bin("").parent().unwrap().with_file_name("kata");
    fs::create_dir(&kata).unwrap();
    let list = kata.join("10-kata.conflist");
    fs::write(&list, CONFLIST).unwrap();
    let installer = node.installer();
    let other = node.installer_with(|settings| settings.conf_dir = kata.clone());
    installer.install().unwrap();
    other.install().unwrap();
    let both = [node.conf(""), kata.clone()];
    assert_eq!(installer.recorded().unwrap(), both.into());
    installer.remove_entries().unwrap();
    let refuses = || {
        let error = installer.remove_binary().unwrap_err();
        let Error::ListedElsewhere { folders, .. } = &error else {
            panic!("{error}");
        };
        assert_eq!(*folders, [kata.clone()].into());
        let said = error.to_string();
        assert!(said.contains(kata.to_str().unwrap()), "{said}");
        assert!(node.binary().exists());
    };
    refuses();
    let away = kata.with_file_name("away");
    fs::rename(&kata, &away).unwrap();
    refuses();
    fs::rename(&away, &kata).unwrap();
    // Whoever took the entry out, it is out.
    fs::write(&list, CONFLIST).unwrap();
    assert!(installer.remove_binary().unwrap());
    assert_eq!(fs::read_dir(node.bin("")).unwrap().count(), 0);
}

/// It may be one of the node, and this a container: whoever names it there takes nothing out.
#[test]
fn a_folder_that_is_not_there_is_not_forgotten() {
    let node = Node::new("not-there");
    node.write("10-main.conflist", CONFLIST);
    let kata = node.bin("").parent().unwrap().with_file_name("kata");
    fs::create_dir(&kata).unwrap();
    fs::write(kata.join("10-kata.conflist"), CONFLIST).unwrap();
    let other = node.installer_with(|settings| settings.conf_dir = kata.clone());
    other.install().unwrap();
    let away = kata.with_file_name("away");
    fs::rename(&kata, &away).unwrap();
    other.remove_entries().unwrap();
    let error = node.installer().remove_binary().unwrap_err().to_string();
    let record = node.bin(".picket-cni.folders");
    assert!(error.contains(record.to_str().unwrap()), "{error}");
    fs::rename(&away, &kata).unwrap();
    other.remove_entries().unwrap();
    assert_eq!(other.recorded().unwrap(), [].into());
    assert!(node.installer().remove_binary().unwrap());
}

/// Else the folder would have to be cleaned of what it never had.
#[test]
fn a_folder_that_can_not_have_the_entry_is_not_recorded() {
    let node = Node::new("unrecorded");
    node.write("end", CONFLIST);
    std::os::unix::fs::symlink(node.conf("end"), node.conf("10-main.conflist")).unwrap();
    let installer = node.installer();
    let error = installer.install().unwrap_err();
    assert!(matches!(error, Error::Link { .. }), "{error}");
    assert_eq!(installer.recorded().unwrap(), [].into());
}

/// It waits for the installation, which has seen the binary already.
#[test]
fn a_purge_that_comes_while_another_folder_gets_the_entry_finds_it() {
    for _ in 0..5 {
        let node = Node::new("moment");
        node.write("10-main.conflist", CONFLIST);
        let kata = node.bin("").parent().unwrap().with_file_name("kata");
        fs::create_dir(&kata).unwrap();
        fs::write(kata.join("10-kata.conflist"), CONFLIST).unwrap();
        let asked = kata.with_file_name("asked");
        // The purge is there before it answers.
        let slow = format!(": > {}\nsleep 0.1\necho", asked.display());
        node.plugin(&ANSWERS.replace("echo", &slow));
        let installer = node.installer();
        installer.install().unwrap();
        installer.remove_entries().unwrap();
        fs::remove_file(&asked).unwrap();
        let purged = std::thread::scope(|scope| {
            let install = scope.spawn(|| {
                let other = node.installer_with(|settings| settings.conf_dir = kata.clone());
                other.install().unwrap();
            });
            while !asked.exists() && !install.is_finished() {
                std::thread::yield_now();
            }
            let purged = node.installer().remove_binary();
            install.join().unwrap();
            purged
        });
        assert!(
            matches!(purged, Err(Error::ListedElsewhere { .. })),
            "{purged:?}"
        );
        assert!(node.binary().exists());
    }
}

#[test]
fn a_record_that_is_none_is_named_and_keeps_the_binary() {
    let node = Node::new("record");
    node.write("10-main.conflist", CONFLIST);
    let installer = node.installer();
    installer.install().unwrap();
    let record = node.bin(".picket-cni.folders");
    fs::write(&record, "{").unwrap();
    let named = |error: Error| {
        let said = error.to_string();
        assert!(said.starts_with(record.to_str().unwrap()), "{said}");
        assert!(said.ends_with("remove it"), "{said}");
    };
    named(installer.install().unwrap_err());
    named(installer.remove_entries().unwrap_err());
    assert_eq!(node.read("10-main.conflist"), CONFLIST);
    named(installer.remove_binary().unwrap_err());
    assert!(node.binary().exists());
}
