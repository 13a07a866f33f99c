//! podman runs containers in networks that end in a plugin, and calls it as a person's runtime does.
#![allow(clippy::unwrap_used, reason = "a test that cannot be set up fails")]

mod common;

use common::*;

#[test]
fn containers_reach_each_other_and_the_node_in_both_families() {
    let recorded = Recorded::start();
    let podman = recorded.runtimes.podman();
    for network in [&recorded.bridge, &recorded.ptp] {
        let names = ["a", "b"];
        for name in names {
            podman.run(name, network, &["sleep", "1000"]).unwrap();
        }
        let addresses = names.map(|name| podman.addresses(name).unwrap());
        addresses
            .iter()
            .for_each(|addresses| assert_dual_stack(addresses, network));
        for (name, others) in names.iter().zip(addresses.iter().rev()) {
            assert_reaches(|argv| podman.exec(name, argv), others);
            assert_reaches(|argv| podman.exec(name, argv), &gateways(network));
        }
        recorded.assert_node_reaches(&addresses.concat());
        for name in names {
            assert_eq!(podman.rm(name).unwrap().code, 0);
        }
    }
}

#[test]
fn a_container_is_attached_once_and_detached_once() {
    let recorded = Recorded::start();
    let podman = recorded.runtimes.podman();
    for network in [&recorded.bridge, &recorded.ptp] {
        let before = recorded.calls("").len();
        podman.run("web", network, &["sleep", "1000"]).unwrap();
        assert_eq!(podman.rm("web").unwrap().code, 0);
        let calls = &recorded.calls("")[before..];
        assert_eq!(told(calls), [("ADD", true, true), ("DEL", true, true)]);
        for call in calls {
            assert_eq!(call.input["name"], *network.name);
            assert_eq!(
                call.variable("CNI_ARGS"),
                "IgnoreUnknown=1;K8S_POD_NAME=web"
            );
        }
    }
}

#[test]
fn a_plugin_that_cannot_yet_attach_a_container_is_told_of_and_told_to_detach_it() {
    let recorded = Recorded::start();
    let podman = recorded.runtimes.podman();
    recorded.fail("ADD", Some(try_again()));
    let error = podman
        .run("web", &recorded.bridge, &["sleep", "1000"])
        .unwrap_err()
        .to_string();
    let said = "cni plugin recording-plugin failed: the agent is not ready: no answer on a socket";
    assert!(error.contains(said), "{error}");
    assert_eq!(
        told(&recorded.calls("")),
        [("ADD", true, true), ("DEL", true, false)]
    );
    assert_eq!(recorded.leases(&recorded.bridge), Vec::<String>::new());
}
