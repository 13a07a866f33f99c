//! A node with its own network, its own `/run` and containers, and plugins called as libcni calls them.

#![allow(dead_code, reason = "each test program uses a part")]

pub(crate) mod agent;
pub(crate) mod chain;
pub(crate) mod flannel;
pub(crate) mod packets;

use std::ffi::OsString;
use std::fs;
use std::io::Write;
use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use cni_chain::attachment::{Attachment, AttachmentId, Records};
use kernel::{Inside, Link, Links, NetworkNamespace, Scope};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use serde_json::Value;
use testbed::Namespace;

/// Beyond what any of them takes on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Where Debian has the reference plugins.
const PLUGINS: &str = "/usr/lib/cni";

/// A node, whose processes see a folder as `/run`.
pub(crate) struct Node {
    pub(crate) network: Namespace,
    folder: PathBuf,
}

/// A container's network namespace.
pub(crate) struct Container {
    pub(crate) network: Namespace,
    pub(crate) id: String,
    pub(crate) args: String,
}

/// What a plugin left.
#[derive(Debug)]
pub(crate) struct Output {
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: String,
    pub(crate) code: Option<i32>,
    pub(crate) took: Duration,
}

/// A namespace of its own, or the loud end of the test.
pub(crate) fn namespace() -> Namespace {
    Namespace::new().expect("these tests need root")
}

