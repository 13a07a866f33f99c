//! A watched folder of manifests, with real files.

#![allow(clippy::unwrap_used)]

#[path = "agent_folder/support.rs"]
mod support;

use std::fs;
use std::io::Write;
use std::os::unix::fs::symlink;

use support::{Watched, namespace, pod, policy};

#[test]
fn the_first_event_is_everything_there_is() {
    let mut watched = Watched::with(&[
        ("a.yaml", &policy("x", "p")),
        (
            "sub/b.json",
            r#"{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "z"}}"#,
        ),
        ("notes.txt", "no manifest"),
    ]);
    watched.until_ids(&["Namespace x", "Namespace z", "NetworkPolicy x/p"]);
    assert_eq!(watched.resets, 1);
    assert!(watched.problems.is_empty());
}

#[test]
fn an_empty_folder_is_a_cluster_without_objects_if_it_may_be_empty() {
    let mut watched = Watched::with(&[]);
    watched.until("a reset", |watched| watched.resets == 1);
    assert!(watched.objects.is_empty());
}

#[test]
fn a_folder_that_is_empty_at_the_start_blocks_it_until_there_is_a_file() {
    let mut watched = Watched::strict();
    watched.until_problem("", "has no manifests");
    assert!(watched.problem("").unwrap().blocks);
    assert_eq!(watched.resets, 0);
    watched.write("a.yaml", &policy("x", "p"));
    watched.until_ids(&["Namespace x", "NetworkPolicy x/p"]);
    watched.until_well();
    // Whoever deletes the last file means it.
    watched.remove("a.yaml");
    watched.until_ids(&[]);
    watched.until_well();
    assert_eq!(watched.resets, 1);
}

#[test]
fn a_file_that_appears_changes_and_vanishes_is_told() {
    let mut watched = Watched::with(&[]);
    watched.until("a reset", |watched| watched.resets == 1);
    watched.write("a.yaml", &pod("x", "web", "10.0.0.1"));
    watched.until_ids(&["Namespace x", "Node n1", "Pod x/web"]);
    watched.write("a.yaml", &pod("x", "web", "10.0.0.2"));
    watched.until("the new address", |watched| {
        watched.text("Pod x/web").contains("10.0.0.2")
    });
    watched.remove("a.yaml");
    watched.until_ids(&[]);
    assert_eq!(watched.resets, 1);
}

#[test]
fn a_file_that_is_half_written_keeps_what_it_had_until_it_is_closed() {
    let both = format!("{}---\n{}", policy("x", "p"), policy("x", "q"));
    let mut watched = Watched::with(&[("a.yaml", &both)]);
    let all = ["Namespace x", "NetworkPolicy x/p", "NetworkPolicy x/q"];
    watched.until_ids(&all);
    // Half of it is a good file too.
    let mut file = fs::File::create(watched.path("a.yaml")).unwrap();
    watched.sync();
    file.write_all(policy("x", "p").as_bytes()).unwrap();
    watched.until_problem("a.yaml", "is being written");
    watched.sync();
    watched.assert_ids(&all);
    file.write_all(format!("---\n{}", policy("x", "r")).as_bytes())
        .unwrap();
    watched.sync();
    watched.assert_ids(&all);
    drop(file);
    watched.until_ids(&["Namespace x", "NetworkPolicy x/p", "NetworkPolicy x/r"]);
    watched.until_well();
}

