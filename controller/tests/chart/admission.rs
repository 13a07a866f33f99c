//! What pod security levels say of the chart's pods, by the API server's own admission.

use serde_json::json;
use testbed::Namespace;

use crate::cluster::Cluster;
use crate::helm::{documents, template, values};
use crate::meaning::pod;
use crate::support::Folder;

const LEVELS: [&str; 3] = ["privileged", "baseline", "restricted"];

#[test]
fn pods_on_the_node_need_the_level_privileged_and_the_tests_pod_none() {
    let node = Namespace::new().expect("these tests need root");
    node.ip(&["link", "set", "lo", "up"]).unwrap();
    let cluster = Cluster::new(&node);
    let folder = Folder::new("pods");
    for level in LEVELS {
        cluster.kubectl(&["create", "namespace", level]).unwrap();
        let enforce = format!("pod-security.kubernetes.io/enforce={level}");
        let label = ["label", "namespace", level, &enforce];
        cluster.kubectl(&label).unwrap();
    }
    let rendered = template(&["--values", &values("default")]).unwrap();
    let mut tried = 0;
    for object in documents(&rendered) {
        let Some(spec) = pod(&object) else { continue };
        let name = object["metadata"]["name"].as_str().unwrap();
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec,
        });
        let file = folder.path().join("pod.json");
        std::fs::write(&file, pod.to_string()).unwrap();
        for level in LEVELS {
            let create = ["create", "--dry-run=server", "-n", level, "-f"];
            let created = cluster.kubectl(&[&create[..], &[file.to_str().unwrap()]].concat());
            let is_taken = level == "privileged" || name == "picket-test";
            match created {
                Ok(_) => assert!(is_taken, "{name} in {level}"),
                Err(error) => {
                    let of_admission = error.contains("violates PodSecurity");
                    assert!(of_admission && !is_taken, "{name} in {level}: {error}");
                }
            }
            tried += 1;
        }
    }
    // Agents, what cleans up, its Job, and the test.
    assert_eq!(tried, 4 * LEVELS.len());
}
