//! Namespaces are opened only if they are such, and entered only by threads of their own.

#![allow(clippy::unwrap_used)]

use std::fs::{self, File};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::{MetadataExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::Command;

use kernel::{Inside, Links, NamespaceError, NetworkNamespace};
use policy_compiler::ruleset::{Chain, Ruleset, Table, TableFamily};
use testbed::Namespace;

fn namespace() -> Namespace {
    Namespace::new().expect("these tests need root")
}

fn path(namespace: &Namespace) -> String {
    format!("/proc/self/fd/{}", namespace.as_fd().as_raw_fd())
}

/// A folder of this test's own, gone at its end.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("picket-{}-{name}", std::process::id()));
        fs::create_dir(&path).unwrap();
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).unwrap();
    }
}

fn own() -> u64 {
    fs::metadata("/proc/thread-self/ns/net").unwrap().ino()
}

#[test]
fn work_runs_inside_and_the_caller_stays_outside() {
    let (pod, before) = (namespace(), own());
    pod.ip(&["link", "add", "inside", "type", "veth", "peer", "name", "x"])
        .unwrap();
    let opened = NetworkNamespace::open(path(&pod)).unwrap();
    assert_eq!(opened.inode(), pod.inode().unwrap());
    assert_ne!(opened.inode(), before);
    assert_eq!(opened.run(own).unwrap(), opened.inode());
    assert_eq!(own(), before);
    // A socket stays where it was made, and a child is where it was started.
    let mut links = opened.run(Links::open).unwrap().unwrap();
    assert!(links.by_name("inside").unwrap().is_some());
    let child = opened.run(|| Command::new("ip").args(["link", "show", "inside"]).output());
    assert!(child.unwrap().unwrap().status.success());
}

#[test]
fn nftables_and_links_of_a_namespace_are_asked_and_changed_from_outside() {
    let (pod, before) = (namespace(), own());
    pod.ip(&["link", "add", "inside", "type", "veth", "peer", "name", "x"])
        .unwrap();
    let opened = NetworkNamespace::open_numbered(path(&pod), pod.inode().unwrap()).unwrap();
    let Inside {
        mut nftables,
        mut links,
    } = opened.inside().unwrap();
    assert_eq!(own(), before);
    // What was opened is used from here, and no descriptor of the namespace has to stay for that.
    drop(opened);
    let link = links.by_name("inside").unwrap().unwrap();
    links.set_group(&link, 7).unwrap();
    let group = pod.ip(&["link", "show", "group", "7"]).unwrap();
    assert!(group.contains("inside@x"), "{group}");
    let mut table = Table::new(TableFamily::Inet);
    table.add_chain(Chain {
        name: "chain".into(),
        base: None,
        rules: vec![],
    });
    let ruleset = Ruleset {
        tables: vec![table],
    };
    nftables.load(&ruleset, None).unwrap();
    let listed = pod.nft("list tables").unwrap();
    assert_eq!(listed.trim(), "table inet picket");
    // It holds the namespace: the agent and the plugin keep it no longer than they work in it.
    drop(pod);
    assert!(links.by_name("inside").unwrap().is_some());
}

#[test]
fn a_path_that_stands_for_another_namespace_by_now_is_refused() {
    let (was, is) = (namespace(), namespace());
    let inode = was.inode().unwrap();
    assert_eq!(
        NetworkNamespace::open_numbered(path(&was), inode)
            .unwrap()
            .inode(),
        inode
    );
    let error = NetworkNamespace::open_numbered(path(&is), inode).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "{} is network namespace {} and no longer {inode}",
            path(&is),
            is.inode().unwrap()
        )
    );
}

#[test]
fn a_panic_inside_goes_on_outside() {
    let opened = NetworkNamespace::open(path(&namespace())).unwrap();
    let caught = std::panic::catch_unwind(|| opened.run(|| panic!("inside")));
    assert_eq!(
        *caught.unwrap_err().downcast_ref::<&str>().unwrap(),
        "inside"
    );
    assert!(opened.run(|| ()).is_ok());
}