#[test]
fn a_broken_file_keeps_what_it_had_and_is_a_problem_as_the_command_line_says_it() {
    let mut watched =
        Watched::with(&[("a.yaml", &policy("x", "p")), ("b.yaml", &policy("x", "q"))]);
    let all = ["Namespace x", "NetworkPolicy x/p", "NetworkPolicy x/q"];
    watched.until_ids(&all);
    let port = "  ingress: [{ports: [{port: 99999}]}]\n";
    let broken = [
        ("apiVersion: [", "a.yaml:"),
        (
            &policy("x", "p").replace("podSelector", "podselector"),
            "spec.podselector: unknown field",
        ),
        (
            &(policy("x", "p") + port),
            "NetworkPolicy x/p: spec.ingress[0].ports[0].port: Invalid value: 99999",
        ),
        (
            &format!("{0}---\n{0}", policy("x", "p")),
            "was already given at",
        ),
        ("", "is empty"),
        ("# nothing\n---\n", "is empty"),
        ("\0", "control character"),
    ];
    for (text, said) in broken {
        watched.write("a.yaml", text);
        watched.until_problem("a.yaml", said);
        watched.until_problem("a.yaml", "what it had before stays in force");
        assert!(!watched.problem("a.yaml").unwrap().blocks);
        watched.assert_ids(&all);
        // Another file goes on meanwhile.
        watched.write("b.yaml", &policy("x", "other"));
        watched.until_ids(&["Namespace x", "NetworkPolicy x/other", "NetworkPolicy x/p"]);
        watched.write("b.yaml", &policy("x", "q"));
        watched.until_ids(&all);
        watched.write("a.yaml", &policy("x", "p"));
        watched.until_well();
    }
    watched.assert_never_deleted("NetworkPolicy x/p");
}

#[test]
fn a_file_renamed_over_another_is_one_change() {
    let mut watched = Watched::with(&[("a.yaml", &policy("x", "p"))]);
    watched.until_ids(&["Namespace x", "NetworkPolicy x/p"]);
    watched.write(".new", &policy("x", "q"));
    watched.rename(".new", "a.yaml");
    watched.until_ids(&["Namespace x", "NetworkPolicy x/q"]);
    assert_eq!(watched.changes.len(), 1, "{:?}", watched.changes);
}

#[test]
fn an_object_that_moves_to_another_file_is_never_gone_in_between() {
    let mut watched = Watched::with(&[("a.yaml", &policy("x", "p"))]);
    let all = ["Namespace x", "NetworkPolicy x/p"];
    watched.until_ids(&all);
    watched.rename("a.yaml", "b.yaml");
    watched.sync();
    // The new one first, then the old one first.
    fs::copy(watched.path("b.yaml"), watched.path("c.yaml")).unwrap();
    watched.remove("b.yaml");
    watched.sync();
    watched.remove("c.yaml");
    watched.write("d.yaml", &policy("x", "p"));
    watched.sync();
    watched.create_folder("sub");
    watched.rename("d.yaml", "sub/d.yaml");
    watched.sync();
    watched.rename("sub", "other");
    watched.sync();
    watched.until_well();
    watched.assert_ids(&all);
    assert!(watched.changes.is_empty(), "{:?}", watched.changes);
}

#[test]
fn an_editor_that_deletes_and_writes_anew_deletes_nothing() {
    let mut watched = Watched::with(&[("a.yaml", &policy("x", "p"))]);
    watched.until_ids(&["Namespace x", "NetworkPolicy x/p"]);
    watched.remove("a.yaml");
    let text = format!("{}---\n{}", policy("x", "p"), policy("x", "q"));
    let mut file = fs::File::create(watched.path("a.yaml")).unwrap();
    file.write_all(&text.as_bytes()[..40]).unwrap();
    watched.sync();
    file.write_all(&text.as_bytes()[40..]).unwrap();
    drop(file);
    watched.until_ids(&["Namespace x", "NetworkPolicy x/p", "NetworkPolicy x/q"]);
    watched.assert_never_deleted("NetworkPolicy x/p");
}

#[test]
fn nothing_is_told_before_every_file_is_good() {
    let mut watched = Watched::with(&[("a.yaml", "apiVersion: ["), ("b.yaml", &policy("x", "p"))]);
    watched.until_problem("a.yaml", "nothing of the folder is applied");
    assert!(watched.problem("a.yaml").unwrap().blocks);
    assert_eq!(watched.resets, 0);
    watched.write("a.yaml", &policy("x", "q"));
    watched.until_ids(&["Namespace x", "NetworkPolicy x/p", "NetworkPolicy x/q"]);
    watched.until_well();
    assert_eq!((watched.resets, watched.changes.len()), (1, 0));
}

