//! Runtimes whose networks end in a plugin that records how it is called.
#![allow(clippy::unwrap_used, reason = "a test that cannot be set up fails")]
#![allow(dead_code, reason = "each test program uses a part")]

use std::collections::BTreeMap;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use ipnet::IpNet;
use runtimes::{Kind, Network, Output, Plugin, Runtimes};
use serde_json::{Map, Value, json};

/// Where the plugin records, in the node.
const FOLDER: &str = "/run/recorded";

/// How often a ping is tried: each waits a second, on a machine that may be busy.
const PINGS: &str = "5";

/// How long what comes about by itself may take on a machine that is busy.
const PATIENCE: Duration = Duration::from_secs(30);

/// Runtimes, and how they called the plugin.
pub(crate) struct Recorded {
    pub(crate) runtimes: Runtimes,
    pub(crate) bridge: Network,
    pub(crate) ptp: Network,
}

/// One call of the plugin.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) environment: BTreeMap<String, String>,
    pub(crate) input: Value,
}

impl Recorded {
    #[track_caller]
    pub(crate) fn start() -> Recorded {
        let network = |name: &str, kind, v4: &str, v6: &str| Network {
            name: name.to_owned(),
            kind,
            subnets: vec![v4.parse().unwrap(), v6.parse().unwrap()],
        };
        let bridge = network("pods", Kind::Bridge, "10.20.0.0/24", "fd00:20::/64");
        let ptp = network("links", Kind::Ptp, "10.21.0.0/24", "fd00:21::/64");
        let plugin = Plugin {
            program: PathBuf::from(env!("CARGO_BIN_EXE_recording-plugin")),
            configuration: Map::from_iter([("folder".to_owned(), Value::from(FOLDER))]),
        };
        let runtimes = Runtimes::start(&[bridge.clone(), ptp.clone()], &plugin);
        let runtimes = runtimes.unwrap_or_else(|error| panic!("{error}"));
        fs::create_dir(runtimes.node().path(FOLDER)).unwrap();
        Recorded {
            runtimes,
            bridge,
            ptp,
        }
    }

    /// All calls for a container, in their order.
    pub(crate) fn calls(&self, container: &str) -> Vec<Call> {
        let path = self.runtimes.node().path(FOLDER).join("calls.jsonl");
        let lines = fs::read_to_string(path).unwrap_or_default();
        let calls = lines.lines().map(|line| {
            let call: Value = serde_json::from_str(line).unwrap();
            Call {
                environment: serde_json::from_value(call["environment"].clone()).unwrap(),
                input: call["input"].clone(),
            }
        });
        calls
            .filter(|call| call.variable("CNI_CONTAINERID").starts_with(container))
            .collect()
    }

    /// Has the plugin answer a verb with an error, or no longer.
    pub(crate) fn fail(&self, verb: &str, error: Option<Value>) {
        let path = self
            .runtimes
            .node()
            .path(FOLDER)
            .join(format!("fail-{verb}"));
        match error {
            Some(error) => fs::write(path, error.to_string()).unwrap(),
            None => fs::remove_file(path).unwrap(),
        }
    }

    /// The addresses of a network that are given to somebody.
    pub(crate) fn leases(&self, network: &Network) -> Vec<String> {
        let folder = self
            .runtimes
            .node()
            .path("/var/lib/cni/networks")
            .join(&network.name);
        let files = fs::read_dir(folder).unwrap();
        let names = files.map(|file| file.unwrap().file_name().into_string().unwrap());
        // Beside a lock and the last one given.
        names
            .filter(|name| name.parse::<IpAddr>().is_ok())
            .collect()
    }

    /// Whether the node reaches these addresses.
    #[track_caller]
    pub(crate) fn assert_node_reaches(&self, addresses: &[IpAddr]) {
        for address in addresses {
            let address = address.to_string();
            let ping = || {
                let mut command = std::process::Command::new("busybox");
                command
                    .args(["ping", "-c", "1", "-W", PINGS, &address])
                    .output()
            };
            let output = self.runtimes.node().network().run(ping).unwrap().unwrap();
            assert!(output.status.success(), "{output:?}");
        }
    }
}

impl Call {
    pub(crate) fn verb(&self) -> &str {
        self.variable("CNI_COMMAND")
    }

    pub(crate) fn variable(&self, name: &str) -> &str {
        self.environment
            .get(name)
            .map(String::as_str)
            .unwrap_or_default()
    }

    pub(crate) fn has_result(&self) -> bool {
        self.input.get("prevResult").is_some()
    }
}

/// The verbs of calls, and with each whether it had a network namespace and a result.
pub(crate) fn told(calls: &[Call]) -> Vec<(&str, bool, bool)> {
    let has_namespace = |call: &Call| !call.variable("CNI_NETNS").is_empty();
    let told = |call| (Call::verb(call), has_namespace(call), call.has_result());
    calls.iter().map(told).collect()
}

/// What an agent that does not answer makes the plugin say.
pub(crate) fn try_again() -> Value {
    json!({
        "cniVersion": "1.0.0",
        "code": 11,
        "msg": "the agent is not ready",
        "details": "no answer on a socket",
    })
}

/// Pings with what runs programs in a container.
#[track_caller]
pub(crate) fn assert_reaches<E: std::fmt::Debug>(
    exec: impl Fn(&[&str]) -> Result<Output, E>,
    addresses: &[IpAddr],
) {
    for address in addresses {
        let output = exec(&["ping", "-c", "1", "-W", PINGS, &address.to_string()]).unwrap();
        assert_eq!(output.code, 0, "{output:?}");
        assert!(output.stdout.contains("1 packets received"), "{output:?}");
    }
}

/// The node's addresses in a network: the first after that of the network itself.
pub(crate) fn gateways(network: &Network) -> Vec<IpAddr> {
    let first = |subnet: &IpNet| match subnet.network() {
        IpAddr::V4(address) => IpAddr::from(Ipv4Addr::from_bits(address.to_bits() + 1)),
        IpAddr::V6(address) => IpAddr::from(Ipv6Addr::from_bits(address.to_bits() + 1)),
    };
    network.subnets.iter().map(first).collect()
}

/// Both families are there.
#[track_caller]
pub(crate) fn assert_dual_stack(addresses: &[IpAddr], network: &Network) {
    assert_eq!(addresses.len(), 2, "{addresses:?}");
    let inside = |address| {
        network
            .subnets
            .iter()
            .any(|subnet| subnet.contains(address))
    };
    assert!(addresses.iter().all(inside), "{addresses:?}");
    assert_ne!(
        addresses[0].is_ipv4(),
        addresses[1].is_ipv4(),
        "{addresses:?}"
    );
}

/// Waits for something that comes about by itself.
#[track_caller]
pub(crate) fn eventually(what: &str, is_so: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}
