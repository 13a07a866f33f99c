//! A list of plugins, run as libcni runs it.

use std::net::IpAddr;

use serde_json::{Value, json};

use super::{Container, Node, Output};

/// A network: plugins in order.
pub(crate) struct Network {
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) plugins: Vec<Value>,
}

/// What became of an ADD.
pub(crate) struct Added {
    /// What each plugin said, in order; of one that failed nothing.
    pub(crate) results: Vec<String>,
    /// Of the plugin that failed.
    pub(crate) failed: Option<Output>,
}

impl Network {
    /// One main plugin, and ours with these keys behind it.
    pub(crate) fn new(version: &str, main: Value, ours: Value) -> Self {
        let mut picket = json!({"type": "picket-cni", "timeoutSeconds": 1});
        let keys = ours.as_object().expect("an object").clone();
        picket.as_object_mut().expect("an object").extend(keys);
        Self {
            name: "k8s".into(),
            version: version.into(),
            plugins: vec![main, picket],
        }
    }

    fn stdin(&self, plugin: &Value, previous: Option<&str>) -> String {
        let mut keys = plugin.as_object().expect("an object").clone();
        keys.insert("cniVersion".into(), json!(self.version));
        keys.insert("name".into(), json!(self.name));
        let mut text = serde_json::to_string(&keys).expect("JSON");
        if let Some(previous) = previous {
            // As it came.
            text.pop();
            text.push_str(&format!(",\"prevResult\":{previous}}}"));
        }
        text
    }

    fn call(
        &self,
        node: &Node,
        plugin: &Value,
        environment: &[(&str, std::ffi::OsString)],
        previous: Option<&str>,
    ) -> Output {
        let kind = plugin["type"].as_str().expect("a type");
        node.call(kind, environment, self.stdin(plugin, previous).as_bytes())
    }

    /// ADD in order, each with the result of the one before, until one fails.
    pub(crate) fn add(&self, node: &Node, of: &Container, interface: &str) -> Added {
        let environment = of.environment("ADD", interface);
        let mut results = Vec::<String>::new();
        for plugin in &self.plugins {
            let output = self.call(
                node,
                plugin,
                &environment,
                results.last().map(String::as_str),
            );
            if output.code != Some(0) {
                return Added {
                    results,
                    failed: Some(output),
                };
            }
            results.push(output.done());
        }
        Added {
            results,
            failed: None,
        }
    }

    /// DEL in reverse, until one fails. Versions before 0.4.0 get no result.
    #[track_caller]
    pub(crate) fn del(&self, node: &Node, of: &Container, interface: &str, result: Option<&str>) {
        let result = result.filter(|_| !self.version.starts_with("0.3"));
        let environment = of.environment("DEL", interface);
        for plugin in self.plugins.iter().rev() {
            let said = self.call(node, plugin, &environment, result).done();
            assert_eq!(said, "");
        }
    }

    /// CHECK in order, each with the final result.
    #[track_caller]
    pub(crate) fn check(&self, node: &Node, of: &Container, interface: &str, result: &str) {
        let environment = of.environment("CHECK", interface);
        for plugin in &self.plugins {
            let said = self.call(node, plugin, &environment, Some(result)).done();
            assert_eq!(said, "");
        }
    }
}

impl Added {
    /// The final result, and the one before it.
    #[track_caller]
    pub(crate) fn done(&self) -> [&str; 2] {
        if let Some(failed) = &self.failed {
            panic!("{}\n{failed:#?}", String::from_utf8_lossy(&failed.stdout));
        }
        let [.., before, last] = self.results.as_slice() else {
            panic!("no result");
        };
        [last, before]
    }
}

/// Debian's reference plugins with addresses of both families.
pub(crate) fn main_plugin(kind: &str, node: &Node) -> Value {
    let subnets = [["10.88.0.0/24"], ["fd88::/64"]];
    let ranges = subnets.map(|subnet| [json!({"subnet": subnet[0]})]);
    let ipam = json!({"type": "host-local", "ranges": ranges, "dataDir": node.state(),
        "routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}]});
    match kind {
        "bridge" => json!({"type": kind, "bridge": "br0", "isGateway": true, "ipam": ipam}),
        // Beside what else a pod has, so without its routes.
        "macvlan" => {
            let ranges =
                [["10.99.0.0/24"], ["fd99::/64"]].map(|[subnet]| [json!({"subnet": subnet})]);
            let ipam = json!({"type": "host-local", "ranges": ranges, "dataDir": node.state()});
            json!({"type": kind, "master": "uplink", "ipam": ipam})
        }
        _ => json!({"type": kind, "ipam": ipam}),
    }
}

/// The addresses in a result.
pub(crate) fn addresses(result: &str) -> Vec<IpAddr> {
    let result: Value = serde_json::from_str(result).expect("a result");
    let ips = result["ips"].as_array().expect("a result").iter();
    ips.map(|ip| {
        ip["address"]
            .as_str()
            .expect("a result")
            .split('/')
            .next()
            .expect("a result")
            .parse()
            .expect("a result")
    })
    .collect()
}