#[test]
fn an_empty_file_or_one_that_is_being_written_blocks_the_start() {
    let mut watched = Watched::with(&[("a.yaml", "")]);
    watched.until_problem("a.yaml", "is empty");
    assert!(watched.problem("a.yaml").unwrap().blocks && watched.resets == 0);
    let mut file = fs::File::create(watched.path("a.yaml")).unwrap();
    file.write_all(policy("x", "p").as_bytes()).unwrap();
    watched.until_problem("a.yaml", "is being written");
    assert!(watched.problem("a.yaml").unwrap().blocks && watched.resets == 0);
    drop(file);
    watched.until_ids(&["Namespace x", "NetworkPolicy x/p"]);
    watched.until_well();
}

#[test]
fn a_broken_file_that_is_deleted_blocks_no_longer() {
    let mut watched = Watched::with(&[("a.yaml", "{"), ("b.yaml", &namespace("x"))]);
    watched.until_problem("a.yaml", "a.yaml");
    watched.remove("a.yaml");
    watched.until_ids(&["Namespace x"]);
    watched.until_well();
}

#[test]
fn a_folder_that_is_not_there_yet_blocks_until_it_is() {
    let mut watched = Watched::without_folder();
    watched.until_problem("", "cannot be read");
    assert!(watched.problem("").unwrap().blocks && watched.resets == 0);
    fs::create_dir_all(watched.path("")).unwrap();
    watched.until("a reset", |watched| watched.resets == 1);
    watched.until_well();
    watched.write("a.yaml", &namespace("x"));
    watched.until_ids(&["Namespace x"]);
}

#[test]
fn a_folder_that_is_removed_leaves_everything_in_force_until_it_is_back() {
    let mut watched = Watched::with(&[
        ("a.yaml", &policy("x", "p")),
        ("sub/b.yaml", &policy("x", "q")),
    ]);
    let all = ["Namespace x", "NetworkPolicy x/p", "NetworkPolicy x/q"];
    watched.until_ids(&all);
    fs::remove_dir_all(watched.path("")).unwrap();
    watched.until_problem("", "cannot be read");
    assert!(!watched.problem("").unwrap().blocks);
    fs::create_dir(watched.path("")).unwrap();
    watched.until_problem("", "is another folder than before, and empty");
    watched.assert_ids(&all);
    watched.write("a.yaml", &policy("x", "p"));
    watched.until_ids(&["Namespace x", "NetworkPolicy x/p"]);
    watched.until_well();
    watched.assert_never_deleted("NetworkPolicy x/p");
}

#[test]
fn a_folder_that_another_replaces_is_read_anew() {
    let mut watched = Watched::with(&[
        ("m/a.yaml", &policy("x", "p")),
        ("m/deep/b.yaml", &namespace("z")),
    ]);
    watched.until_ids(&["Namespace x", "Namespace z", "NetworkPolicy x/p"]);
    // The folder in it, then the folder itself; each is watched as the one before.
    for (round, name) in [(1, "m"), (2, ""), (3, "")] {
        let next = watched.beside("next");
        fs::create_dir_all(next.join("m/deep")).unwrap();
        fs::write(next.join("m/a.yaml"), policy("x", "p")).unwrap();
        fs::write(next.join("m/deep/b.yaml"), namespace(&format!("z{round}"))).unwrap();
        let from = if name.is_empty() {
            next.clone()
        } else {
            next.join(name)
        };
        fs::rename(watched.path(name), watched.beside(&format!("old{round}"))).unwrap();
        fs::rename(from, watched.path(name)).unwrap();
        let _ = fs::remove_dir_all(next);
        watched.until_ids(&[
            "Namespace x",
            &format!("Namespace z{round}"),
            "NetworkPolicy x/p",
        ]);
        watched.write("m/deep/c.yaml", &namespace("c"));
        watched.until_ids(&[
            "Namespace c",
            "Namespace x",
            &format!("Namespace z{round}"),
            "NetworkPolicy x/p",
        ]);
        watched.remove("m/deep/c.yaml");
        watched.until_ids(&[
            "Namespace x",
            &format!("Namespace z{round}"),
            "NetworkPolicy x/p",
        ]);
    }
    watched.until_well();
    watched.assert_never_deleted("NetworkPolicy x/p");
}

