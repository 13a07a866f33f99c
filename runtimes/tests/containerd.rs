//! containerd runs pods in networks that end in a plugin, and calls it as runtimes do.
#![allow(clippy::unwrap_used, reason = "a test that cannot be set up fails")]

mod common;

use std::collections::BTreeSet;

use common::*;

#[test]
fn pods_reach_each_other_and_the_node_in_both_families() {
    let recorded = Recorded::start();
    let containerd = recorded.runtimes.containerd();
    for network in [&recorded.bridge, &recorded.ptp] {
        let pod = |name| containerd.run_pod("default", name, &format!("uid-{name}"), network);
        let pods = [pod("a").unwrap(), pod("b").unwrap()];
        let addresses = pods.each_ref().map(|pod| pod.status().unwrap().addresses);
        addresses
            .iter()
            .for_each(|addresses| assert_dual_stack(addresses, network));
        let sleep = ["sleep", "1000"];
        let containers = pods
            .each_ref()
            .map(|pod| pod.create_container("c", &sleep).unwrap());
        for (container, others) in containers.iter().zip(addresses.iter().rev()) {
            assert_reaches(|argv| container.exec(argv), others);
            assert_reaches(|argv| container.exec(argv), &gateways(network));
        }
        recorded.assert_node_reaches(&addresses.concat());
        for pod in pods {
            pod.stop().unwrap();
            assert!(!pod.status().unwrap().ready);
            pod.remove().unwrap();
        }
    }
}

#[test]
fn a_pod_is_attached_once_and_detached_twice() {
    let recorded = Recorded::start();
    let containerd = recorded.runtimes.containerd();
    for network in [&recorded.bridge, &recorded.ptp] {
        let pod = containerd
            .run_pod("shop", "web-0", "6d1c", network)
            .unwrap();
        pod.stop().unwrap();
        pod.remove().unwrap();
        let calls = recorded.calls(pod.id());
        assert_eq!(
            told(&calls),
            [
                ("ADD", true, true),
                ("DEL", true, true),
                ("DEL", false, false)
            ]
        );
        for call in &calls {
            assert_eq!(call.input["name"], *network.name);
            assert_eq!(call.variable("CNI_IFNAME"), "eth0");
            let arguments = call
                .variable("CNI_ARGS")
                .split(';')
                .collect::<BTreeSet<_>>();
            let id = format!("K8S_POD_INFRA_CONTAINER_ID={}", pod.id());
            let expected = [
                "IgnoreUnknown=1",
                "K8S_POD_NAME=web-0",
                "K8S_POD_NAMESPACE=shop",
                "K8S_POD_UID=6d1c",
                &id,
            ];
            assert_eq!(arguments, BTreeSet::from(expected));
        }
        // The same as what it was given at the end of ADD.
        assert_eq!(calls[0].input["prevResult"], calls[1].input["prevResult"]);
    }
}

#[test]
fn every_stop_of_a_pod_detaches_it_and_removing_it_is_one_more() {
    let recorded = Recorded::start();
    let containerd = recorded.runtimes.containerd();
    let run = |name| {
        containerd
            .run_pod("shop", name, name, &recorded.ptp)
            .unwrap()
    };
    let attached = ("ADD", true, true);
    let (first, later) = (("DEL", true, true), ("DEL", false, false));

    // The kubelet stops a pod as often as it looks at it, until it is gone.
    let pod = run("web-0");
    pod.stop().unwrap();
    pod.stop().unwrap();
    pod.remove().unwrap();
    let calls = recorded.calls(pod.id());
    assert_eq!(told(&calls), [attached, first, later, later]);

    let pod = run("web-1");
    pod.remove().unwrap();
    assert_eq!(told(&recorded.calls(pod.id())), [attached, first]);
}

#[test]
fn a_plugin_that_cannot_yet_attach_a_pod_is_told_of_and_told_to_detach_it() {
    let recorded = Recorded::start();
    let containerd = recorded.runtimes.containerd();
    recorded.fail("ADD", Some(try_again()));
    let pod = containerd.run_pod("shop", "web-0", "6d1c", &recorded.bridge);
    let error = pod.unwrap_err().to_string();
    let said = "plugin type=\"recording-plugin\" failed (add): the agent is not ready; no answer on a socket";
    assert!(error.contains(said), "{error}");
    let calls = recorded.calls("");
    assert_eq!(told(&calls), [("ADD", true, true), ("DEL", true, false)]);
    // Nothing of the bridge's own work stays: the next pod has the same address as the first would have had.
    assert_eq!(recorded.leases(&recorded.bridge), Vec::<String>::new());
    recorded.fail("ADD", None);
    containerd
        .run_pod("shop", "web-0", "6d1c", &recorded.bridge)
        .unwrap();
}

#[test]
fn a_plugin_that_cannot_detach_a_pod_keeps_it_from_being_stopped() {
    let recorded = Recorded::start();
    let containerd = recorded.runtimes.containerd();
    let pod = containerd
        .run_pod("shop", "web-0", "6d1c", &recorded.bridge)
        .unwrap();
    recorded.fail("DEL", Some(try_again()));
    for _ in 0..2 {
        let error = pod.stop().unwrap_err().to_string();
        assert!(
            error.contains("failed (delete): the agent is not ready"),
            "{error}"
        );
    }
    assert_eq!(recorded.leases(&recorded.bridge).len(), 2);
    recorded.fail("DEL", None);
    pod.remove().unwrap();
    assert_eq!(recorded.leases(&recorded.bridge), Vec::<String>::new());
}

#[test]
fn pods_outlive_containerd() {
    let recorded = Recorded::start();
    let containerd = recorded.runtimes.containerd();
    let pods = [&recorded.bridge, &recorded.ptp].map(|network| {
        let pod = containerd
            .run_pod("shop", &network.name, &network.name, network)
            .unwrap();
        let container = pod.create_container("c", &["sleep", "1000"]).unwrap();
        (network, pod, container)
    });
    containerd.restart().unwrap();
    for (network, pod, container) in pods {
        let status = pod.status().unwrap();
        assert!(status.ready);
        assert_dual_stack(&status.addresses, network);
        recorded.assert_node_reaches(&status.addresses);
        assert_reaches(|argv| container.exec(argv), &gateways(network));
        pod.stop().unwrap();
        let calls = recorded.calls(pod.id());
        assert_eq!(told(&calls), [("ADD", true, true), ("DEL", true, true)]);
    }
}

#[test]
fn a_program_in_a_container_has_an_exit_code_and_a_log() {
    let recorded = Recorded::start();
    let containerd = recorded.runtimes.containerd();
    let pod = containerd
        .run_pod("shop", "web-0", "6d1c", &recorded.ptp)
        .unwrap();
    let container = pod
        .create_container("main", &["sh", "-c", "echo started; sleep 1000"])
        .unwrap();
    let output = container
        .exec(&["sh", "-c", "echo out; echo err >&2; exit 3"])
        .unwrap();
    let expected = (3, "out\n", "err\n");
    assert_eq!(
        (output.code, output.stdout.as_str(), output.stderr.as_str()),
        expected
    );
    eventually("the container has said that it started", || {
        pod.log("main").unwrap().contains("stdout F started")
    });
}
