//! What the agent dumps of its objects and of interfaces makes the rules that it has in force.

use std::fs;
use std::net::IpAddr;
use std::process::{Command, Output};

use cni_chain::attachment::{Attachment, AttachmentId, Path, PodIdentity};
use cni_chain::protocol::Answer;
use cni_chain::quarantine::QUARANTINE;
use serde_json::Value;

use super::{LONG, Node, attached, both, until};
use crate::live::Agent;
use crate::traffic::world::{Family, TIGHT, address};

impl Node {
    fn picket(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_picket"));
        command.args(arguments);
        let output = self.pods.world.node().run(|| command.output());
        output.unwrap().unwrap()
    }

    fn dump(&self, what: &str) -> String {
        let run_dir = self.pods.run_dir.path().to_str().unwrap();
        let output = self.picket(&["dump", what, "--run-dir", run_dir]);
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// What is compiled of the dumps, and what was said on stderr.
    fn compiled(&self, with_attachments: bool) -> (String, String) {
        let folder = self.pods.run_dir.path();
        let [objects, attachments] = ["objects", "attachments"].map(|what| {
            let path = folder.join(format!("{what}.dumped.json"));
            fs::write(&path, self.dump(what)).unwrap();
            path.to_str().unwrap().to_owned()
        });
        let mut arguments = vec!["compile", "-f", &objects, "--node", "n1"];
        if with_attachments {
            arguments.extend(["--attachments", &attachments]);
        }
        let output = self.picket(&arguments);
        let [out, said] = [output.stdout, output.stderr].map(|it| String::from_utf8(it).unwrap());
        assert!(output.status.success(), "{said}");
        (out, said)
    }

    /// Waits until a dump of interfaces says so, and compares. Returns the rules.
    #[track_caller]
    fn assert_same(&self, agent: &Agent, what: &str, holds: impl Fn(&Value) -> bool) -> String {
        until(what, agent, || {
            holds(&serde_json::from_str(&self.dump("attachments")).unwrap())
        });
        let mut last = (String::new(), String::new());
        until(
            &format!("compile gives what is in force: {what}"),
            agent,
            || {
                // What is asked for first may be older than the next.
                last = (self.dump("rules"), self.compiled(true).0);
                last.0 == last.1
            },
        );
        assert_ne!(self.compiled(false).0, last.0, "{what}");
        last.0
    }

    /// Another pod, at a port of a bridge.
    fn record_bridged(&mut self, pod: &str, addresses: &[IpAddr]) -> AttachmentId {
        let node = self.pods.world.node();
        node.ip_batch(
            "link add dumped type bridge\nlink set dumped up\n\
             link add vethd type veth peer name vethp\nlink set vethd master dumped\nlink set vethd up\n",
        )
        .unwrap();
        let link = self.links.by_name("vethd").unwrap().unwrap();
        let id = AttachmentId::new(&format!("container-{pod}"), "eth0").unwrap();
        let attachment = Attachment {
            id: id.clone(),
            network: "pods".to_owned(),
            netns: format!("/var/run/netns/{pod}"),
            netns_inode: 1,
            pod: PodIdentity {
                namespace: "t".to_owned(),
                name: pod.to_owned(),
                uid: Some("one".to_owned()),
            },
            addresses: addresses.iter().copied().collect(),
            routes: false,
            path: Path::Bridged {
                host: link.name.clone(),
                index: link.index,
                bridge: "dumped".to_owned(),
            },
        };
        self.records.write(&attachment).unwrap();
        self.links.set_group(&link, QUARANTINE).unwrap();
        id
    }
}

/// The entry of a pod.
fn of<'a>(document: &'a Value, pod: &str) -> Option<&'a Value> {
    let pods = document["pods"].as_array().unwrap();
    pods.iter().find(|entry| entry["pod"] == pod)
}

#[test]
fn compile_makes_of_the_dumps_the_rules_that_are_in_force_to_the_byte() {
    let (mut node, agent, _) = attached();
    node.pods.replace("policy.yaml", TIGHT);
    // One of its link, and one of which its object knows nothing.
    let link_local: IpAddr = "fe80::a".parse().unwrap();
    node.list("a", "one", &both("a")[..1]);
    let own = [&both("a")[..], &[link_local]].concat();
    let a = node.record("a", "one", &own);
    assert_eq!(node.attach(&a, LONG), Answer::Ready, "{}", agent.log());
    // Another link may have that too.
    let bridged: [IpAddr; 2] = ["10.1.0.77".parse().unwrap(), link_local];
    node.list("d", "one", &[]);
    let d = node.record_bridged("d", &bridged);
    assert_eq!(node.attach(&d, LONG), Answer::Ready, "{}", agent.log());
    let rules = node.assert_same(&agent, "all are attached", |document| {
        let all = ["t/a", "t/b", "t/d"].map(|pod| of(document, pod));
        all.iter()
            .all(|entry| entry.is_some_and(|entry| entry["presence"] == "attached"))
    });
    let host = node.link("a").unwrap().name;
    for text in [
        format!("\"{host}\" . fe80::a"),
        format!("\"{host}\" . {}", address("a", Family::V6)),
        "\"vethd\" . 10.1.0.77".to_owned(),
    ] {
        assert!(rules.contains(&text), "{text}: {rules}");
    }
    let document: Value = serde_json::from_str(&node.dump("attachments")).unwrap();
    let of_d = of(&document, "t/d").unwrap();
    assert_eq!(of_d["interfaces"][0]["interface"], "vethd");
    assert_eq!(of_d["interfaces"][0]["bridged"], true);

    // Its object is gone.
    node.pods.remove("b.yaml");
    let rules = node.assert_same(&agent, "b is orphaned", |document| {
        of(document, "t/b").is_some_and(|entry| {
            entry["presence"] == "orphaned" && entry["object"]["metadata"]["uid"] == "one"
        })
    });
    assert!(rules.contains("10.1.0.12"), "{rules}");
    assert!(!node.dump("objects").contains("\"name\": \"b\""));

    // Its object is another's, and nobody knows what its interface may pass.
    node.list("b", "two", &[]);
    let rules = node.assert_same(&agent, "what b was is closed", |document| {
        document["closed"][0]["pod"] == "t/b" && of(document, "t/b").is_none()
    });
    assert!(rules.contains("ingress4_newcomers"), "{rules}");

    // Its object says that it has ended.
    let text = fs::read_to_string(node.pods.manifests.path().join("a.yaml")).unwrap();
    let ended = text.replace("phase: Running", "phase: Succeeded");
    assert_ne!(ended, text);
    node.pods.replace("a.yaml", &ended);
    node.assert_same(&agent, "a is orphaned", |document| {
        of(document, "t/a")
            .is_some_and(|entry| entry["presence"] == "orphaned" && entry.get("object").is_none())
    });
}