#[test]
fn a_mounted_config_map_changes_all_at_once() {
    let mut watched = Watched::with(&[
        ("..1/a.yaml", &policy("x", "p")),
        ("..1/b.yaml", &policy("x", "q")),
    ]);
    symlink("..1", watched.path("..data")).unwrap();
    for name in ["a.yaml", "b.yaml"] {
        symlink(format!("..data/{name}"), watched.path(name)).unwrap();
    }
    watched.until_ids(&["Namespace x", "NetworkPolicy x/p", "NetworkPolicy x/q"]);
    watched.until_well();
    let before = watched.changes.len();
    // As the kubelet's AtomicWriter does.
    watched.write("..2/a.yaml", &policy("x", "p2"));
    watched.write("..2/b.yaml", &policy("x", "q2"));
    symlink("..2", watched.path("..data_tmp")).unwrap();
    watched.rename("..data_tmp", "..data");
    fs::remove_dir_all(watched.path("..1")).unwrap();
    watched.until_ids(&["Namespace x", "NetworkPolicy x/p2", "NetworkPolicy x/q2"]);
    assert_eq!(watched.changes.len() - before, 1, "{:?}", watched.changes);
    assert!(watched.problems.is_empty());
}

#[test]
fn a_folder_behind_a_link_follows_the_link() {
    let mut watched = Watched::without_folder();
    for (version, name) in [("v1", "p"), ("v2", "q")] {
        let folder = watched.beside(version).join("manifests");
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("a.yaml"), policy("x", name)).unwrap();
        symlink(
            watched.beside(version).join("manifests"),
            watched.beside("next"),
        )
        .unwrap();
        fs::rename(watched.beside("next"), watched.path("")).unwrap();
        watched.until_ids(&["Namespace x", &format!("NetworkPolicy x/{name}")]);
    }
    // And a link to a file elsewhere, which is written in its place.
    fs::write(watched.beside("far.yaml"), namespace("far")).unwrap();
    symlink(watched.beside("far.yaml"), watched.path("z.yaml")).unwrap();
    watched.until_ids(&["Namespace far", "Namespace x", "NetworkPolicy x/q"]);
    fs::write(watched.beside("far.yaml"), namespace("near")).unwrap();
    watched.until_ids(&["Namespace near", "Namespace x", "NetworkPolicy x/q"]);
    assert_eq!(watched.resets, 1);
}

#[test]
fn a_link_on_the_way_to_a_file_elsewhere_is_followed_when_it_changes() {
    let mut watched = Watched::with(&[]);
    symlink(watched.beside("current/a.yaml"), watched.path("a.yaml")).unwrap();
    for version in ["v1", "v2"] {
        fs::create_dir(watched.beside(version)).unwrap();
        fs::write(watched.beside(version).join("a.yaml"), namespace(version)).unwrap();
        symlink(version, watched.beside("next")).unwrap();
        fs::rename(watched.beside("next"), watched.beside("current")).unwrap();
        watched.until_ids(&[&format!("Namespace {version}")]);
    }
}

#[test]
fn of_an_object_in_two_files_the_one_that_had_it_first_counts() {
    let first = pod("x", "web", "10.0.0.1");
    let second = pod("x", "web", "10.0.0.2");
    let mut watched = Watched::with(&[("a.yaml", &first), ("b.yaml", &second)]);
    watched.until_problem("b.yaml", "Pod x/web: was already given at");
    assert!(!watched.problem("b.yaml").unwrap().blocks);
    assert!(watched.text("Pod x/web").contains("10.0.0.1"));
    // Also if it comes first in byte order, and is the same.
    watched.write("0.yaml", &first);
    watched.until_problem("0.yaml", "Pod x/web: was already given at");
    watched.remove("0.yaml");
    watched.until("0.yaml to be forgotten", |watched| {
        watched.problem("0.yaml").is_none()
    });
    watched.remove("a.yaml");
    watched.until("the other to take over", |watched| {
        watched.text("Pod x/web").contains("10.0.0.2")
    });
    watched.until_well();
    assert_eq!(watched.changes.len(), 1, "{:?}", watched.changes);
    watched.assert_never_deleted("Pod x/web");
}