#[test]
fn a_namespace_stays_while_it_is_open() {
    let pod = namespace();
    let opened = NetworkNamespace::open(path(&pod)).unwrap();
    let inode = pod.inode().unwrap();
    drop(pod);
    assert_eq!(opened.run(own).unwrap(), inode);
}

#[test]
fn the_namespace_of_a_process_and_one_with_a_name_are_opened() {
    let opened = NetworkNamespace::open("/proc/self/ns/net").unwrap();
    assert_eq!(
        opened.inode(),
        fs::metadata("/proc/self/ns/net").unwrap().ino()
    );
    // With a name as in /run/netns, in a mount namespace of its own so that nobody else sees it: there the program
    // under test is this test.
    const NAME: &str = "the_namespace_of_a_process_and_one_with_a_name_are_opened";
    if let Some(file) = std::env::var_os(NAME) {
        let opened = NetworkNamespace::open(&file).unwrap();
        assert_eq!(opened.inode(), fs::metadata(&file).unwrap().ino());
        assert_eq!(opened.run(own).unwrap(), opened.inode());
        return;
    }
    let (folder, pod) = (Folder::new("named"), namespace());
    let file = folder.0.join("pod");
    File::create(&file).unwrap();
    let named = pod.run(|| {
        Command::new("unshare")
            .args(["--mount", "--", "sh", "-c"])
            .arg("mount --bind /proc/self/ns/net \"$1\" && exec \"$2\" --exact \"$3\"")
            .arg("sh")
            .arg(&file)
            .arg(std::env::current_exe().unwrap())
            .arg(NAME)
            .env(NAME, &file)
            .output()
    });
    let output = named.unwrap().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && text.contains("1 passed"),
        "{output:?}"
    );
}

#[test]
fn a_symbolic_link_is_refused() {
    let folder = Folder::new("link");
    let link = folder.0.join("pod");
    symlink("/proc/self/ns/net", &link).unwrap();
    let error = NetworkNamespace::open(&link).unwrap_err();
    assert!(
        matches!(error, NamespaceError::SymbolicLink { .. }),
        "{error}"
    );
    assert!(error.to_string().contains(link.to_str().unwrap()));
    // One on the way there is not what is opened.
    let on_the_way = folder.0.join("ns");
    symlink("/proc/self/ns", &on_the_way).unwrap();
    assert!(NetworkNamespace::open(on_the_way.join("net")).is_ok());
}

#[test]
fn what_is_no_network_namespace_is_refused() {
    let folder = Folder::new("other");
    let [file, pipe, socket] = ["file", "pipe", "socket"].map(|name| folder.0.join(name));
    File::create(&file).unwrap();
    assert!(
        Command::new("mkfifo")
            .arg(&pipe)
            .status()
            .unwrap()
            .success()
    );
    let _listener = UnixListener::bind(&socket).unwrap();
    let paths = [
        file.as_path(),
        &folder.0,
        // To open it would wait for a writer.
        &pipe,
        // This can not be opened at all.
        &socket,
        Path::new("/dev/null"),
        Path::new("/proc/self/ns/pid"),
        Path::new("/proc/self/ns/mnt"),
        Path::new("/proc/self/ns/user"),
        Path::new("/proc/self/exe"),
        Path::new("/proc/self/cwd"),
        Path::new("/proc/self/status"),
    ];
    for path in paths {
        let error = NetworkNamespace::open(path).unwrap_err();
        assert!(
            matches!(error, NamespaceError::Other { .. }),
            "{path:?}: {error}"
        );
        let expected = format!("{} is not a network namespace", path.display());
        assert_eq!(error.to_string(), expected);
    }
    let error = NetworkNamespace::open(folder.0.join("none")).unwrap_err();
    assert!(matches!(error, NamespaceError::Open { .. }), "{error}");
}
