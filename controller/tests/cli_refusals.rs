//! What the program must not answer with success, and how it says so.

#![allow(clippy::unwrap_used)]

#[path = "support/program.rs"]
mod program;

use program::{SHOP, exits, picket, text};

const POLICY: &str = "
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: p, namespace: x}
spec: {podSelector: {}}
";

const TWO_PODS: &str = "
apiVersion: v1
kind: Pod
metadata: {name: a, namespace: x}
---
apiVersion: v1
kind: Pod
metadata: {name: b, namespace: x}
spec: {containers: [{name: c, ports: [{name: http, containerPort: 80}]}]}
";

/// The lines of stderr that are no notes.
#[track_caller]
fn errors(arguments: &[&str], stdin: &str) -> Vec<String> {
    let output = picket(arguments, stdin);
    exits(&output, 2);
    let lines = text(&output.stderr).lines();
    lines
        .filter(|line| !line.starts_with("note: "))
        .map(str::to_owned)
        .collect()
}

#[test]
fn verifying_nothing_is_an_error_that_says_what_is_missing() {
    let pod = TWO_PODS.split("---").next().unwrap();
    let unselected = TWO_PODS.replace("namespace: x", "namespace: z");
    for (manifests, missing) in [
        (
            POLICY.to_owned(),
            "there is no running pod on the pod network: give the pods",
        ),
        (
            pod.to_owned(),
            "there is only one running pod, and no policy: give a second pod",
        ),
        (
            format!("{POLICY}---{unselected}"),
            "no flow shows what the 1 policies do: give the pods that they select",
        ),
    ] {
        let errors = errors(&["verify", "-f", "-"], &manifests);
        let expected = format!("error: there is nothing to verify: {missing}");
        assert!(
            errors.len() == 1 && errors[0].starts_with(&expected),
            "{errors:?}"
        );
    }
    let errors = errors(&["verify", "-f", SHOP, "--flows", "-"], "\n");
    assert_eq!(
        errors,
        ["error: <stdin>: there is no flow in it: nothing would be verified"]
    );
}

#[test]
fn a_command_without_anything_to_read_fails() {
    for command in [
        &["compile", "-f", "-", "--node", "node-1"] as &[&str],
        &["explain", "-f", "-", "203.0.113.1", "203.0.113.2", "80"],
        &["verify", "-f", "-"],
    ] {
        for stdin in [
            "",
            "# nothing\n",
            "apiVersion: v1\nkind: Service\nmetadata: {name: s}\n",
        ] {
            let errors = errors(command, stdin);
            assert!(
                errors[0].starts_with("error: -: there is no Namespace, Node, Pod,"),
                "{errors:?}"
            );
        }
    }
}

#[test]
fn flows_without_end_are_refused_at_the_limit_of_manifests() {
    let errors = errors(&["explain", "-f", SHOP, "--flows", "/dev/zero"], "");
    assert_eq!(
        errors,
        ["error: /dev/zero: is larger than 64 MiB: split it into several files"]
    );
}

#[test]
fn every_error_line_says_that_it_is_one() {
    let twice = TWO_PODS.replace("kind: Pod", "kind: Pod\nextra: 1");
    let both = errors(&["compile", "-f", "-", "--node", "node-1"], &twice);
    assert_eq!(
        both,
        [
            "error: <stdin>:2: Pod x/a: extra: unknown field",
            "error: <stdin>:7: Pod x/b: extra: unknown field"
        ]
    );
    let invalid = TWO_PODS.replace("namespace: x", "namespace: x, labels: {a: '-'}");
    let both = errors(&["compile", "-f", "-", "--node", "node-1"], &invalid);
    assert_eq!(both.len(), 2);
    assert!(
        both.iter().all(|line| line.starts_with("error: <stdin>:")),
        "{both:?}"
    );
}

#[test]
fn an_invalid_item_of_a_list_is_found_by_line_or_index() {
    let json = r#"{"apiVersion": "v1", "kind": "List", "items": [
{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "a"}},
{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "B"}}]}"#;
    let errors = errors(&["compile", "-f", "-", "--node", "node-1"], json);
    assert!(
        errors[0]
            .starts_with("error: <stdin>:1: Namespace B (items[1]): metadata.name: Invalid value"),
        "{errors:?}"
    );
}