#[test]
fn nothing_is_made_up_for_pods_and_what_they_name_exists_as_long_as_it_is_named() {
    let bare = "apiVersion: v1\nkind: Pod\nmetadata: {namespace: x, name: bare}\nspec: {containers: [{name: c}], nodeName: n7}\n";
    let workload = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {namespace: z, name: web}\nspec: {selector: {matchLabels: {a: b}}, template: {metadata: {labels: {a: b}}, spec: {containers: [{name: c}]}}}\n";
    let mut watched = Watched::with(&[("a.yaml", bare), ("b.yaml", workload)]);
    watched.until_ids(&["Namespace x", "Node n7", "Pod x/bare"]);
    let text = watched.text("Pod x/bare");
    assert!(
        text.contains("Pending") && text.contains("addresses: []"),
        "{text}"
    );
    assert!(
        watched
            .text("Namespace x")
            .contains("kubernetes.io/metadata.name")
    );
    assert!(watched.text("Node n7").contains("addresses: {}"));
    // A file gives it, and then none does.
    watched.write(
        "c.yaml",
        &namespace("x").replace("name: x", "name: x, labels: {team: red}"),
    );
    watched.until("the labels", |watched| {
        watched.text("Namespace x").contains("team")
    });
    watched.remove("c.yaml");
    watched.until("no labels", |watched| {
        !watched.text("Namespace x").contains("team")
    });
    watched.assert_never_deleted("Namespace x");
    watched.remove("a.yaml");
    watched.until_ids(&[]);
}

#[test]
fn addresses_that_no_pod_can_have_are_left_out() {
    let mut watched = Watched::with(&[]);
    for address in [
        "127.0.0.1",
        "0.0.0.0",
        "224.0.0.1",
        "255.255.255.255",
        "::1",
        "ff02::1",
    ] {
        watched.write("a.yaml", &pod("x", "web", address));
        watched.until("no address", |watched| {
            watched.objects.len() == 3 && watched.text("Pod x/web").contains("addresses: []")
        });
        watched.write("a.yaml", &pod("x", "web", "10.0.0.1"));
        watched.until("an address", |watched| {
            watched.text("Pod x/web").contains("10.0.0.1")
        });
    }
}

#[test]
fn an_object_without_a_name_is_refused() {
    let text = policy("x", "p").replace("name: p", "generateName: p-");
    let mut watched = Watched::with(&[("a.yaml", &text)]);
    watched.until_problem("a.yaml", "metadata.name: is required");
    assert_eq!(watched.resets, 0);
}

#[test]
fn a_file_above_the_limit_is_refused_by_its_size() {
    let mut watched = Watched::with(&[("a.yaml", &namespace("x"))]);
    watched.until_ids(&["Namespace x"]);
    let file = fs::OpenOptions::new()
        .write(true)
        .open(watched.path("a.yaml"))
        .unwrap();
    file.set_len(controller::source::MAX_BYTES + 1).unwrap();
    drop(file);
    watched.until_problem("a.yaml", "is larger than 64 MiB");
    watched.assert_ids(&["Namespace x"]);
}

#[test]
fn what_is_no_file_or_cannot_be_listed_is_a_problem_and_opens_nothing() {
    let mut watched = Watched::with(&[("a.yaml", &policy("x", "p"))]);
    watched.until_ids(&["Namespace x", "NetworkPolicy x/p"]);
    nix::unistd::mkfifo(&watched.path("b.yaml"), nix::sys::stat::Mode::S_IRUSR).unwrap();
    watched.until_problem("b.yaml", "is not a regular file");
    watched.remove("b.yaml");
    watched.until_well();
    symlink("nowhere.yaml", watched.path("c.yaml")).unwrap();
    watched.until_problem("c.yaml", "cannot be read");
    watched.remove("c.yaml");
    watched.until_well();
    // A link whose target goes away keeps what it had.
    fs::write(watched.beside("far.yaml"), namespace("far")).unwrap();
    symlink(watched.beside("far.yaml"), watched.path("z.yaml")).unwrap();
    let all = ["Namespace far", "Namespace x", "NetworkPolicy x/p"];
    watched.until_ids(&all);
    fs::remove_file(watched.beside("far.yaml")).unwrap();
    watched.until_problem("z.yaml", "cannot be read");
    watched.sync();
    watched.assert_ids(&all);
    watched.remove("z.yaml");
    watched.until_ids(&["Namespace x", "NetworkPolicy x/p"]);
}