impl Node {
    pub(crate) fn new(name: &str) -> Self {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/tmp/cni");
        let folder = folder.join(format!("{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        for part in ["run", "state"] {
            fs::create_dir_all(folder.join(part)).expect("a folder");
        }
        let folder = folder.canonicalize().expect("a folder");
        let network = namespace();
        network.ip(&["link", "set", "lo", "up"]).expect("up");
        Self { network, folder }
    }

    /// What its processes see as `/run/picket`.
    pub(crate) fn run_dir(&self) -> PathBuf {
        self.folder.join("run/picket")
    }

    /// For plugins to keep what they like.
    pub(crate) fn state(&self) -> PathBuf {
        self.folder.join("state")
    }

    pub(crate) fn records(&self) -> Records {
        Records::new(&self.run_dir())
    }

    pub(crate) fn record(&self, of: &Container, interface: &str) -> Option<Attachment> {
        let id = AttachmentId::new(&of.id, interface).expect("valid");
        self.records().read(&id).expect("read")
    }

    pub(crate) fn links(&self) -> Links {
        self.network
            .run(Links::open)
            .expect("entered")
            .expect("a socket")
    }

    /// The node's end of a container's interface.
    pub(crate) fn host_end(&self, of: &Container, interface: &str) -> Link {
        let namespace = NetworkNamespace::open(of.path()).expect("opened");
        self.links()
            .pair(&namespace, interface)
            .expect("a pair")
            .outside
    }

    /// An uplink to a host that has an address of each family, on which a macvlan may stand.
    pub(crate) fn uplink(&self, addresses: [&str; 2]) -> Namespace {
        let outside = namespace();
        let path = format!(
            "/proc/{}/fd/{}",
            std::process::id(),
            outside.as_fd().as_raw_fd()
        );
        let batch =
            format!("link add uplink type veth peer name wire netns {path}\nlink set uplink up\n");
        self.network.ip_batch(&batch).expect("a veth");
        let [v4, v6] = addresses;
        let batch = format!(
            "link set wire up\naddress add {v4}/24 dev wire\naddress add {v6}/64 dev wire nodad\n"
        );
        outside.ip_batch(&batch).expect("up");
        outside
    }

    /// A pod with an interface `eth0`, whose other end is routed, and what a plugin would say of it.
    pub(crate) fn pod(&self, name: &str, address: &str) -> (Container, String) {
        let pod = Container::new(name);
        let host = format!("h-{name}");
        // Its namespace is named by a descriptor of this process.
        let path = pod.path();
        let batch =
            format!("link add {host} type veth peer name eth0 netns {path}\nlink set {host} up\n");
        self.network.ip_batch(&batch).expect("a veth");
        let inside = format!("link set eth0 up\naddress add {address}/32 dev eth0\n");
        pod.network.ip_batch(&inside).expect("up");
        let result = format!(
            r#"{{ "cniVersion":"1.0.0","interfaces":[{{"mac":"0","name":"{host}"}},{{"name":"eth0","sandbox":"{path}","pciID":"x"}}],"zz":{{"b":1,"a":[null]}},"ips":[{{"address":"{address}/32","interface":1}}],"dns":{{}}}}"#
        );
        (pod, result)
    }

    /// A plugin, called as libcni does.
    pub(crate) fn call(
        &self,
        plugin: &str,
        environment: &[(&str, OsString)],
        stdin: &[u8],
    ) -> Output {
        let path = match plugin {
            "picket-cni" => PathBuf::from(env!("CARGO_BIN_EXE_picket-cni")),
            "flannel" => flannel::program(),
            other => Path::new(PLUGINS).join(other),
        };
        assert!(
            path.exists(),
            "{} is missing: install the package containernetworking-plugins",
            path.display()
        );
        self.network
            .run(|| self.call_here(&path, environment, stdin))
            .expect("entered")
    }

    fn call_here(&self, path: &Path, environment: &[(&str, OsString)], stdin: &[u8]) -> Output {
        let none = None::<&str>;
        unshare(CloneFlags::CLONE_NEWNS).expect("these tests need root");
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).expect("private");
        let run = self.folder.join("run");
        mount(Some(&run), "/run", none, MsFlags::MS_BIND, none).expect("bound");
        let started = Instant::now();
        let mut child = Command::new(path)
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .envs(environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("started");
        // It may have ended before it has read all.
        let _ = child.stdin.take().expect("piped").write_all(stdin);
        let output = child.wait_with_output().expect("ended");
        Output {
            took: started.elapsed(),
            stdout: output.stdout,
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
            code: output.status.code(),
        }
    }

    /// Our plugin alone.
    pub(crate) fn picket(&self, verb: &str, of: &Container, stdin: &str) -> Output {
        self.call(
            "picket-cni",
            &of.environment(verb, "eth0"),
            stdin.as_bytes(),
        )
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

impl Container {
    /// Of a pod of this name.
    pub(crate) fn new(name: &str) -> Self {
        Self {
            network: namespace(),
            id: format!("c-{name}"),
            args: format!(
                "K8S_POD_UID=uid-{name};K8S_POD_NAME={name};IgnoreUnknown=1;K8S_POD_NAMESPACE=default"
            ),
        }
    }

    /// What is asked and changed inside.
    pub(crate) fn inside(&self) -> Inside {
        let namespace = NetworkNamespace::open(self.path()).expect("opened");
        namespace.inside().expect("entered")
    }

    /// Its own end of an interface.
    pub(crate) fn link(&self, interface: &str) -> Link {
        let found = self.inside().links.by_name(interface);
        found.expect("asked").expect("it is there")
    }

    /// What the kernel has made as link-local addresses of an interface.
    pub(crate) fn link_local(&self, interface: &str) -> Vec<IpAddr> {
        let index = self.link(interface).index;
        let mut addresses = self.inside().links.addresses_of(index).expect("listed");
        addresses.retain(|of| of.scope == Scope::Link && of.address.is_ipv6());
        addresses.iter().map(|of| of.address).collect()
    }

    /// The path of its network namespace.
    pub(crate) fn path(&self) -> String {
        format!(
            "/proc/{}/fd/{}",
            std::process::id(),
            self.network.as_fd().as_raw_fd()
        )
    }

    pub(crate) fn environment(&self, verb: &str, interface: &str) -> Vec<(&'static str, OsString)> {
        [
            ("CNI_COMMAND", verb.to_owned()),
            ("CNI_CONTAINERID", self.id.clone()),
            ("CNI_NETNS", self.path()),
            ("CNI_IFNAME", interface.to_owned()),
            ("CNI_ARGS", self.args.clone()),
            ("CNI_PATH", PLUGINS.to_owned()),
        ]
        .map(|(name, value)| (name, value.into()))
        .into()
    }
}

impl Output {
    /// Standard output of what went well.
    #[track_caller]
    pub(crate) fn done(self) -> String {
        assert_eq!(
            self.code,
            Some(0),
            "{self:#?}\n{}",
            String::from_utf8_lossy(&self.stdout)
        );
        String::from_utf8(self.stdout).expect("text")
    }

    /// The error of what did not, as a runtime reads it: `CODE: MESSAGE; DETAILS`.
    #[track_caller]
    pub(crate) fn failed(&self) -> String {
        assert_eq!(self.code, Some(1), "{self:#?}");
        let error: Value = serde_json::from_slice(&self.stdout).expect("JSON and nothing else");
        let text = |key: &str| error[key].as_str().expect(key).to_owned();
        let keys: Vec<_> = error.as_object().expect("an object").keys().collect();
        assert_eq!(keys, ["cniVersion", "code", "details", "msg"]);
        assert!(
            ["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"].contains(&text("cniVersion").as_str())
        );
        format!("{}: {}; {}", error["code"], text("msg"), text("details"))
    }

    /// That it failed with this code, and says these words.
    #[track_caller]
    pub(crate) fn fails(&self, code: u32, words: &str) {
        let error = self.failed();
        assert!(error.starts_with(&format!("{code}: ")), "{error}");
        assert!(error.contains(words), "{error}");
    }
}

/// Waits until it holds.
#[track_caller]
pub(crate) fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "never {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Our entry with a result before it.
pub(crate) fn stdin(version: &str, keys: &str, result: &str) -> String {
    format!(
        r#"{{"cniVersion":"{version}","name":"k8s","type":"picket-cni"{keys},"prevResult":{result}}}"#
    )
}
