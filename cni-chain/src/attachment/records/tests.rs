//! Records in folders of their own.

use std::os::unix::fs::PermissionsExt;

use super::super::{Path as Way, PodIdentity};
use super::*;

/// Goes with its content.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../target/tmp/records");
        let folder = folder.join(format!("{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        Self(folder)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn id(container: &str, interface: &str) -> AttachmentId {
    AttachmentId::new(container, interface).expect("valid")
}

fn attachment(id: AttachmentId) -> Attachment {
    Attachment {
        id,
        network: "k8s-br".into(),
        netns: "/var/run/netns/cni-33c3".into(),
        netns_inode: 4_026_532_177,
        pod: PodIdentity {
            namespace: "default".into(),
            name: "web-0".into(),
            uid: Some("6d1c".into()),
        },
        addresses: ["10.235.0.3", "fd00::3"]
            .map(|a| a.parse().expect("one"))
            .into(),
        path: Way::Bridged {
            host: "veth04cff6b5".into(),
            index: 53,
            bridge: "cni-brk".into(),
        },
        routes: false,
    }
}

const TEXT: &str = r#"{"version":1,"containerId":"8154","interface":"eth0","network":"k8s-br","netns":"/var/run/netns/cni-33c3","netnsInode":4026532177,"pod":{"namespace":"default","name":"web-0","uid":"6d1c"},"addresses":["10.235.0.3","fd00::3"],"path":{"kind":"bridged","host":"veth04cff6b5","index":53,"bridge":"cni-brk"}}"#;

/// Of a pod that routes.
const ROUTES: &str = r#""routes":true"#;

const BYPASS: &str = r#"{"version":1,"containerId":"8154","interface":"net1","network":"k8s-br","netns":"/var/run/netns/cni-33c3","netnsInode":4026532177,"pod":{"namespace":"default","name":"web-0"},"addresses":[],"path":{"kind":"bypass","link":"macvlan","index":2}}"#;

#[test]
fn a_record_is_written_read_listed_and_removed() {
    let folder = Folder::new("round");
    let records = Records::new(&folder.0);
    let web = attachment(id("8154", "eth0"));
    assert_eq!(records.read(&web.id).expect("no folder"), None);
    assert!(!records.remove(&web.id).expect("no folder"));
    assert!(records.list().expect("no folder").0.is_empty());
    records.write(&web).expect("written");
    let path = records.folder().join("8154-eth0.json");
    assert_eq!(
        fs::read_to_string(&path).expect("there"),
        format!("{TEXT}\n")
    );
    assert_eq!(records.read(&web.id).expect("read"), Some(web.clone()));
    let mut other = attachment(id("8154", "net1"));
    other.path = Way::Bypass {
        link: "macvlan".into(),
        index: 2,
    };
    other.pod.uid = None;
    records.write(&other).expect("written");
    let bypass = records.read(&other.id).expect("read");
    assert_eq!(bypass, Some(other.clone()));
    let text = fs::read_to_string(records.folder().join("8154-net1.json")).expect("there");
    let addresses = r#""addresses":["10.235.0.3","fd00::3"]"#;
    assert_eq!(
        text.replace(addresses, r#""addresses":[]"#),
        format!("{BYPASS}\n")
    );
    assert!(!text.contains(ROUTES));
    other.routes = true;
    records.write(&other).expect("written");
    let text = fs::read_to_string(records.folder().join("8154-net1.json")).expect("there");
    assert!(text.contains(ROUTES), "{text}");
    assert_eq!(records.read(&other.id).expect("read"), Some(other.clone()));
    other.path = Way::Routed {
        host: "veth1".into(),
        index: 7,
    };
    records.write(&other).expect("written again");
    let (listed, errors) = records.list().expect("listed");
    assert_eq!(listed, [web.clone(), other]);
    assert!(errors.is_empty());
    for folder in [&folder.0, records.folder()] {
        let mode = fs::metadata(folder).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
    }
    assert!(records.remove(&web.id).expect("removed"));
    assert!(!records.remove(&web.id).expect("again"));
    assert!(!path.exists());
}

#[test]
fn a_bad_record_hides_no_other() {
    let folder = Folder::new("bad");
    let records = Records::new(&folder.0);
    let web = attachment(id("8154", "eth0"));
    records.write(&web).expect("written");
    let long = format!("{TEXT}{}", " ".repeat(70_000)).replace("8154", "long");
    let bad = [
        ("a-eth0", ""),
        ("b-eth0", "{}"),
        ("c-eth0", "{\"version\":2}"),
        ("d-eth0", TEXT),
        (
            "e-eth0",
            &TEXT.replace("8154", "e").replace("fd00::3", "::1"),
        ),
        (
            "f-eth0",
            &TEXT.replace("8154", "f").replace("10.235.0.3", "224.0.0.1"),
        ),
        ("g-eth0", &TEXT.replace("8154", "../g")),
        (
            "h-eth0",
            &TEXT.replace("8154", "h").replace("web-0", "we\\nb"),
        ),
        ("i-eth0", &TEXT.replace("8154", "i").replace(":53", ":0")),
        (
            "j-eth0",
            &TEXT.replace("8154", "j").replace("fd00::3", "::"),
        ),
        (
            "k-net1",
            &BYPASS
                .replace("8154", "k")
                .replace("\"index\":2", "\"index\":0"),
        ),
        (
            "l-net1",
            &BYPASS.replace("8154", "l").replace(",\"index\":2", ""),
        ),
        ("long-eth0", &long[..66_000]),
    ];
    for (name, text) in &bad {
        fs::write(records.folder().join(format!("{name}.json")), text).expect("written");
    }
    for name in [".8154-eth0", "readme"] {
        fs::write(records.folder().join(name), "").expect("written");
    }
    fs::create_dir(records.folder().join("k-eth0.json")).expect("made");
    let (listed, errors) = records.list().expect("listed");
    let errors: Vec<_> = errors.iter().map(ToString::to_string).collect();
    assert_eq!(
        listed
            .iter()
            .map(|of| of.id.to_string())
            .collect::<Vec<_>>(),
        ["8154-eth0"]
    );
    assert_eq!(errors.len(), bad.len() + 1, "{errors:#?}");
}

#[test]
fn unknown_keys_are_tolerated() {
    let folder = Folder::new("keys");
    let records = Records::new(&folder.0);
    fs::create_dir_all(records.folder()).expect("made");
    let text = TEXT.replacen('{', "{\"later\":[1],", 1);
    fs::write(records.folder().join("8154-eth0.json"), text).expect("written");
    let web = id("8154", "eth0");
    assert_eq!(records.read(&web).expect("read"), Some(attachment(web)));
}

#[test]
fn one_file_for_two_attachments_keeps_the_first() {
    let folder = Folder::new("twice");
    let records = Records::new(&folder.0);
    let first = attachment(id("a-b", "c"));
    records.write(&first).expect("written");
    let second = id("a", "b-c");
    records.read(&second).expect_err("another's");
    records
        .write(&attachment(second.clone()))
        .expect_err("another's");
    records.remove(&second).expect_err("another's");
    assert_eq!(records.read(&first.id).expect("read"), Some(first));
}

#[test]
fn what_could_not_be_read_is_not_written() {
    let folder = Folder::new("unwritten");
    let records = Records::new(&folder.0);
    let mut web = attachment(id("8154", "eth0"));
    web.addresses.insert("127.0.0.1".parse().expect("one"));
    records.write(&web).expect_err("no pod's address");
    assert!(!records.folder().exists());
}