#[test]
fn what_nobody_told_of_is_found_by_the_rescan() {
    let mut watched = Watched::rescanning(std::time::Duration::from_millis(100));
    fs::write(watched.beside("other"), namespace("x")).unwrap();
    fs::hard_link(watched.beside("other"), watched.path("a.yaml")).unwrap();
    watched.until_ids(&["Namespace x"]);
    // Written under its other name, in a folder that is not watched for it.
    fs::write(watched.beside("other"), namespace("z")).unwrap();
    watched.until_ids(&["Namespace z"]);
}

#[test]
fn ten_thousand_files_are_read_and_one_that_changes_is_read_alone() {
    let text = |n: usize| policy("x", &format!("p{n}"));
    let files: Vec<_> = (0..10_000)
        .map(|n| (format!("d{}/{n}.yaml", n % 10), text(n)))
        .collect();
    let files: Vec<_> = files
        .iter()
        .map(|(name, text)| (name.as_str(), text.as_str()))
        .collect();
    let mut watched = Watched::with(&files);
    watched.until("all", |watched| watched.objects.len() == 10_001);
    // Who would read it again would find it broken now, though nobody told of it.
    let hidden = watched.path("d1/1.yaml");
    fs::hard_link(&hidden, watched.beside("other")).unwrap();
    fs::write(watched.beside("other"), "kind: [").unwrap();
    watched.write("d0/0.yaml", &policy("x", "changed"));
    watched.until("the change", |watched| {
        watched.objects.contains_key("NetworkPolicy x/changed")
    });
    watched.sync();
    assert!(watched.problems.is_empty());
    assert_eq!(watched.objects.len(), 10_001);
}

#[test]
fn more_events_than_the_kernel_keeps_lose_nothing_and_believe_no_writer() {
    let both = format!("{}---\n{}", policy("x", "half"), policy("x", "whole"));
    let mut watched = Watched::with(&[("slow.yaml", &both), ("old.yaml", &policy("x", "old"))]);
    watched.until_ids(&[
        "Namespace x",
        "NetworkPolicy x/half",
        "NetworkPolicy x/old",
        "NetworkPolicy x/whole",
    ]);
    // Nobody takes the events, until there are more than the kernel keeps.
    let most = fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").unwrap();
    let most: usize = most.trim().parse().unwrap();
    // Two events of which none is taken hold up who reads.
    watched.write("few.yaml", &namespace("few"));
    watched.write("bad.yaml", "kind: [");
    watched.write("noise", "");
    for _ in 0..=most {
        watched.rename("noise", "more noise");
        watched.rename("more noise", "noise");
    }
    watched.rename("old.yaml", "new.yaml");
    watched.write("last.yaml", &namespace("last"));
    let mut file = fs::File::create(watched.path("slow.yaml")).unwrap();
    file.write_all(policy("x", "half").as_bytes()).unwrap();
    watched.until("the last", |watched| {
        watched.objects.contains_key("Namespace last")
    });
    // It goes on before it could count as quiet.
    let text = format!("---\n{}", policy("x", "whole"));
    for part in text.as_bytes().chunks(8) {
        file.write_all(part).unwrap();
        watched.sync();
    }
    drop(file);
    watched.remove("bad.yaml");
    watched.until_well();
    watched.sync();
    watched.assert_ids(&[
        "Namespace few",
        "Namespace last",
        "Namespace x",
        "NetworkPolicy x/half",
        "NetworkPolicy x/old",
        "NetworkPolicy x/whole",
    ]);
    watched.assert_never_deleted("NetworkPolicy x/old");
    watched.assert_never_deleted("NetworkPolicy x/whole");
}