#[test]
fn an_address_of_a_pod_that_is_none_is_refused_whatever_its_phase() {
    for phase in ["", "phase: Running, "] {
        let pods = format!("{TWO_PODS}status: {{{phase}podIP: garbage}}\n");
        let errors = errors(&["explain", "-f", "-", "x/a", "x/b", "80"], &pods);
        assert!(
            errors[0]
                .starts_with("error: <stdin>:6: Pod x/b: status.podIP: Invalid value: \"garbage\""),
            "{errors:?}"
        );
    }
}

#[test]
fn an_address_of_two_is_noted_with_both_and_the_winner() {
    let status = "status: {phase: Running, podIP: 10.1.0.1}\n";
    let pods = TWO_PODS.replace("---", &format!("{status}---")) + status;
    let node = "---\napiVersion: v1\nkind: Node\nmetadata: {name: n1}\n\
                status: {addresses: [{type: InternalIP, address: 10.1.0.1}]}\n";
    for (manifests, expected) in [
        (
            pods.clone(),
            &[
                "note: Pod x/b: its address 10.1.0.1 is also that of Pod x/a, whose it is taken to be",
            ] as &[&str],
        ),
        (
            pods + node,
            &[
                "note: Pod x/a: its address 10.1.0.1 is also that of Node n1, whose it is taken to be",
                "note: Pod x/b: its address 10.1.0.1 is also that of Node n1, whose it is taken to be",
            ],
        ),
    ] {
        let output = picket(
            &["explain", "-f", "-", "10.1.0.1", "203.0.113.1", "80"],
            &manifests,
        );
        exits(&output, 0);
        let notes = text(&output.stderr).lines();
        let notes: Vec<_> = notes
            .filter(|line| line.contains("is also that of"))
            .collect();
        assert_eq!(notes, expected);
    }
}

#[test]
fn a_bad_line_of_flows_names_file_line_flow_and_field() {
    let flows = "\u{feff}{\"from\": \"pod/shop/web-0\", \"to\": \"ip/::ffff:203.0.113.7\", \"protocol\": \"TCP\", \"port\": 80}\n\n\
                 {\"id\": 7, \"from\": \"pod/shop/web-0\", \"to\": \"pod/shop/db-0\", \"protocol\": \"TCP\", \"port\": 65536}\n";
    let errors = errors(&["explain", "-f", SHOP, "--flows", "-"], flows);
    assert_eq!(
        errors,
        [
            "error: <stdin>:3: flow 7: port: 65536 is no port: write a number from 1 to 65535, or the name of a port in quotes"
        ]
    );
}

#[test]
fn the_only_flow_that_cannot_be_asked_is_an_error_and_one_of_several_is_named() {
    let output = picket(
        &["explain", "-f", SHOP, "shop/nobody", "shop/db-0", "80"],
        "",
    );
    exits(&output, 2);
    assert!(output.stdout.is_empty());
    assert!(
        text(&output.stderr).ends_with("error: cannot be asked: there is no pod shop/nobody\n")
    );

    let flow =
        r#""from": "pod/shop/nobody", "to": "pod/shop/db-0", "protocol": "TCP", "port": 80}"#;
    let flows = format!("{{\"id\": \"x\", {flow}\n\n{{{flow}\n");
    let output = picket(&["explain", "-f", SHOP, "--flows", "-"], &flows);
    exits(&output, 2);
    assert_eq!(
        text(&output.stdout),
        "flow \"x\" cannot be asked: there is no pod shop/nobody\n\
         flow of line 3 cannot be asked: there is no pod shop/nobody\n"
    );
    assert!(text(&output.stderr).ends_with("error: 2 of 2 flows cannot be asked\n"));
}

#[test]
fn ids_are_echoed_as_they_were_written() {
    let flow =
        r#""from": "pod/shop/web-0", "to": "ip/203.0.113.7", "protocol": "TCP", "port": 80}"#;
    let ids = [
        "null",
        "1.0",
        "12345678901234567890123",
        "\"\\u0041\"",
        "{\"b\": 1,  \"a\": 2}",
    ];
    let flows: String = ids
        .iter()
        .map(|id| format!("{{\"id\": {id}, {flow}\n"))
        .collect();
    let output = picket(
        &["explain", "-f", SHOP, "--flows", "-", "-o", "json"],
        &flows,
    );
    exits(&output, 0);
    for (line, id) in text(&output.stdout).lines().zip(ids) {
        assert!(
            line.starts_with(&format!("{{\"id\":{id},\"verdict\"")),
            "{line}"
        );
    }
}

#[test]
fn the_network_on_a_bridge_has_one_word() {
    let errors = errors(&["verify", "-f", SHOP, "--network", "bridged"], "");
    assert!(errors[0].contains("invalid value 'bridged'"), "{errors:?}");
}
